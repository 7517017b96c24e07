"""Keys, CSRs and certificates: making, parsing and checking them. Pure but for key generation.

Knows nothing of Secrets or of a CA's protocol. What is parsed here is proven: a Leaf exists only
if its key is its own, a Bundle only if it may be stored.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from acmeistio.model import KeyType, Leaf
from acmeistio.names import DnsName, is_ip_address

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

MAX_PEM_BYTES = 1 << 20
"""No chain is larger; a Secret can't be."""

_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises about a key or certificate that it can't read; not all ValueErrors."""

_BEGIN = b"-----BEGIN CERTIFICATE-----"
"""The library passes over a last certificate that lacks its end."""

PLACEHOLDER_LIFETIME = timedelta(days=365)
PLACEHOLDER_ISSUER = "acmeistio placeholder"


class Unfit(ValueError):
    """A key, certificate or pair that can't be used; the message says why, without content."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A private key with its certificate chain, leaf first, checked before it exists."""

    key_pem: bytes = field(repr=False)
    chain_pem: bytes = field(repr=False)
    leaf: Leaf


def generate_key(key_type: KeyType) -> bytes:
    """A new private key as PKCS#8 PEM. RSA takes up to a second: run it on Workers."""
    key: PrivateKey
    match key_type:
        case KeyType.ECDSA_P256:
            key = ec.generate_private_key(ec.SECP256R1())
        case KeyType.ECDSA_P384:
            key = ec.generate_private_key(ec.SECP384R1())
        case _:
            key = rsa.generate_private_key(65537, int(key_type.removeprefix("rsa-")))
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def key_type_of(key: object) -> KeyType | None:
    """The KeyType of a private or public key, None for kinds that can't be asked for."""
    match key:
        case ec.EllipticCurvePrivateKey() | ec.EllipticCurvePublicKey():
            by_curve = {"secp256r1": KeyType.ECDSA_P256, "secp384r1": KeyType.ECDSA_P384}
            return by_curve.get(key.curve.name)
        case rsa.RSAPrivateKey() | rsa.RSAPublicKey():
            text = f"rsa-{key.key_size}"
            return KeyType(text) if text in set(KeyType) else None
    return None


def csr_der(key_pem: bytes, names: Iterable[DnsName]) -> bytes:
    """A CSR with the names in the SAN and an empty subject (a CN over 64 letters can't be)."""
    san = x509.SubjectAlternativeName(map(_general_name, names))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    csr = builder.add_extension(san, critical=False).sign(_load_key(key_pem), hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.DER)


def placeholder(names: Iterable[DnsName], now: datetime) -> Bundle:
    """A self-signed pair that keeps a listener open until the CA's certificate comes.

    Its first 100 names are those asked for: nobody trusts it, but logs and clients show them.
    """
    key_pem = generate_key(KeyType.ECDSA_P256)
    key = _load_key(key_pem)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, PLACEHOLDER_ISSUER)])
    san = x509.SubjectAlternativeName(map(_general_name, list(names)[:100]))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + PLACEHOLDER_LIFETIME)
        .add_extension(san, critical=False)
        .sign(key, hashes.SHA256())
    )
    chain_pem = certificate.public_bytes(serialization.Encoding.PEM)
    return Bundle(key_pem, chain_pem, _leaf(certificate))


def parse_pair(chain_pem: bytes, key_pem: bytes) -> Leaf:
    """The facts of the leaf of a stored pair. Raises Unfit unless the key is the leaf's own."""
    certificates = _load_chain(chain_pem)
    _require_key_of(_load_key(key_pem), certificates[0])
    return _leaf(certificates[0])


