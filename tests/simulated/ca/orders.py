"""How accounts get certificates: orders, finalization, issuance (RFC 8555 §7.4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.simulated.ca import csrs, policy
from tests.simulated.ca.authority import Authority
from tests.simulated.ca.authorizations import Authorizations
from tests.simulated.ca.jws import parse_object, unb64url
from tests.simulated.ca.limits import Limits
from tests.simulated.ca.messages import Reply, Signed, Urls, reading
from tests.simulated.ca.names import identifier
from tests.simulated.ca.options import CaOptions
from tests.simulated.ca.policy import Wish
from tests.simulated.ca.problems import Problem, Refused, Rule, not_found, unauthorized
from tests.simulated.ca.records import (
    Account,
    Book,
    Certificate,
    History,
    Order,
    Resource,
    Status,
)
from tests.simulated.ca.renewals import Renewals
from tests.simulated.ca.terms import Terms
from tests.simulated.ca.world import World, rfc3339


@dataclass(eq=False, slots=True)
class Orders:
    """Makes orders, shows them, turns those that are ready into certificates."""

    world: World
    urls: Urls
    options: CaOptions
    book: Book
    history: History
    authority: Authority
    authorizations: Authorizations
    renewals: Renewals
    limits: Limits
    terms: Terms
    blocked: set[str] = field(default_factory=set)
    failing: dict[str, str] = field(default_factory=dict)

    def new(self, signed: Signed, _: str) -> Reply:
        """The order of that wish: the open one there is, as Boulder does, or a new one."""
        account, wish = signed.asker, policy.read(parse_object(signed.payload), self.options)
        self.terms.require_agreement()
        policy.judge_form(wish)
        self.limits.refuse_paused(account, wish.names)
        old = self.renewals.predecessor(account, wish)
        profile = policy.judge_profile(wish, self.options)
        with self.limits.new_order(account, wish.names, exempt=self.renewals.is_open(old)):
            policy.judge_names(wish, profile, self.blocked)
        order = self._open_one(account, wish) or self._open(account, wish, old)
        return Reply(201, self._document(order), self._location(order))

    def show(self, signed: Signed, name: str) -> Reply:
        """An order as it is now."""
        return reading(signed, self._reply_with(self._owned(signed, name)))

    def finalize(self, signed: Signed, name: str) -> Reply:
        """Issue for an order that is ready; a refused CSR leaves it ready (RFC 8555 §7.4)."""
        order = self._owned(signed, name)
        status = order.status(self.world.now())
        if status is not Status.READY:
            raise _not_ready(status)
        der = unb64url(parse_object(signed.payload).get("csr"))
        csr = csrs.read(der, believed=self.options.cheap)
        csrs.expect_fit(csr, order.names, order.account.spki)
        order.csr = csr
        if self.options.issuance_delay_seconds[1]:
            self.world.spawn(self._issue_later(order))
        else:
            self._issue(order)
        return self._reply_with(order)

    def certificate(self, signed: Signed, name: str) -> Reply:
        """A certificate with a chain, and links to its other chains (RFC 8555 §7.4.2)."""
        serial, _, number = name.partition("/")
        certificate = self.book.certificates.get(serial)
        chosen = int(number) if number.isdecimal() else 0
        if not certificate or chosen >= len(certificate.chains):
            raise not_found("certificate")
        if certificate.account is not signed.asker:
            raise unauthorized("Account in use did not issue specified certificate")
        headers = self._links_to_others(certificate, chosen)
        reply = reading(signed, Reply(200, certificate.chains[chosen], headers))
        certificate.fetched = True
        return reply

    def _links_to_others(self, certificate: Certificate, shown: int) -> dict[str, str]:
        others = [number for number in range(len(certificate.chains)) if number != shown]
        names = [f"{certificate.id}/{number}" if number else certificate.id for number in others]
        urls = [self.urls.of(Resource.CERTIFICATE, name) for name in names]
        links = ", ".join(f'<{url}>;rel="alternate"' for url in urls)
        return {"link": links} if links else {}

    def _open_one(self, account: Account, wish: Wish) -> Order | None:
        order = self.book.latest_orders.get((account.id, wish.names, wish.profile))
        if not (order and self.options.reuses_orders):
            return None
        return order if order.status(self.world.now()) in (Status.PENDING, Status.READY) else None

    def _open(self, account: Account, wish: Wish, old: Certificate | None) -> Order:
        """A new order, which expires no later than the authorizations it stands on."""
        now = self.world.now()
        authorizations = [
            self.authorizations.get(account, name, wish.profile) for name in sorted(wish.names)
        ]
        order = Order(
            id=self.world.new_id(),
            account=account,
            names=wish.names,
            profile=wish.profile,
            created=now,
            expires=min(now + self.options.order_lifetime, *(a.expires for a in authorizations)),
            authorizations=authorizations,
            replaces=wish.replaces,
        )
        if old:
            old.replacement = order
        self.book.orders[order.id] = order
        self.book.latest_orders[account.id, wish.names, wish.profile] = order
        self.history.ordered(order)
        return order

    def _owned(self, signed: Signed, name: str) -> Order:
        """An order of the asker; one that expired is not found any more, as at Boulder."""
        order = self.book.orders.get(name)
        if not order or self.world.now() >= order.expires:
            raise not_found("order")
        if order.account is not signed.asker:
            raise unauthorized("Account does not own order")
        return order

    async def _issue_later(self, order: Order) -> None:
        await self.world.pause(self.options.issuance_delay_seconds)
        self._issue(order)

    def _issue(self, order: Order) -> None:
        assert order.csr
        failing = sorted(order.names & self.failing.keys())
        if failing:
            kind = self.failing[failing[0]]
            order.error = Problem(kind, f"Error finalizing order :: {failing[0]}", 403)
            return
        start = self.world.now() - self.options.backdating
        validity = self.options.profiles[order.profile].validity
        certificate = self.authority.issue(
            order, order.csr, start, validity, cheap=self.options.cheap
        )
        order.certificate = certificate
        self.book.certificates[certificate.id] = certificate
        self.book.renewable[certificate.renewal_id] = certificate
        self.limits.issued(order.names)
        self.history.issued(certificate)

    def _reply_with(self, order: Order) -> Reply:
        headers = self._location(order)
        if order.status(self.world.now()) is Status.PROCESSING:
            headers |= self.world.retry_after(self.options.retry_after_order_seconds)
        return Reply(200, self._document(order), headers)

    def _document(self, order: Order) -> dict[str, Any]:
        urls = [self.urls.of(Resource.AUTHORIZATION, each.id) for each in order.authorizations]
        document: dict[str, Any] = {
            "status": order.status(self.world.now()),
            "expires": rfc3339(order.expires),
            "identifiers": self.world.shuffled([identifier(each) for each in sorted(order.names)]),
            "profile": order.profile,
            "authorizations": self.world.shuffled(urls),
            "finalize": self.urls.of(Resource.FINALIZE, order.id),
        }
        if order.replaces:
            document["replaces"] = order.replaces
        if order.error:
            document["error"] = order.error.document()
        if order.certificate:
            document["certificate"] = self.urls.of(Resource.CERTIFICATE, order.certificate.id)
        return document

    def _location(self, order: Order) -> dict[str, str]:
        return {"location": self.urls.of(Resource.ORDER, order.id)}


def _not_ready(status: Status) -> Refused:
    """Not a client's mistake where its finalize was carried out and the reply got lost."""
    detail = f"Order's status ({status.value!r}) is not acceptable for finalization"
    early = Rule.FINALIZE_READY if status is Status.PENDING else None
    return Refused(Problem("orderNotReady", detail, 403), early)
