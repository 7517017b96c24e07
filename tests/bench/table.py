"""Results as a table, as JSON, and against the marks. Pure.

Owns the marks: what the project wants of itself. They inform; nothing fails when one is missed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.bench.cases import CASES, HELD, Case, Contestant, Memory, Results, Sample

RATE_SHARE = 0.5
"""Of the bare client's rate, with 200 certificates from a quick CA."""
DELAYED_FACTOR = 1.3
"""Times what the bare client takes, where the CA tarries."""
QUICK_SECONDS = 1.0
RESIDENT_MIB = 85.0
RECOGNISED_SECONDS = 1.5

TIME_HEAD = ("", "", "from start, s", "from ready, s", "CPU, s", "× bare", "mark", "")
MEMORY_HEAD = ("acmeistio holds", "", "resident, MiB", "peak, MiB", "", "", "mark", "")
BLANK = ("",) * len(TIME_HEAD)
Row = tuple[str, ...]
Pick = Callable[[list[float]], float]


@dataclass(frozen=True, slots=True)
class Mark:
    """One wish and what became of it."""

    wish: str
    verdict: str


def text(results: Results, headline: str) -> str:
    """The whole as plain text."""
    rows = [TIME_HEAD, *_case_rows(results), *_restart_rows(results)]
    memory = list(_memory_rows(results))
    table = _aligned([*rows, BLANK, MEMORY_HEAD, *memory] if memory else rows)
    return "\n".join(
        [headline, "", table, *(f"\nfailed: {failure}" for failure in results.failures)]
    )


def document(results: Results, about: dict[str, Any]) -> dict[str, Any]:
    """The whole as plain data: every sample, and the marks."""
    return {
        "about": about,
        "runs": [
            {
                "case": case.key,
                "contestant": str(contestant),
                "mark": _json(case_mark(results, case, contestant)),
                "samples": [asdict(sample) for sample in samples],
            }
            for (case, contestant), samples in results.samples.items()
        ],
        "empty": [asdict(memory) for memory in results.empty],
        "held": [asdict(held) for held in results.held],
        "held_marks": [_json(memory_mark(results)), _json(restart_mark(results))],
        "failures": results.failures,
    }


def _json(mark: Mark | None) -> dict[str, str] | None:
    return asdict(mark) if mark else None


def _case_rows(results: Results) -> Iterable[Row]:
    for case in CASES:
        label = f"{case.label}, CA tarries" if case.delayed else case.label
        for contestant in Contestant:
            samples = results.samples.get((case, contestant))
            if samples:
                beside = _ratios(results, case) if contestant is Contestant.ACMEISTIO else ""
                mark = _mark_cells(case_mark(results, case, contestant))
                yield label, str(contestant), *_sample_cells(samples), beside, *mark
                label = ""


def _sample_cells(samples: Sequence[Sample]) -> Row:
    return (
        _seconds(sample.seconds_from_start for sample in samples),
        _seconds(sample.seconds_from_ready for sample in samples),
        _seconds(sample.cpu_seconds for sample in samples),
    )


def _memory_rows(results: Results) -> Iterable[Row]:
    mark = _mark_cells(memory_mark(results))
    states: list[tuple[str, list[Memory], Row]] = [
        ("no certificates", results.empty, _mark_cells(None)),
        (f"{HELD.certificates}, just issued", [h.after_issuing for h in results.held], mark),
        (f"{HELD.certificates}, after a restart", [h.after_restart for h in results.held], mark),
    ]
    for label, memories, cells in states:
        if memories:
            resident = _mib(memory.resident for memory in memories)
            peak = _mib(memory.peak for memory in memories)
            yield label, "", resident, peak, "", "", *cells


def _restart_rows(results: Results) -> Iterable[Row]:
    samples = [held.recognised for held in results.held]
    if samples:
        label = f"restart: {HELD.certificates} need nothing"
        mark = _mark_cells(restart_mark(results))
        yield label, str(Contestant.ACMEISTIO), *_sample_cells(samples), "", *mark


def case_mark(results: Results, case: Case, contestant: Contestant) -> Mark | None:
    """What is wished of acmeistio in one case, if anything."""
    ours = results.samples.get((case, Contestant.ACMEISTIO))
    if contestant is Contestant.BARE or not ours:
        return None
    if case.delayed or case == HELD:
        factor = DELAYED_FACTOR if case.delayed else 1 / RATE_SHARE
        ratio = _ratio(results, case)
        return Mark(f"≤ {factor:g} × bare", _met(ratio <= factor)) if ratio else None
    if case.certificates > 1 or case.names > 1:
        return _within(ours, QUICK_SECONDS)
    return None


def memory_mark(results: Results) -> Mark | None:
    """What is wished of memory: of the larger of the two medians."""
    if not results.held:
        return None
    medians = [
        statistics.median(memory.resident for memory in memories)
        for memories in (
            [held.after_issuing for held in results.held],
            [held.after_restart for held in results.held],
        )
    ]
    return Mark(f"< {RESIDENT_MIB:.0f} MiB", _met(max(medians) < RESIDENT_MIB))


def restart_mark(results: Results) -> Mark | None:
    """What is wished of a restart."""
    samples = [held.recognised for held in results.held]
    return _within(samples, RECOGNISED_SECONDS) if samples else None


def _ratio(results: Results, case: Case, pick: Pick = statistics.median) -> float | None:
    """To the bare client, from ready: what an import costs is not what is compared here."""
    ours = results.samples.get((case, Contestant.ACMEISTIO))
    bare = results.samples.get((case, Contestant.BARE))
    return _from_ready(ours, pick) / _from_ready(bare, pick) if ours and bare else None


def _ratios(results: Results, case: Case) -> str:
    ratios = [_ratio(results, case, pick) for pick in (min, statistics.median)]
    return " / ".join(dict.fromkeys(f"{ratio:.2f}" for ratio in ratios if ratio))


def _within(samples: Sequence[Sample], seconds: float) -> Mark:
    """By the medians. Strictly the process's start counts; the peers' probe began at ready."""
    if statistics.median(sample.seconds_from_start for sample in samples) < seconds:
        verdict = _met(True)
    elif _from_ready(samples) < seconds:
        verdict = "met from ready only"
    else:
        verdict = _met(False)
    return Mark(f"< {seconds:g} s", verdict)


def _from_ready(samples: Sequence[Sample], pick: Pick = statistics.median) -> float:
    return pick([sample.seconds_from_ready for sample in samples])


def _met(yes: bool) -> str:
    return "met" if yes else "missed"


def _mark_cells(mark: Mark | None) -> Row:
    return (mark.wish, mark.verdict) if mark else ("", "")


def _seconds(values: Iterable[float]) -> str:
    return _range(values, lambda value: f"{value:.2f}")


def _mib(values: Iterable[float]) -> str:
    return _range(values, lambda value: f"{value:.1f}")


def _range(values: Iterable[float], show: Callable[[float], str]) -> str:
    """Minimum and median; of one run there is nothing more to say."""
    known = list(values)
    least = show(min(known))
    return least if len(known) == 1 else f"{least} / {show(statistics.median(known))}"


def _aligned(rows: Sequence[Row]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
