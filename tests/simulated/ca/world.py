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


@dataclass(eq=False, slots=True)
class World:
    """Its only sources of time and chance; equal seeds and equal requests make equal runs."""

    now: Callable[[], datetime]
    sleep: Callable[[float], Awaitable[None]]
    random: Random
    failure: BaseException | None = None
    """A mistake of the simulation itself that happened beside the requests."""

    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def pause(self, between: Seconds) -> None:
        """Wait for a time drawn from `between`."""
        await self.sleep(self.random.uniform(*between))

    def chance(self, percent: float) -> bool:
        """True as often as that."""
        return self.random.random() * 100 < percent

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
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")
