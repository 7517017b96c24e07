"""The route objects that acmeistio keeps: made, mended, mirrored, and taken away again.

What they do to the CA's requests is in test_routes.py and test_layouts.py.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from acmeistio.routes.permanent import permanent
from acmeistio.settings import load_settings
from pebble.processes import CHECKOUT
from pebble.program import Program
from tests.cluster.api import Object
from tests.cluster.asking import Asking
from tests.cluster.bed import NAMESPACE, SECRET_NAME, Bed
from tests.cluster.gateway import Gateway, Workload
from tests.cluster.manifests import gateway, ingress, virtual_service
from tests.cluster.seen import names
from tests.cluster.spans import Spans

DEPLOY = CHECKOUT / "deploy"
SHOP, BACKEND = "shop", "web"
DOMAIN = "routing.example"
WWW, MOBILE, SHOP_HOST, MORE = (f"{word}.{DOMAIN}" for word in ("www", "mobile", "shop", "more"))
LABELLED = "labelSelector=app.kubernetes.io%2Fmanaged-by%3Dacmeistio"
KINDS = (
    *(f"{kind}.networking.istio.io" for kind in ("Gateway", "VirtualService", "DestinationRule")),
    *(f"{kind}.networking.istio.io" for kind in ("EnvoyFilter", "ServiceEntry")),
    *(f"{kind}.gateway.networking.k8s.io" for kind in ("Gateway", "HTTPRoute", "ReferenceGrant")),
    *("Ingress", "Service"),
)
"""Of which anything could be a route."""
MENDED_SECONDS = 5.0
"""Half a second on a machine that has nothing else to do."""
QUIET_SECONDS = 1.0
"""Much longer than one change is gathered."""

Place = tuple[str, str, str]
"""Kind, namespace and name."""


def _place(body: Object) -> Place:
    group = body["apiVersion"].partition("/")[0]
    return f"{body['kind']}.{group}", body["metadata"]["namespace"], body["metadata"]["name"]


def _wanted(routing: str = "filter") -> dict[Place, Object]:
    """The routes that are there whatever anybody declares, as the program says."""
    installation = load_settings({"issuer": "letsencrypt", "routing": routing}).installation
    return {_place(route): route for route in permanent(installation)}


def _ours(bed: Bed) -> dict[Place, Object]:
    """All route objects with acmeistio's label."""
    return {
        (kind, body["metadata"]["namespace"], body["metadata"]["name"]): body
        for kind in KINDS
        for body in bed.api.list(kind, query=LABELLED)
    }


def _not_as_wanted(bed: Bed) -> set[Place]:
    """The permanent routes that are missing, one too many, or other than the program says."""
    wanted = {place: route["spec"] for place, route in _wanted().items()}
    found = {place: body["spec"] for place, body in _ours(bed).items()}
    return {p for p in wanted.keys() | found.keys() if wanted.get(p) != found.get(p)}


def _are_as_wanted(bed: Bed) -> bool:
    return not _not_as_wanted(bed)


def _declare(bed: Bed, host: str) -> None:
    bed.apply(ingress(SHOP, host, host, service=BACKEND))


def _is_served(bed: Bed, host: str) -> Callable[[], bool]:
    return lambda: host in names(bed, host)


def _is_told(bed: Bed, place: Place, reason: str) -> Callable[[], bool]:
    """Whether an Event of a reason is on an object."""
    kind, namespace, name = place
    on = kind.partition(".")[0], name

    def told() -> bool:
        events = bed.api.list("Event.events.k8s.io", namespace)
        found = [e["regarding"] for e in events if e["reason"] == reason]
        return any((regarding["kind"], regarding["name"]) == on for regarding in found)

    return told


@pytest.fixture
def unrouted(clean_bed: Bed) -> Iterator[Bed]:
    """A cluster with a backend in which acmeistio has never run."""
    clean_bed.service(SHOP, BACKEND)
    clean_bed.unroute()
    yield clean_bed
    clean_bed.stop_acmeistio()
    clean_bed.unroute()  # what a test has added to one would stay


