"""planning/renewal.py and backoff.py: arithmetic on instants."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmeistio.model import Leaf
from acmeistio.planning.backoff import (
    LONGEST_TRANSIENT_STEP,
    after_failures,
    after_transients,
)
from acmeistio.planning.renewal import endangered_at, renew_at
from tests.core.builders import DAY, MINUTE, NOW, A
from tests.core.strategies import AWARE, LIFETIMES

SECOND = timedelta(seconds=1)


def leaf(lifetime: timedelta, made: datetime = NOW) -> Leaf:
    """A certificate of that lifetime."""
    return Leaf(frozenset({A}), made, made + lifetime, 1, "", None)


@pytest.mark.parametrize(
    ("lifetime", "due"),
    [
        (90 * DAY, 60 * DAY),
        (47 * DAY, 47 * DAY * 2 / 3),
        (10 * DAY, timedelta(seconds=576_000)),
        (10 * DAY - 2 * SECOND, 5 * DAY - SECOND),
        (timedelta(hours=160), timedelta(hours=80)),
        (timedelta(seconds=60), timedelta(seconds=30)),
    ],
)
def test_renew_at(lifetime: timedelta, due: timedelta) -> None:
    """Two thirds of the lifetime, half below 10 days (DESIGN §5, Renewal; facts/acme.md §7)."""
    assert renew_at(leaf(lifetime)) == (NOW + due).replace(microsecond=0)


@given(LIFETIMES, st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001
def test_due_before_endangered_before_expiry(lifetime: timedelta, made: datetime) -> None:
    """Due, then endangered halfway from there, then expired; due in whole seconds."""
    made = made.replace(tzinfo=NOW.tzinfo, microsecond=0)
    certificate = leaf(lifetime, made)
    due, endangered = renew_at(certificate), endangered_at(certificate)
    assert made <= due < endangered < certificate.not_after
    assert due.microsecond == 0
    assert endangered - due == certificate.not_after - endangered


@pytest.mark.parametrize(
    ("count", "wait"),
    [(1, MINUTE), (2, 10 * MINUTE), (3, 100 * MINUTE), (4, DAY), (5, DAY), (1000, DAY)],
)
def test_after_failures(count: int, wait: timedelta) -> None:
    """1, 10, 100 minutes, then daily (issue 3 §2)."""
    assert after_failures(count, NOW) == NOW + wait


def test_three_attempts_in_the_first_hour() -> None:
    """Let's Encrypt allows five failed validations of a name per hour (facts/acme.md §1.6)."""
    attempts, now = 0, NOW
    while now <= NOW + 60 * MINUTE:
        attempts += 1
        now = after_failures(attempts, now)
    assert attempts == 3


@pytest.mark.parametrize(
    ("count", "floor", "seconds"),
    [
        (1, None, 1),
        (2, None, 2),
        (3, None, 4),
        (9, None, 256),
        (10, None, 300),
        (10**6, None, 300),
        (1, 0.5, 1),
        (1, 7, 7),
        (4, 7, 8),
        (10, 86_400, 86_400),
    ],
)
def test_after_transients(count: int, floor: float | None, seconds: float) -> None:
    """Doubled up to five minutes; Retry-After is a floor (DESIGN §5, Rate limits)."""
    assert after_transients(count, NOW, floor) == NOW + timedelta(seconds=seconds)


@given(st.integers(1, 10**9), st.none() | st.floats(0, 10**6), AWARE)
def test_transients_never_at_once(count: int, floor: float | None, now: datetime) -> None:
    """However often it fails: at least a second, and only Retry-After makes it longer."""
    now = min(now, NOW)
    wait = after_transients(count, now, floor) - now
    assert SECOND <= wait <= max(LONGEST_TRANSIENT_STEP, timedelta(seconds=floor or 0))
