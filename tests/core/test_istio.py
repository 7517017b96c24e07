"""sources/istio.py: what Istio Gateways and VirtualServices ask for, and through which pods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmeistio.model import (
    ISTIO_GATEWAY,
    GatewayAddress,
    GatewayWorkload,
    KeyType,
    ObjectRef,
    Target,
)
from acmeistio.names import DnsName
from acmeistio.sources import Found, Surroundings, istio, joined
from tests.core.builders import INSTALLATION

WORDS = ("servers", "hosts", "tls", "mode", "SIMPLE", "credentialName", "gateways", "web", "*.a.b")
PLAIN_DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(WORDS) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4)
    ),
    max_leaves=12,
)

TLS = {"acmeistio.io/tls": "true"}
HERE = Surroundings(INSTALLATION)
EDGE = GatewayWorkload("edge", {"istio": "edge"}, "edge")


def gateway(
    *servers: Mapping[str, Any],
    annotations: Mapping[str, str] = TLS,
    selector: Mapping[str, str] | None = None,
    namespace: str = "shop",
    name: str = "web",
) -> dict[str, Any]:
    """A Gateway; of Istio's usual ingress pods unless said otherwise."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"namespace": namespace, "name": name, "annotations": dict(annotations)},
        "spec": {
            "selector": {"istio": "ingressgateway"} if selector is None else dict(selector),
            "servers": [*servers],
        },
    }


def server(*hosts: str, port: int = 443, **tls: Any) -> dict[str, Any]:
    """A server that terminates TLS with the Secret `web` unless `tls` says something else."""
    return {
        "hosts": [*hosts],
        "port": {"number": port, "name": f"p{port}", "protocol": "HTTPS"},
        "tls": tls or {"mode": "SIMPLE", "credentialName": "web"},
    }


def plain(*hosts: str, redirects: bool = False) -> dict[str, Any]:
    """A server of port 80."""
    tls = {"tls": {"httpsRedirect": True}} if redirects else {}
    port = {"number": 80, "name": "http", "protocol": "HTTP"}
    return {"hosts": [*hosts], "port": port, **tls}


def virtual_service(
    *hosts: str,
    gateways: tuple[str, ...] = ("web",),
    annotations: Mapping[str, str] = TLS,
    namespace: str = "shop",
    name: str = "pages",
) -> dict[str, Any]:
    """A VirtualService bound to the Gateway of the same namespace unless said otherwise."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"namespace": namespace, "name": name, "annotations": dict(annotations)},
        "spec": {"hosts": [*hosts], "gateways": [*gateways]},
    }


def read(*manifests: dict[str, Any], surroundings: Surroundings = HERE) -> Found:
    """What all of them declare, with every Defect's words made once."""
    by_kind = {
        ISTIO_GATEWAY: tuple(m for m in manifests if m["kind"] == "Gateway"),
        "VirtualService": tuple(m for m in manifests if m["kind"] == "VirtualService"),
    }
    found = joined(
        *(istio.declarations(m, related, surroundings) for m, related in istio.subjects(by_kind))
    )
    for made in found.defects:
        assert made.sentence
        assert made.remedy
    return found


def asked(found: Found) -> dict[str, list[str]]:
    """Secret → names of all declarations."""
    wanted: dict[str, list[str]] = {}
    for made in found.declarations:
        wanted.setdefault(str(made.target), []).extend(made.names)
    return {target: sorted(names) for target, names in wanted.items()}


def codes(found: Found) -> list[tuple[str, str]]:
    """Whose Defects there are."""
    return [(made.subject.kind.partition(".")[0], made.code) for made in found.defects]


def test_the_hosts_of_servers_with_tls() -> None:
    """Each credentialName is a Secret of its own, where the pods are; port 80 asks for nothing."""
    found = read(
        gateway(
            plain("only-http.example.com"),
            server("A.example.com", "shop/b.example.com", "./c.example.com", "*/d.example.com"),
            server("e.example.com", mode="SIMPLE", credentialName="other"),
        )
    )
    assert asked(found) == {
        "istio-system/web": [f"{x}.example.com" for x in "abcd"],
        "istio-system/other": ["e.example.com"],
    }
    assert found.defects == ()
    assert {made.source for made in found.declarations} == {ObjectRef(ISTIO_GATEWAY, "shop", "web")}


