"""The route objects that are the same whatever anybody declares: one set for each gateway.

A Gateway that opens port 80, a VirtualService for hosts that nobody routes, and two EnvoyFilters:
one puts acmeistio's route before all others of every host, the other has clients ask again that
came on the connection of another host. They select the pods of the gateway, so that egress gateways
and waypoints of the mesh are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from acmeistio.model import GatewayWorkload, Installation, Routing
from acmeistio.routes import (
    ISTIO_VERSION,
    NAME,
    PASS_MARK,
    PATH_PREFIX,
    ROUTE_NAME,
    SERVICE_PORT,
    Route,
    challenge_rule,
    labelled,
    new,
    service_host,
)

FILTER_VERSION = "networking.istio.io/v1alpha3"
GATEWAY_CLASS_LABEL = "gateway.networking.k8s.io/gateway-class-name"
"""On pods of gateways that Istio deploys for Gateways of the Gateway API."""
MISDIRECTED = "misdirected"
DESTINATION_RULE = "DestinationRule"

_CONNECTION_MANAGER = "envoy.filters.network.http_connection_manager"
_TYPES = "type.googleapis.com/envoy.extensions"
_OF_ANOTHER_HOST = (
    'connection.requested_server_name != "" && '
    "request.host != connection.requested_server_name && "
    "!(request.host.startsWith(connection.requested_server_name) && "
    'request.host.contains(":"))'
)
"""A host may carry a port; and example.co is not example.com."""


def permanent(installation: Installation) -> Iterator[Route]:
    """All of them for an installation."""
    return (labelled(route, installation) for route in _permanent(installation))


def _permanent(installation: Installation) -> Iterator[Route]:
    routed = [w for w in installation.gateways if w.routing is not Routing.OFF]
    for workload in routed:
        name = base_name(workload, installation)
        yield _gateway(workload, name)
        yield _virtual_service(workload, name, installation)
        if workload.routing is Routing.FILTER:
            yield from _filters(workload.namespace, name, workload.selector, installation)
    if installation.gateway_class and installation.routing is Routing.FILTER:
        # They may be in any namespace; a filter of the root namespace counts in all.
        labels = {GATEWAY_CLASS_LABEL: installation.gateway_class}
        name = f"{NAME}-gateway-api"
        yield from _filters(installation.root_namespace, name, labels, installation)
    if routed or installation.routing is not Routing.OFF:
        yield _destination_rule(installation)


def base_name(workload: GatewayWorkload, installation: Installation) -> str:
    """The name of a gateway's objects; of several in one namespace the later say which.

    `at` keeps them apart from the names of what one gateway has several of.
    """
    here = [w for w in installation.gateways if w.namespace == workload.namespace]
    return NAME if here[0] is workload else f"{NAME}-at-{workload.service}"


def _gateway(workload: GatewayWorkload, name: str) -> Route:
    port = {"number": workload.http_port, "name": "http-acme", "protocol": "HTTP"}
    servers = [{"port": port, "hosts": ["*"]}]
    spec = {"selector": dict(workload.selector), "servers": servers}
    return new(ISTIO_VERSION, "Gateway", workload.namespace, name, spec)


def _virtual_service(workload: GatewayWorkload, name: str, installation: Installation) -> Route:
    spec = {
        "exportTo": ["."],
        "gateways": [name],
        "hosts": ["*"],
        "http": [challenge_rule(installation)],
    }
    return new(ISTIO_VERSION, "VirtualService", workload.namespace, name, spec)


def _destination_rule(installation: Installation) -> Route:
    """Plain HTTP to acmeistio, which has no sidecar, even where all hosts have mutual TLS."""
    spec = {
        "host": service_host(installation),
        "trafficPolicy": {"tls": {"mode": "DISABLE"}},
    }
    return new(ISTIO_VERSION, DESTINATION_RULE, installation.namespace, NAME, spec)


def _filters(
    namespace: str, name: str, labels: Mapping[str, str], installation: Installation
) -> Iterator[Route]:
    for each, patch in (
        (name, _first_route(installation)),
        (f"{name}-{MISDIRECTED}", _misdirected()),
    ):
        spec = {"workloadSelector": {"labels": dict(labels)}, "configPatches": [patch]}
        yield new(FILTER_VERSION, "EnvoyFilter", namespace, each, spec)


def _first_route(installation: Installation) -> dict[str, Any]:
    """The CA's path before the routes of every host, over HTTP and over HTTPS.

    It takes nothing from anybody: a token that is not acmeistio's comes back from it as a redirect
    with a mark in the query, which the gateway follows itself, past this route, to whatever answers
    that path otherwise.
    """
    unmarked = {"name": PASS_MARK, "present_match": False}
    route = {
        "cluster": f"outbound|{SERVICE_PORT}||{service_host(installation)}",
        "internal_redirect_policy": {"max_internal_redirects": 1, "redirect_response_codes": [302]},
    }
    value = {
        "name": ROUTE_NAME,
        "match": {"prefix": PATH_PREFIX, "query_parameters": [unmarked]},
        "route": route,
    }
    return {
        "applyTo": "HTTP_ROUTE",
        "match": {"context": "GATEWAY"},
        "patch": {"operation": "INSERT_FIRST", "value": value},
    }


def _misdirected() -> dict[str, Any]:
    """421 (RFC 9110 §15.5.20) in place of 404 on the connection of another host.

    Browsers use a connection for every host that its certificate covers, and the gateway has no
    route for it there. A 404 of the right host stays one, as does every answer over plain HTTP.
    """
    expression = {
        "@type": f"{_TYPES}.access_loggers.filters.cel.v3.ExpressionFilter",
        "expression": _OF_ANOTHER_HOST,
    }
    no_route = {"response_flag_filter": {"flags": ["NR"]}}
    another_host = {
        "extension_filter": {
            "name": "envoy.access_loggers.extension_filters.cel",
            "typed_config": expression,
        }
    }
    mapper = {"status_code": 421, "filter": {"and_filter": {"filters": [no_route, another_host]}}}
    config = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "local_reply_config": {"mappers": [mapper]},
    }
    listener = {"filterChain": {"filter": {"name": _CONNECTION_MANAGER}}}
    return {
        "applyTo": "NETWORK_FILTER",
        "match": {"context": "GATEWAY", "listener": listener},
        "patch": {"operation": "MERGE", "value": {"typed_config": config}},
    }