@pytest.fixture
def with_mirrors(clean_bed: Bed, spans: Spans) -> Iterator[Bed]:
    """A cluster where acmeistio has run with EnvoyFilters; with the rights of mirrors.yaml."""
    with spans.record():
        clean_bed.service(SHOP, BACKEND)
        clean_bed.plane.kubectl("apply", "-f", DEPLOY / "mirrors.yaml")
        yield clean_bed
        clean_bed.stop_acmeistio()
        clean_bed.plane.kubectl("delete", "-f", DEPLOY / "mirrors.yaml")


@pytest.fixture
def refused(unrouted: Bed, spans: Spans) -> Iterator[Bed]:
    """A cluster in which acmeistio lacks a right."""
    with spans.record():
        yield unrouted
        unrouted.stop_acmeistio()


@pytest.fixture
def edge(unrouted: Bed, spans: Spans) -> Iterator[Gateway]:
    """A second gateway, in a namespace of its own, with the rights of deploy/gateway.yaml."""
    with spans.record():
        second = unrouted.another_gateway(EDGE)
        unrouted.plane.kubectl("-n", EDGE.namespace, "apply", "-f", DEPLOY / "gateway.yaml")
        unrouted.ca.set_addresses(MOBILE, [second.address])
        yield second
        unrouted.stop_acmeistio()
        unrouted.ca.clear(MOBILE)
        unrouted.plane.kubectl("-n", EDGE.namespace, "delete", "-f", DEPLOY / "gateway.yaml")


def test_they_are_made_at_the_start(unrouted: Bed) -> None:
    """Exactly those that the program says, and for every revision of Istio: no istio.io/rev."""
    assert _ours(unrouted) == {}
    unrouted.start_acmeistio()
    unrouted.wait_for(lambda: _are_as_wanted(unrouted), "the routes are there")
    for body in _ours(unrouted).values():
        assert body["metadata"]["labels"].keys() == {
            "app.kubernetes.io/managed-by",
            "app.kubernetes.io/instance",
            "app.kubernetes.io/name",
        }
    _declare(unrouted, WWW)
    unrouted.wait_for(_is_served(unrouted, WWW), f"{WWW} is served")
    assert unrouted.gateway.rejections() == {}


_ELSEWHERE = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["else.where"]}
CHANGED: dict[str, Object] = {
    "Gateway": {"servers": [_ELSEWHERE]},
    "VirtualService": {"hosts": ["else.where"]},
    "EnvoyFilter": {"configPatches": []},
    "DestinationRule": {"trafficPolicy": {"tls": {"mode": "SIMPLE"}}},
}
"""What somebody may make of the spec of a route, merged."""

ADDED: dict[str, Object] = {
    "Gateway": {"selector": {"app": "elsewhere"}},
    "VirtualService": {"tcp": [{"route": [{"destination": {"host": "elsewhere.example"}}]}]},
    "EnvoyFilter": {"workloadSelector": {"labels": {"app": "elsewhere"}}},
    "DestinationRule": {"workloadSelector": {"matchLabels": {"app": "elsewhere"}}},
}
"""What somebody may add to it, so that it does not do any longer what it must."""


def test_they_are_mended(unrouted: Bed, report: Callable[[str], None]) -> None:
    """Whatever somebody does to them by hand, they are soon as they were."""
    unrouted.start_acmeistio()
    unrouted.wait_for(lambda: _are_as_wanted(unrouted), "the routes are there")
    for what, change in {"changed": CHANGED, "added to": ADDED, "deleted": None}.items():
        for place in _wanted():
            _spoil(unrouted, place, change)
        begin = time.monotonic()
        with suppress(TimeoutError):
            unrouted.wait_for(lambda: _are_as_wanted(unrouted), "all are mended", MENDED_SECONDS)
        assert _not_as_wanted(unrouted) == set(), what
        report(f"route objects {what}: mended after {time.monotonic() - begin:.1f} s")
    assert unrouted.gateway.rejections() == {}


