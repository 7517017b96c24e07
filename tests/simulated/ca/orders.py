"""How accounts get certificates: orders, finalization, issuance (RFC 8555 §7.4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.simulated.ca import policy
from tests.simulated.ca.authority import Authority, check_csr, read_csr
from tests.simulated.ca.authorizations import Authorizations
from tests.simulated.ca.jws import parse_object, public_key, unb64url
from tests.simulated.ca.messages import Reply, Signed, Urls, identifier, reading
from tests.simulated.ca.options import CaOptions
from tests.simulated.ca.policy import Wish
from tests.simulated.ca.problems import Problem, Refused, Rule, not_found, unauthorized
from tests.simulated.ca.records import Account, Book, History, Order, Resource, Status
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
    blocked: set[str] = field(default_factory=set)
    failing: dict[str, str] = field(default_factory=dict)

    def new(self, signed: Signed, _: str) -> Reply:
        """The order of that wish: the open one there is, as Boulder does, or a new one."""
        wish = policy.read(parse_object(signed.payload), self.options)
        policy.judge(wish, self.options, self.blocked)
        order = self._open_one(signed.asker, wish) or self._open(signed.asker, wish)
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
        csr = read_csr(unb64url(parse_object(signed.payload).get("csr")))
        check_csr(csr, order, public_key(signed.jwk))
        order.csr = csr
        if self.options.issuance_delay_seconds[1]:
            self.world.spawn(self._issue_later(order))
        else:
            self._issue(order)
        return self._reply_with(order)

    def certificate(self, signed: Signed, name: str) -> Reply:
        """A certificate with its chain (RFC 8555 §7.4.2)."""
        certificate = self.book.certificates.get(name)
        if not certificate:
            raise not_found("certificate")
        if certificate.account is not signed.asker:
            raise unauthorized("Account in use did not issue specified certificate")
        return reading(signed, Reply(200, certificate.chain))

    def _open_one(self, account: Account, wish: Wish) -> Order | None:
        order = self.book.latest_orders.get((account.id, wish.names, wish.profile))
        if not (order and self.options.reuses_orders):
            return None
        return order if order.status(self.world.now()) in (Status.PENDING, Status.READY) else None

    def _open(self, account: Account, wish: Wish) -> Order:
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
        )
        self.book.orders[order.id] = order
        self.book.latest_orders[account.id, wish.names, wish.profile] = order
        self.history.orders.append(order)
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
        certificate = self.authority.issue(order, order.csr, start, validity)
        order.certificate = certificate
        self.book.certificates[certificate.id] = certificate
        self.history.certificates.append(certificate)

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
