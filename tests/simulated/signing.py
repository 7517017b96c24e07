"""Requests to a CA that believes signatures unseen (CaOptions.cheap): the port Sign, at no cost."""

from __future__ import annotations

import json

from josepy.json_util import encode_b64jose
from josepy.jwk import JWK

_ALGORITHM = "ES256"
_SIGNATURE = encode_b64jose(bytes(64))


def unsigned_jws(payload: bytes, key: JWK, nonce: str, url: str, account_url: str | None) -> bytes:
    """What sign_jws makes by a P-256 key, member for member, with zeros for a signature."""
    signer = {"kid": account_url} if account_url else {"jwk": key.public_key().to_json()}
    protected = {"alg": _ALGORITHM, "nonce": nonce, "url": url, **signer}
    message = {
        "protected": encode_b64jose(json.dumps(protected).encode()),
        "payload": encode_b64jose(payload),
        "signature": _SIGNATURE,
    }
    return json.dumps(message).encode()
