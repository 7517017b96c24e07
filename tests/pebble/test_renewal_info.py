"""The CA says when to renew (ARI, RFC 9773): it is asked, believed, and told what is replaced."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from pebble.local_ca import CaOptions, renewal_info
from tests.pebble.conftest import MakeSite
from tests.pebble.program import SECRET_NAME

VALIDITY_SECONDS = 60
OLD_ENOUGH_SECONDS = 25.0
"""Past two fifths of its life a certificate is asked about as soon as the program starts."""
PAGE = "https://ca.example/incident"


def test_a_window_in_the_past_renews_at_once(make_site: MakeSite) -> None:
    """An incident: long before its time a certificate is replaced, and the CA is told which one.

    The page on which the CA says why is shown, until that is done.
    """
    site = make_site(CaOptions(validity_seconds=VALIDITY_SECONDS))
    program = site.start()
    first = site.wait_for_certificate()
    program.kill()
    time.sleep(OLD_ENOUGH_SECONDS)
    now = datetime.now(UTC)
    window = now - timedelta(seconds=20), now - timedelta(seconds=10)
    pem = first.chain_pem[: first.chain_pem.index(b"-----END") + 30]
    site.ca.set_renewal_info(pem, renewal_info(*window, PAGE))
    program = site.start()
    site.wait_for_certificate(after=first)
    assert [e["reason"] for e in program.events("certificate-issued")] == ["RenewalDue"]
    assert site.ca.count("replacements") == 1
    (told,) = [e for e in program.events("defect") if e["reason"] == "RenewalSuggested"]
    assert PAGE in told["sentence"]


def test_what_was_made_by_another_account_is_replaced_without_a_word(make_site: MakeSite) -> None:
    """`replaces` is for an account's own certificates; of another's the CA would refuse it."""
    site = make_site(CaOptions(validity_seconds=VALIDITY_SECONDS))
    program = site.start()
    first = site.wait_for_certificate()
    program.kill()
    site.annotate(SECRET_NAME, account_url="https://localhost/another", renew_requested_at="now")
    program = site.start()
    site.wait_for_certificate(after=first)
    assert site.ca.count("orders") == 2
    assert site.ca.count("replacements") == 0
