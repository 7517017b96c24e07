"""deploy/install.yaml on a real API server: it applies, and grants what is needed and no more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pebble.processes import CACHE
from tests.cluster.api import Api, Refused
from tests.cluster.control_plane import ControlPlane

INSTALL = Path(__file__).parents[2] / "deploy" / "install.yaml"
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
        (False, "list", "virtualservices.networking.istio.io"),
    ],
)
def test_nothing_else_is_granted(
    plane: ControlPlane, verb: str, resource: str, *, allowed: bool
) -> None:
    """Nothing is ever deleted, and nothing of users or of Istio is written."""
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
