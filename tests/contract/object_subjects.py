"""The implementations of the port Objects that the contract suite runs on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from acmeistio.kube.client import connect
from acmeistio.kube.objects import KubeObjects
from acmeistio.local.folder import FolderObjects
from acmeistio.local.lock import FolderLeadership
from acmeistio.ports import Leadership, Manifest, Objects, Term
from acmeistio.system import ThreadWorkers
from tests.cluster.api import Api
from tests.cluster.control_plane import ControlPlane
from tests.simulated.objects import ObjectStore, SimulatedObjects
from tests.simulated.system import ConstantLeadership

NAMESPACE = "istio-system"
HANDSHAKE_SECONDS = 0.1
"""A TLS handshake that is cut off leaves its socket to the garbage collector (CPython 3.11)."""
NAMESPACES = (NAMESPACE, "default", "shop")
KINDS = ("Ingress", "IngressClass", "Secret", "ConfigMap")


@dataclass(frozen=True)
class Subject:
    """Objects under test, and hands that are somebody else's.

    `declare` is what a user does with a manifest, `put` and `delete` what others do to an
    object that acmeistio writes (of kind, name); `end_term` lets another process take over.
    The API server drops fields that a kind does not have; a file keeps them.
    """

    objects: Objects
    leadership: Leadership
    term: Term
    declare: Callable[[Manifest], None]
    put: Callable[[Manifest], None]
    delete: Callable[[str, str], None]
    end_term: Callable[[], object]
    keeps_unknown_fields: bool = True


@contextlib.asynccontextmanager
async def simulated(_: Path) -> AsyncIterator[Subject]:
    """Objects in memory."""
    store, leadership = ObjectStore(), ConstantLeadership()
    yield Subject(
        objects=SimulatedObjects(store, leadership),
        leadership=leadership,
        term=await leadership.acquire(),
        declare=lambda manifest: _drop(store.put(manifest)),
        put=lambda manifest: _drop(store.put(manifest)),
        delete=lambda kind, name: store.delete(kind, NAMESPACE, name),
        end_term=leadership.end,
    )


@contextlib.asynccontextmanager
async def folder(root: Path) -> AsyncIterator[Subject]:
    """Objects in two folders, watched."""
    manifests, state = root / "manifests", root / "state"
    manifests.mkdir()
    leadership = FolderLeadership(state)
    term = await leadership.acquire()
    async with watched(manifests, state, leadership) as objects:
        yield Subject(
            objects=objects,
            leadership=leadership,
            term=term,
            declare=lambda manifest: _dump(manifests / f"{_name(manifest)}.yaml", manifest),
            put=lambda manifest: _dump(_path(state, manifest["kind"], _name(manifest)), manifest),
            delete=lambda kind, name: _path(state, kind, name).unlink(),
            end_term=lambda: asyncio.ensure_future(leadership.release()),
        )


@contextlib.asynccontextmanager
async def watched(
    manifests: Path, state: Path, leadership: Leadership
) -> AsyncIterator[FolderObjects]:
    """FolderObjects that notices changes."""
    workers = ThreadWorkers()
    objects = FolderObjects(manifests, state, workers, leadership)
    watching = asyncio.ensure_future(objects.watch())
    await asyncio.sleep(0.1)  # until the kernel tells of changes
    try:
        yield objects
    finally:
        watching.cancel()
        await asyncio.wait({watching})
        await leadership.release()
        workers.close()


@contextlib.asynccontextmanager
async def cluster(plane: ControlPlane) -> AsyncIterator[Subject]:
    """Objects in an API server, which has none of these kinds yet."""
    empty(plane.api)
    leadership = ConstantLeadership()
    client = await connect(plane.kubeconfig(plane.admin_token))
    objects = KubeObjects(
        client,
        leadership,
        kinds=("Ingress", "IngressClass"),
        is_shared=lambda ref: ref.namespace == NAMESPACE,
    )
    watching = asyncio.ensure_future(objects.watch())
    try:
        yield Subject(
            objects=objects,
            leadership=leadership,
            term=await leadership.acquire(),
            declare=lambda manifest: _put(plane.api, manifest),
            put=lambda manifest: _put(plane.api, manifest),
            delete=lambda kind, name: plane.api.delete(kind, NAMESPACE, name),
            end_term=leadership.end,
            keeps_unknown_fields=False,
        )
    finally:
        await asyncio.sleep(HANDSHAKE_SECONDS)
        watching.cancel()
        await asyncio.wait({watching})
        await client.close()


def empty(api: Api) -> None:
    """Make the namespaces, and delete what a test before has left there."""
    for name in NAMESPACES:
        api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    for kind in KINDS:
        for left in api.list(kind):
            namespace, name = left["metadata"].get("namespace"), left["metadata"]["name"]
            if left["metadata"].get("finalizers"):
                api.patch(kind, namespace, name, {"metadata": {"finalizers": None}})
            api.delete(kind, namespace, name)


def _put(api: Api, manifest: Manifest) -> None:
    """Create or replace an object, whatever its version."""
    metadata = manifest["metadata"]
    if api.find(manifest["kind"], metadata.get("namespace"), metadata["name"]) is None:
        api.create(manifest)
    else:
        api.update(manifest)


def _path(state: Path, kind: str, name: str) -> Path:
    return state / NAMESPACE / f"{name}.{kind.lower()}.yaml"


def _name(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def _dump(path: Path, manifest: Manifest) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(manifest))


def _drop(_: object) -> None:
    return None
