"""One run of one case by one contestant: a fresh CA, a deadline, one more try if it hung.

Owns what belongs to a measurement and what does not: the CA is up before the clock starts, it
stops when the last certificate is where servers read it, and what is stored is checked after that.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pebble.local_ca import CaOptions, LocalCa
from pebble.processes import free_ports
from tests.bench.cases import CASES, GIVEN_UP, HELD, Case, Contestant, Held, Memory, Results, Sample
from tests.bench.processes import Acmeistio, Event, RunFailed, on_folders, run_bare
from tests.bench.stored import NotAsOrdered, check_secrets, write_manifests

LOOK_SECONDS = 15.0
SETTLE_SECONDS = 1.0
"""Until memory is read: what was only for the work has been given back by then."""

Tell = Callable[[str], None]
Value = TypeVar("Value")


@contextmanager
def fresh_ca(case: Case) -> Iterator[LocalCa]:
    """A Pebble of its own for one run."""
    (http_port,) = free_ports(1)
    with LocalCa(CaOptions(validation_delay=case.delayed), http_port=http_port) as ca:
        yield ca


def measure(case: Case, contestant: Contestant, results: Results, tell: Tell) -> None:
    """One run, put into `results`."""
    name = f"{case.key} {contestant}"
    sample = _with_one_more_try(name, lambda: _run(case, contestant, results), results, tell)
    if sample is not None:
        results.samples.setdefault((case, contestant), []).append(sample)
        tell(f"{name}: {sample.seconds_from_start:.2f} s")


def measure_empty(results: Results, tell: Tell) -> None:
    """Memory of an acmeistio that has nothing to do, put into `results`."""
    memory = _with_one_more_try("no certificates", _memory_of_empty, results, tell)
    if memory is not None:
        results.empty.append(memory)
        tell(f"no certificates: {memory.resident:.0f} MiB")


def _with_one_more_try(
    name: str, run: Callable[[], Value], results: Results, tell: Tell
) -> Value | None:
    """Pebble 2.10.1 may deadlock, so a run that hangs has one more; wrong certificates have not."""
    for fate in ("tried again", GIVEN_UP):
        try:
            return run()
        except (RunFailed, NotAsOrdered) as error:
            end = fate if isinstance(error, RunFailed) else GIVEN_UP
            first_line = str(error).partition("\n")[0]
            results.failures.append(f"{name}, {end}: {first_line}")
            tell(f"{name}, {end}: {error}")
            if end == GIVEN_UP:
                break
    return None


def _run(case: Case, contestant: Contestant, results: Results) -> Sample:
    with fresh_ca(case) as ca, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        try:
            if contestant is Contestant.BARE:
                return run_bare(ca, case)
            return _run_acmeistio(ca, case, Path(folder), results)
        except RunFailed as error:
            raise RunFailed(f"{_verdict(ca, case)}; {error}") from error


def _verdict(ca: LocalCa, case: Case) -> str:
    """Whose fault it may be: a CA in deadlock gives nobody a certificate any more."""
    try:
        run_bare(ca, replace(CASES[0], delayed=case.delayed))
    except RunFailed:
        return "the CA hangs"
    return "the CA still issues"


def _run_acmeistio(ca: LocalCa, case: Case, folder: Path, results: Results) -> Sample:
    manifests, secrets = folder / "manifests", folder / "secrets"
    write_manifests(manifests, case)
    with Acmeistio(ca, on_folders(manifests, secrets), folder / "acmeistio.log") as process:
        issued = process.wait_for(
            lambda events: last_of(case.certificates, events),
            f"{case.certificates} certificates were stored",
            case.deadline_seconds,
        )
        sample = process.sample(max(issued, check_secrets(secrets, case, ca)))
        # Also what comes late, such as a second order for what has been issued.
        time.sleep(SETTLE_SECONDS)
        after_issuing = process.memory()
    if (orders := ca.count("orders")) != case.certificates:
        raise NotAsOrdered(f"{orders} orders for {case.certificates} certificates")
    if case == HELD:
        memory, recognised = _restart(ca, case, manifests, secrets)
        results.held.append(Held(after_issuing, memory, recognised))
    return sample


def _restart(ca: LocalCa, case: Case, manifests: Path, secrets: Path) -> tuple[Memory, Sample]:
    """Start again on what is stored: everything must be found in order, and nothing ordered."""
    orders = ca.count("orders")
    log = secrets.with_name("acmeistio.log")
    with Acmeistio(ca, on_folders(manifests, secrets), log) as process:
        rested = process.wait_for(
            lambda events: at_rest(case.certificates, events),
            f"{case.certificates} certificates were recognised",
            LOOK_SECONDS,
        )
        recognised = process.sample(rested)
        time.sleep(SETTLE_SECONDS)
        memory = process.memory()
    if ca.count("orders") != orders:
        raise NotAsOrdered("the restart ordered something")
    return memory, recognised


def _memory_of_empty() -> Memory:
    with fresh_ca(CASES[0]) as ca, tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        (folder / "manifests").mkdir()
        place = on_folders(folder / "manifests", folder / "secrets")
        with Acmeistio(ca, place, folder / "acmeistio.log") as process:
            process.wait_for(lambda events: at_rest(0, events), "it had looked", LOOK_SECONDS)
            time.sleep(SETTLE_SECONDS)
            return process.memory()


def last_of(certificates: int, events: Sequence[Event]) -> Event | None:
    """The line of the last certificate, once there are all."""
    issued = {event["secret"]: event for event in events if event["event"] == "certificate-issued"}
    if len(issued) < certificates:
        return None
    return max(issued.values(), key=lambda event: str(event["timestamp"]))


def at_rest(certificates: int, events: Sequence[Event]) -> Event | None:
    """The first look that saw so many certificates and found nothing to do."""
    for event in events:
        if event["event"] == "look-done" and event["certificates"] == certificates:
            return event if event["to_do"] == event["deferred"] == 0 else None
    return None
