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

COLUMNS = ("", "", "from start, s", "from ready, s", "CPU s", "mark", "")
Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """One wish and what became of it."""

    wish: str
    verdict: str


def text(results: Results, headline: str) -> str:
    """The whole as plain text."""
    parts = [headline, _aligned([COLUMNS, *_case_rows(results)])]
    if results.empty or results.held:
        head = ("acmeistio holds", "", "resident, MiB", "peak, MiB", "", "mark", "")
        parts.append(_aligned([head, *_memory_rows(results)]))
    if any(case == HELD for case, _ in results.samples) and results.held:
        parts.append(_aligned([COLUMNS, *_restart_rows(results)]))
    parts.extend(f"failed: {failure}" for failure in results.failures)
    return "\n\n".join(parts)


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
                mark = case_mark(results, case, contestant)
                yield label, str(contestant), *_sample_cells(samples), *_mark_cells(mark)
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
            yield label, "", resident, _mib(memory.peak for memory in memories), "", *cells


def _restart_rows(results: Results) -> Iterable[Row]:
    samples = [held.recognised for held in results.held]
    label = f"restart: {HELD.certificates} need nothing"
    cells = _sample_cells(samples)
    yield label, str(Contestant.ACMEISTIO), *cells, *_mark_cells(restart_mark(results))


def case_mark(results: Results, case: Case, contestant: Contestant) -> Mark | None:
    """What is wished of acmeistio in one case, if anything."""
    ours = results.samples.get((case, Contestant.ACMEISTIO))
    bare = results.samples.get((case, Contestant.BARE))
    if contestant is Contestant.BARE or not ours:
        return None
    if case.delayed or case == HELD:
        if not bare:
            return None
        return _beside(ours, bare, DELAYED_FACTOR if case.delayed else 1 / RATE_SHARE)
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


def _beside(ours: Sequence[Sample], bare: Sequence[Sample], factor: float) -> Mark:
    """By the medians from ready: what an import costs is not what is compared here."""
    ratio = _median_from_ready(ours) / _median_from_ready(bare)
    return Mark(f"≤ {factor:g} × bare", f"{ratio:.2f} ×: {_met(ratio <= factor)}")


def _within(samples: Sequence[Sample], seconds: float) -> Mark:
    """By the medians. Strictly the process's start counts; the peers' probe began at ready."""
    if statistics.median(sample.seconds_from_start for sample in samples) < seconds:
        verdict = _met(True)
    elif _median_from_ready(samples) < seconds:
        verdict = "met from ready only"
    else:
        verdict = _met(False)
    return Mark(f"< {seconds:g} s", verdict)


def _median_from_ready(samples: Sequence[Sample]) -> float:
    return statistics.median(sample.seconds_from_ready for sample in samples)


def _met(yes: bool) -> str:
    return "met" if yes else "missed"


def _mark_cells(mark: Mark | None) -> Row:
    return (mark.wish, mark.verdict) if mark else ("", "")


def _seconds(values: Iterable[float]) -> str:
    return _range(values, lambda value: f"{value:.2f}")


def _mib(values: Iterable[float]) -> str:
    return _range(values, lambda value: f"{value:.0f}")


def _range(values: Iterable[float], show: Callable[[float], str]) -> str:
    """Minimum and median."""
    known = list(values)
    return f"{show(min(known))} / {show(statistics.median(known))}"


def _aligned(rows: Sequence[Row]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
