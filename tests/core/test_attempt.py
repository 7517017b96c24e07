"""attempt.py: what of the spent budgets the CA has counted, whatever the end of an order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from acmeistio.acme.authorization import NameFailure, NamesFailed
from acmeistio.acme.problem import Problem
from acmeistio.acme.session import ProblemResponse, RateLimited, ServerError
from acmeistio.attempt import Attempt, StillPaused
from acmeistio.errors import Conflict, Forbidden, KeyMissing, NotSent, Permanent, Transient
from acmeistio.issuer import LETS_ENCRYPT_LIMITS
from acmeistio.model import Issue, IssueReason, Validate
from acmeistio.names import DnsName
from acmeistio.planning.ledger import NEVER, Failure, Ledger, OpenOrder, Pause
from acmeistio.planning.limits import MARGIN, BudgetKey, Kind
from acmeistio.planning.setbacks import Case
from tests.core.builders import CA, DAY, MINUTE, NOW, TARGET, A, B, digest_of, spec_of, stored

ISSUER = replace(CA, limits=LETS_ENCRYPT_LIMITS)
SPEC = spec_of(A, B)
HELD = stored(A)
CASE = Case(SPEC, ISSUER, HELD)
LATER = NOW + MINUTE
ORDER = OpenOrder("https://ca.example/order/1", CA.directory_url, (A, B), NOW + 2 * MINUTE)

OF_ORDER = frozenset({Kind.ORDERS})
OF_CERTIFICATE = frozenset({Kind.DOMAIN, Kind.NAME_SET})
OF_FAILURE = frozenset({Kind.FAILURES, Kind.FAILURES_IN_A_ROW})
REFILL: Mapping[Kind, timedelta] = {
    Kind.ORDERS: timedelta(seconds=36),
    Kind.DOMAIN: 7 * DAY / 50,
    Kind.NAME_SET: 7 * DAY / 5,
    Kind.FAILURES: 12 * MINUTE,
    Kind.FAILURES_IN_A_ROW: DAY,
}


def attempt(*, is_made: bool = True, alone: DnsName | None = None) -> Attempt:
    """An order for A and B that was begun now, or a trial of one name."""
    decision = Validate(alone) if alone else Issue((A, B), IssueReason.NAMES_ADDED)
    return Attempt(CASE, decision, NOW, NOW, is_spent=True, is_made=is_made)


def spent(asked: Attempt) -> Ledger:
    """What is written down before the CA hears of it."""
    order, failures = asked.costs()
    return Ledger().spent({**order, **failures}, NOW)


def counted(ledger: Ledger, later: timedelta = timedelta()) -> set[tuple[Kind, str]]:
    """What is spent once, and counted so much later than it was spent; the set's digest is ""."""
    return {
        (key.kind, "" if key.kind is Kind.NAME_SET else key.subject)
        for key, full_at in ledger.budgets.items()
        if full_at == NOW + REFILL[key.kind] * MARGIN + later
    }


ALL = {
    (Kind.ORDERS, ""),
    (Kind.DOMAIN, "example.com"),
    (Kind.NAME_SET, ""),
    *((kind, name) for kind in OF_FAILURE for name in (A, B)),
}


def of(*kinds: Kind, subject: str | None = None) -> set[tuple[Kind, str]]:
    """Those of ALL that are of these kinds, and about one name."""
    return {key for key in ALL if key[0] in kinds and subject in (None, key[1])}


def no_name(name: DnsName, kind: str = "unauthorized", detail: str = "404") -> NamesFailed:
    """The CA could not validate a name."""
    return NamesFailed([NameFailure(name, Problem(kind, detail))])


def test_what_is_spent() -> None:
    """The order, and the failure of each name: nothing is overspent by a crash (DESIGN §5)."""
    assert counted(spent(attempt())) == ALL


# --- what ends well


def test_opened() -> None:
    """The CA has counted the order until now; it is resumed by its URL (DESIGN §5)."""
    asked = attempt()
    ledger = asked.opened(spent(asked), ORDER)
    assert counted(ledger, 2 * MINUTE) == of(*OF_ORDER, *OF_CERTIFICATE)
    assert ledger.orders == {TARGET: ORDER}


