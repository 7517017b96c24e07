"""acmeistio of this checkout as a child process, looked at from outside: log lines, exit code."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pebble.processes import Child

PATIENCE_SECONDS = 20.0
"""Until something that takes a second is given up: machines are busy at times."""
POLL_SECONDS = 0.03

Event = dict[str, Any]


class Program(Child):
    """`python -m acmeistio …` as a child process."""

    def __init__(
        self,
        words: Iterable[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._before = log.stat().st_size if log.exists() else 0
        command = [sys.executable, "-m", "acmeistio", *words]
        super().__init__("acmeistio", command, log=log, environment=environment)

    @property
    def output(self) -> str:
        """All that it has written since its start."""
        with self.log.open("rb") as log:
            log.seek(self._before)
            return log.read().decode()

    def events(self, name: str | None = None) -> list[Event]:
        """Its log lines, of one event or all."""
        whole = self.output.rpartition("\n")[0].splitlines()
        found = [json.loads(line) for line in whole if line.startswith("{")]
        return [event for event in found if name in (None, event["event"])]

    def end(self, number: int = signal.SIGTERM, *, seconds: float = PATIENCE_SECONDS) -> int:
        """Send a signal; its exit code."""
        self._process.send_signal(number)
        return self.exit_code(seconds=seconds)

    def exit_code(self, *, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait until it has ended by itself."""
        self.wait_until(lambda: not self._running(), "it ended", seconds=seconds)
        return int(self._process.returncode)

    def _running(self) -> bool:
        return self._process.poll() is None

    def wait_until(
        self, ready: Callable[[], bool], what: str, *, seconds: float = PATIENCE_SECONDS
    ) -> None:
        """As Child does, but whatever becomes of the process."""
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline:
                raise self._failed(f"not within {seconds:.0f} s: {what}")
            time.sleep(POLL_SECONDS)