def test_each_is_mended_by_itself(unrouted: Bed) -> None:
    """None is looked at only because another has changed."""
    unrouted.start_acmeistio()
    unrouted.wait_for(lambda: _are_as_wanted(unrouted), "the routes are there")
    for place in _wanted():
        _spoil(unrouted, place, CHANGED)
        unrouted.wait_for(lambda: _are_as_wanted(unrouted), f"{place} is mended", MENDED_SECONDS)


def _spoil(bed: Bed, place: Place, change: dict[str, Object] | None) -> None:
    if change is None:
        bed.api.delete(*place)
    else:
        bed.api.patch(*place, {"spec": change[place[0].partition(".")[0]]})


def test_switched_off(clean_bed: Bed, report: Callable[[str], None]) -> None:
    """Every route is deleted, and no page of a user is disturbed by that."""
    bed = clean_bed
    bed.service(SHOP, BACKEND)
    bed.start_acmeistio()
    _declare(bed, WWW)
    bed.wait_for(_is_served(bed, WWW), f"{WWW} is served")
    bed.stop_acmeistio()
    with Asking(bed.gateway, bed.root, [WWW]) as asking:
        bed.start_acmeistio(routing="off", gateways=bed.gateways(routing="off"))
        bed.wait_for(lambda: _ours(bed) == {}, "all routes are gone")
        time.sleep(QUIET_SECONDS)
    report(f"routing switched off: {asking}")
    assert asking.failures == []
    assert asking.fewest
    assert _ours(bed) == {}


FOREIGN: tuple[Object, ...] = (
    {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "spec": gateway(NAMESPACE, "acmeistio", "theirs.example")["spec"],
    },
    {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "spec": virtual_service(NAMESPACE, "acmeistio", "theirs.example", service=BACKEND)["spec"],
    },
    {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "spec": {"host": "theirs.example"},
    },
)


def test_what_is_not_ours_is_not_touched(unrouted: Bed) -> None:
    """Objects of somebody else with names that routes need: that is told, and the rest works."""
    metadata = {"namespace": NAMESPACE, "name": "acmeistio"}
    before = [unrouted.api.create(body | {"metadata": metadata}) for body in FOREIGN]
    places = {_place(body) for body in before}
    unrouted.start_acmeistio()
    for place in places:
        unrouted.wait_for(_is_told(unrouted, place, "RouteNotManaged"), f"it is told at {place}")
    _declare(unrouted, WWW)
    unrouted.wait_for(_is_served(unrouted, WWW), f"{WWW} is served")
    assert [unrouted.api.get(*_place(body)) for body in before] == before
    assert _ours(unrouted).keys() == _wanted().keys() - places


def _http_route(*hosts: str) -> list[Object]:
    """Gateway API: a Gateway for all hosts, and a user's route."""
    anywhere = {"allowedRoutes": {"namespaces": {"from": "All"}}}
    tls = {"mode": "Terminate", "certificateRefs": [{"name": SECRET_NAME}]}
    listeners = [
        {"name": "http", "port": 80, "protocol": "HTTP", **anywhere},
        {"name": "https", "port": 443, "protocol": "HTTPS", "tls": tls, **anywhere},
    ]
    service = f"istio-ingressgateway.{NAMESPACE}.svc.cluster.local"
    addresses = [{"type": "Hostname", "value": service}]
    annotations = {"acmeistio.io/tls": "true"}
    return [
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"namespace": NAMESPACE, "name": "all", "annotations": annotations},
            "spec": {
                "gatewayClassName": "istio",
                "addresses": addresses,
                "listeners": listeners,
            },
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"namespace": SHOP, "name": "user"},
            "spec": {
                "parentRefs": [{"name": "all", "namespace": NAMESPACE}],
                "hostnames": list(hosts),
                "rules": [{"backendRefs": [{"name": BACKEND, "port": 80}]}],
            },
        },
    ]


