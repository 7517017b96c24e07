"""routes/: which route objects must exist, and what is to be done about those that do."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from acmeistio.model import (
    ISTIO_GATEWAY,
    K8S_GATEWAY,
    GatewayWorkload,
    Installation,
    ObjectRef,
    Routing,
)
from acmeistio.routes import PASS_MARK, PATH_PREFIX, Route, derived_name, reference
from acmeistio.routes.changes import agrees, changes, wanted
from tests.core.builders import INSTALLATION, names
from tests.core.test_istio import gateway, plain, server, virtual_service

OFF = replace(INSTALLATION, routing=Routing.OFF, gateways=(GatewayWorkload(routing=Routing.OFF),))
MIRROR = replace(
    INSTALLATION, routing=Routing.MIRROR, gateways=(GatewayWorkload(routing=Routing.MIRROR),)
)
EDGE = GatewayWorkload("edge", {"istio": "edge"}, "edge")
HOST = "acmeistio.istio-system.svc.cluster.local"
WWW = names("www.example.com")
UNMARKED = {":path": {"regex": r".*[?&]acmeistio-pass([=&].*)?"}}
RULE = {
    "name": "acme-http01",
    "match": [{"uri": {"prefix": PATH_PREFIX}}],
    "route": [{"destination": {"host": HOST, "port": {"number": 80}}}],
}


MIRRORED = {**RULE, "match": [{"uri": {"prefix": PATH_PREFIX}, "withoutHeaders": UNMARKED}]}


def routes(
    installation: Installation = INSTALLATION,
    *manifests: Mapping[str, Any],
    asked: tuple[Any, ...] = WWW,
) -> dict[str, Route]:
    """The route objects, by `Kind namespace/name`."""
    by_kind: dict[str, tuple[Any, ...]] = {}
    for manifest in manifests:
        kind = reference(manifest).kind
        by_kind[kind] = (*by_kind.get(kind, ()), manifest)
    found = wanted(installation, by_kind, asked)
    return {
        f"{ref.kind.partition('.')[0]} {ref.namespace}/{ref.name}": r for ref, r in found.items()
    }


def ingress(*hosts: str, name: str = "web", namespace: str = "shop") -> dict[str, Any]:
    """An Ingress with a rule for each host; "" is a rule without."""
    rules = [{"http": {}, **({"host": host} if host else {})} for host in hosts]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "namespace": namespace,
            "name": name,
            "annotations": {"kubernetes.io/ingress.class": "istio"},
        },
        "spec": {"rules": rules},
    }


def served(manifest: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A VirtualService that has HTTP routes, as most have."""
    return {**manifest, "spec": {**manifest["spec"], "http": [{}], **spec}}


def http_route(*hosts: str, parents: Any = ({"name": "web"},)) -> dict[str, Any]:
    """An HTTPRoute of the Gateway `web`."""
    spec: dict[str, Any] = {"parentRefs": [*parents]}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"namespace": "shop", "name": "pages", "uid": "u-1"},
        "spec": {**spec, **({"hostnames": [*hosts]} if hosts else {})},
    }


K8S = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "Gateway",
    "metadata": {"namespace": "shop", "name": "web"},
    "spec": {"gatewayClassName": "istio"},
}

# ── permanent ─────────────────────────────────────────────────────────────────────────────────


def test_one_set_whatever_is_declared() -> None:
    """Nothing per host: so nothing changes while a certificate is issued."""
    assert set(routes()) == {
        "Gateway istio-system/acmeistio",
        "VirtualService istio-system/acmeistio",
        "EnvoyFilter istio-system/acmeistio",
        "EnvoyFilter istio-system/acmeistio-misdirected",
        "EnvoyFilter istio-system/acmeistio-gateway-api",
        "EnvoyFilter istio-system/acmeistio-gateway-api-misdirected",
        "DestinationRule istio-system/acmeistio",
    }
    many = [ingress("www.example.com"), gateway(server("www.example.com")), K8S]
    assert routes(INSTALLATION, *many) == routes()


