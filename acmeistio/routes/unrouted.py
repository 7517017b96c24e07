"""A VirtualService for hosts that nobody routes behind somebody's redirect of all hosts to HTTPS.

Envoy redirects before any route counts, and over HTTPS such a host has no virtual host, so that no
EnvoyFilter finds a place for a route. It gets one where a user's Gateway serves every host.
"""

from __future__ import annotations

from collections.abc import Iterator

from acmeistio.model import ISTIO_GATEWAY, GatewayWorkload, Installation, Routing
from acmeistio.routes import ISTIO_VERSION, Route, challenge_rule, is_ours, new
from acmeistio.routes.permanent import base_name
from acmeistio.sources import Manifests, untrusted
from acmeistio.sources.servers import Server, selector_of, servers_of

UNROUTED = "unrouted"
_ALL = "*"


def unrouted(installation: Installation, manifests: Manifests) -> Iterator[Route]:
    """One for each gateway that needs it."""
    for workload in installation.gateways:
        gateways = sorted(_bound(workload, installation, manifests))
        if workload.routing is not Routing.OFF and gateways:
            name = f"{base_name(workload, installation)}-{UNROUTED}"
            spec = {
                "exportTo": ["."],
                "gateways": gateways,
                "hosts": [_ALL],
                "http": [challenge_rule(installation)],
            }
            yield new(ISTIO_VERSION, "VirtualService", workload.namespace, name, spec)


def _bound(
    workload: GatewayWorkload, installation: Installation, manifests: Manifests
) -> list[str]:
    """The Gateways of users that serve all hosts with TLS, where one redirects them there."""
    gateways = [
        (untrusted.reference(gateway), servers_of(gateway))
        for gateway in manifests.get(ISTIO_GATEWAY, ())
        if not is_ours(gateway) and workload in installation.selected(selector_of(gateway))
    ]
    if not any(server.redirects and _serves_all(server) for _, ss in gateways for server in ss):
        return []
    return [
        f"{ref.namespace}/{ref.name}"
        for ref, servers in gateways
        if any(server.terminates and _serves_all(server) for server in servers)
        and all(map(_only_all, servers))
    ]


def _serves_all(server: Server) -> bool:
    return any(host.host == _ALL and host.namespace == _ALL for host in server.hosts)


def _only_all(server: Server) -> bool:
    """Whether a VirtualService for `*` makes no virtual host here that was not there before.

    On a server of one host it would make one, and take its other paths from whoever has them now.
    """
    return all(host.host == _ALL for host in server.hosts)
