"""All the ways in which users of Istio declare a host: the layouts, each of them as data.

    for layout in LAYOUTS:
        for body in layout.manifests("shop", "istio-ingress-certs"):
            bed.apply(body)

A layout knows which objects a user writes for its host, where the acmeistio.io/ annotation goes,
and what the host answers without acmeistio. Each has a host of its own, so that all layouts of a
group can live in one cluster; layouts that change what hosts of others answer are in groups apart.
Knows nothing of acmeistio's routes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from tests.cluster.api import Object
from tests.cluster.gateway import INGRESS_GATEWAY, Workload

BACKEND = "web"
"""The Service, in the namespace of the user's objects, that serves the host."""

DOMAIN = "layouts.example"
PAGE = "/page"
OK, REDIRECTS, NOT_FOUND = HTTPStatus.OK, HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.NOT_FOUND

Group = Literal["own hosts", "shared redirect", "all hosts", "automated"]
"""`own hosts`: whatever is declared is for the layout's host alone. `shared redirect`: one Gateway
for all hosts has httpsRedirect. `all hosts`: routes redirect, and port 443 is open, for all hosts.
`automated`: Istio makes the gateway's pods and Service.
"""

SHARED = "shared"
"""The Gateway that all layouts of `shared redirect` have in common, as teams of one cluster do."""


@dataclass(frozen=True)
class At:
    """Where a layout is written: what its manifests are made from."""

    name: str
    """Of its objects, or how their names begin."""
    host: str
    namespace: str
    secret: str

    @property
    def wildcard(self) -> str:
        """The one that covers the host, and no host of another layout."""
        return "*." + self.host.partition(".")[2]


Notes = Mapping[str, str]
"""Annotations, without acmeistio.io/."""


@dataclass(frozen=True)
class Layout:
    """One way to declare a host, and what is to be expected of it."""

    code: str
    """As facts/testbed.md has it."""
    title: str
    write: Callable[[At], list[Object]]
    group: Group = "own hosts"
    http_before: int = OK
    """What the host's page answers over HTTP without acmeistio, and has to answer with it."""
    https_page: bool = True
    """Whether HTTPS serves the page once the certificate is there; else, where `served`, 404."""
    served: bool = True
    """Whether Istio serves the certificate at all."""
    needs_port_443: bool = False
    """The CA is redirected to HTTPS, for which it knows port 443 only."""
    warning: str | None = None
    """The code that is told at the Ingress of this layout's name: Istio will not serve it all."""
    page: str = PAGE
    sibling: int | None = None
    """Where a wildcard is declared: what another host of it answers over HTTP, then and now."""
    workload: Workload | None = None
    """The gateway's pods, where they are not those of the cluster's ingress gateway."""

    @property
    def name(self) -> str:
        """Fit for an object's name."""
        return "l" + self.code.replace("'", "-nobody")

    @property
    def host(self) -> str:
        """The host that shall have a certificate; no other layout declares it."""
        return f"h{self.name[1:]}.{DOMAIN}" if self.sibling is None else f"www.{self._parent}"

    @property
    def sibling_host(self) -> str:
        """Another host of the wildcard, which shall have no certificate."""
        return f"sibling.{self._parent}"

    @property
    def _parent(self) -> str:
        return f"wild{self.name[1:]}.{DOMAIN}"

    def manifests(self, namespace: str, secret: str) -> list[Object]:
        """What the user writes, the oldest first."""
        return self.write(At(self.name, self.host, namespace, secret))


# Ingress


def _ingress(
    at: At,
    notes: Notes,
    *,
    name: str = "",
    host: str | None = None,
    tls: str | None = None,
    paths: tuple[str, ...] = ("/",),
) -> Object:
    """`host` None: a rule without host. `tls`: the host of the tls entry, if it has one."""
    backend = {"service": {"name": BACKEND, "port": {"number": 80}}}
    rule: Object = {
        "http": {"paths": [{"path": p, "pathType": "Prefix", "backend": backend} for p in paths]}
    }
    spec: Object = {"rules": [rule | ({"host": host} if host else {})]}
    if tls:
        spec["tls"] = [{"hosts": [tls], "secretName": at.secret}]
    body = _object("networking.k8s.io/v1", "Ingress", at.namespace, name or at.name, spec, notes)
    body["metadata"]["annotations"]["kubernetes.io/ingress.class"] = "istio"
    return body


TLS: Notes = {"tls": "true"}
NOTHING: Notes = {}


def _domains(at: At) -> Notes:
    return {"domains": at.host}


def _1(at: At) -> list[Object]:
    return [_ingress(at, TLS, host=at.host, tls=at.host)]


