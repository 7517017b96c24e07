"""The command `tests/bench/run many`: what thousands of certificates cost, though none is ordered.

They need nothing, or they all wait for a limit of their CA.

No cluster and no CA: the controller as it is assembled everywhere, over the simulated store, which
holds real Secrets. Owns what is measured; what the store is filled with is in hoard.py. Result on
standard output; how quick it was is never a failure.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from acmeistio.app import assemble, probes_of
from acmeistio.controller import Controller
from acmeistio.errors import Transient
from acmeistio.journal import Journals
from acmeistio.journal.events import EventJournal
from acmeistio.journal.log import LogJournal
from acmeistio.model import Event, Installation
from acmeistio.ports import HttpResponse, Manifest, Term
from acmeistio.system import Collecting, SystemClock, SystemEntropy, ThreadWorkers
from acmeistio.tokens import Tokens
from tests.bench import hoard
from tests.bench.stored import NAMESPACE, secret_name
from tests.simulated.gateway import SimulatedGateway
from tests.simulated.objects import ObjectStore, SimulatedObjects
from tests.simulated.system import ConstantLeadership

ROUNDS = 10
BEAT_SECONDS = 0.001
PASS_SECONDS, CHANGE_SECONDS, STALL_SECONDS = 2.0, 0.05, 0.05
WAITING_SECONDS = 0.5
LEDGER_BYTES = 1 << 20
"""What the project wants of itself."""

MIB = 1 << 20


@dataclass(frozen=True)
class Passes:
    """Passes of one sort: how long each took, and the longest time the loop did nothing else."""

    seconds: list[float]
    longest_stall_seconds: float


@dataclass(frozen=True)
class Many:
    """One run. `objects_mib` is what the store holds itself, `own_mib` what the program adds."""

    certificates: int
    first: Passes
    at_rest: Passes
    ingress_changed: Passes
    secret_changed: Passes
    everything_anew: Passes
    waiting: Passes
    waiting_and_changed: Passes
    objects_mib: float
    own_mib: float
    ledger_bytes: int


class _NoCa:
    """The port Http where nobody answers: nothing is to be ordered."""

    async def request(self, method: str, url: str, **_: object) -> HttpResponse:
        """See Http.request."""
        raise Transient(f"{method} {url}: there is no CA")


class _NoOne:
    """Where Events go to."""

    def tell(self, event: Event) -> None:
        """See Announcer.tell."""


class _Watch:
    """Measures each pass of a controller, and whether the loop stalls beside it."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._look_and_act = controller._look_and_act
        controller._look_and_act = self._timed  # type: ignore[method-assign]
        self._seconds: list[float] = []
        self._stall = 0.0
        self._passed = asyncio.Event()

    async def _timed(self, term: Term) -> None:
        begin = time.perf_counter()
        await self._look_and_act(term)
        self._seconds.append(time.perf_counter() - begin)
        self._passed.set()

    async def beat(self) -> None:
        """Note how late each beat comes, for ever."""
        while True:
            begin = time.perf_counter()
            await asyncio.sleep(BEAT_SECONDS)
            self._stall = max(self._stall, time.perf_counter() - begin - BEAT_SECONDS)

    async def passed(self) -> None:
        """Return when the next pass is done."""
        self._passed.clear()
        await self._passed.wait()

    def taken(self) -> Passes:
        """What was measured since the last time."""
        found = Passes(self._seconds, self._stall)
        self._seconds, self._stall = [], 0.0
        return found


@contextlib.asynccontextmanager
async def _running(store: ObjectStore) -> AsyncIterator[_Watch]:
    leadership, tokens, clock = ConstantLeadership(), Tokens(), SystemClock()
    installation = Installation({hoard.ISSUER.name: hoard.ISSUER}, hoard.ISSUER.name)
    workers = ThreadWorkers()
    controller = assemble(
        installation=installation,
        state_namespace=NAMESPACE,
        https={hoard.ISSUER.name: _NoCa()},
        objects=SimulatedObjects(store, leadership),
        leadership=leadership,
        tokens=tokens,
        clock=clock,
        entropy=SystemEntropy(),
        workers=workers,
        journal=Journals(LogJournal(), EventJournal(_NoOne(), clock)),
        concurrent_orders=8,
        probes=probes_of(installation, tokens, SimulatedGateway(lambda: tokens), clock),
        keeps_routes=True,
    )
    watch = _Watch(controller)
    tasks = [asyncio.ensure_future(watch.beat()), asyncio.ensure_future(controller.run())]
    try:
        yield watch
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        workers.close()


