"""Work on targets: one piece at a time for each, and what goes wrong with one stays there.

Owns the tasks, what is told of a failure, and how long a target that failed is left alone. It does
not know what the work is. Only the end of the term comes out of it: `ended_by`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from acmeistio.errors import AcmeistioError, Forbidden, NotLeader, Permanent
from acmeistio.model import ObjectRef, Target
from acmeistio.ports import Clock
from acmeistio.reasons import Defect, Reason, defect

FIRST_PAUSE_SECONDS = 2.0
LONGEST_INTERNAL_PAUSE_SECONDS = 3600.0
LONGEST_REFUSED_PAUSE_SECONDS = 30.0
"""A target that failed is left alone for the first; after a mistake of our own, or a write that was
refused, for twice as long each time, up to one of the others."""


class Bulkheads:
    """`failed` is told of every failure, `done` that a piece of work has ended.

    Secrets in `gateway_namespaces` are granted otherwise than those of tenants.
    """

    def __init__(
        self,
        clock: Clock,
        gateway_namespaces: frozenset[str],
        failed: Callable[[str, BaseException], None],
        done: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._gateway_namespaces = gateway_namespaces
        self._failed = failed
        self._done = done
        self._working: dict[Target, asyncio.Task[None]] = {}
        self._just_done: set[Target] = set()
        self._defects: dict[Target, Defect] = {}
        self._mistakes: dict[Target, int] = {}
        self.ended_by: BaseException | None = None
        """What no bulkhead holds: somebody else leads now."""

    @property
    def defects(self) -> tuple[Defect, ...]:
        """Of the targets whose last work failed and will not mend by itself."""
        return tuple(self._defects.values())

    @property
    def is_idle(self) -> bool:
        """Whether no work is under way on any target."""
        return not self._working

    def look_begins(self) -> None:
        """From now on what is looked at has seen all that was done before."""
        self._just_done.clear()

    def is_working(self, target: Target) -> bool:
        """Whether work on a target is under way."""
        return target in self._working

    def is_free(self, target: Target) -> bool:
        """Whether work may be started by what a look has seen, which may be older than the last."""
        return target not in self._working and target not in self._just_done

    def start(self, target: Target, work: Coroutine[None, None, None]) -> None:
        """Begin work on a free target."""
        task = asyncio.ensure_future(self._guarded(target, work))
        self._working[target] = task
        task.add_done_callback(lambda done: self._ended(target, done))

    def retain(self, targets: frozenset[Target]) -> None:
        """Forget the failures of all other targets."""
        self._defects = {t: found for t, found in self._defects.items() if t in targets}
        self._mistakes = {t: count for t, count in self._mistakes.items() if t in targets}

    async def close(self) -> None:
        """End all work; what can be taken up again lies in the store."""
        tasks = [*self._working.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, target: Target, task: asyncio.Task[None]) -> None:
        self._working.pop(target, None)
        self._just_done.add(target)
        if not task.cancelled():
            self.ended_by = self.ended_by or task.exception()
        self._done()

    async def _guarded(self, target: Target, work: Coroutine[None, None, None]) -> None:
        try:
            await work
            self._defects.pop(target, None)
            self._mistakes.pop(target, None)
        except NotLeader:
            raise
        except Exception as error:  # noqa: BLE001  # a bulkhead: the rest goes on
            self._failed(f"Secret {target}", error)
            await self._clock.sleep(self._pause_after(target, error))

    def _pause_after(self, target: Target, error: Exception) -> float:
        """Seconds until a target is free again; what does not pass by itself is a Defect."""
        found = self.defect_of(target, error)
        if found is None:
            return FIRST_PAUSE_SECONDS
        self._defects[target] = found
        mistakes = self._mistakes[target] = self._mistakes.get(target, 0) + 1
        expected = isinstance(error, AcmeistioError)
        longest = LONGEST_REFUSED_PAUSE_SECONDS if expected else LONGEST_INTERNAL_PAUSE_SECONDS
        return min(FIRST_PAUSE_SECONDS * 2.0 ** min(mistakes, 16), longest)

    def defect_of(self, target: Target, error: BaseException) -> Defect | None:
        """What kept a Secret from being read or written, None for what passes by itself."""
        if isinstance(error, Forbidden | Permanent):
            return self._forbidden(target, error)
        if isinstance(error, AcmeistioError):
            return None
        return _internal(target.ref, error)

    def _forbidden(self, target: Target, error: BaseException) -> Defect:
        """Each with the one way in which the right is given there."""
        ref, place = target.ref, target.namespace
        if place in self._gateway_namespaces:
            return defect(Reason.SecretForbidden, ref, why=error, name=target.name)
        return defect(Reason.TenantSecretForbidden, ref, why=error, namespace=place)


def _internal(ref: ObjectRef, error: BaseException) -> Defect:
    return defect(Reason.InternalError, ref, problem=f"{type(error).__name__}: {error}")
