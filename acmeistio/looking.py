"""What all objects declare at this moment: kinds are listed, their sources asked.

Owns what is remembered between looks: unknown is not absent, so a kind that can't be listed keeps
what it had; and an object is not read again while it and all that it depends on are the same.
Decides nothing.
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from acmeistio import routes
from acmeistio.errors import Forbidden, Permanent
from acmeistio.model import Declaration, Installation, ObjectRef
from acmeistio.names import DnsName
from acmeistio.ports import Listing, Manifest, Objects
from acmeistio.reasons import Defect, Reason, defect
from acmeistio.sources import (
    Found,
    Source,
    Surroundings,
    gateway_api,
    ingress,
    istio,
    joined,
    listeners,
    mesh,
    permission,
    untrusted,
)

INGRESS_CLASS, NAMESPACE = "IngressClass", "Namespace"

SOURCES: tuple[Source, ...] = (ingress, istio, gateway_api)

KINDS = tuple(
    dict.fromkeys(
        (
            INGRESS_CLASS,
            NAMESPACE,
            *(kind for source in SOURCES for kind in source.KINDS),
            *routes.KINDS,
        )
    )
)
"""All kinds that are listed."""

READ_AT_ONCE = 25
"""So many objects are read between two breaths: some milliseconds."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look at all objects has seen; `unknown` are kinds that could not be read.

    `doubtful` are those whose objects may declare more than is known: they, or what they depend
    on, could not be read in this life. `installation` is with what the mesh says. `manifests` are
    all objects by kind; the same tuple as at the last look where nothing of the kind has changed.
    """

    declarations: tuple[Declaration, ...]
    defects: frozenset[Defect]
    unknown: frozenset[str]
    doubtful: frozenset[str]
    installation: Installation
    manifests: Mapping[str, tuple[Manifest, ...]]

    @property
    def complete(self) -> bool:
        """Whether every kind could be read: only then absence means anything."""
        return not self.unknown


class Looking:
    """The declarations of one installation. `failed` is told of mistakes of ours."""

    def __init__(
        self,
        objects: Objects,
        installation: Installation,
        failed: Callable[[str, BaseException], None],
    ) -> None:
        self._objects = objects
        self._installation = installation
        self._failed = failed
        self._listings: dict[str, Listing] = {}
        self._ever_read: set[str] = set()
        self._read_with: Surroundings | None = None
        self._gone_over: dict[tuple[str, ...], _GoneOver] = {}
        self._all: tuple[tuple[Found, ...], Found] | None = None
        """What each source has found, and that as one."""
        self._namespaces: _Namespaces | None = None
        self._configured: tuple[Manifest | None, Installation] | None = None
        """The mesh's ConfigMap as it was read last, and the installation with what it says."""

    async def look(self) -> Seen:
        """All that is declared now. Raises Transient."""
        listings = {kind: await self._listing(kind) for kind in KINDS}
        manifests = {kind: listing.manifests for kind, listing in listings.items()}
        installation, mesh_defects = await self._in_mesh()
        namespaces = self._said_of_namespaces(manifests[NAMESPACE])
        controllers = ingress.controllers_of(manifests[INGRESS_CLASS])
        surroundings = Surroundings(
            installation, controllers, namespaces.domains_of, namespaces.labels_of
        )
        doubtful = self._doubtful(listings)
        found = Found() if NAMESPACE in doubtful else await self._read(manifests, surroundings)
        troubles = [
            Defect(trouble.subject, trouble.code, trouble.facts)
            for listing in listings.values()
            for trouble in listing.troubles
        ]
        return Seen(
            declarations=found.declarations,
            defects=frozenset((*troubles, *mesh_defects, *namespaces.defects, *found.defects)),
            unknown=frozenset(k for k, listing in listings.items() if not listing.complete),
            doubtful=doubtful,
            installation=installation,
            manifests=manifests,
        )

    def _said_of_namespaces(self, manifests: tuple[Manifest, ...]) -> _Namespaces:
        """What the Namespaces say; there may be thousands, so it is read only if one changed."""
        if self._namespaces is None or self._namespaces.manifests is not manifests:
            allowed, defects = permission.domains_of(manifests)
            self._namespaces = _Namespaces(
                manifests, allowed, listeners.labels_of(manifests), defects
            )
        return self._namespaces

    def _doubtful(self, listings: Mapping[str, Listing]) -> frozenset[str]:
        """The kinds of declaring objects of which not all is known; what was read once counts.

        Without the Namespaces nobody knows who may have which domain, so nobody is read.
        """
        self._ever_read |= {kind for kind, listing in listings.items() if listing.complete}
        never = listings.keys() - self._ever_read
        sources = [s for s in SOURCES if NAMESPACE in never or not never.isdisjoint(s.KINDS)]
        kinds = {kind for source in sources for kind in source.KINDS}
        return frozenset(kinds | (never & {NAMESPACE}))

    async def _in_mesh(self) -> tuple[Installation, tuple[Defect, ...]]:
        """The installation with what the mesh says; a ConfigMap that is gone or wrong keeps it.

        Raises Transient while the API server can't be asked.
        """
        ref = self._installation.mesh_config
        if ref is None:
            return self._installation, ()
        known = self._configured[1] if self._configured else self._installation
        try:
            found = await self._objects.get(ref.kind, ref.namespace, ref.name)
        except (Forbidden, Permanent) as error:
            return known, (defect(Reason.MeshConfigUnreadable, ref, why=error),)
        if self._configured and self._configured[0] is found:
            return known, ()
        if found is None:
            return known, (defect(Reason.MeshConfigMissing, ref),)
        try:
            known = mesh.applied(self._installation, _mesh_of(found))
        except (mesh.Unreadable, yaml.YAMLError) as error:
            return known, (defect(Reason.MeshConfigUnreadable, ref, why=error),)
        self._configured = (found, known)
        return known, ()

    async def _read(
        self, manifests: Mapping[str, tuple[Manifest, ...]], surroundings: Surroundings
    ) -> Found:
        """What all objects declare; a source whose kinds are as they were is not asked again."""
        if surroundings != self._read_with:
            self._read_with, self._gone_over = surroundings, {}
        parts = tuple([await self._of(source, manifests, surroundings) for source in SOURCES])
        if self._all is None or not _same(self._all[0], parts):
            self._all = (parts, joined(*parts))
        return self._all[1]

    async def _of(
        self,
        source: Source,
        manifests: Mapping[str, tuple[Manifest, ...]],
        surroundings: Surroundings,
    ) -> Found:
        seen = tuple(manifests[kind] for kind in source.KINDS)
        before = self._gone_over.get(source.KINDS)
        if before and _same(before.seen, seen):
            return before.found
        known = before.readings if before else {}
        readings = await self._current(source, manifests, surroundings, known)
        await asyncio.sleep(0)
        together = self._together(source, readings.values())
        found = joined(*[reading.found for reading in readings.values()], together)
        self._gone_over[source.KINDS] = _GoneOver(seen, readings, found)
        return found

    async def _current(
        self,
        source: Source,
        manifests: Mapping[str, tuple[Manifest, ...]],
        surroundings: Surroundings,
        known: Mapping[int, _Reading],
    ) -> dict[int, _Reading]:
        """A reading of each object by its identity; what is as it was is not read again.

        Others have their turn meanwhile.
        """
        readings, read = dict[int, _Reading](), 0
        for manifest, related in source.subjects(manifests):
            reading = known.get(id(manifest))
            if reading is None or not _same(reading.related, related):
                found = self._declared(source, manifest, related, surroundings)
                reading, read = _Reading(manifest, related, found), read + 1
                if read % READ_AT_ONCE == 0:
                    await asyncio.sleep(0)
            readings[id(manifest)] = reading
        return readings

    def _declared(
        self,
        source: Source,
        manifest: Manifest,
        related: tuple[Manifest, ...],
        surroundings: Surroundings,
    ) -> Found:
        """What one object declares; a mistake of ours in reading it stays with that object."""
        try:
            return source.declarations(manifest, related, surroundings)
        except Exception as error:  # noqa: BLE001  # a bulkhead: the rest goes on
            return self._broken(untrusted.reference(manifest), error)

    def _together(self, source: Source, readings: Iterable[_Reading]) -> Found:
        """What is wrong with several objects together, none of which is wrong by itself."""
        claims = [claim for reading in readings for claim in reading.found.claims]
        try:
            return Found(defects=source.together(claims))
        except Exception as error:  # noqa: BLE001  # a bulkhead: the rest goes on
            return self._broken(ObjectRef("Kind", "", source.KINDS[0]), error)

    def _broken(self, ref: ObjectRef, error: Exception) -> Found:
        self._failed(f"reading {ref}", error)
        problem = f"{type(error).__name__}: {error}"
        return Found(defects=(defect(Reason.InternalError, ref, problem=problem),))

    async def _listing(self, kind: str) -> Listing:
        """The objects of a kind; one that can't be listed keeps what it had."""
        listing = await self._objects.listing(kind)
        if listing.complete or kind not in self._listings:
            self._listings[kind] = listing
        return Listing(self._listings[kind].manifests, listing.complete, listing.troubles)


