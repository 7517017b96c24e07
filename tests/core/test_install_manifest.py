"""deploy/install.yaml: what it says in several places, and what the program says, is the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from acmeistio import __version__
from acmeistio.model import GatewayWorkload, Probing, Routing
from acmeistio.routes.permanent import permanent
from acmeistio.settings import BUILT_IN_ISSUERS, Settings, load_settings
from acmeistio.stores.memory import LEDGER_NAME, PENDING_KEYS_NAME

INSTALL = (Path(__file__).parents[2] / "deploy" / "install.yaml").read_text()
OBJECTS = [document for document in yaml.safe_load_all(INSTALL) if document]
UNROUTED = {"kind": "VirtualService", "metadata": {"name": "acmeistio-unrouted"}}
PLURALS = {
    "gateways": "Gateway",
    "virtualservices": "VirtualService",
    "envoyfilters": "EnvoyFilter",
    "destinationrules": "DestinationRule",
}


def one(kind: str, name: str = "acmeistio") -> Any:
    """The one object of that kind and name."""
    [found] = [o for o in OBJECTS if o["kind"] == kind and o["metadata"]["name"] == name]
    return found


def container() -> Any:
    """The only container of the Deployment."""
    [found] = one("Deployment")["spec"]["template"]["spec"]["containers"]
    return found


def environment() -> dict[str, str]:
    """What the container finds, as Kubernetes would put it together."""
    values = {
        variable["name"]: variable.get("value", "istio-system") for variable in container()["env"]
    }
    return {**one("ConfigMap")["data"], **values}


def granted(kind: str, verb: str) -> set[str]:
    """The names of that kind which the Role grants a verb for."""
    return {
        name
        for rule in one("Role")["rules"]
        if kind in rule["resources"] and verb in rule["verbs"]
        for name in rule.get("resourceNames", ())
    }


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the program makes of the environment."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    return load_settings({})


def test_every_variable_is_a_setting() -> None:
    """A name that the program doesn't know would be passed over in silence, also in a comment."""
    known = {f"ACMEISTIO_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"\bACMEISTIO_[A-Z_]+\b", INSTALL)) - {"ACMEISTIO_PORT"} <= known


def test_the_issuer_is_named_and_is_staging(settings: Settings) -> None:
    """Nobody gets an account or certificates that count without having said so."""
    assert not settings.embedded
    assert settings.issuer == "letsencrypt-staging"


def test_the_probes_reach_the_admin_port(settings: Settings) -> None:
    """It listens for the kubelet, not only on the pod's loopback, where the probes look."""
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert settings.admin_listen == f":{ports['admin']}"
    for probe in ("livenessProbe", "readinessProbe"):
        assert container()[probe]["httpGet"]["port"] == "admin"


def test_the_service_reaches_the_challenge_port(settings: Settings) -> None:
    """Port 80, named for Istio, leads to where challenges are answered."""
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    [port] = one("Service")["spec"]["ports"]
    assert (port["name"], port["port"]) == ("http", 80)
    assert settings.challenge_listen == f":{ports[port['targetPort']]}"
    labels = one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert one("Service")["spec"]["selector"].items() <= labels.items()


def test_the_image_is_of_this_version() -> None:
    """A manifest belongs to one version of the program: that beside which it lies."""
    assert container()["image"] == f"ghcr.io/acmeistio/acmeistio:{__version__}"


def test_settings_role_and_policy_name_the_same_secrets(settings: Settings) -> None:
    """What the program takes for granted is granted: to be read, written and created."""
    secrets = settings.installation.secrets_granted
    assert secrets
    for verb in ("list", "watch"):
        assert granted("secrets", verb) == secrets
    variables = one("ValidatingAdmissionPolicy")["spec"]["variables"]
    [policy] = [v["expression"] for v in variables if v["name"] == "granted"]
    assert set(json.loads(policy)) == secrets


def test_its_own_objects_are_granted(settings: Settings) -> None:
    """The account of every built-in issuer, pending keys, ledger, and the mesh's configuration."""
    accounts = {f"acmeistio-account-{issuer}" for issuer in BUILT_IN_ISSUERS}
    own = {*accounts, PENDING_KEYS_NAME}
    assert granted("secrets", "get") == own
    assert granted("secrets", "update") == {settings.default_secret, *own}
    for verb in ("get", "update"):
        assert granted("configmaps", verb) == {LEDGER_NAME}
    mesh_config = settings.installation.mesh_config
    assert mesh_config
    assert granted("configmaps", "watch") == {mesh_config.name}


def test_the_policy_is_about_this_service_account_only() -> None:
    """Others create what they like: the policy can't stand in their way."""
    account = one("ServiceAccount")["metadata"]
    user = f"system:serviceaccount:{account['namespace']}:{account['name']}"
    [condition] = one("ValidatingAdmissionPolicy")["spec"]["matchConditions"]
    assert condition["expression"] == f'request.userInfo.username == "{user}"'
    assert one("ValidatingAdmissionPolicyBinding")["spec"]["policyName"] == "acmeistio"


def test_the_routes_that_it_keeps_are_granted(settings: Settings) -> None:
    """Each of its route objects by name, and no other: to be mended and deleted."""
    kept = [*permanent(settings.installation), UNROUTED]
    for plural, kind in PLURALS.items():
        names = {route["metadata"]["name"] for route in kept if route["kind"] == kind}
        assert names
        for verb in ("update", "delete"):
            assert granted(plural, verb) == names


def test_the_settings_are_the_defaults(settings: Settings) -> None:
    """What the file spells out for its reader is what the program does without it."""
    installation = settings.installation
    assert installation.gateways == (GatewayWorkload(),)
    assert (installation.routing, installation.probing) == (Routing.FILTER, Probing.GATE)
