"""The API server goes away in the middle of an order, and comes back.

The order waits at the CA until the API server is gone: which moment it is is no chance. What the
gateway serves, and what the CA asks, needs no API server; only what is written has to wait for it.
"""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pebble.processes import LOOPBACK
from pebble.program import Program
from pebble.watching import Watch
from tests.cluster.bed import NAMESPACE, SECRET_NAME, Bed
from tests.cluster.manifests import ingress
from tests.cluster.seen import stored_names
from tests.cluster.spans import Spans
from tests.cluster.turnstile import AT_CHALLENGE, AT_FINALIZATION, AT_ORDER, Turnstile

WWW, MOBILE = "www.mydomain.com", "mobile.mydomain.com"
AWAY_SECONDS = 20.0
STORED_SECONDS = 5.0
"""After the API server is ready again."""


@pytest.fixture(scope="module")
def fragile_bed(bed: Bed, spans: Spans) -> Iterator[Bed]:
    """A bed whose API server the tests end and start. Only here nobody waits for istiod in between.

    It would find the API server by itself, but after up to half a minute.
    """
    bed.service("shop", "www")
    with spans.record():
        yield bed
        bed.stop_acmeistio()
    bed.restart_istiod()
    bed.clear()


@pytest.fixture
def nothing_known(fragile_bed: Bed) -> Iterator[Bed]:
    """The same without a certificate, and without a memory of one."""
    yield fragile_bed
    fragile_bed.stop_acmeistio()
    for name in (WWW, MOBILE):
        fragile_bed.api.delete("Ingress", "shop", name)
    for secret in (SECRET_NAME, "acmeistio-pending-keys"):
        fragile_bed.api.delete("Secret", NAMESPACE, secret)
    fragile_bed.api.delete("ConfigMap", NAMESPACE, "acmeistio-ledger")


def _order_under_way(bed: Bed, turnstile: Turnstile) -> Program:
    """Acmeistio with an order that stands before the turnstile."""
    program = bed.start_acmeistio(**turnstile.settings)
    bed.apply(ingress("shop", WWW, WWW, service="www"))
    turnstile.wait_for_arrival()
    return program


def _livez(bed: Bed) -> str:
    """The status of /livez."""
    with urllib.request.urlopen(f"http://{LOOPBACK}:{bed.admin_port}/livez", timeout=1) as answer:
        return str(answer.status)


def _back(bed: Bed, program: Program) -> float:
    """Start the API server; the seconds from its readiness to the stored certificate.

    Less than none: it takes requests before it says that it is ready.
    """
    bed.plane.start_api_server()
    ready = datetime.now(UTC)
    _wait_until_stored(bed, WWW)
    bed.wait_for(lambda: program.events("certificate-issued"), "the log says so")
    issued = program.events("certificate-issued")[0]
    return (datetime.fromisoformat(issued["timestamp"]) - ready).total_seconds()


def _wait_until_stored(bed: Bed, host: str) -> None:
    bed.wait_for(lambda: host in stored_names(bed), f"a certificate for {host} is in the Secret")


def test_it_is_away_for_a_while(
    nothing_known: Bed, tmp_path: Path, report: Callable[[str], None]
) -> None:
    """20 s in the middle of an order: one order, whose certificate is stored within 5 s.

    The process goes on all the time and says that it lives; what is declared afterwards is served
    as soon as ever.
    """
    bed, orders = nothing_known, nothing_known.ca.count("orders")
    with Turnstile(bed.ca, AT_FINALIZATION, tmp_path) as turnstile:
        program = _order_under_way(bed, turnstile)
        with Watch(lambda: _livez(bed)) as livez:
            bed.plane.stop_api_server()
            gone = time.monotonic()
            turnstile.open()
            time.sleep(AWAY_SECONDS - (time.monotonic() - gone))
            seconds = _back(bed, program)
        assert bed.ca.count("orders") - orders == 1
        begin = time.monotonic()
        bed.apply(ingress("shop", MOBILE, MOBILE, service="www"))
        _wait_until_stored(bed, MOBILE)
        later = time.monotonic() - begin
    report(
        f"API server away for {AWAY_SECONDS:.0f} s: certificate stored {seconds:+.2f} s from when"
        f" it was ready; that of another host {later:.2f} s after it was applied"
    )
    assert max(seconds, later) < STORED_SECONDS
    assert program.alive
    assert (livez.seen, livez.failures) == (["200"], [])


def test_acmeistio_starts_while_it_is_away(nothing_known: Bed, tmp_path: Path) -> None:
    """It waits for it, and goes on with the order that it finds written down."""
    bed, orders = nothing_known, nothing_known.ca.count("orders")
    with Turnstile(bed.ca, AT_FINALIZATION, tmp_path) as turnstile:
        _order_under_way(bed, turnstile).kill()
        bed.plane.kill_api_server()
        program = bed.start_acmeistio(**turnstile.settings)
        bed.wait_for(lambda: program.events("failed"), "it has met that nobody answers")
        turnstile.open()
        assert _back(bed, program) < STORED_SECONDS
    assert program.alive
    assert bed.ca.count("orders") - orders == 1


@pytest.mark.parametrize("moment", [AT_ORDER, AT_CHALLENGE])
def test_it_crashes(nothing_known: Bed, tmp_path: Path, moment: str) -> None:
    """At whatever moment of the order, be it before this is written down: no second order."""
    bed, orders = nothing_known, nothing_known.ca.count("orders")
    with Turnstile(bed.ca, moment, tmp_path) as turnstile:
        program = _order_under_way(bed, turnstile)
        bed.plane.kill_api_server()
        turnstile.open()
        assert _back(bed, program) < STORED_SECONDS
    assert program.alive
    assert bed.ca.count("orders") - orders == 1
