"""What stands or is planted between a client and acmeistio: objects that break a way, and relays.

Each object is as short as a user could have written it. Knows nothing of what acmeistio says of it.
"""

from __future__ import annotations

import base64
import select
import socket
import socketserver
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Thread
from typing import Any

from tests.cluster.api import Object
from tests.cluster.bed import NAMESPACE, Bed
from tests.cluster.manifests import gateway, virtual_service

PREFIX = "/.well-known/acme-challenge/"
RELAYED_SECONDS = 10.0
PROXY_HEADER = b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 80\r\n"
"""How a load balancer that speaks the PROXY protocol begins a connection."""

_SERVICE = f"acmeistio.{NAMESPACE}.svc.cluster.local"
_SELECTOR = {"istio": "ingressgateway"}


def routes_by_hand() -> list[Object]:
    """What an administrator writes who has told acmeistio to write no routes: for all hosts."""
    server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    route = {"match": {"prefix": PREFIX}, "route": {"cluster": f"outbound|80||{_SERVICE}"}}
    patch = {"operation": "INSERT_FIRST", "value": {"name": "by-hand", **route}}
    return [
        _istio("Gateway", "by-hand", {"selector": _SELECTOR, "servers": [server]}),
        to_acmeistio("by-hand", "*"),
        _filter("by-hand", "HTTP_ROUTE", {}, patch),
    ]


def to_acmeistio(gateway_name: str, host: str) -> Object:
    """A VirtualService beside a Gateway of istio-system: the challenge path leads where it must."""
    rule = {
        "match": [{"uri": {"prefix": PREFIX}}],
        "route": [{"destination": {"host": _SERVICE, "port": {"number": 80}}}],
    }
    spec = {"hosts": [host], "gateways": [gateway_name], "http": [rule]}
    return _istio("VirtualService", gateway_name, spec)


def only_port(number: int, body: Object) -> Object:
    """A Gateway without its servers of other ports."""
    servers = [s for s in body["spec"]["servers"] if s["port"]["number"] == number]
    return {**body, "spec": {**body["spec"], "servers": servers}}


def redirecting_path(host: str, to: str) -> list[Object]:
    """The host of a VirtualService shop/web that redirects the challenge path to some host."""
    routes = virtual_service("shop", "web", host, service="web")
    rule = {"match": [{"uri": {"prefix": PREFIX}}], "redirect": {"authority": to}}
    routes["spec"]["http"].insert(0, rule)
    return [gateway("shop", "web", host), routes]


def client_root(name: str, certificate_pem: bytes) -> Object:
    """The Secret that says whose clients a server with MUTUAL takes."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": NAMESPACE, "name": name},
        "data": {"ca.crt": base64.b64encode(certificate_pem).decode()},
    }


def denial(rule: Mapping[str, Any]) -> Object:
    """An AuthorizationPolicy at the gateway: requests that the rule is about are answered 403."""
    spec = {"selector": {"matchLabels": _SELECTOR}, "action": "DENY", "rules": [rule]}
    body = _istio("AuthorizationPolicy", "denial", spec)
    return {**body, "apiVersion": "security.istio.io/v1"}


def proxy_protocol(port: int) -> Object:
    """An EnvoyFilter: on this port the gateway wants to be told first who the client is."""
    types = "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3"
    value = {
        "name": "envoy.filters.listener.proxy_protocol",
        "typed_config": {"@type": f"{types}.ProxyProtocol"},
    }
    match = {"listener": {"portNumber": port}}
    patch = {"operation": "INSERT_FIRST", "value": value}
    return _filter("proxy-protocol", "LISTENER_FILTER", match, patch)


@contextmanager
def without(bed: Bed, kind: str, namespace: str, name: str) -> Iterator[None]:
    """As long as the block lasts an object is not there."""
    body = bed.api.get(kind, namespace, name)
    bed.api.delete(kind, namespace, name)
    try:
        yield
    finally:
        known = {key: body[key] for key in ("apiVersion", "kind", "spec")}
        bed.apply({**known, "metadata": {"namespace": namespace, "name": name}})


@contextmanager
def relay(at: tuple[str, int], to: tuple[str, int], *, header: bytes = b"") -> Iterator[Relay]:
    """Pass on what comes at an address, after a header; port 0 is any free one."""
    with Relay(at, to, header) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Relay(socketserver.ThreadingTCPServer):
    """Of TCP, such as a load balancer is. Its `connections` are counted."""

    allow_reuse_address = True

    def __init__(self, at: tuple[str, int], to: tuple[str, int], header: bytes) -> None:
        self.address_family = socket.AF_INET6 if ":" in at[0] else socket.AF_INET
        self.to, self.header, self.connections = to, header, 0
        super().__init__(at, _Relayed)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])


class _Relayed(socketserver.BaseRequestHandler):
    server: Relay

    def handle(self) -> None:
        """One connection, until either side ends it."""
        self.server.connections += 1
        with socket.create_connection(self.server.to, RELAYED_SECONDS) as onward:
            onward.sendall(self.server.header)
            other = {self.request: onward, onward: self.request}
            while ready := select.select([*other], [], [], RELAYED_SECONDS)[0]:
                for side in ready:
                    try:
                        data = side.recv(65536)
                    except ConnectionError:
                        return
                    if not data:
                        return
                    other[side].sendall(data)


def _istio(kind: str, name: str, spec: Mapping[str, Any]) -> Object:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": {"namespace": NAMESPACE, "name": name},
        "spec": dict(spec),
    }


def _filter(name: str, apply_to: str, match: Mapping[str, Any], patch: Mapping[str, Any]) -> Object:
    patches = [{"applyTo": apply_to, "match": {"context": "GATEWAY", **match}, "patch": patch}]
    body = _istio("EnvoyFilter", name, {"configPatches": patches})
    return {**body, "apiVersion": "networking.istio.io/v1alpha3"}