@pytest.mark.parametrize(
    ("selector", "targets"),
    [
        ({"istio": "ingressgateway"}, ["istio-system/web"]),
        ({"istio": "edge"}, ["edge/web"]),
        ({}, ["edge/web", "istio-system/web"]),
    ],
)
def test_the_secret_lies_with_the_selected_pods(
    selector: Mapping[str, str], targets: list[str]
) -> None:
    """No selector selects the pods of every gateway, and each reads its own namespace."""
    installation = replace(INSTALLATION, gateways=(*INSTALLATION.gateways, EDGE))
    found = read(
        gateway(server("a.example.com"), selector=selector), surroundings=Surroundings(installation)
    )
    assert sorted(asked(found)) == targets
    hosts = {str(address) for made in found.declarations for address in made.reached_at}
    assert len(hosts) == len(targets)


@pytest.mark.parametrize(
    ("selector", "targets"),
    [
        ({"istio": "ingressgateway", "app": "istio-ingressgateway"}, ["istio-system/web"]),
        ({"istio": "edge", "tier": "inside"}, ["inside/web"]),
        ({"istio": "edge", "tier": "outside"}, ["edge/web"]),
        ({"istio": "edge", "zone": "a"}, ["edge/web", "inside/web"]),
        ({"app": "istio-ingressgateway"}, []),
        ({"istio": "egressgateway", "app": "istio-ingressgateway"}, []),
    ],
)
def test_pods_have_labels_that_nobody_told_of(
    selector: Mapping[str, str], targets: list[str]
) -> None:
    """Istio's charts give two; who is told of one takes a selector with both, but no other."""
    inside = GatewayWorkload("inside", {"istio": "edge", "tier": "inside"}, "inside")
    installation = replace(INSTALLATION, gateways=(*INSTALLATION.gateways, EDGE, inside))
    found = read(
        gateway(server("a.example.com"), selector=selector), surroundings=Surroundings(installation)
    )
    assert sorted(asked(found)) == targets


def test_pods_that_nobody_knows_are_told() -> None:
    """An egress gateway, or one that is missing in the settings; nothing is written anywhere."""
    found = read(gateway(server("a.example.com"), selector={"istio": "egressgateway"}))
    assert codes(found) == [("Gateway", "GatewayUnknown")]
    assert "istio=egressgateway" in found.defects[0].sentence


def test_where_it_is_reached() -> None:
    """By the Service of the pods."""
    (made,) = read(gateway(server("a.example.com"))).declarations
    assert made.reached_at == (
        GatewayAddress("istio-ingressgateway.istio-system.svc.cluster.local"),
    )


def test_two_secrets_of_one_server_are_of_two_kinds() -> None:
    """For clients without ECDSA; two of one kind would be of no use."""
    two = server("a.example.com", mode="SIMPLE", credentialNames=["one", "two"])
    kinds = {made.target.name: made.key_type for made in read(gateway(two)).declarations}
    assert kinds == {"one": KeyType.ECDSA_P256, "two": KeyType.RSA_2048}


@pytest.mark.parametrize(
    ("names", "wished", "kinds"),
    [
        (("web-rsa", "web"), None, ["rsa-2048", "ecdsa-p256"]),
        (("one", "two"), "rsa-4096", ["rsa-4096", "ecdsa-p256"]),
        (("one", "two-rsa"), "rsa-4096", ["ecdsa-p256", "rsa-4096"]),
        (("one", "two"), "ecdsa-p384", ["ecdsa-p384", "rsa-2048"]),
        (("one", "two"), "rsa-4096,ecdsa-p384", ["rsa-4096", "ecdsa-p384"]),
        (("one", "two-rsa"), "rsa-4096,ecdsa-p384", ["ecdsa-p384", "rsa-4096"]),
    ],
)
def test_what_is_wished_counts_for_its_kind(
    names: tuple[str, str], wished: str | None, kinds: list[str]
) -> None:
    """The Secret with rsa in its name is the one."""
    notes = {**TLS, **({"acmeistio.io/key-type": wished} if wished else {})}
    two = server("a.example.com", mode="SIMPLE", credentialNames=[*names])
    found = {m.target.name: m.key_type for m in read(gateway(two, annotations=notes)).declarations}
    assert [found[name] for name in names] == kinds


