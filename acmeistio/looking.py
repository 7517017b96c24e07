"""What all objects declare at this moment: kinds are listed, their sources asked.

Owns what is remembered between looks: unknown is not absent, so a kind that can't be listed keeps
what it had; and an object that has not changed is not read again. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from acmeistio.model import Declaration, Installation
from acmeistio.ports import Listing, Manifest, Objects
from acmeistio.reasons import Defect, Reason, defect
from acmeistio.sources import Found, ingress, untrusted


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
        self._controllers: dict[str, str] = {}

    async def declarations(self) -> tuple[tuple[Declaration, ...], set[Defect], bool]:
        """What all objects declare, the Defects, and whether every kind could be read."""
        classes = await self._listing("IngressClass")
        ingresses = await self._listing("Ingress")
        found = self._read(ingresses, _controllers(classes))
        troubles = {
            Defect(trouble.subject, trouble.code, trouble.facts)
            for listing in (classes, ingresses)
            for trouble in listing.troubles
        }
        return (
            tuple(declaration for f in found for declaration in f.declarations),
            {*troubles, *(d for f in found for d in f.defects)},
            classes.complete and ingresses.complete,
        )

    def _read(self, ingresses: Listing, controllers: dict[str, str]) -> list[Found]:
        """What each object declares; one that is the same as at the last look is not read again."""
        known = self._found if controllers == self._controllers else {}
        self._controllers = controllers
        self._found = {
            id(manifest): known.get(id(manifest)) or (manifest, self._read_one(manifest))
            for manifest in ingresses.manifests
        }
        return [found for _, found in self._found.values()]

    def _read_one(self, manifest: Manifest) -> Found:
        """What one object declares; a mistake of ours in reading it stays with that object."""
        try:
            return ingress.declarations(manifest, self._controllers, self._installation)
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


def _controllers(classes: Listing) -> dict[str, str]:
    """Which controller each IngressClass belongs to."""
    return {
        untrusted.reference(manifest).name: untrusted.text(
            untrusted.mapping(manifest, "spec").get("controller")
        )
        for manifest in classes.manifests
    }
