"""Stub."""

from __future__ import annotations

from collections.abc import Iterable

from acmeistio.model import K8S_GATEWAY
from acmeistio.reasons import Defect
from acmeistio.sources import Found, Manifest, Manifests, Surroundings

KINDS: tuple[str, ...] = (K8S_GATEWAY, "HTTPRoute", "ReferenceGrant", "ListenerSet")


def subjects(manifests: Manifests) -> Iterable[tuple[Manifest, tuple[Manifest, ...]]]:
    """See Source.subjects."""
    return ()


def declarations(
    manifest: Manifest, related: tuple[Manifest, ...], surroundings: Surroundings
) -> Found:
    """See Source.declarations."""
    return Found()


def together(manifests: Manifests, surroundings: Surroundings) -> tuple[Defect, ...]:
    """See Source.together."""
    return ()
