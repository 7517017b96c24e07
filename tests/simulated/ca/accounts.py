"""Who a CA deals with: the directory that all begin with, and accounts (RFC 8555 §7.1, §7.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.simulated.ca.jws import parse_object, thumbprint
from tests.simulated.ca.messages import Reply, Signed, Urls, reading
from tests.simulated.ca.options import CaOptions
from tests.simulated.ca.problems import Problem, Refused, unauthorized
from tests.simulated.ca.records import Account, Book, History, Resource
from tests.simulated.ca.world import World


@dataclass(eq=False, slots=True)
class Accounts:
    """Opens accounts and finds them again by their keys."""

    world: World
    urls: Urls
    options: CaOptions
    book: Book
    history: History

    @property
    def terms_of_service(self) -> str:
        """What has to be agreed to."""
        return f"{self.urls.base}/terms/v1"

    def directory(self) -> Reply:
        """Where everything is (RFC 8555 §7.1.1); revocation and key change are not simulated."""
        meta = {
            "termsOfService": self.terms_of_service,
            "externalAccountRequired": False,
            "profiles": {name: p.description for name, p in self.options.profiles.items()},
        }
        content = {
            "newNonce": self.urls.of(Resource.NEW_NONCE),
            "newAccount": self.urls.of(Resource.NEW_ACCOUNT),
            "newOrder": self.urls.of(Resource.NEW_ORDER),
            "meta": meta,
        }
        return Reply(200, content)

    def new(self, signed: Signed, _: str) -> Reply:
        """The account of that key, opened if there is none and none was to be looked up."""
        wish = parse_object(signed.payload)
        known = self.book.account_with(thumbprint(signed.jwk))
        if known:
            return self._reply_with(200, known)
        if wish.get("onlyReturnExisting"):
            raise Refused(Problem("accountDoesNotExist", "No account exists with the provided key"))
        if wish.get("termsOfServiceAgreed") is not True:
            problem = Problem("userActionRequired", "must agree to terms of service", 403)
            link = f'<{self.terms_of_service}>;rel="terms-of-service"'
            raise Refused(problem, headers={"link": link})
        return self._reply_with(201, self._open(signed.jwk, wish))

    def show(self, signed: Signed, name: str) -> Reply:
        """One's own account."""
        if name != signed.asker.id:
            raise unauthorized("Request signing key did not match account key")
        return reading(signed, self._reply_with(200, signed.asker))

    def _open(self, jwk: dict[str, Any], wish: dict[str, Any]) -> Account:
        contact = tuple(map(str, wish.get("contact") or ()))
        now = self.world.now()
        account = Account(self.world.new_id(), jwk, thumbprint(jwk), contact, now)
        self.book.accounts[account.id] = account
        self.history.accounts.append(account)
        return account

    def _reply_with(self, status: int, account: Account) -> Reply:
        content = {"status": "valid", "contact": list(account.contact)}
        return Reply(status, content, {"location": self.urls.of(Resource.ACCOUNT, account.id)})
