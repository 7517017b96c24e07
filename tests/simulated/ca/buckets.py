"""Token buckets: a number of tokens that refills evenly up to a capacity.

Counts in plain floats, so that it is another opinion than a client's own reckoning.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.simulated.ca.options import Limit

_ROUNDING = 1e-6
_FEWEST_SWEPT = 1000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: datetime


@dataclass(eq=False, slots=True)
class Buckets:
    """One bucket for each key, all of the same limit; a bucket that nobody touched is full."""

    limit: Limit
    _buckets: dict[Hashable, _Bucket] = field(default_factory=dict)
    _sweep_at: int = _FEWEST_SWEPT

    def wait(self, key: Hashable, now: datetime) -> timedelta:
        """How long until a token is there; nothing where there is one."""
        missing = 1 - self._tokens(key, now)
        if missing <= _ROUNDING:
            return timedelta(0)
        return missing * self.limit.period / self.limit.capacity

    def take(self, key: Hashable, now: datetime, tokens: float = 1) -> None:
        """Take as many; of a bucket with fewer, what is left."""
        self._set(key, max(0.0, self._tokens(key, now) - tokens), now)

    def take_if_there(self, key: Hashable, now: datetime) -> bool:
        """Take one where there is one, as Boulder counts what has happened already."""
        there = not self.wait(key, now)
        if there:
            self.take(key, now)
        return there

    def give_back(self, key: Hashable, now: datetime) -> None:
        """Undo a `take`."""
        self._set(key, min(self.limit.capacity, self._tokens(key, now) + 1), now)

    def fill(self, key: Hashable) -> None:
        """Make a bucket full."""
        self._buckets.pop(key, None)

    def _tokens(self, key: Hashable, now: datetime) -> float:
        bucket = self._buckets.get(key)
        if bucket is None:
            return self.limit.capacity
        refilled = (now - bucket.at) / self.limit.period * self.limit.capacity
        return min(self.limit.capacity, bucket.tokens + refilled)

    def _set(self, key: Hashable, tokens: float, now: datetime) -> None:
        self._buckets[key] = _Bucket(tokens, now)
        if len(self._buckets) > self._sweep_at:
            self._sweep(now)

    def _sweep(self, now: datetime) -> None:
        """Forget full buckets; so seldom that each `take` pays little for it."""
        full = [key for key in self._buckets if self._tokens(key, now) >= self.limit.capacity]
        for key in full:
            del self._buckets[key]
        self._sweep_at = max(_FEWEST_SWEPT, 2 * len(self._buckets))