def checked_bundle(
    key_pem: bytes, chain_pem: bytes, names: Iterable[DnsName], now: datetime
) -> Bundle:
    """The Bundle of what a CA delivered for `names`. Raises Unfit unless it may be stored.

    1. the key is the leaf's own; 2. the leaf has exactly the names of the order; 3. it is valid
    now; 4. each certificate is signed by the next; 5. the root is not among them (RFC 8555
    §7.4.2, leaf first; a root that was sent along is left out).
    """
    certificates = _without_root(_load_chain(chain_pem))
    leaf = _leaf(certificates[0])
    _require_key_of(_load_key(key_pem), certificates[0])
    if leaf.names != frozenset(names):
        raise Unfit("its names are not those of the order")
    if not leaf.not_before <= now < leaf.not_after:
        raise Unfit(f"it is valid from {leaf.not_before} to {leaf.not_after}, not now")
    for certificate, issuer in itertools.pairwise(certificates):
        _require_issued_by(certificate, issuer)
    pem = b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)
    return Bundle(key_pem, pem, leaf)


def leaf_der(chain_pem: bytes) -> bytes:
    """The leaf of a chain, as a CA is told which certificate to revoke. Raises Unfit."""
    return _load_chain(chain_pem)[0].public_bytes(serialization.Encoding.DER)


def renewal_id(authority_key_id: bytes, serial: int) -> str:
    """By which the CA is asked about a certificate's renewal (RFC 9773 §4.1).

    The key identifier of the Authority Key Identifier, and the serial as DER has it: in two's
    complement, so that a leading bit that is set gets a zero octet before it.
    """
    length = (serial + (serial < 0)).bit_length() // 8 + 1
    octets = serial.to_bytes(length, "big", signed=True)
    return f"{_b64url(authority_key_id)}.{_b64url(octets)}"


def _b64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def _general_name(name: DnsName) -> x509.GeneralName:
    if is_ip_address(name):
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name)


def _load_chain(chain_pem: bytes) -> list[x509.Certificate]:
    if len(chain_pem) > MAX_PEM_BYTES:
        raise Unfit("the certificate chain is larger than 1 MiB")
    try:
        certificates = x509.load_pem_x509_certificates(chain_pem)
    except _UNREADABLE as error:
        raise Unfit("the certificate chain is not PEM") from error
    if len(certificates) < chain_pem.count(_BEGIN):
        raise Unfit("the certificate chain is cut off")
    return certificates


def _load_key(key_pem: bytes) -> PrivateKey:
    if len(key_pem) > MAX_PEM_BYTES:
        raise Unfit("the private key is larger than 1 MiB")
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except _UNREADABLE as error:
        raise Unfit("the private key is not readable PEM") from error
    if not isinstance(key, PrivateKey):
        raise Unfit("the private key is neither ECDSA nor RSA")
    return key


def _require_key_of(key: PrivateKey, certificate: x509.Certificate) -> None:
    try:
        matches = key.public_key() == certificate.public_key()
    except _UNREADABLE as error:
        raise Unfit("the certificate's public key is not readable") from error
    if not matches:
        raise Unfit("the private key is not that of the certificate")


def _require_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *_UNREADABLE) as error:
        raise Unfit("its chain is broken: a certificate is not signed by the next") from error


def _without_root(certificates: list[x509.Certificate]) -> list[x509.Certificate]:
    last = certificates[-1]
    return (
        certificates[:-1] if len(certificates) > 1 and last.issuer == last.subject else certificates
    )


def _leaf(certificate: x509.Certificate) -> Leaf:
    try:
        return Leaf(
            names=_names(certificate),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            serial=certificate.serial_number,
            sha256=hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest(),
            key_type=key_type_of(certificate.public_key()),
            renewal_id=_renewal_id(certificate),
        )
    except _UNREADABLE as error:
        raise Unfit("the certificate is not readable") from error


def _names(certificate: x509.Certificate) -> frozenset[DnsName]:
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    names = [name.lower() for name in san.get_values_for_type(x509.DNSName)]
    addresses = [str(address) for address in san.get_values_for_type(x509.IPAddress)]
    return frozenset(map(DnsName, names + addresses))


def _renewal_id(certificate: x509.Certificate) -> str | None:
    try:
        authority = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except x509.ExtensionNotFound:
        return None
    key_id = authority.value.key_identifier
    return renewal_id(key_id, certificate.serial_number) if key_id else None