@pytest.mark.parametrize(
    ("file", "secret"),
    [
        ("/etc/istio/ingressgateway-certs/tls.crt", "istio-ingressgateway-certs"),
        ("/etc/istio/ingress-certs/tls.crt", "istio-ingress-certs"),
        ("/certs/tls.crt", "istio-ingress-certs"),
    ],
)
def test_a_mounted_certificate(file: str, secret: str) -> None:
    """The Secret that Istio's charts mount there; and it is told that files are slow."""
    files = server("a.example.com", mode="SIMPLE", serverCertificate=file, privateKey="k")
    found = read(gateway(files))
    assert asked(found) == {f"istio-system/{secret}": ["a.example.com"]}
    assert codes(found) == [("Gateway", "CertificateFromFile")]


@pytest.mark.parametrize("mode", ["PASSTHROUGH", "AUTO_PASSTHROUGH"])
def test_what_is_passed_through_needs_nothing(mode: str) -> None:
    """The backend has the certificate; beside it, other servers are served."""
    found = read(gateway(server("p.example.com", mode=mode), server("a.example.com")))
    assert asked(found) == {"istio-system/web": ["a.example.com"]}
    assert codes(found) == [("Gateway", "TLSNotTerminated")]


def test_mutual_tls_is_served_and_warned_of_behind_a_redirect() -> None:
    """The CA has no certificate to show to the gateway."""
    mutual = server("a.example.com", mode="MUTUAL", credentialName="web")
    assert codes(read(gateway(mutual, plain("a.example.com")))) == []
    found = read(gateway(mutual, plain("a.example.com", redirects=True)))
    assert asked(found) == {"istio-system/web": ["a.example.com"]}
    assert codes(found) == [("Gateway", "MutualTLSBehindRedirect")]


def test_without_tls_there_is_nothing_to_ask_for() -> None:
    """Also where HTTP is redirected to nowhere."""
    found = read(gateway(plain("a.example.com", redirects=True)))
    assert asked(found) == {}
    assert codes(found) == [("Gateway", "NoTLSServer")]


def test_domains_are_exactly_these() -> None:
    """Each in the Secret of the server that has its host."""
    notes = {"acmeistio.io/domains": "x.example.com, example.org"}
    found = read(
        gateway(
            server("*.example.com", "ignored.example.net"),
            server("example.org", mode="SIMPLE", credentialName="other"),
            annotations=notes,
        )
    )
    assert asked(found) == {
        "istio-system/web": ["x.example.com"],
        "istio-system/other": ["example.org"],
    }


def test_domains_that_no_server_has_need_one_secret() -> None:
    """Of two it is not guessed which is meant."""
    notes = {"acmeistio.io/domains": "elsewhere.org"}
    one = gateway(server("a.example.com"), annotations=notes)
    assert asked(read(one)) == {"istio-system/web": ["elsewhere.org"]}
    other = server("b.example.com", mode="SIMPLE", credentialName="other")
    two = gateway(server("a.example.com"), other, annotations=notes)
    assert codes(read(two)) == [("Gateway", "AmbiguousSecretName")]


def test_teams_opt_in_behind_a_wildcard() -> None:
    """The platform's Gateway needs no annotation, and nobody needs a wildcard certificate."""
    platform = gateway(server("*.example.com"), annotations={}, namespace="platform")
    found = read(
        platform,
        virtual_service("a.example.com", gateways=("platform/web",)),
        virtual_service("b.example.com", gateways=("platform/web",), annotations={}, name="quiet"),
    )
    assert asked(found) == {"istio-system/web": ["a.example.com"]}
    assert found.declarations[0].source == ObjectRef("VirtualService", "shop", "pages")
    assert found.defects == ()


