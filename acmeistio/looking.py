"""What all objects declare at this moment: kinds are listed, their sources asked.

Owns what is remembered between looks: unknown is not absent, so a kind that can't be listed keeps
what it had; and an object that has not changed is not read again. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import yaml

from acmeistio.errors import Forbidden, Permanent
from acmeistio.model import Declaration, Installation
from acmeistio.ports import Listing, Manifest, Objects
from acmeistio.reasons import Defect, Reason, defect
from acmeistio.sources import Found, ingress, mesh, untrusted


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
        self._found: dict[int, tuple[Manifest, Found]] = {}
        self._read_with: tuple[dict[str, str], Installation] | None = None
        self._configured: tuple[Manifest | None, Installation] | None = None
        """The mesh's ConfigMap as it was read last, and the installation with what it says."""

    async def declarations(self) -> tuple[tuple[Declaration, ...], set[Defect], bool]:
        """What all objects declare, the Defects, and whether every kind could be read."""
        classes = await self._listing("IngressClass")
        ingresses = await self._listing("Ingress")
        installation, mesh_defects = await self._in_mesh()
        found = self._read(ingresses, _controllers(classes), installation)
        troubles = {
            Defect(trouble.subject, trouble.code, trouble.facts)
            for listing in (classes, ingresses)
            for trouble in listing.troubles
        }
        return (
            tuple(declaration for f in found for declaration in f.declarations),
            {*troubles, *mesh_defects, *(d for f in found for d in f.defects)},
            classes.complete and ingresses.complete,
        )

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

    def _read(
        self, ingresses: Listing, controllers: dict[str, str], installation: Installation
    ) -> list[Found]:
        """What each object declares; one that is the same as at the last look is not read again."""
        same = (controllers, installation) == self._read_with
        known = self._found if same else {}
        self._read_with = (controllers, installation)
        self._found = {
            id(manifest): known.get(id(manifest))
            or (manifest, self._read_one(manifest, controllers, installation))
            for manifest in ingresses.manifests
        }
        return [found for _, found in self._found.values()]

    def _read_one(
        self, manifest: Manifest, controllers: dict[str, str], installation: Installation
    ) -> Found:
        """What one object declares; a mistake of ours in reading it stays with that object."""
        try:
            return ingress.declarations(manifest, controllers, installation)
        except Exception as error:  # noqa: BLE001  # a bulkhead: the rest goes on
            ref = untrusted.reference(manifest)
            self._failed(f"reading {ref}", error)
            problem = f"{type(error).__name__}: {error}"
            return Found(defects=(defect(Reason.InternalError, ref, problem=problem),))

    async def _listing(self, kind: str) -> Listing:
        """The objects of a kind; one that can't be listed keeps what it had."""
        listing = await self._objects.listing(kind)
        if listing.complete or kind not in self._listings:
            self._listings[kind] = listing
        return Listing(self._listings[kind].manifests, listing.complete, listing.troubles)


def _mesh_of(config_map: Manifest) -> Mapping[str, Any]:
    """The mesh configuration in Istio's ConfigMap. Raises YAMLError."""
    text = untrusted.text(untrusted.mapping(config_map, "data").get("mesh"))
    return untrusted.mapping(yaml.safe_load(text))


def _controllers(classes: Listing) -> dict[str, str]:
    """Which controller each IngressClass belongs to."""
    return {
        untrusted.reference(manifest).name: untrusted.text(
            untrusted.mapping(manifest, "spec").get("controller")
        )
        for manifest in classes.manifests
    }
