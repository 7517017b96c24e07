"""Who may order now, where a CA's limits do not leave room for everybody. Pure.

What serves and runs out comes before what is new; what must wait is told until when, as if all
before it were ordered as soon as can be.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from acmeistio.issuer import Issuer, Limit
from acmeistio.model import (
    Decision,
    Defer,
    Held,
    Issue,
    IssueReason,
    Stored,
    Target,
    Validate,
)
from acmeistio.planning import limits
from acmeistio.planning.decide import Verdict
from acmeistio.planning.ledger import Ledger
from acmeistio.planning.limits import BudgetKey, Exemption
from acmeistio.planning.situation import is_placeholder, text
from acmeistio.reasons import Reason, defect

AT_ONCE = 50
"""So many share between two breaths."""

_LAST = datetime.max.replace(tzinfo=UTC)

_SERVES_ON = frozenset(
    {
        IssueReason.EXPIRED,
        IssueReason.REVOKED,
        IssueReason.RENEWAL_DUE,
        IssueReason.RENEWAL_REQUESTED,
        IssueReason.SECRET_UNUSABLE,
    }
)
"""Reasons for which something that served must go on serving."""


def shared_out(
    verdicts: Mapping[Target, Verdict],
    held: Mapping[Target, Held],
    ledger: Ledger,
    issuers: Mapping[str, Issuer],
    now: datetime,
) -> dict[Target, Verdict]:
    """The verdicts of those that must wait for a limit of their CA."""
    steps = sharing(verdicts, held, ledger, issuers, now)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return dict(end.value)


def sharing(
    verdicts: Mapping[Target, Verdict],
    held: Mapping[Target, Held],
    ledger: Ledger,
    issuers: Mapping[str, Issuer],
    now: datetime,
) -> Generator[None, None, dict[Target, Verdict]]:
    """The same step by step: thousands may wait, and others have their turn meanwhile."""
    asking = [target for target, verdict in verdicts.items() if _asks(verdict, ledger, issuers)]
    yield
    asking.sort(key=lambda target: (*_urgency(verdicts[target], held.get(target)), target))
    budgets, waiting = dict(ledger.budgets), dict[Target, Verdict]()
    for number, target in enumerate(asking, 1):
        if number % AT_ONCE == 0:
            yield
        verdict = verdicts[target]
        issuer = issuers[verdict.spec.issuer]
        costs = costs_of(verdict.decision, issuer, held.get(target), now)
        at, scarce = limits.scarcest(budgets, costs, now)
        # Who waits for one budget leaves the others to those that need not wait.
        reserved = {scarce: costs[scarce]} if scarce else costs
        budgets.update(limits.spending(budgets, reserved, at))
        if scarce:
            until = min(at, _uncounted_from(verdict.decision, now))
            waiting[target] = _deferred(verdict, issuer, scarce, until)
    return waiting


def costs_of(
    decision: Decision, issuer: Issuer, held: Held, now: datetime
) -> dict[BudgetKey, Limit]:
    """What it costs to carry a decision out now, whether or not the names can be validated."""
    if isinstance(decision, Issue):
        exemption = limits.exemption_of(issuer, decision, held, now)
        return limits.costs_of_order(issuer, decision.names, exemption)
    if isinstance(decision, Validate):
        return limits.costs_of_order(issuer, [decision.name], Exemption.NONE)
    return {}


def _asks(verdict: Verdict, ledger: Ledger, issuers: Mapping[str, Issuer]) -> bool:
    """Whether an order is to be made; one that is open costs nothing more."""
    decision, spec = verdict.decision, verdict.spec
    if not isinstance(decision, Issue):
        return isinstance(decision, Validate)
    opened = ledger.orders.get(spec.target)
    if opened is None or opened.directory_url != issuers[spec.issuer].directory_url:
        return True
    return set(opened.names) != set(decision.names)


def _urgency(verdict: Verdict, held: Held) -> tuple[int, datetime]:
    """Lower goes first: what runs out soonest, then other changes, then new certificates."""
    decision = verdict.decision
    if not isinstance(held, Stored) or is_placeholder(held) or isinstance(decision, Validate):
        return 2, _LAST
    serves_on = isinstance(decision, Issue) and decision.reason in _SERVES_ON
    return (0, held.leaf.not_after) if serves_on else (1, held.leaf.not_after)


def _uncounted_from(decision: Decision, now: datetime) -> datetime:
    """When the window begins in which the CA does not count an order, if that is still to come."""
    replaces = decision.replaces if isinstance(decision, Issue) else None
    return replaces.start if replaces and replaces.start > now else _LAST


def _deferred(verdict: Verdict, issuer: Issuer, scarce: BudgetKey, until: datetime) -> Verdict:
    decision, spec = verdict.decision, verdict.spec
    limit, what = limits.words(scarce)
    facts = {"what": what, "limit": limit, "issuer": issuer.name, "retry_at": text(until)}
    told = defect(Reason.RateLimited, spec.target.ref, **facts)
    reason = decision.reason if isinstance(decision, Issue) else IssueReason.NAMES_ADDED
    waits = Defer(until, reason, spec.names)
    return replace(verdict, decision=waits, defects=(*verdict.defects, told))
