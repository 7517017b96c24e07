"""What surrounds a simulated CA: time, chance, and work beside the requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import format_datetime
from random import Random
from typing import Any, TypeVar

from tests.simulated.ca.jws import b64url
from tests.simulated.ca.options import Seconds

T = TypeVar("T")

_ID_BYTES = 8
_DATE_AND_TIME = len("2030-01-01T00:00:00")


@dataclass(frozen=True, slots=True)
class Weather:
    """How many requests of a hundred meet with what, by chance."""

    errors_percent: float = 0
    """Are answered 500 instead of being handled."""

    bad_nonces_percent: float = 0
    """Have their good nonces refused."""

    lost_replies_percent: float = 0
    """Are carried out, and nobody hears of it."""


FAIR = Weather()


@dataclass(eq=False, slots=True)
class World:
    """Its only sources of time and chance; equal seeds and equal requests make equal runs."""

    now: Callable[[], datetime]
    sleep: Callable[[float], Awaitable[None]]
    random: Random
    weather: Callable[[datetime], Weather] | None = None
    slowness_seconds: float = 0
    """How much longer requests and replies are on the way than usual."""

    failure: BaseException | None = None
    """A mistake of the simulation itself that happened beside the requests."""

    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def weather_now(self) -> Weather:
        """What goes wrong by chance now."""
        return self.weather(self.now()) if self.weather else FAIR

    async def travel(self, between: Seconds) -> None:
        """Be on the way, as long as is usual and as it takes just now."""
        usual = self.random.uniform(*between) if between[1] else 0.0
        await self.sleep(usual + self.slowness_seconds)

    async def pause(self, between: Seconds) -> None:
        """Wait for a time drawn from `between`."""
        await self.sleep(self.random.uniform(*between))

    def chance(self, percent: float) -> bool:
        """True as often as that."""
        return percent > 0 and self.random.random() * 100 < percent

    def shuffled(self, values: Sequence[T]) -> list[T]:
        """In no order that a client might rely on (RFC 8555 §7.4)."""
        return self.random.sample(values, len(values))

    def new_id(self, size: int = _ID_BYTES) -> str:
        """A new name for a resource, a token, a nonce, of that many random bytes."""
        return b64url(self.random.randbytes(size))

    def retry_after(self, seconds: int) -> dict[str, str]:
        """The header as seconds or as a date, by chance, as Pebble does; none for 0."""
        if not seconds:
            return {}
        if self.chance(50):
            return {"retry-after": str(seconds)}
        date = self.now() + timedelta(seconds=seconds)
        return {"retry-after": format_datetime(date, usegmt=True)}

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it beside the requests."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def stop(self) -> None:
        """Cancel what is under way."""
        for task in self._tasks:
            task.cancel()

    async def settle(self) -> None:
        """Cancel what is under way and wait until it is over."""
        self.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            self.failure = task.exception()


def rfc3339(instant: datetime) -> str:
    """An instant in UTC as resources spell it (RFC 8555 §7.1.3, RFC 3339)."""
    return f"{instant.isoformat()[:_DATE_AND_TIME]}Z"