def _virtual_service(*hosts: str) -> list[Object]:
    """Istio: a Gateway with these hosts, and a user's route."""
    serving = gateway(SHOP, "user", hosts[0])
    serving["metadata"]["annotations"] = {"acmeistio.io/tls": "true"}
    for server in serving["spec"]["servers"]:
        server["hosts"] = list(hosts)
    routing = virtual_service(SHOP, "user", hosts[0], service=BACKEND)
    routing["spec"]["hosts"] = list(hosts)
    return [serving, routing]


def _ingress(*hosts: str) -> list[Object]:
    return [ingress(SHOP, "user", *hosts, service=BACKEND)]


MIRRORED: dict[str, tuple[Callable[..., list[Object]], str, str]] = {
    "Ingress": (_ingress, "VirtualService.networking.istio.io", "hosts"),
    "VirtualService": (_virtual_service, "VirtualService.networking.istio.io", "hosts"),
    "HTTPRoute": (_http_route, "HTTPRoute.gateway.networking.k8s.io", "hostnames"),
}
"""What writes the sources of a kind; the kind of its mirrors, and where they have their hosts."""


def _mirrored_hosts(bed: Bed, kind: str, field: str) -> list[list[str]]:
    """The hosts of each mirror of a kind."""
    mirrors = _ours(bed)
    for place in _wanted("mirror"):
        del mirrors[place]
    return [sorted(body["spec"][field]) for place, body in mirrors.items() if place[0] == kind]


@pytest.mark.parametrize("kind", MIRRORED)
def test_mirrors(with_mirrors: Bed, report: Callable[[str], None], kind: str) -> None:
    """Where no EnvoyFilter is allowed: beside each route a mirror, which changes and goes with it.

    Certificates are issued through it, and pages stay pages while it comes and changes.
    """
    bed, (write, mirror, field) = with_mirrors, MIRRORED[kind]
    bed.start_acmeistio(routing="mirror")
    bed.wait_for(lambda: _has_no_more_than(bed, "mirror"), "the EnvoyFilters are gone")
    _apply(bed, write(WWW))
    bed.wait_for(_is_served(bed, WWW), f"{WWW} is served")
    assert _mirrored_hosts(bed, mirror, field) == [[WWW]]
    with Asking(bed.gateway, bed.root, [WWW]) as asking:
        _apply(bed, write(WWW, MORE))
        bed.wait_for(_is_served(bed, MORE), f"{MORE} is served")
        assert _mirrored_hosts(bed, mirror, field) == [sorted([WWW, MORE])]
    report(f"the mirror of {kind} gets a host: {asking}")
    assert asking.failures == []
    assert not [place for place in _ours(bed) if place[0].startswith("EnvoyFilter")]
    for body in write(WWW):
        bed.api.delete(*_place(body))
    bed.wait_for(lambda: _has_no_more_than(bed, "mirror"), "the mirror is gone")
    assert bed.gateway.rejections() == {}


def _has_no_more_than(bed: Bed, routing: str) -> bool:
    """Whether nothing but the permanent routes is there."""
    return _ours(bed).keys() == _wanted(routing).keys()


def _apply(bed: Bed, bodies: list[Object]) -> None:
    for body in bodies:
        bed.apply(body)


def test_mirrors_without_the_right(refused: Bed) -> None:
    """The log says which route could not be written; others are served, and no page is lost."""
    program = refused.start_acmeistio(routing="mirror")
    _apply(refused, _virtual_service(WWW))
    refused.wait_for(lambda: _forbidden(program), "it is told")
    assert "deploy/mirrors.yaml" in _forbidden(program)[0]["remedy"]
    _declare(refused, MOBILE)
    refused.wait_for(_is_served(refused, MOBILE), f"{MOBILE} is served")
    assert refused.gateway.get(f"http://{WWW}/").status == 200
    assert refused.gateway.get(f"https://{WWW}/").status == 200


def _forbidden(program: Program) -> list[Object]:
    return [e for e in program.events("defect") if e["reason"] == "RouteForbidden"]


