"""bulkheads.py: what users are told of a Secret that can't be read or written."""

from __future__ import annotations

import pytest

from acmeistio.bulkheads import Bulkheads
from acmeistio.errors import Forbidden, Permanent, Transient
from acmeistio.model import Target
from acmeistio.system import SystemClock
from tests.core.builders import INSTALLATION, TARGET

TENANTS = Target("shop", "shop-tls")


@pytest.fixture
def bulkheads() -> Bulkheads:
    """Of an installation with one gateway."""
    namespaces = INSTALLATION.gateway_namespaces
    return Bulkheads(SystemClock(), namespaces, lambda _what, _error: None, lambda: None)


@pytest.mark.parametrize("error", [Forbidden("no"), Permanent("no")], ids=["rbac", "policy"])
def test_a_gateways_secret_is_granted_in_role_and_policy(
    bulkheads: Bulkheads, error: Exception
) -> None:
    """Nothing of the other way, which does not help there."""
    found = bulkheads.defect_of(TARGET, error)
    assert found
    assert (found.code, found.subject) == ("SecretForbidden", TARGET.ref)
    assert found.sentence == "the API server keeps the Secret from acmeistio: no"
    assert f"Add {TARGET.name} to the Role and the policy of acmeistio" in found.remedy
    assert "deploy/install.yaml" in found.remedy
    assert "ACMEISTIO_SECRETS_GRANTED" in found.remedy
    assert "tenant" not in found.remedy


@pytest.mark.parametrize("error", [Forbidden("no"), Permanent("no")], ids=["rbac", "policy"])
def test_a_tenants_secret_is_granted_by_its_file(bulkheads: Bulkheads, error: Exception) -> None:
    """One command, with the namespace filled in."""
    found = bulkheads.defect_of(TENANTS, error)
    assert found
    assert (found.code, found.subject) == ("TenantSecretForbidden", TENANTS.ref)
    assert found.sentence == "the API server keeps the Secret from acmeistio: no"
    assert "kubectl -n shop apply -f deploy/tenant.yaml" in found.remedy
    assert "install.yaml" not in found.remedy
    assert "ACMEISTIO_SECRETS_GRANTED" not in found.remedy


def test_what_passes_by_itself_is_no_defect(bulkheads: Bulkheads) -> None:
    """It is tried again; a mistake of our own is one, wherever the Secret is."""
    assert bulkheads.defect_of(TARGET, Transient("later")) is None
    mistake = bulkheads.defect_of(TENANTS, KeyError("x"))
    assert mistake
    assert mistake.code == "InternalError"
