"""Which object of a user a host belongs to, as Envoy chooses a virtual host. Pure.

Owns the choice among the users' own routes, to be named beside what a probe found. It knows
nothing of probes, and not which gateway serves an object.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from acmeistio.model import ObjectRef
from acmeistio.names import DnsName, host_matches
from acmeistio.routes import is_ours
from acmeistio.sources import Manifest, Manifests
from acmeistio.sources.untrusted import created_at, mapping, reference, sequence, text, texts

ANY: Final = "*"
"""The host of what names none."""

_SIDECARS: Final = "mesh"
"""What VirtualServices call all proxies that are no gateways; also where they name none."""
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


def owner_of(name: DnsName, manifests: Manifests) -> ObjectRef | None:
    """The object that has the most specific host for `name`; among equals the oldest.

    acmeistio's own routes, which stand before those of every host, are no owners.
    """
    claims = [*_claims(name, manifests)]
    return min(claims)[-1] if claims else None


def _claims(
    name: DnsName, manifests: Manifests
) -> Iterator[tuple[int, datetime, str, str, ObjectRef]]:
    """Every object that has a host for `name`, so that the least one owns it."""
    for kind, hosts_of in _HOSTS_OF.items():
        for manifest in manifests.get(kind, ()):
            specificity = max((_specificity(host, name) for host in hosts_of(manifest)), default=0)
            if specificity and not is_ours(manifest):
                ref, age = reference(manifest), created_at(manifest) or _NEVER
                yield -specificity, age, ref.namespace, ref.name, ref


def _specificity(host: str, name: DnsName) -> int:
    """How well a host stands for `name`: the name itself before a longer suffix before all."""
    host = host.lower()
    if not host_matches(host, name):
        return 0
    return len(host) + (host == name)


def _of_ingress(manifest: Manifest) -> Iterable[str]:
    """Of the rules: what only `tls` names has a certificate and no route."""
    rules = sequence(mapping(manifest, "spec").get("rules"))
    return [text(mapping(rule).get("host")) or ANY for rule in rules]


def _of_virtual_service(manifest: Manifest) -> Iterable[str]:
    """Where a gateway is named."""
    spec = mapping(manifest, "spec")
    gateways = {*texts(spec.get("gateways"))} - {_SIDECARS}
    return texts(spec.get("hosts")) if gateways else ()


def _of_http_route(manifest: Manifest) -> Iterable[str]:
    """Without hostnames it has those of its listener, which may be all."""
    spec = mapping(manifest, "spec")
    parents = [mapping(parent) for parent in sequence(spec.get("parentRefs"))]
    if parents and all(parent.get("kind") == "Service" for parent in parents):
        return ()  # a route between Services, at no gateway
    return texts(spec.get("hostnames")) or (ANY,)


_HOSTS_OF: Final = {
    "Ingress": _of_ingress,
    "VirtualService": _of_virtual_service,
    "HTTPRoute": _of_http_route,
}
