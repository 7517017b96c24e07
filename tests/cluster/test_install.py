"""deploy/install.yaml on a real API server: it applies, and grants what is needed and no more."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from acmeistio.model import GatewayWorkload, Installation, Routing, kind_of
from acmeistio.names import DnsName
from acmeistio.routes.changes import wanted
from acmeistio.routes.permanent import permanent
from acmeistio.settings import load_settings
from pebble.processes import CACHE
from tests.cluster.api import Api, Refused
from tests.cluster.control_plane import ControlPlane

DEPLOY = Path(__file__).parents[2] / "deploy"
INSTALL = DEPLOY / "install.yaml"
INSTALLATION = load_settings({"issuer": "letsencrypt"}).installation
NAMESPACE = "istio-system"
SECRET = "istio-ingress-certs"
POLICY_SECONDS = 10.0
K8S = ("gateways", "grpcroutes", "httproutes", "referencegrants")
"""Kinds of the Gateway API that are there: acmeistio writes the last two."""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane with CRDs of Istio and the Gateway API; the file was applied once."""
    with ControlPlane(tmp_path_factory.mktemp("install") / "plane") as plane:
        for namespace in (NAMESPACE, "edge", "shop"):
            plane.kubectl("create", "namespace", namespace)
        for crds in ("istio.yaml", *(f"gateway.networking.k8s.io_{kind}.yaml" for kind in K8S)):
            plane.kubectl("create", "--validate=false", "-f", CACHE / "crds" / crds)
        plane.kubectl("wait", "--for=condition=Established", "--all", "customresourcedefinitions")
        plane.kubectl("apply", "--validate=strict", "-f", INSTALL)
        yield plane


@pytest.fixture(scope="module")
def acmeistio(plane: ControlPlane) -> Api:
    """The API server as acmeistio sees it, once the policy is in force."""
    api = plane.api_as(plane.token_of(NAMESPACE, "acmeistio"))
    deadline = time.monotonic() + POLICY_SECONDS
    while _created(api, _secret("not-granted", "Opaque")):
        assert time.monotonic() < deadline, "the policy is not in force"
        time.sleep(0.1)
    return api


@pytest.fixture(scope="module")
def unbounded(plane: ControlPlane, acmeistio: Api) -> Api:
    """The API server as acmeistio sees it with all rights, so that only the policies keep it."""
    api = plane.api_as(plane.admin_token)
    api._pool.headers = {
        **api._pool.headers,
        "Impersonate-User": f"system:serviceaccount:{NAMESPACE}:acmeistio",
        "Impersonate-Group": "system:masters",
    }
    return api


def _secret(name: str, secret_type: str | None, namespace: str = NAMESPACE) -> dict[str, Any]:
    tls = {"data": {"tls.crt": "", "tls.key": ""}} if secret_type == "kubernetes.io/tls" else {}
    typed = {"type": secret_type} if secret_type else {}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, **typed, **tls}


