"""From applying an annotated Ingress to the CA's certificate at the gateway, one after the other.

The clock begins before the request that applies it, and stops with the first TLS handshake that
verifies for the new host. istiod gathers changes as it does in every installation.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench.processes import memory_of
from tests.cluster.bed import Bed
from tests.cluster.manifests import ingress
from tests.cluster.seen import names

DOMAIN = "bench.example"
LOOK_SECONDS = 0.005
QUIET_SECONDS = 2.0
"""Between two, so that nothing is gathered with what came before."""


@dataclass(frozen=True)
class Served:
    """Seconds for the first host, whose Secret did not exist, and for each of the others."""

    first: float
    others: list[float]
    resident_mib: float
    requests_per_minute_at_rest: float


def measure(folder: Path, rounds: int, rest_seconds: float, tell: Callable[[str], None]) -> Served:
    """One bed, one acmeistio, so many hosts after the first."""
    with Bed(folder) as bed:
        tell(f"the cluster started in {sum(bed.seconds.values()):.1f} s")
        program = bed.start_acmeistio()
        bed.service("bench", "web")
        time.sleep(QUIET_SECONDS)
        seconds = []
        for number in range(rounds + 1):
            seconds.append(_until_served(bed, f"h{number}.{DOMAIN}", f"web-{number}"))
            tell(f"h{number} was served after {seconds[-1]:.2f} s")
            time.sleep(QUIET_SECONDS)
        before = len(bed.audit())
        tell(f"at rest for {rest_seconds:.0f} s")
        time.sleep(rest_seconds)
        at_rest = (len(bed.audit()) - before) * 60 / rest_seconds
        return Served(seconds[0], seconds[1:], memory_of(program.pid).resident, at_rest)


def _until_served(bed: Bed, host: str, name: str) -> float:
    manifest = ingress("bench", name, host, service="web")
    began = time.monotonic()
    bed.apply(manifest)
    while host not in names(bed, host):
        time.sleep(LOOK_SECONDS)
    return time.monotonic() - began