def test_issued() -> None:
    """A certificate is counted when it is issued, an order when it is made (acme.md §1.4)."""
    asked = replace(attempt(), proved=frozenset({A, B}))
    ledger = asked.issued(spent(asked), frozenset({A, B}), NOW + MINUTE)
    assert counted(ledger, MINUTE) == of(*OF_CERTIFICATE)
    assert counted(ledger) == of(*OF_ORDER)
    failures = {key for key in ledger.budgets if key.kind in OF_FAILURE}
    assert {(key.kind, ledger.budgets[key]) for key in failures} == {(Kind.FAILURES, NOW)}


IN_A_ROW = BudgetKey(CA.directory_url, Kind.FAILURES_IN_A_ROW, B)


def after_many(asked: Attempt) -> Ledger:
    """A ledger in which B has failed hundreds of times, and might once more."""
    ledger = spent(asked)
    return replace(ledger, budgets={**ledger.budgets, IN_A_ROW: NOW + 500 * DAY})


def test_one_success_ends_a_row_of_failures() -> None:
    """Consecutive failures reset to zero (acme.md §1)."""
    asked = replace(attempt(alone=B), proved=frozenset({B}))
    assert IN_A_ROW not in asked.validated(after_many(asked)).budgets
    assert IN_A_ROW not in asked.issued(after_many(asked), frozenset({B}), NOW).budgets


def test_no_validation_ends_no_row() -> None:
    """The CA has issued by what it had validated before: its count stays (Boulder: ra)."""
    asked = attempt(alone=B)
    kept = NOW + 500 * DAY - DAY * MARGIN
    assert asked.validated(after_many(asked)).budgets[IN_A_ROW] == kept
    assert asked.issued(after_many(asked), frozenset({B}), NOW).budgets[IN_A_ROW] == kept


def test_validated() -> None:
    """A name is proved and no certificate is made: none is counted (acme.md §1.4)."""
    asked = attempt(alone=B)
    digest = digest_of(SPEC, HELD.marks, B)
    ledger = spent(asked).name_failed("ca", B, Failure(3, NOW, (digest,), "no"))
    ledger = asked.validated(ledger)
    assert counted(ledger) == of(*OF_ORDER)
    assert ledger.names == {}


# --- what does not


def test_names_refused_at_new_order() -> None:
    """There is no order: nothing is counted (acme.md §1.4: refunded if newOrder fails)."""
    asked = attempt(is_made=False)
    ledger = asked.ended(spent(asked), no_name(B, "rejectedIdentifier"), LATER)
    assert counted(ledger) == set()
    assert ledger.names["ca", B].retry_at == NEVER
    assert set(ledger.names) == {("ca", B)}


def test_names_failed_at_validation() -> None:
    """The order is counted, and the failure of each name that failed, until now."""
    asked = attempt()
    opened = spent(asked).order_opened(TARGET, ORDER)
    ledger = asked.ended(opened, no_name(B), LATER)
    assert counted(ledger) == of(*OF_ORDER)
    assert counted(ledger, MINUTE) == of(*OF_FAILURE, subject=B)
    assert ledger.names["ca", B].retry_at == LATER + MINUTE
    assert ledger.orders == {}


def test_names_that_nobody_declares_failed() -> None:
    """A CA that speaks of other names has refused the order as a whole."""
    asked = attempt()
    ledger = asked.ended(spent(asked), no_name(DnsName("x.example.net")), LATER)
    assert ledger.names == {}
    assert ledger.targets[TARGET, "ca"].retry_at == LATER + MINUTE


def test_refused_at_new_order() -> None:
    """Nothing is counted; what will be refused again is not ordered again."""
    asked = attempt(is_made=False)
    error = ProblemResponse(Problem("userActionRequired", "read https://ca.example/terms.", 403))
    ledger = asked.ended(spent(asked), error, LATER)
    assert counted(ledger) == set()
    failure = ledger.targets[TARGET, "ca"]
    assert (failure.retry_at, failure.kind) == (NEVER, "userActionRequired")
    assert failure.link == "https://ca.example/terms"


def test_refused_afterwards() -> None:
    """The order is counted and maybe a certificate, no name has failed."""
    asked = attempt()
    ledger = asked.ended(spent(asked), Permanent("no", problem_type="badCSR"), LATER)
    assert counted(ledger) == of(*OF_ORDER, *OF_CERTIFICATE)
    assert ledger.targets[TARGET, "ca"].retry_at == NEVER


