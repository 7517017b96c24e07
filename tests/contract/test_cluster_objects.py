"""What only an API server does to the objects in a cluster: restarts, rights, refusals, tokens."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest
import yaml

from acmeistio.errors import Conflict, Forbidden, Permanent, Transient
from acmeistio.issuer import ExternalAccount
from acmeistio.kube import client as client_module
from acmeistio.kube import follower as follower_module
from acmeistio.kube import following
from acmeistio.kube import objects as objects_module
from acmeistio.kube.client import connect
from acmeistio.kube.follower import Selection
from acmeistio.kube.objects import KubeObjects
from acmeistio.kube.refusals import Gone
from acmeistio.kube.resources import RESOURCES
from acmeistio.model import ISTIO_GATEWAY, K8S_GATEWAY, ObjectRef
from acmeistio.ports import Listing, Manifest, Term
from acmeistio.stores.accounts import HMAC_KEY, AccountStore
from tests.cluster.api import Api, Refused
from tests.cluster.control_plane import ControlPlane
from tests.contract.object_subjects import HANDSHAKE_SECONDS
from tests.simulated.system import ConstantLeadership

INSTALL = (Path(__file__).parents[2] / "deploy" / "install.yaml").read_text()
SOON_SECONDS = 5.0
QUIET_SECONDS = 0.5
RBAC = "rbac.authorization.k8s.io"
LISTED = {
    "apiGroups": ["networking.k8s.io"],
    "resources": ["ingresses"],
    "verbs": ["list", "watch"],
}


@dataclass
class Cluster:
    """Objects as one ServiceAccount sees them, which is granted nothing yet."""

    plane: ControlPlane
    api: Api
    namespace: str
    kubeconfig: Path
    objects: KubeObjects
    term: Term

    @property
    def user(self) -> str:
        """As the API server calls it."""
        return f"system:serviceaccount:{self.namespace}:acmeistio"

    def grant(self, *rules: dict[str, Any]) -> None:
        """Give these rights and no others."""
        name = f"acmeistio-{self.namespace}"
        self.api.apply(
            {
                "apiVersion": f"{RBAC}/v1",
                "kind": "ClusterRole",
                "metadata": {"name": name},
                "rules": [*rules],
            }
        )
        subject = {"kind": "ServiceAccount", "name": "acmeistio", "namespace": self.namespace}
        self.api.apply(
            {
                "apiVersion": f"{RBAC}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": name},
                "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name},
                "subjects": [subject],
            }
        )

    def ingress(self, name: str) -> Manifest:
        """An Ingress in the namespace."""
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"namespace": self.namespace, "name": name},
            "spec": {"rules": [{"host": f"{name}.example.org"}]},
        }

    def secret(self, name: str = "certs", **fields: Any) -> Manifest:
        """A Secret in the namespace."""
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"namespace": self.namespace, "name": name},
            "type": "Opaque",
            "data": {"key": "dmFsdWU="},
            **fields,
        }

    async def names(self) -> set[str]:
        """Of the Ingresses in the namespace that are listed."""
        return names_in(await self.objects.listing("Ingress"), self.namespace)

    async def told(self) -> None:
        """Return when changed() does, soon."""
        await asyncio.wait_for(self.objects.changed(), SOON_SECONDS)

    async def until(self, *names: str) -> None:
        """Return when exactly these Ingresses are listed, as changed() tells."""
        async with asyncio.timeout(SOON_SECONDS):
            while await self.names() != set(names):
                await self.objects.changed()

    async def until_complete(self, complete: bool) -> Listing:
        """The Ingresses when they can, or can't, be listed, as changed() tells."""
        async with asyncio.timeout(following.LONGEST_REFUSED_WAIT_SECONDS + SOON_SECONDS):
            while (found := await self.objects.listing("Ingress")).complete != complete:
                await self.objects.changed()
        return found


def names_in(listing: Listing, namespace: str) -> set[str]:
    """Of the objects of a namespace."""
    metadata = [manifest["metadata"] for manifest in listing.manifests]
    return {each["name"] for each in metadata if each["namespace"] == namespace}


