"""When a certificate is due, by its own lifetime. Pure arithmetic on instants."""

from __future__ import annotations

from datetime import datetime, timedelta

from acmeistio.model import Leaf

SHORT_LIFETIME = timedelta(days=10)
"""Below it, a CA's advice is half of the lifetime, else two thirds (Let's Encrypt's guide)."""


def renew_at(leaf: Leaf) -> datetime:
    """The instant from which the certificate is due.

    In whole seconds, so that a value that was stored and one computed anew agree.
    """
    lifetime = leaf.not_after - leaf.not_before
    part = lifetime / 2 if lifetime < SHORT_LIFETIME else lifetime * 2 / 3
    return (leaf.not_before + part).replace(microsecond=0)


def endangered_at(leaf: Leaf) -> datetime:
    """The instant from which a renewal no longer waits for names that fail.

    Half of the time between due and expiry: enough for the retries of a day, and enough left.
    """
    due = renew_at(leaf)
    return due + (leaf.not_after - due) / 2