def test_both_ways_lead_to_the_service_and_hand_over_what_is_not_ours() -> None:
    """The path that tokens are answered on, and the mark of a request that was handed back."""
    found = routes()
    assert found["VirtualService istio-system/acmeistio"]["spec"]["http"] == [RULE]
    [patch] = found["EnvoyFilter istio-system/acmeistio"]["spec"]["configPatches"]
    value = patch["patch"]["value"]
    assert value["match"]["prefix"] == PATH_PREFIX
    assert value["match"]["query_parameters"] == [{"name": PASS_MARK, "present_match": False}]
    assert value["route"]["cluster"] == f"outbound|80||{HOST}"
    assert found["DestinationRule istio-system/acmeistio"]["spec"]["host"] == HOST


def test_only_the_gateways_pods_are_touched() -> None:
    """An egress gateway is a gateway to Istio too."""
    for key, found in routes().items():
        if key.startswith("EnvoyFilter"):
            of_api = "gateway-api" in key
            label = {"gateway.networking.k8s.io/gateway-class-name": "istio"}
            labels = label if of_api else {"istio": "ingressgateway"}
            assert found["spec"]["workloadSelector"] == {"labels": labels}


def test_each_gateway_has_a_set_of_its_own() -> None:
    """Its namespace, its labels; in one namespace the later has names of its own."""
    inside = GatewayWorkload("edge", {"istio": "inside"}, "inside", Routing.MIRROR)
    installation = replace(
        INSTALLATION,
        namespace="acme",
        cluster_domain="corp.example",
        root_namespace="mesh",
        gateways=(EDGE, inside),
    )
    found = routes(installation)
    assert set(found) == {
        "Gateway edge/acmeistio",
        "VirtualService edge/acmeistio",
        "EnvoyFilter edge/acmeistio",
        "EnvoyFilter edge/acmeistio-misdirected",
        "Gateway edge/acmeistio-at-inside",
        "VirtualService edge/acmeistio-at-inside",
        "EnvoyFilter mesh/acmeistio-gateway-api",
        "EnvoyFilter mesh/acmeistio-gateway-api-misdirected",
        "DestinationRule acme/acmeistio",
    }
    assert found["Gateway edge/acmeistio-at-inside"]["spec"]["selector"] == {"istio": "inside"}
    assert found["VirtualService edge/acmeistio-at-inside"]["spec"]["gateways"] == [
        "acmeistio-at-inside"
    ]
    host = "acmeistio.acme.svc.corp.example"
    assert found["DestinationRule acme/acmeistio"]["spec"]["host"] == host
    assert host in str(found["EnvoyFilter edge/acmeistio"])


def test_off_is_nothing() -> None:
    """Whatever there is to route."""
    everything = [ingress("www.example.com"), K8S, http_route("www.example.com")]
    assert routes(OFF, *everything) == {}


# ── hosts that nobody routes ──────────────────────────────────────────────────────────────────

UNROUTED = "VirtualService istio-system/acmeistio-unrouted"


def test_a_redirect_of_all_hosts_has_a_route_behind_it() -> None:
    """Bound to that Gateway, which serves all hosts with TLS."""
    found = routes(INSTALLATION, gateway(plain("*", redirects=True), server("*")))
    assert found[UNROUTED]["spec"]["gateways"] == ["shop/web"]
    assert found[UNROUTED]["spec"]["hosts"] == ["*"]


def test_the_redirect_and_the_port_may_be_two_gateways() -> None:
    """What is redirected arrives where all hosts have TLS."""
    found = routes(
        INSTALLATION,
        gateway(plain("*", redirects=True), name="redirect"),
        gateway(server("*"), name="tls"),
    )
    assert found[UNROUTED]["spec"]["gateways"] == ["shop/tls"]


@pytest.mark.parametrize(
    "servers",
    [
        [plain("*"), server("*")],
        [plain("*", redirects=True)],
        [plain("*", redirects=True), server("www.example.com")],
        [plain("*", redirects=True), server("*"), plain("www.example.com")],
        [plain("shop/*", redirects=True), server("*")],
    ],
)
def test_no_virtual_host_is_made_that_was_not_there(servers: list[dict[str, Any]]) -> None:
    """On a server of one host it would take its other paths from whoever has them."""
    assert UNROUTED not in routes(INSTALLATION, gateway(*servers))


# ── mirrors ───────────────────────────────────────────────────────────────────────────────────


