"""sources/gateway_api.py: what Gateways and ListenerSets of the Gateway API ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmeistio.model import (
    K8S_GATEWAY,
    Declaration,
    GatewayAddress,
    GatewayWorkload,
    KeyType,
    ObjectRef,
    Routing,
    Target,
)
from acmeistio.names import DnsName
from acmeistio.reasons import Severity
from acmeistio.sources import Found, Manifest, Surroundings, gateway_api
from acmeistio.sources.listeners import admits, covers, labels_of
from tests.core.builders import INSTALLATION, names

WEB = ObjectRef(K8S_GATEWAY, "shop", "web")
TEAM = ObjectRef("ListenerSet", "team", "extra")
TLS = {"acmeistio.io/tls": "true"}
NOTHING: dict[str, str] = {}
HTTP = {"name": "http", "port": 80, "protocol": "HTTP"}
ADDRESS = GatewayAddress("web-istio.shop.svc.cluster.local")
OPEN = {"namespaces": {"from": "All"}}


def https(hostname: str | None = None, *secrets: object, **changes: Any) -> dict[str, Any]:
    """A listener on 443; `secrets` are names or whole references, `tls` adds to its TLS."""
    refs = [{"name": each} if isinstance(each, str) else each for each in secrets]
    tls = {"certificateRefs": refs, **changes.pop("tls", {})}
    listener = {"name": "https", "port": 443, "protocol": "HTTPS", "tls": tls, **changes}
    return listener if hostname is None else {"hostname": hostname, **listener}


def made(kind: str, namespace: str, name: str, annotations: object, **spec: Any) -> Manifest:
    """An object of the Gateway API."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": kind,
        "metadata": {"namespace": namespace, "name": name, "annotations": annotations},
        "spec": spec,
    }


def gateway(*listeners: object, annotations: object = TLS, **spec: Any) -> Manifest:
    """The Gateway `shop/web`, with an HTTP listener on port 80 beside `listeners`."""
    spec = {"gatewayClassName": "istio", "listeners": [HTTP, *listeners], **spec}
    return made("Gateway", WEB.namespace, WEB.name, annotations, **spec)


def listener_set(*listeners: object, annotations: object = TLS, **parent: Any) -> Manifest:
    """The ListenerSet `team/extra` of that Gateway."""
    above = {"name": WEB.name, "namespace": WEB.namespace, **parent}
    spec = {"parentRef": above, "listeners": [*listeners]}
    return made(TEAM.kind, TEAM.namespace, TEAM.name, annotations, **spec)


def route(*hosts: object, at: str = "shop/r", **parent: Any) -> Manifest:
    """The HTTPRoute `at` (namespace/name), with that Gateway as parent unless said otherwise."""
    namespace, _, name = at.partition("/")
    above = {"name": WEB.name, "namespace": WEB.namespace, **parent}
    return made("HTTPRoute", namespace, name, {}, parentRefs=[above], hostnames=[*hosts])


def grant(namespace: str, kind: str = "Gateway", whose: str = "shop", **to: Any) -> Manifest:
    """A ReferenceGrant to Secrets of its namespace."""
    granted_to = [{"group": "gateway.networking.k8s.io", "kind": kind, "namespace": whose}]
    spec = {"from": granted_to, "to": [{"group": "", "kind": "Secret", **to}]}
    return made("ReferenceGrant", namespace, "grant", {}, **spec)


SURROUNDINGS = Surroundings(
    INSTALLATION,
    domains_of={
        "shop": frozenset(names("example.com")),
        "team": frozenset(names("team.example.com")),
        "certs": frozenset(names("example.com")),
    },
)


def subject_of(ref: ObjectRef, *objects: Manifest) -> tuple[Manifest, tuple[Manifest, ...]]:
    """The subject `ref` among the objects, with the others that it depends on."""
    by_kind: dict[str, tuple[Manifest, ...]] = {}
    for each in objects:
        kind = K8S_GATEWAY if each["kind"] == "Gateway" else each["kind"]
        by_kind[kind] = (*by_kind.get(kind, ()), each)
    for manifest, related in gateway_api.subjects(by_kind):
        if manifest["kind"] == ref.kind.partition(".")[0]:
            return manifest, related
    raise AssertionError(f"{ref} is no subject")


def read(*objects: Manifest, ref: ObjectRef = WEB, within: Surroundings = SURROUNDINGS) -> Found:
    """What `ref` declares among the objects, with every Defect's words made once."""
    manifest, related = subject_of(ref, *objects)
    found = gateway_api.declarations(manifest, related, within)
    for defect in found.defects:
        assert defect.sentence
        assert defect.remedy
        assert not set("{}") & set(defect.sentence + defect.remedy)
    assert {declared.source for declared in found.declarations} <= {ref}
    return found


def codes(found: Found) -> list[str]:
    """The codes of the Defects."""
    return [defect.code for defect in found.defects]


def asked(found: Found) -> dict[str, tuple[DnsName, ...]]:
    """Secret → names."""
    assert len({declared.target for declared in found.declarations}) == len(found.declarations)
    return {str(declared.target): declared.names for declared in found.declarations}


def together(found: Found) -> dict[str, set[str]]:
    """Secret → names, of however many Declarations."""
    gathered: dict[str, set[str]] = {}
    for declared in found.declarations:
        gathered.setdefault(str(declared.target), set()).update(declared.names)
    return gathered


def only(found: Found) -> Declaration:
    """The one Declaration, with nothing to complain of."""
    assert codes(found) == []
    (declaration,) = found.declarations
    return declaration


# Which objects belong together


def test_a_gateway_depends_on_what_names_it() -> None:
    """Its ListenerSets, its HTTPRoutes and the grants for Gateways of its namespace; no others."""
    mine = (
        listener_set(kind="Gateway", group="gateway.networking.k8s.io"),
        route("a.example.com", namespace=None),
        route("b.example.com", at="team/r"),
        grant("certs"),
    )
    others = (
        listener_set(name="other"),
        listener_set(namespace=None),
        route("a.example.com", name="other"),
        route("a.example.com", kind="Service"),
        route("a.example.com", group="networking.istio.io"),
        route("a.example.com", at="team/r", namespace=None),
        grant("certs", whose="elsewhere"),
        grant("certs", kind="HTTPRoute"),
    )
    _, related = subject_of(WEB, gateway(), *others, *mine)
    assert [id(each) for each in related] == [id(each) for each in mine]


def test_a_listener_set_with_a_word_is_a_subject() -> None:
    """It depends on its Gateway, its own routes and the grants for ListenerSets."""
    above, granted = gateway(), grant("certs", "ListenerSet", "team")
    attached = route("a.example.com", kind="ListenerSet", name="extra", namespace="team")
    _, related = subject_of(TEAM, above, listener_set(), route("b.example.com"), attached, granted)
    assert related == (above, attached, granted)
    by_kind = {K8S_GATEWAY: (above,), TEAM.kind: (listener_set(),), "GatewayClass": ISTIOS}
    assert [related for _, related in gateway_api.subjects(by_kind)] == [
        (*by_kind[TEAM.kind], *ISTIOS),
        (above, *ISTIOS),
    ]
    silent = {"ListenerSet": (listener_set(annotations={}),)}
    assert list(gateway_api.subjects(silent)) == []


