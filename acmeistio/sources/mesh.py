"""Istio's mesh configuration: which Ingresses the mesh processes.

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
    return replace(installation, ingress_mode=IngressMode(mode), ingress_class=named)