def test_a_wildcard_that_nobody_lives_on_is_told() -> None:
    """As long as no VirtualService asks."""
    wild = gateway(server("*.example.com"))
    assert codes(read(wild)) == [("Gateway", "OnlyWildcardHosts")]
    quiet = virtual_service("a.example.com", annotations={})
    assert codes(read(wild, quiet)) == [("Gateway", "OnlyWildcardHosts")]
    assert codes(read(wild, virtual_service("a.example.com"))) == []


def test_a_team_stays_within_the_domains_of_its_namespace() -> None:
    """What an administrator wrote on the Namespace binds everything in it."""
    platform = gateway(server("*.example.com"), annotations={}, namespace="platform")
    surroundings = Surroundings(
        INSTALLATION, domains_of={"shop": frozenset({DnsName("a.example.com")})}
    )
    found = read(
        platform,
        virtual_service("a.example.com", "b.example.com", gateways=("platform/web",)),
        surroundings=surroundings,
    )
    assert asked(found) == {"istio-system/web": ["a.example.com"]}
    assert codes(found) == [("VirtualService", "NameNotAllowed")]
    assert "Namespace shop" in found.defects[0].remedy


@pytest.mark.parametrize(
    ("served", "wanted", "names"),
    [
        ("a.example.com", "*", ["a.example.com"]),
        ("*.example.com", "deep.a.example.com", ["deep.a.example.com"]),
        ("*", "a.example.com", ["a.example.com"]),
        ("shop/*.example.com", "a.example.com", ["a.example.com"]),
        ("./*.example.com", "a.example.com", ["a.example.com"]),
    ],
)
def test_of_two_hosts_the_narrower(served: str, wanted: str, names: list[str]) -> None:
    """As Istio makes virtual hosts of them."""
    found = read(gateway(server(served), annotations={}), virtual_service(wanted))
    assert asked(found) == {"istio-system/web": names}


@pytest.mark.parametrize("served", ["other/a.example.com", "b.example.com"])
def test_hosts_that_are_not_served_with_tls_are_told(served: str) -> None:
    """Another namespace's, or another host."""
    found = read(gateway(server(served), annotations={}), virtual_service("a.example.com"))
    assert codes(found) == [("VirtualService", "NotServedWithTLS")]


def test_only_a_wildcard_of_its_own() -> None:
    """It is asked for as it is; merging says that a CA validates it by DNS only."""
    found = read(gateway(server("*.example.com"), annotations={}), virtual_service("*.example.com"))
    assert asked(found) == {"istio-system/web": ["*.example.com"]}


def test_one_of_the_mesh_is_told() -> None:
    """Without gateways, or with the word for all sidecars."""
    for gateways in ((), ("mesh",)):
        found = read(virtual_service("a.example.com", gateways=gateways))
        assert codes(found) == [("VirtualService", "NoGateway")]


def test_domains_behind_two_gateways_are_each_where_it_is_served() -> None:
    """What one of them does not have is not homeless while the other has it."""
    notes = {"acmeistio.io/domains": "www.a.com, www.b.com"}
    found = read(
        gateway(server("*.a.com", mode="SIMPLE", credentialName="sa"), annotations={}, name="ga"),
        gateway(server("*.b.com", mode="SIMPLE", credentialName="sb"), annotations={}, name="gb"),
        virtual_service("www.a.com", "www.b.com", gateways=("ga", "gb"), annotations=notes),
    )
    assert asked(found) == {"istio-system/sa": ["www.a.com"], "istio-system/sb": ["www.b.com"]}


@pytest.mark.parametrize(
    "name", ["web", "kubernetes://web", "istio-system/web", "kubernetes://istio-system/web"]
)
def test_a_secret_by_any_name_that_istio_takes(name: str) -> None:
    """With the scheme, and with the namespace of the pods."""
    found = read(gateway(server("a.example.com", mode="SIMPLE", credentialName=name)))
    assert asked(found) == {"istio-system/web": ["a.example.com"]}


def test_a_gateway_that_is_not_there_is_told() -> None:
    """The name may be wrong, or the namespace left out."""
    found = read(virtual_service("a.example.com", gateways=("mesh", "platform/web")))
    assert codes(found) == [("VirtualService", "GatewayMissing")]
    assert "platform/web" in found.defects[0].sentence