def mirrors(*manifests: Mapping[str, Any], asked: tuple[Any, ...] = WWW) -> list[Route]:
    """What is there beside the permanent objects."""
    base = routes(MIRROR)
    return [r for key, r in routes(MIRROR, *manifests, asked=asked).items() if key not in base]


def test_a_mesh_without_filters_has_none() -> None:
    """That is what mirrors are for."""
    assert {key.split()[0] for key in routes(MIRROR)} == {
        "Gateway",
        "VirtualService",
        "DestinationRule",
    }


def test_the_mirror_of_an_ingress() -> None:
    """On our Gateway for port 80, and on the one that istiod makes of the Ingress."""
    [mirror] = mirrors(ingress("www.example.com"))
    assert reference(mirror).namespace == "istio-system"
    assert mirror["spec"] == {
        "exportTo": ["."],
        "hosts": ["www.example.com"],
        "gateways": [
            "acmeistio",
            "istio-system/web-istio-autogenerated-k8s-ingress-shop",
        ],
        "http": [MIRRORED],
    }


def test_a_rule_without_paths_has_none() -> None:
    """Istio drops it."""
    manifest = ingress("www.example.com")
    manifest["spec"]["rules"] = [{"host": "www.example.com"}]
    assert mirrors(manifest) == []


def test_what_istio_does_not_process_has_none() -> None:
    """It has no virtual host for it, and ours would be one: other paths of the host would go."""
    other = ingress("www.example.com")
    other["metadata"]["annotations"] = {"kubernetes.io/ingress.class": "nginx"}
    assert mirrors(other) == []


def test_a_long_name_can_be_bound_to_by_nobody() -> None:
    """Istio refuses names of more than 63 letters in `gateways`; port 80 is still served."""
    [mirror] = mirrors(ingress("www.example.com", name="w" * 40))
    assert mirror["spec"]["gateways"] == ["acmeistio"]
    assert len(mirror["metadata"]["name"]) <= 63


def test_hosts_that_overlap_are_apart() -> None:
    """Istio takes no VirtualService with both."""
    found = mirrors(ingress("www.example.com", "*.example.com", "", "example.org"))
    hosts = sorted(tuple(mirror["spec"]["hosts"]) for mirror in found)
    assert hosts == [("*",), ("*.example.com",), ("example.org", "www.example.com")]
    assert len({mirror["metadata"]["name"] for mirror in found}) == 3


def test_the_mirror_of_a_virtual_service() -> None:
    """The same hosts on the same Gateways, in its namespace, seen by the gateway only."""
    pages = served(virtual_service("www.example.com", gateways=("web", "mesh")))
    pages["metadata"]["uid"] = "u-1"
    [mirror] = mirrors(gateway(server("*.example.com")), pages)
    assert mirror["spec"] == {
        "exportTo": ["istio-system"],
        "hosts": ["www.example.com"],
        "gateways": ["shop/web"],
        "http": [MIRRORED],
    }
    assert mirror["metadata"]["namespace"] == "shop"
    [owner] = mirror["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("VirtualService", "pages", "u-1")


@pytest.mark.parametrize(
    "changed",
    [
        {"exportTo": ["."]},
        {"exportTo": ["elsewhere"]},
        {"http": []},
        {"gateways": ["mesh"]},
        {"gateways": ["missing"]},
        {"hosts": ["other.example.com"]},
    ],
)
def test_what_makes_no_virtual_host_has_no_mirror(changed: dict[str, Any]) -> None:
    """It would make one, or nobody asks for a certificate of its hosts."""
    pages = served(virtual_service("www.example.com"), **changed)
    assert mirrors(gateway(server("*.example.com")), pages) == []


@pytest.mark.parametrize("seen", [["*"], ["istio-system"], ["istio-system", "."]])
def test_what_the_gateway_sees_has_one(seen: list[str]) -> None:
    """However it is exported."""
    pages = served(virtual_service("www.example.com"), exportTo=seen)
    assert len(mirrors(gateway(server("*.example.com")), pages)) == 1


def test_egress_has_no_mirror() -> None:
    """Its pods are none of this installation's gateways."""
    egress = gateway(server("*.example.com"), selector={"istio": "egressgateway"})
    assert mirrors(egress, served(virtual_service("www.example.com"))) == []


def test_a_mirror_leaves_egress_alone_that_the_original_is_bound_to() -> None:
    """Both gateways may be in one namespace, to which it is exported."""
    both = served(virtual_service("www.example.com", gateways=("web", "out")))
    egress = gateway(server("*.example.com"), selector={"istio": "egressgateway"}, name="out")
    [mirror] = mirrors(gateway(server("*.example.com")), egress, both)
    assert mirror["spec"]["gateways"] == ["shop/web"]


@pytest.mark.parametrize("hosts", [(), ("www.example.com",), ("*.example.com",)])
def test_the_mirror_of_an_http_route(hosts: tuple[str, ...]) -> None:
    """The same parents and hostnames exactly, none included; and leave to reach acmeistio."""
    found = mirrors(K8S, http_route(*hosts))
    [mirror] = [route for route in found if route["kind"] == "HTTPRoute"]
    [grant] = [route for route in found if route["kind"] == "ReferenceGrant"]
    assert mirror["spec"]["parentRefs"] == [{"name": "web"}]
    assert mirror["spec"].get("hostnames", []) == [*hosts]
    [rule] = mirror["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": PATH_PREFIX.rstrip("/")}}]
    assert grant["metadata"]["namespace"] == "istio-system"
    assert grant["spec"]["from"][0]["namespace"] == "shop"
    assert grant["spec"]["to"] == [{"group": "", "kind": "Service", "name": "acmeistio"}]


