"""What a simulated CA does wrong when a test asks for it; a value that the server consults."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.simulated.ca.problems import Problem, Refused
from tests.simulated.ca.records import Resource

RATE_LIMITED = 429

INTERNAL_ERROR = Problem("serverInternal", "The server experienced an internal error", 500)

_PROBLEMS = {
    RATE_LIMITED: Problem("rateLimited", "too many requests of this kind", RATE_LIMITED),
    500: INTERNAL_ERROR,
    503: Problem("rateLimited", "Service busy; retry later.", 503),
}


@dataclass(eq=False, slots=True)
class _Due:
    """Something that happens to the next `times` requests for `resource` (None: for any)."""

    resource: Resource | None
    times: int
    refusal: Refused | None = None

    def hits(self, resource: Resource | None) -> bool:
        return self.times > 0 and self.resource in (None, resource)


@dataclass(eq=False, slots=True)
class Faults:
    """What is to go wrong next."""

    outage: bool = False
    _lost: list[_Due] = field(default_factory=list)
    _at_the_door: list[_Due] = field(default_factory=list)
    _inside: list[_Due] = field(default_factory=list)

    def lose_reply(self, resource: Resource | None, times: int) -> None:
        """Carry out the next requests and let nobody hear of it."""
        self._lost.append(_Due(resource, times))

    def refuse(
        self, resource: Resource | None, status: int, retry_after: int | None, times: int
    ) -> None:
        """Refuse the next requests: 429 once they are authenticated, 5xx without a look."""
        headers = {} if retry_after is None else {"retry-after": str(retry_after)}
        refusal = Refused(_PROBLEMS[status], headers=headers)
        queue = self._inside if status == RATE_LIMITED else self._at_the_door
        queue.append(_Due(resource, times, refusal))

    def takes_reply(self, resource: Resource | None) -> bool:
        """Whether the reply to this request is lost."""
        return _take(self._lost, resource) is not None

    def at_the_door(self, resource: Resource | None) -> Refused | None:
        """What refuses this request before anybody has read it, as a load balancer does."""
        due = _take(self._at_the_door, resource)
        return due.refusal if due else None

    def inside(self, resource: Resource | None) -> Refused | None:
        """What refuses this request once it is known who asks, as a rate limit does."""
        due = _take(self._inside, resource)
        return due.refusal if due else None


def _take(queue: list[_Due], resource: Resource | None) -> _Due | None:
    due = next((due for due in queue if due.hits(resource)), None)
    if due:
        due.times -= 1
        if not due.times:
            queue.remove(due)
    return due
