"""When to try again after a failure. Pure arithmetic on instants."""

from __future__ import annotations

from datetime import datetime, timedelta

VALIDATION_STEPS = (
    timedelta(minutes=1),
    timedelta(minutes=10),
    timedelta(minutes=100),
    timedelta(days=1),
)
"""After 1, 2, 3 and more failures of a kind that costs the CA's patience.

At most three attempts fall into the first hour; Let's Encrypt allows five failed validations
of a name per hour, and one a day for ever.
"""

FIRST_TRANSIENT_STEP = timedelta(seconds=1)
LONGEST_TRANSIENT_STEP = timedelta(minutes=5)
"""For what costs the CA nothing, as it was not reached or could not answer."""


def after_failures(
    count: int, now: datetime, longest: timedelta = VALIDATION_STEPS[-1]
) -> datetime:
    """The instant of the next attempt after `count` failures in a row (at least 1)."""
    return now + min(VALIDATION_STEPS[min(count, len(VALIDATION_STEPS)) - 1], longest)


def after_transients(count: int, now: datetime, floor_seconds: float | None = None) -> datetime:
    """The same for failures that pass by themselves: doubled each time, Retry-After a floor."""
    doubled = FIRST_TRANSIENT_STEP * (1 << min(count - 1, 16))
    floor = timedelta(seconds=floor_seconds or 0)
    return now + max(min(doubled, LONGEST_TRANSIENT_STEP), floor)
