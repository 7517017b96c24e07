"""Where the kinds that acmeistio uses are served, and which part of their objects is of use.

Knows no connection and no state.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from acmeistio.errors import Permanent
from acmeistio.model import ISTIO_GATEWAY, K8S_GATEWAY, ObjectRef
from acmeistio.ports import Manifest

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""The whole object once more, for kubectl."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of the API, in one version of it; `kind` as ObjectRef has it.

    `written` where acmeistio writes its objects back; `older` are versions that serve as well, the
    newest first; `optional` for a kind that an API server need not have.
    """

    kind: str
    api_version: str
    plural: str
    namespaced: bool = True
    written: bool = False
    older: tuple[str, ...] = ()
    optional: bool = False

    @property
    def group(self) -> str:
        """The group of the API that it belongs to, "" for the core."""
        return self.api_version.rpartition("/")[0]

    @property
    def versions(self) -> tuple[Resource, ...]:
        """The same kind in each of its versions, the one to prefer first."""
        every = (self.api_version, *self.older)
        return tuple(replace(self, api_version=version, older=()) for version in every)

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """Of one object, or of all in a namespace, or of all. Raises Permanent."""
        root = "/apis" if "/" in self.api_version else "/api"
        place = f"/namespaces/{_checked(namespace)}" if namespace and self.namespaced else ""
        return f"{root}/{self.api_version}{place}/{self.plural}" + (
            f"/{_checked(name)}" if name else ""
        )

    def whole(self, found: dict[str, Any]) -> Manifest:
        """An object as the program keeps it.

        With its kind, which lists leave out, and the version under which it was read; without what
        only servers and kubectl read.
        """
        metadata = {k: v for k, v in found["metadata"].items() if k != "managedFields"}
        notes = metadata.get("annotations")
        if notes and not self.written and LAST_APPLIED in notes:
            metadata["annotations"] = {k: v for k, v in notes.items() if k != LAST_APPLIED}
        return {**self.spoken(found), "metadata": metadata}

    def spoken(self, manifest: Manifest) -> Manifest:
        """An object as this version of the API takes it: no other is accepted there."""
        kind = self.kind.partition(".")[0]
        return {**manifest, "apiVersion": self.api_version, "kind": kind}

    def reference(self, manifest: Manifest) -> ObjectRef:
        """Which object this is."""
        metadata = manifest["metadata"]
        namespace = metadata.get("namespace", "") if self.namespaced else ""
        return ObjectRef(self.kind, namespace, metadata["name"])


_NETWORKING = "networking.k8s.io/v1"


def _istio(kind: str, plural: str, *, written: bool = False) -> Resource:
    """A kind of Istio: v1 since 1.22, and the older ones to this day."""
    group = "networking.istio.io"
    older = (f"{group}/v1beta1", f"{group}/v1alpha3")
    return Resource(kind, f"{group}/v1", plural, written=written, older=older, optional=True)


def _gateway_api(kind: str, plural: str, *older: str, **others: bool) -> Resource:
    """A kind of the Gateway API."""
    group = "gateway.networking.k8s.io"
    versions = tuple(f"{group}/{version}" for version in older)
    return Resource(kind, f"{group}/v1", plural, older=versions, optional=True, **others)


RESOURCES = {
    resource.kind: resource
    for resource in (
        Resource("Ingress", _NETWORKING, "ingresses"),
        Resource("IngressClass", _NETWORKING, "ingressclasses", namespaced=False),
        Resource("Secret", "v1", "secrets", written=True),
        Resource("ConfigMap", "v1", "configmaps", written=True),
        Resource("Event", "events.k8s.io/v1", "events", written=True),
        Resource("Namespace", "v1", "namespaces", namespaced=False),
        _istio(ISTIO_GATEWAY, "gateways", written=True),
        _istio("VirtualService", "virtualservices", written=True),
        _istio("DestinationRule", "destinationrules", written=True),
        Resource(
            "EnvoyFilter",
            "networking.istio.io/v1alpha3",
            "envoyfilters",
            written=True,
            optional=True,
        ),
        _gateway_api("GatewayClass", "gatewayclasses", "v1beta1", namespaced=False),
        _gateway_api(K8S_GATEWAY, "gateways", "v1beta1"),
        _gateway_api("HTTPRoute", "httproutes", "v1beta1", written=True),
        _gateway_api("ReferenceGrant", "referencegrants", "v1beta1", written=True),
        _gateway_api("ListenerSet", "listenersets"),
    )
}


def version_of(manifest: Manifest) -> int:
    """The resourceVersion as a number: of two of the same resource the larger is the newer."""
    return int(manifest["metadata"]["resourceVersion"])


def _checked(name: str) -> str:
    """A name that can stand in a path: one with `/` or `..` would be another object's."""
    if not _NAME.fullmatch(name):
        raise Permanent(f"{name!r} can't be the name of an object")
    return name