def test_subjects_take_linear_time() -> None:
    """A thousand Gateways with a thousand routes are put together without comparing all pairs."""

    class Counted(dict[str, Any]):
        """An object that counts how often it is looked into."""

        looks = 0

        def get(self, key: str, default: Any = None) -> Any:
            """The value, counted."""
            Counted.looks += 1
            return super().get(key, default)

    def many(kind: str, count: int) -> tuple[Manifest, ...]:
        return tuple(
            Counted(made(kind, "n", f"o{i}", TLS, parentRefs=[{"name": f"o{i}"}]))
            for i in range(count)
        )

    def looks(count: int) -> int:
        Counted.looks = 0
        found = gateway_api.subjects(
            {K8S_GATEWAY: many("Gateway", count), "HTTPRoute": many("HTTPRoute", count)}
        )
        assert all(len(related) == (each["kind"] == "Gateway") for each, related in found)
        return Counted.looks

    assert looks(400) == 4 * looks(100)


# Names of a listener


@pytest.mark.parametrize("notes", [{}, {"acmeistio.io/tls": "false"}, {"other": "true"}])
def test_no_wish_no_complaint(notes: dict[str, str]) -> None:
    """A Gateway that asks for nothing is not our business, whatever it is like."""
    assert read(gateway(https(), annotations=notes, gatewayClassName="istio-waypoint")) == Found()


def test_a_hostname_is_a_name() -> None:
    """An exact hostname needs no route; the Secret is in the Gateway's namespace."""
    found = only(read(gateway(https("A.example.com", "web-cert"))))
    assert found.target == Target("shop", "web-cert")
    assert found.names == names("a.example.com")
    assert (found.issuer, found.key_type, found.profile) == (None, None, None)
    assert found.reached_at == (ADDRESS,)


def test_parameters_are_declared() -> None:
    """Issuer, key type, profile and age reach the Declaration."""
    notes = TLS | {"acmeistio.io/issuer": "other", "acmeistio.io/key-type": "rsa-4096"}
    manifest = gateway(
        https("a.example.com", "s"), annotations=notes | {"acmeistio.io/profile": "short"}
    )
    manifest["metadata"]["creationTimestamp"] = "2026-01-02T03:04:05Z"
    found = only(read(manifest))
    assert (found.issuer, found.key_type, found.profile) == ("other", KeyType.RSA_4096, "short")
    assert found.created_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("hostname", "expected"),
    [
        (None, ["a.example.com", "x.y.example.com", "example.com", "b.example.com"]),
        ("*.example.com", ["a.example.com", "x.y.example.com", "b.example.com"]),
        ("*.Y.example.com.", ["x.y.example.com"]),
        ("*.com", ["a.example.com", "x.y.example.com", "example.com", "b.example.com"]),
    ],
)
def test_routes_bring_names(hostname: str | None, expected: list[str]) -> None:
    """Exact hostnames of routes, below the listener's wildcard at any depth; no wildcards."""
    found = read(
        gateway(https(hostname, "s")),
        route("a.example.com", "*.example.com", "x.y.example.com", "example.com"),
        route("b.example.com", "A.example.com", at="shop/other"),
        route(at="shop/without"),
    )
    assert only(found).names == names(*expected)


@pytest.mark.parametrize(
    ("parent", "attached"),
    [
        ({}, True),
        ({"sectionName": "https"}, True),
        ({"sectionName": "http"}, False),
        ({"port": 443}, True),
        ({"port": 80}, False),
        ({"sectionName": "https", "port": 443}, True),
        ({"sectionName": "https", "port": 8443}, False),
        ({"group": "gateway.networking.k8s.io", "kind": "Gateway"}, True),
        ({"kind": "ListenerSet"}, False),
        ({"group": ""}, False),
        ({"namespace": None}, True),
    ],
)
def test_which_listener_a_route_attaches_to(parent: dict[str, Any], attached: bool) -> None:
    """By sectionName and port, else to all of them (Gateway API, ParentReference)."""
    found = read(gateway(https(None, "s")), route("a.example.com", **parent))
    assert bool(found.declarations) is attached
    assert codes(found) == ([] if attached else ["NoNames"])


@pytest.mark.parametrize(
    ("allowed", "taken"),
    [
        ({}, ["shop"]),
        ({"namespaces": {"from": "Same"}}, ["shop"]),
        ({"namespaces": {"from": "All"}}, ["shop", "free"]),
        ({"namespaces": {"from": "Selector", "selector": {}}}, ["shop", "free"]),
        ({"namespaces": {"from": "None"}}, []),
        ({"kinds": [{"kind": "HTTPRoute"}]}, ["shop"]),
        ({"kinds": [{"kind": "GRPCRoute"}]}, []),
        ({"kinds": [{"kind": "HTTPRoute", "group": "other.example"}]}, []),
    ],
)
def test_allowed_routes(allowed: dict[str, Any], taken: list[str]) -> None:
    """A listener chooses whose routes it takes, by default those of its namespace only."""
    routes = [route(f"{each}.example.com", at=f"{each}/r") for each in ("shop", "free")]
    found = read(gateway(https(None, "s", allowedRoutes=allowed)), *routes)
    names_taken = names(*(f"{each}.example.com" for each in taken))
    assert asked(found) == ({"shop/s": names_taken} if taken else {})


def expression(key: object, operator: object, *values: object) -> dict[str, Any]:
    """A selector with one expression."""
    return {"matchExpressions": [{"key": key, "operator": operator, "values": [*values]}]}


