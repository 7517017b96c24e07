"""planning/setbacks.py: what is remembered of an order that gave no certificate."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from acmeistio.issuer import LETS_ENCRYPT_LIMITS
from acmeistio.model import Held, Unusable
from acmeistio.planning import limits, setbacks
from acmeistio.planning.failing import PAUSED
from acmeistio.planning.ledger import NEVER, Failure, Ledger, OpenOrder
from acmeistio.planning.limits import Kind
from acmeistio.planning.setbacks import PERMANENT, Case, Setback
from tests.core.builders import (
    CA,
    DAY,
    MINUTE,
    NOW,
    TARGET,
    A,
    B,
    digest_of,
    placeholder_of,
    spec_of,
    stored,
)

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
SPEC = spec_of(A, B)
ISSUER = replace(CA, limits=LETS_ENCRYPT_LIMITS)
CASE = Case(SPEC, ISSUER, stored(A, B))
NO = Setback("no", "unauthorized")
OPENED = Ledger().order_opened(TARGET, OpenOrder("https://ca.example/1", "", SPEC.names, NOW))


def case(held: Held) -> Case:
    """The same with another Secret before it."""
    return Case(SPEC, ISSUER, held)


def waits(now: datetime, failure: Failure) -> timedelta:
    """How long until the next attempt."""
    return failure.retry_at - now


def name_waits(asked: Case, setback: Setback, times: int) -> list[timedelta]:
    """The waits of a name that fails again whenever it is tried."""
    ledger, now, found = Ledger(), NOW, []
    for _ in range(times):
        ledger = setbacks.names_failed(ledger, asked, {B: setback}, now)
        failure = ledger.names["ca", B]
        found.append(waits(now, failure))
        now = failure.retry_at
    return found


def test_a_name_waits_longer_each_time() -> None:
    """1, 10, 100 minutes, then daily (acme.md §1.6)."""
    assert name_waits(CASE, NO, 5) == [MINUTE, 10 * MINUTE, 100 * MINUTE, DAY, DAY]


@pytest.mark.parametrize("held", [placeholder_of(A, B), None, Unusable("gone", CASE.held.marks)])  # type: ignore[union-attr]
def test_where_nothing_serves_too(held: Held) -> None:
    """A placeholder's year is no life that would shorten or lengthen it (renewal.py)."""
    assert name_waits(case(held), NO, 4)[-1] == DAY


def test_short_lives_are_tried_more_often() -> None:
    """For 160 h the daily step is capped at about 6 h (acme.md §7)."""
    short = case(stored(A, B, lifetime=timedelta(hours=160)))
    assert name_waits(short, NO, 5)[-2:] == [80 * HOUR / 12] * 2
    refused = setbacks.refused(Ledger(), short, NO, NOW).targets[TARGET, "ca"]
    assert waits(NOW, refused) == MINUTE


def test_names_fail_by_themselves() -> None:
    """Each has its own count; what was said of it is kept; the order is over (ledger.py)."""
    again = setbacks.names_failed(Ledger(), CASE, {B: NO}, NOW)
    ledger = replace(again, orders=OPENED.orders)
    link = Setback("paused", "caa", link="https://ca.example/help")
    ledger = setbacks.names_failed(ledger, CASE, {A: link, B: NO}, NOW)
    assert ledger.orders == {}
    first, second = ledger.names["ca", A], ledger.names["ca", B]
    assert (first.count, first.kind, first.link) == (1, "caa", "https://ca.example/help")
    assert (second.count, second.problem) == (2, "no")
    assert first.armed_by == (digest_of(SPEC, CASE.marks, A),)


def test_another_declaration_counts_anew() -> None:
    """A user changed something: what failed before is no reason to wait longer (failing.py)."""
    ledger = setbacks.names_failed(Ledger(), CASE, {B: NO}, NOW)
    ledger = setbacks.names_failed(ledger, CASE, {B: NO}, NOW)
    changed = replace(CASE, spec=replace(SPEC, profile="tlsserver"))
    failure = setbacks.names_failed(ledger, changed, {B: NO}, NOW).names["ca", B]
    assert failure.count == 1


@pytest.mark.parametrize("kind", sorted(PERMANENT))
def test_what_time_does_not_cure(kind: str) -> None:
    """Not retried until spec or settings change (DESIGN §5, Errors)."""
    setback = Setback("no", kind)
    failure = setbacks.names_failed(Ledger(), CASE, {B: setback}, NOW).names["ca", B]
    assert (failure.retry_at, failure.is_permanent) == (NEVER, True)
    failure = setbacks.refused(Ledger(), CASE, setback, NOW).targets[TARGET, "ca"]
    assert failure.retry_at == NEVER


@pytest.mark.parametrize(
    "kind", ["", "caa", "dns", "connection", "unauthorized", "malformed", "serverInternal", "new"]
)
def test_what_time_may_cure(kind: str) -> None:
    """Its cure lies where nobody tells of a change: `caa` among them (setbacks.py)."""
    assert name_waits(CASE, Setback("no", kind), 2) == [MINUTE, 10 * MINUTE]