@pytest.mark.parametrize(
    ("is_made", "error", "kept"),
    [
        (True, Transient("timed out"), ALL),
        (True, Conflict("changed meanwhile"), ALL),
        (False, Transient("timed out"), of(*OF_ORDER)),
        (False, Conflict("changed meanwhile"), of(*OF_ORDER)),
    ],
)
def test_what_may_pass_keeps_what_may_be_counted(
    is_made: bool,
    error: Exception,
    kept: set[tuple[Kind, str]],
) -> None:
    """A CA may have the order without our knowing; nobody has gone on with such a one.

    Else an outage would use up the budgets, of which it counts nothing. The order stays open.
    """
    asked = attempt(is_made=is_made)
    opened = spent(asked).order_opened(TARGET, ORDER)
    ledger = asked.ended(opened, error, LATER)
    assert counted(ledger) == kept
    assert ledger.orders == opened.orders
    assert ledger.targets[TARGET, "ca"].retry_at == LATER + timedelta(seconds=1)


@pytest.mark.parametrize("error", [Transient("none left"), Permanent("no")])
def test_nothing_is_given_back_that_was_not_spent(error: Exception) -> None:
    """Who fails before it has spent leaves alone what others spent of the same (Attempt)."""
    others = spent(attempt())
    asked = replace(attempt(is_made=False), is_spent=False)
    assert counted(asked.ended(others, error, LATER)) == ALL


def test_a_pause_of_the_whole_client() -> None:
    """503 with Retry-After: only the issuer waits (errors.py, pauses_issuer)."""
    asked = attempt(is_made=False)
    error = ServerError(Problem("", "busy", 503), 60, pauses_issuer=True)
    ledger = asked.ended(spent(asked), error, LATER)
    assert ledger.pauses["ca"].until == LATER + MINUTE
    assert ledger.targets == {}


@pytest.mark.parametrize(("is_made", "kept"), [(True, ALL), (False, set())])
def test_a_ca_that_is_not_reached(is_made: bool, kept: set[tuple[Kind, str]]) -> None:
    """It has counted nothing of an order that it has nothing of; all who want one of it wait."""
    asked = attempt(is_made=is_made)
    opened = spent(asked).order_opened(TARGET, ORDER)
    ledger = asked.ended(opened, NotSent("refused"), LATER)
    assert counted(ledger) == kept
    assert ledger.orders == opened.orders
    assert ledger.targets == {}
    assert ledger.pauses["ca"] == Pause(LATER + timedelta(seconds=1), "refused", attempts=1)


def test_the_first_answer_ends_a_row_of_attempts() -> None:
    """The next outage begins with a short wait again (Ledger.reached)."""
    asked = attempt()
    ledger = spent(asked).paused("ca", Pause(NOW, "refused", attempts=9))
    assert asked.opened(ledger, ORDER).pauses == {}


def test_who_waited_for_a_slot_adds_nothing_to_a_pause() -> None:
    """It is in the ledger as it was (StillPaused)."""
    asked = attempt(is_made=False)
    ledger = Ledger().paused("ca", Pause(LATER + MINUTE, "slow down"))
    assert replace(asked, is_spent=False).ended(ledger, StillPaused("slow down"), LATER) == ledger


def limited(seconds: float = 720) -> RateLimited:
    """Boulder's refusal for a name that failed too often."""
    detail = f'too many failed authorizations (5) for "{B}" in the last 1h0m0s, retry after x'
    return RateLimited(Problem("rateLimited", detail, 429), seconds)


def test_rate_limited_at_new_order() -> None:
    """Nothing is counted but what the CA says is spent (setbacks.py, limited)."""
    asked = attempt(is_made=False)
    ledger = asked.ended(spent(asked), limited(), LATER)
    failures = BudgetKey(CA.directory_url, Kind.FAILURES, B)
    full_at = LATER + 12 * MINUTE + 4 * 12 * MINUTE * MARGIN
    assert ledger.budgets[failures] == full_at
    assert counted(ledger) == set()
    assert (ledger.targets, ledger.pauses) == ({}, {})


def test_rate_limited_afterwards() -> None:
    """An order that the CA has costs nothing more, so it must wait by itself (no busy loop)."""
    asked = attempt()
    opened = spent(asked).order_opened(TARGET, ORDER)
    ledger = asked.ended(opened, limited(), LATER)
    assert ledger.orders == opened.orders
    assert ledger.targets[TARGET, "ca"].retry_at == LATER + 12 * MINUTE
    assert counted(ledger) == ALL - {(Kind.FAILURES, B)}


