"""The simulated CA as its clients meet it: HTTP, signatures, nonces, faults (RFC 8555 §6)."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from random import Random
from types import MappingProxyType
from typing import Any

from acmeistio.errors import Transient
from acmeistio.ports import HttpResponse
from tests.simulated.ca import jws
from tests.simulated.ca.accounts import Accounts
from tests.simulated.ca.authority import Authority
from tests.simulated.ca.authorizations import Authorizations
from tests.simulated.ca.faults import Faults
from tests.simulated.ca.messages import Reply, Signed, Urls, reading
from tests.simulated.ca.options import CaOptions
from tests.simulated.ca.orders import Orders
from tests.simulated.ca.problems import Problem, Refused, Rule, malformed, not_found
from tests.simulated.ca.records import (
    Account,
    Book,
    Certificate,
    History,
    Order,
    Request,
    Resource,
    Validation,
    Violation,
)
from tests.simulated.ca.validation import Fetch
from tests.simulated.ca.world import World

_NOTHING: Mapping[str, str] = MappingProxyType({})
_JOSE = "application/jose+json"
_TRANSPORTS_OWN = "acmeistio"
"""The port leaves User-Agent to the transport; only an empty one is seen to be missing."""

_NONCE_BYTES = 16
_REMEMBERED_REQUESTS = 100_000


class SimulatedCa:
    """An RFC 8555 server in this process: the port Http, without sockets, threads or clocks.

    It does what Let's Encrypt (Boulder) and Pebble do, and on demand what goes wrong with them.
    `now` and `sleep` are its time, `random` its chance (equal seeds and requests make equal
    runs), `fetch` the way it reaches the names that it validates.

    What it knows is public, for tests to judge a client by: `accounts`, `orders`,
    `certificates`, `validations` (everything ever, restarts included), `requests` (the last
    100,000), `violations` (rules of the protocol that the client broke).
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
        self.authority = Authority(random, now())
        self.requests: deque[Request] = deque(maxlen=_REMEMBERED_REQUESTS)
        self.violations: list[Violation] = []
        self._world = World(now, sleep, random)
        self._urls = Urls(base_url)
        self._book = Book()
        self._history = History()
        self._faults = Faults()
        self._not_before: dict[str, datetime] = {}
        parts = (self._world, self._urls, options, self._book, self._history)
        self._accounts = Accounts(*parts)
        self._authorizations = Authorizations(*parts, fetch)
        self._orders = Orders(*parts, self.authority, self._authorizations)
        self._handlers: Mapping[Resource, Callable[[Signed, str], Reply]] = {
            Resource.DIRECTORY: lambda signed, _: reading(signed, self._accounts.directory()),
            Resource.NEW_NONCE: lambda signed, _: reading(signed, Reply(204)),
            Resource.NEW_ACCOUNT: self._accounts.new,
            Resource.ACCOUNT: self._accounts.show,
            Resource.NEW_ORDER: self._orders.new,
            Resource.ORDER: self._orders.show,
            Resource.FINALIZE: self._orders.finalize,
            Resource.CERTIFICATE: self._orders.certificate,
            Resource.AUTHORIZATION: self._authorizations.show,
            Resource.CHALLENGE: self._authorizations.challenge,
        }

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

    def restart(self) -> None:
        """Forget accounts, orders, certificates and nonces, as Pebble does."""
        self._world.stop()
        self._book.forget()
        self._not_before.clear()

    async def aclose(self) -> None:
        """Stop what is under way."""
        await self._world.settle()

    # ── the port Http ─────────────────────────────────────────────────────────────────────────

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] = _NOTHING, body: bytes = b""
    ) -> HttpResponse:
        """One request and its reply. Raises Transient where the fault asked for leaves none."""
        request = self._arrived(method, url)
        await self._world.pause(self.options.latency_seconds)
        if self._world.failure:
            raise self._world.failure
        if self._faults.outage:
            raise Transient(f"connection to {self._urls.base} refused")
        lower = {name.lower(): value for name, value in headers.items()}
        response = self._answer(request, lower, body)
        if self._faults.takes_reply(request.resource):
            request.reply_lost = True
            raise Transient(f"connection to {self._urls.base} reset")
        await self._world.pause(self.options.latency_seconds)
        self._delivered(request, response)
        return response

    def _arrived(self, method: str, url: str) -> Request:
        resource, _ = self._urls.parse(url)
        now = self._world.now()
        request = Request(now, method, url, resource)
        self.requests.append(request)
        if now < self._not_before.get(url, now):
            self._broke(request, Rule.RETRY_AFTER, f"asked before {self._not_before[url]}")
        return request

    def _delivered(self, request: Request, response: HttpResponse) -> None:
        """From now on the client knows when it may ask again, here and at the Location."""
        told = response.headers.get("retry-after")
        if told is None:
            self._not_before.pop(request.url, None)
            return
        instant = _instant(told, self._world.now())
        self._not_before |= {request.url: instant, response.headers.get("location", ""): instant}

    def _answer(self, request: Request, headers: Mapping[str, str], body: bytes) -> HttpResponse:
        unread = self._faults.at_the_door(request.resource)
        if unread:
            return _respond(request, self._refusal(request, unread), {})
        try:
            reply = self._handle(request, headers, body)
        except Refused as refused:
            reply = self._refusal(request, refused)
        if reply.broken:
            self._broke(request, reply.broken, f"{request.method} {request.url}")
        return _respond(request, reply, self._common_headers(request))

    def _handle(self, request: Request, headers: Mapping[str, str], body: bytes) -> Reply:
        resource, name = self._urls.parse(request.url)
        if headers.get("user-agent", _TRANSPORTS_OWN) == "":
            raise malformed("All requests MUST include a User-Agent header")
        if not resource:
            raise not_found("resource")
        if request.method in ("GET", "HEAD"):
            return self._read(resource, request.method)
        if request.method != "POST":
            raise malformed("Method not allowed", status=405)
        signed = self._believe(request, resource, headers, body)
        refused = self._faults.inside(resource)
        if refused:
            raise refused
        return self._handlers[resource](signed, name)

    def _read(self, resource: Resource, method: str) -> Reply:
        """GET is for what is nobody's: directory and nonces (RFC 8555 §6.3, §7.2)."""
        if resource is Resource.DIRECTORY:
            return self._accounts.directory()
        if resource is Resource.NEW_NONCE:
            return Reply(200 if method == "HEAD" else 204)
        raise malformed("Method not allowed", status=405)

    # ── who asks (RFC 8555 §6.2, §6.4, §6.5) ──────────────────────────────────────────────────

    def _believe(
        self, request: Request, resource: Resource, headers: Mapping[str, str], body: bytes
    ) -> Signed:
        """What its signer meant; checked in Boulder's order: key, signature, nonce, url."""
        if headers.get("content-type") != _JOSE:
            raise malformed(f"Content-Type must be {_JOSE}", status=415)
        if "replay-nonce" in headers:
            raise malformed("HTTP requests should NOT contain Replay-Nonce header")
        message = jws.parse(body)
        jwk, account = self._signer(message, resource)
        jws.verify(message, jwk)
        self._spend(request, message.text("nonce"))
        if message.text("url") != request.url:
            raise malformed(
                f"JWS header parameter 'url' incorrect. "
                f"Expected {request.url!r}, got {message.text('url')!r}"
            )
        return Signed(message.payload, jwk, account)

    def _signer(
        self, message: jws.Jws, resource: Resource
    ) -> tuple[dict[str, Any], Account | None]:
        """The key, by itself for a new account, by its account's URL for all else (§6.2)."""
        jwk, kid = message.protected.get("jwk"), message.text("kid")
        if jwk is not None and kid:
            raise malformed("jwk and kid header fields are mutually exclusive")
        if resource is Resource.NEW_ACCOUNT:
            if not isinstance(jwk, dict):
                raise malformed("No embedded JWK in JWS header")
            return jwk, None
        kind, name = self._urls.parse(kid)
        if kind is not Resource.ACCOUNT:
            raise malformed("KeyID header contained an invalid account URL")
        account = self._book.accounts.get(name)
        if not account:
            raise Refused(Problem("accountDoesNotExist", f"Account {kid!r} not found"))
        return account.jwk, account

    def _spend(self, request: Request, nonce: str) -> None:
        """Take a nonce, once; a good one is refused now and then, as the options say."""
        if nonce in self._book.spent_nonces:
            self._broke(request, Rule.NONCE_ONCE, nonce)
        known = nonce in self._book.nonces
        self._book.nonces.discard(nonce)
        self._book.spent_nonces.add(nonce)
        if not known or self._world.chance(self.options.nonce_reject_percent):
            raise Refused(Problem("badNonce", f"JWS has an invalid anti-replay nonce: {nonce!r}"))

    # ── replies ───────────────────────────────────────────────────────────────────────────────

    def _refusal(self, request: Request, refused: Refused) -> Reply:
        request.problem = refused.problem.kind
        if refused.broken:
            self._broke(request, refused.broken, refused.problem.detail)
        headers = {"content-type": "application/problem+json", **refused.headers}
        return Reply(refused.problem.status, refused.problem.document(), headers)

    def _common_headers(self, request: Request) -> dict[str, str]:
        """A nonce for every POST, refused ones too (RFC 8555 §6.5), and the way to the index."""
        headers = {"cache-control": "public, max-age=0, no-cache"}
        if request.resource is not Resource.DIRECTORY:
            headers["link"] = f'<{self.directory_url}>;rel="index"'
        if request.method == "POST" or request.resource is Resource.NEW_NONCE:
            nonce = self._world.new_id(_NONCE_BYTES)
            self._book.nonces.add(nonce)
            headers["replay-nonce"] = nonce
        return headers

    def _broke(self, request: Request, rule: Rule, detail: str) -> None:
        self.violations.append(Violation(self._world.now(), rule, detail, request))


def _respond(request: Request, reply: Reply, common: Mapping[str, str]) -> HttpResponse:
    request.status = reply.status
    kind, body = _encoded(reply)
    headers = {**kind, **common, **reply.headers}
    links = [each["link"] for each in (common, reply.headers) if "link" in each]
    if links:
        headers["link"] = ", ".join(links)
    return HttpResponse(reply.status, headers, b"" if request.method == "HEAD" else body)


def _encoded(reply: Reply) -> tuple[dict[str, str], bytes]:
    if reply.content is None:
        return {}, b""
    if isinstance(reply.content, bytes):
        return {"content-type": "application/pem-certificate-chain"}, reply.content
    return {"content-type": "application/json"}, json.dumps(reply.content).encode()


def _instant(retry_after: str, now: datetime) -> datetime:
    """When it may be asked again (RFC 9110 §10.2.3)."""
    if retry_after.isdigit():
        return now + timedelta(seconds=int(retry_after))
    return parsedate_to_datetime(retry_after).astimezone(UTC)
