"""settings.py: what an installation may say, and one clear sentence for each mistake."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from acmeistio.errors import Misconfigured
from acmeistio.issuer import BUILT_IN, Issuer
from acmeistio.model import (
    GatewayAddress,
    GatewayWorkload,
    IngressMode,
    Installation,
    ObjectRef,
    Probing,
    Routing,
)
from acmeistio.settings import LogFormat, Settings, load_settings, unknown_variables


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own settings."""
    for key in [key for key in os.environ if key.upper().startswith("ACMEISTIO_")]:
        monkeypatch.delenv(key)


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """The least that must be said."""
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    return {"manifests": manifests, "secrets": tmp_path / "secrets", "issuer": "letsencrypt"}


def test_the_least(options: dict[str, Any]) -> None:
    """Three options are enough; the defaults are those of DESIGN §6."""
    settings = load_settings(options)
    assert settings.challenge_listen == ":8080"
    assert settings.admin_listen == "127.0.0.1:9090"
    assert settings.log_format is LogFormat.AUTO
    installation = settings.installation
    assert installation.default_issuer == "letsencrypt"
    assert installation.gateways[0].namespace == "istio-system"
    assert installation.default_secret == "istio-ingress-certs"
    assert installation.ingress_mode is IngressMode.STRICT
    assert installation.ingress_class == "istio"
    assert installation.honours_tls_acme is False


def test_built_in_issuers(options: dict[str, Any]) -> None:
    """`letsencrypt` and `letsencrypt-staging` are, with limits and profiles (DESIGN §6)."""
    assert load_settings(options).installation.issuers == BUILT_IN


@pytest.mark.parametrize("name", ["letsencrypt", "letsencrypt-staging"])
def test_a_built_in_name_elsewhere_is_another_ca(options: dict[str, Any], name: str) -> None:
    """Nobody knows its limits and profiles; whether it is trusted goes by the name."""
    elsewhere = {**options, "issuer": name, "directory": "https://ca.example/dir"}
    issuers = load_settings(elsewhere).installation.issuers
    assert issuers[name] == Issuer(name, "https://ca.example/dir", trusted=name == "letsencrypt")


def test_a_ca_is_its_directory(options: dict[str, Any]) -> None:
    """Let's Encrypt by any name has the limits and profiles of Let's Encrypt."""
    staging = BUILT_IN["letsencrypt-staging"]
    named = {**options, "issuer": "own", "directory": staging.directory_url}
    assert load_settings(named).installation.issuers["own"] == replace(staging, name="own")


def test_an_issuer_of_ones_own(options: dict[str, Any], tmp_path: Path) -> None:
    """Another CA by its directory; the built-in ones stay beside it (DESIGN §6)."""
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    settings = load_settings(
        {
            **options,
            "issuer": "own",
            "directory": "https://ca.example/dir",
            "ca_bundle": bundle,
            "email": "me@example.com",
            "profile": "classic",
        }
    )
    installation = settings.installation
    assert installation.default_issuer == "own"
    assert set(installation.issuers) == {"own", "letsencrypt", "letsencrypt-staging"}
    assert installation.issuers["own"] == Issuer(
        name="own",
        directory_url="https://ca.example/dir",
        ca_bundle=str(bundle),
        email="me@example.com",
        profile="classic",
    )


def test_all_reaches_the_core(options: dict[str, Any]) -> None:
    """Each setting of sources and planning is the Installation's (model.py)."""
    installation = load_settings(
        {
            **options,
            "gateway_namespace": "edge",
            "default_secret": "certs",
            "ingress_mode": "DEFAULT",
            "ingress_class": "public",
            "tls_acme": True,
        }
    ).installation
    assert installation == Installation(
        issuers=installation.issuers,
        default_issuer="letsencrypt",
        gateways=(GatewayWorkload(namespace="edge"),),
        probing=Probing.OFF,
        default_secret="certs",
        ingress_mode=IngressMode.DEFAULT,
        ingress_class="public",
        honours_tls_acme=True,
    )


