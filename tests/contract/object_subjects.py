"""The implementations of the port Objects that the contract suite runs on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from acmeistio.local.folder import FolderObjects
from acmeistio.local.lock import FolderLeadership
from acmeistio.ports import Leadership, Manifest, Objects, Term
from acmeistio.system import ThreadWorkers
from tests.simulated.objects import ObjectStore, SimulatedObjects
from tests.simulated.system import ConstantLeadership

NAMESPACE = "istio-system"


@dataclass(frozen=True)
class Subject:
    """Objects under test, and hands that are somebody else's.

    `declare` is what a user does with a manifest, `put` and `delete` what others do to an
    object that acmeistio writes (of kind, name); `end_term` lets another process take over.
    """

    objects: Objects
    leadership: Leadership
    term: Term
    declare: Callable[[Manifest], None]
    put: Callable[[Manifest], None]
    delete: Callable[[str, str], None]
    end_term: Callable[[], object]


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


def _path(state: Path, kind: str, name: str) -> Path:
    return state / NAMESPACE / f"{name}.{kind.lower()}.yaml"


def _name(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def _dump(path: Path, manifest: Manifest) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(manifest))


def _drop(_: object) -> None:
    return None
