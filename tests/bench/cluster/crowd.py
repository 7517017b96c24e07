"""What a cluster with many teams has declared: most of it asks acmeistio for nothing. Pure.

2,000 Ingresses, 200 Istio Gateways with a VirtualService each, 20 Gateways of the Gateway API with
10 HTTPRoutes each, in the namespaces of 20 teams; they look as Helm leaves them. Half of the
Ingresses are HTTP only; what has HTTPS has it from a Secret that somebody else fills. 50 objects
ask acmeistio, for 68 names in its default Secret.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from tests.bench.cases import DOMAIN
from tests.cluster.api import Object
from tests.cluster.bed import SECRET_NAME
from tests.cluster.gateway import INGRESS_GATEWAY

INGRESSES, ISTIO_GATEWAYS, GATEWAYS, ROUTES_EACH = 2000, 200, 20, 10
TEAMS = tuple(f"team-{number:02}" for number in range(20))
BACKEND = "web"
"""The Service of each team."""
OTHER_SECRET = "wildcard"
"""In the gateway's namespace: a certificate that is none of acmeistio's business."""

INGRESSES_PER_ASKING, ISTIO_GATEWAYS_PER_ASKING, GATEWAYS_PER_ASKING = 50, 25, 10
"""One in so many asks."""
ASKING = (
    INGRESSES // INGRESSES_PER_ASKING
    + ISTIO_GATEWAYS // ISTIO_GATEWAYS_PER_ASKING
    + GATEWAYS // GATEWAYS_PER_ASKING
)
NAMES = ASKING + GATEWAYS // GATEWAYS_PER_ASKING * (ROUTES_EACH - 1)
"""What is asked for; a Gateway of the Gateway API asks for the hosts of its HTTPRoutes."""


def objects() -> list[Object]:
    """All of them; a Gateway comes before what is bound to it."""
    return [*_ingresses(), *_of_istio(), *_of_gateway_api()]


def last_hosts() -> tuple[str, ...]:
    """One host of each sort; when the gateway serves these, it has heard of nearly all."""
    return (
        _host("i", INGRESSES - 1),
        _host("v", ISTIO_GATEWAYS - 1),
        _route_host(GATEWAYS - 1, ROUTES_EACH - 1),
    )


def silent_ingresses(count: int) -> list[tuple[str, str]]:
    """Namespace and name of so many Ingresses that ask for nothing, spread over the teams."""
    silent = (number for number in range(INGRESSES) if number % INGRESSES_PER_ASKING)
    return [(_team(number), f"ingress-{number}") for number in islice(silent, count)]


def _ingresses() -> Iterator[Object]:
    for number in range(INGRESSES):
        asks = number % INGRESSES_PER_ASKING == 0
        has_tls = asks or number % 2
        secret = SECRET_NAME if asks else OTHER_SECRET
        host = _host("i", number)
        spec: Object = {
            "ingressClassName": "istio",
            "rules": [{"host": host, "http": {"paths": [_path("/"), _path("/api")]}}],
        }
        if has_tls:
            spec["tls"] = [{"hosts": [host], "secretName": secret}]
        name = f"ingress-{number}"
        yield _object("networking.k8s.io/v1", "Ingress", _team(number), name, spec, asks=asks)


def _path(path: str) -> Object:
    backend = {"service": {"name": BACKEND, "port": {"number": 80}}}
    return {"path": path, "pathType": "Prefix", "backend": backend}


def _of_istio() -> Iterator[Object]:
    for number in range(ISTIO_GATEWAYS):
        asks = number % ISTIO_GATEWAYS_PER_ASKING == 0
        team, name, host = _team(number), f"gateway-{number}", _host("v", number)
        destination = {"host": f"{BACKEND}.{team}.svc.cluster.local", "port": {"number": 80}}
        gateway = {
            "selector": {"istio": "ingressgateway"},
            "servers": [
                {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": [host]},
                {
                    "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
                    "hosts": [host],
                    "tls": {"mode": "SIMPLE", "credentialName": _secret(asks=asks)},
                },
            ],
        }
        virtual_service = {
            "hosts": [host],
            "gateways": [name],
            "http": [{"route": [{"destination": destination}]}],
        }
        version = "networking.istio.io/v1"
        yield _object(version, "Gateway", team, name, gateway, asks=asks)
        yield _object(version, "VirtualService", team, name, virtual_service)


def _of_gateway_api() -> Iterator[Object]:
    """The platform owns the Gateways, one for each team, beside their Secrets."""
    version, namespace = "gateway.networking.k8s.io/v1", INGRESS_GATEWAY.namespace
    for number in range(GATEWAYS):
        asks = number % GATEWAYS_PER_ASKING == 0
        name = f"gateway-{number}"
        service = f"{INGRESS_GATEWAY.name}.{namespace}.svc.cluster.local"
        gateway = {
            "gatewayClassName": "istio",
            "addresses": [{"type": "Hostname", "value": service}],
            "listeners": _listeners(f"*.{_parent(number)}", _secret(asks=asks)),
        }
        yield _object(version, "Gateway", namespace, name, gateway, asks=asks)
        for each in range(ROUTES_EACH):
            route = {
                "parentRefs": [{"name": name, "namespace": namespace}],
                "hostnames": [_route_host(number, each)],
                "rules": [{"backendRefs": [{"name": BACKEND, "port": 80}]}],
            }
            yield _object(version, "HTTPRoute", _team(number), f"route-{number}-{each}", route)


def _listeners(hostname: str, secret: str) -> list[Object]:
    shared = {"hostname": hostname, "allowedRoutes": {"namespaces": {"from": "All"}}}
    return [
        {"name": "http", "port": 80, "protocol": "HTTP", **shared},
        {
            "name": "https",
            "port": 443,
            "protocol": "HTTPS",
            "tls": {"mode": "Terminate", "certificateRefs": [{"name": secret}]},
            **shared,
        },
    ]


def _object(
    version: str, kind: str, namespace: str, name: str, spec: Object, *, asks: bool = False
) -> Object:
    annotations = {"meta.helm.sh/release-name": name, "meta.helm.sh/release-namespace": namespace}
    if asks:
        annotations["acmeistio.io/tls"] = "true"
    labels = {
        "app.kubernetes.io/name": BACKEND,
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/version": "1.27.3",
        "app.kubernetes.io/managed-by": "Helm",
        "helm.sh/chart": f"{BACKEND}-4.2.0",
    }
    metadata: dict[str, Any] = {
        "namespace": namespace,
        "name": name,
        "labels": labels,
        "annotations": annotations,
    }
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _secret(*, asks: bool) -> str:
    return SECRET_NAME if asks else OTHER_SECRET


def _team(number: int) -> str:
    return TEAMS[number % len(TEAMS)]


def _host(sort: str, number: int) -> str:
    return f"{sort}{number}.{DOMAIN}"


def _parent(number: int) -> str:
    return f"api{number}.{DOMAIN}"


def _route_host(gateway: int, route: int) -> str:
    return f"r{route}.{_parent(gateway)}"