def test_a_paused_name_is_asked_about_daily() -> None:
    """Only a human can end the pause; asking costs the CA nothing (acme.md §1.1)."""
    assert name_waits(CASE, Setback("paused", PAUSED), 3) == [DAY, DAY, DAY]
    short = case(stored(A, B, lifetime=timedelta(hours=160)))
    assert name_waits(short, Setback("paused", PAUSED), 1) == [DAY]


def test_a_refused_order() -> None:
    """It is over, and waits as a whole, at this CA (setbacks.py)."""
    ledger = setbacks.refused(OPENED, CASE, NO, NOW)
    assert ledger.orders == {}
    failure = ledger.targets[TARGET, "ca"]
    assert (failure.count, waits(NOW, failure), failure.costly) == (1, MINUTE, True)
    failure = setbacks.refused(ledger, CASE, NO, NOW).targets[TARGET, "ca"]
    assert (failure.count, waits(NOW, failure)) == (2, 10 * MINUTE)


def test_a_delayed_order_stays_open() -> None:
    """It goes on where it was: seconds, doubled, at most five minutes (backoff.py)."""
    ledger, found = OPENED, []
    for _ in range(11):
        ledger = setbacks.delayed(ledger, CASE, Setback("timed out"), NOW)
        found.append(waits(NOW, ledger.targets[TARGET, "ca"]))
    assert found[:4] == [SECOND, 2 * SECOND, 4 * SECOND, 8 * SECOND]
    assert found[-1] == 5 * MINUTE
    assert ledger.orders == OPENED.orders
    assert not ledger.targets[TARGET, "ca"].costly


def test_retry_after_is_a_floor_of_a_delay() -> None:
    """DESIGN §5, Rate limits."""
    ledger = setbacks.delayed(Ledger(), CASE, Setback("busy", wait_seconds=60), NOW)
    assert waits(NOW, ledger.targets[TARGET, "ca"]) == MINUTE


def test_a_refusal_after_delays_counts_anew() -> None:
    """Delays cost the CA nothing: the first refusal is the first (setbacks.py)."""
    ledger = setbacks.delayed(Ledger(), CASE, Setback("timed out"), NOW)
    ledger = setbacks.refused(ledger, CASE, NO, NOW)
    assert ledger.targets[TARGET, "ca"].count == 1
    ledger = setbacks.delayed(ledger, CASE, Setback("timed out"), NOW)
    assert ledger.targets[TARGET, "ca"].count == 1


def test_a_pause() -> None:
    """The CA asked this client as a whole to wait; no failure is counted."""
    ledger = setbacks.paused(Ledger(), CASE, Setback("slow down", wait_seconds=90), NOW)
    assert ledger.pauses["ca"].until == NOW + 90 * SECOND
    assert (ledger.names, ledger.targets) == ({}, {})


@pytest.mark.parametrize("seconds", [None, 0.0, 0.01])
def test_a_pause_is_never_over_at_once(seconds: float | None) -> None:
    """A CA that says "too many, come at once" is not asked in a loop (no busy loop)."""
    ledger = setbacks.paused(Ledger(), CASE, Setback("slow down", wait_seconds=seconds), NOW)
    assert ledger.pauses["ca"].until >= NOW + SECOND


def test_a_limit_that_is_named_is_a_budget() -> None:
    """What is spent there is spent here; everybody else goes on (setbacks.py)."""
    problem = f'too many failed authorizations (5) for "{B}" in the last 1h0m0s (rateLimited)'
    ledger = setbacks.limited(OPENED, CASE, SPEC.names, Setback(problem, wait_seconds=720), NOW)
    assert (ledger.pauses, ledger.targets, ledger.names) == ({}, {}, {})
    (key,) = ledger.budgets
    assert (key.kind, key.subject) == (Kind.FAILURES, B)
    costs = limits.costs_of_failures(ISSUER, [B])
    assert limits.payable_at(ledger.budgets, costs, NOW) == NOW + 12 * MINUTE


@pytest.mark.parametrize("problem", ["too many requests", "", "too many new registrations (10)"])
def test_a_limit_that_is_not_named_is_the_clients(problem: str) -> None:
    """Its words say nothing of what it is on: the whole client waits (setbacks.py)."""
    ledger = setbacks.limited(Ledger(), CASE, SPEC.names, Setback(problem, wait_seconds=60), NOW)
    assert ledger.budgets == {}
    assert ledger.pauses["ca"].until == NOW + MINUTE


def test_one_attempt_in_a_while_asks_whether_a_ca_can_be_reached() -> None:
    """The wait doubles up to five minutes; orders that failed together count once."""
    ledger, now, waits = Ledger(), NOW, []
    for _ in range(11):
        for _ in range(3):
            ledger = setbacks.unreachable(ledger, CASE, Setback("refused"), now)
        until = ledger.pauses["ca"].until
        waits.append((until - now).total_seconds())
        now = until
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_a_pause_that_was_asked_for_is_no_attempt_in_vain() -> None:
    """Who is asked to wait has reached the CA (Pause)."""
    ledger = setbacks.paused(Ledger(), CASE, Setback("slow down", wait_seconds=90), NOW)
    ledger = setbacks.unreachable(ledger, CASE, Setback("refused"), NOW + timedelta(seconds=90))
    assert ledger.pauses["ca"].attempts == 1
