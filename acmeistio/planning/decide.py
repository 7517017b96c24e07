"""What to do for one target now: its spec compared with what is stored and remembered. Pure.

Questions, each a chain of small ones, asked in an order that matters:

1. Is there a pair that the gateway can serve? (`_put_right`)
2. Which CA is asked (authority.py)?
3. Is another certificate wanted (wanted.py), for which names (failing.py), and may it be
   ordered now or must it wait (`_waiting`)?

Whether the CA's limits leave room for an order is found for all targets together (plan.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from acmeistio.model import (
    CertificateSpec,
    Decision,
    Defer,
    Issue,
    IssueReason,
    Keep,
    Leaf,
    Revoke,
    Stored,
    StoreKnown,
    StorePlaceholder,
    Suggestion,
    Unusable,
    Validate,
    is_by_hand,
)
from acmeistio.names import DnsName, covers
from acmeistio.planning.authority import another_at, at_its_ca
from acmeistio.planning.failing import (
    failure_defects,
    is_tried_alone,
    name_failures,
    revocation_failure,
    target_failure,
    waiting_names,
)
from acmeistio.planning.ledger import NEVER, Failure
from acmeistio.planning.renewal import endangered_at, renew_at
from acmeistio.planning.situation import Situation, text
from acmeistio.planning.wanted import due_at, wanted
from acmeistio.reasons import Defect, Reason, defect

HOLD_BACK_FAILURES = 3
"""So many failures in a row of a name that is served, and other names no longer wait for it."""

REVOCATION_REASONS = (
    "unspecified",
    "keyCompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
)
"""Those of RFC 5280 §5.3.1 that a subscriber may give (letsencrypt.org/docs/revoking)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision for one target, and what its users should know.

    `spec` is the target's with the CA that is to be asked.
    """

    decision: Decision
    spec: CertificateSpec
    defects: tuple[Defect, ...] = ()


def decide(situation: Situation) -> Verdict:
    """What to do for a target now."""
    held, spec = situation.held, situation.spec
    if held is not None and not held.marks.managed:
        return Verdict(Keep(None), spec, (defect(Reason.SecretNotManaged, spec.target.ref),))
    repair = _put_right(situation)
    if repair:
        return Verdict(repair, at_its_ca(situation)[0].spec)
    another_ca_at = another_at(situation)
    situation, found = at_its_ca(situation)
    failures = name_failures(situation)
    decision, why = _decision(situation, failures)
    if isinstance(decision, Defer) and another_ca_at:
        decision = replace(decision, until=min(decision.until, another_ca_at))
    unreached = () if isinstance(decision, Keep) else _unreached(situation)
    of_failures = failure_defects(situation, failures)
    defects = (*_held_defects(situation), *found, *of_failures, *unreached, *why)
    return Verdict(decision, situation.spec, defects)


def _put_right(situation: Situation) -> Decision | None:
    if situation.held is None:
        return StoreKnown() if situation.remembers else StorePlaceholder()
    if isinstance(situation.held, Unusable) and situation.remembers:
        return StoreKnown()
    return None


Told = tuple[Decision, tuple[Defect, ...]]
"""A decision, and why it is not at once what users want."""


def _decision(situation: Situation, failures: Mapping[DnsName, Failure]) -> Told:
    """What to do about the certificate."""
    waiting = waiting_names(situation, failures)
    doubtful = _doubtful(situation, failures, waiting)
    held_up = {*waiting, *doubtful}
    orderable = tuple(name for name in situation.spec.names if name not in held_up)
    reason = wanted(situation, orderable)
    alone = _revocation(situation) or (Validate(doubtful[0]) if doubtful else None)
    if alone is None and reason is None:
        return _kept(situation, waiting), ()
    stopped = _stopped(situation)
    if stopped:
        until, why = stopped
        return Defer(until, reason or IssueReason.NAMES_ADDED, situation.spec.names), why
    if alone or reason is None:
        return alone or Keep(None), ()
    return _order(situation, orderable, waiting, reason)


def _order(
    situation: Situation,
    orderable: tuple[DnsName, ...],
    waiting: Mapping[DnsName, Failure],
    reason: IssueReason,
) -> Told:
    """The order that is wanted, or until when names keep it waiting."""
    names = situation.spec.names
    if not orderable:
        return Defer(min(f.retry_at for f in waiting.values()), reason, names), ()
    held_back = _held_back(situation, waiting, reason)
    if held_back:
        until, why = held_back
        return Defer(until, reason, names), why
    return Issue(orderable, reason, _replaced(situation, orderable)), ()


def _revocation(situation: Situation) -> Revoke | None:
    """A revocation that users asked for and that has not been done."""
    asked = _revocation_asked(situation)
    return None if asked is None or _is_barred(situation) else Revoke(asked)


def _revocation_asked(situation: Situation) -> str | None:
    held, served = situation.held, situation.served
    if served is None or not isinstance(held, Stored) or is_by_hand(held):
        return None
    asked = held.marks.revoke_requested
    is_done = held.marks.revoked_sha256 == served.sha256
    return asked if asked in REVOCATION_REASONS and not is_done else None


def _is_barred(situation: Situation) -> bool:
    """Whether a revocation failed and is not to be tried yet; orders don't wait for it."""
    failure = revocation_failure(situation)
    return failure is not None and failure.retry_at > situation.now


