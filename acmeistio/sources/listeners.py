"""Listeners of the Gateway API (gateway.networking.k8s.io/v1), and the names that come to them.

Owns the shape of a listener, who is parent to whom, which HTTPRoutes bring their hostnames to
which listener, and which Secrets it may name. It knows no wish: what is asked for is gateway_api's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from acmeistio.model import K8S_GATEWAY, ObjectRef, Target
from acmeistio.names import DnsName, host_matches
from acmeistio.reasons import Defect
from acmeistio.sources import Manifest, Surroundings, untrusted
from acmeistio.sources.annotations import parse_hosts
from acmeistio.sources.permission import allowed_names

GROUP = "gateway.networking.k8s.io"
LISTENER_SET, HTTP_ROUTE = "ListenerSet", "HTTPRoute"
PARENT_KINDS = {"Gateway": K8S_GATEWAY, LISTENER_SET: LISTENER_SET}
"""What listeners are part of: its kind in a reference → its kind in an ObjectRef."""

HTTP, HTTPS, TLS = "HTTP", "HTTPS", "TLS"
TERMINATE, PASSTHROUGH = "Terminate", "Passthrough"
TERMINATE_MODE = "gateway.istio.io/tls-terminate-mode"
MESH_CERTIFICATE = ("ISTIO_SIMPLE", "ISTIO_MUTUAL")
"""Istio's options for listeners that serve the mesh's own certificate (conversion.go: buildTLS)."""

NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""The label of each Namespace that has its name as value."""

Labels = Mapping[str, Mapping[str, str]]
"""The labels of namespaces; one that is not there has only the label with its name."""

_WELL_KNOWN_PORTS = {HTTP: 80}
_LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class CertificateRef:
    """One item of tls.certificateRefs; its namespace is "" where it has none."""

    group: str
    kind: str
    namespace: str
    name: str

    @property
    def is_secret(self) -> bool:
        """Whether it can hold a certificate of ours."""
        return (self.group, self.kind) == ("", "Secret")

    def target_of(self, owner: ObjectRef) -> Target:
        """The Secret that is meant where `owner` has the listener."""
        return Target(self.namespace or owner.namespace, self.name)

    def __str__(self) -> str:
        place = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {place}{self.name}"


@dataclass(frozen=True, slots=True)
class Listener:
    """One item of spec.listeners; `hostname` "" is every host, `tls_mode` "" is no TLS."""

    name: str
    hostname: str
    port: int
    protocol: str
    tls_mode: str
    certificate_refs: tuple[CertificateRef, ...]
    allowed_routes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Attachment:
    """One parentRef: the parent, and which of its listeners ("" and None: all)."""

    parent: ObjectRef
    section: str
    port: int | None


@dataclass(frozen=True, slots=True)
class Route:
    """An HTTPRoute, as far as it brings names: its exact hostnames, as `covers` compares them."""

    ref: ObjectRef
    attachments: tuple[Attachment, ...]
    hostnames: tuple[str, ...]


def listeners_of(manifest: Mapping[str, Any]) -> tuple[Listener, ...]:
    """The listeners of a Gateway or a ListenerSet, in their order."""
    items = untrusted.sequence(untrusted.mapping(manifest, "spec").get("listeners"))
    return tuple(_listener(item) for item in items if isinstance(item, Mapping))


def attachments_of(manifest: Mapping[str, Any]) -> Iterator[Attachment]:
    """The parents of an HTTPRoute or a ListenerSet that are a Gateway or a ListenerSet."""
    spec, own = untrusted.mapping(manifest, "spec"), untrusted.reference(manifest).namespace
    for item in (*untrusted.sequence(spec.get("parentRefs")), spec.get("parentRef")):
        reference = untrusted.mapping(item)
        kind = PARENT_KINDS.get(_stated(reference, "kind", "Gateway"))
        if kind and _stated(reference, "group", GROUP) == GROUP:
            parent = ObjectRef(
                kind,
                untrusted.text(reference.get("namespace")) or own,
                untrusted.text(reference.get("name")),
            )
            yield Attachment(
                parent, untrusted.text(reference.get("sectionName")), _port(reference.get("port"))
            )


def route_of(manifest: Manifest) -> Route:
    """An HTTPRoute; one without hostnames takes those of its listeners and brings none."""
    hostnames = untrusted.texts(untrusted.mapping(manifest, "spec").get("hostnames"))
    exact = tuple(_compared(host) for host in hostnames if not host.startswith("*"))
    return Route(untrusted.reference(manifest), tuple(attachments_of(manifest)), exact)


