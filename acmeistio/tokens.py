"""HTTP-01 tokens and the pure answer to a request for one (RFC 8555 §8.3).

Owns the map from token to key authorization and what is said to whom. It knows neither HTTP
servers nor CAs. A token that is not ours is handed back: the gateway routes the request to
whatever the user has there (deploy's routes, `acmeistio-pass`), so that other ACME clients live
on beside this one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from acmeistio.routes import PASS_MARK, PATH_PREFIX

_TOKEN = re.compile(r"[A-Za-z0-9_-]{22,128}")
"""base64url of at least 128 bits (RFC 8555 §8.3)."""
_HOST = re.compile(r"(?=.{1,255}$)([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Request:
    """What matters of a request. `query` is as sent, `scheme` what the client spoke."""

    method: str
    path: str
    query: str
    host: str
    scheme: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send back."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)


NOT_FOUND: Final = Answer(404)


@dataclass(slots=True)
class _Presented:
    key_authorization: str = field(repr=False)
    fetched: asyncio.Event = field(default_factory=asyncio.Event)
    watchers: set[asyncio.Event] = field(default_factory=set)
    orders: int = 0


class Tokens:
    """The tokens that are answered at this moment."""

    def __init__(self) -> None:
        self._presented: dict[str, _Presented] = {}

    def present(self, token: str, key_authorization: str) -> None:
        """Answer `token` from now on. Orders may share one: each that presents it cleans it up."""
        presented = self._presented.setdefault(token, _Presented(key_authorization))
        presented.orders += 1

    def clean_up(self, token: str) -> None:
        """Answer `token` no longer, once no order needs it."""
        presented = self._presented.get(token)
        if presented is None:
            return
        presented.orders -= 1
        if presented.orders <= 0:
            del self._presented[token]

    async def fetched(self, token: str) -> None:
        """Return when somebody has fetched `token`: from then on there may be news at the CA.

        One that is not presented is never fetched.
        """
        presented = self._presented.get(token)
        await (presented.fetched if presented else asyncio.Event()).wait()

    async def fetched_again(self, tokens: Iterable[str]) -> None:
        """Return at the next fetch of one of `tokens`: a CA looks several times."""
        news = asyncio.Event()
        watched = [self._presented[token] for token in tokens if token in self._presented]
        for presented in watched:
            presented.watchers.add(news)
        try:
            await news.wait()
        finally:
            for presented in watched:
                presented.watchers.discard(news)

    def answer(self, request: Request) -> Answer:
        """The answer to any request on the challenge port."""
        token = request.path.removeprefix(PATH_PREFIX)
        if request.method not in ("GET", "HEAD") or PATH_PREFIX + token != request.path:
            return NOT_FOUND
        if not _TOKEN.fullmatch(token):
            return NOT_FOUND
        presented = self._presented.get(token)
        if presented is None:
            return _handed_back(request)
        presented.fetched.set()
        for news in presented.watchers:
            news.set()
        return Answer(200, _TEXT_SAFE, presented.key_authorization.encode())


_TEXT_SAFE: Final = {
    "Content-Type": "application/octet-stream",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def _handed_back(request: Request) -> Answer:
    """The redirect that the gateway follows itself; to the same host and path, marked.

    The gateway only follows an absolute Location. What can't be one, and what comes back marked
    because nobody else has a route for it, is not found.
    """
    marked = PASS_MARK in {part.partition("=")[0] for part in request.query.split("&")}
    if marked or request.scheme not in ("http", "https") or not _HOST.fullmatch(request.host):
        return NOT_FOUND
    location = f"{request.scheme}://{request.host}{request.path}?{PASS_MARK}"
    return Answer(302, {"Location": location, "Cache-Control": "no-store"})
