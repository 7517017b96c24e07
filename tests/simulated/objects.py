"""The port Objects in memory: a store that survives its processes, and each process's way to it.

    store = ObjectStore()
    objects = SimulatedObjects(store, leadership)      # what one process sees and writes
    store.put(manifest); store.edit(…); store.delete(…)     # somebody else: users, other programs
    objects.unreachable = lambda call: call.kind == "Secret"    # those calls raise Transient
    objects.refused = lambda call: call.method == "create"      # those raise Forbidden

It passes the suite that FolderObjects passes (tests/contract/test_objects.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from acmeistio.errors import Conflict, Forbidden, NotLeader, Transient
from acmeistio.model import ObjectRef, kind_of
from acmeistio.ports import Leadership, Listing, Manifest, Term, Trouble

Key = tuple[str, str, str]
"""Kind, namespace, name."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the port: its method, and what it is about; a listing is about no name."""

    method: str
    kind: str
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.kind} {self.namespace}/{self.name}"


class ObjectStore:
    """All objects, as an API server keeps them. Its methods are what others do to them."""

    def __init__(self) -> None:
        self._objects: dict[Key, Manifest] = {}
        self._version = 0
        self._views: WeakSet[SimulatedObjects] = WeakSet()
        self._listings: dict[str, Listing] = {}
        self.watchers: list[Callable[[Manifest], object]] = []
        """Told of each write, whoever made it, with the object as it is now."""
        self.troubles: dict[str, tuple[Trouble, ...]] = {}
        self.incomplete: set[str] = set()
        """Kinds that can't be read at the moment; tell of a change with `touch`."""

    def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """A copy of an object."""
        copied: Manifest | None = _copy(self._objects.get((kind, namespace, name)))
        return copied

    def current(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """An object as it is, the same value until it changes; to be changed by nobody."""
        return self._objects.get((kind, namespace, name))

    def put(self, manifest: Manifest) -> Manifest:
        """Create or replace an object, whatever its version; the answer is a copy of it."""
        copied: Manifest = _copy(self.write(manifest, None))
        return copied

    def edit(
        self, kind: str, namespace: str, name: str, change: Callable[[Manifest], object]
    ) -> Manifest:
        """Change an object that exists."""
        manifest = self.get(kind, namespace, name)
        assert manifest is not None, f"there is no {kind} {namespace}/{name}"
        change(manifest)
        return self.put(manifest)

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Take an object away."""
        del self._objects[kind, namespace, name]
        self.touch()

    def remove(self, call: Call, writer: SimulatedObjects) -> None:
        """Take an object away for one of the processes."""
        del self._objects[call.kind, call.namespace, call.name]
        self._listings.pop(call.kind, None)
        self._tell(writer, (call.kind, call.namespace, call.name))

    def touch(self) -> None:
        """Tell everybody that something may have changed."""
        self._listings.clear()
        self._tell(None, None)

    def listing(self, kind: str) -> Listing:
        """All objects of a kind; the same values as long as nothing has changed."""
        if kind in self.incomplete:
            return Listing((), complete=False)
        if kind not in self._listings:
            found = tuple(m for key, m in self._objects.items() if key[0] == kind)
            self._listings[kind] = Listing(found, troubles=self.troubles.get(kind, ()))
        return self._listings[kind]

    def write(self, manifest: Manifest, writer: SimulatedObjects | None) -> Manifest:
        """Keep a copy under the next version, unless it says what is there already.

        The answer is what is kept, see `current`.
        """
        fresh: Manifest = _copy(manifest)
        metadata = fresh["metadata"]
        metadata.setdefault("namespace", "default")
        key = (kind_of(fresh), metadata["namespace"], metadata["name"])
        before = self._objects.get(key)
        if before is not None:
            metadata["resourceVersion"] = before["metadata"]["resourceVersion"]
            if before == fresh:
                return before
        self._version += 1
        metadata["resourceVersion"] = str(self._version)
        self._objects[key] = fresh
        self._listings.pop(key[0], None)
        for watcher in self.watchers:
            watcher(fresh)
        self._tell(writer, key)
        return fresh

    def connect(self, view: SimulatedObjects) -> None:
        """Tell `view` of changes that it did not make, for as long as it lives."""
        self._views.add(view)

    def _tell(self, writer: SimulatedObjects | None, changed: Key | None) -> None:
        for view in self._views:
            if view is not writer:
                view.heard(changed)


def _nothing(_call: Call) -> bool:
    return False


class SimulatedObjects:
    """One process's way to an ObjectStore: the port Objects."""

    def __init__(self, store: ObjectStore, leadership: Leadership) -> None:
        self.news = asyncio.Event()
        self._changed: set[ObjectRef] | None = set()
        self.unreachable: Callable[[Call], bool] = _nothing
        self.refused: Callable[[Call], bool] = _nothing
        self.writes: list[Call] = []
        """What was written through here, refused writes left out."""
        self._store = store
        self._leadership = leadership
        store.connect(self)

    async def listing(self, kind: str) -> Listing:
        """See Objects.listing."""
        await self._reach(Call("listing", kind))
        return self._store.listing(kind)

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """See Objects.get."""
        await self._reach(Call("get", kind, namespace, name))
        return self._store.current(kind, namespace, name)

    async def create(self, manifest: Manifest, term: Term) -> Manifest:
        """See Objects.create."""
        call = await self._may_write(_call("create", manifest), term)
        if self._store.current(call.kind, call.namespace, call.name) is not None:
            raise Conflict(f"{call.kind} {call.name} exists")
        return self._written(call, manifest)

    async def update(self, manifest: Manifest, term: Term) -> Manifest:
        """See Objects.update."""
        call = await self._may_write(_call("update", manifest), term)
        current = self._store.current(call.kind, call.namespace, call.name)
        if current is None or _version(current) != _version(manifest):
            raise Conflict(f"{call.kind} {call.name} has changed")
        return self._written(call, manifest)

    async def delete(self, ref: ObjectRef, version: str, term: Term) -> None:
        """See Objects.delete."""
        call = Call("delete", ref.kind, ref.namespace, ref.name)
        await self._may_write(call, term)
        current = self._store.current(call.kind, call.namespace, call.name)
        if current is None:
            return
        if _version(current) != version:
            raise Conflict(f"{call.kind} {call.name} has changed")
        self.writes.append(call)
        self._store.remove(call, self)

    async def changed(self) -> frozenset[ObjectRef] | None:
        """See Objects.changed."""
        await self.news.wait()
        self.news.clear()
        changed, self._changed = self._changed, set()
        return None if changed is None else frozenset(changed)

    def heard(self, changed: Key | None) -> None:
        """Somebody else has changed an object; None: nobody knows which."""
        if changed is None:
            self._changed = None
        elif self._changed is not None:
            self._changed.add(ObjectRef(*changed))
        self.news.set()

    def _written(self, call: Call, manifest: Manifest) -> Manifest:
        self.writes.append(call)
        return self._store.write(manifest, self)

    async def _may_write(self, call: Call, term: Term) -> Call:
        await self._reach(call)
        if not self._leadership.holds(term):
            raise NotLeader(f"{term} is over")
        return call

    async def _reach(self, call: Call) -> None:
        """The way to the store: others may run meanwhile."""
        await asyncio.sleep(0)
        if self.unreachable(call):
            raise Transient(f"{call}: the store can't be reached")
        if self.refused(call):
            raise Forbidden(f"{call}: there is no right to do that")


def _call(method: str, manifest: Manifest) -> Call:
    metadata = manifest["metadata"]
    return Call(method, kind_of(manifest), metadata["namespace"], metadata["name"])


def _copy(value: Any) -> Any:
    """A copy of plain data, in a fifth of deepcopy's time."""
    if isinstance(value, dict):
        return {key: _copy(each) for key, each in value.items()}
    return [_copy(each) for each in value] if isinstance(value, list) else value


def _version(manifest: Manifest) -> Any:
    return manifest["metadata"].get("resourceVersion")