NAMED = "kubernetes.io/metadata.name"
SELECTORS: list[tuple[object, bool]] = [
    ({}, True),
    (None, False),
    ({"matchLabels": {"tier": "web"}}, True),
    ({"matchLabels": {"tier": "web", "owner": ""}}, True),
    ({"matchLabels": {"tier": "web", "stage": "prod"}}, False),
    ({"matchLabels": {"tier": "db"}}, False),
    ({"matchLabels": {"absent": ""}}, False),
    ({"matchLabels": {"tier": None}}, False),
    ({"matchLabels": {NAMED: "team"}}, True),
    ({"matchLabels": {NAMED: "other"}}, False),
    (expression("tier", "In", "db", "web"), True),
    (expression("tier", "In", "db"), False),
    (expression("tier", "In"), False),
    (expression("absent", "In", "", "web"), False),
    (expression(NAMED, "In", "a", "team"), True),
    (expression(NAMED, "In", "a"), False),
    (expression("tier", "NotIn", "db"), True),
    (expression("tier", "NotIn", "db", "web"), False),
    (expression("absent", "NotIn", "web"), True),
    (expression("absent", "NotIn"), False),
    (expression(NAMED, "NotIn", "team"), False),
    (expression("owner", "Exists"), True),
    (expression("absent", "Exists"), False),
    (expression("owner", "Exists", "x"), False),
    (expression("owner", "DoesNotExist"), False),
    (expression("absent", "DoesNotExist"), True),
    (expression("absent", "DoesNotExist", "x"), False),
    (expression("tier", "in", "web"), False),
    (expression("tier", "Gt", "1"), False),
    (expression(None, "DoesNotExist"), False),
    (expression([], "In", "web"), False),
    ({"matchExpressions": ["tier"]}, False),
    ({"matchLabels": {"tier": "web"}} | expression("owner", "Exists"), True),
    ({"matchLabels": {"tier": "web"}} | expression("absent", "Exists"), False),
]


@pytest.mark.parametrize(("selector", "admitted"), SELECTORS)
def test_selectors(selector: object, admitted: bool) -> None:
    """Labels of namespaces are compared as Kubernetes does; what it would refuse admits nobody."""
    namespaces = {"from": "Selector", "selector": selector}
    labels_of = {"team": {NAMED: "team", "tier": "web", "owner": ""}, "other": {"absent": "web"}}
    assert admits(namespaces, "shop", "team", "Same", labels_of) is admitted


@pytest.mark.parametrize(
    ("selector", "admitted"),
    [
        ({}, True),
        ({"matchLabels": {NAMED: "team"}}, True),
        ({"matchLabels": {"tier": "web"}}, False),
        (expression(NAMED, "In", "a", "team"), True),
        (expression("tier", "DoesNotExist"), True),
        (expression("tier", "NotIn", "web"), True),
    ],
)
def test_selectors_where_namespaces_are_not_known(selector: object, admitted: bool) -> None:
    """In a folder a namespace need not be an object: it has its name all the same."""
    namespaces = {"from": "Selector", "selector": selector}
    assert admits(namespaces, "shop", "team", "Same", {}) is admitted


def test_labels_of_namespaces() -> None:
    """Only those that are worth knowing: the name is a label of each, whatever it says itself."""

    def namespace(name: object, labels: object = None) -> Manifest:
        metadata = {"name": name, "labels": labels}
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}

    found = labels_of(
        [
            namespace("team", {"tier": "web", "bad": 1}),
            namespace("liar", {NAMED: "team", "tier": "web"}),
            namespace("plain", {NAMED: "plain"}),
            namespace("bare"),
            namespace("odd", ["tier"]),
            namespace(None, {"tier": "web"}),
            {"apiVersion": "v1", "kind": "Namespace"},
        ]
    )
    assert found == {
        "team": {"tier": "web", NAMED: "team"},
        "liar": {"tier": "web", NAMED: "liar"},
    }


def test_routes_of_namespaces_that_a_selector_admits() -> None:
    """A route of a namespace that is not let in brings no name: Istio would not serve it there."""
    selector = {"matchLabels": {"gateway": "web"}}
    allowed = {"namespaces": {"from": "Selector", "selector": selector}}
    routes = [
        route(f"{each}.example.com", at=f"{each}/r") for each in ("friend", "foe", "none", "shop")
    ]
    labelled = {"friend": {"gateway": "web"}, "foe": {"gateway": "other"}}
    within = replace(SURROUNDINGS, labels_of=labelled)
    found = read(gateway(https(None, "s", allowedRoutes=allowed)), *routes, within=within)
    assert only(found).names == names("friend.example.com")
    nobody = read(gateway(https(None, "s", allowedRoutes=allowed)), *routes)
    assert nobody.declarations == ()
    assert codes(nobody) == ["NoNames"]


@pytest.mark.parametrize("stage", ["prod", "test"])
def test_listener_sets_of_namespaces_that_a_selector_admits(stage: str) -> None:
    """The same counts for ListenerSets, and for the port 80 that they open."""
    selector = {"matchLabels": {"stage": "prod"}}
    allowed = {"allowedListeners": {"namespaces": {"from": "Selector", "selector": selector}}}
    within = replace(SURROUNDINGS, labels_of={"team": {"stage": stage}})
    above = gateway(annotations={}, **allowed)
    asking = listener_set(https("a.team.example.com", "own"))
    found = read(above, asking, ref=TEAM, within=within)
    assert codes(found) == ([] if stage == "prod" else ["ListenerSetNotAdmitted"])
    deaf = gateway(listeners=[https("a.example.com", "s")], **allowed)
    beside = read(deaf, listener_set(HTTP, annotations={}), within=within)
    assert codes(beside) == ([] if stage == "prod" else ["NoPort80"])


@pytest.mark.parametrize(
    ("hostname", "name", "covered"),
    [
        ("", "a.example.com", True),
        ("a.example.com", "a.example.com", True),
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "*.example.com", True),
        ("*.example.com", "*.b.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", ".example.com", False),
        ("*.example.com", "aexample.com", False),
        ("example.com", "a.example.com", False),
        ("*.b.example.com", "*.example.com", False),
    ],
)
def test_covering(hostname: str, name: str, covered: bool) -> None:
    """`*` of a listener stands for any number of labels (Gateway API, Hostname)."""
    assert covers(hostname, name) is covered


def test_a_route_is_bound_by_its_own_namespace() -> None:
    """A neighbour's domains can't be had through a Gateway that lets everybody in."""
    found = read(
        gateway(https(None, "s", allowedRoutes=OPEN)),
        route("a.team.example.com", "pay.example.com", at="team/theirs"),
        route("free.example.com", at="unbound/r"),
    )
    assert asked(found) == {"shop/s": names("a.team.example.com", "free.example.com")}
    (refused,) = found.defects
    assert refused.code == "NameNotAllowed"
    assert refused.subject == ObjectRef("HTTPRoute", "team", "theirs")
    assert "pay.example.com" in refused.sentence
    assert "Namespace team" in refused.remedy


def test_the_gateways_namespace_is_bound_too() -> None:
    """Its key must not serve names beyond its own domains, whoever brings them."""
    found = read(gateway(https(None, "s", allowedRoutes=OPEN)), route("a.org", at="unbound/r"))
    assert found.declarations == ()
    assert [(d.code, d.subject) for d in found.defects] == [("NameNotAllowed", WEB)]


def test_a_namespace_that_nobody_allowed() -> None:
    """A key leaves the gateways' namespaces only where an administrator said so."""
    found = read(gateway(https("a.example.com", "s")), within=Surroundings(INSTALLATION))
    assert found.declarations == ()
    assert codes(found) == ["NamespaceNotAllowed"]