@dataclass(frozen=True, slots=True)
class _Namespaces:
    """The Namespaces as they were read last, and what they say."""

    manifests: tuple[Manifest, ...]
    domains_of: Mapping[str, frozenset[DnsName]]
    labels_of: Mapping[str, Mapping[str, str]]
    defects: tuple[Defect, ...]


@dataclass(frozen=True, slots=True)
class _Reading:
    """What an object declares, and the others that this depends on."""

    manifest: Manifest
    related: tuple[Manifest, ...]
    found: Found


@dataclass(frozen=True, slots=True)
class _GoneOver:
    """What a source has seen last, object by object and all in all."""

    seen: tuple[tuple[Manifest, ...], ...]
    readings: Mapping[int, _Reading]
    found: Found


def _same(ones: tuple[object, ...], others: tuple[object, ...]) -> bool:
    """Whether it is one by one the same; manifests and listings are changed by nobody."""
    return ones is others or (len(ones) == len(others) and all(map(operator.is_, ones, others)))


def _mesh_of(config_map: Manifest) -> Mapping[str, Any]:
    """The mesh configuration in Istio's ConfigMap. Raises YAMLError."""
    text = untrusted.text(untrusted.mapping(config_map, "data").get("mesh"))
    return untrusted.mapping(yaml.safe_load(text))
