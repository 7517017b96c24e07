"""The load balancer in front of a CA: so many requests per second, by endpoint, and no more."""

from __future__ import annotations

from datetime import datetime, timedelta

from tests.simulated.ca.buckets import Buckets
from tests.simulated.ca.options import DoorLimits, Limit
from tests.simulated.ca.records import Resource


class Door:
    """Lets requests in, all clients being one; without limits, all of them."""

    def __init__(self, limits: DoorLimits | None) -> None:
        self._buckets = {
            resource: Buckets(Limit(burst, timedelta(seconds=burst / per_second)))
            for resource, (per_second, burst) in (limits or {}).items()
        }

    @property
    def is_open(self) -> bool:
        """Whether it has no limits."""
        return not self._buckets

    def wait(self, resource: Resource | None, now: datetime) -> timedelta:
        """How long this request comes too early; nothing where it is let in."""
        endpoint = resource if resource in self._buckets else None
        buckets = self._buckets.get(endpoint)
        if buckets is None:
            return timedelta(0)
        wait = buckets.wait(endpoint, now)
        if not wait:
            buckets.take(endpoint, now)
        return wait
