"""When a certificate is due: by the CA's suggestion, else by its own lifetime. Pure arithmetic.

Everything follows from the lifetime, so that a certificate of 160 hours is renewed with the same
calm as one of 90 days:

    not before ───────────────── due ──── pressing ── endangered ── last resort ── not after
    (90 days)                  day 60     day 67.5     day 75       day 82.5        day 90
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from acmeistio.model import Leaf, Suggestion

SHORT_LIFETIME = timedelta(days=10)
"""Below it, a CA's advice is half of the lifetime, else two thirds (Let's Encrypt's guide)."""

EARLY_PART = 0.8
"""The instant is chosen in this part of a window, so that retries still fall inside it: outside of
it a renewal is no longer exempt from the CA's limits."""

PRESSING_PART = 1 / 4
LAST_RESORT_PART = 1 / 12
"""With so much of the lifetime left nobody waits for the CA's suggestion any more, and another CA
is asked where there is one."""


def renew_at(leaf: Leaf, suggestion: Suggestion | None = None) -> datetime:
    """The instant from which the certificate is due.

    In whole seconds, so that a value that was stored and one computed anew agree. A suggestion for
    another certificate than this one counts for nothing.
    """
    if suggestion is None or suggestion.renewal_id != leaf.renewal_id:
        return _due_by_lifetime(leaf)
    return min(max(instant_in(suggestion), _proved_at(leaf)), pressing_at(leaf))


def instant_in(suggestion: Suggestion) -> datetime:
    """The one instant in a window for its certificate: the same after a restart."""
    start, width = suggestion.start, suggestion.end - suggestion.start
    seed = f"{suggestion.renewal_id} {start.isoformat()} {suggestion.end.isoformat()}"
    part = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4]) / 2**32
    return (start + width * EARLY_PART * part).replace(microsecond=0)


def pressing_at(leaf: Leaf) -> datetime:
    """The instant from which the certificate is due whatever the CA suggests."""
    return _left(leaf, PRESSING_PART)


def endangered_at(leaf: Leaf) -> datetime:
    """The instant from which a renewal no longer waits for names that fail.

    Half of the time between due and expiry: enough for the retries of a day, and enough left.
    """
    due = _due_by_lifetime(leaf)
    return due + (leaf.not_after - due) / 2


def last_resort_at(leaf: Leaf) -> datetime:
    """The instant from which another CA is asked, if the issuer's own does not deliver."""
    return _left(leaf, LAST_RESORT_PART)


def longest_retry(leaf: Leaf | None) -> timedelta:
    """The longest time between two attempts for a certificate that serves: a day at most.

    A twelfth of the time between due and expiry, so that a short life has as many as a long one;
    with nothing stored yet, a day.
    """
    day = timedelta(days=1)
    if leaf is None:
        return day
    return min((leaf.not_after - _due_by_lifetime(leaf)) / 12, day)


def _due_by_lifetime(leaf: Leaf) -> datetime:
    lifetime = leaf.not_after - leaf.not_before
    part = lifetime / 2 if lifetime < SHORT_LIFETIME else lifetime * 2 / 3
    return (leaf.not_before + part).replace(microsecond=0)


def _proved_at(leaf: Leaf) -> datetime:
    """The earliest instant that a suggestion counts for.

    A CA that wants every new certificate replaced at once would be asked for ever.
    """
    lifetime = leaf.not_after - leaf.not_before
    return leaf.not_before + min(lifetime / 10, timedelta(hours=1))


def _left(leaf: Leaf, part: float) -> datetime:
    """The instant at which so much of the lifetime is left."""
    lifetime = leaf.not_after - leaf.not_before
    return (leaf.not_after - lifetime * part).replace(microsecond=0)
