"""What only an API server does to the objects in a cluster: restarts, rights, refusals, tokens."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest
import yaml

from acmeistio.errors import Conflict, Forbidden, Permanent, Transient
from acmeistio.kube import client as client_module
from acmeistio.kube import follower as follower_module
from acmeistio.kube import following
from acmeistio.kube import objects as objects_module
from acmeistio.kube.client import connect
from acmeistio.kube.follower import Selection
from acmeistio.kube.objects import KubeObjects
from acmeistio.kube.refusals import Gone
from acmeistio.kube.resources import RESOURCES
from acmeistio.ports import Listing, Manifest, Term
from tests.cluster.api import Api, Refused
from tests.cluster.control_plane import ControlPlane
from tests.contract.object_subjects import HANDSHAKE_SECONDS
from tests.simulated.system import ConstantLeadership

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
        is_shared=lambda ref: ref.kind == "Secret" and not ref.name.startswith("acmeistio-"),
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
            match random.randrange(6):
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
