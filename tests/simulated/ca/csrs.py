"""What clients want certified: reading and judging certificate signing requests (RFC 8555 §7.4)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID, NameOID

from tests.simulated.ca.problems import Problem, Refused, Rule

_RSA_BITS = (2048, 3072, 4096)
_CURVES = ("secp256r1", "secp384r1")
_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Csr:
    """A request that is sound in itself: its names, the common name included, and its key."""

    names: frozenset[str]
    key: CertificatePublicKeyTypes
    spki: bytes
    """The key as SubjectPublicKeyInfo, in DER."""


@lru_cache(maxsize=_REMEMBERED)
def read(der: bytes, *, believed: bool) -> Csr:
    """A CSR that is signed by its key, unless that is `believed`, and of a kind that CAs take."""
    try:
        csr = x509.load_der_x509_csr(der)
        sound = believed or csr.is_signature_valid
        key = csr.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _bad_csr(f"Error parsing certificate request: {error}") from None
    if not sound:
        raise _bad_csr("Invalid signature on CSR")
    if not _is_good(key):
        raise _bad_csr("Invalid public key in CSR")
    return Csr(_names_of(csr), key, spki_of(key))


def expect_fit(csr: Csr, names: frozenset[str], account_spki: bytes) -> None:
    """Refuse a CSR that does not fit its order (RFC 8555 §7.4, §11.1; Boulder ra.go)."""
    if csr.spki == account_spki:
        raise _bad_csr("CSR contains a public key for a known account")
    if csr.names != names:
        detail = "Error finalizing order :: CSR does not specify same identifiers as Order"
        raise Refused(Problem("unauthorized", detail, 403), Rule.CSR_AS_ORDERED)


def spki_of(key: CertificatePublicKeyTypes) -> bytes:
    """A key as SubjectPublicKeyInfo, in DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _is_good(key: CertificatePublicKeyTypes) -> bool:
    """Whether it is of a kind that Let's Encrypt takes (Boulder goodkey/)."""
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size in _RSA_BITS
    return isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES


def _names_of(csr: x509.CertificateSigningRequest) -> frozenset[str]:
    common = {str(a.value) for a in csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)}
    try:
        extension = csr.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    except x509.ExtensionNotFound:
        return frozenset(common)
    assert isinstance(extension.value, x509.SubjectAlternativeName)
    return frozenset(name.lower() for name in common | {str(n.value) for n in extension.value})


def _bad_csr(detail: str) -> Refused:
    return Refused(Problem("badCSR", detail), Rule.CSR_AS_ORDERED)
