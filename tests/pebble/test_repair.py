"""A Secret that was deleted, spoiled or tampered with, and one whose renewal is asked for."""

from __future__ import annotations

import base64
import shutil
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.pebble.program import HOSTS, Held, Site

RENEW = "acmeistio.io/renew-requested-at"
SETTLED_SECONDS = 1.5


def delete(site: Site) -> None:
    """Delete the Secret."""
    site.secret.unlink()


def spoil(site: Site) -> None:
    """Leave half of a file."""
    site.secret.write_bytes(site.secret.read_bytes()[:200] + b"\n  ]")


def swap_key(site: Site) -> None:
    """Put a key that is not the certificate's."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def change(secret: dict[str, Any]) -> None:
        secret["data"]["tls.key"] = base64.b64encode(pem).decode()

    site.edit_secret(change)


DAMAGES: dict[str, Callable[[Site], None]] = {
    "deleted": delete,
    "spoiled": spoil,
    "key swapped": swap_key,
}


def test_damage_is_put_right_from_memory(site: Site) -> None:
    """A process that remembers the certificate stores it again, without an order.

    What servers read is never worse meanwhile; PEM pair and SDS file are made again, too.
    """
    program = site.start()
    held = site.wait_for_certificate(HOSTS)
    for number, damage in enumerate(DAMAGES.values(), start=1):
        damage(site)
        site.wait_for_event(program, "certificate-restored", count=number)
        assert site.pem_held() == site.sds_held() == held
        assert site.wait_for_certificate(HOSTS) == held
    shutil.rmtree(site.pem)
    site.sds.write_text("{}")
    site.wait_for(lambda: site.pem_held() == site.sds_held() == held, "PEM and SDS made again")
    time.sleep(SETTLED_SECONDS)
    assert site.ca.count("orders") == 1
    assert not program.events("placeholder-stored")[1:]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_after_a_restart_costs_one_order(site: Site, damage: Callable[[Site], None]) -> None:
    """A process that does not remember the certificate orders another one, once."""
    program = site.start()
    first = site.wait_for_certificate(HOSTS)
    assert program.end() == 0
    damage(site)
    site.start()
    second = site.wait_for_certificate(HOSTS, after=first)
    time.sleep(SETTLED_SECONDS)
    assert site.held() == second
    assert site.ca.count("orders") == 2
    assert site.ca.count("accounts") == 1


def test_a_renewal_is_forced_by_an_annotation(site: Site) -> None:
    """Any new value of the annotation on the Secret renews, once; what else is on it stays."""
    program = site.start()
    held = site.wait_for_certificate(HOSTS)
    for number, value in enumerate(("2026-01-01T00:00:00Z", "again"), start=1):
        held = renew(site, held, value)
        time.sleep(SETTLED_SECONDS)
        assert site.ca.count("orders") == 1 + number
    assert site.held() == held
    assert program.events("certificate-issued")[-1]["reason"] == "RenewalRequested"
    assert "example.com/mine" in site.secret.read_text()


def renew(site: Site, held: Held, value: str) -> Held:
    """Ask for a renewal; the new certificate."""

    def change(secret: dict[str, Any]) -> None:
        secret["metadata"]["annotations"] |= {RENEW: value, "example.com/mine": "kept"}

    site.edit_secret(change)
    return site.wait_for_certificate(HOSTS, after=held)
