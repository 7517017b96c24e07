"""Where the pods of a Gateway of the Gateway API answer from inside the cluster.

Owns which Services are a Gateway's: those that it names, else the one that Istio makes for it
(istio/istio pilot/pkg/config/kube/gateway and gatewaycommon).
"""

from __future__ import annotations

from collections.abc import Iterable

from acmeistio.model import GatewayAddress, GatewayWorkload, Installation
from acmeistio.sources import Manifest, untrusted
from acmeistio.sources.listeners import HTTP, Listener

NAME_OVERRIDE = "gateway.istio.io/name-override"
"""On a Gateway: the name of the Service that Istio makes for it."""
CLASSES_WITHOUT_SUFFIX = ("istio-agentgateway",)
"""Their Services have the Gateway's own name (gatewaycommon, DisableNameSuffix)."""

HTTP_PORT, HTTPS_PORT = 80, 443


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

    Addresses of the type Hostname name Services that somebody made; without any, Istio makes one
    (conversion.go: extractGatewayServices), whatever IP addresses it shall have.
    """
    ref, spec = untrusted.reference(gateway), untrusted.mapping(gateway, "spec")
    addresses = map(untrusted.mapping, untrusted.sequence(spec.get("addresses")))
    named = [untrusted.text(a.get("value")) for a in addresses if a.get("type") == "Hostname"]
    if not any(named):
        return [(installation.service_host(ref.namespace, _service_of(gateway)), None)]
    hosts = (_full(host, ref.namespace, installation) for host in named if host)
    return [(host, _workload_at(host, installation)) for host in dict.fromkeys(hosts)]


def elsewhere(gateway: Manifest, installation: Installation) -> tuple[str, str] | None:
    """A Service that a Gateway names and Istio does not take, and its namespace; None if none.

    It must be one of the Gateway's own namespace (AddressNotUsable).
    """
    namespace = untrusted.reference(gateway).namespace
    for host, _ in workloads_of(gateway, installation):
        _, _, rest = host.partition(".")
        place, _, tail = rest.partition(".")
        if place not in ("", namespace) and (not tail or tail.startswith("svc")):
            return host, place
    return None


def class_of(gateway: Manifest) -> str:
    """The name of a Gateway's GatewayClass."""
    return untrusted.text(untrusted.mapping(gateway, "spec").get("gatewayClassName"))


def _service_of(gateway: Manifest) -> str:
    """The name of the Service that Istio makes for a Gateway (gatewaycommon: GetDefaultName)."""
    gateway_class = class_of(gateway)
    name = untrusted.reference(gateway).name
    usual = name if gateway_class in CLASSES_WITHOUT_SUFFIX else f"{name}-{gateway_class}"
    return untrusted.annotations_of(gateway).get(NAME_OVERRIDE) or usual


def _full(host: str, namespace: str, installation: Installation) -> str:
    """A Service's whole name; one without a dot is in the Gateway's namespace, as for Istio."""
    return host if "." in host else installation.service_host(namespace, host)


def _workload_at(host: str, installation: Installation) -> GatewayWorkload | None:
    """The pods of the installation behind a Service that is called by its whole name or less."""
    for workload in installation.gateways:
        whole = installation.service_host(workload.namespace, workload.service)
        short = f"{workload.service}.{workload.namespace}"
        if host in (whole, short, f"{short}.svc"):
            return workload
    return None
