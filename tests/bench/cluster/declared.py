"""What acmeistio costs, and how quick it is, where many objects are declared that ask for nothing.

The objects are those of crowd.py. Measured: from the start of the process to its first look, with
the certificate stored already; memory and requests to the API server at rest; from before the
request that changes one annotation to the log line of the plan that has it (the value is wrong, so
that nothing is ordered: the line is its Defect's); CPU of the process for such a change, all
included: the watch, one look and the Event on the object; and the same where many objects change
together, as when a chart of all teams is upgraded.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pebble.backends import backend
from pebble.program import Event, Program
from pebble.self_signed import self_signed
from tests.bench.cases import Memory
from tests.bench.cluster import crowd
from tests.bench.processes import cpu_seconds_of, memory_of
from tests.cluster.api import CONNECTIONS
from tests.cluster.bed import NAMESPACE, Bed

STARTS = 3
BURST = 200
"""Objects that change together."""
LOOK_SECONDS = 0.005
QUIET_SECONDS = 2.0
"""Between two changes, so that nothing is gathered with what came before; and without a word of
istiod to the gateway for so long, its configuration is taken to be settled."""
PATIENCE_SECONDS = 300.0
"""istiod and Envoy take so many objects up within seconds, on a busy machine within minutes."""

_WRONG = {"metadata": {"annotations": {"acmeistio.io/tls": "maybe"}}}
_UPGRADED = {"metadata": {"labels": {"helm.sh/chart": f"{crowd.BACKEND}-4.2.1"}}}

Tell = Callable[[str], None]


@dataclass(frozen=True)
class FirstLook:
    """Of one start: until the first look was done, and the CPU that the process took for it."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Burst:
    """Many changes as fast as the API server takes them, the last of which changes the plan."""

    changes: int
    seconds_changing: float
    seconds_after: float
    """From the answer to the last change to the plan that has it."""
    cpu_seconds: float


@dataclass(frozen=True)
class Declared:
    """Seconds and CPU seconds, one value of each start or change; `objects` are all there are."""

    objects: int
    asking: int
    starts: list[FirstLook]
    memory: Memory
    requests_per_minute_at_rest: float
    cpu_per_minute_at_rest: float
    changes: list[float]
    cpu_per_change: float
    burst: Burst


def measure(folder: Path, rounds: int, rest_seconds: float, tell: Tell) -> Declared:
    """One bed with all objects; several starts, then so many changes of one annotation each."""
    with Bed(folder) as bed, backend(crowd.BACKEND) as port:
        objects = crowd.objects()
        _furnish(bed, port, objects, tell)
        _have_certificate(bed, tell)
        starts = [_first_look(bed, tell) for _ in range(STARTS)]
        program = _started(bed)
        _settle(bed)
        memory = memory_of(program.pid)
        tell(f"{memory.resident:.1f} MiB; at rest for {rest_seconds:.0f} s")
        requests, cpu_at_rest = _at_rest(bed, program, rest_seconds)
        silent = crowd.silent_ingresses(rounds + BURST)
        before = cpu_seconds_of(program.pid)
        changes = [_until_planned(bed, program, *ref) for ref in silent[:rounds]]
        tell("changes: " + " ".join(f"{seconds:.3f}" for seconds in changes))
        cpu_per_change = (cpu_seconds_of(program.pid) - before) / rounds
        return Declared(
            objects=len(objects),
            asking=crowd.ASKING,
            starts=starts,
            memory=memory,
            requests_per_minute_at_rest=requests,
            cpu_per_minute_at_rest=cpu_at_rest,
            changes=changes,
            cpu_per_change=cpu_per_change,
            burst=_burst(bed, program, silent[rounds:], tell),
        )


def _furnish(bed: Bed, port: int, objects: list[dict[str, Any]], tell: Tell) -> None:
    """Create all; return when istiod has told the gateway of all."""
    began = time.monotonic()
    certificate, key = self_signed("somebody else's")
    bed.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"namespace": NAMESPACE, "name": crowd.OTHER_SECRET},
            "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": certificate.decode(), "tls.key": key.decode()},
        }
    )
    for team in crowd.TEAMS:
        bed.namespace(team)
        bed.expose(team, crowd.BACKEND, port)
    with ThreadPoolExecutor(CONNECTIONS) as aside:
        list(aside.map(bed.api.create, objects))
    tell(f"{len(objects)} objects were created in {time.monotonic() - began:.1f} s")
    bed.wait_for(
        lambda: all(_answers(bed, host) for host in crowd.last_hosts()),
        "the gateway has routes to what came last",
        PATIENCE_SECONDS,
    )
    _settle(bed)
    tell(f"the gateway has settled after {time.monotonic() - began:.1f} s")


