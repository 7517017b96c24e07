"""What a ledger can't know of its budgets: what was ordered after it was written. Pure.

A ledger that is missing, or older than the certificates beside it (a cluster restored from a
backup), is taken to have spent what those show: nobody may order twice what a CA counts once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from acmeistio.issuer import Issuer
from acmeistio.model import Held, Stored, is_by_hand
from acmeistio.planning import limits
from acmeistio.planning.ledger import Ledger
from acmeistio.planning.limits import Exemption
from acmeistio.planning.situation import is_placeholder

BACKDATED = timedelta(hours=1)
"""So long before the issuance a certificate's life may begin (Let's Encrypt)."""

UNDER_WAY = timedelta(seconds=30)
"""What was asked of a CA just before the last life ended may have been counted so much later."""


def replayed(
    ledger: Ledger, held: Iterable[Held], issuers: Iterable[Issuer], as_of: datetime | None
) -> Ledger:
    """The ledger with what certificates cost that were issued after `as_of` (None: all of them)."""
    by_url = {issuer.directory_url: issuer for issuer in issuers}
    for issued_at, stored in sorted(_issued_after(as_of, held, by_url), key=lambda pair: pair[0]):
        issuer = by_url[stored.marks.directory_url or ""]
        costs = limits.costs_of_order(issuer, stored.leaf.names, Exemption.NONE)
        ledger = ledger.spent(costs, issued_at)
    return ledger


def taken_up(ledger: Ledger, now: datetime) -> Ledger:
    """The ledger that an earlier life left, with what was under way when that ended."""
    if ledger.as_of is None or not ledger.budgets:
        return ledger
    delay = min(max(now - ledger.as_of, timedelta()), UNDER_WAY)
    return ledger.delayed(delay)


def _issued_after(
    as_of: datetime | None, held: Iterable[Held], by_url: Mapping[str, Issuer]
) -> Iterable[tuple[datetime, Stored]]:
    for each in held:
        if not isinstance(each, Stored) or is_placeholder(each) or is_by_hand(each):
            continue
        issued_at = each.marks.issued_at or each.leaf.not_before + BACKDATED
        if each.marks.directory_url in by_url and (as_of is None or issued_at > as_of):
            yield issued_at, each
