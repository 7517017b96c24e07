"""acme/clock.py: a wrong calendar of the machine is corrected by the CA's, a right one is kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from acmeistio.acme.clock import CaClock
from tests.core.fake_ca import NOW, FakeClock

SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


def test_a_silent_ca_changes_nothing() -> None:
    """Before the first Date the machine's calendar counts."""
    base = FakeClock()
    clock = CaClock(base)
    assert clock.now() == NOW
    assert clock.skew == timedelta(0)


def test_agreement_changes_nothing() -> None:
    """Within half a minute it is the machine's: a Date has whole seconds only."""
    base = FakeClock()
    clock = CaClock(base)
    clock.heard(NOW - 29 * SECOND)
    assert clock.now() == NOW
    assert clock.skew == 29 * SECOND


@pytest.mark.parametrize("jump", [DAY, -DAY, 31 * SECOND, -31 * SECOND])
def test_a_calendar_that_jumps_is_not_followed(jump: timedelta) -> None:
    """Ahead would overspend a limit, back would let a certificate run out."""
    base = FakeClock()
    clock = CaClock(base)
    clock.heard(NOW)
    base.start += jump
    base.seconds += 3600
    assert clock.now() == NOW + timedelta(hours=1)
    assert clock.skew == jump


def test_a_calendar_that_is_put_right_counts_again() -> None:
    """As soon as it agrees with the CA."""
    base = FakeClock(start=NOW - DAY)
    clock = CaClock(base)
    clock.heard(NOW)
    base.start = NOW + SECOND
    assert clock.now() == NOW + SECOND


def test_a_slow_answer_does_not_set_it_back() -> None:
    """Its Date is as old as the answer was under way, half a minute at most."""
    base = FakeClock(start=NOW + DAY)
    clock = CaClock(base)
    clock.heard(NOW)
    base.seconds += 25
    clock.heard(NOW + 2 * SECOND)
    assert clock.now() == NOW + 25 * SECOND


def test_a_first_answer_that_was_slow_is_made_up_for() -> None:
    """The next Date that is later than expected counts."""
    base = FakeClock(start=NOW + DAY)
    clock = CaClock(base)
    clock.heard(NOW - 20 * SECOND)
    clock.heard(NOW)
    assert clock.now() == NOW


def test_a_ca_that_corrects_itself_is_believed() -> None:
    """A Date far behind what is known is no slow answer."""
    base = FakeClock()
    clock = CaClock(base)
    clock.heard(NOW + DAY)
    assert clock.now() == NOW + DAY
    clock.heard(NOW)
    assert clock.now() == NOW


@pytest.mark.parametrize("year", [1, 1970, 9999])
def test_an_absurd_date_is_not_heard(year: int) -> None:
    """Whatever a header says, time can be reckoned with."""
    clock = CaClock(FakeClock())
    clock.heard(datetime(year, 1, 1, tzinfo=UTC))
    assert clock.now() == NOW


async def test_only_the_calendar_is_corrected() -> None:
    """Monotonic time and sleep are the base clock's."""
    base = FakeClock(seconds=5)
    clock = CaClock(base)
    clock.heard(NOW + DAY)
    await clock.sleep(7)
    assert clock.monotonic() == 12
    assert base.slept == [7]
