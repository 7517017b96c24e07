"""Keeps the route objects as they must be: creates, mends and deletes what routes/ says.

Owns the writes and what came of them; which objects must exist is not decided here. A route that
can't be written stops nothing: whether the CA's requests arrive is found out by the probe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from itertools import chain
from typing import Any

from acmeistio.errors import Conflict, Forbidden, NotLeader, Permanent, Transient
from acmeistio.looking import Seen
from acmeistio.model import Declaration, ObjectRef
from acmeistio.names import DnsName
from acmeistio.planning.changed import exchanged
from acmeistio.ports import Manifest, Objects, Term
from acmeistio.reasons import Defect, Reason, defect
from acmeistio.routes import KINDS, NAME, Route, reference
from acmeistio.routes.changes import Changes, changes, wanted
from acmeistio.routes.permanent import DESTINATION_RULE
from acmeistio.sources import untrusted

WRITES_AT_ONCE = 8
WRITE_SECONDS = 10.0
"""A webhook that hangs must not keep everything else from being looked at."""

FIRST_RETRY_SECONDS = 2.0
LONGEST_RETRY_SECONDS = 60.0
"""What could not be written is tried again after the first, doubled up to the second: a kind or a
namespace may be missing for ever, and a right takes somebody's hand."""


class RouteKeeping:
    """The route objects of one installation. `failed` is told of what passes by itself."""

    def __init__(self, objects: Objects, failed: Callable[[str, BaseException], None]) -> None:
        self._objects = objects
        self._failed = failed
        self._slots = asyncio.Semaphore(WRITES_AT_ONCE)
        self._kept: tuple[Seen, Manifest | None, frozenset[DnsName]] | None = None
        self._named: tuple[tuple[Declaration, ...], frozenset[DnsName]] = ((), frozenset())
        """The declarations at the last look, and all their names."""
        self._defects: tuple[Defect, ...] = ()
        self._failures = 0
        """How often in a row something could not be written."""
        self.written = 0
        """How many route objects were written so far."""

    @property
    def retry_seconds(self) -> float | None:
        """When to try again what could not be written; None when all is as it must be."""
        if not self._failures:
            return None
        return min(FIRST_RETRY_SECONDS * 2.0 ** (self._failures - 1), LONGEST_RETRY_SECONDS)

    async def keep(self, seen: Seen, term: Term) -> tuple[Defect, ...]:
        """Make them as they must be for what is declared; what stands in the way. Raises NotLeader.

        Nothing is done where nothing has changed. A mistake of ours ends nothing else.
        """
        try:
            self._defects = await self._keep(seen, term)
        except NotLeader:
            raise
        except Exception as error:  # noqa: BLE001  # a bulkhead: the rest goes on
            self._failures = min(self._failures + 1, 16)
            self._failed("routes", error)
        return self._defects

    async def _keep(self, seen: Seen, term: Term) -> tuple[Defect, ...]:
        names = self._names(seen.declarations)
        rule, refused = await self._destination_rule(seen)
        if not self._failures and self._is_kept(seen, rule, names):
            return self._defects
        existing = [m for kind in KINDS for m in seen.manifests[kind] if _is_called_ours(m)]
        unknown = {*seen.unknown, *([DESTINATION_RULE] if refused else [])}
        routes = wanted(seen.installation, seen.manifests, names)
        there = [*existing, *([rule] if rule else [])]
        found = changes(routes, there, unknown, seen.installation)
        before = self._failures
        more, failed = await self._carry_out(found, term)
        self._failures = min(before + 1, 16) if failed or refused else 0
        self._kept = seen, rule, names
        return (*found.defects, *more, *refused)

    def _names(self, declarations: tuple[Declaration, ...]) -> frozenset[DnsName]:
        """All names; the same value where no declaration of others came or went."""
        before, names = self._named
        gone, come = exchanged(before, declarations)
        if {n for made in gone for n in made.names} != {n for made in come for n in made.names}:
            names = frozenset(chain.from_iterable([made.names for made in declarations]))
        self._named = declarations, names
        return names

    def _is_kept(self, seen: Seen, rule: Manifest | None, names: frozenset[DnsName]) -> bool:
        if self._kept is None:
            return False
        before, known_rule, known_names = self._kept
        return (
            known_names == names
            and known_rule is rule
            and before.installation == seen.installation
            and before.unknown == seen.unknown
            and all(before.manifests[kind] is seen.manifests[kind] for kind in seen.manifests)
        )

    async def _destination_rule(self, seen: Seen) -> tuple[Manifest | None, list[Defect]]:
        """By its name: a mesh may have many, and acmeistio has one."""
        ref = ObjectRef(DESTINATION_RULE, seen.installation.namespace, NAME)
        try:
            return await self._objects.get(ref.kind, ref.namespace, ref.name), []
        except (Forbidden, Permanent) as error:
            return None, [defect(Reason.RouteForbidden, ref, why=error)]

    async def _carry_out(self, found: Changes, term: Term) -> tuple[list[Defect], bool]:
        """Write; the Defects of what is refused, and whether anything could not be written."""
        objects = self._objects
        works = [
            *((reference(route), objects.create(route, term)) for route in found.create),
            *((reference(route), objects.update(route, term)) for route in found.update),
            *((reference(route), self._delete(route, term)) for route in found.delete),
        ]
        done = await asyncio.gather(*(self._written(ref, work) for ref, work in works))
        refused = [error for error in done if isinstance(error, Defect)]
        return refused, any(error is not None for error in done)

    async def _delete(self, route: Route, term: Term) -> None:
        version = str(route["metadata"].get("resourceVersion", ""))
        await self._objects.delete(reference(route), version, term)

    async def _written(
        self, ref: ObjectRef, work: Coroutine[Any, Any, object]
    ) -> Defect | Exception | None:
        """Do one thing. What can't be done is a Defect, or an error that may pass by itself."""
        try:
            async with self._slots, asyncio.timeout(WRITE_SECONDS):
                await work
        except (Forbidden, Permanent) as error:
            return defect(Reason.RouteForbidden, ref, why=error)
        except (Transient, Conflict, TimeoutError) as error:
            self._failed(f"writing {ref}", error)
            return error
        self.written += 1
        return None


def _is_called_ours(manifest: Mapping[str, Any]) -> bool:
    """Whether an object has a name such as acmeistio gives; one of somebody else may have too."""
    name = untrusted.text(untrusted.mapping(manifest, "metadata").get("name"))
    return name == NAME or name.startswith(f"{NAME}-")
