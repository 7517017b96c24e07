"""Certificates in a few microseconds: DER put together by hand, signed at no cost.

They parse, have the names and keys they should have, and verify like any others. They are worth
nothing: the signer uses one ECDSA nonce for all of them, so that a signature is one product.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from tests.simulated.ca.names import address_of

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_HONESTLY = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
_VERSION_3 = bytes.fromhex("a003020102")
_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_TRUE = bytes.fromhex("0101ff")
_SEQUENCE, _INTEGER, _BITS, _OCTETS, _EXTENSIONS = 0x30, 0x02, 0x03, 0x04, 0xA3
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_DNS, _ADDRESS = 0x82, 0x87
_EXTENSION_ARC = bytes.fromhex("0603551d")
_ALTERNATIVE_NAMES = 17


Extensions = list[tuple[x509.ExtensionType, bool]]
"""What every leaf has besides its names, each with whether it is critical."""


class CheapSigner:
    """Makes leaves of one issuer whose extensions, but for the names, are all the same."""

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey,
        issuer: x509.Name,
        extensions: list[tuple[x509.ExtensionType, bool]],
    ) -> None:
        self._secret = key.private_numbers().private_value
        self._issuer = issuer.public_bytes()
        self._extensions = b"".join(
            _extension(_arc(value), value.public_bytes(), critical=critical)
            for value, critical in extensions
        )
        self._r, self._inverse_nonce = self._known_nonce(key)

    def leaf(
        self, names: frozenset[str], spki: bytes, serial: int, start: datetime, end: datetime
    ) -> x509.Certificate:
        """A certificate for `names` and the key of that SubjectPublicKeyInfo."""
        tbs = _tlv(
            _SEQUENCE,
            _VERSION_3,
            _tlv(_INTEGER, serial.to_bytes(serial.bit_length() // 8 + 1)),
            _ECDSA_WITH_SHA256,
            self._issuer,
            _tlv(_SEQUENCE, _time(start), _time(end)),
            _tlv(_SEQUENCE),
            spki,
            _tlv(_EXTENSIONS, _tlv(_SEQUENCE, _alternative_names(names), self._extensions)),
        )
        signature = _tlv(_BITS, b"\0", self._sign(tbs))
        return x509.load_der_x509_certificate(_tlv(_SEQUENCE, tbs, _ECDSA_WITH_SHA256, signature))

    def _sign(self, data: bytes) -> bytes:
        digest = int.from_bytes(hashlib.sha256(data).digest())
        s = self._inverse_nonce * (digest + self._r * self._secret) % _P256_ORDER
        return encode_dss_signature(self._r, s)

    def _known_nonce(self, key: ec.EllipticCurvePrivateKey) -> tuple[int, int]:
        """The r of a nonce, and its inverse, from one honest signature (FIPS 186-5 §6.4.1)."""
        r, s = decode_dss_signature(key.sign(b"", _HONESTLY))
        digest = int.from_bytes(hashlib.sha256(b"").digest())
        return r, s * pow(digest + r * self._secret, -1, _P256_ORDER) % _P256_ORDER


def _tlv(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + content


def _extension(arc: int, value: bytes, *, critical: bool) -> bytes:
    name = _EXTENSION_ARC + bytes((arc,))
    return _tlv(_SEQUENCE, name, _TRUE if critical else b"", _tlv(_OCTETS, value))


def _arc(extension: x509.ExtensionType) -> int:
    """The last number of its object identifier; all of ours begin alike."""
    return int(extension.oid.dotted_string.rpartition(".")[2])


def _alternative_names(names: frozenset[str]) -> bytes:
    return _extension(
        _ALTERNATIVE_NAMES, _tlv(_SEQUENCE, *map(_general_name, sorted(names))), critical=True
    )


def _general_name(name: str) -> bytes:
    address = address_of(name)
    return _tlv(_ADDRESS, address.packed) if address else _tlv(_DNS, name.encode())


def _time(instant: datetime) -> bytes:
    """UTCTime before 2050, GeneralizedTime from then on (RFC 5280 §4.1.2.5)."""
    if instant.year < 2050:
        return _tlv(_UTC_TIME, instant.strftime("%y%m%d%H%M%SZ").encode())
    return _tlv(_GENERALIZED_TIME, instant.strftime("%Y%m%d%H%M%SZ").encode())