def _1b(at: At) -> list[Object]:
    return [_ingress(at, TLS, host=at.host)]


def _1c(at: At) -> list[Object]:
    return [_ingress(at, TLS, host=at.host, tls=at.host, paths=("/", "/.well-known"))]


def _1d(at: At) -> list[Object]:
    # Made in the same second, they are ordered by name.
    older = _ingress(at, NOTHING, name=f"a-older-{at.name}", host=at.host)
    return [older, _ingress(at, TLS, host=at.host, tls=at.host, paths=("/newer",))]


def _1e(at: At) -> list[Object]:
    # Its path is its own: a rule without host is a route for every host that nobody routes.
    return [_ingress(at, TLS, tls=at.host, paths=("/hostless",))]


def _1f(at: At) -> list[Object]:
    redirecting = _gateway(at, NOTHING, _http(at.host, redirects=True))
    return [redirecting, _ingress(at, TLS, host=at.host, tls=at.host)]


def _1g(at: At) -> list[Object]:
    return [_shared_gateway(at), _ingress(at, TLS, host=at.host, tls=at.host)]


def _1w(at: At) -> list[Object]:
    return [_ingress(at, _domains(at), host=at.wildcard, tls=at.wildcard)]


# Istio's Gateway and VirtualService


def _http(host: str, *, redirects: bool = False) -> Object:
    server: Object = {
        "port": {"number": 80, "name": "http", "protocol": "HTTP"},
        "hosts": [host],
    }
    return server | ({"tls": {"httpsRedirect": True}} if redirects else {})


def _https(host: str, secret: str) -> Object:
    return {
        "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
        "hosts": [host],
        "tls": {"mode": "SIMPLE", "credentialName": secret},
    }


def _gateway(at: At, notes: Notes, *servers: Object, name: str = "") -> Object:
    spec = {"selector": {"istio": "ingressgateway"}, "servers": list(servers)}
    return _istio("Gateway", at.namespace, name or at.name, spec, notes)


def _virtual_service(
    at: At,
    notes: Notes = NOTHING,
    *rules: Object,
    host: str = "",
    gateway: str = "",
    name: str = "",
) -> Object:
    """The user's page, after `rules`."""
    spec = {
        "hosts": [host or at.host],
        "gateways": [gateway or at.name],
        "http": [*rules, _to_backend(at)],
    }
    return _istio("VirtualService", at.namespace, name or at.name, spec, notes)


def _to_backend(at: At) -> Object:
    destination = {"host": f"{BACKEND}.{at.namespace}.svc.cluster.local", "port": {"number": 80}}
    return {"route": [{"destination": destination}]}


def _both(host: str, secret: str, *, redirects: bool = False) -> list[Object]:
    return [_http(host, redirects=redirects), _https(host, secret)]


def _shared_gateway(at: At) -> Object:
    """For all hosts, to HTTPS. It names the host of 2s', which nothing else names."""
    host_of_nobody = next(layout.host for layout in LAYOUTS if layout.code == "2s'")
    servers = _both("*", at.secret, redirects=True)
    return _gateway(at, {"domains": host_of_nobody}, *servers, name=SHARED)


def _2(at: At) -> list[Object]:
    return [_gateway(at, TLS, *_both(at.host, at.secret)), _virtual_service(at)]


def _2n(at: At) -> list[Object]:
    servers = _both(f"{at.namespace}/{at.host}", at.secret)
    return [_gateway(at, TLS, *servers), _virtual_service(at)]


def _2p(at: At) -> list[Object]:
    rule = {"match": [{"uri": {"prefix": "/.well-known"}}], **_to_backend(at)}
    return [_gateway(at, TLS, *_both(at.host, at.secret)), _virtual_service(at, NOTHING, rule)]


def _2x(at: At) -> list[Object]:
    rule = {"match": [{"uri": {"regex": "/.*"}}], **_to_backend(at)}
    return [_gateway(at, TLS, *_both(at.host, at.secret)), _virtual_service(at, NOTHING, rule)]


def _2r(at: At) -> list[Object]:
    servers = _both(at.host, at.secret, redirects=True)
    return [_gateway(at, TLS, *servers), _virtual_service(at)]


def _2s(at: At) -> list[Object]:
    return [_shared_gateway(at), _virtual_service(at, TLS, gateway=SHARED)]


def _2s_nobody(at: At) -> list[Object]:
    return [_shared_gateway(at)]


def _2t(at: At) -> list[Object]:
    own = _gateway(at, TLS, _https(at.host, at.secret))
    return [_shared_gateway(at), own, _virtual_service(at)]