CANARY = Workload(
    NAMESPACE,
    "istio-ingressgateway-canary",
    {"istio": "ingressgateway", "app": "istio-ingressgateway-canary"},
)


def test_two_revisions_of_istio(unrouted: Bed) -> None:
    """In an upgrade each istiod has gateways of its own; the CA may come to those of either."""
    unrouted.service(SHOP, BACKEND)
    with unrouted.another_istiod("canary") as istiod:
        canary = unrouted.another_gateway(CANARY, istiod)
        unrouted.ca.set_addresses(WWW, [canary.address])
        unrouted.start_acmeistio()
        _declare(unrouted, WWW)
        for gateway in (canary, unrouted.gateway):
            unrouted.wait_for(
                lambda g=gateway: g.names(WWW, unrouted.root) == {WWW},  # type: ignore[misc]
                f"{WWW} is served by {gateway.workload.name}",
            )
            assert gateway.get(f"https://{WWW}/").text.startswith(f"Hello from {BACKEND}")
            assert gateway.rejections() == {}
        unrouted.ca.clear(WWW)


EGRESS = Workload(NAMESPACE, "istio-egressgateway", {"istio": "egressgateway"})


def test_egress_gateways_are_left_alone(unrouted: Bed) -> None:
    """Even in the same namespace: nothing of acmeistio's routes is in their configuration."""
    egress = unrouted.another_gateway(EGRESS)
    leaving = gateway(NAMESPACE, "leaving", WWW)
    leaving["spec"] |= {"selector": dict(EGRESS.labels), "servers": leaving["spec"]["servers"][:1]}
    route = virtual_service(NAMESPACE, "leaving", WWW, service=BACKEND)
    destination = {"host": f"{BACKEND}.{SHOP}.svc.cluster.local", "port": {"number": 80}}
    route["spec"]["http"] = [{"route": [{"destination": destination}]}]
    _apply(unrouted, [leaving, route])
    unrouted.start_acmeistio()
    _declare(unrouted, MOBILE)
    unrouted.wait_for(_is_served(unrouted, MOBILE), f"{MOBILE} is served")
    unrouted.wait_for(lambda: _answers(egress, WWW), "the egress gateway answers")
    for words in ("acme-http01", "acme-challenge", "local_reply_config"):
        assert words not in json.dumps(egress.configuration())
        assert words in json.dumps(unrouted.gateway.configuration())


def _answers(gateway: Gateway, host: str) -> bool:
    try:
        return gateway.get(f"http://{host}/").status == 200
    except OSError:
        return False


EDGE = Workload("istio-edge", "edge", {"istio": "edge"})


def _gateways(bed: Bed, second: Gateway) -> str:
    """What acmeistio is told of both."""
    entry: dict[str, Any] = {
        "namespace": EDGE.namespace,
        "selector": dict(EDGE.labels),
        "service": EDGE.name,
        "address": {
            "host": second.address,
            "httpPort": second.http_port,
            "httpsPort": second.https_port,
        },
    }
    return json.dumps([*json.loads(bed.gateways()), entry])


def test_a_gateway_in_another_namespace(unrouted: Bed, edge: Gateway) -> None:
    """Who selects it is served by it, from a Secret beside it; the first goes on as before."""
    bed = unrouted
    bed.start_acmeistio(gateways=_gateways(bed, edge))
    at_edge = _virtual_service(MOBILE)
    at_edge[0]["spec"]["selector"] = dict(EDGE.labels)
    _apply(bed, at_edge)
    _declare(bed, WWW)
    bed.wait_for(
        lambda: edge.names(MOBILE, bed.root) == {MOBILE}, f"{MOBILE} is served at the edge"
    )
    bed.wait_for(lambda: names(bed, WWW) == {WWW}, f"{WWW} is served")
    assert edge.get(f"https://{MOBILE}/").status == 200
    assert bed.api.find("Secret", EDGE.namespace, SECRET_NAME)
    assert not edge.names(WWW, bed.root)
    assert edge.rejections() == bed.gateway.rejections() == {}
