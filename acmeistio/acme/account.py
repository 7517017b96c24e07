"""The account at a CA (RFC 8555 §7.3): created once, found again by its key.

Owns what is sent to newAccount. Where the key is kept is not its business.
"""

from __future__ import annotations

from typing import Any

from acme import messages
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.jwk import JWK, JWKEC, JWKRSA

from acmeistio.acme.session import Session, Signer


def account_key(key_pem: bytes) -> JWK:
    """The account's key for signing. Raises ValueError for what is no private key."""
    key: Any = serialization.load_pem_private_key(key_pem, password=None)
    return JWKEC(key=key) if isinstance(key, ec.EllipticCurvePrivateKey) else JWKRSA(key=key)


async def register(session: Session, key: JWK, email: str | None) -> Signer:
    """The signer for the account of `key`: a new account, or the one it has already.

    A CA that knows the key answers 200 with the account's URL and ignores the rest (RFC 8555
    §7.3.1), so that this may be repeated at will. The terms of service are agreed to: whoever
    names the issuer in the settings agrees.
    """
    members: dict[str, Any] = {"contact": (f"mailto:{email}",)} if email else {}
    registration = messages.NewRegistration(terms_of_service_agreed=True, **members)
    directory = await session.directory()
    reply = await session.post(directory["newAccount"], registration.to_json(), Signer(key))
    return Signer(key, reply.location)