def test_environment_and_options(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """`ACMEISTIO_*` is overridden by options; None is an option not given (settings.py)."""
    monkeypatch.setenv("ACMEISTIO_GATEWAY_NAMESPACE", "edge")
    monkeypatch.setenv("ACMEISTIO_CONCURRENT_ORDERS", "3")
    monkeypatch.setenv("ACMEISTIO_TLS_ACME", "true")
    settings = load_settings({**options, "concurrent_orders": 5, "gateway_namespace": None})
    assert (settings.gateway_namespace, settings.concurrent_orders) == ("edge", 5)
    assert settings.tls_acme is True


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("issuer", ""),
        ("issuer", "Own"),
        ("issuer", "a/b"),
        ("directory", "http://ca.example/dir"),
        ("directory", "ca.example"),
        ("profile", ""),
        ("profile", "two words"),
        ("gateway_namespace", "Istio"),
        ("gateway_namespace", "a.b"),
        ("gateway_namespace", "x" * 64),
        ("default_secret", ""),
        ("default_secret", "../secret"),
        ("default_secret", "a..b"),
        ("default_secret", "a.-b"),
        ("default_secret", "x" * 254),
        ("default_secret", "good\n"),
        ("ingress_mode", "strict"),
        ("namespace", "Istio"),
        ("secrets_granted", "istio-ingress-certs, *"),
        ("secrets_granted", "../a"),
        ("domains_allowed", "com"),
        ("domains_allowed", "mydomain.com, 127.0.0.1"),
        ("mesh_config", "istio"),
        ("mesh_config", "a/b/c"),
        ("challenge_listen", "8080"),
        ("challenge_listen", ":"),
        ("challenge_listen", ":http"),
        ("challenge_listen", ":65536"),
        ("challenge_listen", ":-1"),
        ("challenge_listen", ":²"),
        ("admin_listen", "localhost"),
        ("concurrent_orders", 0),
        ("concurrent_orders", 101),
        ("concurrent_orders", "many"),
        ("log_format", "xml"),
        ("log_level", "verbose"),
        ("tls_acme", "maybe"),
    ],
)
def test_each_mistake(options: dict[str, Any], option: str, value: object) -> None:
    """One clear line that names the option and the value (DESIGN §5, Errors)."""
    with pytest.raises(Misconfigured) as caught:
        load_settings({**options, option: value})
    message = str(caught.value)
    assert message.startswith("--" + option.replace("_", "-") + " ")
    assert repr(value) in message
    assert "\n" not in message
    assert not message.endswith(": ")
    assert "invalid literal" not in message


def test_what_is_missing(options: dict[str, Any]) -> None:
    """A missing option is named, with the variable that would do too."""
    del options["issuer"]
    with pytest.raises(Misconfigured) as caught:
        load_settings(options)
    assert str(caught.value) == "--issuer is missing (or ACMEISTIO_ISSUER)"


@pytest.mark.parametrize("option", ["manifests", "secrets"])
def test_folders_go_together(options: dict[str, Any], option: str) -> None:
    """One alone is neither the embedded default nor the cluster."""
    del options[option]
    with pytest.raises(Misconfigured, match="--manifests and --secrets go together"):
        load_settings(options)


def test_a_kubeconfig_beside_folders_is_a_mistake(options: dict[str, Any], tmp_path: Path) -> None:
    """Whoever says both does not know where it will work."""
    with pytest.raises(Misconfigured, match="--kubeconfig is of no use beside"):
        load_settings({**options, "kubeconfig": tmp_path / "config"})


def test_without_folders_it_works_in_the_cluster() -> None:
    """An issuer is enough; the mesh says class and mode, and one Secret is granted."""
    settings = load_settings({"issuer": "letsencrypt"})
    assert (settings.embedded, settings.state_namespace) == (False, "istio-system")
    installation = settings.installation
    assert installation.mesh_config == ObjectRef("ConfigMap", "istio-system", "istio")
    assert installation.secrets_granted == {"istio-ingress-certs"}


def test_with_folders_every_secret_is_granted(options: dict[str, Any]) -> None:
    """They are the user's own, and there is no mesh to ask."""
    installation = load_settings(options).installation
    assert installation.secrets_granted is None
    assert installation.mesh_config is None


def test_state_and_gateway_may_lie_apart() -> None:
    """Accounts and ledger in a namespace of acmeistio's, Secrets where the gateway is."""
    settings = load_settings(
        {"issuer": "letsencrypt", "namespace": "acmeistio", "gateway_namespace": "edge"}
    )
    assert settings.state_namespace == "acmeistio"
    assert settings.installation.gateways[0].namespace == "edge"


@pytest.mark.parametrize("text", ["a,istio-ingress-certs", " a , istio-ingress-certs "])
def test_secrets_are_granted_by_name(text: str) -> None:
    """With commas, and the default one is among them."""
    installation = load_settings({"issuer": "letsencrypt", "secrets_granted": text}).installation
    assert installation.secrets_granted == {"a", "istio-ingress-certs"}


def test_the_default_secret_must_be_granted() -> None:
    """Else every plain Ingress would end in a Defect."""
    with pytest.raises(Misconfigured, match="lacks the default Secret istio-ingress-certs"):
        load_settings({"issuer": "letsencrypt", "secrets_granted": "a, b"})


