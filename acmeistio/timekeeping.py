"""Asks the CA what time it is: first of all in a life, and when the calendar has jumped since.

Owns whether the calendar is to be trusted. As long as it is not, nothing is asked of a CA that
counts, and no instant is written down: it might lie a year ahead.
"""

from __future__ import annotations

from datetime import timedelta

from acmeistio.acme.clock import TOLERANCE, CaClock
from acmeistio.acme.session import Session
from acmeistio.errors import AcmeistioError
from acmeistio.reasons import plain

LONGEST_RETRY_SECONDS = 300.0
OTHERS_WAIT_SECONDS = 600.0
"""Where there are other CAs that may answer, the calendar is trusted after so long a silence."""


class Timekeeping:
    """What a process knows of the time."""

    def __init__(self, session: Session, clock: CaClock, *, has_others: bool) -> None:
        """`session` is with the CA that `clock` hears; `has_others`: more issuers."""
        self._session = session
        self._clock = clock
        self._has_others = has_others
        self._began = clock.monotonic()
        self._is_answered = False
        self._skew = timedelta()
        self._failures = 0
        self._retry_at = 0.0
        self.problem = ""
        """Why it is not known yet."""

    @property
    def is_known(self) -> bool:
        """Whether the calendar was compared with the CA's in this life, or can't be."""
        waited = self._clock.monotonic() - self._began
        return self._is_answered or (self._has_others and waited > OTHERS_WAIT_SECONDS)

    @property
    def wait_seconds(self) -> float:
        """How long `keep` has nothing to do as far as one knows."""
        return max(0.0, self._retry_at - self._clock.monotonic())

    async def keep(self) -> bool:
        """Ask the CA if need be; whether it is known better now."""
        is_right = self._is_answered and abs(self._clock.skew - self._skew) <= TOLERANCE
        if is_right or self.wait_seconds:
            return False
        try:
            await self._ask()
        except AcmeistioError as error:
            self.problem = plain(error)
            self._failures += 1
            wait = min(2.0 ** min(self._failures - 1, 16), LONGEST_RETRY_SECONDS)
            self._retry_at = self._clock.monotonic() + wait
            return False
        self._is_answered, self._skew, self._failures = True, self._clock.skew, 0
        return True

    async def _ask(self) -> None:
        """The first answer is of use for orders too."""
        if self._is_answered:
            await self._session.get(self._session.directory_url)
        else:
            await self._session.directory()
