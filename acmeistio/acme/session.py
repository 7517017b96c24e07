"""Requests to one CA: directory, nonces, signatures, pace, problems, Retry-After.

Owns what is common to all resources (RFC 8555 §6 and §7.1.1). It knows no resource but the
directory, and holds no account: who signs is said with each request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from acme import messages
from josepy.jwk import JWK

from acmeistio.acme.directory import Meta, parse_directory
from acmeistio.acme.headers import http_date, links, retry_after_seconds
from acmeistio.acme.pace import Pace
from acmeistio.acme.problem import Problem, problem_of
from acmeistio.acme.signing import Sign, is_usable, sign_jws
from acmeistio.errors import Permanent, Transient
from acmeistio.issuer import Limits
from acmeistio.ports import Clock, Http, HttpResponse

BAD_NONCE_ATTEMPTS = 15
BAD_NONCE_SECONDS = 30.0
"""One retry is not enough: a CA under load, or Pebble on purpose, refuses several in a row."""

MAX_NONCES = 20
NONCE_SECONDS = 300.0
"""A CA forgets old nonces, so only a few are kept, the newest used first."""

DIRECTORY_SECONDS = 24 * 3600.0

HTTP_TOO_MANY = 429
HTTP_UNAVAILABLE = 503
HTTP_SERVER_ERROR = 500
HTTP_CLIENT_ERROR = 400


class ProblemResponse(Permanent):
    """The CA answered with an error that repeating the request won't cure.

    `links` are the URLs of its Link header by relation, such as "terms-of-service", "help".
    """

    def __init__(self, problem: Problem, links: Mapping[str, tuple[str, ...]] = {}) -> None:
        super().__init__(str(problem), problem_type=problem.type)
        self.problem = problem
        self.links = links


class RateLimited(Transient):
    """The CA refused a request by one of its limits, and said when to come again.

    What the limit is about (an account, a domain, a name) is for the caller to judge.
    """

    def __init__(self, problem: Problem, retry_after_seconds: float) -> None:
        super().__init__(str(problem), retry_after_seconds=retry_after_seconds)
        self.problem = problem
        self.retry_after_seconds: float = retry_after_seconds


class ServerError(Transient):
    """The CA has a trouble of its own, or asked this client as a whole to slow down (5xx)."""

    def __init__(
        self, problem: Problem, retry_after_seconds: float | None, *, pauses_issuer: bool
    ) -> None:
        super().__init__(
            str(problem), retry_after_seconds=retry_after_seconds, pauses_issuer=pauses_issuer
        )
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs: the account's key, and its URL once the CA has given one."""

    key: JWK = field(repr=False)
    account_url: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A successful answer."""

    url: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    retry_after_seconds: float | None

    @property
    def document(self) -> Any:
        """Its JSON, None where it has none. Raises Transient where that is malformed."""
        if "json" not in self.headers.get("content-type", ""):
            return None
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise Transient("the CA's answer is not JSON") from error

    @property
    def location(self) -> str:
        """The URL of the resource. Raises Transient where a CA forgot to say it."""
        if "location" not in self.headers:
            raise Transient("the CA's answer has no Location")
        return self.headers["location"]

    @property
    def links(self) -> Mapping[str, tuple[str, ...]]:
        """The URLs of its Link header by relation."""
        return links(self.headers.get("link"), self.url)


class Post(Protocol):
    """A signed POST by an account that is known: see Session.post."""

    async def __call__(self, url: str, payload: Mapping[str, Any] | None, /) -> Reply:
        """The answer."""


class Session:
    """One CA, spoken to by any number of tasks at once.

    `clock` is its time. `heard` is told the instant of every answer's Date (RFC 9110 §6.6.1), which
    is the CA's clock.
    """

    def __init__(
        self,
        http: Http,
        clock: Clock,
        directory_url: str,
        *,
        limits: Limits = Limits(),
        sign: Sign = sign_jws,
        heard: Callable[[datetime], None] | None = None,
    ) -> None:
        self.directory_url = directory_url
        self._http = http
        self.clock = clock
        self._sign = sign
        self._heard = heard
        self._requests = Pace(limits.requests, clock)
        self._new_nonces = Pace(limits.nonces, clock)
        self._known: tuple[messages.Directory, Meta] | None = None
        self._known_until = 0.0
        self._known_lock = asyncio.Lock()
        self._nonces: list[tuple[str, float]] = []

    async def directory(self) -> messages.Directory:
        """The CA's resources by name, fetched once a day (RFC 8555 §7.1.1)."""
        return (await self._directory())[0]

    async def meta(self) -> Meta:
        """What the CA says of itself."""
        return (await self._directory())[1]

    async def resource(self, name: str) -> str:
        """The URL of a resource. Raises Permanent where the CA has none such."""
        try:
            return str((await self.directory())[name])
        except KeyError as error:
            raise Permanent(f"the CA offers no {name}") from error

    async def get(self, url: str) -> Reply:
        """A plain GET, which nobody signs; raises what `post` raises."""
        return self._reply(url, await self._request("GET", url))

    async def post(self, url: str, payload: Mapping[str, Any] | None, signer: Signer) -> Reply:
        """A signed POST; `payload` None is POST-as-GET (RFC 8555 §6.3).

        Raises ProblemResponse, and Transient for what may pass: a refused nonce (tried again
        here with the nonce of the refusal, RFC 8555 §6.5), 429, 503, other server errors.
        """
        body = b"" if payload is None else json.dumps(payload).encode()
        deadline = self.clock.monotonic() + BAD_NONCE_SECONDS
        nonce = None
        for _ in range(BAD_NONCE_ATTEMPTS):
            response = await self._signed(url, body, signer, nonce or await self._nonce())
            problem = _problem(response)
            if problem is None or problem.type != "badNonce":
                self._keep_nonce(response)
                return self._reply(url, response, problem)
            nonce = _nonce_of(response)
            if self.clock.monotonic() > deadline:
                break
        raise Transient("the CA refused one nonce after another (badNonce)")

    async def _signed(self, url: str, body: bytes, signer: Signer, nonce: str) -> HttpResponse:
        message = self._sign(body, signer.key, nonce, url, signer.account_url)
        headers = {"Content-Type": "application/jose+json"}
        return await self._request("POST", url, headers, message)

    async def _request(
        self, method: str, url: str, headers: Mapping[str, str] = {}, body: bytes = b""
    ) -> HttpResponse:
        """Every request passes here: in its turn, and its Date is heard."""
        await self._requests.turn()
        response = await self._http.request(method, url, headers=headers, body=body)
        if self._heard and (instant := http_date(response.headers.get("date"))):
            self._heard(instant)
        return response

    async def _nonce(self) -> str:
        """A nonce from the pool, else a new one (RFC 8555 §7.2)."""
        if pooled := self._pooled_nonce():
            return pooled
        url = (await self.directory())["newNonce"]
        await self._new_nonces.turn()
        response = await self._request("HEAD", url)
        if problem := _problem(response):
            raise self._failure(url, response, problem)
        nonce = _nonce_of(response)
        if nonce is None:
            raise Transient("the CA gave no nonce")
        return nonce

    def _pooled_nonce(self) -> str | None:
        oldest = self.clock.monotonic() - NONCE_SECONDS
        while self._nonces:
            nonce, seen = self._nonces.pop()
            if seen > oldest:
                return nonce
        return None

    def _keep_nonce(self, response: HttpResponse) -> None:
        """Every response brings a nonce, errors too."""
        nonce = _nonce_of(response)
        if nonce:
            self._nonces.append((nonce, self.clock.monotonic()))
            del self._nonces[:-MAX_NONCES]

    async def _directory(self) -> tuple[messages.Directory, Meta]:
        async with self._known_lock:
            if self._known is None or self.clock.monotonic() > self._known_until:
                self._known = await self._fetch_directory()
                self._known_until = self.clock.monotonic() + DIRECTORY_SECONDS
            return self._known

    async def _fetch_directory(self) -> tuple[messages.Directory, Meta]:
        response = await self._request("GET", self.directory_url)
        if problem := _problem(response):
            raise self._failure(self.directory_url, response, problem)
        try:
            return parse_directory(response.body)
        except (ValueError, RecursionError) as error:
            raise Transient(f"{self.directory_url} is not an ACME directory") from error

    def _reply(self, url: str, response: HttpResponse, problem: Problem | None = None) -> Reply:
        """The answer, if it is none of failure. Raises what an error means for the caller."""
        if problem := problem or _problem(response):
            raise self._failure(url, response, problem)
        return Reply(
            url=url,
            headers=response.headers,
            body=response.body,
            retry_after_seconds=self._retry_after(response),
        )

    def _failure(self, url: str, response: HttpResponse, problem: Problem) -> Exception:
        """What an error response means for the caller."""
        wait = self._retry_after(response)
        if response.status == HTTP_TOO_MANY and wait is not None:
            return RateLimited(problem, wait)
        if response.status >= HTTP_SERVER_ERROR:
            pauses = response.status == HTTP_UNAVAILABLE and wait is not None
            return ServerError(problem, wait, pauses_issuer=pauses)
        # Also 429 without Retry-After, a pause that only a human can end (Let's Encrypt's paused
        # names): it is a refusal of this request, not of this client.
        return ProblemResponse(problem, links(response.headers.get("link"), url))

    def _retry_after(self, response: HttpResponse) -> float | None:
        """In seconds; a date is compared with the Date of the same answer, where it has one."""
        text = response.headers.get("retry-after")
        said_now = None if text is None or text.isdigit() else response.headers.get("date")
        return retry_after_seconds(text, http_date(said_now) or self.clock.now())


def _problem(response: HttpResponse) -> Problem | None:
    if response.status < HTTP_CLIENT_ERROR:
        return None
    return problem_of(response.status, response.body)


def _nonce_of(response: HttpResponse) -> str | None:
    """The response's nonce, if it can be used."""
    nonce = response.headers.get("replay-nonce", "")
    return nonce if is_usable(nonce) else None