def test_any_secret_only_in_a_gateway_namespace_of_its_own() -> None:
    """In istio-system lies the key of the mesh's CA (DESIGN §5, Who may ask for what)."""
    any_secret = {"issuer": "letsencrypt", "secrets_granted": "*"}
    with pytest.raises(Misconfigured, match="key"):
        load_settings(any_secret)
    settings = load_settings({**any_secret, "gateway_namespace": "edge"})
    assert settings.installation.secrets_granted is None


def test_domains_may_be_allowed() -> None:
    """By their names, spelt as users spell them; without the setting, any."""
    text = "MyDomain.com., bücher.example, [2001:DB8::1]"
    allowed = {"issuer": "letsencrypt", "domains_allowed": text}
    installation = load_settings(allowed).installation
    assert installation.domains_allowed == {
        "mydomain.com",
        "xn--bcher-kva.example",
        "2001:db8::1",
    }
    assert load_settings({"issuer": "letsencrypt"}).installation.domains_allowed is None


@pytest.mark.parametrize("told", [{"ingress_class": "edge"}, {"ingress_mode": "OFF"}])
def test_settings_beat_the_mesh(told: dict[str, str]) -> None:
    """Where one is told the ConfigMap is not asked."""
    installation = load_settings({"issuer": "letsencrypt", **told}).installation
    assert installation.mesh_config is None


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ConfigMap with EMAIL: "" is how settings are shown that are not set."""
    monkeypatch.setenv("ACMEISTIO_EMAIL", "")
    assert load_settings({"issuer": "letsencrypt"}).email is None


def test_all_mistakes_at_once(options: dict[str, Any]) -> None:
    """All mistakes are reported at once (settings.py)."""
    del options["issuer"]
    with pytest.raises(Misconfigured) as caught:
        load_settings({**options, "log_level": "loud", "concurrent_orders": 0})
    message = str(caught.value)
    for option in ("--issuer", "--log-level", "--concurrent-orders"):
        assert option in message


def test_an_unknown_issuer_needs_a_directory(options: dict[str, Any]) -> None:
    """An issuer that is not built in says where it is (DESIGN §6, Issuers)."""
    with pytest.raises(Misconfigured) as caught:
        load_settings({**options, "issuer": "own"})
    message = str(caught.value)
    assert message == (
        "issuer own is not built in (built in: letsencrypt, letsencrypt-staging); "
        "say where its ACME directory is: with --directory, or with directory in the file of "
        "--issuers"
    )


@pytest.mark.parametrize("found", ["nothing", "a file"])
def test_the_manifests_folder_exists(options: dict[str, Any], tmp_path: Path, found: str) -> None:
    """A folder that is not there is a mistake at start, not an empty set of manifests."""
    path = tmp_path / "other"
    if found == "a file":
        path.touch()
    with pytest.raises(Misconfigured) as caught:
        load_settings({**options, "manifests": path})
    assert str(caught.value) == f"the manifests folder {path} does not exist"


@pytest.mark.parametrize("secrets", ["manifests", "manifests/secrets", "x/../manifests", "."])
def test_folders_of_their_own(options: dict[str, Any], tmp_path: Path, secrets: str) -> None:
    """What is read and what is written are not one in the other (settings.py)."""
    with pytest.raises(Misconfigured, match="need folders of their own"):
        load_settings({**options, "secrets": tmp_path / secrets})


@pytest.mark.parametrize(
    ("text", "address"),
    [(":8080", ":8080"), ("[::1]:80", "::1:80"), ("127.0.0.1:0", "127.0.0.1:0"), ("h:1", "h:1")],
)
def test_listen_addresses(options: dict[str, Any], text: str, address: str) -> None:
    """HOST:PORT or :PORT, IPv6 in brackets (web/serving.py)."""
    assert load_settings({**options, "admin_listen": text}).admin_listen == address


def test_unknown_options(options: dict[str, Any]) -> None:
    """An option that is none is a mistake, not ignored."""
    with pytest.raises(Misconfigured, match="--manifest "):
        load_settings({**options, "manifest": "x"})


def test_a_variable_that_is_no_setting_is_told() -> None:
    """A slip of the pen in a ConfigMap would else change nothing and say nothing."""
    names = ["PATH", "ACMEISTIO_ISUER", "ACMEISTIO_ISSUER", "ACMEISTIO_COLOUR"]
    assert unknown_variables(names) == {
        "ACMEISTIO_ISUER": "Did you mean ACMEISTIO_ISSUER?",
        "ACMEISTIO_COLOUR": "acmeistio run --help has all settings.",
    }


def test_variables_of_a_service_are_no_slips() -> None:
    """Kubernetes tells every pod of a Service called acmeistio by such names."""
    of_a_service = ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP_ADDR"]
    assert unknown_variables(f"ACMEISTIO_{name}" for name in of_a_service) == {}


def test_every_setting_is_covered(options: dict[str, Any]) -> None:
    """Settings that are added want their tests here."""
    assert set(Settings.model_fields) == {
        *("manifests", "secrets", "issuer", "issuers", "directory", "ca_bundle", "email"),
        "profile",
        *("gateway_namespace", "default_secret", "ingress_mode", "ingress_class", "tls_acme"),
        *(
            "kubeconfig",
            "context",
            "namespace",
            "secrets_granted",
            "mesh_config",
            "domains_allowed",
        ),
        *("gateways", "routing", "probe", "root_namespace", "gateway_class", "cluster_domain"),
        *("challenge_listen", "admin_listen", "concurrent_orders", "log_format", "log_level"),
    }


GATEWAYS = """
- namespace: edge
  selector: {istio: edge}
  service: edge
