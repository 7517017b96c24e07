"""One attempt at an order as the ledger sees it: what is spent for it, and what its end means.

Owns which error of the protocol is which setback (planning/setbacks.py), and what of the spent
budgets the CA has counted. It does not ask the CA, nor write anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime

from acmeistio.acme.order import NamesFailed
from acmeistio.acme.problem import Problem
from acmeistio.acme.session import HTTP_TOO_MANY, ProblemResponse, RateLimited
from acmeistio.errors import Conflict, Forbidden, KeyMissing, NotSent, Permanent, Transient
from acmeistio.model import Issue, Validate
from acmeistio.names import DnsName
from acmeistio.planning import limits, setbacks
from acmeistio.planning.failing import FORBIDDEN, MAC_KEY, PAUSED
from acmeistio.planning.ledger import Ledger, OpenOrder
from acmeistio.planning.limits import Costs, Kind
from acmeistio.planning.setbacks import Case, Setback
from acmeistio.planning.shares import costs_of
from acmeistio.reasons import plain

_WORDS = re.compile(r"[A-Za-z0-9._:-]*[A-Za-z0-9]")
_PAGE = re.compile(r"https://[^\s\"'<>]+")


class StillPaused(Transient):
    """The issuer is not to be asked now, as the ledger says already."""


@dataclass(slots=True)
class Attempt:
    """An order for a case. `begun_at` is when its budgets were spent, if `is_spent`.

    `zero_at` is the beginning of monotonic time on the calendar by which it was decided.
    `is_made` says that the CA has it; `is_resumed` that an earlier life, or an earlier attempt,
    had made it already. `proved` are the names that the CA has validated for it, and not before.
    """

    case: Case
    decision: Issue | Validate
    begun_at: datetime
    zero_at: datetime
    is_spent: bool = False
    is_made: bool = False
    is_resumed: bool = False
    proved: frozenset[DnsName] = frozenset()

    @property
    def names(self) -> tuple[DnsName, ...]:
        """What the order is for."""
        decision = self.decision
        return (decision.name,) if isinstance(decision, Validate) else decision.names

    @property
    def replaced(self) -> str | None:
        """The certificate that it replaces, by its name in renewal information (RFC 9773 §4.1)."""
        replaces = self.decision.replaces if isinstance(self.decision, Issue) else None
        return replaces.renewal_id if replaces else None

    def replaces_nothing(self) -> None:
        """It is an order like others: the certificate before is another account's, or the CA's."""
        if isinstance(self.decision, Issue):
            self.decision = replace(self.decision, replaces=None)

    def costs(self) -> tuple[Costs, Costs]:
        """What it costs by itself, and what if all names fail."""
        case = self.case
        order = costs_of(self.decision, case.issuer, case.held, self.begun_at)
        return order, limits.costs_of_failures(case.issuer, self.names)

    def opened(self, ledger: Ledger, order: OpenOrder) -> Ledger:
        """The CA has the order, which it has counted until now."""
        order_costs, _ = self.costs()
        ledger = ledger.reached(self.case.spec.issuer)
        ledger = ledger.postponed(order_costs, order.opened_at - self.begun_at)
        if isinstance(self.decision, Validate):
            return ledger  # nothing is lost with an order that no certificate is wanted of
        return ledger.order_opened(self.case.spec.target, order)

    def issued(self, ledger: Ledger, names: frozenset[DnsName], now: datetime) -> Ledger:
        """The certificate is stored; the CA has counted it until now, and no name has failed."""
        spec, (order_costs, failures) = self.case.spec, self.costs()
        of_certificate = _of_certificate(order_costs)
        ledger = ledger.postponed(of_certificate, now - self.begun_at).absolved(
            failures, self.proved
        )
        return ledger.issued(spec.target, spec.issuer, names)

    def validated(self, ledger: Ledger) -> Ledger:
        """The names of the order are proved, and no certificate is made of it."""
        order_costs, failures = self.costs()
        ledger = ledger.refunded(_of_certificate(order_costs))
        ledger = ledger.absolved(failures, self.proved)
        for name in self.names:
            ledger = ledger.name_proved(self.case.spec.issuer, name)
        return ledger

    def forgotten(self, ledger: Ledger, error: Exception) -> Ledger:
        """The CA has forgotten the account: what it would not make, and failures, never count."""
        if not self.is_spent:
            return ledger
        return ledger.refunded(self.costs()[1] if self.is_made else self._uncounted(error))

    def begin_anew(self) -> None:
        """Another order is to be made; what came of the first is settled."""
        self.is_spent = self.is_made = self.is_resumed = False

    def ended(self, ledger: Ledger, error: Exception, now: datetime) -> Ledger:
        """The attempt has failed."""
        in_vain = self.is_spent and not self.is_made
        after = ledger.refunded(self._uncounted(error)) if in_vain else ledger
        if isinstance(error, NamesFailed):
            after = self._names_failed(after, error, now)
        else:
            after = self._failed(after, error, now)
        # A name tried alone has nothing to do with the order that may be open for its target.
        return replace(after, orders=ledger.orders) if self._is_trial else after

    def _uncounted(self, error: Exception) -> Costs:
        """What the CA has not counted of an order that it may not even have heard of.

        Nothing is issued, and no name has failed, but by an order that somebody went on with; the
        order itself may have been counted if its reply was lost.
        """
        order_costs, failures = self.costs()
        is_answered = isinstance(error, Permanent | NamesFailed | RateLimited)
        is_unsent = isinstance(error, NotSent)
        order = order_costs if is_answered or is_unsent else _of_certificate(order_costs)
        return {**order, **failures}

    @property
    def _is_trial(self) -> bool:
        return isinstance(self.decision, Validate)

    def _names_failed(self, ledger: Ledger, error: NamesFailed, now: datetime) -> Ledger:
        order_costs, failures = self.costs()
        declared = self.case.spec.declared_by
        failed = {f.name: _of_problem(f.problem) for f in error.failures if f.name in declared}
        if not failed:
            return setbacks.refused(ledger, self.case, Setback(plain(error)), now)
        if self.is_made:
            proved = {key: limit for key, limit in failures.items() if key.subject not in failed}
            counted = {key: limit for key, limit in failures.items() if key.subject in failed}
            ledger = ledger.refunded({**_of_certificate(order_costs), **proved})
            ledger = ledger.postponed(counted, now - self.begun_at)
        return setbacks.names_failed(ledger, self.case, failed, now)

    def _failed(self, ledger: Ledger, error: Exception, now: datetime) -> Ledger:
        case = self.case
        if isinstance(error, RateLimited):
            return self._limited(ledger, error, now)
        if isinstance(error, Transient) and _is_of_issuer(error):
            return self._issuer_failed(ledger, error, now)
        if self._is_trial and not _is_of_account(error):
            return self._trial_failed(ledger, error, now)
        if isinstance(error, Transient | Conflict):
            return setbacks.delayed(ledger, case, _of_transient(error), now)
        if isinstance(error, ProblemResponse) and _is_pause(error.problem):
            return self._name_paused(ledger, error.problem, now)
        if self.is_made:
            ledger = ledger.refunded(self.costs()[1])
        return setbacks.refused(ledger, case, _of_refusal(error), now)

    def _issuer_failed(self, ledger: Ledger, error: Transient, now: datetime) -> Ledger:
        """Whoever asks the CA meets the same."""
        if isinstance(error, StillPaused):
            return ledger
        pause = setbacks.unreachable if isinstance(error, NotSent) else setbacks.paused
        return pause(ledger, self.case, _of_transient(error), now)

    def _limited(self, ledger: Ledger, error: RateLimited, now: datetime) -> Ledger:
        """An order that the CA has goes on, but not before it says."""
        setback = _of_transient(error)
        ledger = setbacks.limited(ledger, self.case, self.names, setback, now)
        resumes = self.is_made and not self._is_trial
        return setbacks.delayed(ledger, self.case, setback, now) if resumes else ledger

    def _trial_failed(self, ledger: Ledger, error: Exception, now: datetime) -> Ledger:
        """Whatever keeps a name from being proved alone: the target goes on without it."""
        setback = dict.fromkeys(self.names, _of_refusal(error))
        return setbacks.names_failed(ledger, self.case, setback, now)

    def _name_paused(self, ledger: Ledger, problem: Problem, now: datetime) -> Ledger:
        """The names that the CA says it has paused; else the order as a whole."""
        setback = _of_problem(problem)
        quoted = {name for name in self.names if name in _WORDS.findall(problem.detail)}
        blamed = quoted or (set(self.names) if len(self.names) == 1 else set())
        if not blamed:
            return setbacks.refused(ledger, self.case, setback, now)
        return setbacks.names_failed(ledger, self.case, dict.fromkeys(blamed, setback), now)


def _of_certificate(costs: Costs) -> Costs:
    """What the CA counts once a certificate is issued; the rest is of the order."""
    kinds = (Kind.DOMAIN, Kind.NAME_SET)
    return {key: limit for key, limit in costs.items() if key.kind in kinds}


def _is_of_issuer(error: Transient) -> bool:
    return error.pauses_issuer or isinstance(error, NotSent | StillPaused)


def _is_of_account(error: Exception) -> bool:
    """Whether an order for other names would meet the same."""
    lacking = isinstance(error, Forbidden | KeyMissing)
    return lacking or _of_refusal(error).kind in setbacks.PERMANENT


def _is_pause(problem: Problem) -> bool:
    """Boulder's words for a name that only a human can set free have no time in them."""
    return problem.type == PAUSED and problem.status == HTTP_TOO_MANY


def _of_problem(problem: Problem) -> Setback:
    page = _PAGE.search(problem.detail)
    return Setback(str(problem), problem.type, page.group().rstrip(".,)") if page else "")


def _of_transient(error: Exception) -> Setback:
    wait = error.retry_after_seconds if isinstance(error, Transient) else None
    return Setback(plain(error), _awaited(error), wait_seconds=wait)


def _awaited(error: Exception) -> str:
    """What takes an administrator's hand, if it does."""
    match error:
        case Forbidden():
            return FORBIDDEN
        case KeyMissing():
            return MAC_KEY
    return ""


def _of_refusal(error: Exception) -> Setback:
    if isinstance(error, ProblemResponse):
        return _of_problem(error.problem)
    kind = error.problem_type if isinstance(error, Permanent) else ""
    return Setback(plain(error), kind)
