"""What the demo says on the terminal: chapters, steps with a tick and their time, facts.

On a terminal a step shows while it runs, and colours are used unless NO_COLOR is set; elsewhere
it is plain text, one line for each step.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

WIDTH = 70
"""Columns until the time of a step."""

_GREEN, _RED, _BOLD, _DIM = "32", "31", "1", "2"


class StepFailed(Exception):
    """A step of the demo did not work; the cause is chained."""


class Step:
    """A running step; `said` is its line when it has worked."""

    def __init__(self, doing: str) -> None:
        self.said = doing

    def found(self, text: str) -> None:
        """Say at the end what was found instead of what was done."""
        self.said = text


class Progress:
    """Writes to standard output."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._coloured = self._live and not os.environ.get("NO_COLOR")

    def title(self, text: str) -> None:
        """The first line."""
        self._line(self._painted(text, _BOLD))

    def chapter(self, text: str) -> None:
        """A part of the story, with a line of its own."""
        self._line(f"\n{self._painted(text, _BOLD)}")

    def note(self, text: str) -> None:
        """Facts below a chapter or step."""
        for line in text.splitlines():
            self._line(f"   {self._painted(line, _DIM)}")

    @contextmanager
    def step(self, doing: str) -> Iterator[Step]:
        """A step that takes a while. Whatever it raises comes out as StepFailed."""
        begin = time.monotonic()
        step = Step(doing)
        if self._live:
            print(f" · {doing}", end="", flush=True)
        try:
            yield step
        except Exception as error:
            self._finish("✗", _RED, doing, begin)
            raise StepFailed(doing) from error
        except BaseException:  # Ctrl-C: the line is left as it is
            if self._live:
                print()
            raise
        self._finish("✓", _GREEN, step.said, begin)

    def _finish(self, mark: str, colour: str, text: str, begin: float) -> None:
        seconds = self._painted(f"{time.monotonic() - begin:4.1f} s", _DIM)
        over = "\r\033[K" if self._live else ""
        self._line(f"{over} {self._painted(mark, colour)} {text:<{WIDTH}} {seconds}")

    def _painted(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._coloured else text

    @staticmethod
    def _line(text: str) -> None:
        print(text, flush=True)
