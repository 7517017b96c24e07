"""The CA behind the ACME server: its hierarchy and the signing."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.simulated.ca.cheap import CheapSigner, Extensions
from tests.simulated.ca.csrs import Csr
from tests.simulated.ca.names import address_of
from tests.simulated.ca.records import Certificate, Order
from tests.simulated.ca.renewals import renewal_id

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SERIAL_BITS = 144
_HIERARCHY_LIFETIME = timedelta(days=30 * 365)
_EMPTY = x509.Name([])


class Authority:
    """A root and an intermediate, made once from the seed, that sign what orders ask for.

    Equal seeds make equal certificates, byte for byte: ECDSA is deterministic (RFC 6979).
    """

    def __init__(self, random: Random, now: datetime, alternates: int = 0) -> None:
        self._random = random
        root_key, self._key = _private_key(random), _private_key(random)
        mark = f"{random.getrandbits(24):06x}"
        self.root = self._ca_certificate(f"Simulated Root {mark}", root_key, None, now)
        self.intermediate = self._ca_certificate(
            f"Simulated Intermediate {mark}", self._key, (self.root, root_key), now
        )
        self._issuer_id = _authority_key_identifier(self.intermediate)
        self._common_extensions: Extensions = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_key_usage(ca=False), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (self._issuer_id, False),
        ]
        self._cheap = CheapSigner(self._key, self.intermediate.subject, self._common_extensions)
        self.alternates = [self._alternate(number, now) for number in range(1, alternates + 1)]
        signers = [self.intermediate, *(signer for _, signer in self.alternates)]
        self._signers_pem = [signer.public_bytes(Encoding.PEM) for signer in signers]

    @property
    def key_id(self) -> bytes:
        """The identifier of the key that signs leaves."""
        identifier = self._issuer_id.key_identifier
        assert identifier
        return identifier

    @property
    def root_pem(self) -> bytes:
        """What a client has to trust."""
        return self.root.public_bytes(Encoding.PEM)

    def issue(
        self, order: Order, csr: Csr, start: datetime, validity: timedelta, *, cheap: bool = False
    ) -> Certificate:
        """A certificate for exactly the names of `order` and the key of `csr`."""
        start = start.replace(microsecond=0)
        end = start + validity - timedelta(seconds=1)
        serial = self._serial()
        if cheap:
            leaf = self._cheap.leaf(order.names, csr.spki, serial, start, end)
        else:
            leaf = self._leaf(order.names, csr, serial, start, end)
        pem = leaf.public_bytes(Encoding.PEM)
        chains = tuple(pem + signer for signer in self._signers_pem)
        name = renewal_id(self.key_id, serial)
        return Certificate(order.account, serial, order.names, start, end, leaf, chains, name)

    def _leaf(
        self, names: frozenset[str], csr: Csr, serial: int, start: datetime, end: datetime
    ) -> x509.Certificate:
        issuer = self.intermediate.subject
        builder = _builder(_EMPTY, issuer, csr.key, serial, start=start, end=end)
        builder = builder.add_extension(_alternative_names(names), critical=True)
        for extension, critical in self._common_extensions:
            builder = builder.add_extension(extension, critical)
        builder = builder.add_extension(_subject_key_identifier(csr.key), critical=False)
        return builder.sign(self._key, hashes.SHA256(), ecdsa_deterministic=True)

    def _alternate(self, number: int, now: datetime) -> tuple[x509.Certificate, x509.Certificate]:
        """Another root, and the intermediate as certified by it (a cross-sign)."""
        key = _private_key(self._random)
        root = self._ca_certificate(f"Simulated Alternate Root {number}", key, None, now)
        (name,) = self.intermediate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return root, self._ca_certificate(str(name.value), self._key, (root, key), now)

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


def _alternative_names(names: frozenset[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_general_name(name) for name in sorted(names)])


def _general_name(name: str) -> x509.GeneralName:
    address = address_of(name)
    return x509.IPAddress(address) if address else x509.DNSName(name)


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
