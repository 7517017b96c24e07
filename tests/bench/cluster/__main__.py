"""The command `tests/bench/run cluster`: measures, and shows the figures.

Result on standard output, progress on standard error. How quick it was is never a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench.cases import HELD
from tests.bench.cluster import declared, gateway_cost, many, served
from tests.bench.cluster.declared import Declared
from tests.bench.cluster.gateway_cost import GatewayCost, Latency
from tests.bench.cluster.many import Many
from tests.bench.cluster.served import Served

PARTS = ("served", "many", "declared", "gateway-cost")


def main() -> int:
    """Measure and show."""
    options = _options()
    load_before = os.getloadavg()[0]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        if "served" in options.parts:
            rounds, rest = options.rounds or 10, options.rest_seconds
            found["served"] = served.measure(folder / "served", rounds, rest, _tell("served"))
        if "many" in options.parts:
            rest = options.rest_seconds
            found["many"] = many.measure(folder / "many", HELD, rest, _tell("many"))
        if "declared" in options.parts:
            rounds, rest = options.rounds or 10, options.rest_seconds
            found["declared"] = declared.measure(
                folder / "declared", rounds, rest, _tell("declared")
            )
        if "gateway-cost" in options.parts:
            rounds = options.rounds or 3
            found["gateway-cost"] = gateway_cost.measure(
                folder / "cost", rounds, _tell("gateway-cost")
            )
    if options.output == "json":
        print(json.dumps({part: asdict(figures) for part, figures in found.items()}, indent=1))
        return 0
    print(f"load {load_before:.2f} before, {os.getloadavg()[0]:.2f} after; {os.cpu_count()} CPUs")
    for part, figures in found.items():
        print("\n" + _SHOWN[part](figures))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tests/bench/run cluster",
        description="How quick acmeistio is in a cluster, and what it costs there.",
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=PARTS,
        help="served: apply to gateway; many: 200 certificates, memory, requests; "
        "declared: a change, a start, memory and requests where 2,620 objects are declared, of "
        "which 50 ask; gateway-cost: other requests with and without our routes [all]",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        help="hosts of served [10], changes of declared [10], series of the cost [3]",
    )
    parser.add_argument(
        "--rest-seconds",
        type=float,
        default=60.0,
        help="requests at rest are counted so long [60]",
    )
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    return parser.parse_args()


def _tell(part: str) -> Any:
    begin = time.monotonic()

    def tell(news: str) -> None:
        print(f"{part} · {time.monotonic() - begin:.0f} s · {news}", file=sys.stderr)

    return tell


def _served(found: Served) -> str:
    return (
        "an annotated Ingress applied → the CA's certificate served by the gateway\n"
        f"  {len(found.others)} hosts: median {statistics.median(found.others):.2f} s, "
        f"max {max(found.others):.2f} s; the first, whose Secret is new: {found.first:.2f} s\n"
        f"  resident {found.resident_mib:.1f} MiB; at rest "
        f"{found.requests_per_minute_at_rest:.1f} requests to the API server a minute"
    )


def _many(found: Many) -> str:
    ours, bare = found.acmeistio, found.bare
    ratio = ours.seconds_from_ready / bare.seconds_from_ready
    total = sum(found.requests.values())
    by_kind = sorted(found.requests.items(), key=lambda item: -item[1])
    return (
        f"{HELD.certificates} certificates with their Secrets in an API server\n"
        f"  from ready: acmeistio {ours.seconds_from_ready:.2f} s, bare "
        f"{bare.seconds_from_ready:.2f} s: × {ratio:.2f}; "
        f"CPU {ours.cpu_seconds:.2f} s, {bare.cpu_seconds:.2f} s\n"
        f"  resident {found.memory.resident:.1f} MiB, peak {found.memory.peak:.1f}\n"
        f"  requests to the API server: {total / HELD.certificates:.2f} a certificate, "
        f"{found.requests_per_minute_at_rest:.1f} a minute at rest\n  "
        + ", ".join(f"{count} {what}" for what, count in by_kind)
    )


def _declared(found: Declared) -> str:
    starts = [start.seconds for start in found.starts]
    cpu_of_start = statistics.median(start.cpu_seconds for start in found.starts)
    burst = found.burst
    return (
        f"{found.objects} objects declared in an API server, of which {found.asking} ask\n"
        f"  one annotation changed → planned: {len(found.changes)} changes, "
        f"median {statistics.median(found.changes):.2f} s, max {max(found.changes):.2f} s; "
        f"CPU {found.cpu_per_change:.3f} s each\n"
        f"  {burst.changes} objects changed in {burst.seconds_changing:.2f} s → planned "
        f"{burst.seconds_after:.2f} s after the last; CPU {burst.cpu_seconds:.2f} s\n"
        f"  process start → first look: {len(starts)} starts, "
        f"median {statistics.median(starts):.2f} s, max {max(starts):.2f} s; "
        f"CPU {cpu_of_start:.2f} s\n"
        f"  resident {found.memory.resident:.1f} MiB, peak {found.memory.peak:.1f}\n"
        f"  at rest {found.requests_per_minute_at_rest:.1f} requests to the API server and "
        f"{found.cpu_per_minute_at_rest:.2f} s of CPU a minute"
    )


def _gateway_cost(found: GatewayCost) -> str:
    return (
        f"other requests through the gateway, {gateway_cost.REQUESTS} on one connection\n"
        f"  with our routes    {_latency(found.with_routes)}\n"
        f"  without            {_latency(found.without)}"
    )


def _latency(found: Latency) -> str:
    return (
        f"median {' '.join(f'{value:.3f}' for value in found.medians)} ms; "
        f"p99 {' '.join(f'{value:.2f}' for value in found.p99s)} ms"
    )


_SHOWN: dict[str, Any] = {
    "served": _served,
    "many": _many,
    "declared": _declared,
    "gateway-cost": _gateway_cost,
}

if __name__ == "__main__":
    sys.exit(main())