def test_each_listener_is_a_target_of_its_own() -> None:
    """Two HTTPS listeners are two Secrets; HTTP and TCP ones are nothing to us."""
    found = read(
        gateway(
            https("a.example.com", "one"),
            https("b.example.com", "two", name="b", port=8443),
            {"name": "tcp", "port": 9000, "protocol": "TCP", "hostname": "c.example.com"},
        )
    )
    assert asked(found) == {
        "shop/one": names("a.example.com"),
        "shop/two": names("b.example.com"),
    }
    assert [declared.reached_at for declared in found.declarations] == [
        (ADDRESS,),
        (replace(ADDRESS, https_port=8443),),
    ]


def test_a_tls_listener_is_terminated_without_routes() -> None:
    """Protocol TLS takes no HTTPRoutes; its own hostname is its name."""
    listener = https("a.example.com", "s", protocol="TLS", tls={"mode": "Terminate"})
    assert only(read(gateway(listener))).names == names("a.example.com")
    nameless = https(None, "s", protocol="TLS", tls={"mode": "Terminate"})
    assert codes(read(gateway(nameless), route("a.example.com"))) == ["NoNames"]


def test_one_silent_listener_beside_one_that_speaks() -> None:
    """Without a name it waits for its routes; only where all are silent is it an error."""
    found = read(gateway(https("a.example.com", "s"), https(None, "t", name="later")))
    assert only(found).target.name == "s"
    assert codes(read(gateway(https(None, "t"), https("*.example.com", "t")))) == ["NoNames"]
    assert codes(read(gateway())) == ["NoNames"]


def test_passthrough() -> None:
    """The backends have the certificates: nothing is asked, and it is told once."""
    through = https("b.example.com", name="raw", protocol="TLS", tls={"mode": "Passthrough"})
    found = read(gateway(through, https("a.example.com", "s")))
    assert asked(found) == {"shop/s": names("a.example.com")}
    assert codes(found) == ["TLSNotTerminated"]
    assert "raw" in found.defects[0].sentence
    assert "b.example.com" in found.defects[0].sentence


@pytest.mark.parametrize("mode", ["ISTIO_SIMPLE", "ISTIO_MUTUAL"])
def test_the_mesh_certificate(mode: str) -> None:
    """A listener with the mesh's own certificate has no use for another."""
    options = {"options": {"gateway.istio.io/tls-terminate-mode": mode}}
    assert codes(read(gateway(https("a.example.com", "s", tls=options)))) == ["NoNames"]


def test_bad_names_stop_no_other() -> None:
    """What is wrong with a hostname is said of the object that has it; the others go on."""
    found = read(
        gateway(https("local", "s"), https(None, "t")), route("10.1.2.3", "a.example.com", "-.x.y")
    )
    assert asked(found) == {"shop/t": names("a.example.com")}
    assert [(d.code, d.subject.kind) for d in found.defects] == [
        ("InvalidName", K8S_GATEWAY),
        ("IPAddressUnsupported", "HTTPRoute"),
        ("InvalidName", "HTTPRoute"),
    ]


# Secrets of a listener


@pytest.mark.parametrize(
    ("refs", "key_type", "expected"),
    [
        (["a"], None, {"a": None}),
        (["a"], "rsa-3072", {"a": "rsa-3072"}),
        (["a", "a"], None, {"a": None}),
        (["a", "b"], None, {"a": "ecdsa-p256", "b": "rsa-2048"}),
        (["a", "b"], "ecdsa-p384", {"a": "ecdsa-p384", "b": "rsa-2048"}),
        (["a", "b"], "rsa-4096", {"a": "rsa-4096", "b": "ecdsa-p256"}),
        (["a", "b"], "ecdsa-p384,rsa-4096", {"a": "ecdsa-p384", "b": "rsa-4096"}),
        (["a-rsa", "b"], "ecdsa-p384,rsa-4096", {"a-rsa": "rsa-4096", "b": "ecdsa-p384"}),
        (["a"], "ecdsa-p384,rsa-4096", {"a": "ecdsa-p384"}),
        (["a-rsa", "b"], None, {"a-rsa": "rsa-2048", "b": "ecdsa-p256"}),
        (["a-rsa", "b"], "ecdsa-p384", {"a-rsa": "rsa-2048", "b": "ecdsa-p384"}),
        (["a", "rsa"], "rsa-3072", {"a": "ecdsa-p256", "rsa": "rsa-3072"}),
        (["rsa-a", "rsa-b"], None, {"rsa-a": "ecdsa-p256", "rsa-b": "rsa-2048"}),
    ],
)
def test_a_pair_of_secrets(
    refs: list[str], key_type: str | None, expected: dict[str, str | None]
) -> None:
    """Two certificateRefs are one Secret for ECDSA and one for RSA, with the same names."""
    notes = TLS | ({"acmeistio.io/key-type": key_type} if key_type else {})
    found = read(gateway(https("a.example.com", *refs), annotations=notes))
    assert codes(found) == []
    assert {d.target.name: d.key_type for d in found.declarations} == expected
    assert {d.names for d in found.declarations} == {names("a.example.com")}


def test_a_third_secret() -> None:
    """Istio serves no listener with three; the first two are filled all the same."""
    found = read(gateway(https("a.example.com", "one", "two", "three")))
    assert set(asked(found)) == {"shop/one", "shop/two"}
    assert codes(found) == ["TooManyCertificateRefs"]
    assert "Secret three" in found.defects[0].sentence


@pytest.mark.parametrize(
    "reference",
    [
        {"name": "s", "kind": "ConfigMap"},
        {"name": "s", "group": "example.com"},
        {"name": "s", "group": "example.com", "kind": "Vault"},
    ],
)
def test_a_reference_to_no_secret(reference: dict[str, str]) -> None:
    """It can't hold a certificate of ours; a Secret beside it can."""
    found = read(gateway(https("a.example.com", reference)))
    assert found.declarations == ()
    assert codes(found) == ["CertificateRefUnsupported"]
    beside = read(gateway(https("a.example.com", reference, "good")))
    assert set(asked(beside)) == {"shop/good"}


def test_a_secret_said_in_full() -> None:
    """Group and kind may be written out."""
    reference = {"name": "s", "group": "", "kind": "Secret", "namespace": "shop"}
    assert only(read(gateway(https("a.example.com", reference)))).target == Target("shop", "s")


