"""What is to be done so that the route objects that exist are those that must. Pure.

Only what carries the labels of this installation is changed or deleted; another object of the same
name stays, and is told of.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from acmeistio.model import Installation, ObjectRef
from acmeistio.names import DnsName
from acmeistio.reasons import Defect, Reason, defect
from acmeistio.routes import (
    GATEWAY_API_VERSION,
    Route,
    is_of,
    labelled,
    reference,
)
from acmeistio.routes.mirrors import mirrors
from acmeistio.routes.permanent import permanent
from acmeistio.routes.unrouted import unrouted
from acmeistio.sources import Manifests

GATEWAY_API = GATEWAY_API_VERSION.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Changes:
    """Objects to create, to replace (with their resourceVersion) and to delete; and what is odd."""

    create: tuple[Route, ...]
    update: tuple[Route, ...]
    delete: tuple[Route, ...]
    defects: tuple[Defect, ...]


def wanted(
    installation: Installation, manifests: Manifests, names: Collection[DnsName]
) -> dict[ObjectRef, Route]:
    """All route objects that must exist for the names that acmeistio is asked for."""
    routes = (
        *permanent(installation),
        *unrouted(installation, manifests),
        *mirrors(installation, manifests, names),
    )
    return {reference(route): labelled(route, installation) for route in routes}


def changes(
    routes: Mapping[ObjectRef, Route],
    existing: Iterable[Route],
    unknown: Collection[str],
    installation: Installation,
) -> Changes:
    """What to do. Nothing is done to a kind that is `unknown` at the moment.

    Nothing at all is deleted while a kind is unknown: what a route is there for may be of it.
    """
    there = {reference(manifest): manifest for manifest in existing}
    known = {ref: route for ref, route in routes.items() if ref.kind not in unknown}
    foreign = {ref for ref in known if ref in there and not is_of(there[ref], installation)}
    return Changes(
        create=tuple(route for ref, route in known.items() if ref not in there),
        update=tuple(
            _replaced(there[ref], route)
            for ref, route in known.items()
            if ref in there and ref not in foreign and not agrees(route, there[ref])
        ),
        delete=tuple(
            manifest
            for ref, manifest in there.items()
            if not unknown and is_of(manifest, installation) and ref not in routes
        ),
        defects=tuple(defect(Reason.RouteNotManaged, ref) for ref in sorted(foreign)),
    )


def agrees(route: Route, existing: Route) -> bool:
    """Whether an object is as it must be.

    The Gateway API's have fields that the API server fills in; of Istio's, a field more is somebody
    else's doing, and a label more in a selector selects nothing.
    """
    group = route["apiVersion"].partition("/")[0]
    same = _includes if group == GATEWAY_API else _equals
    return same(existing.get("spec"), route["spec"]) and _includes(
        existing["metadata"], route["metadata"]
    )


def _equals(existing: object, wanted: object) -> bool:
    return existing == wanted


def _includes(existing: object, wanted: object) -> bool:
    """Whether every field that is wanted is there; lists as a whole."""
    if isinstance(wanted, Mapping):
        return isinstance(existing, Mapping) and all(
            key in existing and _includes(existing[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(existing, list)
            and len(wanted) == len(existing)
            and all(map(_includes, existing, wanted))
        )
    return existing == wanted


def _replaced(existing: Route, route: Route) -> Route:
    """The object with our fields; labels and annotations of others stay."""
    metadata = {**existing["metadata"], **route["metadata"]}
    labels = {**(existing["metadata"].get("labels") or {}), **route["metadata"]["labels"]}
    return {**existing, "spec": route["spec"], "metadata": {**metadata, "labels": labels}}
