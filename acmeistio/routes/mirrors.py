"""Mirrors: beside each route of a user one of acmeistio's, with the same hosts and gateways.

For meshes that allow no EnvoyFilters. "The same hosts on the same gateways" makes no virtual host
that was not there, so that no other path of a host is taken from anybody. Only what routes a name
that acmeistio is asked for has a mirror, and it goes with the object that it mirrors.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from acmeistio.model import (
    ISTIO_GATEWAY,
    K8S_GATEWAY,
    GatewayWorkload,
    Installation,
    ObjectRef,
    Routing,
)
from acmeistio.names import DnsName, host_matches
from acmeistio.routes import (
    GATEWAY_API_VERSION,
    ISTIO_VERSION,
    MAX_NAME_CHARACTERS,
    NAME,
    PASS_MARK,
    PATH_PREFIX,
    ROUTE_NAME,
    SERVICE_PORT,
    Route,
    challenge_rule,
    derived_name,
    is_ours,
    new,
)
from acmeistio.routes.permanent import base_name
from acmeistio.sources import Manifests, untrusted
from acmeistio.sources.addresses import class_of
from acmeistio.sources.annotations import asks
from acmeistio.sources.ingress import GATEWAY_SUFFIX, controllers_of, not_processed_because
from acmeistio.sources.listeners import LISTENER_SET, attachments_of, parent_of
from acmeistio.sources.servers import gateways_of, hosts_of, selector_of


def mirrors(
    installation: Installation, manifests: Manifests, names: Collection[DnsName]
) -> Iterator[Route]:
    """All mirrors that are needed for the names that acmeistio is asked for."""
    mirrored = [w for w in installation.gateways if w.routing is Routing.MIRROR]
    if not mirrored and installation.routing is not Routing.MIRROR:
        return
    wanted = _Wanted(names)
    for workload in mirrored:
        yield from _of_ingresses(workload, installation, manifests, wanted)
    if mirrored:
        yield from _of_virtual_services(installation, manifests, wanted)
    if installation.routing is Routing.MIRROR:
        yield from _of_http_routes(installation, manifests, wanted)


class _Wanted:
    """The names that certificates are asked for, to be looked up by the hosts of routes."""

    def __init__(self, names: Collection[DnsName]) -> None:
        self._names = frozenset(names)
        self._wildcards = frozenset(
            f"*.{parent}" for name in names for parent in _parents(name) if parent
        )

    def has_any(self, hosts: Iterable[str]) -> bool:
        """Whether one of the hosts of a route includes one of the names (names.host_matches)."""
        return any(
            host in self._names or host in self._wildcards or (host == "*" and self._names)
            for host in hosts
        )


def _parents(name: DnsName) -> Iterator[str]:
    """`a.b.c` → `b.c`, `c`."""
    parent = name.partition(".")[2]
    while parent:
        yield parent
        parent = parent.partition(".")[2]


def _of_ingresses(
    workload: GatewayWorkload,
    installation: Installation,
    manifests: Manifests,
    wanted: _Wanted,
) -> Iterator[Route]:
    """On our own Gateway, for port 80, and on the one that istiod makes of the Ingress."""
    if workload not in installation.selected(installation.ingress_selector):
        return
    classes = controllers_of(manifests.get("IngressClass", ()))
    for ingress in manifests.get("Ingress", ()):
        if not_processed_because(ingress, classes, installation):
            continue
        ref = untrusted.reference(ingress)
        hosts = _routed(ingress)
        if not wanted.has_any(hosts):
            continue
        gateways = [base_name(workload, installation)]
        theirs = f"{ref.name}{GATEWAY_SUFFIX}{ref.namespace}"
        if len(theirs) <= MAX_NAME_CHARACTERS:
            gateways.append(f"{installation.root_namespace}/{theirs}")
        for number, group in enumerate(_apart(hosts)):
            which = [base_name(workload, installation)] + ([str(number)] if number else [])
            name = derived_name("ingress", ref.namespace, ref.name, *which)
            yield _virtual_service(workload.namespace, name, group, gateways, ["."], installation)


def _routed(ingress: Mapping[str, Any]) -> list[str]:
    """The hosts of rules; one without paths is dropped by Istio, and makes no virtual host."""
    rules = map(
        untrusted.mapping, untrusted.sequence(untrusted.mapping(ingress, "spec").get("rules"))
    )
    return [untrusted.text(rule.get("host")) or "*" for rule in rules if "http" in rule]


def _apart(hosts: Iterable[str]) -> list[list[str]]:
    """The hosts in groups without overlap: Istio takes no VirtualService with `*` and `a.org`."""
    groups: list[list[str]] = []
    for host in sorted(set(hosts), key=lambda host: (host.startswith("*"), host)):
        for group in groups:
            if not any(host_matches(host, other) or host_matches(other, host) for other in group):
                group.append(host)
                break
        else:
            groups.append([host])
    return groups


def _of_virtual_services(
    installation: Installation, manifests: Manifests, wanted: _Wanted
) -> Iterator[Route]:
    """Beside each, in its namespace: so it is admitted where `namespace/host` admits only that."""
    mirrored = _mirrored_gateways(installation, manifests)
    for virtual_service in manifests.get("VirtualService", ()):
        ref, hosts = untrusted.reference(virtual_service), hosts_of(virtual_service)
        if is_ours(virtual_service) or not wanted.has_any(hosts) or not _http(virtual_service):
            continue
        seen = {
            gateway: [ns for ns in mirrored[gateway] if _is_exported(virtual_service, ns)]
            for gateway in gateways_of(virtual_service)
            if gateway in mirrored
        }
        gateways = [f"{ref.namespace}/{ref.name}" for ref, namespaces in seen.items() if namespaces]
        if gateways:
            export_to = sorted({ns for namespaces in seen.values() for ns in namespaces})
            name = derived_name("virtualservice", ref.name)
            mirror = _virtual_service(
                ref.namespace, name, list(hosts), gateways, export_to, installation
            )
            yield _owned(mirror, virtual_service)


def _mirrored_gateways(
    installation: Installation, manifests: Manifests
) -> dict[ObjectRef, list[str]]:
    """The Gateways of pods that want mirrors, each with the namespaces of these pods."""
    found = {
        untrusted.reference(gateway): [
            workload.namespace
            for workload in installation.selected(selector_of(gateway))
            if workload.routing is Routing.MIRROR
        ]
        for gateway in manifests.get(ISTIO_GATEWAY, ())
    }
    return {ref: namespaces for ref, namespaces in found.items() if namespaces}


def _http(virtual_service: Mapping[str, Any]) -> bool:
    """One of TCP or TLS only makes no virtual host, and its mirror must not make one either."""
    return bool(untrusted.sequence(untrusted.mapping(virtual_service, "spec").get("http")))


def _is_exported(virtual_service: Mapping[str, Any], namespace: str) -> bool:
    """Whether the gateways of a namespace see it."""
    export_to = untrusted.texts(untrusted.mapping(virtual_service, "spec").get("exportTo"))
    own = untrusted.reference(virtual_service).namespace
    return (
        not export_to
        or "*" in export_to
        or namespace in export_to
        or ("." in export_to and own == namespace)
    )


def _virtual_service(
    namespace: str,
    name: str,
    hosts: list[str],
    gateways: list[str],
    export_to: list[str],
    installation: Installation,
) -> Route:
    """A mirror leaves alone what was handed back: the CA of another client follows the redirect."""
    rule = challenge_rule(installation)
    [match] = rule["match"]
    unmarked = {**match, "withoutHeaders": {":path": {"regex": rf".*[?&]{PASS_MARK}([=&].*)?"}}}
    spec = {
        "exportTo": export_to,
        "gateways": gateways,
        "hosts": hosts,
        "http": [{**rule, "match": [unmarked]}],
    }
    return new(ISTIO_VERSION, "VirtualService", namespace, name, spec)


def _of_http_routes(
    installation: Installation, manifests: Manifests, wanted: _Wanted
) -> Iterator[Route]:
    """Beside each, with the same parents; and a grant for each namespace to reach acmeistio."""
    parents = _istio_parents(installation, manifests)
    namespaces: set[str] = set()
    for route in manifests.get("HTTPRoute", ()):
        spec, ref = untrusted.mapping(route, "spec"), untrusted.reference(route)
        hosts = untrusted.texts(spec.get("hostnames"))
        if is_ours(route) or not wanted.has_any(hosts or ("*",)):
            continue
        above = [p for p in untrusted.sequence(spec.get("parentRefs")) if _is_of(p, ref, parents)]
        if not above:
            continue
        namespaces.add(ref.namespace)
        mirror = _http_route(ref.namespace, derived_name("httproute", ref.name), installation)
        mirror["spec"] |= {"parentRefs": above, **({"hostnames": [*hosts]} if hosts else {})}
        yield _owned(mirror, route)
    for namespace in sorted(namespaces - {installation.namespace}):
        yield _grant(namespace, installation)


def _istio_parents(installation: Installation, manifests: Manifests) -> frozenset[ObjectRef]:
    """The Gateways of Istio's class, or that ask for certificates, and their ListenerSets.

    In a cluster there may be others, of other controllers, which nobody asked acmeistio to serve.
    """
    gateways = frozenset(
        untrusted.reference(gateway)
        for gateway in manifests.get(K8S_GATEWAY, ())
        if class_of(gateway) == installation.gateway_class
        or asks(untrusted.annotations_of(gateway), installation)
    )
    sets = manifests.get(LISTENER_SET, ())
    return gateways | {untrusted.reference(s) for s in sets if parent_of(s) in gateways}


def _is_of(parent: object, route: ObjectRef, parents: frozenset[ObjectRef]) -> bool:
    """Whether a parentRef of a route is one of these; those to Services are none."""
    metadata = {"namespace": route.namespace, "name": route.name}
    alone = {"kind": route.kind, "metadata": metadata, "spec": {"parentRefs": [parent]}}
    return any(attachment.parent in parents for attachment in attachments_of(alone))


def _http_route(namespace: str, name: str, installation: Installation) -> Route:
    backend = {"name": NAME, "namespace": installation.namespace, "port": SERVICE_PORT}
    path = {"type": "PathPrefix", "value": PATH_PREFIX.rstrip("/")}
    rule = {"name": ROUTE_NAME, "matches": [{"path": path}], "backendRefs": [backend]}
    return new(GATEWAY_API_VERSION, "HTTPRoute", namespace, name, {"rules": [rule]})


def _grant(namespace: str, installation: Installation) -> Route:
    origin = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": namespace}
    spec = {"from": [origin], "to": [{"group": "", "kind": "Service", "name": NAME}]}
    name = derived_name("from", namespace)
    return new(
        "gateway.networking.k8s.io/v1beta1", "ReferenceGrant", installation.namespace, name, spec
    )


def _owned(mirror: Route, original: Mapping[str, Any]) -> Route:
    """A mirror that the API server deletes with what it mirrors, even while nobody else looks."""
    uid = untrusted.text(untrusted.mapping(original, "metadata").get("uid"))
    if uid:
        owner = {
            "apiVersion": original["apiVersion"],
            "kind": original["kind"],
            "name": original["metadata"]["name"],
            "uid": uid,
        }
        mirror["metadata"]["ownerReferences"] = [owner]
    return mirror
