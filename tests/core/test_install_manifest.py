"""deploy/install.yaml: what it says in several places, and what the program says, is the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from acmeistio import __version__
from acmeistio.issuer import BUILT_IN
from acmeistio.model import GatewayWorkload, Probing, Routing
from acmeistio.routes.permanent import permanent
from acmeistio.settings import Settings, load_settings
from acmeistio.settings.issuer_words import IssuerEntry
from acmeistio.stores.memory import LEDGER_NAME, PENDING_KEYS_NAME

DEPLOY = Path(__file__).parents[2] / "deploy"
INSTALL = (DEPLOY / "install.yaml").read_text()
EXAMPLE = yaml.safe_load((DEPLOY / "examples" / "issuers.yaml").read_text())
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
    accounts = {f"acmeistio-account-{issuer}" for issuer in BUILT_IN}
    own = {*accounts, PENDING_KEYS_NAME}
    assert granted("secrets", "get") == own
    assert granted("secrets", "update") == {settings.default_secret, *own}
    for verb in ("get", "update"):
        assert granted("configmaps", verb) == {LEDGER_NAME}
    mesh_config = settings.installation.mesh_config
    assert mesh_config
    assert granted("configmaps", "watch") == {mesh_config.name}


@pytest.fixture
def exemplary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """What the program makes of the example of issuers, mounted as Kubernetes would."""
    for name, text in EXAMPLE["data"].items():
        (tmp_path / name).write_text(text)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    return load_settings({"issuers": tmp_path / "issuers.yaml"})


def test_the_example_of_issuers_is_good(exemplary: Settings) -> None:
    """As it stands, in the cluster: a fallback, an external account, a private CA."""
    issuers = exemplary.installation.issuers
    assert set(issuers) == {*BUILT_IN, "zerossl", "step"}
    assert issuers["letsencrypt"].fallback == "zerossl"
    assert issuers["letsencrypt"].limits == BUILT_IN["letsencrypt"].limits
    assert issuers["zerossl"].external_account
    assert issuers["zerossl"].external_account.secret_name == "acmeistio-eab-zerossl"
    assert str(issuers["step"].ca_bundle).endswith("/step-root.pem")
    assert not issuers["step"].trusted


def test_the_example_has_every_word() -> None:
    """It is where the words are explained; and it has no other."""
    text = EXAMPLE["data"]["issuers.yaml"]
    words = set(re.findall(r"(\w+):(?= |$)", re.sub(r"#.*", "", text), re.MULTILINE))
    schema = IssuerEntry.model_json_schema()
    known = {word for part in (schema, *schema["$defs"].values()) for word in part["properties"]}
    assert words == {"short", *known}


def test_the_issuers_are_mounted_where_the_setting_says() -> None:
    """Whoever takes the comment away has the file of the ConfigMap that the example makes."""
    [commented] = re.findall(r"# ACMEISTIO_ISSUERS: (\S+)", INSTALL)
    [mount] = container()["volumeMounts"]
    [volume] = one("Deployment")["spec"]["template"]["spec"]["volumes"]
    assert commented == f"{mount['mountPath']}/issuers.yaml"
    assert volume["name"] == mount["name"]
    metadata = EXAMPLE["metadata"]
    assert volume["configMap"] == {"name": metadata["name"], "optional": True}
    assert metadata["namespace"] == one("Deployment")["metadata"]["namespace"]


def test_the_role_shows_what_the_example_needs(exemplary: Settings) -> None:
    """Accounts beside those of the built-in issuers; the MAC key is read and never written."""
    own = [i for name, i in exemplary.installation.issuers.items() if name not in BUILT_IN]
    for issuer in own:
        assert f"# - acmeistio-account-{issuer.name}\n" in INSTALL
        if issuer.external_account:
            secret = issuer.external_account.secret_name
            assert f"#   resourceNames: [{secret}]\n  #   verbs: [get]\n" in INSTALL
    variables = one("ValidatingAdmissionPolicy")["spec"]["variables"]
    [may_write] = [v["expression"] for v in variables if v["name"] == "own"]
    assert "acmeistio-eab" not in may_write


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
