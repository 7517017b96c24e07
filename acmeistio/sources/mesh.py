"""Istio's mesh configuration: which Ingresses the mesh processes, and by which pods it serves them.

Owns the keys and their defaults (istio/istio pkg/config/mesh/mesh.go: DefaultMeshConfig). Where the
configuration lies, and in which notation, is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from acmeistio.model import IngressMode, Installation
from acmeistio.sources import untrusted

DEFAULT_INGRESS_CLASS = "istio"
DEFAULT_INGRESS_SERVICE = "istio-ingressgateway"
DEFAULT_INGRESS_SELECTOR = "ingressgateway"


class Unreadable(ValueError):
    """The mesh configuration says something that this version of acmeistio can't interpret."""


def applied(installation: Installation, mesh: Mapping[str, Any]) -> Installation:
    """The installation with what the mesh says; absent keys have Istio's defaults.

    Raises Unreadable on a mode that is none.
    """
    mode = untrusted.text(mesh.get("ingressControllerMode")) or IngressMode.STRICT
    if mode not in set(IngressMode):
        possible = ", ".join(IngressMode)
        raise Unreadable(f"ingressControllerMode is {mode}; possible: {possible}")
    named = untrusted.text(mesh.get("ingressClass")) or DEFAULT_INGRESS_CLASS
    return replace(
        installation,
        ingress_mode=IngressMode(mode),
        ingress_class=named,
        ingress_selector={"istio": _ingress_selector(mesh)},
    )


def _ingress_selector(mesh: Mapping[str, Any]) -> str:
    """Which pods serve Ingresses (getIngressGatewaySelector in pilot/pkg/config/kube/ingress)."""
    selector = untrusted.text(mesh.get("ingressSelector"))
    service = untrusted.text(mesh.get("ingressService", DEFAULT_INGRESS_SERVICE))
    other = service if service != DEFAULT_INGRESS_SERVICE else ""
    return selector or other or DEFAULT_INGRESS_SELECTOR
