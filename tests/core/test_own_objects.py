"""What is acmeistio's own stays so: its objects are no targets, and the CA's word holds."""

from __future__ import annotations

from datetime import timedelta

import pytest

from acmeistio.model import Unusable
from acmeistio.planning.ledger import Ledger, Pause
from acmeistio.sources import Surroundings
from acmeistio.sources.ingress import declarations
from acmeistio.stores.secrets import held_by, marks_of
from tests.core.builders import INSTALLATION, NOW, ingress


@pytest.mark.parametrize(
    "name", ["acmeistio-account-letsencrypt", "acmeistio-pending-keys", "x.yaml", "x.sds.json"]
)
def test_reserved_secret_names(name: str) -> None:
    """No Ingress can have a certificate written over an account's key or into a file's place."""
    annotations = {"acmeistio.io/domains": "www.example.com", "acmeistio.io/secret-name": name}
    found = declarations(ingress(annotations), (), Surroundings(INSTALLATION))
    assert found.declarations == ()
    assert "SecretNameReserved" in [made.code for made in found.defects]


def test_only_tls_secrets_are_managed() -> None:
    """A Secret of ours that is no TLS Secret, such as an account, is never a target."""
    account = {
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"labels": {"app.kubernetes.io/managed-by": "acmeistio"}},
        "data": {"tls.key": "eA=="},
    }
    assert not marks_of(account).managed
    assert isinstance(held_by(account), Unusable)


def test_a_shorter_pause_does_not_cut_a_longer() -> None:
    """Retry-After is a floor (DESIGN §5, Rate limits), also when another answer asks for less."""
    longer = Pause(NOW + timedelta(hours=1), "rate limited")
    shorter = Pause(NOW + timedelta(seconds=1), "busy")
    assert Ledger().paused("ca", longer).paused("ca", shorter).pauses["ca"] == longer
    assert Ledger().paused("ca", shorter).paused("ca", longer).pauses["ca"] == longer
