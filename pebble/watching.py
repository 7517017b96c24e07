"""Asks the same question again and again while other things happen, from a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from typing import Self

PAUSE_SECONDS = 0.02


class Watch:
    """What `look` has answered, from just before the block to just after it.

    What it raises of `failure` is a failure of what is watched.
    """

    def __init__(self, look: Callable[[], str], *, failure: type[Exception] = OSError) -> None:
        self.seen: list[str] = []
        """The answers, in order; what is the same as before is not repeated."""
        self.failures: list[str] = []
        self.asked = 0
        self._look = look
        self._failure = failure
        self._leaving = Event()
        self._thread = Thread(target=self._ask_on, name="watch")

    def __enter__(self) -> Self:
        self._ask()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._thread.join()
        self._ask()

    def _ask_on(self) -> None:
        while not self._leaving.wait(PAUSE_SECONDS):
            self._ask()

    def _ask(self) -> None:
        self.asked += 1
        try:
            answer = self._look()
        except self._failure as error:
            self.failures.append(f"{type(error).__name__}: {error}")
            return
        if self.seen[-1:] != [answer]:
            self.seen.append(answer)