async def measure(certificates: int) -> Many:
    """Fill a store, start, and let things change."""
    store, empty = ObjectStore(), _resident_mib()
    hoard.fill(store, certificates)
    filled = _resident_mib()
    # As the program does; what the store holds it had to look at while that came.
    Collecting().begin()
    async with _running(store) as watch:
        await watch.passed()
        first = watch.taken()
        # What the first pass has written is looked at once more.
        await _let(watch, lambda _: watch._controller._wake.set(), 3)
        watch.taken()
        at_rest = await _let(watch, lambda _: watch._controller._wake.set())
        ingress_changed = await _let(watch, lambda number: _change_ingress(store, number))
        secret_changed = await _let(watch, lambda number: _change_secret(store, number))
        everything = await _let(watch, lambda _: store.touch(), 3)
        own_mib = _resident_mib() - filled
    waiting, waiting_and_changed = await _waiting(certificates)
    return Many(
        certificates,
        first,
        at_rest,
        ingress_changed,
        secret_changed,
        everything,
        waiting,
        waiting_and_changed,
        filled - empty,
        own_mib,
        hoard.ledger_bytes(certificates),
    )


async def _waiting(certificates: int) -> tuple[Passes, Passes]:
    """The passes while all wait for the same limit: where nothing changes, and one Ingress."""
    store = ObjectStore()
    hoard.fill_waiting(store, certificates)
    async with _running(store) as watch:
        await watch.passed()
        await _let(watch, lambda _: watch._controller._wake.set(), 3)
        at_rest = await _let(watch, lambda _: watch._controller._wake.set())
        return at_rest, await _let(watch, lambda number: _change_ingress(store, number))


async def _let(watch: _Watch, happen: Callable[[int], object], rounds: int = ROUNDS) -> Passes:
    """The passes that follow when something happens again and again."""
    watch.taken()
    for number in range(rounds):
        happen(number)
        await watch.passed()
    return watch.taken()


def _change_ingress(store: ObjectStore, number: int) -> None:
    """Its second name goes, or comes back: it is covered by the certificate all the same."""
    both = hoard.names_of(1)

    def change(ingress: Manifest) -> None:
        ingress["spec"]["tls"][0]["hosts"] = list(both if number % 2 else both[:1])

    store.edit("Ingress", "default", "web-1", change)


def _change_secret(store: ObjectStore, number: int) -> None:
    """Somebody puts a note on it."""

    def change(secret: Manifest) -> None:
        secret["metadata"]["annotations"]["note"] = str(number)

    store.edit("Secret", NAMESPACE, secret_name(1), change)


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def main() -> int:
    """Measure and show."""
    parser = argparse.ArgumentParser(prog="tests/bench/run many", description=__doc__)
    parser.add_argument("--certificates", type=int, default=10_000, help="so many [10000]")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    found = asyncio.run(measure(options.certificates))
    print(json.dumps(asdict(found), indent=1) if options.output == "json" else _text(found))
    return 0


def _text(found: Many) -> str:
    count, whole = found.certificates, PASS_SECONDS
    size = found.ledger_bytes
    return "\n".join(
        [
            f"{count} certificates that need nothing; load {os.getloadavg()[0]:.2f}",
            _row("first pass", found.first, whole),
            _row("everything looked at anew", found.everything_anew, whole),
            _row("pass at rest", found.at_rest, whole),
            _row("one Ingress changed", found.ingress_changed, CHANGE_SECONDS),
            _row("one Secret changed", found.secret_changed, CHANGE_SECONDS),
            "all wait for a limit of their CA:",
            _row("pass", found.waiting, WAITING_SECONDS),
            _row("one Ingress changed", found.waiting_and_changed, WAITING_SECONDS),
            _held(found),
            f"  ledger after all were ordered: {size} bytes{_met(size, LEDGER_BYTES)}",
        ]
    )


def _held(found: Many) -> str:
    own, objects, count = found.own_mib, found.objects_mib, found.certificates
    return (
        f"  held for each: {1024 * own / count:.1f} KiB, beside its objects of "
        f"{1024 * objects / count:.1f} KiB: {(own + objects) / count:.4f} MiB; "
        f"in all {own + objects:.0f} MiB"
    )


def _row(label: str, passes: Passes, wish: float) -> str:
    median, stall = statistics.median(passes.seconds), passes.longest_stall_seconds
    return (
        f"  {label:<26} median {1000 * median:7.1f} ms, max {1000 * max(passes.seconds):7.1f} ms"
        f"{_met(median, wish)}; longest stall {1000 * stall:6.1f} ms{_met(stall, STALL_SECONDS)}"
    )


def _met(value: float, wish: float) -> str:
    return " (met)" if value < wish else " (missed)"


if __name__ == "__main__":
    sys.exit(main())
