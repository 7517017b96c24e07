"""The command `python -m tests.bench`: its options, its order of runs, its progress.

Contestants take turns within each round, so that what else the machine does meets both. Result
on standard output, progress on standard error. Exit code 1 if certificates are missing or wrong;
how fast it was is never a failure.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from typing import Any

from tests.bench.bare_client import AT_ONCE
from tests.bench.cases import CASES, GIVEN_UP, Case, Contestant, Results
from tests.bench.runs import Tell, measure, measure_empty
from tests.bench.table import document, text


def main() -> int:
    """Measure and show."""
    options = _options()
    contestants = [options.only] if options.only else list(Contestant)
    cases = [case for case in CASES if _wanted(case, options.cases)]
    load_before = os.getloadavg()[0]
    results = _run_all(cases, contestants, options.rounds)
    about = _about(options.rounds, load_before)
    if options.output == "json":
        print(json.dumps(document(results, about), indent=1))
    else:
        print(text(results, _headline(about)))
    return int(any(GIVEN_UP in failure for failure in results.failures))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tests/bench/run",
        description="How fast acmeistio is against a local Pebble, beside a bare client.",
    )
    parser.add_argument("--rounds", type=_positive, default=3, help="runs of each case [3]")
    parser.add_argument("--only", type=Contestant, choices=list(Contestant), help="leave one out")
    parser.add_argument(
        "--cases",
        nargs="+",
        default=["*"],
        metavar="PATTERN",
        help=f"of {', '.join(case.key for case in CASES)}; such as '*x1', '*-delayed' [all]",
    )
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    return parser.parse_args()


def _positive(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _wanted(case: Case, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(case.key, pattern) for pattern in patterns)


def _run_all(cases: Sequence[Case], contestants: Sequence[Contestant], rounds: int) -> Results:
    results = Results()
    for number in range(1, rounds + 1):
        tell = _teller(f"round {number} of {rounds}")
        for case in cases:
            for contestant in contestants:
                measure(case, contestant, results, tell)
        if Contestant.ACMEISTIO in contestants:
            measure_empty(results, tell)
    return results


def _teller(prefix: str) -> Tell:
    begin = time.monotonic()

    def tell(news: str) -> None:
        print(f"{prefix} · {time.monotonic() - begin:.0f} s · {news}", file=sys.stderr)

    return tell


def _about(rounds: int, load_before: float) -> dict[str, Any]:
    return {
        "rounds": rounds,
        "orders_at_once": AT_ONCE,
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "load_before": round(load_before, 2),
        "load_after": round(os.getloadavg()[0], 2),
    }


def _headline(about: dict[str, Any]) -> str:
    return (
        "acmeistio beside a bare client, against a fresh local Pebble for every run\n"
        f"min / median of {about['rounds']}; {about['orders_at_once']} orders at once; "
        f"{about['cpus']} CPUs; Python {about['python']}; "
        f"load {about['load_before']} before, {about['load_after']} after"
    )


if __name__ == "__main__":
    sys.exit(main())
