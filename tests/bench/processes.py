"""The two contestants as real processes, each run once against a CA that is already there.

Owns their command lines, their deadlines and what is read from outside: log lines, ports, /proc.
Linux only, because of /proc.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pebble.local_ca import LocalCa
from pebble.processes import CHECKOUT, LOOPBACK, Child, free_ports, listens, tail
from tests.bench.bare_client import AT_ONCE, PROFILE
from tests.bench.cases import Case, Memory, Sample

KIB_IN_MIB = 1024
START_SECONDS = 15.0
STEP_SECONDS = 0.005
TICKS = os.sysconf("SC_CLK_TCK")

Event = dict[str, Any]


class RunFailed(Exception):
    """A run ended, or did not end, without what it was for."""


def run_bare(ca: LocalCa, case: Case) -> Sample:
    """One run of the bare client."""
    started = time.time()
    command = [
        *(sys.executable, "-m", "tests.bench.bare_client"),
        *("--directory", ca.directory_url),
        *("--ca-bundle", str(ca.ca_bundle)),
        *("--challenge-listen", f"{LOOPBACK}:{ca.http_port}"),
        *("--certificates", str(case.certificates)),
        *("--names", str(case.names)),
        *("--started", str(started)),
    ]
    try:
        done = subprocess.run(
            command,
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=True,
            timeout=case.deadline_seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise RunFailed(f"not within {case.deadline_seconds:.0f} s") from error
    except subprocess.CalledProcessError as error:
        raise RunFailed(f"exit code {error.returncode}: {error.stderr[-1000:]}") from error
    report = json.loads(done.stdout)
    if report.pop("certificates") != case.certificates:
        raise RunFailed("fewer certificates than orders")
    return Sample(**report)


def on_folders(manifests: Path, secrets: Path) -> dict[str, str]:
    """The settings of the embedded default."""
    return {"issuer": "pebble", "manifests": str(manifests), "secrets": str(secrets)}


def memory_of(pid: int) -> Memory:
    """What a process has resident now, and the most that it ever had."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    resident, peak = (int(fields[key].split()[0]) for key in ("VmRSS", "VmHWM"))
    return Memory(resident / KIB_IN_MIB, peak / KIB_IN_MIB)


def cpu_seconds_of(pid: int) -> float:
    """The CPU time that a process has taken since its start, of all its threads."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    # The name in parentheses may hold blanks; utime and stime are fields 14 and 15 of all.
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / TICKS


class Acmeistio:
    """One acmeistio process, from `with` to its end; `place` are the settings of where it works.

    The CA asks it directly.
    """

    def __init__(self, ca: LocalCa, place: Mapping[str, str], log: Path) -> None:
        (admin,) = free_ports(1)
        self._challenge_port = ca.http_port
        self._log = log
        words = ((f"--{name}", value) for name, value in place.items())
        self._command = [
            *(sys.executable, "-m", "acmeistio", "run"),
            *(word for pair in words for word in pair),
            *("--directory", ca.directory_url),
            *("--ca-bundle", str(ca.ca_bundle)),
            *("--profile", PROFILE),
            *("--concurrent-orders", str(AT_ONCE)),
            *("--challenge-listen", f"{LOOPBACK}:{ca.http_port}"),
            *("--admin-listen", f"{LOOPBACK}:{admin}"),
            *("--log-format", "json"),
        ]
        self._events: list[Event] = []
        self._read_bytes = 0

    def __enter__(self) -> Self:
        self._log.write_bytes(b"")
        self._started = time.time()
        self._child = Child("acmeistio", self._command, log=self._log)
        try:
            self._wait(lambda: listens(self._challenge_port), "it listened", START_SECONDS)
        except BaseException:
            self._child.kill()
            raise
        self._ready = time.time()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # One that hangs is not given the time to end politely.
        end = self._child.stop if error is None else self._child.kill
        end()

    def wait_for(
        self, done: Callable[[Sequence[Event]], Event | None], what: str, seconds: float
    ) -> float:
        """Until the log has what `done` wants; returns the time (epoch) that its line names."""
        found: list[Event] = []

        def ready() -> bool:
            self._events.extend(self._new_events())
            found.extend(event for event in [done(self._events)] if event is not None)
            return bool(found)

        self._wait(ready, what, seconds)
        return datetime.fromisoformat(found[0]["timestamp"]).timestamp()

    def sample(self, end: float) -> Sample:
        """The run, with the clock stopped at `end` (epoch); of CPU all until now."""
        return Sample(end - self._started, end - self._ready, cpu_seconds_of(self._child.pid))

    def memory(self) -> Memory:
        """What it has resident now, and the most that it ever had."""
        return memory_of(self._child.pid)

    def _new_events(self) -> Iterator[Event]:
        """Whole lines of JSON that came since the last time; standard error's lines are not."""
        with self._log.open("rb") as log:
            log.seek(self._read_bytes)
            whole = log.read().rpartition(b"\n")[0]
        if whole:
            self._read_bytes += len(whole) + 1
        for line in whole.splitlines():
            if line.startswith(b"{"):
                yield json.loads(line)

    def _wait(self, ready: Callable[[], bool], what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            if not self._child.alive:
                raise RunFailed(f"it ended before {what}\n{tail(self._log)}")
            if time.monotonic() > deadline:
                raise RunFailed(f"not within {seconds:.0f} s: {what}\n{tail(self._log, 5)}")
            time.sleep(STEP_SECONDS)
