"""Keeps the route objects as they must be: creates, mends and deletes what routes/ says.

Owns the writes and what came of them; which objects must exist is not decided here. A route that
can't be written stops nothing: whether the CA's requests arrive is found out by the probe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from acmeistio.errors import Conflict, Forbidden, Permanent, Transient
from acmeistio.looking import Seen
from acmeistio.model import ObjectRef
from acmeistio.names import DnsName
from acmeistio.ports import Manifest, Objects, Term
from acmeistio.reasons import Defect, Reason, defect
from acmeistio.routes import KINDS, NAME, Route, is_ours, reference
from acmeistio.routes.changes import Changes, changes, wanted

DESTINATION_RULE = "DestinationRule"
"""Asked for by name: a mesh may have many, and acmeistio has one."""

WRITES_AT_ONCE = 8
RETRY_SECONDS = 2.0
REFUSED_RETRY_SECONDS = 30.0
"""A right that is missing takes somebody's hand."""


class RouteKeeping:
    """The route objects of one installation. `failed` is told of what passes by itself."""

    def __init__(self, objects: Objects, failed: Callable[[str, BaseException], None]) -> None:
        self._objects = objects
        self._failed = failed
        self._slots = asyncio.Semaphore(WRITES_AT_ONCE)
        self._kept: tuple[Seen, frozenset[DnsName]] | None = None
        self._defects: tuple[Defect, ...] = ()
        self.written = 0
        """How many route objects were written so far."""
        self.retry_seconds: float | None = None
        """When to try again what could not be written; None when all is as it must be."""

    async def keep(self, seen: Seen, term: Term) -> tuple[Defect, ...]:
        """Make them as they must be for what is declared; what stands in the way. Raises NotLeader.

        Nothing is done where nothing has changed.
        """
        names = frozenset(name for made in seen.declarations for name in made.names)
        if self.retry_seconds is None and self._is_kept(seen, names):
            return self._defects
        self.retry_seconds = None
        existing = await self._existing(seen)
        found = changes(wanted(seen.installation, seen.manifests, names), existing, seen.unknown)
        refused = await self._carry_out(found, term)
        self._kept, self._defects = (seen, names), (*found.defects, *refused)
        return self._defects

    def _is_kept(self, seen: Seen, names: frozenset[DnsName]) -> bool:
        if self._kept is None:
            return False
        before, known = self._kept
        return (
            known == names
            and before.installation == seen.installation
            and all(before.manifests[kind] is seen.manifests[kind] for kind in seen.manifests)
        )

    async def _existing(self, seen: Seen) -> list[Manifest]:
        found = [m for kind in KINDS for m in seen.manifests[kind] if _may_be_ours(m)]
        own = seen.installation.namespace
        rule = await self._objects.get(DESTINATION_RULE, own, NAME)
        return [*found, *([rule] if rule else [])]

    async def _carry_out(self, found: Changes, term: Term) -> list[Defect]:
        objects = self._objects
        works = [
            *((reference(route), objects.create(route, term)) for route in found.create),
            *((reference(route), objects.update(route, term)) for route in found.update),
            *((reference(route), self._delete(route, term)) for route in found.delete),
        ]
        done = await asyncio.gather(*(self._written(ref, work) for ref, work in works))
        return [refused for refused in done if refused]

    async def _delete(self, route: Route, term: Term) -> None:
        version = str(route["metadata"].get("resourceVersion", ""))
        await self._objects.delete(reference(route), version, term)

    async def _written(self, ref: ObjectRef, work: Coroutine[Any, Any, object]) -> Defect | None:
        """Do one thing; what can't be done is told and tried again."""
        try:
            async with self._slots:
                await work
            self.written += 1
        except (Forbidden, Permanent) as error:
            self._retry_after(REFUSED_RETRY_SECONDS)
            return defect(Reason.RouteForbidden, ref, why=error)
        except (Transient, Conflict) as error:
            self._retry_after(RETRY_SECONDS)
            self._failed(f"writing {ref}", error)
        return None

    def _retry_after(self, seconds: float) -> None:
        self.retry_seconds = min(seconds, self.retry_seconds or seconds)


def _may_be_ours(manifest: Mapping[str, Any]) -> bool:
    """What carries our label, or a name of ours: such a one may stand in the way."""
    return is_ours(manifest) or str(manifest["metadata"].get("name", "")).startswith(NAME)
