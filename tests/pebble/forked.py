"""Many starts of the program for the price of one.

Each is forked from a process that has imported everything, because the imports take a second of
CPU and are not what is tested.

    with Forkery(folder) as forkery:
        forkery.start(["run", …], log).kill()

A fork is a process of its own, with the command line's `main` and nothing else in it. The module
run as a script is the process that forks.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

from pebble.processes import CHECKOUT, POLL_SECONDS, STOP_SECONDS

WORD = "acmeistio"


@dataclass(frozen=True)
class Fork:
    """A running program."""

    pid: int

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, 0)
            return True
        return False

    def kill(self) -> None:
        """End it as a crash would; return when it is gone. Harmless when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        deadline = time.monotonic() + STOP_SECONDS
        while self.alive:
            assert time.monotonic() < deadline, f"process {self.pid} does not end"
            time.sleep(POLL_SECONDS / 20)


class Forkery:
    """The process that forks; all forks die with it. `start` may be called by any thread."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._asking = Lock()

    def __enter__(self) -> Self:
        with self._log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.pebble.forked"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=CHECKOUT,
                text=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._process:
            self._process.kill()

    def start(self, arguments: list[str], log: Path) -> Fork:
        """Start the program; its output is appended to `log`."""
        assert self._process.stdin
        assert self._process.stdout
        with self._asking:
            print(json.dumps([arguments, str(log)]), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        assert answer, f"the process that forks has ended: {self._log.read_text()}"
        return Fork(int(answer))


def _serve() -> None:
    """Fork for every line of standard input; say the process id."""
    import acmeistio.app  # noqa: F401, PLC0415  # what is imported once for all
    from acmeistio.__main__ import main  # noqa: PLC0415
    from pebble.processes import _die_with_parent  # noqa: PLC0415

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that nobody needs to wait for a fork
    for line in sys.stdin:
        arguments, log = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _die_with_parent()
            _become(arguments, log)
            main()
        print(pid, flush=True)


def _become(arguments: list[Any], log: str) -> None:
    """A process that knows nothing of the one it was forked from."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = [WORD, *arguments]


if __name__ == "__main__":
    _serve()