def _answers(bed: Bed, host: str) -> bool:
    try:
        return bed.gateway.get(f"http://{host}/").status == 200
    except OSError:
        return False


def _settle(bed: Bed) -> None:
    """Wait until istiod sends the gateway nothing any more.

    Both take whole seconds of CPU for so many objects, and what they take then is missing in what
    is measured here: they are on the machine of acmeistio, as they are in no cluster.
    """
    before: dict[str, int] | None = None
    while before != (now := bed.gateway.stats("update_success$")):
        before = now
        time.sleep(QUIET_SECONDS)


def _have_certificate(bed: Bed, tell: Tell) -> None:
    """The first life of acmeistio orders the certificate; what is measured are those after it."""
    began = time.monotonic()
    program = bed.start_acmeistio()
    bed.wait_for(
        lambda: program.events("certificate-issued"), "the certificate came", PATIENCE_SECONDS
    )
    names = len(program.events("certificate-issued")[0]["names"])
    if names != crowd.NAMES:
        raise ValueError(f"the certificate has {names} names, and {crowd.NAMES} were asked for")
    tell(f"a certificate of {names} names after {time.monotonic() - began:.1f} s")
    bed.stop_acmeistio()
    _settle(bed)


def _first_look(bed: Bed, tell: Tell) -> FirstLook:
    """Start, look, stop."""
    began = time.time()
    program = bed.launch_acmeistio()
    seconds = _epoch(_line(program, "look-done")) - began
    look = FirstLook(seconds, cpu_seconds_of(program.pid))
    bed.stop_acmeistio()
    tell(f"the first look was done after {look.seconds:.2f} s, CPU {look.cpu_seconds:.2f} s")
    return look


def _started(bed: Bed) -> Program:
    """An acmeistio that finds nothing to do."""
    program = bed.start_acmeistio()
    look = _line(program, "look-done")
    if look["to_do"] or look["deferred"]:
        raise ValueError(f"acmeistio should be at rest, and is not: {look}")
    return program


def _at_rest(bed: Bed, program: Program, seconds: float) -> tuple[float, float]:
    """Requests to the API server a minute, and seconds of CPU a minute."""
    requests, cpu = len(bed.audit()), cpu_seconds_of(program.pid)
    time.sleep(seconds)
    a_minute = 60 / seconds
    return (
        (len(bed.audit()) - requests) * a_minute,
        (cpu_seconds_of(program.pid) - cpu) * a_minute,
    )


def _until_planned(bed: Bed, program: Program, namespace: str, name: str) -> float:
    """From before one annotation is changed to the log line of the plan that has it."""
    time.sleep(QUIET_SECONDS)
    began = time.time()
    bed.api.patch("Ingress", namespace, name, _WRONG)
    return _epoch(_line(program, "defect", f"Ingress {namespace}/{name}")) - began


def _burst(bed: Bed, program: Program, refs: list[tuple[str, str]], tell: Tell) -> Burst:
    """Other Ingresses get a new label, then the last of them the annotation."""
    time.sleep(QUIET_SECONDS)
    *others, (namespace, name) = refs
    cpu, began = cpu_seconds_of(program.pid), time.time()
    with ThreadPoolExecutor(CONNECTIONS) as aside:
        list(aside.map(lambda ref: bed.api.patch("Ingress", ref[0], ref[1], _UPGRADED), others))
    bed.api.patch("Ingress", namespace, name, _WRONG)
    changed = time.time()
    planned = _epoch(_line(program, "defect", f"Ingress {namespace}/{name}"))
    tell(f"{len(refs)} changes in {changed - began:.2f} s, planned {planned - changed:.2f} s later")
    cpu_seconds = cpu_seconds_of(program.pid) - cpu
    return Burst(len(refs), changed - began, planned - changed, cpu_seconds)


def _line(program: Program, event: str, about: str | None = None) -> Event:
    """The first line of an event, about one object if it is named, as soon as it is there."""
    found: list[Event] = []

    def there() -> bool:
        found.extend(e for e in program.events(event) if about in (None, e.get("object")))
        return bool(found)

    deadline = time.monotonic() + PATIENCE_SECONDS
    while not there():
        if time.monotonic() > deadline or not program.alive:
            raise TimeoutError(f"no line {event} {about or ''}\n{program.output[-2000:]}")
        time.sleep(LOOK_SECONDS)
    return found[0]


def _epoch(event: Event) -> float:
    """When a line was written, by the program's own clock, which is the machine's."""
    return datetime.fromisoformat(event["timestamp"]).timestamp()