@pytest.mark.parametrize(
    ("granted", "allowed"),
    [
        (grant("certs"), True),
        (grant("certs", name="wild"), True),
        (grant("certs", name=""), True),
        (grant("certs", name="other"), False),
        (grant("certs", kind="ListenerSet"), False),
        (grant("certs", whose="team"), False),
        (grant("shop"), False),
        (grant("certs", kind="Gateway") | {"spec": {}}, False),
        (grant("certs", group="example.com"), False),
        (grant("certs") | {"kind": "Other"}, False),
    ],
)
def test_a_secret_of_another_namespace(granted: Manifest, allowed: bool) -> None:
    """It needs a ReferenceGrant there, for this kind and namespace, to this Secret or to all."""
    reference = {"name": "wild", "namespace": "certs"}
    found = read(gateway(https("a.example.com", reference)), granted)
    assert bool(found.declarations) is allowed
    if allowed:
        assert only(found).target == Target("certs", "wild")
    else:
        assert codes(found) == ["ReferenceNotGranted"]
        assert "ReferenceGrant in namespace certs" in found.defects[0].remedy
        assert "kind Gateway, namespace shop" in found.defects[0].remedy


def test_a_granted_secret_is_bound_by_its_namespace() -> None:
    """A grant lets a Gateway read; whether a key may lie there is the administrator's word."""
    reference = {"name": "s", "namespace": "unbound"}
    found = read(gateway(https("a.example.com", reference)), grant("unbound"))
    assert found.declarations == ()
    assert codes(found) == ["NamespaceNotAllowed"]


@pytest.mark.parametrize("name", [None, "mine"])
def test_a_listener_that_names_no_secret(name: str | None) -> None:
    """The certificate goes to `secret-name` or the default, and the listener must be told."""
    notes = TLS | ({"acmeistio.io/secret-name": name} if name else {})
    found = read(gateway(https("a.example.com"), annotations=notes))
    expected = name or "istio-ingress-certs"
    assert asked(found) == {f"shop/{expected}": names("a.example.com")}
    assert codes(found) == ["ListenerWithoutCertificate"]
    assert expected in found.defects[0].remedy


def test_secret_name_wins() -> None:
    """`secret-name` is the target of every listener; one that names another is warned of."""
    notes = TLS | {"acmeistio.io/secret-name": "mine"}
    found = read(
        gateway(
            https("a.example.com", "mine"),
            https("b.example.com", "other", name="b"),
            annotations=notes,
        )
    )
    assert [(str(d.target), d.names) for d in found.declarations] == [
        ("shop/mine", names("a.example.com")),
        ("shop/mine", names("b.example.com")),
    ]
    assert codes(found) == ["ListenerWithoutCertificate"]
    assert "listener b " in found.defects[0].sentence


# acmeistio.io/domains


def listed(*domains: str, **more: str) -> dict[str, str]:
    """Annotations that list names."""
    return {"acmeistio.io/domains": " ".join(domains)} | {
        f"acmeistio.io/{key}": value for key, value in more.items()
    }


def test_domains_go_where_a_listener_takes_them() -> None:
    """The most specific hostname has a name: exact, the longer wildcard, any."""
    wanted = ["a.example.com", "b.example.com", "x.y.example.com", "example.com"]
    found = read(
        gateway(
            https(None, "any"),
            https("*.example.com", "wide", name="w"),
            https("*.y.example.com", "deep", name="y"),
            https("a.example.com", "exact", name="a"),
            https("a.example.com", "again", name="b", port=8443),
            annotations=listed(*wanted),
        ),
        route("r.example.com"),
    )
    assert codes(found) == []
    assert asked(found) == {
        "shop/exact": names("a.example.com"),
        "shop/again": names("a.example.com"),
        "shop/wide": names("b.example.com"),
        "shop/deep": names("x.y.example.com"),
        "shop/any": names("example.com"),
    }


def test_domains_that_no_listener_takes() -> None:
    """They go to the only Secrets there are; with several it is not guessed."""
    notes = listed("a.example.com", "b.example.com")
    one = https("a.example.com", "s")
    found = read(gateway(one, annotations=notes))
    assert codes(found) == []
    assert together(found) == {"shop/s": {"a.example.com", "b.example.com"}}
    pair = read(gateway(https("a.example.com", "s", "s-rsa"), annotations=notes))
    assert together(pair) == together(found) | {"shop/s-rsa": {"a.example.com", "b.example.com"}}
    assert {d.key_type for d in pair.declarations} == {KeyType.ECDSA_P256, KeyType.RSA_2048}
    several = read(gateway(one, https("c.example.com", "t", name="c"), annotations=notes))
    assert asked(several) == {"shop/s": names("a.example.com")}
    assert codes(several) == ["AmbiguousSecretName"]
    assert "shop/s, shop/t" in several.defects[0].sentence
    named = listed("b.example.com", **{"secret-name": "t"})
    told = read(gateway(one, https("c.example.com", "t", name="c"), annotations=named))
    assert asked(told) == {"shop/t": names("b.example.com")}


def test_domains_without_a_listener() -> None:
    """They suffice alone; the listener that serves them may follow."""
    found = read(gateway(annotations=listed("a.example.com")))
    assert asked(found) == {"shop/istio-ingress-certs": names("a.example.com")}
    assert codes(found) == ["NoTLSListener"]
    named = read(gateway(annotations=listed("a.example.com", **{"secret-name": "s"})))
    assert asked(named) == {"shop/s": names("a.example.com")}


def test_domains_whose_reference_is_refused() -> None:
    """What is wrong with the reference is said, and nothing is put elsewhere."""
    listener = https("a.example.com", {"name": "s", "namespace": "certs"})
    found = read(gateway(listener, annotations=listed("b.example.com")))
    assert found.declarations == ()
    assert codes(found) == ["ReferenceNotGranted"]


# Where the pods answer


@pytest.mark.parametrize(
    ("spec", "host"),
    [
        ({}, "web-istio.shop.svc.cluster.local"),
        ({"gatewayClassName": "public"}, "web-public.shop.svc.cluster.local"),
        ({"gatewayClassName": "istio-agentgateway"}, "web.shop.svc.cluster.local"),
        ({"addresses": [{"value": "1.2.3.4"}]}, "web-istio.shop.svc.cluster.local"),
        (
            {"addresses": [{"type": "IPAddress", "value": "1.2.3.4"}]},
            "web-istio.shop.svc.cluster.local",
        ),
        ({"addresses": [{"type": "Hostname", "value": "gw"}]}, "gw.shop.svc.cluster.local"),
        (
            {"addresses": [{"type": "Hostname", "value": "istio-ingressgateway"}]},
            "istio-ingressgateway.shop.svc.cluster.local",
        ),
    ],
)
def test_where_it_is_reached(spec: dict[str, Any], host: str) -> None:
    """Istio's Service `<name>-<class>`, or the one that somebody named (facts/istio.md §3)."""
    listener = https("a.example.com", "s", port=8443)
    found = read(gateway(listener, **spec))
    assert only(found).reached_at == (GatewayAddress(host, 80, 8443),)


def test_the_name_of_the_service_may_be_another() -> None:
    """Istio's annotation for it counts."""
    notes = TLS | {"gateway.istio.io/name-override": "edge"}
    found = only(read(gateway(https("a.example.com", "s"), annotations=notes)))
    assert found.reached_at == (GatewayAddress("edge.shop.svc.cluster.local"),)