@contextlib.asynccontextmanager
async def working(
    plane: ControlPlane, namespace: str, *, whole: bool = False
) -> AsyncIterator[Cluster]:
    """Objects under a token of the namespace's ServiceAccount."""
    kubeconfig = plane.kubeconfig(plane.token_of(namespace, "acmeistio"))
    client = await connect(kubeconfig)
    leadership = ConstantLeadership()
    objects = KubeObjects(
        client,
        leadership,
        kinds=(),
        is_shared=lambda ref: not ref.name.startswith("acmeistio-"),
        whole=[("Secret", namespace)] if whole else [],
    )
    watching = asyncio.ensure_future(objects.watch())
    try:
        term = await leadership.acquire()
        yield Cluster(plane, plane.api, namespace, kubeconfig, objects, term)
    finally:
        await asyncio.sleep(HANDSHAKE_SECONDS)
        watching.cancel()
        await asyncio.wait({watching})
        await client.close()


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A new namespace with a ServiceAccount."""
    name = f"ns-{uuid4().hex[:8]}"
    api = control_plane.api
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    account = {"namespace": name, "name": "acmeistio"}
    api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    yield name
    for kind in ("ClusterRoleBinding", "ClusterRole"):
        api.delete(f"{kind}.{RBAC}", None, f"acmeistio-{name}")


@pytest.fixture
async def cluster(control_plane: ControlPlane, namespace: str) -> AsyncIterator[Cluster]:
    """Objects as that ServiceAccount sees them."""
    async with working(control_plane, namespace) as found:
        yield found


def _value(text: str) -> str:
    """A text as a Secret's data holds it."""
    return base64.b64encode(text.encode()).decode()


def secrets(*names: str, verbs: list[str]) -> dict[str, Any]:
    """A rule for Secrets, of these names or all."""
    rule: dict[str, Any] = {"apiGroups": [""], "resources": ["secrets"], "verbs": verbs}
    return {**rule, "resourceNames": [*names]} if names else rule


# ── an API server that goes and comes ─────────────────────────────────────────────────────────


async def test_a_restart_is_survived(cluster: Cluster) -> None:
    """What was known stays known; what changed is seen within two seconds of its return."""
    cluster.grant(LISTED, secrets("certs", verbs=["get", "list", "watch"]))
    cluster.api.create(cluster.ingress("a"))
    cluster.api.create(cluster.secret())
    await cluster.until("a")
    before = await cluster.objects.get("Secret", cluster.namespace, "certs")
    cluster.plane.kill_api_server()
    await asyncio.sleep(1)
    assert await cluster.names() == {"a"}
    assert await cluster.objects.get("Secret", cluster.namespace, "certs") is before
    with pytest.raises(Transient, match="can't be reached"):
        await cluster.objects.create(cluster.secret("new"), cluster.term)
    cluster.plane.start_api_server()  # not in a thread: it would end with that
    cluster.plane.api.delete("Ingress", cluster.namespace, "a")
    cluster.plane.api.create(cluster.ingress("b"))
    began = time.monotonic()
    await cluster.until("b")
    assert time.monotonic() - began < 2.5
    assert await cluster.objects.get("Secret", cluster.namespace, "certs") is before


async def test_a_version_that_was_forgotten_is_gone(cluster: Cluster) -> None:
    """The API server says 410 to a watch from the beginning of time; test_follower has the rest."""
    cluster.grant(LISTED)
    cluster.api.create(cluster.ingress("a"))
    await cluster.until("a")
    follower = cluster.objects._followers[Selection(RESOURCES["Ingress"])]
    with pytest.raises(Gone, match="too old"):
        await follower._watch(1)


