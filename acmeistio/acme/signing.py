"""Signatures of requests (RFC 8555 §6.2), and the port behind which they lie.

Owns which algorithm a key signs by and what the protected header holds. Which account signs, and
what, is said by the caller.
"""

from __future__ import annotations

from collections.abc import Callable

from acme import jws
from josepy import errors as jose_errors
from josepy.json_util import decode_b64jose, encode_b64jose
from josepy.jwa import ES256, ES384, RS256, JWASignature
from josepy.jwk import JWK, JWKEC

Sign = Callable[[bytes, JWK, str, str, str | None], bytes]
"""(payload, key, nonce, url, account URL) to the body of the request: a port, since signing and
verifying is most of what a simulated year costs."""

P384_BITS = 384


def sign_jws(payload: bytes, key: JWK, nonce: str, url: str, account_url: str | None) -> bytes:
    """A flattened JWS: by `kid` where there is an account, else by `jwk`.

    Without a nonce where that is "" (the inner message of a key rollover, RFC 8555 §7.3.5).
    """
    signed = jws.JWS.sign(
        payload, key, _algorithm(key), decode_b64jose(nonce) if nonce else None, url, account_url
    )
    return str(signed.json_dumps()).encode()


def is_usable(nonce: str) -> bool:
    """Whether acme's JWS can carry a nonce: decoded and encoded it is the same."""
    try:
        return bool(nonce) and bool(encode_b64jose(decode_b64jose(nonce)) == nonce)
    except (jose_errors.DeserializationError, ValueError):
        return False


def _algorithm(key: JWK) -> JWASignature:
    if not isinstance(key, JWKEC):
        return RS256
    return ES384 if key.key.key_size == P384_BITS else ES256
