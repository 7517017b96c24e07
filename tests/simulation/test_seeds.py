"""Stories drawn from seeds: whatever happens in them, the invariants hold (invariants.py).

ACMEISTIO_SEEDS=7,12     these stories, as an earlier run printed them
ACMEISTIO_SEED_COUNT=50  so many new ones
"""

from __future__ import annotations

import multiprocessing
import os
import secrets
from dataclasses import dataclass

from acmeistio import controller
from tests.simulated.virtual_time import run
from tests.simulation.story import CERTIFICATES, DAYS, Story

FIXED = (1, 13, 22, 24, 34, 45, 47, 301)
"""Told where nothing else is asked for: each has found a mistake."""


def test_whatever_happens() -> None:
    """No seed breaks an invariant; a failure names its seed, and what happened before."""
    told = _in_fresh_processes([(seed, CERTIFICATES, DAYS) for seed in _seeds()])
    broken = [f"ACMEISTIO_SEEDS={one.seed}: {one.why}" for one in told if one.why]
    assert not broken, f"{len(broken)} of {len(told)} stories:\n\n" + "\n\n".join(broken[:3])


def test_a_seed_tells_the_same_story_again() -> None:
    """A failure can be repeated: equal seeds, equal requests."""
    one, other = _in_fresh_processes([(1, 6, 12)] * 2)
    assert one == other
    assert one.serials


def _seeds() -> list[int]:
    asked, count = os.environ.get("ACMEISTIO_SEEDS"), os.environ.get("ACMEISTIO_SEED_COUNT")
    if asked:
        return list(map(int, asked.split(",")))
    return [secrets.randbelow(10**9) for _ in range(int(count))] if count else list(FIXED)


@dataclass(frozen=True)
class _Told:
    """How a story went: `why` it broke, "" if it did not; what the CA was asked for, and issued."""

    seed: int
    why: str
    requests: tuple[tuple[str, int], ...]
    serials: tuple[int, ...]


def _in_fresh_processes(asked: list[tuple[int, int, int]]) -> list[_Told]:
    """What memory an earlier story left in a process would change the next."""
    processes = multiprocessing.get_context("spawn")
    with processes.Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        return pool.starmap(_told, asked, chunksize=1)


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
