"""The HTTP side of a simulated CA: requests come in, are handled, are answered (RFC 8555 §6)."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import MappingProxyType

from acmeistio.errors import NotSent, Transient
from acmeistio.ports import HttpResponse
from tests.simulated.ca.door import Door
from tests.simulated.ca.faults import INTERNAL_ERROR, Faults
from tests.simulated.ca.limits import Limits
from tests.simulated.ca.messages import Reply, Signed, Urls
from tests.simulated.ca.options import CaOptions
from tests.simulated.ca.problems import Refused, Rule, malformed, not_found
from tests.simulated.ca.pruning import Pruner
from tests.simulated.ca.records import History, Request, Resource, Violation
from tests.simulated.ca.signers import Signers
from tests.simulated.ca.world import World

_NOTHING: Mapping[str, str] = MappingProxyType({})
_TRANSPORTS_OWN = "acmeistio"
"""The port leaves User-Agent to the transport; only an empty one is seen to be missing."""

_REMEMBERED_REQUESTS = 100_000

Signing = Callable[[Signed, str], Reply]
Public = Callable[[str], Reply]


class Server:
    """Answers requests: the signed ones by `signed`, those of anybody by `public`."""

    def __init__(
        self,
        world: World,
        urls: Urls,
        options: CaOptions,
        history: History,
        *,
        signers: Signers,
        limits: Limits,
        faults: Faults,
        pruner: Pruner,
        signed: Mapping[Resource, Signing],
        public: Mapping[Resource, Public],
    ) -> None:
        self.requests: deque[Request] = deque(maxlen=_REMEMBERED_REQUESTS)
        self._world, self._urls, self._options, self._history = world, urls, options, history
        self._signers, self._limits, self._faults = signers, limits, faults
        self._pruner = pruner
        self._signed, self._public = signed, public
        self._door = Door(options.requests_per_second)
        self._spelt = (datetime.min.replace(tzinfo=UTC), "")
        self._not_before: dict[str, datetime] = {}
        self._index = f'<{urls.of(Resource.DIRECTORY)}>;rel="index"'

    def forget(self) -> None:
        """Nobody was told to wait."""
        self._not_before.clear()

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> HttpResponse:
        """One request and its reply. Raises Transient where the fault asked for leaves none."""
        request = self._arrived(method, url)
        await self._world.travel(self._options.latency_seconds)
        if self._world.failure:
            raise self._world.failure
        if self._faults.outage:
            raise NotSent(f"connection to {self._urls.base} refused")
        lower = {name.lower(): value for name, value in headers.items()}
        response = self._answer(request, lower, body)
        if self._faults.takes_reply(request.resource) or self._is_lost():
            request.reply_lost = True
            raise Transient(f"connection to {self._urls.base} reset")
        await self._world.travel(self._options.latency_seconds)
        self._delivered(request, response)
        if self._pruner.is_due():
            self._prune()
        return response

    def _prune(self) -> None:
        self._pruner.prune()
        now = self._world.now()
        self._not_before = {url: at for url, at in self._not_before.items() if at > now}

    def _is_lost(self) -> bool:
        return self._world.chance(self._world.weather_now().lost_replies_percent)

    def _arrived(self, method: str, url: str) -> Request:
        resource, name = self._urls.parse(url)
        now = self._world.now()
        request = Request(now, method, url, resource, name)
        self.requests.append(request)
        self._history.totals.requests[resource] += 1
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
        for url in filter(None, (request.url, response.headers.get("location"))):
            self._not_before[url] = instant

    def _answer(self, request: Request, headers: Mapping[str, str], body: bytes) -> HttpResponse:
        unread = self._faults.at_the_door(request.resource) or self._crowded_out(request)
        if unread:
            return self._respond(request, self._refusal(request, unread), {})
        try:
            self._weather_permitting()
            reply = self._handle(request, headers, body)
        except Refused as refused:
            reply = self._refusal(request, refused)
        if reply.broken:
            self._broke(request, reply.broken, f"{request.method} {request.url}")
        return self._respond(request, reply, self._common_headers(request))

    def _weather_permitting(self) -> None:
        """Fail by chance, as Boulder does: it wants a minute then."""
        if self._world.chance(self._world.weather_now().errors_percent):
            raise Refused(INTERNAL_ERROR, headers={"retry-after": "60"})

    def _crowded_out(self, request: Request) -> Refused | None:
        if self._door.is_open:
            return None
        wait = self._door.wait(request.resource, self._world.now())
        return self._limits.at_the_door(str(request.resource), wait) if wait else None

    def _handle(self, request: Request, headers: Mapping[str, str], body: bytes) -> Reply:
        resource = request.resource
        if headers.get("user-agent", _TRANSPORTS_OWN) == "":
            raise malformed("All requests MUST include a User-Agent header")
        if not resource:
            raise not_found("resource")
        if request.method in ("GET", "HEAD"):
            return self._read(request, resource)
        if request.method != "POST" or resource not in self._signed:
            raise malformed("Method not allowed", status=405)
        signed = self._signers.believe(request, resource, headers, body)
        refused = self._faults.inside(resource)
        if refused:
            raise refused
        return self._signed[resource](signed, request.name)

    def _read(self, request: Request, resource: Resource) -> Reply:
        """GET is for what is nobody's: directory, nonces, renewal information (RFC 8555 §6.3)."""
        if resource is Resource.NEW_NONCE:
            return Reply(200 if request.method == "HEAD" else 204)
        if resource not in self._public:
            raise malformed("Method not allowed", status=405)
        return self._public[resource](request.name)

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
            headers["link"] = self._index
        if request.method == "POST" or request.resource is Resource.NEW_NONCE:
            headers["replay-nonce"] = self._signers.new_nonce()
        return headers

    def _respond(self, request: Request, reply: Reply, common: Mapping[str, str]) -> HttpResponse:
        request.status = reply.status
        kind, body = _encoded(reply)
        headers = {**kind, "date": self._date(), **common, **reply.headers}
        links = [each["link"] for each in (common, reply.headers) if "link" in each]
        if links:
            headers["link"] = ", ".join(links)
        return HttpResponse(reply.status, headers, b"" if request.method == "HEAD" else body)

    def _date(self) -> str:
        """The CA's time, spelt once a second."""
        now = self._world.now().replace(microsecond=0)
        if now != self._spelt[0]:
            self._spelt = (now, f"{now:%a, %d %b %Y %H:%M:%S} GMT")
        return self._spelt[1]

    def _broke(self, request: Request, rule: Rule, detail: str) -> None:
        violation = Violation(self._world.now(), rule, detail, request)
        self._history.violations.append(violation)


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