def _doubtful(
    situation: Situation,
    failures: Mapping[DnsName, Failure],
    waiting: Mapping[DnsName, Failure],
) -> tuple[DnsName, ...]:
    """The names that failed before and may be tried alone now."""
    if not is_tried_alone(situation):
        return ()
    return tuple(name for name in failures if name not in waiting)


def _replaced(situation: Situation, names: tuple[DnsName, ...]) -> Suggestion | None:
    """The suggestion for the certificate that is replaced, where the CA may be told of it."""
    held, suggestion = situation.held, situation.suggestion
    if suggestion is None or not isinstance(held, Stored) or is_by_hand(held):
        return None
    marks, leaf = held.marks, held.leaf
    same = (suggestion.renewal_id, marks.directory_url) == (
        leaf.renewal_id,
        situation.issuer.directory_url,
    )
    return suggestion if same and not leaf.names.isdisjoint(names) else None


def _stopped(situation: Situation) -> tuple[datetime, tuple[Defect, ...]] | None:
    """Until when the CA is not asked at all, and what to say of it."""
    spec, now = situation.spec, situation.now
    pause = situation.ledger.pauses.get(spec.issuer)
    if pause and pause.until > now:
        facts = {"issuer": spec.issuer, "problem": pause.problem, "retry_at": text(pause.until)}
        asked = () if pause.attempts else (defect(Reason.IssuerPaused, spec.target.ref, **facts),)
        return pause.until, asked
    failure = target_failure(situation)
    return (failure.retry_at, ()) if failure and failure.retry_at > now else None


def _unreached(situation: Situation) -> Iterator[Defect]:
    """Why orders wait for a CA that can't be reached; also while it is tried whether it can."""
    spec = situation.spec
    pause = situation.ledger.pauses.get(spec.issuer)
    if pause and pause.attempts and pause.forgotten_at > situation.now:
        for ref in spec.sources:
            facts = {"problem": pause.problem, "retry_at": text(pause.until)}
            yield defect(Reason.OrderDelayed, ref, **facts)


def _held_back(
    situation: Situation, waiting: Mapping[DnsName, Failure], reason: IssueReason
) -> tuple[datetime, tuple[Defect, ...]] | None:
    """A name that is served and fails now is not dropped at the first stumble.

    A due renewal waits for it, any other order until it has failed a few times or for good, and
    none once the others would be endangered. What is revoked, or will be, waits for nobody.
    """
    served = situation.served
    if served is None or reason is IssueReason.REVOKED or _is_recalled(situation, served):
        return None
    names = {name: f for name, f in waiting.items() if covers(served.names, name)}
    if reason is not IssueReason.RENEWAL_DUE:
        names = {name: f for name, f in names.items() if _may_recover(f)}
    limit = endangered_at(served)
    if not names or situation.now >= limit:
        return None
    until = min(limit, *(f.retry_at for f in waiting.values()))
    facts = {"names": ", ".join(sorted(names)), "until": text(limit)}
    return until, (defect(Reason.RenewalHeldBack, situation.spec.target.ref, **facts),)


def _may_recover(failure: Failure) -> bool:
    return failure.count < HOLD_BACK_FAILURES and not failure.is_permanent


def _is_recalled(situation: Situation, served: Leaf) -> bool:
    """Whether the CA wants the certificate replaced long before its time (RFC 9773 §4.2)."""
    suggestion = situation.suggestion
    if suggestion is None or suggestion.renewal_id != served.renewal_id:
        return False
    return suggestion.end <= min(situation.now, renew_at(served))


def _kept(situation: Situation, waiting: Mapping[DnsName, Failure]) -> Decision:
    """Nothing to do now; what is to be tried again is no state to be content with."""
    look_again_at, failure = _look_again_at(situation, waiting), revocation_failure(situation)
    if failure is None or _revocation_asked(situation) is None:
        return Keep(look_again_at)
    until = min(look_again_at or failure.retry_at, failure.retry_at)
    return Defer(until, IssueReason.REVOKED, situation.spec.names)


def _look_again_at(situation: Situation, waiting: Mapping[DnsName, Failure]) -> datetime | None:
    """When a stored certificate is due, or a name left out of it may be tried again."""
    instants = [f.retry_at for f in waiting.values() if f.retry_at < NEVER]
    if isinstance(situation.held, Stored):
        instants.append(due_at(situation, situation.held))
    return min(instants, default=None)


def _held_defects(situation: Situation) -> Iterator[Defect]:
    held, ref = situation.held, situation.spec.target.ref
    if isinstance(held, Unusable):
        yield defect(Reason.SecretUnusable, ref, why=held.why)
    if not isinstance(held, Stored):
        return
    due = text(renew_at(held.leaf, situation.suggestion))
    if is_by_hand(held):
        yield defect(Reason.CertificateReplacedByHand, ref, renew_at=due)
    suggestion, asked = situation.suggestion, held.marks.revoke_requested
    if suggestion and suggestion.explanation_url:
        yield defect(Reason.RenewalSuggested, ref, url=suggestion.explanation_url, renew_at=due)
    if asked is not None and asked not in REVOCATION_REASONS:
        possible = ", ".join(REVOCATION_REASONS)
        yield defect(Reason.RevocationReasonUnknown, ref, value=f'"{asked}"', possible=possible)