@pytest.mark.parametrize(
    "value",
    [
        "edge.shop",
        "edge.shop.svc",
        "edge.shop.svc.cluster.local",
    ],
)
def test_pods_that_the_installation_knows(value: str) -> None:
    """Its own word on their address counts; port 80 is its own objects' business."""
    address = GatewayAddress("127.0.0.1", 8080, 8443)
    edge = GatewayWorkload("shop", service="edge", address=address)
    spec = {
        "addresses": [{"type": "Hostname", "value": value}],
        "listeners": [https("a.example.com", "s")],
    }
    known = replace(SURROUNDINGS, installation=replace(INSTALLATION, gateways=(edge,)))
    found = only(read(gateway(**spec), within=known))
    assert found.reached_at == (GatewayAddress("127.0.0.1", 8080, 8443),)
    unrouted = replace(INSTALLATION, gateways=(replace(edge, routing=Routing.OFF),))
    left = read(gateway(**spec), within=replace(SURROUNDINGS, installation=unrouted))
    assert codes(left) == ["NoPort80"]


@pytest.mark.parametrize("value", ["edge", "edge.shop", "edge.shop.svc"])
def test_an_address_is_a_service_however_short(value: str) -> None:
    """It is asked by its whole name: a shorter one would be looked for elsewhere as well."""
    addresses = [{"type": "Hostname", "value": value}]
    found = only(read(gateway(https("a.example.com", "s"), addresses=addresses)))
    assert found.reached_at == (GatewayAddress("edge.shop.svc.cluster.local"),)


NO_SERVICES = (
    *("169.254.169.254", "10.0.0.1", "[::1]", "::1", "0x7f000001.", "kubernetes.default.svc."),
    *("gw.example.net", "edge.shop.svc.example.net", "edge.shop.svc.cluster.local.evil.example"),
    *("edge.shop.evil.example", "edge.shop.service", "edge.shop.svc.cluster.local."),
    *("edge..svc", ".shop.svc", "edge.", "Edge", "edge_1", "-edge", "edge-", "e" * 64),
    *("edge/../x", "edge@evil", "edge:6443", "edge ", "edge\n", "edge\n.shop", "\u00e9dge", "*"),
    *("edge.Other", "edge.other:6443", "edge.-other.svc"),
)


@pytest.mark.parametrize("value", NO_SERVICES)
def test_an_address_that_is_no_service_is_not_asked(value: str) -> None:
    """A Gateway's author may write any text: acmeistio goes to no host but a gateway's Service."""
    addresses = [{"type": "Hostname", "value": value}]
    found = only(read(gateway(https("a.example.com", "s"), addresses=addresses)))
    assert found.reached_at == ()


def test_services_beside_what_is_none() -> None:
    """What is no Service takes nothing from those beside it; each is asked once."""
    values = ("gw.example.net", "edge", "169.254.169.254", "edge.shop", "other.shop.svc")
    addresses = [{"type": "Hostname", "value": value} for value in values]
    found = only(read(gateway(https("a.example.com", "s"), addresses=addresses)))
    assert [address.host for address in found.reached_at] == [
        "edge.shop.svc.cluster.local",
        "other.shop.svc.cluster.local",
    ]


@pytest.mark.parametrize("value", [*NO_SERVICES, "edge.other", "edge.shop"])
def test_an_override_that_is_no_name_is_not_asked(value: str) -> None:
    """Istio makes no Service of such a name, and the text may be another host's."""
    notes = TLS | {"gateway.istio.io/name-override": value}
    found = only(read(gateway(https("a.example.com", "s"), annotations=notes)))
    assert found.reached_at == ()


@pytest.mark.parametrize(
    ("namespace", "name", "gateway_class"),
    [
        ("shop", "web.edge", "istio"),
        ("shop", "w" * 60, "istio"),
        ("shop", "web", "istio.example"),
        ("shop", "web", ""),
        ("shop.evil", "web", "istio"),
        ("evil.example:80/", "web", "istio"),
    ],
)
def test_a_gateway_whose_service_can_not_be(namespace: str, name: str, gateway_class: str) -> None:
    """Names of objects may have dots, those of Services may not (RFC 1123, label)."""
    manifest = gateway(https("a.example.com", "s"), gatewayClassName=gateway_class)
    manifest["metadata"] |= {"namespace": namespace, "name": name}
    allowed = replace(SURROUNDINGS, domains_of={namespace: frozenset(names("example.com"))})
    found = gateway_api.declarations(manifest, (), allowed)
    assert only(found).reached_at == ()


@pytest.mark.parametrize(
    "value", ["edge.other", "edge.other.svc", "edge.other.svc.cluster.local", "kubernetes.default"]
)
def test_a_service_of_another_namespace_serves_nobody(value: str) -> None:
    """Istio takes only one of the Gateway's own (AddressNotUsable); nothing is asked for."""
    addresses = [{"type": "Hostname", "value": value}]
    found = read(gateway(https("a.example.com", "s"), addresses=addresses))
    assert found.declarations == ()
    assert codes(found) == ["GatewayAddressUnusable"]
    assert f"Gateway to {value.split('.')[1]}; " in found.defects[0].remedy


def test_a_short_address_is_of_the_gateways_namespace() -> None:
    """As for Istio: a Service without a dot is a neighbour (extractGatewayServices)."""
    edge = GatewayWorkload(namespace="shop", service="edge", address=GatewayAddress("192.0.2.1"))
    known = replace(SURROUNDINGS, installation=replace(INSTALLATION, gateways=(edge,)))
    spec = {"addresses": [{"type": "Hostname", "value": "edge"}]}
    found = only(read(gateway(https("a.example.com", "s"), **spec), within=known))
    assert found.reached_at == (GatewayAddress("192.0.2.1"),)


@pytest.mark.parametrize(
    ("http", "port", "complaint"),
    [
        ([], 80, ["NoPort80"]),
        ([HTTP], 80, []),
        ([HTTP | {"port": 8080}], 8080, ["NoPort80"]),
        ([HTTP | {"port": 8080}, HTTP], 80, []),
        ([HTTP | {"protocol": "TCP"}], 80, ["NoPort80"]),
        ([HTTP | {"port": None}], 80, []),
    ],
)
def test_port_80(http: list[dict[str, Any]], port: int, complaint: list[str]) -> None:
    """The CA asks at port 80 first; where there is none, it is told."""
    found = read(gateway(listeners=[*http, https("a.example.com", "s")]))
    assert found.declarations[0].reached_at == (replace(ADDRESS, http_port=port),)
    assert codes(found) == complaint