def by_parent(manifests: Iterable[Manifest]) -> dict[ObjectRef, list[Manifest]]:
    """HTTPRoutes or ListenerSets by the Gateways and ListenerSets that they name."""
    found: dict[ObjectRef, list[Manifest]] = {}
    for manifest in manifests:
        for parent in dict.fromkeys(attachment.parent for attachment in attachments_of(manifest)):
            found.setdefault(parent, []).append(manifest)
    return found


def by_beneficiary(grants: Iterable[Manifest]) -> dict[tuple[str, str], list[Manifest]]:
    """ReferenceGrants by the kind and the namespace that they are for."""
    found: dict[tuple[str, str], list[Manifest]] = {}
    for grant in grants:
        for beneficiary in dict.fromkeys(beneficiaries(grant)):
            found.setdefault(beneficiary, []).append(grant)
    return found


def parent_of(listener_set: Manifest) -> ObjectRef | None:
    """The Gateway of a ListenerSet."""
    return next((attachment.parent for attachment in attachments_of(listener_set)), None)


def names_of(
    listener: Listener,
    owner: ObjectRef,
    routes: Iterable[Route],
    surroundings: Surroundings,
) -> tuple[tuple[DnsName, ...], tuple[Defect, ...]]:
    """The names that a listener of `owner` answers for: its own, else those of its HTTPRoutes."""
    if listener.hostname and not listener.hostname.startswith("*"):
        return parse_hosts(owner, (listener.hostname,))
    if listener.protocol != HTTPS or not _allows_http_routes(listener):
        return (), ()
    names: dict[DnsName, None] = {}
    defects: list[Defect] = []
    for route in routes:
        taken = [host for host in route.hostnames if covers(listener.hostname, host)]
        if taken and _attaches(route, listener, owner, surroundings.labels_of):
            found, wrong = _brought(route.ref, taken, owner, surroundings)
            names.update(dict.fromkeys(found))
            defects += wrong
    return tuple(names), tuple(dict.fromkeys(defects))


def covers(hostname: str, name: str) -> bool:
    """Whether a listener's hostname takes `name`; one without takes all."""
    return host_matches(hostname or "*", name)


def admits(
    namespaces: Mapping[str, Any], own: str, other: str, default: str, labels_of: Labels
) -> bool:
    """Whether {from, selector} of a namespace `own` lets in objects of the namespace `other`."""
    match untrusted.text(namespaces.get("from")) or default:
        case "Same":
            return own == other
        case "All":
            return True
        case "Selector":
            labels = labels_of.get(other, {NAMESPACE_NAME: other})
            return _selects(namespaces.get("selector"), labels)
    return False


def labels_of(namespaces: Iterable[Manifest]) -> dict[str, Mapping[str, str]]:
    """The labels of the Namespaces, of those that have others than the one with their name."""
    found: dict[str, Mapping[str, str]] = {}
    for manifest in namespaces:
        metadata = untrusted.mapping(manifest, "metadata")
        labels = untrusted.labels(metadata.get("labels"))
        name = untrusted.text(metadata.get("name"))
        if name and labels.keys() - {NAMESPACE_NAME}:
            found[name] = {**labels, NAMESPACE_NAME: name}
    return found


def beneficiaries(grant: Manifest) -> Iterator[tuple[str, str]]:
    """The kinds and namespaces of the listeners that a ReferenceGrant is for."""
    for item in untrusted.sequence(untrusted.mapping(grant, "spec").get("from")):
        whose = untrusted.mapping(item)
        kind = PARENT_KINDS.get(untrusted.text(whose.get("kind")))
        if kind and whose.get("group") == GROUP:
            yield kind, untrusted.text(whose.get("namespace"))


def allows(grant: Manifest, ref: ObjectRef, target: Target) -> bool:
    """Whether a ReferenceGrant lets `ref` name the Secret."""
    if untrusted.reference(grant).namespace != target.namespace:
        return False
    granted = map(untrusted.mapping, untrusted.sequence(untrusted.mapping(grant, "spec").get("to")))
    return (ref.kind, ref.namespace) in beneficiaries(grant) and any(
        untrusted.text(item.get("group")) == ""
        and item.get("kind") == "Secret"
        and untrusted.text(item.get("name")) in ("", target.name)
        for item in granted
    )


