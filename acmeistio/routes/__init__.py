"""Which route objects must exist, so that the CA's requests reach acmeistio. Pure.

    permanent    the same for every host: what nearly everything needs
    unrouted     for hosts that nobody routes, behind somebody's redirect to HTTPS
    mirrors      a route beside each route of a user, where EnvoyFilters are not allowed
    changes      what is to be done so that what exists is what must

Owns the path, the mark of a request that was handed back, and the names and the label of all that
acmeistio writes. Nothing here is per host or per order, so that nothing must change, and no
gateway must be told anything, while a certificate is issued.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from acmeistio.model import (
    ACMEISTIO,
    ISTIO_GATEWAY,
    MANAGED_BY,
    Installation,
    ObjectRef,
    kind_of,
)
from acmeistio.sources import untrusted

PATH_PREFIX: Final = "/.well-known/acme-challenge/"
PASS_MARK: Final = "acmeistio-pass"
"""Query parameter of a request that acmeistio handed back: its route leaves such requests alone."""

NAME: Final = ACMEISTIO
INSTANCE: Final = "app.kubernetes.io/instance"
"""The namespace of the acmeistio that an object belongs to: there may be several."""
ROUTE_NAME: Final = "acme-http01"
SERVICE_PORT: Final = 80
MAX_NAME_CHARACTERS: Final = 63
"""Of what may be named in `gateways:` (Istio's validation), and of labels."""

ISTIO_VERSION: Final = "networking.istio.io/v1"
GATEWAY_API_VERSION: Final = "gateway.networking.k8s.io/v1"

KINDS: Final = (ISTIO_GATEWAY, "VirtualService", "EnvoyFilter", "HTTPRoute", "ReferenceGrant")
"""Kinds of route objects that are looked at as a whole."""

Route = dict[str, Any]


def new(
    api_version: str,
    kind: str,
    namespace: str,
    name: str,
    spec: Mapping[str, Any],
) -> Route:
    """An object of acmeistio's; which installation's is said by `labelled`."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"namespace": namespace, "name": name},
        "spec": dict(spec),
    }


def labelled(route: Route, installation: Installation) -> Route:
    """The object as one of this installation."""
    labels = {
        MANAGED_BY: NAME,
        INSTANCE: installation.namespace,
        "app.kubernetes.io/name": NAME,
    }
    return {**route, "metadata": {**route["metadata"], "labels": labels}}


def reference(route: Mapping[str, Any]) -> ObjectRef:
    """Which object this is."""
    metadata = route["metadata"]
    return ObjectRef(kind_of(route), metadata.get("namespace", ""), metadata["name"])


def is_ours(manifest: Mapping[str, Any]) -> bool:
    """Whether an object is of acmeistio, whichever installation's: no source, and no owner."""
    return untrusted.mapping(manifest, "metadata", "labels").get(MANAGED_BY) == NAME


def is_of(manifest: Mapping[str, Any], installation: Installation) -> bool:
    """Whether an object is of this installation."""
    labels = untrusted.mapping(manifest, "metadata", "labels")
    return is_ours(manifest) and labels.get(INSTANCE) == installation.namespace


def service_host(installation: Installation) -> str:
    """Where the gateways send the CA's requests to."""
    return installation.service_host(installation.namespace, NAME)


def challenge_rule(installation: Installation) -> dict[str, Any]:
    """The rule of a VirtualService: the path, to acmeistio."""
    destination = {"host": service_host(installation), "port": {"number": SERVICE_PORT}}
    return {
        "name": ROUTE_NAME,
        "match": [{"uri": {"prefix": PATH_PREFIX}}],
        "route": [{"destination": destination}],
    }


def derived_name(*parts: str) -> str:
    """A name of acmeistio's for what belongs to another object: telling, short and its own."""
    digest = hashlib.sha256("/".join(parts).encode()).hexdigest()[:8]
    said = "-".join((NAME, *parts)).replace(".", "-")[: MAX_NAME_CHARACTERS - 9].rstrip("-")
    return f"{said}-{digest}"