@pytest.mark.parametrize(("admitted", "complaint"), [("All", []), ("Same", ["NoPort80"])])
def test_port_80_of_a_listener_set(admitted: str, complaint: list[str]) -> None:
    """A ListenerSet that the Gateway admits may open it."""
    spec = {
        "listeners": [https("a.example.com", "s")],
        "allowedListeners": {"namespaces": {"from": admitted}},
    }
    assert codes(read(gateway(**spec), listener_set(HTTP, annotations={}))) == complaint


@pytest.mark.parametrize(
    "gateway_class",
    ["istio-waypoint", "istio-east-west", "istio-remote", "istio-agentgateway-waypoint"],
)
def test_gateways_of_the_mesh(gateway_class: str) -> None:
    """Nobody outside comes through them: a mistake, and no names."""
    found = read(gateway(https("a.example.com", "s"), gatewayClassName=gateway_class))
    assert found.declarations == ()
    assert codes(found) == ["GatewayNotServing"]


# GatewayClasses


def gateway_class(name: str, controller: object = "istio.io/gateway-controller") -> Manifest:
    """A GatewayClass."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": name},
        "spec": {"controllerName": controller},
    }


ISTIOS = (
    gateway_class("istio"),
    gateway_class("istio-remote", "istio.io/unmanaged-gateway"),
    gateway_class("istio-waypoint", "istio.io/mesh-controller"),
)
NGINX = gateway_class("nginx", "gateway.nginx.org/nginx-gateway-controller")


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("istio", ISTIOS),
        ("istio", (NGINX,)),
        ("istio-agentgateway", (*ISTIOS, NGINX)),
        ("public", (*ISTIOS, gateway_class("public"))),
        ("public", (gateway_class("public", "istio.io/agentgateway-controller"),)),
        ("nginx", ()),
        ("public", ()),
        ("", ()),
    ],
)
def test_a_class_that_istio_serves(name: str, classes: tuple[Manifest, ...]) -> None:
    """By its controller; istiod needs no object for its own; none known: nothing is said."""
    found = read(gateway(https("a.example.com", "s"), gatewayClassName=name), *classes)
    assert only(found).names == names("a.example.com")


@pytest.mark.parametrize("controller", [NGINX["spec"]["controllerName"], "istio.iox/y", "", None])
def test_a_class_of_another_controller(controller: object) -> None:
    """Istio serves nothing there, so nothing is asked for."""
    theirs = gateway_class("nginx", controller)
    found = read(gateway(https("a.example.com", "s"), gatewayClassName="nginx"), *ISTIOS, theirs)
    assert found.declarations == ()
    assert [(d.code, d.subject) for d in found.defects] == [("GatewayClassNotServed", WEB)]
    assert "nginx" in found.defects[0].sentence
    assert str(controller or "") in found.defects[0].sentence


@pytest.mark.parametrize(
    ("classes", "known"),
    [
        ((NGINX,), "istio"),
        (ISTIOS, "istio"),
        ((NGINX, gateway_class("public"), *ISTIOS), "istio, public"),
    ],
)
@pytest.mark.parametrize("name", ["isto", ""])
def test_a_class_that_is_not_there(name: str, classes: tuple[Manifest, ...], known: str) -> None:
    """A slip: the classes that are there and take requests from outside are told."""
    found = read(gateway(https("a.example.com", "s"), gatewayClassName=name), *classes)
    assert found.declarations == ()
    assert codes(found) == ["GatewayClassMissing"]
    assert f'"{name}"' in found.defects[0].sentence
    assert f": {known}." in found.defects[0].remedy


def test_the_installations_own_class() -> None:
    """It is Istio's by the administrator's word, whatever Istio's controller is called there."""
    renamed = gateway_class("edge", "openshift.io/gateway-controller/v1")
    manifest = gateway(https("a.example.com", "s"), gatewayClassName="edge")
    installation = replace(INSTALLATION, gateway_class="edge")
    within = replace(SURROUNDINGS, installation=installation)
    assert only(read(manifest, renamed, within=within)).names == names("a.example.com")
    assert only(read(manifest, NGINX, within=within)).names == names("a.example.com")
    without = replace(SURROUNDINGS, installation=replace(INSTALLATION, gateway_class=None))
    assert codes(read(manifest, NGINX, within=without)) == ["GatewayClassMissing"]


@pytest.mark.parametrize("controller", ["istio.io/mesh-controller", "istio.io/unmanaged-gateway"])
def test_a_class_of_the_mesh_by_any_name(controller: str) -> None:
    """What its controller does counts, not what it is called."""
    inner = gateway_class("inner", controller)
    found = read(gateway(https("a.example.com", "s"), gatewayClassName="inner"), inner)
    assert found.declarations == ()
    assert codes(found) == ["GatewayNotServing"]
    missing = read(gateway(https("a.example.com", "s"), gatewayClassName="isto"), inner)
    assert ": istio." in missing.defects[0].remedy


def test_the_class_of_a_listener_sets_gateway() -> None:
    """Where its Gateway is another's, so is it; that is said of what asks."""
    above = allowing("All")
    above["spec"]["gatewayClassName"] = "nginx"
    asking = listener_set(https("a.team.example.com", "own"))
    found = read(above, asking, NGINX, ref=TEAM)
    assert found.declarations == ()
    assert [(d.code, d.subject) for d in found.defects] == [("GatewayClassNotServed", TEAM)]


def test_classes_are_no_gateways_business_that_asks_for_nothing() -> None:
    """Others' Gateways are left alone."""
    theirs = gateway(https("a.example.com", "s"), gatewayClassName="nginx", annotations={})
    assert read(theirs, NGINX) == Found()


# Annotations where they are not read


def test_an_annotation_on_a_route_is_told_of() -> None:
    """It has no effect; where it belongs is said, and the route brings its names all the same."""
    annotated = route("a.example.com")
    annotated["metadata"]["annotations"] = {
        "acmeistio.io/tls": "true",
        "acmeistio.io/issuer": "other",
        "example.com/own": "x",
    }
    objects = (gateway(https(None, "s")), annotated)
    found = read(*objects, ref=ObjectRef("HTTPRoute", "shop", "r"))
    assert found.declarations == ()
    (warning,) = found.defects
    assert (warning.code, warning.reason.severity) == ("AnnotationNotRead", Severity.WARNING)
    assert warning.subject == ObjectRef("HTTPRoute", "shop", "r")
    assert "acmeistio.io/issuer, acmeistio.io/tls" in warning.sentence
    assert "Gateway.gateway.networking.k8s.io shop/web" in warning.remedy
    assert only(read(*objects)).names == names("a.example.com")


def test_an_annotation_on_a_route_without_a_gateway() -> None:
    """A route of the mesh has no Gateway that could be named."""
    inner = route("a.example.com", kind="Service", group="")
    inner["metadata"]["annotations"] = TLS
    (warning,) = read(inner, ref=ObjectRef("HTTPRoute", "shop", "r")).defects
    assert warning.code == "AnnotationNotRead"
    assert "Gateway" in warning.remedy