def _config_map(name: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def _created(api: Api, body: dict[str, Any]) -> bool:
    try:
        api.create(body, dry_run=True)
    except Refused:
        return False
    return True


def test_applying_again_changes_nothing(plane: ControlPlane) -> None:
    """The file says everything as the API server keeps it, so `kubectl diff` tells the truth."""
    lines = plane.kubectl("apply", "--validate=strict", "-f", INSTALL).splitlines()
    assert lines
    assert [line for line in lines if not line.endswith(" unchanged")] == []
    assert plane.kubectl("diff", "-f", INSTALL) == ""


def test_the_pod_meets_the_strictest_standard(plane: ControlPlane) -> None:
    """A namespace that enforces Pod Security `restricted` takes it, but not if it may be root."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": "strict", "labels": labels}
    plane.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    [deployment] = [o for o in _objects() if o["kind"] == "Deployment"]
    template = deployment["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] = {**template["metadata"], "name": "acmeistio", "namespace": "strict"}
    plane.api.create(pod, dry_run=True)
    pod["spec"] = {**pod["spec"], "securityContext": {"runAsNonRoot": False}}
    with pytest.raises(Refused, match="violates PodSecurity"):
        plane.api.create(pod, dry_run=True)


def _objects() -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(INSTALL.read_text()) if document]


@pytest.mark.parametrize(
    "body",
    [
        _secret(SECRET, "kubernetes.io/tls"),
        _secret("acmeistio-account-letsencrypt", "Opaque"),
        _secret("acmeistio-account-letsencrypt-staging", None),  # Opaque is the default
        _secret("acmeistio-account-our-own-ca", "Opaque"),
        _secret("acmeistio-pending-keys", None),
        _config_map("acmeistio-ledger"),
    ],
    ids=lambda body: body["metadata"]["name"],
)
def test_it_may_create_what_it_needs(acmeistio: Api, body: dict[str, Any]) -> None:
    """Each of its own objects, with the type it has."""
    acmeistio.create(body, dry_run=True)


@pytest.mark.parametrize(
    "body",
    [
        _secret("other", "kubernetes.io/tls"),
        _secret("istio-ca-secret", "istio.io/ca-root"),
        _secret(SECRET, "Opaque"),
        _secret("acmeistio-pending-keys", "kubernetes.io/tls"),
        _secret("acmeistio-account-letsencrypt", "kubernetes.io/dockercfg")
        | {"data": {".dockercfg": "e30="}},
        {
            **_secret("token", "kubernetes.io/service-account-token"),
            "metadata": {
                "name": "token",
                "namespace": NAMESPACE,
                "annotations": {"kubernetes.io/service-account.name": "istiod"},
            },
        },
    ],
    ids=lambda body: f"{body['metadata']['name']} {body['type']}",
)
def test_it_may_create_no_other_secret(acmeistio: Api, body: dict[str, Any]) -> None:
    """Above all no token of another ServiceAccount; the answer says what to change."""
    with pytest.raises(Refused, match="ACMEISTIO_SECRETS_GRANTED") as refused:
        acmeistio.create(body, dry_run=True)
    assert refused.value.status == 403
    assert body["metadata"]["name"] in refused.value.message


def test_it_may_create_no_other_config_map(acmeistio: Api) -> None:
    """The mesh's configuration is such a ConfigMap; nor one with a name that the server makes."""
    with pytest.raises(Refused, match="may not create the ConfigMap istio"):
        acmeistio.create(_config_map("istio"), dry_run=True)
    generated = {"generateName": "acmeistio-", "namespace": NAMESPACE}
    with pytest.raises(Refused, match="may not create the ConfigMap acmeistio-"):
        acmeistio.create({**_config_map(""), "metadata": generated}, dry_run=True)


ROUTES = {(r["kind"], r["metadata"]["name"]): r for r in permanent(INSTALLATION)}


@pytest.mark.parametrize(
    "route", ROUTES.values(), ids=lambda r: f"{r['kind']} {r['metadata']['name']}"
)
def test_it_may_create_its_routes(acmeistio: Api, route: dict[str, Any]) -> None:
    """The permanent ones, as the program makes them."""
    acmeistio.create(route, dry_run=True)


USERS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  {namespace: shop, name: web, annotations: {kubernetes.io/ingress.class: istio}}
spec:
  rules: [{host: www.example.com, http: {}}, {host: "*.example.com", http: {}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {namespace: shop, name: all}
spec:
  selector: {istio: ingressgateway}
  servers:
    - port: {number: 80, name: http, protocol: HTTP}
      hosts: ["*"]
      tls: {httpsRedirect: true}
    - port: {number: 443, name: https, protocol: HTTPS}
      hosts: ["*"]
      tls: {mode: SIMPLE, credentialName: web}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {namespace: shop, name: pages, uid: u-1}
spec:
  hosts: [www.example.com]
  gateways: [all, mesh]
  http: [{route: [{destination: {host: pages}}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {namespace: shop, name: web}
spec: {gatewayClassName: istio}
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {namespace: shop, name: team}
spec: {parentRef: {name: web}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {namespace: shop, name: pages, uid: u-2}
spec:
  hostnames: [www.example.com]
  parentRefs: [{name: web}, {group: gateway.networking.k8s.io, kind: ListenerSet, name: team}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {namespace: shop, name: all, uid: u-3}
spec: {parentRefs: [{name: web, sectionName: http, port: 80}]}
"""
"""What users have: of each kind that acmeistio keeps a route object for."""


def _wanted(installation: Installation) -> dict[str, dict[str, Any]]:
    """The route objects beside what users have, by `Kind namespace/name`."""
    by_kind: dict[str, tuple[dict[str, Any], ...]] = {}
    for manifest in yaml.safe_load_all(USERS):
        by_kind[kind_of(manifest)] = (*by_kind.get(kind_of(manifest), ()), manifest)
    routes = wanted(installation, by_kind, [DnsName("www.example.com")])
    return {
        f"{ref.kind.partition('.')[0]} {ref.namespace}/{ref.name}": r for ref, r in routes.items()
    }


def _routed(routing: Routing) -> Installation:
    """Two gateways, one of them elsewhere."""
    edge = GatewayWorkload("edge", {"istio": "edge"}, "edge", routing, http_port=8080)
    here = GatewayWorkload(routing=routing)
    return replace(INSTALLATION, routing=routing, gateways=(here, edge))


FILTERED = _wanted(_routed(Routing.FILTER))
MIRRORED = _wanted(_routed(Routing.MIRROR))
OF_ANOTHER_DOMAIN = _wanted(replace(_routed(Routing.MIRROR), cluster_domain="corp.example"))
FILTERS_OF_ANOTHER_DOMAIN = _wanted(replace(_routed(Routing.FILTER), cluster_domain="corp.example"))


def test_each_kind_of_route_is_looked_at() -> None:
    """So that the next test says something of each."""
    kinds = {route["kind"] for route in (*FILTERED.values(), *MIRRORED.values())}
    assert kinds == {
        "Gateway",
        "VirtualService",
        "EnvoyFilter",
        "DestinationRule",
        "HTTPRoute",
        "ReferenceGrant",
    }
    assert "VirtualService istio-system/acmeistio-unrouted" in FILTERED
    for kind, count in (("VirtualService", 6), ("HTTPRoute", 2), ("ReferenceGrant", 1)):
        assert len([key for key in MIRRORED if key.startswith(kind)]) == count


@pytest.mark.parametrize(
    "routes",
    [FILTERED, MIRRORED, OF_ANOTHER_DOMAIN, FILTERS_OF_ANOTHER_DOMAIN],
    ids=["filters", "mirrors", "mirrors of another domain", "filters of another domain"],
)
def test_the_policy_lets_its_routes_pass(unbounded: Api, routes: dict[str, dict[str, Any]]) -> None:
    """All that the program writes beside what users have, in whatever cluster domain."""
    for route in routes.values():
        _try(unbounded, route)


def _try(api: Api, body: dict[str, Any]) -> None:
    """Create an object, in the version that it says, without storing it."""
    group = body["apiVersion"].partition("/")[0]
    namespace = body["metadata"]["namespace"]
    plural = api.path(f"{body['kind']}.{group}", namespace).rpartition("/")[2]
    path = f"/apis/{body['apiVersion']}/namespaces/{namespace}/{plural}?dryRun=All"
    api.request("POST", path, body)


@pytest.fixture
def with_mirrors(plane: ControlPlane, acmeistio: Api) -> Iterator[Api]:
    """Acmeistio with the rights of mirrors.yaml too, which are taken away in the end."""
    plane.kubectl("apply", "--validate=strict", "-f", DEPLOY / "mirrors.yaml")
    _wait_for_mirrors(plane, allowed=True)
    yield acmeistio
    plane.kubectl("delete", "-f", DEPLOY / "mirrors.yaml")
    _wait_for_mirrors(plane, allowed=False)


def _wait_for_mirrors(plane: ControlPlane, *, allowed: bool) -> None:
    deadline = time.monotonic() + POLICY_SECONDS
    for plural in ("httproutes", "referencegrants"):
        while _may(plane.api, "create", f"{plural}.gateway.networking.k8s.io") is not allowed:
            assert time.monotonic() < deadline, "the rights of mirrors.yaml do not change"
            time.sleep(0.1)


def test_it_may_create_its_mirrors(with_mirrors: Api) -> None:
    """With the rights of mirrors.yaml, in the namespaces of users and in its own."""
    for route in MIRRORED.values():
        if route["metadata"]["namespace"] != "edge":  # gateway.yaml was not applied there
            _try(with_mirrors, route)


def _of(kind: str, routes: dict[str, dict[str, Any]], named: str) -> dict[str, Any]:
    """The first of a kind whose key has this text."""
    return next(route for key, route in routes.items() if key.startswith(kind) and named in key)


SHIPPED = {
    "Gateway": _of("Gateway", FILTERED, "/acmeistio"),
    "VirtualService": _of("VirtualService", MIRRORED, "shop/"),
    "DestinationRule": _of("DestinationRule", FILTERED, "/acmeistio"),
    "EnvoyFilter": _of("EnvoyFilter", FILTERED, "/acmeistio"),
    "EnvoyFilter of answers": _of("EnvoyFilter", FILTERED, "-misdirected"),
    "HTTPRoute": _of("HTTPRoute", MIRRORED, "shop/"),
    "ReferenceGrant": _of("ReferenceGrant", MIRRORED, "istio-system/"),
}
GONE = object()
EVIL = "evil.shop.svc.cluster.local"
TLS = {"mode": "SIMPLE", "credentialName": "web"}
LUA = {"envoy.filters.http.lua": {"@type": "type.googleapis.com/any"}}
REGEX = {"safe_regex": {"regex": ".*"}}
TO_EVIL = [{"destination": {"host": EVIL, "port": {"number": 80}}}]
TO_ALL_OF_THE_PATH = {"name": "r", "match": [{"uri": {"prefix": "/"}}], "route": TO_EVIL}
VALUE, CONFIG = "configPatches.0.patch.value", "configPatches.0.patch.value.typed_config"
PINNED: dict[str, dict[str, list[Any]]] = {
    "Gateway": {
        "selector": [GONE, {}],
        "servers.0.port.protocol": ["HTTPS", "TCP", "TLS"],
        "servers.0.port.targetPort": [8443],
        "servers.0.tls": [{"httpsRedirect": True}, TLS],
        "servers.0.hosts": [["www.example.com"], ["*", "www.example.com"]],
        "servers.0.bind": ["0.0.0.0"],
        "servers.0.defaultEndpoint": ["127.0.0.1:80"],
        "servers.1": [{"port": {"number": 1, "name": "t", "protocol": "TCP"}, "hosts": ["*"]}],
    },
    "VirtualService": {
        "gateways": [GONE, [], ["mesh"], ["shop/all", "mesh"]],
        "tls": [[{"match": [{"sniHosts": ["www.example.com"]}], "route": TO_EVIL}]],
        "tcp": [[{"route": TO_EVIL}]],
        "http": [GONE, []],
        "http.1": [TO_ALL_OF_THE_PATH, {"redirect": {"authority": "evil.example"}}],
        "http.0.match": [GONE, [], [{}]],
        "http.0.match.1": [{"uri": {"prefix": "/"}}, {"port": 80}],
        "http.0.match.0.uri": [GONE, {}, {"exact": "/"}, {"regex": ".*"}],
        "http.0.match.0.uri.prefix": ["/", "/.well-known/", "/.well-known/acme-challenge"],
        "http.0.match.0.ignoreUriCase": [True],
        "http.0.match.0.gateways": [["mesh"]],
        "http.0.match.0.authority": [{"exact": "www.example.com"}],
        "http.0.route": [GONE, [], TO_EVIL],
        "http.0.route.1": TO_EVIL,
        "http.0.route.0.destination.host": [EVIL, "acmeistio", f"{EVIL}/acmeistio"],
        "http.0.route.0.destination.subset": ["evil"],
        "http.0.route.0.destination.port": [GONE, {"number": 8080}],
        "http.0.route.0.headers": [{"response": {"set": {"a": "b"}}}],
        "http.0.redirect": [{"authority": "evil.example"}],
        "http.0.directResponse": [{"status": 200, "body": {"string": "evil"}}],
        "http.0.delegate": [{"name": "evil", "namespace": "shop"}],
        "http.0.rewrite": [{"uri": "/"}],
        "http.0.mirror": [{"host": EVIL}],
        "http.0.mirrors": [[{"destination": {"host": EVIL}}]],
        "http.0.fault": [{"abort": {"httpStatus": 500, "percentage": {"value": 100}}}],
        "http.0.headers": [{"response": {"set": {"a": "b"}}}],
        "http.0.corsPolicy": [{"allowOrigins": [{"exact": "*"}]}],
        "http.0.retries": [{"attempts": 9}],
        "http.0.timeout": ["1s"],
    },
    "DestinationRule": {
        "host": [EVIL, "*.local", "acmeistio", "acmeistio.shop.svc.cluster.local"],
        "subsets": [[{"name": "evil"}]],
        "workloadSelector": [{"matchLabels": {"a": "b"}}],
        "trafficPolicy": [GONE, {}, {"connectionPool": {"tcp": {"maxConnections": 1}}}],
        "trafficPolicy.tls.sni": ["evil.example"],
        "trafficPolicy.tls.mode": ["SIMPLE"],
        "trafficPolicy.outlierDetection": [{"consecutive5xxErrors": 1}],
    },
    "EnvoyFilter": {
        "workloadSelector": [GONE, {}, {"labels": {}}],
        "priority": [1],
        "configPatches.0.applyTo": [GONE, "HTTP_FILTER", "CLUSTER", "VIRTUAL_HOST", "LISTENER"],
        "configPatches.0.match": [GONE, {}],
        "configPatches.0.match.context": ["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND"],
        "configPatches.0.patch": [GONE, {}],
        VALUE: [GONE, {}],
        f"{VALUE}.match": [GONE, {}, REGEX],
        f"{VALUE}.route": [GONE, {}, {"weighted_clusters": {}}],
        "configPatches.0.patch.operation": ["MERGE", "REMOVE", "REPLACE", "INSERT_BEFORE"],
        f"{VALUE}.typed_per_filter_config": [LUA],
        f"{VALUE}.redirect": [{"host_redirect": "evil.example"}],
        f"{VALUE}.requestHeadersToAdd": [[]],
        f"{VALUE}.match.prefix": ["/", "/.well-known/"],
        f"{VALUE}.match.case_sensitive": [False],
        f"{VALUE}.match.path": ["/"],
        f"{VALUE}.route.cluster": [f"outbound|80||{EVIL}", "outbound|8080||acmeistio.a.svc.b"],
        f"{VALUE}.route.cluster_header": ["x-evil"],
        f"{VALUE}.route.request_mirror_policies": [[]],
        f"{VALUE}.route.prefix_rewrite": ["/"],
        "configPatches.1": [
            {"applyTo": "HTTP_FILTER", "match": {"context": "GATEWAY"}, "patch": {"value": LUA}},
        ],
    },
    "EnvoyFilter of answers": {
        "configPatches.0.applyTo": ["HTTP_FILTER", "FILTER_CHAIN"],
        "workloadSelector": [GONE, {}],
        "configPatches.0.match.context": ["ANY", "SIDECAR_INBOUND"],
        "configPatches.0.match.listener": [GONE, {"portNumber": 443}],
        "configPatches.0.match.listener.filterChain.filter.name": ["envoy.filters.network.rbac"],
        "configPatches.0.patch.operation": ["REPLACE", "ADD"],
        f"{VALUE}.name": ["evil"],
        f"{CONFIG}.http_filters": [[]],
        f"{CONFIG}.route_config": [{}],
        f"{CONFIG}.local_reply_config.body_format": [{"text_format": "evil"}],
        f"{CONFIG}.local_reply_config.mappers.0.status_code": [GONE, 200, 302],
        f"{CONFIG}.local_reply_config.mappers.0.body": [{"inline_string": "evil"}],
        f"{CONFIG}.local_reply_config.mappers.0.headers_to_add": [[]],
    },
    "HTTPRoute": {
        "parentRefs": [GONE, []],
        "parentRefs.0": [
            {"group": "", "kind": "Service", "name": "shop"},
            {"group": "networking.istio.io", "kind": "Gateway", "name": "web"},
        ],
        "parentRefs.1": [{"group": "networking.istio.io", "kind": "ServiceEntry", "name": "x"}],
        "rules": [GONE],
        "rules.1": [{"backendRefs": [{"name": "evil", "port": 80}]}],
        "rules.0.matches": [GONE, [], [{}]],
        "rules.0.matches.0.path.value": ["/", "/.well-known", "/.well-known/acme-challenge/x"],
        "rules.0.matches.0.path.type": ["Exact"],
        "rules.0.matches.0.method": ["GET"],
        "rules.0.filters": [
            [{"type": "URLRewrite", "urlRewrite": {"hostname": "evil.example"}}],
        ],
        "rules.0.timeouts": [{"request": "1s"}],
        "rules.0.backendRefs": [GONE, []],
        "rules.0.backendRefs.0.name": ["evil"],
        "rules.0.backendRefs.0.namespace": [GONE, "shop"],
        "rules.0.backendRefs.0.port": [8080],
        "rules.0.backendRefs.0.kind": ["Hostname"],
        "rules.0.backendRefs.0.group": ["networking.istio.io"],
        "rules.0.backendRefs.0.filters": [
            [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["a"]}}],
        ],
        "rules.0.backendRefs.1": [{"name": "evil", "port": 80}],
    },
    "ReferenceGrant": {
        "to.0.name": [GONE, "istiod"],
        "to.0.kind": ["Secret"],
        "to.0.group": ["networking.istio.io"],
        "to.1": [{"group": "", "kind": "Secret"}],
        "from.0.kind": ["Gateway", "TCPRoute"],
        "from.0.group": ["networking.istio.io"],
        "from.1": [
            {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "shop"},
        ],
    },
}


def _changed(route: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The object with one field of its spec otherwise: `rules.0.name`."""
    changed = copy.deepcopy(route)
    *above, last = path.split(".")
    place = changed["spec"]
    for step in above:
        place = place[int(step) if isinstance(place, list) else step]
    if value is GONE:
        del place[last]
    elif isinstance(place, list):
        place[int(last) :] = [value]
    else:
        place[last] = value
    return changed


@pytest.mark.parametrize(
    ("what", "path"), [(what, path) for what, paths in PINNED.items() for path in paths]
)
def test_it_may_write_no_other_content(unbounded: Api, what: str, path: str) -> None:
    """Whoever gets hold of acmeistio's ServiceAccount gets the CA's path, and nothing else."""
    for value in PINNED[what][path]:
        with pytest.raises(Refused) as refused:
            _try(unbounded, _changed(SHIPPED[what], path, value))
        assert refused.value.status == 403, (value, refused.value.message)
        assert f"{what.partition(' ')[0]}s of acmeistio " in refused.value.message, value


@pytest.mark.parametrize(
    ("api_version", "kind", "spec"),
    [
        ("networking.istio.io/v1", "ServiceEntry", {"hosts": ["www.example.com"]}),
        ("networking.istio.io/v1", "Sidecar", {}),
        (
            "gateway.networking.k8s.io/v1",
            "Gateway",
            {
                "gatewayClassName": "istio",
                "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
            },
        ),
        ("gateway.networking.k8s.io/v1", "GRPCRoute", {}),
    ],
)
def test_it_may_write_no_other_kind(
    plane: ControlPlane, unbounded: Api, api_version: str, kind: str, spec: dict[str, Any]
) -> None:
    """Even if it had the right; the Gateways of both groups are told apart."""
    labels = {"app.kubernetes.io/managed-by": "acmeistio"}
    metadata = {"namespace": NAMESPACE, "name": "acmeistio", "labels": labels}
    body = {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}
    _try(plane.api, body)
    with pytest.raises(Refused, match="route objects of acmeistio are Gateways") as refused:
        _try(unbounded, body)
    assert refused.value.status == 403


def test_what_is_there_is_held_to_the_same(unbounded: Api) -> None:
    """An update is looked at as a creation is, and its own may be deleted."""
    created = unbounded.create(SHIPPED["VirtualService"])
    name = created["metadata"]["name"]
    with pytest.raises(Refused, match="VirtualServices of acmeistio have gateways"):
        unbounded.update(_changed(created, "http.0.match.0.uri.prefix", "/"))
    unbounded.update(_changed(created, "hosts", ["shop.example.com"]))
    unbounded.delete("VirtualService.networking.istio.io", "shop", name)
    assert unbounded.find("VirtualService.networking.istio.io", "shop", name) is None


def test_an_object_without_content_is_refused(unbounded: Api) -> None:
    """For what it lacks, and not for an error of the policy's."""
    for what in ("VirtualService", "DestinationRule", "EnvoyFilter", "Gateway"):
        empty = {key: value for key, value in SHIPPED[what].items() if key != "spec"}
        with pytest.raises(Refused, match=f"{what}s of acmeistio ") as refused:
            _try(unbounded, empty)
        assert refused.value.status == 403


def test_a_mirror_of_many_hosts_passes(unbounded: Api) -> None:
    """What the policy costs the API server does not grow with them."""
    hosts = [f"h{number}.example.com" for number in range(5000)]
    _try(unbounded, _changed(SHIPPED["VirtualService"], "hosts", hosts))


def test_it_may_touch_no_route_of_others(plane: ControlPlane, acmeistio: Api) -> None:
    """Neither one of another name, nor one that has its name and not its label."""
    theirs = copy.deepcopy(ROUTES["VirtualService", "acmeistio"])
    theirs["metadata"]["name"] = "shop"
    with pytest.raises(Refused, match="are named acmeistio"):
        acmeistio.create(theirs, dry_run=True)
    unlabelled = copy.deepcopy(ROUTES["VirtualService", "acmeistio"])
    del unlabelled["metadata"]["labels"]
    created = plane.api.create(unlabelled)
    with pytest.raises(Refused, match="labelled as its own"):
        acmeistio.update(
            {
                **created,
                **ROUTES["VirtualService", "acmeistio"],
                "metadata": {
                    **created["metadata"],
                    "labels": {"app.kubernetes.io/managed-by": "acmeistio"},
                },
            }
        )
    with pytest.raises(Refused, match="labelled as its own"):
        acmeistio.delete("VirtualService.networking.istio.io", NAMESPACE, "acmeistio")
    plane.api.delete("VirtualService.networking.istio.io", NAMESPACE, "acmeistio")


def test_keys_for_a_namespace_take_its_administrators_word(
    plane: ControlPlane, acmeistio: Api
) -> None:
    """The rights of tenant.yaml alone are not enough: the Namespace must be allowed domains."""
    plane.kubectl("create", "namespace", "tenant")
    plane.kubectl("-n", "tenant", "apply", "-f", DEPLOY / "tenant.yaml")
    secret = _secret("shop-tls", "kubernetes.io/tls", "tenant")
    with pytest.raises(Refused, match="may not create the Secret shop-tls"):
        acmeistio.create(secret, dry_run=True)
    plane.kubectl("annotate", "namespace", "tenant", "acmeistio.io/allowed-domains=a.example.com")
    deadline = time.monotonic() + POLICY_SECONDS
    while not _created(acmeistio, secret):
        assert time.monotonic() < deadline, "the annotation does not count"
        time.sleep(0.1)
    with pytest.raises(Refused, match="may not create the Secret shop-tls"):
        acmeistio.create(_secret("shop-tls", "Opaque", "tenant"), dry_run=True)


@pytest.mark.usefixtures("acmeistio")  # the policy is in force
def test_others_create_what_they_like(plane: ControlPlane) -> None:
    """The policy is about acmeistio's ServiceAccount and nobody else."""
    plane.api.create(_secret("other", "Opaque"), dry_run=True)
    plane.api.create(_secret(SECRET, "Opaque"), dry_run=True)
    plane.api.create(_config_map("other"), dry_run=True)


def test_it_follows_its_secret_and_sees_no_other(plane: ControlPlane, acmeistio: Api) -> None:
    """List and watch by name, and update what was handed over to it; and no other of them."""
    plane.api.create(_secret(SECRET, "kubernetes.io/tls"))
    try:
        named = f"fieldSelector=metadata.name%3D{SECRET}"
        [secret] = acmeistio.list("Secret", NAMESPACE, query=named)
        with pytest.raises(Refused, match="does not carry the label"):
            acmeistio.update({"apiVersion": "v1", "kind": "Secret", **secret})
        label = {"app.kubernetes.io/managed-by": "acmeistio"}
        plane.api.patch("Secret", NAMESPACE, SECRET, {"metadata": {"labels": label}})
        [secret] = acmeistio.list("Secret", NAMESPACE, query=named)
        acmeistio.update({"apiVersion": "v1", "kind": "Secret", **secret})
    finally:
        plane.api.delete("Secret", NAMESPACE, SECRET)
    for query in ("", "fieldSelector=metadata.name%3Distio-ca-secret", "labelSelector=a%3Db"):
        with pytest.raises(Refused) as refused:
            acmeistio.list("Secret", NAMESPACE, query=query)
        assert refused.value.status == 403


@pytest.mark.parametrize(
    ("allowed", "verb", "resource"),
    [
        (True, "update", f"secrets/{SECRET}"),
        (True, "watch", "configmaps/istio"),
        (False, "get", "secrets/istio-ca-secret"),
        (False, "delete", f"secrets/{SECRET}"),
        (False, "list", "secrets/acmeistio-pending-keys"),
        (False, "update", "configmaps/istio"),
        (False, "list", "configmaps"),
        (False, "list", "pods"),
        (False, "create", "serviceaccounts/acmeistio/token"),
        (False, "update", "ingresses.networking.k8s.io/any"),
        (False, "update", "ingresses.networking.k8s.io/any/status"),
        (True, "list", "virtualservices.networking.istio.io"),
        (True, "delete", "envoyfilters.networking.istio.io/acmeistio"),
        (False, "update", "virtualservices.networking.istio.io/any"),
        (False, "delete", "envoyfilters.networking.istio.io/any"),
        (False, "create", "httproutes.gateway.networking.k8s.io"),
        (False, "create", "pods"),
    ],
)
def test_nothing_else_is_granted(
    plane: ControlPlane, verb: str, resource: str, *, allowed: bool
) -> None:
    """Only its own route objects are deleted, and nothing of users or of Istio is written."""
    assert _may(plane.api, verb, resource) is allowed


def _may(api: Api, verb: str, what: str) -> bool:
    """What RBAC says of acmeistio: RESOURCE[.GROUP][/NAME[/SUBRESOURCE]] in its namespace."""
    kind, name, subresource, *_ = [*what.split("/"), "", ""]
    resource, _, group = kind.partition(".")
    attributes = {
        "namespace": NAMESPACE,
        "verb": verb,
        "group": group,
        "resource": resource,
        "name": name,
        "subresource": subresource,
    }
    user = f"system:serviceaccount:{NAMESPACE}:acmeistio"
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": attributes},
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    return bool(api.request("POST", path, review)["status"]["allowed"])


@pytest.mark.parametrize("namespace", [NAMESPACE, "default"])
def test_it_reads_ingresses_everywhere_and_secrets_in_one_namespace(
    acmeistio: Api, namespace: str
) -> None:
    """What users declare counts in all namespaces; its keys lie in one."""
    acmeistio.list("Ingress", namespace)
    acmeistio.list("IngressClass")
    if namespace != NAMESPACE:
        with pytest.raises(Refused, match="cannot create resource"):
            acmeistio.create(_secret(SECRET, "kubernetes.io/tls", namespace), dry_run=True)
