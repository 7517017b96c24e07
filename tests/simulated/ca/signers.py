"""Who asks: requests, believed once key, signature, nonce and url are right (RFC 8555 §6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.simulated.ca import jws
from tests.simulated.ca.accounts import expect_valid
from tests.simulated.ca.messages import Signed, Urls
from tests.simulated.ca.options import CaOptions
from tests.simulated.ca.problems import Problem, Refused, Rule, malformed
from tests.simulated.ca.records import Account, Book, Request, Resource
from tests.simulated.ca.world import World

_JOSE = "application/jose+json"
_NONCE_BYTES = 16


@dataclass(eq=False, slots=True)
class Signers:
    """Reads signed requests, and gives out the nonces for them."""

    world: World
    urls: Urls
    options: CaOptions
    book: Book

    def new_nonce(self) -> str:
        """A nonce for one request (RFC 8555 §7.2)."""
        nonce = self.world.new_id(_NONCE_BYTES)
        self.book.nonces.give(nonce)
        return nonce

    def believe(
        self, request: Request, resource: Resource, headers: Mapping[str, str], body: bytes
    ) -> Signed:
        """What its signer meant; checked in Boulder's order: key, signature, nonce, url."""
        if headers.get("content-type") != _JOSE:
            raise malformed(f"Content-Type must be {_JOSE}", status=415)
        if "replay-nonce" in headers:
            raise malformed("HTTP requests should NOT contain Replay-Nonce header")
        message = jws.parse(body)
        jwk, account = self._signer(message, resource)
        if not self.options.cheap:
            jws.verify(message, jwk)
        self._spend(message.text("nonce"))
        _expect_url(message, request.url)
        return Signed(message.payload, jwk, account)

    def _signer(
        self, message: jws.Jws, resource: Resource
    ) -> tuple[dict[str, Any], Account | None]:
        """The key, by itself for a new account, by its account's URL for all else (§6.2).

        Who revokes may sign by either (§7.6).
        """
        jwk, kid = message.protected.get("jwk"), message.text("kid")
        if jwk is not None and kid:
            raise malformed("jwk and kid header fields are mutually exclusive")
        if resource is Resource.NEW_ACCOUNT or (resource is Resource.REVOKE_CERT and not kid):
            if not isinstance(jwk, dict):
                raise malformed("No embedded JWK in JWS header")
            return jwk, None
        kind, name = self.urls.parse(kid)
        if kind is not Resource.ACCOUNT:
            raise malformed("KeyID header contained an invalid account URL")
        account = self.book.accounts.get(name)
        if not account:
            raise Refused(Problem("accountDoesNotExist", f"Account {kid!r} not found"))
        expect_valid(account)
        return account.jwk, account

    def _spend(self, nonce: str) -> None:
        """Take a nonce, once; a good one is refused now and then, as the options say."""
        broken = Rule.NONCE_ONCE if self.book.nonces.was_spent(nonce) else None
        good = self.book.nonces.spend(nonce)
        weather = self.world.weather_now()
        percent = self.options.nonce_reject_percent + weather.bad_nonces_percent
        if not good or self.world.chance(percent):
            problem = Problem("badNonce", f"JWS has an invalid anti-replay nonce: {nonce!r}")
            raise Refused(problem, broken)


def _expect_url(message: jws.Jws, url: str) -> None:
    """A request is for the URL that it was signed for (RFC 8555 §6.4)."""
    if message.text("url") != url:
        raise malformed(
            f"JWS header parameter 'url' incorrect. Expected {url!r}, got {message.text('url')!r}"
        )
