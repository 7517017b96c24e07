"""For tests of the client's parts: a clock moved by sleep only, a CA that says what it is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from acmeistio.errors import Transient
from acmeistio.ports import HttpResponse

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)

DIRECTORY_URL = "https://ca.example/directory"
DIRECTORY: Mapping[str, Any] = {
    name: f"https://ca.example/{name}"
    for name in ("newNonce", "newAccount", "newOrder", "keyChange", "revokeCert", "renewalInfo")
}
URN = "urn:ietf:params:acme:error:"


@dataclass(slots=True)
class FakeClock:
    """The port Clock; `slept` is what was waited."""

    start: datetime = NOW
    seconds: float = 0.0
    slept: list[float] = field(default_factory=list)

    def now(self) -> datetime:
        """See Clock.now."""
        return self.start + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        """See Clock.monotonic."""
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """See Clock.sleep."""
        self.slept.append(seconds)
        self.seconds += seconds


def answer(document: object = None, status: int = 200, **headers: str) -> HttpResponse:
    """An answer with a JSON body; `_` in a header's name stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    kind = "application/json" if status < 400 else "application/problem+json"
    body = json.dumps(document).encode()
    return HttpResponse(status, {"content-type": kind, "replay-nonce": "AAAA", **named}, body)


def refusal(kind: str, status: int = 400, detail: str = "no", **headers: str) -> HttpResponse:
    """A problem document."""
    return answer({"type": URN + kind, "detail": detail}, status, **headers)


class FakeHttp:
    """The port Http: the directory, nonces, and for all else the next of `answers`."""

    def __init__(self, *answers: HttpResponse | Exception, directory: object = DIRECTORY) -> None:
        self.answers = list(answers)
        self.directory = directory
        self.asked: list[tuple[str, str]] = []
        self.bodies: list[bytes] = []

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] = {}, body: bytes = b""
    ) -> HttpResponse:
        """See Http.request."""
        self.asked.append((method, url))
        if url == DIRECTORY_URL:
            return answer(self.directory)
        if method == "HEAD":
            return answer()
        self.bodies.append(body)
        if not self.answers:
            raise Transient("nobody is there")
        given = self.answers.pop(0)
        if isinstance(given, Exception):
            raise given
        return given
