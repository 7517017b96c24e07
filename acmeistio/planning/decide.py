"""What to do for one target now: its spec compared with what is stored and remembered. Pure.

Two questions, each a chain of small ones, asked in an order that matters:

1. Is there a pair that the gateway can serve? (`_put_right`)
2. Is another certificate wanted (`_wanted`), for which names (`_orderable`), and may it be
   ordered now or must it wait (`_waiting`)?
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from acmeistio.model import (
    CertificateSpec,
    Decision,
    Defer,
    Held,
    Issue,
    Issuer,
    IssueReason,
    Keep,
    Marks,
    ObjectRef,
    Stored,
    StoreKnown,
    StorePlaceholder,
    Unreachable,
    Unusable,
    is_by_hand,
)
from acmeistio.names import DnsName, covers
from acmeistio.planning.ledger import Failure, Ledger
from acmeistio.planning.renewal import endangered_at, renew_at
from acmeistio.reasons import Defect, Reason, defect

HOLD_BACK_FAILURES = 3
"""So many failures in a row of a name that is served, and other names no longer wait for it."""

_DUE = frozenset({IssueReason.RENEWAL_DUE})


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a decision depends on.

    `held` is what parsing the target Secret gave, None where it does not exist; `remembers`
    says that this process has the bundle it wrote last. `unreachable` are names that wait
    because the CA's requests would not arrive, which is no failure at the CA yet.
    """

    spec: CertificateSpec
    issuer: Issuer
    held: Held
    remembers: bool
    ledger: Ledger
    now: datetime
    unreachable: Mapping[DnsName, Unreachable] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision for one target, and what its users should know."""

    decision: Decision
    defects: tuple[Defect, ...] = ()


def decide(situation: Situation) -> Verdict:
    """What to do for a target now."""
    held, target = situation.held, situation.spec.target
    if held is not None and not held.marks.managed:
        return Verdict(Keep(None), (defect(Reason.SecretNotManaged, target.ref),))
    repair = _put_right(situation)
    if repair:
        return Verdict(repair)
    verdict = _verdict(situation)
    return Verdict(verdict.decision, (*_held_defects(situation), *verdict.defects))


def armed_by(spec: CertificateSpec, marks: Marks | None, name: DnsName | None = None) -> str:
    """A digest of what a failure of `name` (or of the whole target) depends on.

    As soon as it is none of those that a Failure holds, the Failure is void: a user changed
    the declaration or asked for a renewal, and is not made to wait for what was.
    """
    names = {name: spec.declared_by[name]} if name else spec.declared_by
    parts = [
        str(spec.target),
        spec.issuer,
        spec.key_type,
        spec.profile,
        marks.renew_requested_at if marks else None,
        [[key, *map(str, refs)] for key, refs in sorted(names.items())],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def name_failures(
    spec: CertificateSpec, marks: Marks | None, ledger: Ledger
) -> Mapping[DnsName, Failure]:
    """The names of a spec that failed and are declared as they were when they did."""
    found = {name: ledger.names.get((spec.issuer, name)) for name in spec.names}
    return {
        name: failure
        for name, failure in found.items()
        if failure and armed_by(spec, marks, name) in failure.armed_by
    }


def is_placeholder(held: Stored) -> bool:
    """Whether the pair is ours to keep a listener open, and not one put in its stead by hand."""
    return held.marks.placeholder and not is_by_hand(held)


def _put_right(situation: Situation) -> Decision | None:
    if situation.held is None:
        return StoreKnown() if situation.remembers else StorePlaceholder()
    if isinstance(situation.held, Unusable) and situation.remembers:
        return StoreKnown()
    return None


def _verdict(situation: Situation) -> Verdict:
    failures = name_failures(situation.spec, _marks(situation), situation.ledger)
    found = [*_unreachable(situation).items(), *failures.items()]
    waiting = {name: f for name, f in found if f.retry_at > situation.now}
    orderable = tuple(name for name in situation.spec.names if name not in waiting)
    defects = _failure_defects(situation, failures)
    reason = _wanted(situation, orderable)
    if reason is None:
        return Verdict(Keep(_look_again_at(situation, waiting)), defects)
    wait = _waiting(situation, orderable, waiting, reason)
    if wait is None:
        return Verdict(Issue(orderable, reason), defects)
    until, why = wait
    return Verdict(Defer(until, reason, situation.spec.names), (*defects, *why))


def _unreachable(situation: Situation) -> dict[DnsName, Failure]:
    """The names that wait for a way, as failures that never count: none is dropped for them."""
    return {
        name: Failure(0, found.retry_at, (), "", costly=False)
        for name, found in situation.unreachable.items()
        if name in situation.spec.names
    }


def _wanted(situation: Situation, orderable: tuple[DnsName, ...]) -> IssueReason | None:
    """Why another certificate is wanted, None if the one stored will do for now."""
    held = situation.held
    if not isinstance(held, Stored):
        return IssueReason.SECRET_UNUSABLE
    leaf = held.leaf
    if is_placeholder(held):
        return IssueReason.NOT_ISSUED_YET
    if leaf.not_after <= situation.now:
        return IssueReason.EXPIRED
    changed = _changed(situation, held)
    if changed:
        return changed
    if not all(covers(leaf.names, name) for name in orderable):
        return IssueReason.NAMES_ADDED
    return IssueReason.RENEWAL_DUE if renew_at(leaf) <= situation.now else None


def _changed(situation: Situation, held: Stored) -> IssueReason | None:
    """What was asked for, or changed in the spec, since the certificate was made.

    One that was placed by hand was made with no parameters of ours.
    """
    leaf, marks, spec = held.leaf, held.marks, situation.spec
    renewal_requested = marks.renew_requested_at not in (None, marks.renewed_for)
    return next(
        (
            reason
            for reason, holds in (
                (IssueReason.RENEWAL_REQUESTED, renewal_requested),
                (IssueReason.ISSUER_CHANGED, marks.directory_url != situation.issuer.directory_url),
                (IssueReason.PROFILE_CHANGED, marks.profile != spec.profile),
                (IssueReason.KEY_TYPE_CHANGED, leaf.key_type != spec.key_type),
            )
            if holds and (reason is IssueReason.RENEWAL_REQUESTED or not is_by_hand(held))
        ),
        None,
    )


def _waiting(
    situation: Situation,
    orderable: tuple[DnsName, ...],
    waiting: Mapping[DnsName, Failure],
    reason: IssueReason,
) -> tuple[datetime, tuple[Defect, ...]] | None:
    """Until when an order must wait and what to say of it, None if it may go now."""
    spec, ledger, now = situation.spec, situation.ledger, situation.now
    pause = ledger.pauses.get(spec.issuer)
    if pause and pause.until > now:
        facts = {"issuer": spec.issuer, "problem": pause.problem, "retry_at": _text(pause.until)}
        return pause.until, (defect(Reason.IssuerPaused, spec.target.ref, **facts),)
    failure = ledger.targets.get(spec.target)
    if failure and failure.retry_at > now and armed_by(spec, _marks(situation)) in failure.armed_by:
        return failure.retry_at, ()
    if not orderable:
        return min(f.retry_at for f in waiting.values()), ()
    return _held_back(situation, waiting, reason)


def _held_back(
    situation: Situation, waiting: Mapping[DnsName, Failure], reason: IssueReason
) -> tuple[datetime, tuple[Defect, ...]] | None:
    """A name that is served and fails now is not dropped at the first stumble.

    A due renewal waits for it until the others would be endangered, any other order until it
    has failed a few times.
    """
    held = situation.held
    if not isinstance(held, Stored) or held.leaf.not_after <= situation.now:
        return None
    served = {name: f for name, f in waiting.items() if covers(held.leaf.names, name)}
    if reason in _DUE:
        limit = endangered_at(held.leaf)
    else:
        served = {name: f for name, f in served.items() if f.count < HOLD_BACK_FAILURES}
        limit = held.leaf.not_after
    if not served or is_placeholder(held) or situation.now >= limit:
        return None
    until = min(limit, *(f.retry_at for f in waiting.values()))
    facts = {"names": ", ".join(sorted(served)), "until": _text(limit)}
    return until, (defect(Reason.RenewalHeldBack, situation.spec.target.ref, **facts),)


def _look_again_at(situation: Situation, waiting: Mapping[DnsName, Failure]) -> datetime | None:
    """When a stored certificate is due, or a name left out of it may be tried again."""
    instants = [f.retry_at for f in waiting.values()]
    if isinstance(situation.held, Stored):
        instants.append(renew_at(situation.held.leaf))
    return min(instants, default=None)


def _held_defects(situation: Situation) -> tuple[Defect, ...]:
    held, ref = situation.held, situation.spec.target.ref
    if isinstance(held, Unusable):
        return (defect(Reason.SecretUnusable, ref, why=held.why),)
    if isinstance(held, Stored) and is_by_hand(held):
        due = _text(renew_at(held.leaf))
        return (defect(Reason.CertificateReplacedByHand, ref, renew_at=due),)
    return ()


def _failure_defects(
    situation: Situation, failures: Mapping[DnsName, Failure]
) -> tuple[Defect, ...]:
    spec = situation.spec
    defects = [
        defect(
            Reason.ValidationFailed,
            ref,
            name=name,
            problem=failure.problem,
            retry_at=_text(failure.retry_at),
        )
        for name, failure in failures.items()
        for ref in spec.declared_by[name]
    ]
    failure = situation.ledger.targets.get(spec.target)
    if failure and armed_by(spec, _marks(situation)) in failure.armed_by:
        defects += [_target_defect(ref, failure) for ref in spec.sources]
    return tuple(defects)


def _target_defect(ref: ObjectRef, failure: Failure) -> Defect:
    facts = {"problem": failure.problem, "retry_at": _text(failure.retry_at)}
    if not failure.costly:
        return defect(Reason.OrderDelayed, ref, **facts)
    return defect(Reason.OrderRefused, ref, **facts)


def _marks(situation: Situation) -> Marks | None:
    return situation.held.marks if situation.held else None


def _text(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%d %H:%M:%S UTC")
