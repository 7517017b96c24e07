"""Stories drawn from seeds: whatever happens in them, the invariants hold (invariants.py).

ACMEISTIO_SEEDS=7,12     these stories, as an earlier run printed them
ACMEISTIO_SEED_COUNT=50  so many new ones

Where nothing is asked for: those that have found a mistake before, and new ones for some minutes.
"""

from __future__ import annotations

import multiprocessing
import os
import secrets
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.pool import AsyncResult

from acmeistio import controller
from tests.simulated.virtual_time import run
from tests.simulation.story import CERTIFICATES, DAYS, Story

FIXED = (1, 13, 22, 24, 34, 45, 47, 301)
"""Each has found a mistake."""

NEW_SECONDS = 180.0
"""So long others are begun beside them."""


def test_whatever_happens() -> None:
    """No seed breaks an invariant; a failure names its seed, and what happened before."""
    told = list(_in_fresh_processes((seed, CERTIFICATES, DAYS) for seed in _seeds()))
    print(f"{len(told)} stories: ACMEISTIO_SEEDS={','.join(str(one.seed) for one in told)}")
    broken = [f"ACMEISTIO_SEEDS={one.seed}: {one.why}" for one in told if one.why]
    assert not broken, f"{len(broken)} of {len(told)} stories:\n\n" + "\n\n".join(broken[:3])


def test_a_seed_tells_the_same_story_again() -> None:
    """A failure can be repeated: equal seeds, equal requests."""
    one, other = _in_fresh_processes([(1, 6, 12)] * 2)
    assert one == other
    assert one.serials


def _seeds() -> Iterator[int]:
    asked, count = os.environ.get("ACMEISTIO_SEEDS"), os.environ.get("ACMEISTIO_SEED_COUNT")
    if asked:
        yield from map(int, asked.split(","))
    elif count:
        yield from (secrets.randbelow(10**9) for _ in range(int(count)))
    else:
        yield from FIXED
        until = time.monotonic() + NEW_SECONDS
        while time.monotonic() < until:
            yield secrets.randbelow(10**9)


@dataclass(frozen=True)
class _Told:
    """How a story went: `why` it broke, "" if it did not; what the CA was asked for, and issued."""

    seed: int
    why: str
    requests: tuple[tuple[str, int], ...]
    serials: tuple[int, ...]


def _in_fresh_processes(asked: Iterable[tuple[int, int, int]]) -> Iterator[_Told]:
    """What memory an earlier story left in a process would change the next."""
    processes, at_once = multiprocessing.get_context("spawn"), os.cpu_count() or 1
    with processes.Pool(at_once, maxtasksperchild=1) as pool:
        begun: deque[AsyncResult[_Told]] = deque()
        for arguments in asked:
            begun.append(pool.apply_async(_told, arguments))
            if len(begun) > at_once:
                yield begun.popleft().get()
        yield from (one.get() for one in begun)


def _told(seed: int, certificates: int, days: int) -> _Told:
    controller.LONGEST_SLEEP_SECONDS = 6 * 3600.0
    return run(_tell(seed, certificates, days))


async def _tell(seed: int, certificates: int, days: int) -> _Told:
    story, why = Story(seed, certificates=certificates, days=days), ""
    try:
        await story.tell()
    except AssertionError as error:
        why = "\n".join([str(error), *story.told[-12:]])
    ca = story.world.ca
    requests = tuple(sorted((str(kind), times) for kind, times in ca.totals.requests.items()))
    return _Told(seed, why, requests, tuple(each.serial for each in ca.certificates))
