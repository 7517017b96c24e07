"""Where the pods of a Gateway of the Gateway API answer from inside the cluster.

Owns which Services are a Gateway's: those that it names, else the one that Istio makes for it
(istio/istio pilot/pkg/config/kube/gateway and gatewaycommon). Whoever may write a Gateway may write
any text there, so nothing is an address but a Service of the Gateway's own namespace.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from acmeistio.model import GatewayAddress, GatewayWorkload, Installation
from acmeistio.sources import Manifest, untrusted
from acmeistio.sources.listeners import HTTP, Listener

NAME_OVERRIDE = "gateway.istio.io/name-override"
"""On a Gateway: the name of the Service that Istio makes for it."""
CLASSES_WITHOUT_SUFFIX = ("istio-agentgateway",)
"""Their Services have the Gateway's own name (gatewaycommon, DisableNameSuffix)."""

HTTP_PORT, HTTPS_PORT = 80, 443

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def reached_at(
    gateway: Manifest, installation: Installation, http_port: int, https_port: int = HTTPS_PORT
) -> tuple[GatewayAddress, ...]:
    """Where the names of a listener are asked for."""
    return tuple(
        installation.address_of(workload)
        if workload
        else GatewayAddress(host, http_port, https_port)
        for host, workload in workloads_of(gateway, installation)
    )


def http_port_of(listeners: Iterable[Listener]) -> int:
    """The port for plain HTTP: the one that the CA asks at if it is there, else the first."""
    ports = [listener.port for listener in listeners if listener.protocol == HTTP]
    return HTTP_PORT if HTTP_PORT in ports or not ports else ports[0]


def workloads_of(
    gateway: Manifest, installation: Installation
) -> list[tuple[str, GatewayWorkload | None]]:
    """The Services of a Gateway by their hosts, with the pods that the installation knows.

    None where it has no Service that can be: then nobody knows where it answers.
    """
    own = untrusted.reference(gateway).namespace
    services = (s for s in _services_of(gateway, installation) if s.namespace == own)
    return [
        (installation.service_host(*service), _pods_of(service, installation))
        for service in dict.fromkeys(services)
    ]


def elsewhere(gateway: Manifest, installation: Installation) -> tuple[str, str] | None:
    """A Service that a Gateway names and Istio does not take, and its namespace; None if none.

    It must be one of the Gateway's own namespace (AddressNotUsable).
    """
    own = untrusted.reference(gateway).namespace
    for service in _services_of(gateway, installation):
        if service.namespace != own:
            return f"{service.name}.{service.namespace}", service.namespace
    return None


def class_of(gateway: Manifest) -> str:
    """The name of a Gateway's GatewayClass."""
    return untrusted.text(untrusted.mapping(gateway, "spec").get("gatewayClassName"))


class _Service(NamedTuple):
    namespace: str
    name: str


def _services_of(gateway: Manifest, installation: Installation) -> list[_Service]:
    """The Services that a Gateway is for, whosever they are.

    Addresses of the type Hostname name Services that somebody made; without any, Istio makes one
    (conversion.go: extractGatewayServices), whatever IP addresses it shall have.
    """
    own, spec = untrusted.reference(gateway).namespace, untrusted.mapping(gateway, "spec")
    if not _is_label(own):
        return []
    addresses = map(untrusted.mapping, untrusted.sequence(spec.get("addresses")))
    named = [untrusted.text(a.get("value")) for a in addresses if a.get("type") == "Hostname"]
    if any(named):
        return [*filter(None, (_service_at(host, own, installation) for host in named))]
    name = _made_by_istio(gateway)
    return [_Service(own, name)] if _is_label(name) else []


def _service_at(host: str, own: str, installation: Installation) -> _Service | None:
    """The Service that a host is the name of; one without a dot is in the Gateway's namespace."""
    tails = ("svc", f"svc.{installation.cluster_domain}")
    match host.split(".", 2):
        case [name]:
            service = _Service(own, name)
        case [name, namespace, *rest] if not rest or rest[0] in tails:
            service = _Service(namespace, name)
        case _:
            return None
    return service if all(map(_is_label, service)) else None


def _is_label(text: str) -> bool:
    """Whether a Service or a namespace can have this name (RFC 1123)."""
    return _LABEL.fullmatch(text) is not None


def _made_by_istio(gateway: Manifest) -> str:
    """The name of the Service that Istio makes for a Gateway (gatewaycommon: GetDefaultName)."""
    gateway_class = class_of(gateway)
    name = untrusted.reference(gateway).name
    usual = name if gateway_class in CLASSES_WITHOUT_SUFFIX else f"{name}-{gateway_class}"
    return untrusted.annotations_of(gateway).get(NAME_OVERRIDE) or usual


def _pods_of(service: _Service, installation: Installation) -> GatewayWorkload | None:
    """The pods of the installation behind a Service."""
    known = ((_Service(w.namespace, w.service), w) for w in installation.gateways)
    return next((workload for theirs, workload in known if theirs == service), None)
