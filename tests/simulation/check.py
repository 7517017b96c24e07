"""What must hold in a World, judged by the CA's books and the store, never by the program's word.

The checks raise AssertionError; test_check.py feeds them broken worlds, so that they are known
to notice.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from acmeistio.stores.memory import LEDGER_KEY, LEDGER_NAME, PENDING_KEYS_NAME
from tests.simulated.ca import Certificate, Rule
from tests.simulation.world import NAMESPACE, SECRET, World

EXPLAINED_BY_A_CRASH = frozenset({Rule.CHALLENGE_ONCE, Rule.RETRY_AFTER})
"""What a process that lost its memory can't know: that it answered a challenge, or was told to
wait; the CA shows neither."""


def stored_leaf(world: World, name: str = SECRET) -> x509.Certificate | None:
    """The leaf in a Secret, its key checked to be its own; None where there is no leaf or key."""
    secret = world.secret(name)
    if secret is None:
        return None
    assert secret["type"] == "kubernetes.io/tls"
    try:
        chain = x509.load_pem_x509_certificates(base64.b64decode(secret["data"]["tls.crt"]))
        key_pem = base64.b64decode(secret["data"]["tls.key"])
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (KeyError, TypeError, ValueError):
        return None
    assert key.public_key() == chain[0].public_key(), f"{name}: the key is another's"
    return chain[0]


def certificate(world: World, name: str = SECRET) -> Certificate | None:
    """The CA's own record of what a Secret holds; None for a placeholder or no Secret."""
    leaf = stored_leaf(world, name)
    return next((c for c in world.ca.certificates if leaf and c.leaf == leaf), None)


def is_served(world: World, *hosts: str, secret: str = SECRET) -> bool:
    """Whether a Secret holds a certificate of the CA, valid now, for exactly these names."""
    found = certificate(world, secret)
    return (
        found is not None
        and found.names == set(hosts)
        and found.not_before <= world.now < found.not_after
    )


def ledger(world: World) -> dict[str, Any]:
    """The stored ledger."""
    stored = world.store.get("ConfigMap", NAMESPACE, LEDGER_NAME)
    empty: dict[str, Any] = {"names": [], "targets": [], "orders": [], "pauses": []}
    return json.loads(stored["data"][LEDGER_KEY]) if stored else empty


def pending_keys(world: World) -> dict[str, str]:
    """The stored keys of open orders."""
    stored = world.store.get("Secret", NAMESPACE, PENDING_KEYS_NAME)
    return stored["data"] if stored else {}


def one_account(world: World) -> None:
    """The CA has exactly one account of ours, and we know its URL."""
    assert len(world.ca.accounts) == 1, f"{len(world.ca.accounts)} accounts"
    secret = world.secret("acmeistio-account-simulated")
    assert secret
    url = secret["metadata"]["annotations"]["acmeistio.io/account-url"]
    assert url.endswith(f"/{world.ca.accounts[0].id}")


def nothing_open(world: World) -> None:
    """No order is under way: neither in the ledger nor by a key that is kept for one."""
    assert ledger(world)["orders"] == [], "open orders"
    assert pending_keys(world) == {}, "pending keys"


def lawful(world: World, *, crashed: bool = False) -> None:
    """The CA's rules were kept, but for those that nobody can keep across a crash."""
    excused = EXPLAINED_BY_A_CRASH if crashed else frozenset()
    broken = [violation for violation in world.ca.violations if violation.rule not in excused]
    assert not broken, broken[:3]


def orders_at_most(world: World, number: int) -> None:
    """So many orders at most were made."""
    made = len(world.ca.orders)
    assert made <= number, f"{made} orders where {number} suffice"


def nothing_unexpected(world: World) -> None:
    """Nothing failed in this life that the journal would call an error of ours."""
    assert world.journal.failed_parts == [], world.journal.failed_parts[:3]
    assert "InternalError" not in world.journal.codes


def quiet(world: World, *hosts: str, orders: int, crashed: bool = False) -> None:
    """All of it: the names are served, by so many orders at most, and nothing is left over."""
    assert is_served(world, *hosts), "not served"
    orders_at_most(world, orders)
    one_account(world)
    nothing_open(world)
    lawful(world, crashed=crashed)
    nothing_unexpected(world)
