"""Revocation of a certificate (RFC 8555 §7.6). Owns what is sent, and what counts as done."""

from __future__ import annotations

from enum import IntEnum

from josepy.json_util import encode_b64jose
from josepy.jwk import JWK

from acmeistio.acme.session import ProblemResponse, Session, Signer


class RevocationReason(IntEnum):
    """Why, in the words of RFC 5280 §5.3.1; those that Let's Encrypt takes from a subscriber."""

    unspecified = 0
    keyCompromise = 1  # noqa: N815  # as RFC 5280 spells it
    affiliationChanged = 3  # noqa: N815
    superseded = 4
    cessationOfOperation = 5  # noqa: N815


async def revoke(
    session: Session, certificate_der: bytes, reason: RevocationReason, signer: Signer
) -> None:
    """Have the CA revoke a certificate that is the account's. One that is revoked is done."""
    url = await session.resource("revokeCert")
    payload = {"certificate": encode_b64jose(certificate_der), "reason": int(reason)}
    try:
        await session.post(url, payload, signer)
    except ProblemResponse as error:
        if error.problem.type != "alreadyRevoked":
            raise


async def revoke_by_key(
    session: Session, certificate_der: bytes, reason: RevocationReason, key: JWK
) -> None:
    """Have the CA revoke a certificate whose own key is `key`, whichever account has it."""
    await revoke(session, certificate_der, reason, Signer(key))
