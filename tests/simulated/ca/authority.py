"""The CA behind the ACME server: its hierarchy, the checks of a CSR, the signing."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from tests.simulated.ca.problems import Problem, Refused, Rule
from tests.simulated.ca.records import Certificate, Order

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SERIAL_BITS = 144
_HIERARCHY_LIFETIME = timedelta(days=30 * 365)
_RSA_BITS = (2048, 3072, 4096)
_EMPTY = x509.Name([])


class Authority:
    """A root and an intermediate, made once from the seed, that sign what orders ask for.

    Equal seeds make equal certificates, byte for byte: ECDSA is deterministic (RFC 6979).
    """

    def __init__(self, random: Random, now: datetime) -> None:
        self._random = random
        root_key, self._key = _private_key(random), _private_key(random)
        mark = f"{random.getrandbits(24):06x}"
        self.root = self._ca_certificate(f"Simulated Root {mark}", root_key, None, now)
        self.intermediate = self._ca_certificate(
            f"Simulated Intermediate {mark}", self._key, (self.root, root_key), now
        )
        self._issuer_id = _authority_key_identifier(self.intermediate)
        self._intermediate_pem = self.intermediate.public_bytes(Encoding.PEM)

    @property
    def root_pem(self) -> bytes:
        """What a client has to trust."""
        return self.root.public_bytes(Encoding.PEM)

    def issue(
        self,
        order: Order,
        csr: x509.CertificateSigningRequest,
        start: datetime,
        validity: timedelta,
    ) -> Certificate:
        """A certificate for exactly the names of `order` and the key of `csr`."""
        start = start.replace(microsecond=0)
        end = start + validity - timedelta(seconds=1)
        serial = self._serial()
        leaf = (
            _builder(
                _EMPTY, self.intermediate.subject, csr.public_key(), serial, start=start, end=end
            )
            .add_extension(_alternative_names(order.names), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(self._issuer_id, critical=False)
            .add_extension(_subject_key_identifier(csr.public_key()), critical=False)
            .sign(self._key, hashes.SHA256(), ecdsa_deterministic=True)
        )
        chain = leaf.public_bytes(Encoding.PEM) + self._intermediate_pem
        return Certificate(order.account, serial, order.names, start, end, leaf, chain)

    def _ca_certificate(
        self,
        common_name: str,
        key: ec.EllipticCurvePrivateKey,
        issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None,
        now: datetime,
    ) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        issuer_name, issuer_key = (issuer[0].subject, issuer[1]) if issuer else (name, key)
        start = now.replace(microsecond=0) - timedelta(days=1)
        public = key.public_key()
        builder = _builder(
            name,
            issuer_name,
            public,
            self._serial(),
            start=start,
            end=start + _HIERARCHY_LIFETIME,
        ).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        if issuer:
            builder = builder.add_extension(_authority_key_identifier(issuer[0]), critical=False)
        return (
            builder.add_extension(_key_usage(ca=True), critical=True)
            .add_extension(_subject_key_identifier(public), critical=False)
            .sign(issuer_key, hashes.SHA256(), ecdsa_deterministic=True)
        )

    def _serial(self) -> int:
        return self._random.getrandbits(_SERIAL_BITS) | 1


def read_csr(der: bytes) -> x509.CertificateSigningRequest:
    """A CSR that is sound in itself: signature and kind of key (Boulder csr/csr.go)."""
    try:
        csr = x509.load_der_x509_csr(der)
        sound = csr.is_signature_valid
        key = csr.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _bad_csr(f"Error parsing certificate request: {error}") from None
    if not sound:
        raise _bad_csr("Invalid signature on CSR")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size in _RSA_BITS:
        return csr
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in ("secp256r1", "secp384r1"):
        return csr
    raise _bad_csr("Invalid public key in CSR")


def check_csr(csr: x509.CertificateSigningRequest, order: Order, account_key: object) -> None:
    """Refuse a CSR that does not fit its order (RFC 8555 §7.4, §11.1; Boulder ra.go)."""
    if csr.public_key() == account_key:
        raise _bad_csr("CSR contains a public key for a known account")
    if _names_of(csr) != order.names:
        detail = "Error finalizing order :: CSR does not specify same identifiers as Order"
        raise Refused(Problem("unauthorized", detail, 403), Rule.CSR_AS_ORDERED)


def _names_of(csr: x509.CertificateSigningRequest) -> frozenset[str]:
    """All names of a CSR, its common name included, as Boulder counts them."""
    common = {str(a.value) for a in csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)}
    try:
        extension = csr.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    except x509.ExtensionNotFound:
        return frozenset(common)
    assert isinstance(extension.value, x509.SubjectAlternativeName)
    return frozenset(name.lower() for name in common | set(map(_text, extension.value)))


def _text(name: x509.GeneralName) -> str:
    return str(name.value)


def _bad_csr(detail: str) -> Refused:
    return Refused(Problem("badCSR", detail), Rule.CSR_AS_ORDERED)


def _alternative_names(names: frozenset[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.DNSName(name) for name in sorted(names)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: CertificatePublicKeyTypes,
    serial: int,
    *,
    start: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    key_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id)


def _subject_key_identifier(key: CertificatePublicKeyTypes) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _private_key(random: Random) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(random.randrange(1, _P256_ORDER), ec.SECP256R1())
