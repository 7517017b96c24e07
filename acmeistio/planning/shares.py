"""Who may order now, where a CA's limits do not leave room for everybody. Pure.

What serves and runs out comes before what is new; what must wait is told until when, as if all
before it were ordered as soon as can be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from acmeistio.planning.limits import REMEMBERED, BudgetKey, Costs, Exemption
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
    shares = Shares()
    for _ in shares.steps(verdicts, held, ledger, issuers, now):
        pass
    return dict(shares.waiting)


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a target asks for and what that costs, the same from `since` to `until`."""

    verdict: Verdict
    held: Held
    urgency: tuple[int, datetime]
    costs: Costs
    since: datetime
    until: datetime

    def stands(self, verdict: Verdict, held: Held, now: datetime) -> bool:
        """Whether it is still what is asked for."""
        same = self.verdict is verdict and self.held is held
        return same and self.since <= now < self.until


@dataclass(frozen=True, slots=True)
class _Told:
    """A wish that must wait: what for, until when, and the verdict that says so."""

    wish: _Wish
    scarce: BudgetKey
    until: datetime
    verdict: Verdict


class Shares:
    """Shares out again and again; only what may have become another is worked out anew.

    Where all must wait nothing changes before the first of them may go on, as long as they ask
    for the same and nobody spends anything. Whoever does not go on to the last of the `steps`
    begins with others.
    """

    def __init__(self) -> None:
        self.waiting: Mapping[Target, Verdict] = {}
        """The verdicts of those that must wait."""
        self._wishes: dict[Target, _Wish] = {}
        self._told: dict[Target, _Told] = {}
        self._ledger = Ledger()
        self._since, self._until = _LAST, _LAST

    def stands(self, ledger: Ledger, now: datetime) -> bool:
        """Whether those that were `waiting` still are, and nobody else, if all ask the same."""
        if not self._wishes:
            return True
        known = self._ledger
        same = known.budgets == ledger.budgets and known.orders == ledger.orders
        return same and self._since <= now < self._until

    def steps(
        self,
        verdicts: Mapping[Target, Verdict],
        held: Mapping[Target, Held],
        ledger: Ledger,
        issuers: Mapping[str, Issuer],
        now: datetime,
    ) -> Iterator[None]:
        """Share out; thousands may wait, and others have their turn after each step."""
        self._since = self._until = _LAST
        wishes = dict[Target, _Wish]()
        for number, (target, verdict) in enumerate(verdicts.items(), 1):
            if _asks(verdict, ledger, issuers):
                issuer = issuers[verdict.spec.issuer]
                wishes[target] = self._wish(verdict, issuer, held.get(target), now)
            if number % AT_ONCE == 0:
                yield
        asking = sorted(wishes)
        asking.sort(key=lambda target: wishes[target].urgency)
        self._wishes = wishes
        yield
        yield from self._queue(asking, ledger, issuers, now)

    def _wish(self, verdict: Verdict, issuer: Issuer, held: Held, now: datetime) -> _Wish:
        target, decision = verdict.spec.target, verdict.decision
        known = self._wishes.get(target)
        if known and known.stands(verdict, held, now):
            return known
        costs, until = costs_of(decision, issuer, held, now), _costs_so_until(decision, held, now)
        return _Wish(verdict, held, _urgency(verdict, held), costs, now, until)

    def _queue(
        self,
        asking: Sequence[Target],
        ledger: Ledger,
        issuers: Mapping[str, Issuer],
        now: datetime,
    ) -> Iterator[None]:
        """Let one after the other spend what is left, or wait until there is something."""
        budgets, told, first = dict(ledger.budgets), dict[Target, _Told](), _LAST
        for number, target in enumerate(asking, 1):
            wish = self._wishes[target]
            at, scarce = limits.scarcest(budgets, wish.costs, now)
            # Who waits for one budget leaves the others to those that need not wait.
            reserved = {scarce: wish.costs[scarce]} if scarce else wish.costs
            budgets.update(limits.spending(budgets, reserved, at))
            if scarce:
                told[target] = self._tell(target, wish, scarce, at, issuers)
            # At `at` it need not wait any more; who need not now may be the first tomorrow.
            first = min(first, at, wish.until)
            if number % AT_ONCE == 0:
                yield
        self._told = told
        self.waiting = {target: found.verdict for target, found in told.items()}
        self._ledger, self._since, self._until = ledger, now, first

    def _tell(
        self,
        target: Target,
        wish: _Wish,
        scarce: BudgetKey,
        at: datetime,
        issuers: Mapping[str, Issuer],
    ) -> _Told:
        until = min(at, _uncounted_from(wish.verdict.decision, wish.since))
        known = self._told.get(target)
        if known and known.wish is wish and (known.scarce, known.until) == (scarce, until):
            return known
        issuer = issuers[wish.verdict.spec.issuer]
        return _Told(wish, scarce, until, _deferred(wish.verdict, issuer, scarce, until))


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


def _costs_so_until(decision: Decision, held: Held, now: datetime) -> datetime:
    """The next instant at which time alone may change what a decision costs."""
    replaces = decision.replaces if isinstance(decision, Issue) else None
    instants = [replaces.start, replaces.end] if replaces else []
    if isinstance(held, Stored):
        instants.append(held.leaf.not_before + REMEMBERED)
    return min((instant for instant in instants if instant > now), default=_LAST)


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
