"""Time as the CA has it, where this machine's calendar is wrong: the port Clock over another.

What is due, spent and allowed is reckoned in the CA's time: a node whose calendar jumps ahead
would overspend the CA's limits, one that lags would let a certificate run out.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from acmeistio.ports import Clock

TOLERANCE = timedelta(seconds=30)
"""A Date has whole seconds, and is as old as the answer was under way (30 s at most)."""

_YEARS = range(2000, 9000)
"""Of a Date that is believed: there is room to reckon in both directions."""


class CaClock:
    """The base clock's calendar while it agrees with the CA's, else the CA's.

    Only the calendar is corrected; `monotonic` and `sleep` are those of the base clock.
    """

    def __init__(self, base: Clock) -> None:
        self._base = base
        self._zero: datetime | None = None
        """What the CA's calendar said when `monotonic` was 0, as far as it was heard."""

    def heard(self, instant: datetime) -> None:
        """The CA has said that it is `instant`.

        One that is a little behind what is known says nothing new: its answer was slow.
        """
        if instant.year not in _YEARS:
            return
        known = self._ca_now()
        if known is None or not timedelta(0) <= known - instant <= TOLERANCE:
            self._zero = instant - timedelta(seconds=self._base.monotonic())

    @property
    def has_heard(self) -> bool:
        """Whether any CA has said what time it is."""
        return self._zero is not None

    @property
    def skew(self) -> timedelta:
        """How far the base clock is ahead of the CA's; nothing as long as the CA is silent."""
        known = self._ca_now()
        return self._base.now() - known if known else timedelta(0)

    def now(self) -> datetime:
        """See Clock.now."""
        known, own = self._ca_now(), self._base.now()
        return own if known is None or abs(own - known) <= TOLERANCE else known

    def monotonic(self) -> float:
        """See Clock.monotonic."""
        return self._base.monotonic()

    async def sleep(self, seconds: float) -> None:
        """See Clock.sleep."""
        await self._base.sleep(seconds)

    def _ca_now(self) -> datetime | None:
        if self._zero is None:
            return None
        return self._zero + timedelta(seconds=self._base.monotonic())
