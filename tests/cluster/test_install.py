"""deploy/install.yaml on a real API server: it applies, and grants what is needed and no more."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

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


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane with Istio's CRDs, on which the file was applied once."""
    with ControlPlane(tmp_path_factory.mktemp("install") / "plane") as plane:
        plane.kubectl("create", "namespace", NAMESPACE)
        plane.kubectl("create", "--validate=false", "-f", CACHE / "crds" / "istio.yaml")
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
SHIPPED_FILTER = ROUTES["EnvoyFilter", "acmeistio"]


@pytest.mark.parametrize(
    "route", ROUTES.values(), ids=lambda r: f"{r['kind']} {r['metadata']['name']}"
)
def test_it_may_create_its_routes(acmeistio: Api, route: dict[str, Any]) -> None:
    """The permanent ones, as the program makes them."""
    acmeistio.create(route, dry_run=True)


def _with_patch(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The first EnvoyFilter with its patch changed."""
    changed = copy.deepcopy(SHIPPED_FILTER)
    change(changed["spec"]["configPatches"][0])
    return changed


LUA = {"envoy.filters.http.lua": {"@type": "type.googleapis.com/any"}}


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.update(applyTo="HTTP_FILTER"),
        lambda patch: patch.update(applyTo="CLUSTER"),
        lambda patch: patch["patch"]["value"].update(typed_per_filter_config=LUA),
        lambda patch: patch["patch"]["value"]["match"].update(prefix="/"),
        lambda patch: patch["patch"]["value"]["route"].update(cluster="outbound|80||evil.a.svc"),
        lambda patch: patch["patch"]["value"]["route"].update(request_mirror_policies=[]),
        lambda patch: patch.update(
            applyTo="NETWORK_FILTER",
            patch={"operation": "MERGE", "value": {"typed_config": {"http_filters": []}}},
        ),
    ],
)
def test_it_may_create_no_other_filter(
    acmeistio: Api, change: Callable[[dict[str, Any]], None]
) -> None:
    """An EnvoyFilter can do anything, so whoever gets hold of acmeistio gets only this one."""
    with pytest.raises(Refused, match="EnvoyFilters of acmeistio") as refused:
        acmeistio.create(_with_patch(change), dry_run=True)
    assert refused.value.status == 403


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
    """List and watch by name; never over a namespace where the mesh's CA keeps its key."""
    plane.api.create(_secret(SECRET, "kubernetes.io/tls"))
    try:
        named = f"fieldSelector=metadata.name%3D{SECRET}"
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
