"""Which CA is asked for a target: the one declared, but for two cases. Pure.

A certificate that browsers trust is not replaced by one that they don't; and one that is running
out, because its issuer does not deliver, is asked of the issuer's fallback.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from acmeistio.issuer import Issuer
from acmeistio.model import Issue, IssueReason, Stored, is_by_hand
from acmeistio.planning import limits
from acmeistio.planning.failing import name_failures, target_failure
from acmeistio.planning.renewal import last_resort_at
from acmeistio.planning.situation import Situation, is_placeholder
from acmeistio.reasons import Defect, Reason, defect


def at_its_ca(situation: Situation) -> tuple[Situation, tuple[Defect, ...]]:
    """The situation with the CA that is to be asked, and what users should know of that."""
    kept = _kept_from_downgrade(situation)
    if kept:
        facts = {"issuer": situation.spec.issuer, "kept": kept.name}
        found = defect(Reason.DowngradeRefused, situation.spec.target.ref, **facts)
        return _asking(situation, kept), (found,)
    if _is_running_out(situation) and _is_blocked(situation):
        other = _at_fallback(situation)
        situation = situation if other is None or _is_blocked(other) else other
    return situation, tuple(_fallback_defects(situation))


def _kept_from_downgrade(situation: Situation) -> Issuer | None:
    """The issuer of the trusted certificate that is served, where the declared one is none."""
    held = situation.held
    if situation.issuer.trusted or situation.served is None or not isinstance(held, Stored):
        return None
    if held.marks.allows_downgrade or is_by_hand(held):
        return None
    made_by = (i for i in situation.issuers.values() if i.directory_url == held.marks.directory_url)
    return next((issuer for issuer in made_by if issuer.trusted), None)


def _asking(situation: Situation, issuer: Issuer, instead_of: Issuer | None = None) -> Situation:
    """The same for another issuer, with the profile that is its own."""
    held, profile = situation.held, issuer.profile
    if held and held.marks.directory_url == issuer.directory_url:
        profile = held.marks.profile
    url = instead_of.directory_url if instead_of else None
    spec = replace(situation.spec, issuer=issuer.name, profile=profile, fallback_for=url)
    return replace(situation, spec=spec)


def _at_fallback(situation: Situation) -> Situation | None:
    """The same for the issuer's fallback, where that has certificates for these names."""
    fallback = situation.issuers.get(situation.issuer.fallback or "")
    if fallback is None:
        return None
    other = _asking(situation, fallback, situation.issuer)
    return other if fallback.can_issue(other.spec.names, other.spec.profile) else None


def _is_running_out(situation: Situation) -> bool:
    """Whether a certificate of a CA has so little left, or nothing, that anybody may help."""
    held = situation.held
    if not isinstance(held, Stored) or is_placeholder(held):
        return False
    return last_resort_at(held.leaf) <= situation.now


def another_at(situation: Situation) -> datetime | None:
    """When another CA may be asked than now, by the course of time alone; None if never."""
    held, fallback = situation.held, _at_fallback(situation)
    if not isinstance(held, Stored) or is_placeholder(held):
        return None
    if _kept_from_downgrade(situation):
        return held.leaf.not_after
    if fallback is None:
        return None
    instants = [last_resort_at(held.leaf), *map(_blocked_until, (situation, fallback))]
    return min((instant for instant in instants if instant > situation.now), default=None)


def _is_blocked(situation: Situation) -> bool:
    """Whether the CA is known not to issue now."""
    return _blocked_until(situation) > situation.now


def _blocked_until(situation: Situation) -> datetime:
    """Until when the CA is known not to issue; `now` where it may."""
    spec, failures = situation.spec, name_failures(situation)
    pause, failure = situation.ledger.pauses.get(spec.issuer), target_failure(situation)
    instants = [situation.now]
    instants += [pause.until] if pause else []
    instants += [failure.retry_at] if failure else []
    instants.append(
        min(failures[n].retry_at if n in failures else situation.now for n in spec.names)
    )
    return max(*instants, _payable_at(situation))


def _payable_at(situation: Situation) -> datetime:
    """When the CA's limits leave room for another certificate; an open order is paid already."""
    spec, issuer, ledger = situation.spec, situation.issuer, situation.ledger
    opened = ledger.orders.get(spec.target)
    if opened and opened.directory_url == issuer.directory_url:
        return situation.now
    renewal = Issue(spec.names, IssueReason.RENEWAL_DUE)
    exemption = limits.exemption_of(issuer, renewal, situation.held, situation.now)
    costs = limits.costs_of_order(issuer, spec.names, exemption)
    return limits.payable_at(ledger.budgets, costs, situation.now)


def _fallback_defects(situation: Situation) -> Iterator[Defect]:
    held = situation.held
    if not isinstance(held, Stored) or held.marks.fallback_for != situation.issuer.directory_url:
        return
    url = held.marks.directory_url
    made_by = next((i.name for i in situation.issuers.values() if i.directory_url == url), url)
    facts = {"issuer": situation.spec.issuer, "fallback": str(made_by)}
    yield defect(Reason.FallbackUsed, situation.spec.target.ref, **facts)
