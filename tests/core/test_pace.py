"""acme/pace.py: never more requests than the limit, and none that is needlessly late."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from acmeistio.acme.pace import Pace
from acmeistio.issuer import Limit
from tests.core.fake_ca import FakeClock

TEN_A_SECOND = Limit(3, timedelta(seconds=0.1))


async def test_a_burst_and_then_a_steady_pace() -> None:
    """So many at once, then another one each time that `every` has passed (issuer.Limit)."""
    clock = FakeClock()
    pace = Pace(TEN_A_SECOND, clock)
    at = []
    for _ in range(6):
        await pace.turn()
        at.append(round(clock.seconds, 6))
    assert at == [0, 0, 0, 0.1, 0.2, 0.3]


async def test_it_fills_up_while_nothing_is_sent() -> None:
    """A rest gives the burst again, and not more than that."""
    clock = FakeClock()
    pace = Pace(TEN_A_SECOND, clock)
    for _ in range(4):
        await pace.turn()
    clock.seconds += 60
    clock.slept.clear()
    for _ in range(4):
        await pace.turn()
    assert [round(seconds, 6) for seconds in clock.slept] == [0.1]


async def test_no_limit_never_waits() -> None:
    """Of a CA whose limits are not known nothing is held back."""
    clock = FakeClock()
    pace = Pace(None, clock)
    for _ in range(1000):
        await pace.turn()
    assert not clock.slept


@given(st.integers(1, 20), st.floats(0.001, 10), st.lists(st.floats(0, 30), max_size=40))
async def test_a_token_bucket_never_overflows(
    burst: int, every: float, pauses: list[float]
) -> None:
    """A CA with the same bucket refuses nothing, whenever requests come (facts: §1)."""
    clock = FakeClock()
    pace = Pace(Limit(burst, timedelta(seconds=every)), clock)
    tokens, filled_at = float(burst), 0.0
    for pause in pauses:
        clock.seconds += pause
        await pace.turn()
        tokens = min(burst, tokens + (clock.seconds - filled_at) / every)
        filled_at = clock.seconds
        assert tokens > 1 - 1e-3
        tokens -= 1