def _selects(selector: object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects what has these labels, as Kubernetes says.

    An empty one selects everything; none at all, or one that it would refuse, nothing.
    """
    if not isinstance(selector, Mapping):
        return False
    wanted = untrusted.mapping(selector, "matchLabels").items()
    if not all(isinstance(value, str) and labels.get(key) == value for key, value in wanted):
        return False
    expressions = untrusted.sequence(selector.get("matchExpressions"))
    return all(_meets(labels, untrusted.mapping(expression)) for expression in expressions)


def _meets(labels: Mapping[str, str], expression: Mapping[str, Any]) -> bool:
    """Whether labels meet one of matchExpressions (apimachinery: LabelSelectorRequirement)."""
    key, values = expression.get("key"), untrusted.sequence(expression.get("values"))
    if not isinstance(key, str):
        return False
    match expression.get("operator"), bool(values):
        case "In", True:
            return key in labels and labels[key] in values
        case "NotIn", True:
            return key not in labels or labels[key] not in values
        case "Exists", False:
            return key in labels
        case "DoesNotExist", False:
            return key not in labels
    return False


def _attaches(route: Route, listener: Listener, owner: ObjectRef, labels_of: Labels) -> bool:
    """Whether an HTTPRoute attaches to this listener and is let (Istio's referenceAllowed)."""
    namespaces = untrusted.mapping(listener.allowed_routes, "namespaces")
    if not admits(namespaces, owner.namespace, route.ref.namespace, "Same", labels_of):
        return False
    return any(
        attachment.parent == owner
        and attachment.section in ("", listener.name)
        and attachment.port in (None, listener.port)
        for attachment in route.attachments
    )


def _allows_http_routes(listener: Listener) -> bool:
    kinds = untrusted.sequence(listener.allowed_routes.get("kinds"))
    return not kinds or any(
        (_stated(kind, "group", GROUP), _stated(kind, "kind", "")) == (GROUP, HTTP_ROUTE)
        for kind in map(untrusted.mapping, kinds)
    )


def _brought(
    route: ObjectRef, hostnames: list[str], owner: ObjectRef, surroundings: Surroundings
) -> tuple[tuple[DnsName, ...], tuple[Defect, ...]]:
    """The names that a route may bring to a listener of `owner`.

    The listener's owner let the route in and asked. A route of another namespace is bound by the
    domains of its own all the same: nobody gets a name through a neighbour's Gateway.
    """
    names, defects = parse_hosts(route, hostnames)
    if route.namespace == owner.namespace:
        return names, defects
    # The bounds of the Secret's namespace are asked later; here it is the route's own once more.
    allowed, refused = allowed_names(route, names, Target(route.namespace, ""), surroundings)
    return allowed, (*defects, *refused)


def _listener(item: Mapping[str, Any]) -> Listener:
    protocol = untrusted.text(item.get("protocol"))
    tls = untrusted.mapping(item, "tls")
    return Listener(
        name=untrusted.text(item.get("name")),
        hostname=_compared(untrusted.text(item.get("hostname"))),
        port=_port(item.get("port")) or _WELL_KNOWN_PORTS.get(protocol, 443),
        protocol=protocol,
        tls_mode=_tls_mode(protocol, tls),
        certificate_refs=_certificate_refs(tls),
        allowed_routes=untrusted.mapping(item, "allowedRoutes"),
    )


def _compared(hostname: str) -> str:
    """As hostnames are compared: case, space around it and a trailing dot are no difference."""
    return hostname.strip().lower().removesuffix(".")


def _tls_mode(protocol: str, tls: Mapping[str, Any]) -> str:
    """The mode, "" also where the listener serves the mesh's own certificate."""
    if protocol not in (HTTPS, TLS):
        return ""
    if untrusted.mapping(tls, "options").get(TERMINATE_MODE) in MESH_CERTIFICATE:
        return ""
    return untrusted.text(tls.get("mode")) or TERMINATE


def _certificate_refs(tls: Mapping[str, Any]) -> tuple[CertificateRef, ...]:
    items = untrusted.sequence(tls.get("certificateRefs"))
    found = (
        CertificateRef(
            group=_stated(item, "group", ""),
            kind=_stated(item, "kind", "Secret"),
            namespace=untrusted.text(item.get("namespace")),
            name=untrusted.text(item.get("name")),
        )
        for item in items
        if isinstance(item, Mapping)
    )
    return tuple(dict.fromkeys(found))


def _stated(item: Mapping[str, Any], key: str, default: str) -> str:
    """What stands there; the API's default where nothing does. An empty group is one."""
    value = item.get(key)
    return value if isinstance(value, str) else default


def _port(value: object) -> int | None:
    good = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LAST_PORT
    return value if isinstance(value, int) and good else None
