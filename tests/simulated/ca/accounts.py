"""Who a CA deals with: accounts, from their beginning to their end (RFC 8555 §7.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.simulated.ca import jws
from tests.simulated.ca.csrs import spki_of
from tests.simulated.ca.external import bind
from tests.simulated.ca.jws import parse_object, thumbprint
from tests.simulated.ca.limits import Limits
from tests.simulated.ca.messages import Reply, Signed, Urls
from tests.simulated.ca.options import CaOptions
from tests.simulated.ca.problems import Problem, Refused, malformed, unauthorized
from tests.simulated.ca.records import Account, Book, History, Resource, Status
from tests.simulated.ca.terms import Terms
from tests.simulated.ca.world import World


@dataclass(eq=False, slots=True)
class Accounts:
    """Opens accounts, finds them again by their keys, changes and ends them."""

    world: World
    urls: Urls
    options: CaOptions
    book: Book
    history: History
    limits: Limits
    terms: Terms

    def new(self, signed: Signed, _: str) -> Reply:
        """The account of that key, opened if there is none and none was to be looked up."""
        wish = parse_object(signed.payload)
        known = self.book.accounts_by_key.get(thumbprint(signed.jwk))
        if known:
            expect_valid(known, 403)
            return self._reply_with(200, known)
        if wish.get("onlyReturnExisting"):
            raise Refused(Problem("accountDoesNotExist", "No account exists with the provided key"))
        self.terms.require_word(wish.get("termsOfServiceAgreed"))
        url = self.urls.of(Resource.NEW_ACCOUNT)
        binding = wish.get("externalAccountBinding")
        external = bind(binding, signed.jwk, url, self.options.external_accounts)
        self.limits.new_account()
        return self._reply_with(201, self._open(signed.jwk, wish, external))

    def account(self, signed: Signed, name: str) -> Reply:
        """One's own account, shown or changed (RFC 8555 §7.3.2, §7.3.6)."""
        if name != signed.asker.id:
            raise unauthorized("Request signing key did not match account key")
        if signed.payload:
            self._change(signed.asker, parse_object(signed.payload))
        return self._reply_with(200, signed.asker)

    def change_key(self, signed: Signed, _: str) -> Reply:
        """Another key for the account, which both keys have signed for (RFC 8555 §7.3.5)."""
        account, inner = signed.asker, jws.parse(signed.payload)
        new = inner.protected.get("jwk")
        if not isinstance(new, dict) or inner.text("nonce") or inner.text("kid"):
            raise malformed("Inner JWS needs jwk, and neither kid nor nonce")
        jws.verify(inner, new)
        if inner.text("url") != self.urls.of(Resource.KEY_CHANGE):
            raise malformed("JWS header parameter 'url' differs for inner and outer JWS")
        self._expect_agreement(account, parse_object(inner.payload), new)
        self._expect_unused(new)
        del self.book.accounts_by_key[account.thumbprint]
        account.jwk, account.thumbprint = new, thumbprint(new)
        account.spki = spki_of(jws.public_key(new))
        self.book.accounts_by_key[account.thumbprint] = account
        return self._reply_with(200, account)

    def _change(self, account: Account, wish: dict[str, Any]) -> None:
        if not wish:
            raise malformed("POST-as-GET requests must have an empty payload")
        status = wish.get("status", Status.VALID)
        if status not in (Status.VALID, Status.DEACTIVATED):
            raise malformed(f"Invalid account status {status!r}")
        account.status = Status(status)
        account.contact = tuple(map(str, wish.get("contact", account.contact)))

    def _expect_agreement(
        self, account: Account, inner: dict[str, Any], new: dict[str, Any]
    ) -> None:
        """The new key's holder means this account, and knows its key."""
        if inner.get("account") != self.urls.of(Resource.ACCOUNT, account.id):
            raise malformed("Inner key rollover request specified Account of another")
        old = inner.get("oldKey")
        if not isinstance(old, dict) or thumbprint(old) != account.thumbprint:
            raise malformed("Unable to verify old key: JWK mismatch")
        if thumbprint(new) == account.thumbprint:
            raise malformed("New key specified by rollover request is the same as the old key")

    def _expect_unused(self, new: dict[str, Any]) -> None:
        holder = self.book.accounts_by_key.get(thumbprint(new))
        if holder:
            problem = Problem("conflict", "New key is already in use for a different account", 409)
            raise Refused(problem, headers=self._location(holder))

    def _open(self, jwk: dict[str, Any], wish: dict[str, Any], external: str | None) -> Account:
        spki = spki_of(jws.public_key(jwk))
        contact = tuple(map(str, wish.get("contact") or ()))
        now = self.world.now()
        account = Account(
            self.world.new_id(), jwk, thumbprint(jwk), spki, contact, now, external_account=external
        )
        self.book.accounts[account.id] = account
        self.book.accounts_by_key[account.thumbprint] = account
        self.history.accounts.append(account)
        return account

    def _reply_with(self, status: int, account: Account) -> Reply:
        content = {"status": account.status, "contact": list(account.contact)}
        return Reply(status, content, self._location(account))

    def _location(self, account: Account) -> dict[str, str]:
        return {"location": self.urls.of(Resource.ACCOUNT, account.id)}


def expect_valid(account: Account, status: int = 401) -> None:
    """Refuse an account that was deactivated: it is so for ever (RFC 8555 §7.3.6)."""
    if account.status is not Status.VALID:
        detail = f"Account is not valid, has status {account.status.value!r}"
        raise Refused(Problem("unauthorized", detail, status))
