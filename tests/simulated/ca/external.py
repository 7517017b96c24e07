"""Binding of accounts to accounts that a CA's customers have elsewhere (RFC 8555 §7.3.4)."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from tests.simulated.ca import jws
from tests.simulated.ca.problems import Problem, Refused, malformed

ExternalAccounts = Mapping[str, bytes]
"""Their ids, and the MAC keys that prove them."""


def bind(
    binding: object, jwk: dict[str, Any], url: str, known: ExternalAccounts | None
) -> str | None:
    """The id of the external account that `binding` proves; None where none is asked for."""
    if known is None:
        return None
    if not binding:
        detail = "newAccount requests must include a value for the 'externalAccountBinding' field"
        raise Refused(Problem("externalAccountRequired", detail, 403))
    message = jws.parse(json.dumps(binding).encode())
    if message.text("alg") != "HS256" or message.text("url") != url or message.text("nonce"):
        raise malformed("External account binding needs alg HS256, the outer url and no nonce")
    key_id = message.text("kid")
    if not _is_proved(message, known.get(key_id)):
        raise Refused(Problem("unauthorized", "External account binding is not verified", 403))
    if jws.thumbprint(jws.parse_object(message.payload)) != jws.thumbprint(jwk):
        raise malformed("External account binding is of another account key")
    return key_id


def _is_proved(message: jws.Jws, key: bytes | None) -> bool:
    if key is None:
        return False
    return hmac.compare_digest(hmac.digest(key, message.signed, hashlib.sha256), message.signature)
