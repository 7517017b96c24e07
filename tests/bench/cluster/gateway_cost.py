"""What the permanent routes cost everybody else: latency of a backend's answers, with and without.

All requests of a series are on one connection, one after the other. Series take turns, so that
what else the machine does meets both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.bed import Bed
from tests.cluster.gateway import ask
from tests.cluster.manifests import ingress

HOST = "web.bench.example"
REQUESTS = 3000
WARM_UP_REQUESTS = 300
_CHALLENGE = f"http://{HOST}/.well-known/acme-challenge/token"
_HELLO, _NOBODY_THERE = 200, 503


@dataclass
class Latency:
    """Milliseconds, one value of each series."""

    medians: list[float] = field(default_factory=list)
    p99s: list[float] = field(default_factory=list)

    def add(self, milliseconds: list[float]) -> None:
        """A series."""
        self.medians.append(statistics.median(milliseconds))
        self.p99s.append(statistics.quantiles(milliseconds, n=100)[98])


@dataclass(frozen=True)
class GatewayCost:
    """Both over HTTP."""

    with_routes: Latency
    without: Latency


def measure(folder: Path, rounds: int, tell: Callable[[str], None]) -> GatewayCost:
    """So many series each way. acmeistio itself does not run: nobody asks it here."""
    cost = GatewayCost(Latency(), Latency())
    with Bed(folder) as bed:
        bed.service("bench", "web")
        bed.apply(ingress("bench", "web", HOST, service="web"))
        for number in range(1, rounds + 1):
            _have_routes(bed)
            cost.with_routes.add(_series(bed))
            _have_no_routes(bed)
            cost.without.add(_series(bed))
            tell(
                f"series {number} of {rounds}: {cost.with_routes.medians[-1]:.3f} ms with, "
                f"{cost.without.medians[-1]:.3f} ms without"
            )
    return cost


def _have_routes(bed: Bed) -> None:
    bed.route()
    bed.wait_for(
        lambda: bed.gateway.get(_CHALLENGE).status == _NOBODY_THERE, "the routes are there"
    )


def _have_no_routes(bed: Bed) -> None:
    bed.unroute()
    bed.wait_for(lambda: bed.gateway.get(_CHALLENGE).status == _HELLO, "the routes are gone")


def _series(bed: Bed) -> list[float]:
    with closing(bed.gateway.connect()) as connection:
        for _ in range(WARM_UP_REQUESTS):
            ask(connection, HOST)
        taken = []
        for _ in range(REQUESTS):
            began = time.perf_counter()
            answer = ask(connection, HOST)
            taken.append((time.perf_counter() - began) * 1000)
            if answer.status != _HELLO:
                raise ValueError(f"the backend's answer was {answer.status}")
    return taken
