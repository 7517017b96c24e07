"""Where the kinds that acmeistio uses are served, and which part of their objects is of use.

Knows no connection and no state.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from acmeistio.errors import Permanent
from acmeistio.model import ObjectRef
from acmeistio.ports import Manifest

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""The whole object once more, for kubectl."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of the API; `written` where acmeistio writes its objects back."""

    kind: str
    api_version: str
    plural: str
    namespaced: bool = True
    written: bool = False

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """Of one object, or of all in a namespace, or of all. Raises Permanent."""
        root = "/apis" if "/" in self.api_version else "/api"
        place = f"/namespaces/{_checked(namespace)}" if namespace and self.namespaced else ""
        return f"{root}/{self.api_version}{place}/{self.plural}" + (
            f"/{_checked(name)}" if name else ""
        )

    def whole(self, found: dict[str, Any]) -> Manifest:
        """An object as the program keeps it.

        With its kind, which lists leave out, and without what only servers and kubectl read.
        """
        metadata = {k: v for k, v in found["metadata"].items() if k != "managedFields"}
        notes = metadata.get("annotations")
        if notes and not self.written and LAST_APPLIED in notes:
            metadata["annotations"] = {k: v for k, v in notes.items() if k != LAST_APPLIED}
        return {**found, "apiVersion": self.api_version, "kind": self.kind, "metadata": metadata}

    def reference(self, manifest: Manifest) -> ObjectRef:
        """Which object this is."""
        metadata = manifest["metadata"]
        namespace = metadata.get("namespace", "") if self.namespaced else ""
        return ObjectRef(self.kind, namespace, metadata["name"])


_NETWORKING = "networking.k8s.io/v1"

RESOURCES = {
    resource.kind: resource
    for resource in (
        Resource("Ingress", _NETWORKING, "ingresses"),
        Resource("IngressClass", _NETWORKING, "ingressclasses", namespaced=False),
        Resource("Secret", "v1", "secrets", written=True),
        Resource("ConfigMap", "v1", "configmaps", written=True),
        Resource("Event", "events.k8s.io/v1", "events", written=True),
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