def test_routes_between_services_have_none() -> None:
    """The mesh's own traffic is nobody's business."""
    inside = http_route("www.example.com", parents=[{"kind": "Service", "name": "a", "group": ""}])
    assert mirrors(K8S, inside) == []


def test_gateways_of_other_controllers_have_none() -> None:
    """Unless they ask for a certificate themselves: nobody else asked acmeistio to serve them."""
    other = {**K8S, "spec": {"gatewayClassName": "nginx"}}
    assert mirrors(other, http_route("www.example.com")) == []
    notes = {"annotations": {"acmeistio.io/tls": "true"}}
    asking = {**other, "metadata": {**K8S["metadata"], **notes}}
    assert len(mirrors(asking, http_route("www.example.com"))) == 2


def test_routes_of_a_listener_set_have_one() -> None:
    """It is part of its Gateway."""
    parent = {"kind": "ListenerSet", "group": "gateway.networking.k8s.io", "name": "team"}
    listener_set = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "ListenerSet",
        "metadata": {"namespace": "shop", "name": "team"},
        "spec": {"parentRef": {"name": "web"}},
    }
    of_services = {"kind": "Service", "group": "", "name": "a"}
    route = http_route("www.example.com", parents=[parent, of_services])
    found = mirrors(K8S, listener_set, route)
    [mirror] = [each for each in found if each["kind"] == "HTTPRoute"]
    assert mirror["spec"]["parentRefs"] == [parent]


# ── changes ───────────────────────────────────────────────────────────────────────────────────


def stored(route: Route) -> Route:
    """A route object as an API server has it."""
    there = copy.deepcopy(route)
    there["metadata"] |= {"resourceVersion": "7", "uid": "u-7", "generation": 1}
    there["status"] = {}
    return there


ROUTES = {reference(route): route for route in routes().values()}


def test_nothing_is_to_be_done_where_all_is_there() -> None:
    """What an API server adds does not matter."""
    found = changes(ROUTES, map(stored, ROUTES.values()), frozenset(), INSTALLATION)
    assert (found.create, found.update, found.delete, found.defects) == ((), (), (), ())


def test_what_is_missing_is_made_and_what_is_spoilt_is_mended() -> None:
    """With the version that was read; what others put on it stays."""
    spoilt = stored(ROUTES[ObjectRef(ISTIO_GATEWAY, "istio-system", "acmeistio")])
    spoilt["spec"]["servers"][0]["hosts"] = ["elsewhere.example"]
    spoilt["metadata"]["annotations"] = {"note": "mine"}
    found = changes(ROUTES, [spoilt], frozenset(), INSTALLATION)
    assert len(found.create) == len(ROUTES) - 1
    [mended] = found.update
    assert mended["spec"]["servers"][0]["hosts"] == ["*"]
    assert mended["metadata"]["resourceVersion"] == "7"
    assert mended["metadata"]["annotations"] == {"note": "mine"}


