"""The account at a CA (RFC 8555 §7.3): created once, found again by its key, changed, ended.

Owns what is sent to newAccount, keyChange and the account itself. Where keys are kept, and when
any of it is done, is not its business.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from acme import messages
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from josepy.jwk import JWK, JWKEC, JWKRSA

from acmeistio.acme.session import ProblemResponse, Session, Signer
from acmeistio.acme.signing import sign_jws
from acmeistio.errors import Permanent

AccountKey = JWK
"""The private key that an account signs by."""


@dataclass(frozen=True, slots=True)
class Binding:
    """The CA customer's account elsewhere (RFC 8555 §7.3.4); `mac_key` is base64url."""

    key_id: str
    mac_key: str = field(repr=False)


def account_key(key_pem: bytes) -> AccountKey:
    """The account's key for signing. Raises ValueError for what is no private key for that."""
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("the key is encrypted, or of a kind that is not known") from error
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return JWKEC(key=key)
    if isinstance(key, rsa.RSAPrivateKey):
        return JWKRSA(key=key)
    raise ValueError("the key is neither ECDSA nor RSA")


async def register(
    session: Session, key: AccountKey, email: str | None, binding: Binding | None = None
) -> Signer:
    """The signer for the account of `key`: a new account, or the one it has already.

    A CA that knows the key answers 200 with the account's URL and ignores the rest (RFC 8555
    §7.3.1), so that this may be repeated at will. The terms of service are agreed to: whoever
    names the issuer in the settings agrees. Raises Permanent (externalAccountRequired) where the
    CA wants a binding that is not there.
    """
    if binding is None and (await session.meta()).external_account_required:
        raise Permanent(
            "the CA makes accounts only for those who have one with it elsewhere: name it in the "
            "issuer's settings (externalAccount)",
            problem_type="externalAccountRequired",
        )
    members: dict[str, Any] = {"contact": (f"mailto:{email}",)} if email else {}
    if binding:
        members["external_account_binding"] = await _bound(session, key, binding)
    return await _new_account(
        session, key, messages.NewRegistration(terms_of_service_agreed=True, **members)
    )


async def look_up(session: Session, key: AccountKey) -> Signer | None:
    """The signer for the account that `key` has, None where it has none (RFC 8555 §7.3.1)."""
    try:
        return await _new_account(session, key, messages.NewRegistration(only_return_existing=True))
    except ProblemResponse as error:
        if error.problem.type == "accountDoesNotExist":
            return None
        raise


async def roll_over(session: Session, signer: Signer, new_key: AccountKey) -> Signer:
    """The account's signer once the CA has taken `new_key` for its old one (RFC 8555 §7.3.5).

    Open HTTP-01 challenges are answered by the old key's thumbprint and fail. After a Transient
    nobody knows which key it is: `look_up` tells.
    """
    url = await session.resource("keyChange")
    content = {"account": signer.account_url, "oldKey": signer.key.public_key().to_json()}
    inner = sign_jws(json.dumps(content).encode(), new_key, "", url, None)
    await session.post(url, json.loads(inner), signer)
    return Signer(new_key, signer.account_url)


async def deactivate(session: Session, signer: Signer) -> None:
    """End the account for ever (RFC 8555 §7.3.6). Its certificates stay valid."""
    await session.post(signer.account_url or "", {"status": "deactivated"}, signer)


async def _new_account(
    session: Session, key: AccountKey, registration: messages.NewRegistration
) -> Signer:
    url = await session.resource("newAccount")
    reply = await session.post(url, registration.to_json(), Signer(key))
    return Signer(key, reply.location)


async def _bound(session: Session, key: AccountKey, binding: Binding) -> dict[str, Any]:
    """The account's public key, signed by the key of the customer's account."""
    try:
        # Only the public key: acme signs whatever it is given, and sends it.
        bound: dict[str, Any] = messages.ExternalAccountBinding.from_data(
            key.public_key(), binding.key_id, binding.mac_key, await session.directory()
        )
    except (ValueError, TypeError) as error:
        raise Permanent(
            "the key of the external account is not base64url",
            problem_type="externalAccountRequired",
        ) from error
    return bound
