"""From an annotated manifest to a certificate, and what edits of the annotation do."""

from __future__ import annotations

import time

from tests.pebble.program import HOSTS, MOBILE, SHOP, WWW, Site

QUIET_SECONDS = 3.0
"""Without an order for so long, none comes: changes are gathered for a second at most."""


def test_both_hosts_of_the_sample_get_one_certificate(site: Site) -> None:
    """One Secret, one certificate, one account; manifest, PEM pair and SDS file have the same.

    The chain leads to the CA's root and does not contain it; nobody else may read the files.
    """
    program = site.start()
    held = site.wait_for_certificate(HOSTS)
    issued = site.wait_for_event(program, "certificate-issued")
    assert issued["names"] == sorted(HOSTS)
    assert issued["serial"] == f"{held.serial:x}"
    assert len(held.chain) == 2
    counts = [site.ca.count(what) for what in ("accounts", "orders", "certificates")]
    assert counts == [1, 1, 1]
    files = [site.secret, site.sds, site.pem / "tls.key", site.ledger]
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600] * len(files)


def test_a_name_added_is_ordered_and_a_name_removed_is_not(site: Site) -> None:
    """Adding a name by editing the annotation reissues; removing one triggers nothing.

    A removed name leaves with the next renewal; the edit of the file is seen all the same.
    """
    program = site.start()
    first = site.wait_for_certificate(HOSTS)
    site.declare(*HOSTS, SHOP)
    second = site.wait_for_certificate((*HOSTS, SHOP), after=first)
    assert site.ca.count("orders") == 2
    site.declare(WWW)
    time.sleep(QUIET_SECONDS)
    assert site.ca.count("orders") == 2
    assert site.held() == second
    assert program.events("certificate-issued")[-1]["reason"] == "NamesAdded"
    assert not program.events("defect")


def test_a_restart_orders_nothing(site: Site) -> None:
    """A program that finds its certificate stored has nothing to do, and says so.

    Nor does it make anything of names that are now declared in another way and another order.
    """
    program = site.start()
    held = site.wait_for_certificate(HOSTS)
    assert program.end() == 0
    site.declare(WWW, MOBILE)
    looked = site.wait_for_event(site.start(), "look-done")
    assert (looked["certificates"], looked["to_do"], looked["defects"]) == (1, 0, 0)
    time.sleep(1)
    assert site.held() == held
    assert site.ca.count("orders") == 1
    assert site.ca.count("accounts") == 1
