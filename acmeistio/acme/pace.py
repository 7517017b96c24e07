"""The pace of requests to a CA: a token bucket, and waiting at it. Knows nothing of requests."""

from __future__ import annotations

from acmeistio.issuer import Limit
from acmeistio.ports import Clock


class Pace:
    """One limit, kept by waiting.

    GCRA: a single instant, when the bucket would be full again, says all that there is to know.
    """

    def __init__(self, limit: Limit | None, clock: Clock) -> None:
        self._every = limit.every.total_seconds() if limit else 0.0
        self._slack = self._every * (limit.burst - 1) if limit else 0.0
        self._full_at = 0.0
        self._clock = clock

    async def turn(self) -> None:
        """Return when one more request is within the limit; turns are given in order.

        Who is cancelled while it waits has spent its turn.
        """
        now = self._clock.monotonic()
        at = max(self._full_at, now)
        self._full_at = at + self._every
        wait = at - self._slack - now
        if wait > 0:
            await self._clock.sleep(wait)