PAGE = "https://portal.letsencrypt.org/sfe/v1/unpause?jwt=x.y-z"


def paused(names: str) -> ProblemResponse:
    """Boulder's refusal for names that failed too often in a row (acme.md §1.1)."""
    detail = (
        "Your account is temporarily prevented from requesting certificates for "
        f"{names} and possibly others. Please visit: {PAGE}."
    )
    return ProblemResponse(Problem("rateLimited", detail, 429))


@pytest.mark.parametrize(
    ("said", "blamed"), [(B, {B}), (f"{A}, {B}", {A, B}), (f"{B}.", {B}), (f"x{B}, {A}", {A})]
)
def test_paused_names(said: str, blamed: set[DnsName]) -> None:
    """Each name waits with the page on which a human ends it; nothing is counted."""
    asked = attempt(is_made=False)
    ledger = asked.ended(spent(asked), paused(said), LATER)
    assert {name for _, name in ledger.names} == blamed
    assert counted(ledger) == set()
    for failure in ledger.names.values():
        assert (failure.link, failure.retry_at) == (PAGE, LATER + DAY)


def test_a_pause_that_names_none() -> None:
    """Then the order as a whole waits a day (setbacks.py)."""
    asked = attempt(is_made=False)
    ledger = asked.ended(spent(asked), paused("several names"), LATER)
    assert ledger.names == {}
    assert ledger.targets[TARGET, "ca"].retry_at == LATER + DAY


# --- a name that is tried alone

TRIALS = [
    no_name(B),
    Transient("timed out"),
    Conflict("changed meanwhile"),
    Permanent("no", problem_type="malformed"),
    Permanent("no", problem_type=""),
    paused("several names"),
]


@pytest.mark.parametrize("error", TRIALS)
def test_what_keeps_a_name_from_being_proved_is_its_own(error: Exception) -> None:
    """The renewal of the others goes on, and its open order with it (attempt.py)."""
    asked = attempt(alone=B)
    opened = spent(asked).order_opened(TARGET, ORDER)
    ledger = asked.ended(opened, error, LATER)
    assert set(ledger.names) == {("ca", B)}
    assert ledger.names["ca", B].retry_at >= LATER + MINUTE
    assert ledger.targets == {}
    assert ledger.orders == opened.orders


def test_a_trial_waits_longer_each_time() -> None:
    """It is another failure of the name, not the first (backoff.py)."""
    asked, digest = attempt(alone=B), digest_of(SPEC, HELD.marks, B)
    ledger = Ledger().name_failed("ca", B, Failure(2, NOW, (digest,), "no"))
    failure = asked.ended(ledger, Transient("timed out"), LATER).names["ca", B]
    assert (failure.count, failure.retry_at) == (3, LATER + 100 * MINUTE)


@pytest.mark.parametrize("kind", ["userActionRequired", "externalAccountRequired"])
def test_what_concerns_the_account_stops_the_target(kind: str) -> None:
    """An order for the others would meet the same (attempt.py)."""
    asked = attempt(is_made=False, alone=B)
    ledger = asked.ended(spent(asked), Permanent("no", problem_type=kind), LATER)
    assert ledger.targets[TARGET, "ca"].retry_at == NEVER
    assert ledger.names == {}


@pytest.mark.parametrize("error", [Forbidden("cannot get"), KeyMissing("no key")])
def test_what_an_administrator_owes_is_no_failure_of_a_name(error: Exception) -> None:
    """Nor a reason to wait for long: the target goes on some seconds or minutes later."""
    asked = attempt(is_made=False, alone=B)
    ledger = asked.ended(spent(asked), error, LATER)
    failure = ledger.targets[TARGET, "ca"]
    assert (failure.retry_at - LATER, failure.costly) == (timedelta(seconds=1), False)
    assert failure.kind
    assert ledger.names == {}


def test_a_trial_leaves_no_order_open() -> None:
    """Nothing is lost with an order that no certificate is wanted of (attempt.py)."""
    asked = attempt(alone=B)
    ledger = asked.opened(spent(asked), ORDER)
    assert ledger.orders == {}
    assert (Kind.ORDERS, "") in counted(ledger, 2 * MINUTE)