def _2u(at: At) -> list[Object]:
    redirecting = f"{at.name}-redirecting"
    to_https = {
        "hosts": ["*"],
        "gateways": [redirecting],
        "http": [{"redirect": {"scheme": "https"}}],
    }
    return [
        _gateway(at, NOTHING, _http("*"), name=redirecting),
        _istio("VirtualService", at.namespace, redirecting, to_https, NOTHING),
        _gateway(at, TLS, _https(at.host, at.secret)),
        _virtual_service(at),
    ]


def _2v(at: At) -> list[Object]:
    to_https = {"match": [{"port": 80}], "redirect": {"scheme": "https"}}
    return [_gateway(at, TLS, *_both(at.host, at.secret)), _virtual_service(at, NOTHING, to_https)]


def _2w(at: At) -> list[Object]:
    return [_gateway(at, TLS, *_both(at.host, at.secret)), _virtual_service(at, host="*")]


def _3(at: At) -> list[Object]:
    return [_gateway(at, NOTHING, *_both(at.wildcard, at.secret)), _virtual_service(at, TLS)]


def _3g(at: At) -> list[Object]:
    whole = _virtual_service(at, _domains(at), host=at.wildcard)
    return [_gateway(at, NOTHING, *_both(at.wildcard, at.secret)), whole]


def _3r(at: At) -> list[Object]:
    servers = _both(at.wildcard, at.secret, redirects=True)
    return [_gateway(at, NOTHING, *servers), _virtual_service(at, TLS)]


def _4(at: At) -> list[Object]:
    return [_gateway(at, TLS, _https(at.host, at.secret))]


# The Gateway API


def _listeners(
    secret: str, *, http_host: str | None = None, https_host: str | None = None
) -> list[Object]:
    tls = {"mode": "Terminate", "certificateRefs": [{"name": secret}]}
    http = {"name": "http", "port": 80, "protocol": "HTTP"}
    https = {"name": "https", "port": 443, "protocol": "HTTPS", "tls": tls}
    anywhere = {"allowedRoutes": {"namespaces": {"from": "All"}}}
    return [
        listener | anywhere | ({"hostname": host} if host else {})
        for listener, host in ((http, http_host), (https, https_host))
    ]


def _api_gateway(at: At, listeners: list[Object], *, automated: bool = False) -> Object:
    """Beside its Secret; of the cluster's ingress gateway, unless Istio deploys one for it."""
    spec: Object = {"gatewayClassName": "istio", "listeners": listeners}
    if not automated:
        service = f"{INGRESS_GATEWAY.name}.{INGRESS_GATEWAY.namespace}.svc.cluster.local"
        spec["addresses"] = [{"type": "Hostname", "value": service}]
    namespace = at.namespace if automated else INGRESS_GATEWAY.namespace
    return _of_gateway_api("Gateway", namespace, at.name, spec, TLS)


def _http_route(
    at: At,
    *,
    host: str | None = None,
    listener: str | None = None,
    rule: Object | None = None,
    gateway_namespace: str = INGRESS_GATEWAY.namespace,
) -> Object:
    """To the user's page, if no rule says otherwise."""
    parent = {"name": at.name, "namespace": gateway_namespace}
    spec: Object = {
        "parentRefs": [parent | ({"sectionName": listener} if listener else {})],
        "rules": [rule or {"backendRefs": [{"name": BACKEND, "port": 80}]}],
    }
    name = "-".join(filter(None, (at.name, listener)))
    spec |= {"hostnames": [host]} if host else {}
    return _of_gateway_api("HTTPRoute", at.namespace, name, spec, NOTHING)


def _5(at: At) -> list[Object]:
    return [_api_gateway(at, _listeners(at.secret)), _http_route(at, host=at.host)]


def _5l(at: At) -> list[Object]:
    listeners = _listeners(at.secret, http_host=at.host, https_host=at.host)
    return [_api_gateway(at, listeners), _http_route(at)]


def _5r(at: At) -> list[Object]:
    redirect = {"scheme": "https", "statusCode": int(REDIRECTS)}
    to_https = {"filters": [{"type": "RequestRedirect", "requestRedirect": redirect}]}
    # Two listeners for all hosts on port 443 would be one too many: layout 5 has the other.
    return [
        _api_gateway(at, _listeners(at.secret, https_host=at.host)),
        _http_route(at, listener="http", rule=to_https),
        _http_route(at, listener="https", host=at.host),
    ]


def _auto(at: At) -> list[Object]:
    route = _http_route(at, host=at.host, gateway_namespace=at.namespace)
    return [_api_gateway(at, _listeners(at.secret), automated=True), route]


