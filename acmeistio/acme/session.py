"""Signed requests to one CA: directory, nonces, JWS, problems, Retry-After.

Owns what is common to all resources (RFC 8555 §6 and §7.1.1). It knows no resource but the
directory, and holds no account: who signs is said with each request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from acme import jws, messages
from josepy import errors as jose_errors
from josepy.json_util import decode_b64jose, encode_b64jose
from josepy.jwa import ES256, RS256, JWASignature
from josepy.jwk import JWK, JWKEC

from acmeistio.acme.problem import Problem, problem_of
from acmeistio.errors import Permanent, Transient
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

MAX_RETRY_AFTER_SECONDS = 7 * 24 * 3600.0
"""The longest wait of Let's Encrypt's limits; a longer one is a mistake of somebody."""


class ProblemResponse(Permanent):
    """The CA answered with an error that repeating the request won't cure."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem), problem_type=problem.type)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs: the account's key, and its URL once the CA has given one."""

    key: JWK = field(repr=False)
    account_url: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A successful answer: its JSON (None where it has none), its headers and its bytes."""

    document: Any = field(repr=False)
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    retry_after_seconds: float | None

    @property
    def location(self) -> str:
        """The URL of the resource. Raises Transient where a CA forgot to say it."""
        if "location" not in self.headers:
            raise Transient("the CA's answer has no Location")
        return self.headers["location"]


class Session:
    """One CA, spoken to by any number of tasks at once."""

    def __init__(self, http: Http, clock: Clock, directory_url: str) -> None:
        self.directory_url = directory_url
        self._http = http
        self._clock = clock
        self._directory: messages.Directory | None = None
        self._directory_until = 0.0
        self._nonces: list[tuple[str, float]] = []
        self._directory_lock = asyncio.Lock()

    async def directory(self) -> messages.Directory:
        """The CA's directory, fetched once a day (RFC 8555 §7.1.1)."""
        async with self._directory_lock:
            if self._directory is None or self._clock.monotonic() > self._directory_until:
                self._directory = await self._fetch_directory()
                self._directory_until = self._clock.monotonic() + DIRECTORY_SECONDS
            return self._directory

    async def post(self, url: str, payload: Mapping[str, Any] | None, signer: Signer) -> Reply:
        """A signed POST; `payload` None is POST-as-GET (RFC 8555 §6.3).

        Raises ProblemResponse, and Transient for what may pass: a refused nonce (tried again
        here with the nonce of the refusal, RFC 8555 §6.5), 429, 503, other server errors.
        """
        body = b"" if payload is None else json.dumps(payload).encode()
        deadline = self._clock.monotonic() + BAD_NONCE_SECONDS
        nonce = None
        for _ in range(BAD_NONCE_ATTEMPTS):
            response = await self._send(url, body, signer, nonce or await self._nonce())
            problem = _problem(response)
            if problem is None:
                self._keep_nonce(response)
                return self._reply(response)
            if problem.type != "badNonce":
                self._keep_nonce(response)
                raise self._failure(response, problem)
            nonce = _usable_nonce(response)
            if self._clock.monotonic() > deadline:
                break
        raise Transient("the CA refused one nonce after another (badNonce)")

    async def _send(self, url: str, body: bytes, signer: Signer, nonce: str) -> HttpResponse:
        algorithm = _algorithm(signer.key)
        signed = jws.JWS.sign(
            body, signer.key, algorithm, decode_b64jose(nonce), url, signer.account_url
        )
        return await self._http.request(
            "POST",
            url,
            headers={"Content-Type": "application/jose+json"},
            body=signed.json_dumps().encode(),
        )

    async def _nonce(self) -> str:
        """A nonce from the pool, else a new one (RFC 8555 §7.2)."""
        oldest = self._clock.monotonic() - NONCE_SECONDS
        while self._nonces:
            nonce, seen = self._nonces.pop()
            if seen > oldest:
                return nonce
        url = (await self.directory())["newNonce"]
        response = await self._http.request("HEAD", url)
        if response.status >= HTTP_CLIENT_ERROR:
            raise self._failure(response, problem_of(response.status, response.body))
        if _usable_nonce(response) is None:
            raise Transient("the CA gave no nonce")
        return response.headers["replay-nonce"]

    def _keep_nonce(self, response: HttpResponse) -> None:
        """Every response brings a nonce, errors too."""
        nonce = _usable_nonce(response)
        if nonce:
            self._nonces.append((nonce, self._clock.monotonic()))
            del self._nonces[:-MAX_NONCES]

    async def _fetch_directory(self) -> messages.Directory:
        response = await self._http.request("GET", self.directory_url)
        problem = _problem(response)
        if problem:
            raise self._failure(response, problem)
        try:
            directory = messages.Directory.from_json(json.loads(response.body))
            required = [directory[key] for key in ("newNonce", "newAccount", "newOrder")]
        except (ValueError, TypeError, AttributeError, KeyError, jose_errors.Error) as error:
            raise Transient(f"{self.directory_url} is not an ACME directory") from error
        if not all(isinstance(url, str) for url in required):
            raise Transient(f"{self.directory_url} is not an ACME directory")
        return directory

    def _reply(self, response: HttpResponse) -> Reply:
        return Reply(
            document=_json(response),
            headers=response.headers,
            body=response.body,
            retry_after_seconds=self._retry_after(response),
        )

    def _failure(self, response: HttpResponse, problem: Problem) -> Exception:
        """What an error response means for the caller."""
        wait = self._retry_after(response)
        if response.status in (HTTP_TOO_MANY, HTTP_UNAVAILABLE):
            # Without Retry-After a 429 is a pause that only a human can end (Let's Encrypt's
            # paused names): it is a refusal of this request, not of this client.
            if response.status == HTTP_TOO_MANY and wait is None:
                return ProblemResponse(problem)
            pauses = wait is not None
            return Transient(str(problem), retry_after_seconds=wait, pauses_issuer=pauses)
        if response.status >= HTTP_SERVER_ERROR:
            return Transient(str(problem), retry_after_seconds=wait)
        return ProblemResponse(problem)

    def _retry_after(self, response: HttpResponse) -> float | None:
        return retry_after_seconds(response.headers.get("retry-after"), self._clock.now())


def retry_after_seconds(text: str | None, now: datetime) -> float | None:
    """Retry-After as seconds from `now`; CAs send both forms (RFC 9110 §10.2.3)."""
    if text is None:
        return None
    try:
        seconds = float(min(int(text), int(MAX_RETRY_AFTER_SECONDS)))
    except ValueError:
        try:
            instant = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        instant = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
        seconds = (instant - now).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)


def _problem(response: HttpResponse) -> Problem | None:
    if response.status < HTTP_CLIENT_ERROR:
        return None
    return problem_of(response.status, response.body)


def _usable_nonce(response: HttpResponse) -> str | None:
    """The response's nonce, if acme's JWS can carry it: decoded and encoded it is the same."""
    nonce = response.headers.get("replay-nonce", "")
    try:
        same = bool(nonce) and encode_b64jose(decode_b64jose(nonce)) == nonce
    except (jose_errors.DeserializationError, ValueError):
        return None
    return nonce if same else None


def _json(response: HttpResponse) -> Any:
    if "json" not in response.headers.get("content-type", ""):
        return None
    try:
        return json.loads(response.body)
    except (ValueError, RecursionError) as error:
        raise Transient("the CA's answer is not JSON") from error


def _algorithm(key: JWK) -> JWASignature:
    return ES256 if isinstance(key, JWKEC) else RS256