def test_what_is_not_needed_any_more_goes() -> None:
    """If it is ours: `routing: off` leaves nothing behind."""
    theirs = stored(virtual_service("www.example.com"))
    found = changes({}, [*map(stored, ROUTES.values()), theirs], frozenset(), INSTALLATION)
    assert {reference(route) for route in found.delete} == set(ROUTES)


def test_nothing_foreign_is_touched() -> None:
    """Another object of that name is told of, and left."""
    foreign = stored(ROUTES[ObjectRef(ISTIO_GATEWAY, "istio-system", "acmeistio")])
    del foreign["metadata"]["labels"]
    foreign["spec"] = {}
    found = changes(ROUTES, [foreign], frozenset(), INSTALLATION)
    assert (found.update, found.delete) == ((), ())
    assert [(made.code, made.subject.name) for made in found.defects] == [
        ("RouteNotManaged", "acmeistio")
    ]


def test_unknown_is_not_absent() -> None:
    """A kind that can't be listed now is neither made anew nor deleted."""
    found = changes(ROUTES, [], frozenset({"EnvoyFilter"}), INSTALLATION)
    assert {route["kind"] for route in found.create} == {
        "Gateway",
        "VirtualService",
        "DestinationRule",
    }
    filters = [stored(route) for route in ROUTES.values() if route["kind"] == "EnvoyFilter"]
    for unknown in ("EnvoyFilter", "Ingress"):
        assert changes({}, filters, frozenset({unknown}), INSTALLATION).delete == ()


def test_another_installation_keeps_its_own() -> None:
    """Both have the label of acmeistio; neither deletes or mends what is the other's."""
    other = replace(INSTALLATION, namespace="acme-too")
    theirs = [stored(route) for route in wanted(other, {}, ()).values()]
    found = changes(ROUTES, theirs, frozenset(), INSTALLATION)
    assert (found.update, found.delete) == ((), ())
    assert {made.code for made in found.defects} == {"RouteNotManaged"}


def test_an_object_of_ours_that_is_spoilt_beyond_reading_is_mended() -> None:
    """Whatever is left of it."""
    spoilt = stored(ROUTES[ObjectRef(ISTIO_GATEWAY, "istio-system", "acmeistio")])
    del spoilt["spec"]
    assert len(changes(ROUTES, [spoilt], frozenset(), INSTALLATION).update) == 1


@pytest.mark.parametrize(
    ("group", "existing", "same"),
    [
        ("gateway.networking.k8s.io", {"a": [{"b": 1, "default": 2}], "c": {}}, True),
        ("gateway.networking.k8s.io", {"a": [{"b": 1}, {"b": 2}]}, False),
        ("gateway.networking.k8s.io", {"a": [{"b": 2}]}, False),
        ("gateway.networking.k8s.io", {"a": {}}, False),
        ("gateway.networking.k8s.io", {}, False),
        ("gateway.networking.k8s.io", None, False),
        ("networking.istio.io", {"a": [{"b": 1}]}, True),
        ("networking.istio.io", {"a": [{"b": 1, "more": 2}]}, False),
        ("networking.istio.io", {"a": [{"b": 1}], "more": {}}, False),
    ],
)
def test_what_agrees(group: str, existing: Any, same: bool) -> None:
    """Every field of ours; and none more where nothing is filled in by the API server."""
    route = {"apiVersion": f"{group}/v1", "metadata": {"name": "n"}, "spec": {"a": [{"b": 1}]}}
    assert agrees(route, {"metadata": {"name": "n", "uid": "u"}, "spec": existing}) is same


def test_names_of_mirrors_are_their_own() -> None:
    """Two objects never share one, however long or alike they are."""
    made = {
        derived_name("virtualservice", "a-b"),
        derived_name("virtualservice", "a.b"),
        derived_name("virtualservice-a", "b"),
        derived_name("virtualservice", "a" * 250),
        derived_name("virtualservice", "a" * 251),
    }
    assert len(made) == 5
    assert all(len(name) <= 63 for name in made)


def test_gateways_of_both_apis_are_told_apart() -> None:
    """They have the same kind."""
    assert reference(K8S).kind == K8S_GATEWAY
    assert reference(gateway()).kind == ISTIO_GATEWAY