def test_the_owner_of_the_gateway_may_decline() -> None:
    """`tls: "false"` on it beats everything."""
    closed = gateway(server("*.example.com"), annotations={"acmeistio.io/tls": "false"})
    found = read(closed, virtual_service("a.example.com"))
    assert asked(found) == {}
    assert codes(found) == [("VirtualService", "GatewayDeclines")]


def test_what_the_gateway_says_counts_where_the_team_says_nothing() -> None:
    """Issuer, key type, profile and Secret."""
    notes = {**TLS, "acmeistio.io/issuer": "other", "acmeistio.io/key-type": "rsa-3072"}
    platform = gateway(server("*.example.com"), annotations=notes)
    own = {**TLS, "acmeistio.io/key-type": "ecdsa-p384"}
    (made,) = read(platform, virtual_service("a.example.com", annotations=own)).declarations
    assert (made.issuer, made.key_type) == ("other", KeyType.ECDSA_P384)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (None, ["ecdsa-p384", "rsa-4096"]),
        ("ecdsa-p256", ["ecdsa-p256", "rsa-2048"]),
        ("rsa-3072,ecdsa-p256", ["rsa-3072", "ecdsa-p256"]),
    ],
)
def test_key_types_of_the_team_are_all_that_count(own: str | None, expected: list[str]) -> None:
    """What the Gateway says is not mixed with them."""
    two = server("*.example.com", mode="SIMPLE", credentialNames=["one", "two"])
    platform = gateway(two, annotations={**TLS, "acmeistio.io/key-type": "ecdsa-p384,rsa-4096"})
    notes = {**TLS, **({"acmeistio.io/key-type": own} if own else {})}
    found = read(platform, virtual_service("a.example.com", annotations=notes)).declarations
    kinds = {made.target.name: made.key_type for made in found}
    assert [kinds["one"], kinds["two"]] == expected


def test_secrets_are_granted_by_the_installation() -> None:
    """Whoever writes a Gateway can't have any Secret of the gateway's namespace written."""
    installation = replace(INSTALLATION, secrets_granted=frozenset({"istio-ingress-certs"}))
    found = read(gateway(server("a.example.com")), surroundings=Surroundings(installation))
    assert asked(found) == {}
    assert codes(found) == [("Gateway", "SecretNotGranted")]


def test_a_secret_of_another_namespace_is_not_read() -> None:
    """The gateway takes the name alone; the answer says which."""
    elsewhere = server("a.example.com", mode="SIMPLE", credentialName="shop/web-tls")
    found = read(gateway(elsewhere))
    assert codes(found) == [("Gateway", "SecretNamespaceNotRead")]
    assert "web-tls" in found.defects[0].remedy


def test_a_secret_that_no_server_names_is_not_served() -> None:
    """The annotation says where the certificate goes, and not what the gateway reads."""
    notes = {**TLS, "acmeistio.io/secret-name": "elsewhere"}
    found = read(gateway(server("a.example.com"), annotations=notes))
    assert asked(found) == {"istio-system/elsewhere": ["a.example.com"]}
    assert codes(found) == [("Gateway", "SecretNotServed")]
    assert (
        codes(
            read(
                gateway(
                    server("a.example.com"), annotations=notes | {"acmeistio.io/secret-name": "web"}
                )
            )
        )
        == []
    )


def test_several_gateways_share_a_secret() -> None:
    """All their names are in it; merging does the rest."""
    found = read(
        gateway(server("a.example.com"), name="one"), gateway(server("b.example.com"), name="two")
    )
    assert asked(found) == {"istio-system/web": ["a.example.com", "b.example.com"]}
    assert Target("istio-system", "web") in {made.target for made in found.declarations}


@given(PLAIN_DATA, PLAIN_DATA)
def test_nothing_makes_it_raise(spec: Any, other: Any) -> None:
    """Whatever a folder or a mistaken CRD lets through."""
    bad_gateway = {**gateway(), "spec": spec}
    bad_service = {**virtual_service("a.example.com"), "spec": other}
    read(bad_gateway, virtual_service("a.example.com"), bad_service)
