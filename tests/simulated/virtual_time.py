"""An event loop whose time is virtual: it jumps to the next timer as soon as nothing is left to do.

looptime's loop, entered by hand: its pytest plugin and pytest-asyncio both want to make the
loop, and a test that lives many lives needs a fresh one for each.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

import looptime

T = TypeVar("T")
P = ParamSpec("P")


class VirtualLoop(looptime.LoopTimeEventLoop, asyncio.SelectorEventLoop):
    """Counts its rounds: between two of them every task stands at an await."""

    def __init__(self) -> None:
        super().__init__(start=0.0, noop_cycles=0)
        # Months after 0 the nanosecond of asyncio is lost in a float: a timer at exactly now
        # would never be due.
        self._clock_resolution = 1e-6
        self.rounds = 0
        self.at_round: dict[int, Callable[[], object]] = {}
        """What is to happen before which round."""

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