@pytest.mark.parametrize(
    "notes", [{}, {"kubernetes.io/tls-acme": "true"}, {"example.com/acmeistio.io/": "x"}, None]
)
def test_other_annotations_on_routes(notes: object) -> None:
    """They are none of acmeistio's."""
    other = route("a.example.com")
    other["metadata"]["annotations"] = notes
    assert list(gateway_api.subjects({"HTTPRoute": (other,)})) == []


# ListenerSets


def allowing(which: str | None, annotations: object = NOTHING) -> Manifest:
    """The Gateway of ListenerSets, which asks for nothing itself."""
    namespaces = {"namespaces": {"from": which}} if which else {}
    spec = {"listeners": [HTTP], "allowedListeners": namespaces}
    return gateway(annotations=annotations, **spec)


def test_a_listener_set_asks_for_itself() -> None:
    """Names, Secret and grants are of its namespace; the pods are its Gateway's."""
    found = read(
        allowing("All"),
        listener_set(
            https("a.team.example.com", "own", port=8443),
            https(None, {"name": "far", "namespace": "certs"}, name="far"),
        ),
        route("b.team.example.com", at="team/r", kind="ListenerSet", name="extra", namespace=None),
        route("c.team.example.com", at="team/c"),
        grant("certs", "ListenerSet", "team"),
        ref=TEAM,
    )
    assert codes(found) == []
    assert asked(found) == {
        "team/own": names("a.team.example.com"),
        "certs/far": names("b.team.example.com"),
    }
    assert found.declarations[0].reached_at == (replace(ADDRESS, https_port=8443),)


def test_a_listener_set_is_not_its_gateways() -> None:
    """Another team owns it: a Gateway's word never takes its listeners."""
    theirs = listener_set(https("a.team.example.com", "own"), annotations={})
    found = read(allowing("All", TLS), theirs)
    assert found.declarations == ()
    assert codes(found) == ["NoNames"]


@pytest.mark.parametrize(
    ("above", "why"),
    [
        (allowing(None), "does not admit namespace team"),
        (allowing("None"), "does not admit namespace team"),
        (allowing("Same"), "does not admit namespace team"),
        (allowing("All", {"acmeistio.io/tls": "false"}), 'tls: "false"'),
        (None, "there is no Gateway.gateway.networking.k8s.io shop/web"),
    ],
)
def test_a_listener_set_that_is_not_served(above: Manifest | None, why: str) -> None:
    """Its Gateway must be there, admit it and not refuse certificates."""
    others = [above] if above else []
    found = read(listener_set(https("a.team.example.com", "own")), *others, ref=TEAM)
    assert found.declarations == ()
    assert codes(found) == ["ListenerSetNotAdmitted"]
    assert why in found.defects[0].sentence
    assert found.defects[0].subject == TEAM


def test_a_listener_set_without_a_parent() -> None:
    """What names nobody is served by nobody."""
    orphan = listener_set(https("a.team.example.com", "own"), kind="Service")
    assert codes(read(orphan, ref=TEAM)) == ["ListenerSetNotAdmitted"]


# Whatever it is made of

WORDS = (
    *("name", "namespace", "kind", "group", "from", "to", "port", "hostname", "protocol", "tls"),
    *("mode", "certificateRefs", "parentRef", "parentRefs", "sectionName", "hostnames", "value"),
    *("listeners", "allowedRoutes", "allowedListeners", "namespaces", "selector", "matchLabels"),
    *("matchExpressions", "addresses", "type", "Hostname", "gatewayClassName", "options", "kinds"),
    *("HTTPS", "TLS", "Passthrough", "Selector", "web", "shop", "a.example.com", "*.example.com"),
)
ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(WORDS)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(WORDS) | st.integers(), inner, max_size=4)
    ),
    max_leaves=8,
)


def like(**parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A mapping with some of these parts, or anything."""
    return st.fixed_dictionaries({}, optional={**parts}) | ANY


def some(what: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A list of such, or anything."""
    return st.lists(what | ANY, min_size=1, max_size=3) | ANY


NAME = st.sampled_from(["web", "extra"]) | ANY
SPACE = st.sampled_from(["shop", "team"]) | ANY
KIND = st.sampled_from(["Gateway", "ListenerSet", "Secret", "HTTPRoute"]) | ANY
HOST = st.sampled_from(["a.example.com", "*.example.com", "*", ""]) | ANY
REFERENCE = like(name=NAME, namespace=SPACE, kind=KIND, group=ANY, port=ANY, sectionName=ANY)
FROM = like(**{"from": st.sampled_from(["All", "Selector"]) | ANY, "selector": ANY})
LISTENER = like(
    name=NAME,
    port=ANY,
    protocol=st.just("HTTPS") | ANY,
    hostname=HOST,
    tls=like(mode=ANY, certificateRefs=some(REFERENCE), options=ANY),
    allowedRoutes=like(namespaces=FROM, kinds=ANY),
)
SPEC = like(
    listeners=some(LISTENER),
    gatewayClassName=NAME,
    controllerName=st.sampled_from(["istio.io/gateway-controller", "other"]) | ANY,
    addresses=some(like(type=st.just("Hostname") | ANY, value=ANY)),
    allowedListeners=like(namespaces=FROM),
    parentRef=REFERENCE,
    parentRefs=some(REFERENCE),
    hostnames=some(HOST),
    to=some(REFERENCE),
    **{"from": some(REFERENCE)},
)
NOTES = st.just(TLS) | st.just({"acmeistio.io/domains": "a.example.com, b.org"}) | ANY
METADATA = like(name=NAME, namespace=SPACE, annotations=NOTES, creationTimestamp=ANY)


def objects(kind: str) -> st.SearchStrategy[tuple[Manifest, ...]]:
    """Objects that only their kind is known of."""
    head = {"apiVersion": st.just("gateway.networking.k8s.io/v1"), "kind": st.just(kind)}
    each = st.fixed_dictionaries(head, optional={"metadata": METADATA, "spec": SPEC})
    return st.lists(each, max_size=2).map(tuple)


@given(
    st.fixed_dictionaries(
        {
            K8S_GATEWAY: objects("Gateway"),
            "HTTPRoute": objects("HTTPRoute"),
            "ReferenceGrant": objects("ReferenceGrant"),
            "ListenerSet": objects("ListenerSet"),
            "GatewayClass": objects("GatewayClass"),
        }
    )
)
def test_any_objects_are_read(manifests: Mapping[str, tuple[Manifest, ...]]) -> None:
    """Whatever objects are made of, a source gives values and never raises (DESIGN §4)."""
    for manifest, related in gateway_api.subjects(manifests):
        found = gateway_api.declarations(manifest, related, SURROUNDINGS)
        assert all(defect.sentence and defect.remedy for defect in found.defects)
        assert all(declared.names for declared in found.declarations)
    assert gateway_api.together(()) == ()
