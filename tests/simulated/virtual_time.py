"""An event loop whose time is virtual: it jumps to the next timer as soon as nothing is left to do.

Not looptime's, which the contract suites use: a simulated year is millions of rounds of the loop,
and looptime looks for sockets and threads in each, and needs a round more for each leap.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

_MICROSECOND_DIGITS = 6
_SHORTEST = 1e-6
"""A shorter sleep would be rounded to none, and whoever sleeps until an instant never be there."""


class _Leaps(selectors.DefaultSelector):
    """Nobody is waited for: the time that would pass until then has passed."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See BaseSelector.select; without timers only a signal can still come."""
        if timeout is None:
            return list(super().select())
        if timeout:
            self.now = round(self.now + max(timeout, _SHORTEST), _MICROSECOND_DIGITS)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Counts its rounds: between two of them every task stands at an await.

    Sockets and threads are never heard of here.
    """

    def __init__(self) -> None:
        self._leaps = _Leaps()
        super().__init__(self._leaps)
        # Months after 0 the nanosecond of asyncio is lost in a float: a timer at exactly now
        # would never be due.
        self._clock_resolution = 1e-6
        self.rounds = 0
        self.at_round: dict[int, Callable[[], object]] = {}
        """What is to happen before which round."""

    def time(self) -> float:
        """See AbstractEventLoop.time: seconds of virtual time."""
        return self._leaps.now

    def _run_once(self) -> None:
        self.rounds += 1
        if action := self.at_round.pop(self.rounds, None):
            action()
        super()._run_once()  # type: ignore[misc]  # BaseEventLoop's, known to no stub


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, done in virtual time that begins at 0."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test that takes hours and is over at once."""

    @functools.wraps(test)
    def timeless(*args: P.args, **kwargs: P.kwargs) -> None:
        run(test(*args, **kwargs))

    return timeless