async def test_a_watch_that_ends_goes_on(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the API server ends it after some minutes: nothing is lost, and nothing listed anew."""
    monkeypatch.setattr(follower_module, "SHORTEST_WATCH_SECONDS", 1)
    monkeypatch.setattr(follower_module, "WATCH_SPREAD_SECONDS", 1)
    monkeypatch.setattr(follower_module, "ENDED_AT_ONCE_SECONDS", 0.0)
    cluster.grant(LISTED)
    await cluster.until()
    for number in range(8):
        cluster.api.create(cluster.ingress(f"i{number}"))
        await asyncio.sleep(0.4)
    await cluster.until(*(f"i{number}" for number in range(8)))
    asked = [each["verb"] for each in cluster.plane.audit(cluster.user)]
    assert asked.count("list") == 1
    assert asked.count("watch") >= 3


async def test_a_storm_leaves_the_truth(cluster: Cluster) -> None:
    """Others write, delete and cut connections while we write: in the end all of it is known."""
    cluster.grant(secrets(verbs=["*"]))
    random, names = Random(4), [f"s{number}" for number in range(4)]
    await cluster.objects.listing("Secret")
    for number in range(150):
        name = random.choice(names)
        secret = cluster.secret(name, data={"n": _value(str(number))})
        with contextlib.suppress(Conflict, Refused):
            match random.randrange(7):
                case 0:
                    cluster.api.create(secret)
                case 1:
                    cluster.api.delete("Secret", cluster.namespace, name)
                case 2:
                    await cluster.objects.create(secret, cluster.term)
                case 3 | 4:
                    await _rewritten(cluster, secret)
                case 5:
                    _cut_connections(cluster)
                case 6:
                    await _deleted(cluster, name)
    stored = cluster.api.list("Secret", cluster.namespace)
    data = {secret["metadata"]["name"]: secret["data"] for secret in stored}
    async with asyncio.timeout(SOON_SECONDS):
        while await _known(cluster) != data:
            await cluster.objects.changed()
    for name in names:
        found = await cluster.objects.get("Secret", cluster.namespace, name)
        assert (found["data"] if found else None) == data.get(name)


async def _known(cluster: Cluster) -> dict[str, Any]:
    """The data of the Secrets of the namespace as they are listed."""
    manifests = (await cluster.objects.listing("Secret")).manifests
    ours = [m for m in manifests if m["metadata"]["namespace"] == cluster.namespace]
    return {manifest["metadata"]["name"]: manifest["data"] for manifest in ours}


async def _rewritten(cluster: Cluster, secret: Manifest) -> None:
    """Write on what is known; what was written is known at once."""
    known = await cluster.objects.get("Secret", cluster.namespace, secret["metadata"]["name"])
    if known:
        updated = await cluster.objects.update({**known, "data": secret["data"]}, cluster.term)
        found = await cluster.objects.get("Secret", cluster.namespace, secret["metadata"]["name"])
        assert found == updated


async def _deleted(cluster: Cluster, name: str) -> None:
    """Delete what is known; that it is gone is known at once."""
    ref = ObjectRef("Secret", cluster.namespace, name)
    if known := await cluster.objects.get(*_parts(ref)):
        await cluster.objects.delete(ref, known["metadata"]["resourceVersion"], cluster.term)
        assert await cluster.objects.get(*_parts(ref)) is None


def _cut_connections(cluster: Cluster) -> None:
    """As a load balancer may."""
    connector = cluster.objects._client._api.rest_client.pool_manager.connector  # type: ignore[union-attr]
    for protocol in list(connector._acquired):  # type: ignore[union-attr]
        if protocol.transport:
            protocol.transport.abort()


async def test_what_nobody_asks_for_is_not_followed_for_ever(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its watch is closed, and opened again when somebody asks."""
    monkeypatch.setattr(objects_module, "UNASKED_SECONDS", 0.2)
    cluster.grant(secrets(verbs=["*"]), LISTED)
    for _ in range(2):
        await cluster.objects.listing("Ingress")
        assert await cluster.objects.get("Secret", cluster.namespace, "certs") is None
        cluster.objects._tend()
        assert len(cluster.objects._followers) == 2
        await asyncio.sleep(0.3)
        cluster.objects._tend()
        assert [selection.name for selection in cluster.objects._followers] == [None]


async def test_what_is_followed_is_not_asked_for(cluster: Cluster) -> None:
    """The controller looks at everything at every change: that must cost nothing."""
    cluster.grant(secrets(verbs=["*"]), LISTED)
    for _ in range(50):
        await cluster.objects.listing("Ingress")
        assert await cluster.objects.get("Secret", cluster.namespace, "certs") is None
    await asyncio.sleep(QUIET_SECONDS)
    verbs = [each["verb"] for each in cluster.plane.audit(cluster.user)]
    assert (verbs.count("list"), verbs.count("watch"), len(verbs)) == (2, 2, 4)


# ── kinds that come and go ────────────────────────────────────────────────────────────────────

ISTIO, GATEWAY_API = "networking.istio.io", "gateway.networking.k8s.io"
VIRTUAL_SERVICES = f"virtualservices.{ISTIO}"
INSTALLED_SECONDS = 35.0
"""Within these an installed kind must be seen: LONGEST_ABSENT_WAIT_SECONDS, and the API server."""
READY_SECONDS = 15.0
EVERYTHING = {"apiGroups": [ISTIO, GATEWAY_API], "resources": ["*"], "verbs": ["*"]}


@dataclass
class Kinds:
    """Kinds that a test installs, and objects of them."""

    api: Api

    def install(self, kind: str, group: str, *versions: str) -> None:
        """Have a kind served in these versions only, whatever it was before."""
        plural = f"{kind.lower()}s"
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        every = [
            {
                "name": version,
                "served": version in versions,
                "storage": version == "v1",
                "schema": {"openAPIV3Schema": schema},
            }
            for version in ("v1", "v1beta1")
        ]
        names = {"kind": kind, "plural": plural, "singular": kind.lower()}
        spec = {"group": group, "scope": "Namespaced", "names": names, "versions": every}
        crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
        approved = {"api-approved.kubernetes.io": "unapproved, for a test"}
        metadata = {"name": f"{plural}.{group}", "annotations": approved}
        self.api.apply({**crd, "metadata": metadata, "spec": spec})

    def remove(self, name: str) -> None:
        """Take a kind away, with all its objects."""
        self.api.delete("CustomResourceDefinition", None, name)

    async def put(
        self, namespace: str, name: str = "a", kind: str = "VirtualService", at: str = f"{ISTIO}/v1"
    ) -> None:
        """An object, as soon as the API server takes it in this version."""
        path = f"/apis/{at}/namespaces/{namespace}/{kind.lower()}s"
        manifest = {"apiVersion": at, "kind": kind, "metadata": {"name": name}, "spec": {}}
        async with asyncio.timeout(READY_SECONDS):
            while True:
                with contextlib.suppress(Refused):
                    self.api.request("POST", path, manifest)
                    return
                await asyncio.sleep(0.1)


@pytest.fixture
def kinds(cluster: Cluster) -> Iterator[Kinds]:
    """Kinds that are not installed yet, all rights to them, and nothing of them left after."""
    cluster.grant(EVERYTHING)
    kinds = Kinds(cluster.api)
    yield kinds
    for name in (VIRTUAL_SERVICES, f"gateways.{ISTIO}", f"gateways.{GATEWAY_API}"):
        kinds.remove(name)
    deadline = time.monotonic() + READY_SECONDS
    while cluster.api.list("CustomResourceDefinition") and time.monotonic() < deadline:
        time.sleep(0.1)


async def _until(
    cluster: Cluster, is_so: Callable[[Listing], bool], kind: str = "VirtualService"
) -> Listing:
    """The listing when it is as wanted, as changed() tells."""
    async with asyncio.timeout(INSTALLED_SECONDS):
        while not is_so(found := await cluster.objects.listing(kind)):
            await cluster.objects.changed()
    return found


def _versions_of(listing: Listing) -> list[str]:
    return [manifest["apiVersion"] for manifest in listing.manifests]


async def test_a_kind_that_is_not_installed_has_no_objects(cluster: Cluster, kinds: Kinds) -> None:
    """That is known, and nobody's trouble; when it is installed its objects are seen."""
    assert await cluster.objects.listing("VirtualService") == Listing(())
    assert await cluster.objects.get("EnvoyFilter", cluster.namespace, "theirs") is None
    assert await cluster.objects.get("VirtualService", cluster.namespace, "acmeistio-a") is None
    await asyncio.sleep(1.5)
    kinds.install("VirtualService", ISTIO, "v1", "v1beta1")
    await kinds.put(cluster.namespace)
    found = await _until(cluster, lambda listing: bool(listing.manifests))
    assert _versions_of(found) == [f"{ISTIO}/v1"]
    assert found.troubles == ()


async def test_what_is_not_installed_can_t_be_written_yet(cluster: Cluster, kinds: Kinds) -> None:
    """It may come; to delete it is no error."""
    ref = ObjectRef("VirtualService", cluster.namespace, "ours")
    metadata = {"namespace": ref.namespace, "name": ref.name}
    ours = {"apiVersion": f"{ISTIO}/v1", "kind": ref.kind, "metadata": metadata}
    with pytest.raises(Transient, match="can't be created"):
        await cluster.objects.create(ours, cluster.term)
    await cluster.objects.delete(ref, "1", cluster.term)


@pytest.mark.parametrize("is_listed", [True, False])
async def test_a_kind_may_be_served_in_an_older_version_only(
    cluster: Cluster, kinds: Kinds, is_listed: bool
) -> None:
    """It is read in that and written in that, whatever version was asked for."""
    kinds.install("VirtualService", ISTIO, "v1beta1")
    await kinds.put(cluster.namespace, at=f"{ISTIO}/v1beta1")
    if is_listed:
        assert _versions_of(await cluster.objects.listing("VirtualService")) == [f"{ISTIO}/v1beta1"]
    name = "ours" if is_listed else "acmeistio-ours"
    ref = ObjectRef("VirtualService", cluster.namespace, name)
    metadata = {"namespace": ref.namespace, "name": ref.name}
    ours = {"apiVersion": f"{ISTIO}/v1", "kind": ref.kind, "metadata": metadata, "spec": {"a": 1}}
    created = await cluster.objects.create(ours, cluster.term)
    assert created["apiVersion"] == f"{ISTIO}/v1beta1"
    changed = {**created, "apiVersion": f"{ISTIO}/v1", "spec": {"a": 2}}
    updated = await cluster.objects.update(changed, cluster.term)
    assert await cluster.objects.get(ref.kind, ref.namespace, ref.name) == updated
    version = updated["metadata"]["resourceVersion"]
    await cluster.objects.delete(ref, version, cluster.term)
    assert await cluster.objects.get(ref.kind, ref.namespace, ref.name) is None
    await asyncio.sleep(0.2)
    assert await cluster.objects.get(ref.kind, ref.namespace, ref.name) is None


async def test_a_version_that_is_no_longer_served_is_left(cluster: Cluster, kinds: Kinds) -> None:
    """The objects are the same, read in the other version, and no trouble is made of it."""
    kinds.install("VirtualService", ISTIO, "v1", "v1beta1")
    await kinds.put(cluster.namespace)
    await _until(cluster, lambda listing: _versions_of(listing) == [f"{ISTIO}/v1"])
    kinds.install("VirtualService", ISTIO, "v1beta1")
    found = await _until(cluster, lambda listing: _versions_of(listing) == [f"{ISTIO}/v1beta1"])
    assert (found.complete, found.troubles) == (True, ())


async def test_a_kind_that_is_removed_leaves_no_objects(cluster: Cluster, kinds: Kinds) -> None:
    """Its objects go before it; then it is absent as if it had never been, and may come again."""
    for name in ("a", "b"):
        kinds.install("VirtualService", ISTIO, "v1", "v1beta1")
        await kinds.put(cluster.namespace, name)
        await _until(cluster, lambda listing: bool(listing.manifests))
        kinds.remove(VIRTUAL_SERVICES)
        await _until(cluster, lambda listing: not listing.manifests)
        await asyncio.sleep(following.LOSS_SHOWN_SECONDS + 1)
        assert await cluster.objects.listing("VirtualService") == Listing(())


async def test_a_kind_that_is_not_installed_needs_the_right(cluster: Cluster, kinds: Kinds) -> None:
    """Without it nobody can say that it is absent; with it that is said at once."""
    cluster.grant()
    refused = await cluster.objects.listing("VirtualService")
    assert (refused.complete, len(refused.troubles)) == (False, 1)
    cluster.grant(EVERYTHING)
    assert await _until(cluster, lambda listing: listing.complete) == Listing(())


async def test_two_groups_have_a_kind_gateway(cluster: Cluster, kinds: Kinds) -> None:
    """Each is found by its kind with the group, and is a Gateway of its group's version."""
    for group in (ISTIO, GATEWAY_API):
        kinds.install("Gateway", group, "v1", "v1beta1")
        await kinds.put(cluster.namespace, kind="Gateway", at=f"{group}/v1")
    for kind, group in ((ISTIO_GATEWAY, ISTIO), (K8S_GATEWAY, GATEWAY_API)):
        [found] = (await _until(cluster, lambda found: bool(found.manifests), kind)).manifests
        assert (found["kind"], found["apiVersion"]) == ("Gateway", f"{group}/v1")
        assert cluster.objects.find(ObjectRef(kind, cluster.namespace, "a")) is found


async def test_what_has_a_finalizer_stays_marked_as_deleted(cluster: Cluster) -> None:
    """Until whoever put it there is done; that we deleted it is no news."""
    cluster.grant(secrets(verbs=["*"]))
    ref = ObjectRef("Secret", cluster.namespace, "certs")
    secret = cluster.secret()
    secret["metadata"]["finalizers"] = ["example.org/keep"]
    created = await cluster.objects.create(secret, cluster.term)
    await cluster.objects.delete(ref, created["metadata"]["resourceVersion"], cluster.term)
    left = await cluster.objects.get(*_parts(ref))
    assert left
    assert left["metadata"]["deletionTimestamp"]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(cluster.objects.changed(), QUIET_SECONDS)
    cluster.api.patch(*_parts(ref), {"metadata": {"finalizers": None}})
    await cluster.told()
    assert await cluster.objects.get(*_parts(ref)) is None


def _parts(ref: ObjectRef) -> tuple[str, str, str]:
    return ref.kind, ref.namespace, ref.name


# ── rights ────────────────────────────────────────────────────────────────────────────────────


async def test_a_right_that_was_revoked_and_given_back(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown is not absent: the objects stay in force, and it is said why nothing is heard."""
    monkeypatch.setattr(follower_module, "SHORTEST_WATCH_SECONDS", 1)
    monkeypatch.setattr(follower_module, "WATCH_SPREAD_SECONDS", 1)
    monkeypatch.setattr(following, "LOSS_SHOWN_SECONDS", 1.0)
    cluster.grant(LISTED)
    cluster.api.create(cluster.ingress("a"))
    await cluster.until("a")
    cluster.grant()
    lost = await cluster.until_complete(False)
    assert names_in(lost, cluster.namespace) == {"a"}
    [trouble] = lost.troubles
    assert trouble.code == "KindUnlistable"
    assert 'cannot list resource "ingresses"' in dict(trouble.facts)["why"]
    cluster.api.delete("Ingress", cluster.namespace, "a")
    cluster.grant(LISTED)
    found = await cluster.until_complete(True)
    assert names_in(found, cluster.namespace) == set()
    assert found.troubles == ()


async def test_a_kind_without_the_right_is_a_trouble_from_the_start(cluster: Cluster) -> None:
    """And no exception: the other kinds go on."""
    listing = await cluster.objects.listing("Ingress")
    assert (listing.manifests, listing.complete) == ((), False)
    assert [trouble.code for trouble in listing.troubles] == ["KindUnlistable"]
    cluster.grant(LISTED)
    await cluster.told()
    assert (await cluster.objects.listing("Ingress")).complete


async def test_a_secret_without_the_right_is_forbidden_and_not_absent(cluster: Cluster) -> None:
    """The message says who may not do what; when the right is given that is told."""
    for _ in range(2):
        with pytest.raises(Forbidden, match='cannot list resource "secrets"'):
            await cluster.objects.get("Secret", cluster.namespace, "certs")
    with pytest.raises(Forbidden, match='cannot get resource "secrets"'):
        await cluster.objects.get("Secret", cluster.namespace, "acmeistio-x")
    with pytest.raises(Forbidden, match='cannot create resource "secrets"'):
        await cluster.objects.create(cluster.secret(), cluster.term)
    cluster.grant(secrets("certs", verbs=["list", "watch"]))
    await cluster.told()
    assert await cluster.objects.get("Secret", cluster.namespace, "certs") is None


async def test_secrets_by_name_need_no_more_than_their_names(cluster: Cluster) -> None:
    """No request of a whole life of two Secrets is refused; never all Secrets are listed."""
    cluster.grant(
        secrets("certs", verbs=["list", "watch", "update"]),
        secrets("acmeistio-x", verbs=["get", "update"]),
        secrets(verbs=["create"]),
    )
    for name in ("certs", "acmeistio-x"):
        assert await cluster.objects.get("Secret", cluster.namespace, name) is None
        created = await cluster.objects.create(cluster.secret(name), cluster.term)
        assert await cluster.objects.get("Secret", cluster.namespace, name) == created
        await cluster.objects.update({**created, "data": {"key": "YQ=="}}, cluster.term)
    await asyncio.sleep(QUIET_SECONDS)
    requests = [*cluster.plane.audit(cluster.user)]
    assert {each["responseStatus"]["code"] for each in requests} <= {200, 201, 404}
    lists = [each for each in requests if each["verb"] in {"list", "watch"}]
    assert lists
    assert all("metadata.name%3Dcerts" in each["requestURI"] for each in lists)


async def test_what_the_role_shows_for_a_mac_key_suffices(cluster: Cluster) -> None:
    """Whoever takes the comment marks of deploy/install.yaml away has it read; else it is told."""
    [text] = re.findall(r"^  # (- apiGroups.*\n(?:  #   .*\n)*?.*eab.*\n.*)", INSTALL, re.MULTILINE)
    [rule] = yaml.safe_load(text.replace("\n  # ", "\n"))
    [name] = rule["resourceNames"]
    store = AccountStore(cluster.objects, cluster.namespace)
    cluster.api.create(cluster.secret(name, data={HMAC_KEY: _value("YWJj")}))
    with pytest.raises(Forbidden, match=f'secrets "{name}" is forbidden.*cannot get'):
        await store.external_key(ExternalAccount("k", name))
    cluster.grant(rule)
    async with asyncio.timeout(SOON_SECONDS):
        while not (key := await _external_key(store, name)):  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.05)
    assert key == "YWJj"


async def _external_key(store: AccountStore, name: str) -> str:
    """The key once the right to it has come into effect; nothing before."""
    with contextlib.suppress(Forbidden):
        return await store.external_key(ExternalAccount("k", name))
    return ""


async def test_secrets_of_a_dedicated_namespace_share_one_watch(
    control_plane: ControlPlane, namespace: str
) -> None:
    """However many there are, also those that others made."""
    async with working(control_plane, namespace, whole=True) as cluster:
        cluster.grant(secrets(verbs=["list", "watch", "create"]))
        cluster.api.create(cluster.secret("theirs"))
        for name in ("a", "b", "c"):
            await cluster.objects.create(cluster.secret(name), cluster.term)
            assert await cluster.objects.get("Secret", namespace, name)
        assert await cluster.objects.get("Secret", namespace, "theirs")
        verbs = [each["verb"] for each in control_plane.audit(cluster.user)]
        assert verbs.count("list") <= 1
        assert "get" not in verbs


# ── what is refused ───────────────────────────────────────────────────────────────────────────


async def test_a_namespace_that_is_not_there_is_waited_for(cluster: Cluster) -> None:
    """It may come; the sentence names it."""
    cluster.grant(secrets(verbs=["*"]))
    secret = cluster.secret()
    secret["metadata"]["namespace"] = "nowhere"
    assert await cluster.objects.get("Secret", "nowhere", "certs") is None
    with pytest.raises(Transient, match=r"namespaces.*nowhere.*not found"):
        await cluster.objects.create(secret, cluster.term)


async def test_what_the_api_server_does_not_take_is_permanent(cluster: Cluster) -> None:
    """With its own words."""
    cluster.grant(secrets(verbs=["*"]))
    with pytest.raises(Permanent, match=r"tls\.crt"):
        await cluster.objects.create(cluster.secret(type="kubernetes.io/tls"), cluster.term)
    with pytest.raises(Permanent):
        await cluster.objects.create(cluster.secret(data={"key": "no base64!"}), cluster.term)


async def test_an_update_keeps_what_belongs_to_the_api_server(cluster: Cluster) -> None:
    """Who manages which field is not kept in memory, and not lost by that."""
    cluster.grant(secrets(verbs=["*"]))
    cluster.api.apply(cluster.secret(), namespace=cluster.namespace)
    await asyncio.sleep(0)
    found = await cluster.objects.get("Secret", cluster.namespace, "certs")
    assert found
    assert "managedFields" not in found["metadata"]
    await cluster.objects.update({**found, "data": {"ours": "YQ=="}}, cluster.term)
    stored = cluster.api.get("Secret", cluster.namespace, "certs")
    managers = {each["manager"] for each in stored["metadata"]["managedFields"]}
    assert "bed" in managers
    assert len(managers) == 2


async def test_a_stale_view_meets_conflict(cluster: Cluster) -> None:
    """What is known last is what is written upon, and the API server compares."""
    cluster.grant(secrets(verbs=["*"]))
    created = await cluster.objects.create(cluster.secret(), cluster.term)
    cluster.api.patch("Secret", cluster.namespace, "certs", {"data": {"theirs": "YQ=="}})
    with pytest.raises(Conflict):
        await cluster.objects.update(created, cluster.term)


# ── credentials ───────────────────────────────────────────────────────────────────────────────


async def test_a_token_that_was_replaced_is_read_anew(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one is refused; the file has the new one."""
    monkeypatch.setattr(client_module, "RENEW_SECONDS", 0.0)
    cluster.grant(secrets(verbs=["*"]))
    account = {"namespace": cluster.namespace, "name": "acmeistio"}
    cluster.api.delete("ServiceAccount", cluster.namespace, "acmeistio")
    cluster.api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    async with asyncio.timeout(30):
        while await _is_accepted(cluster):  # noqa: ASYNC110  # tokens are remembered for 10 s
            await asyncio.sleep(0.5)
    with pytest.raises(Forbidden, match="does not accept acmeistio's credentials"):
        await cluster.objects.get("Secret", cluster.namespace, "acmeistio-x")
    kubeconfig = yaml.safe_load(cluster.kubeconfig.read_text())
    token = cluster.plane.token_of(cluster.namespace, "acmeistio")
    kubeconfig["users"][0]["user"]["token"] = token
    cluster.kubeconfig.write_text(yaml.safe_dump(kubeconfig))
    assert await cluster.objects.get("Secret", cluster.namespace, "acmeistio-x") is None


async def _is_accepted(cluster: Cluster) -> bool:
    with contextlib.suppress(Forbidden):
        await cluster.objects.get("Secret", cluster.namespace, "acmeistio-x")
        return True
    return False
