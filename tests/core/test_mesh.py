"""sources/mesh.py: Istio's own word on which Ingresses it processes."""

from __future__ import annotations

import pytest

from acmeistio.model import IngressMode
from acmeistio.sources import mesh
from tests.core.builders import INSTALLATION


@pytest.mark.parametrize("mode", list(IngressMode))
def test_mode_and_class(mode: IngressMode) -> None:
    """Both are taken over; everything else of the installation stays."""
    applied = mesh.applied(
        INSTALLATION, {"ingressControllerMode": str(mode), "ingressClass": "edge", "other": 1}
    )
    assert (applied.ingress_mode, applied.ingress_class) == (mode, "edge")
    assert applied.issuers == INSTALLATION.issuers


@pytest.mark.parametrize("config", [{}, {"ingressClass": ""}, {"ingressControllerMode": None}])
def test_what_is_absent_has_istios_defaults(config: dict[str, object]) -> None:
    """STRICT and istio (pkg/config/mesh/mesh.go: DefaultMeshConfig)."""
    applied = mesh.applied(INSTALLATION, config)
    assert (applied.ingress_mode, applied.ingress_class) == (IngressMode.STRICT, "istio")


def test_a_mode_that_is_none_is_refused() -> None:
    """By name, with what is possible."""
    with pytest.raises(mesh.Unreadable, match="strict; possible: STRICT, DEFAULT, OFF"):
        mesh.applied(INSTALLATION, {"ingressControllerMode": "strict"})
