"""planning/replay.py: what a ledger can't know of its budgets."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from acmeistio.issuer import LETS_ENCRYPT_LIMITS, Limit, Limits
from acmeistio.model import Held, Stored, Unusable
from acmeistio.planning import limits
from acmeistio.planning.ledger import Ledger
from acmeistio.planning.limits import MARGIN, BudgetKey, Exemption, Kind
from acmeistio.planning.replay import BACKDATED, UNDER_WAY, replayed, taken_up
from tests.core.builders import CA, DAY, MINUTE, NOW, OTHER_CA, A, placeholder_of, stored

HOUR = timedelta(hours=1)
ISSUER = replace(CA, limits=LETS_ENCRYPT_LIMITS)
DOMAIN = BudgetKey(CA.directory_url, Kind.DOMAIN, "example.com")
ORDERS = BudgetKey(CA.directory_url, Kind.ORDERS)
PER_DOMAIN = 7 * DAY / 50 * MARGIN


def certificate(issued_at: datetime | None, *, made: datetime | None = None) -> Stored:
    """A certificate that was issued then; its life began an hour before."""
    begins = made or (issued_at or NOW) - BACKDATED
    return stored(A, made=begins, issued_at=issued_at)


def domain(ledger: Ledger) -> timedelta | None:
    """How long from now the budget of the domain is not full."""
    return ledger.budgets[DOMAIN] - NOW if DOMAIN in ledger.budgets else None


def test_a_missing_ledger() -> None:
    """All that is stored was ordered: as many orders, each when it was issued (replay.py)."""
    held = [certificate(NOW - index * HOUR) for index in range(3)]
    ledger = replayed(Ledger(), held, [ISSUER], None)
    assert domain(ledger) == 3 * PER_DOMAIN - 2 * HOUR
    costs = limits.costs_of_order(ISSUER, [A], Exemption.NONE)
    assert set(ledger.budgets) == set(costs)


def test_in_whatever_order_they_are_seen() -> None:
    """The oldest is counted first, so that what is refilled since is refilled (replay.py)."""
    held: list[Held] = [certificate(NOW - index * 8 * HOUR) for index in range(4)]
    turned = replayed(Ledger(), reversed(held), [ISSUER], None)
    assert replayed(Ledger(), held, [ISSUER], None) == turned


def test_an_older_ledger() -> None:
    """A cluster restored from a backup: what was issued since is missing, what before is not."""
    as_of = NOW - HOUR
    held = [certificate(NOW - 2 * HOUR), certificate(as_of), certificate(NOW - MINUTE)]
    costs = {DOMAIN: Limit(50, 7 * DAY / 50)}
    before = Ledger(as_of=as_of).spent(costs, NOW - 2 * HOUR)
    ledger = replayed(before, held, [ISSUER], as_of)
    assert domain(ledger) == 2 * PER_DOMAIN - 2 * HOUR


def test_nothing_is_missing() -> None:
    """A ledger that is as new as the certificates beside it stays as it is."""
    ledger = Ledger(as_of=NOW)
    assert replayed(ledger, [certificate(NOW - HOUR), None], [ISSUER], NOW) == ledger


def test_issued_at_is_exact() -> None:
    """Where the Secret says when, the life's beginning does not count (marks.issued_at)."""
    exact = certificate(NOW - 3 * HOUR, made=NOW - 30 * DAY)
    assert domain(replayed(Ledger(), [exact], [ISSUER], None)) == PER_DOMAIN - 3 * HOUR


def test_a_life_that_is_backdated() -> None:
    """Without it, an hour after the life's beginning, rather later than earlier (replay.py)."""
    inexact = certificate(None, made=NOW - 3 * HOUR)
    assert domain(replayed(Ledger(), [inexact], [ISSUER], None)) == PER_DOMAIN - 2 * HOUR
    assert BACKDATED == HOUR


@pytest.mark.parametrize(
    "held",
    [
        None,
        Unusable("gone", stored(A).marks),
        placeholder_of(A),
        stored(A, written_sha256="by hand"),
        stored(A, directory_url=OTHER_CA.directory_url),
        stored(A, directory_url=None),
    ],
)
def test_what_no_ca_of_ours_issued(held: Held) -> None:
    """It says nothing of any budget (replay.py)."""
    assert replayed(Ledger(), [held], [ISSUER], None) == Ledger()


def test_what_is_full_again_costs_nothing() -> None:
    """Old certificates make nobody wait."""
    ledger = replayed(Ledger(), [stored(A, made=NOW - 60 * DAY)], [ISSUER], None)
    assert limits.without_full(ledger.budgets, NOW) == {}


def test_more_than_a_burst() -> None:
    """However many there are: one waits for what is over the burst, no longer."""
    issuer = replace(CA, limits=Limits(orders=Limit(2, HOUR)))
    held = [certificate(NOW) for _ in range(3)]
    ledger = replayed(Ledger(), held, [issuer], None)
    assert limits.payable_at(ledger.budgets, {ORDERS: Limit(2, HOUR)}, NOW) == (
        NOW + 2 * HOUR * MARGIN
    )


@pytest.mark.parametrize(
    ("away", "delay"),
    [
        (timedelta(), timedelta()),
        (timedelta(seconds=3), timedelta(seconds=3)),
        (HOUR, UNDER_WAY),
        (-HOUR, timedelta()),
    ],
)
def test_taken_up(away: timedelta, delay: timedelta) -> None:
    """What was under way when the last life ended may have been counted a little later."""
    costs = {DOMAIN: Limit(50, HOUR)}
    ledger = replace(Ledger().spent(costs, NOW), as_of=NOW - away)
    assert taken_up(ledger, NOW).budgets[DOMAIN] == ledger.budgets[DOMAIN] + delay


def test_nothing_to_take_up() -> None:
    """A ledger that never was written, or has spent nothing (replay.py)."""
    fresh = Ledger().spent({DOMAIN: Limit(50, HOUR)}, NOW)
    assert taken_up(fresh, NOW) is fresh
    assert taken_up(Ledger(as_of=NOW), NOW + HOUR) == Ledger(as_of=NOW)
