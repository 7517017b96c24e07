"""No name blocks another: a name that fails validation."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.pebble.program import HOSTS, SHOP, Site

PASSES_SECONDS = 3.0
"""Long enough for many passes over all that is declared."""

NOWHERE = {
    "a name that no DNS server knows": lambda site: site.ca.servfail(SHOP),
    "an address where nobody listens": lambda site: site.ca.set_addresses(SHOP, ["127.0.0.9"]),
}


@pytest.mark.parametrize("break_dns", NOWHERE.values(), ids=NOWHERE.keys())
def test_a_name_that_fails_from_the_start_costs_one_order(
    site: Site, break_dns: Callable[[Site], None]
) -> None:
    """The order of three names fails by one, the next goes without it: two orders, no more.

    The user is told which name, why, and when it is tried again.
    """
    break_dns(site)
    site.declare(*HOSTS, SHOP)
    program = site.start()
    site.wait_for_certificate(HOSTS)
    pass_often(site)
    assert site.ca.count("orders") == 2
    (defect,) = program.events("defect")
    assert defect["object"] == "Ingress default/helloworld"
    assert defect["reason"] == "ValidationFailed"
    assert SHOP in defect["sentence"]
    assert "tried again at" in defect["remedy"]


def test_a_name_that_fails_when_added_costs_one_order(site: Site) -> None:
    """The certificate that is served stays as it is, and only one order is spent.

    When the name is taken away and declared again, after its DNS was put right, it is ordered at
    once: its declaration is another one.
    """
    program = site.start()
    first = site.wait_for_certificate(HOSTS)
    site.ca.servfail(SHOP)
    site.declare(*HOSTS, SHOP)
    site.wait_for_event(program, "certificate-not-issued")
    pass_often(site)
    assert site.held() == first
    assert site.ca.count("orders") == 2
    site.declare(*HOSTS)
    site.wait_for_event(program, "defect-gone")
    site.ca.clear(SHOP)
    site.declare(*HOSTS, SHOP)
    site.wait_for_certificate((*HOSTS, SHOP), after=first)
    assert site.ca.count("orders") == 3


def pass_often(site: Site) -> None:
    """Make the program look again and again, as edits of any manifest do."""
    deadline = time.monotonic() + PASSES_SECONDS
    while time.monotonic() < deadline:
        site.manifest.touch()
        time.sleep(0.3)
