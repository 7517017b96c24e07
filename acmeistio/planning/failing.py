"""What has failed before for a target and its names, and what is said of it. Pure.

A failure counts as long as the declaration and the CA's settings are as they were: whoever changes
them is not made to wait for what was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping

from acmeistio.issuer import Issuer
from acmeistio.model import CertificateSpec, Marks, ObjectRef
from acmeistio.names import DnsName, url_host
from acmeistio.planning import limits
from acmeistio.planning.ledger import Failure
from acmeistio.planning.limits import Exemption
from acmeistio.planning.situation import Situation, text
from acmeistio.reasons import Defect, Reason, defect

PAUSED = "rateLimited"
"""The problem type of a name that the CA has paused: a 429 that no time is given for."""
TERMS = "userActionRequired"
REVOCATION = "revocation"
"""Not a problem type: what failed was no order."""
FORBIDDEN = "forbidden"
"""Nor this: the API server keeps from us what the order needs."""
MAC_KEY = "macKey"
"""Nor this: what the account is to be bound by is not there."""


def armed_by(
    spec: CertificateSpec, issuer: Issuer, marks: Marks | None, name: DnsName | None = None
) -> str:
    """A digest of what a failure of `name` (or of the whole target) depends on.

    As soon as it is none of those that a Failure holds, the Failure is void: a user changed
    the declaration or the settings, or asked for a renewal.
    """
    names = {name: spec.declared_by[name]} if name else spec.declared_by
    external = issuer.external_account
    parts = [
        str(spec.target),
        spec.issuer,
        spec.key_type,
        spec.profile,
        issuer.directory_url,
        external.key_id if external else None,
        marks.renew_requested_at if marks else None,
        marks.revoke_requested if marks else None,
        [[key, *map(str, refs)] for key, refs in sorted(names.items())],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def name_failures(situation: Situation) -> dict[DnsName, Failure]:
    """The names of a spec that failed and are declared as they were when they did."""
    spec, issuer, marks = situation.spec, situation.issuer, situation.marks
    found = {name: situation.ledger.names.get((spec.issuer, name)) for name in spec.names}
    return {
        name: failure
        for name, failure in found.items()
        if failure and armed_by(spec, issuer, marks, name) in failure.armed_by
    }


def target_failure(situation: Situation) -> Failure | None:
    """The failure of the order as a whole, if it is still one of this declaration."""
    failure = _whole_failure(situation)
    return failure if failure and failure.kind != REVOCATION else None


def revocation_failure(situation: Situation) -> Failure | None:
    """The failure of a revocation, which is no reason to let the certificate run out."""
    failure = _whole_failure(situation)
    return failure if failure and failure.kind == REVOCATION else None


def _whole_failure(situation: Situation) -> Failure | None:
    spec = situation.spec
    failure = situation.ledger.targets.get((spec.target, spec.issuer))
    if failure and armed_by(spec, situation.issuer, situation.marks) in failure.armed_by:
        return failure
    return None


def is_tried_alone(situation: Situation) -> bool:
    """Whether a name that failed is tried by itself: a certificate for others serves.

    An order with all names would fail with it, and each has its CA's validations to lose.
    """
    return situation.served is not None and len(situation.spec.names) > 1


def waiting_names(
    situation: Situation, failures: Mapping[DnsName, Failure]
) -> dict[DnsName, Failure]:
    """The names that may not be ordered yet; each with the latest of what it waits for."""
    found = [*_unreachable(situation), *_out_of_budget(situation, failures), *failures.items()]
    waiting: dict[DnsName, Failure] = {}
    for name, failure in found:
        known = waiting.get(name)
        if failure.retry_at > situation.now and (not known or known.retry_at < failure.retry_at):
            waiting[name] = failure
    return waiting


def failure_defects(situation: Situation, failures: Mapping[DnsName, Failure]) -> Iterator[Defect]:
    """What is wrong with the names, and with the order as a whole."""
    spec, found = situation.spec, _whole_failure(situation)
    for name, failure in failures.items():
        for ref in spec.declared_by[name]:
            yield _name_defect(ref, name, failure)
    for name in spec.names:
        if name not in failures:
            yield from _budget_defects(situation, name)
    if found:
        yield from (_target_defect(ref, found) for ref in spec.sources)


def _unreachable(situation: Situation) -> Iterator[tuple[DnsName, Failure]]:
    """The names that wait for a way, as failures that never count: none is dropped for them."""
    for name, found in situation.unreachable.items():
        if name in situation.spec.names:
            yield name, Failure(0, found.retry_at, (), "", costly=False)


def _out_of_budget(
    situation: Situation, failures: Mapping[DnsName, Failure]
) -> Iterator[tuple[DnsName, Failure]]:
    """The names that failed as often as the CA allows; another failure would be too many.

    And those that there is no order left for to be tried by themselves: nobody waits for that.
    """
    budgets, now, issuer = situation.ledger.budgets, situation.now, situation.issuer
    alone = is_tried_alone(situation)
    for name in situation.spec.names:
        if name not in failures and not limits.has_failed(budgets, issuer, name):
            continue
        costs = limits.costs_of_failures(issuer, [name])
        if alone and name in failures:
            costs |= limits.costs_of_order(issuer, [name], Exemption.NONE)
        until = limits.payable_at(budgets, costs, now)
        if until > now:
            yield name, Failure(0, until, (), "", costly=False)


def _budget_defects(situation: Situation, name: DnsName) -> Iterator[Defect]:
    """Why a name waits that no failure is known of."""
    budgets, issuer = situation.ledger.budgets, situation.issuer
    if not limits.has_failed(budgets, issuer, name):
        return
    costs = limits.costs_of_failures(issuer, [name])
    until, scarce = limits.scarcest(budgets, costs, situation.now)
    if scarce:
        limit, what = limits.words(scarce)
        facts = {"what": what, "limit": limit, "issuer": situation.issuer.name}
        for ref in situation.spec.declared_by[name]:
            yield defect(Reason.RateLimited, ref, **facts, retry_at=text(until))


def _name_defect(ref: ObjectRef, name: DnsName, failure: Failure) -> Defect:
    facts = {"name": name, "problem": failure.problem, "host": url_host(name)}
    if failure.kind == PAUSED:
        when = text(failure.retry_at)
        return defect(Reason.NamePaused, ref, **facts, link=failure.link, retry_at=when)
    if failure.is_permanent:
        return defect(Reason.NameRefused, ref, **facts)
    return defect(Reason.ValidationFailed, ref, **facts, retry_at=text(failure.retry_at))


def _target_defect(ref: ObjectRef, failure: Failure) -> Defect:
    problem, when = failure.problem, text(failure.retry_at)
    if failure.kind == REVOCATION:
        return defect(Reason.RevocationFailed, ref, problem=problem, retry_at=when)
    if not failure.costly:
        return _delay_defect(ref, failure)
    if failure.kind == TERMS:
        return defect(Reason.TermsChanged, ref, problem=problem, link=failure.link)
    if failure.is_permanent:
        return defect(Reason.OrderRejected, ref, problem=problem)
    return defect(Reason.OrderRefused, ref, problem=problem, retry_at=when)


def _delay_defect(ref: ObjectRef, failure: Failure) -> Defect:
    """What passes by itself, or once somebody gives what the program lacks."""
    problem, when = failure.problem, text(failure.retry_at)
    if failure.kind == FORBIDDEN:
        return defect(Reason.OrderForbidden, ref, problem=problem, retry_at=when)
    if failure.kind == MAC_KEY:
        return defect(Reason.MACKeyMissing, ref, problem=problem, retry_at=when)
    return defect(Reason.OrderDelayed, ref, problem=problem, retry_at=when)
