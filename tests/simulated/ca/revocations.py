"""How certificates are revoked (RFC 8555 §7.6; Boulder wfe2 RevokeCert)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cryptography import x509

from tests.simulated.ca.jws import parse_object, public_key, unb64url
from tests.simulated.ca.messages import Reply, Signed
from tests.simulated.ca.problems import Problem, Refused, malformed, not_found, unauthorized
from tests.simulated.ca.records import Account, Book, Certificate, Status
from tests.simulated.ca.world import World

_REASONS = (0, 1, 4, 5)
_KEY_COMPROMISE = 1


@dataclass(eq=False, slots=True)
class Revocations:
    """Revokes for whoever got the certificate, controls its names, or has its key."""

    world: World
    book: Book

    def revoke(self, signed: Signed, _: str) -> Reply:
        """Revoke one; who signs by its key has lost the key to the public, whatever he says."""
        wish = parse_object(signed.payload)
        certificate = self._wanted(wish)
        reason = wish.get("reason", 0)
        if reason not in _REASONS:
            raise Refused(Problem("badRevocationReason", f"unsupported reason code {reason!r}"))
        if certificate.revoked:
            raise Refused(Problem("alreadyRevoked", "Certificate has already been revoked"))
        if signed.account:
            self._expect_right(certificate, signed.account)
        elif certificate.leaf.public_key() != public_key(signed.jwk):
            raise unauthorized("JWK must be the key of the certificate to be revoked")
        certificate.revoked, certificate.shown = self.world.now(), b""
        certificate.revocation_reason = reason if signed.account else _KEY_COMPROMISE
        return Reply(200)

    def _wanted(self, wish: dict[str, Any]) -> Certificate:
        try:
            leaf = x509.load_der_x509_certificate(unb64url(wish.get("certificate")))
        except ValueError:
            raise malformed("Unable to parse certificate DER") from None
        certificate = self.book.certificates.get(f"{leaf.serial_number:x}")
        if not certificate or certificate.leaf != leaf:
            raise not_found("certificate")
        return certificate

    def _expect_right(self, certificate: Certificate, account: Account) -> None:
        """It was issued to the account, or the account controls all its names now."""
        if certificate.account is not account and not all(
            self._controls(account, name) for name in certificate.names
        ):
            raise unauthorized("Requester does not control all names in the certificate")

    def _controls(self, account: Account, name: str) -> bool:
        now = self.world.now()
        return any(
            proof.status(now) is Status.VALID
            for (holder, proved, _), proof in self.book.latest_proofs.items()
            if (holder, proved) == (account.id, name)
        )
