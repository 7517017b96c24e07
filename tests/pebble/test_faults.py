"""A CA that misbehaves: the certificate is got without a human."""

from __future__ import annotations

import pytest

from pebble.local_ca import CaOptions
from tests.pebble.conftest import MakeSite
from tests.pebble.program import HOSTS, SHOP, seen_in


def test_half_of_all_nonces_refused(make_site: MakeSite) -> None:
    """With 50 % badNonce the certificate is got, by one order, and again for a third name."""
    site = make_site(CaOptions(nonce_reject_percent=50))
    site.start()
    first = site.wait_for_certificate(HOSTS)
    site.declare(*HOSTS, SHOP)
    site.wait_for_certificate((*HOSTS, SHOP), after=first)
    assert site.ca.count("orders") == 2
    assert site.ca.count("accounts") == 1


@pytest.mark.parametrize(
    "moment", ["There are now 1 accounts", "Attempting to validate", "set VALID"]
)
def test_a_ca_that_forgets_everything_in_the_middle(make_site: MakeSite, moment: str) -> None:
    """Restarted in the middle of an order, the CA knows neither account nor order.

    The account is registered anew, with the same key, and the certificate is of the new root.
    """
    site = make_site(CaOptions(validation_delay=True))
    program = site.start()
    site.wait_for(seen_in(site.ca.log, moment), moment)
    key = site.state("acmeistio-account-pebble.secret.yaml").read_text().partition("\ndata:")[2]
    site.ca.restart()
    site.wait_for_certificate(HOSTS, seconds=45)
    assert site.ca.count("accounts") == 2
    assert program.alive
    assert key in site.state("acmeistio-account-pebble.secret.yaml").read_text()


def test_a_ca_that_is_down_at_the_start(make_site: MakeSite) -> None:
    """The program starts, answers challenges, and orders as soon as the CA is there."""
    site = make_site()
    site.ca.kill()
    program = site.start()
    site.wait_for_event(program, "defect")
    site.ca.restart()
    site.wait_for_certificate(HOSTS)
    assert site.ca.count("orders") == 1