_AUTOMATED = Workload(
    namespace="edge",
    name="lauto-istio",
    labels={
        "gateway.networking.k8s.io/gateway-name": "lauto",
        "gateway.networking.k8s.io/gateway-class-name": "istio",
        "gateway.istio.io/managed": "istio.io-gateway-controller",
    },
)
"""The pods and the Service that istiod makes for a Gateway `lauto`, as its template has them."""


def _object(
    version: str, kind: str, namespace: str, name: str, spec: Object, notes: Notes
) -> Object:
    annotations: dict[str, Any] = {f"acmeistio.io/{key}": text for key, text in notes.items()}
    metadata = {"namespace": namespace, "name": name, "annotations": annotations}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _istio(kind: str, namespace: str, name: str, spec: Object, notes: Notes) -> Object:
    return _object("networking.istio.io/v1", kind, namespace, name, spec, notes)


def _of_gateway_api(kind: str, namespace: str, name: str, spec: Object, notes: Notes) -> Object:
    return _object("gateway.networking.k8s.io/v1", kind, namespace, name, spec, notes)


LAYOUTS = (
    Layout("1", "Ingress with tls", _1),
    Layout(
        "1b",
        "Ingress without tls",
        _1b,
        https_page=False,
        served=False,
        warning="NoTLSEntry",
    ),
    Layout("1c", "Ingress with its own path /.well-known", _1c),
    Layout(
        "1d",
        "two Ingresses, the older without tls",
        _1d,
        https_page=False,
        warning="DuplicateTLSHost",
    ),
    Layout("1e", "Ingress without host", _1e, page="/hostless"),
    Layout(
        "1f",
        "Ingress, and a Gateway of its host with httpsRedirect",
        _1f,
        http_before=REDIRECTS,
        needs_port_443=True,
    ),
    # Istio redirects the hosts that a Gateway names, or that are routed by it: not this one.
    Layout("1g", "Ingress, beside Gateway * with httpsRedirect", _1g, group="shared redirect"),
    Layout("1w", "Ingress of a wildcard", _1w, sibling=OK),
    Layout("2", "Gateway and VirtualService", _2),
    Layout("2n", "Gateway host written ns/host", _2n),
    Layout("2p", "VirtualService with prefix /.well-known", _2p),
    Layout("2x", "VirtualService with regex /.*", _2x),
    Layout(
        "2r",
        "Gateway with httpsRedirect",
        _2r,
        http_before=REDIRECTS,
        needs_port_443=True,
    ),
    Layout(
        "2s",
        "VirtualService on Gateway * with httpsRedirect",
        _2s,
        group="shared redirect",
        http_before=REDIRECTS,
        needs_port_443=True,
    ),
    Layout(
        "2s'",
        "nobody's host on Gateway * with httpsRedirect",
        _2s_nobody,
        group="shared redirect",
        http_before=REDIRECTS,
        https_page=False,
        needs_port_443=True,
    ),
    Layout(
        "2t",
        "Gateway of port 443, beside Gateway * with httpsRedirect",
        _2t,
        group="shared redirect",
        http_before=REDIRECTS,
        needs_port_443=True,
    ),
    Layout(
        "2u",
        "Gateway of port 443, beside a redirecting VirtualService *",
        _2u,
        group="all hosts",
        http_before=REDIRECTS,
    ),
    Layout("2v", "VirtualService with a redirecting rule", _2v, http_before=REDIRECTS),
    Layout("2w", "VirtualService * on a Gateway of one host", _2w),
    Layout("3", "VirtualService on a Gateway of a wildcard", _3, sibling=NOT_FOUND),
    Layout("3g", "Gateway and VirtualService of a wildcard", _3g, sibling=OK),
    Layout(
        "3r",
        "Gateway of a wildcard with httpsRedirect",
        _3r,
        http_before=REDIRECTS,
        needs_port_443=True,
        sibling=REDIRECTS,
    ),
    Layout(
        "4",
        "a host that nobody routes",
        _4,
        http_before=NOT_FOUND,
        https_page=False,
    ),
    Layout("5", "Gateway API, HTTPRoute with host", _5, group="all hosts"),
    Layout("5l", "Gateway API, listeners with host", _5l),
    Layout(
        "5r",
        "Gateway API, redirecting HTTPRoute without host",
        _5r,
        group="all hosts",
        http_before=REDIRECTS,
    ),
    Layout(
        "auto",
        "Gateway API, a gateway of its own",
        _auto,
        group="automated",
        workload=_AUTOMATED,
    ),
)

GROUPS: tuple[Group, ...] = tuple(dict.fromkeys(layout.group for layout in LAYOUTS))


def of_group(group: Group) -> list[Layout]:
    """The layouts that are applied together."""
    return [layout for layout in LAYOUTS if layout.group == group]
