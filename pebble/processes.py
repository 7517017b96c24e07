"""Child processes of local work: start with a log, wait until ready, end with their parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Self

LOOPBACK = "127.0.0.1"
CHECKOUT = Path(__file__).resolve().parent.parent
"""The repository's top folder."""
CACHE = CHECKOUT / ".cache"
"""Where pebble/setup builds, and where logs of the demo go; ignored by git."""

READY_SECONDS = 10.0
STOP_SECONDS = 5.0
POLL_SECONDS = 0.02

# Below the range from which the kernel takes ports for outgoing connections: a port that is
# free for a moment (a restart) must not be taken by somebody's connection.
_CANDIDATES = cycle(random.sample(range(20000, 32000), 12000))

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class ChildFailed(RuntimeError):
    """A child process ended, or was not ready in time. The message ends with its log's tail."""


def free_ports(count: int) -> list[int]:
    """Loopback ports on which nobody listens, by TCP or UDP; this process gets each only once."""
    return list(islice(filter(_is_free, _CANDIDATES), count))


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                return False
    return True


def listens(port: int) -> bool:
    """Whether somebody accepts TCP connections on a loopback port."""
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


def tail(log: Path, lines: int = 15) -> str:
    """The end of a log, for an error message."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return "\n".join(text.splitlines()[-lines:])


class FromStartToStop(ABC):
    """What runs from `start` to `stop`, or for the time of a `with` block."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abstractmethod
    def start(self) -> None:
        """Start it; return when it works."""

    @abstractmethod
    def stop(self) -> None:
        """End it, however far it was started. Harmless when repeated."""


class Child:
    """A running child process, with standard output and error appended to `log`.

    It dies with its parent, even when that is killed (Linux; elsewhere only `stop` ends it).
    Linux takes the *thread* that started it for the parent: start children from the main thread,
    or from one that lives as long as they shall.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                preexec_fn=_die_with_parent,  # noqa: PLW1509  # one prctl, made ready before
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def wait_until(
        self, ready: Callable[[], bool], what: str, *, seconds: float = READY_SECONDS
    ) -> None:
        """Return when `ready`; raise ChildFailed when it ends before, or takes too long."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.alive:
                raise self._failed(f"ended with {self._process.returncode} before {what}")
            if time.monotonic() > deadline:
                raise self._failed(f"not within {seconds:.0f} s: {what}")
            time.sleep(POLL_SECONDS)
        if not self.alive:  # somebody else has the port
            raise self._failed(f"ended with {self._process.returncode}")

    def wait_for_ports(self, *ports: int) -> None:
        """Return when it listens on all these ports."""
        for port in ports:
            self.wait_until(partial(listens, port), f"it listened on port {port}")

    def stop(self) -> None:
        """End it: politely, after five seconds by force. Harmless when it has ended."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait()

    def _failed(self, what: str) -> ChildFailed:
        return ChildFailed(f"{self.name}: {what}\n--- {self.log}\n{tail(self.log)}")


def _die_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
