"""The simulated CA as tests see it: what they read of it, and what they do to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from random import Random
from types import MappingProxyType

from cryptography.hazmat.primitives.serialization import Encoding

from acmeistio.ports import HttpResponse
from tests.simulated.ca.accounts import Accounts
from tests.simulated.ca.authority import Authority
from tests.simulated.ca.authorizations import Authorizations
from tests.simulated.ca.directory import Directory
from tests.simulated.ca.faults import Faults
from tests.simulated.ca.limits import Limits
from tests.simulated.ca.messages import Reply, Urls, reading
from tests.simulated.ca.options import CaOptions
from tests.simulated.ca.orders import Orders
from tests.simulated.ca.pruning import Pruner
from tests.simulated.ca.records import (
    Account,
    Book,
    Certificate,
    History,
    LimitHit,
    Order,
    Request,
    Resource,
    Totals,
    Validation,
    Violation,
    Window,
)
from tests.simulated.ca.renewals import Renewals
from tests.simulated.ca.revocations import Revocations
from tests.simulated.ca.server import Public, Server, Signing
from tests.simulated.ca.signers import Signers
from tests.simulated.ca.terms import Terms
from tests.simulated.ca.validation import Fetch
from tests.simulated.ca.world import Weather, World

_NOTHING: Mapping[str, str] = MappingProxyType({})


class SimulatedCa:
    """An RFC 8555 server in this process: the port Http, without sockets, threads or clocks.

    It does what Let's Encrypt (Boulder) and Pebble do, and on demand what goes wrong with them.
    `now` and `sleep` are its time, `random` its chance (equal seeds and requests make equal
    runs), `fetch` the way it reaches the names that it validates.

    What it knows is public, for tests to judge a client by: `accounts`, `orders`,
    `certificates`, `validations` (everything ever, restarts included), `requests` (the last
    100,000), `totals`, `violations` (rules of the protocol that the client broke), `limit_hits`
    (requests that were one too many).
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]],
        random: Random,
        fetch: Fetch,
        options: CaOptions = CaOptions(),
        base_url: str = "https://ca.simulated",
    ) -> None:
        self.options = options
        self.authority = Authority(random, now(), options.alternate_chains)
        self._world = World(now, sleep, random)
        self._urls = Urls(base_url)
        self._book = Book()
        self._history = History()
        self._faults = Faults()
        parts = (self._world, self._urls, options, self._book, self._history)
        self._limits = Limits(self._world, options, self._book, self._history, base_url)
        self._renewals = Renewals(self._world, options, self._book, self.authority.key_id)
        self._terms = Terms(base_url)
        self._accounts = Accounts(*parts, self._limits, self._terms)
        self._authorizations = Authorizations(*parts, fetch, self._limits)
        self._orders = Orders(
            *parts,
            self.authority,
            self._authorizations,
            self._renewals,
            self._limits,
            self._terms,
        )
        self._directory = Directory(self._urls, options, self._terms)
        self._revocations = Revocations(self._world, self._book)
        self._server = Server(
            self._world,
            self._urls,
            options,
            self._history,
            signers=Signers(self._world, self._urls, options, self._book),
            limits=self._limits,
            faults=self._faults,
            pruner=Pruner(self._world, options, self._book, self._history),
            signed=self._signed_resources(),
            public=self._public_resources(),
        )

    def _signed_resources(self) -> Mapping[Resource, Signing]:
        return {
            Resource.DIRECTORY: lambda signed, _: reading(signed, self._directory.show("")),
            Resource.NEW_NONCE: lambda signed, _: reading(signed, Reply(204)),
            Resource.NEW_ACCOUNT: self._accounts.new,
            Resource.ACCOUNT: self._accounts.account,
            Resource.KEY_CHANGE: self._accounts.change_key,
            Resource.REVOKE_CERT: self._revocations.revoke,
            Resource.NEW_ORDER: self._orders.new,
            Resource.ORDER: self._orders.show,
            Resource.FINALIZE: self._orders.finalize,
            Resource.CERTIFICATE: self._orders.certificate,
            Resource.AUTHORIZATION: self._authorizations.show,
            Resource.CHALLENGE: self._authorizations.challenge,
        }

    def _public_resources(self) -> Mapping[Resource, Public]:
        return {
            Resource.DIRECTORY: self._directory.show,
            Resource.RENEWAL_INFO: self._renewals.show,
        }

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] = _NOTHING, body: bytes = b""
    ) -> HttpResponse:
        """The port Http."""
        return await self._server.request(method, url, headers, body)

    # ── what tests read ───────────────────────────────────────────────────────────────────────

    @property
    def directory_url(self) -> str:
        """Where a client begins."""
        return self._urls.of(Resource.DIRECTORY)

    @property
    def root_pem(self) -> bytes:
        """The root that its certificates lead to."""
        return self.authority.root_pem

    @property
    def alternate_root_pems(self) -> list[bytes]:
        """The roots that its other chains lead to."""
        return [root.public_bytes(Encoding.PEM) for root, _ in self.authority.alternates]

    @property
    def accounts(self) -> list[Account]:
        """Every account ever opened."""
        return self._history.accounts

    @property
    def orders(self) -> list[Order]:
        """Every order ever made; one that was given out again counts once."""
        return self._history.orders

    @property
    def certificates(self) -> list[Certificate]:
        """Every certificate ever issued."""
        return self._history.certificates

    @property
    def validations(self) -> list[Validation]:
        """Every validation that decided an authorization."""
        return self._history.validations

    @property
    def violations(self) -> list[Violation]:
        """Every rule of the protocol that the client broke."""
        return self._history.violations

    @property
    def limit_hits(self) -> list[LimitHit]:
        """Every request that a limit refused; those that a test had refused are not among them."""
        return self._history.limit_hits

    @property
    def totals(self) -> Totals:
        """How many of everything there ever were."""
        return self._history.totals

    @property
    def requests(self) -> deque[Request]:
        """The last requests."""
        return self._server.requests

    def requests_for(self, resource: Resource) -> list[Request]:
        """The remembered requests for one kind of resource."""
        return [request for request in self.requests if request.resource is resource]

    # ── what tests do to it ───────────────────────────────────────────────────────────────────

    @property
    def blocked_names(self) -> set[str]:
        """Names whose orders are rejected, with all that is below them; may be changed."""
        return self._orders.blocked

    @property
    def failing_validations(self) -> dict[str, str]:
        """Name → kind of problem of its validation, whatever is served; may be changed."""
        return self._authorizations.failing

    @property
    def failing_issuances(self) -> dict[str, str]:
        """Name → kind of problem of every order with it once it is finalized; may be changed."""
        return self._orders.failing

    @property
    def outage(self) -> bool:
        """Whether connections fail now."""
        return self._faults.outage

    @outage.setter
    def outage(self, value: bool) -> None:
        self._faults.outage = value

    @property
    def weather(self) -> Callable[[datetime], Weather]:
        """What goes wrong by chance, and how often, at an instant; may be changed."""
        return self._world.weather

    @weather.setter
    def weather(self, value: Callable[[datetime], Weather]) -> None:
        self._world.weather = value

    def slow(self, seconds: float) -> None:
        """From now on each request, and each reply, takes so much longer; 0 ends that."""
        self._world.slowness_seconds = seconds

    def lose_reply(self, resource: Resource | None = None, *, times: int = 1) -> None:
        """Carry out the next requests for `resource` (any if None), and lose the replies."""
        self._faults.lose_reply(resource, times)

    def refuse(
        self,
        resource: Resource | None = None,
        *,
        status: int = 429,
        retry_after_seconds: int | None = None,
        times: int = 1,
    ) -> None:
        """Refuse the next requests: 429 by rate limit; 500 or 503 unread, without a nonce."""
        self._faults.refuse(resource, status, retry_after_seconds, times)

    def suggest(
        self,
        certificate: Certificate,
        start: datetime,
        end: datetime,
        explanation_url: str | None = None,
    ) -> None:
        """Suggest this window for the renewal of `certificate` from now on (RFC 9773 §4.2)."""
        certificate.suggestion, certificate.shown = Window(start, end), b""
        certificate.explanation_url = explanation_url

    def revoke_for_incident(
        self, certificates: Iterable[Certificate], explanation_url: str | None = None
    ) -> None:
        """Revoke them, because the CA has to: from now on they were to be renewed an hour ago."""
        for certificate in certificates:
            certificate.revoked, certificate.shown = self._world.now(), b""
            certificate.explanation_url = explanation_url

    def change_terms(self) -> None:
        """New terms of service: no orders until a human agrees (RFC 8555 §7.3.3)."""
        self._terms.change()

    def agree(self) -> None:
        """What the human does at the URL that the refusal named."""
        self._terms.must_be_agreed_to = False

    def spend_by_others(self, domain: str, certificates: int) -> None:
        """Somebody else got so many certificates in this domain, for names of his own."""
        self._limits.spend_by_others(domain, certificates)

    def pause(self, account: Account, name: str) -> None:
        """Refuse orders of `account` for `name` until `unpause`, as after long failure."""
        self._limits.paused.add((account.id, name))

    def unpause(self, account: Account, name: str) -> None:
        """End a pause, as its human does on the page that the refusal named."""
        self._limits.unpause(account, name)

    def restart(self) -> None:
        """Forget accounts, orders, certificates, limits and nonces, as Pebble does."""
        self._world.stop()
        self._book.forget()
        self._limits.forget()
        self._server.forget()

    async def aclose(self) -> None:
        """Stop what is under way."""
        await self._world.settle()