- namespace: inside
  routing: mirror
  httpPort: 8080
  address: {host: 10.0.0.9, httpPort: 80}
"""


def test_several_gateways(options: dict[str, Any]) -> None:
    """What one leaves out has the default of all."""
    installation = load_settings({**options, "gateways": GATEWAYS}).installation
    assert installation.gateways == (
        GatewayWorkload("edge", {"istio": "edge"}, "edge", Routing.FILTER),
        GatewayWorkload(
            "inside",
            routing=Routing.MIRROR,
            http_port=8080,
            address=GatewayAddress("10.0.0.9"),
        ),
    )
    assert [str(installation.address_of(workload)) for workload in installation.gateways] == [
        "edge.edge.svc.cluster.local:80",
        "10.0.0.9:80",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[{namespace: A_B}]", "0.namespace"),
        ("[{selektor: {a: b}}]", "0.selektor"),
        ("[{routing: maybe}]", "filter"),
        ("[]", "at least 1"),
        ("namespace: edge", "list"),
        ("[{", "not YAML"),
        ("[{httpPort: 0}]", "0.httpPort"),
    ],
)
def test_wrong_gateways_are_told(options: dict[str, Any], text: str, said: str) -> None:
    """Which of them, and what of it."""
    with pytest.raises(Misconfigured, match=re.escape(said)):
        load_settings({**options, "gateways": text})


def test_one_word_on_where_the_gateway_runs(options: dict[str, Any]) -> None:
    """Two could contradict each other."""
    with pytest.raises(Misconfigured, match="--gateway-namespace is of no use"):
        load_settings({**options, "gateways": GATEWAYS, "gateway_namespace": "edge"})


def test_no_gateway_class(options: dict[str, Any]) -> None:
    """An empty variable is one that is not set, so there is a word for it."""
    assert load_settings({**options, "gateway_class": "none"}).installation.gateway_class is None


def test_off_is_off_for_all(options: dict[str, Any]) -> None:
    """Whatever a gateway says itself: so it is when acmeistio is to be uninstalled."""
    gateways = load_settings(
        {**options, "gateways": GATEWAYS, "routing": "off"}
    ).installation.gateways
    assert {workload.routing for workload in gateways} == {Routing.OFF}


def test_off_needs_no_quotes(options: dict[str, Any]) -> None:
    """YAML takes the word for false."""
    installation = load_settings({**options, "gateways": "[{routing: off}]"}).installation
    assert installation.gateways[0].routing is Routing.OFF


def test_two_gateways_are_two_services(options: dict[str, Any]) -> None:
    """Their objects are called by these."""
    with pytest.raises(Misconfigured, match="same service: edge/edge"):
        load_settings(
            {
                **options,
                "gateways": "[{namespace: edge, service: edge}]".replace(
                    "]", ", {namespace: edge, service: edge}]"
                ),
            }
        )


def test_any_secret_of_the_meshs_root_is_too_much() -> None:
    """Wherever that is: the key of its CA lies there."""
    with pytest.raises(Misconfigured, match="istio-mesh"):
        load_settings(
            {
                "issuer": "letsencrypt",
                "secrets_granted": "*",
                "root_namespace": "istio-mesh",
                "gateways": "[{namespace: istio-mesh}]",
            }
        )


def test_a_wildcard_domain_is_its_domain(options: dict[str, Any]) -> None:
    """What is below it is allowed with it."""
    installation = load_settings({**options, "domains_allowed": "*.example.com"}).installation
    assert installation.domains_allowed == {"example.com"}
