"""Every call of one process into the world goes over its Wire, which can be cut at any of them.

A process whose wire is cut is dead: nothing it still does, in no `finally` either, reaches the
world. Thus a crash is a crash, and not the orderly end that a cancelled task would come to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from acmeistio.model import KeyType, ObjectRef
from acmeistio.ports import (
    Clock,
    Entropy,
    Http,
    HttpResponse,
    Listing,
    Manifest,
    Objects,
    Term,
    Workers,
)

T = TypeVar("T")

_REMEMBERED_CALLS = 100_000


@dataclass(slots=True)
class Wire:
    """Counts calls. Call number `cut_at` is the last: it never happens, or nobody hears of it.

    `on_cut` is told once; `log` says what the calls were, in years only the last 100,000.
    """

    cut_at: int = 0
    after: bool = False
    on_cut: Callable[[], object] = lambda: None
    dead: bool = False
    calls: int = 0
    log: list[str] = field(default_factory=list)

    async def call(self, what: str, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`, if the process lives to see it."""
        self._alive()
        self.calls += 1
        self.log.append(what)
        if len(self.log) > 2 * _REMEMBERED_CALLS:
            del self.log[:_REMEMBERED_CALLS]
        if self.calls != self.cut_at:
            result = await work()
        elif self.after:
            result = await work()
            self.cut()
        else:
            self.cut()
        self._alive()
        return result

    def cut(self) -> None:
        """The process is dead from now on."""
        if not self.dead:
            self.dead = True
            self.on_cut()

    def _alive(self) -> None:
        if self.dead:
            raise asyncio.CancelledError


class WiredHttp:
    """The port Http over a wire."""

    def __init__(self, wire: Wire, http: Http) -> None:
        self._wire, self._http = wire, http

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] = {}, body: bytes = b""
    ) -> HttpResponse:
        """See Http.request."""
        return await self._wire.call(
            f"{method} {url.split('/')[3]}",
            lambda: self._http.request(method, url, headers=headers, body=body),
        )


class WiredObjects:
    """The port Objects over a wire."""

    def __init__(self, wire: Wire, objects: Objects) -> None:
        self._wire, self._objects = wire, objects

    async def listing(self, kind: str) -> Listing:
        """See Objects.listing."""
        return await self._wire.call(f"listing {kind}", lambda: self._objects.listing(kind))

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """See Objects.get."""
        return await self._wire.call(
            f"get {kind} {name}", lambda: self._objects.get(kind, namespace, name)
        )

    async def create(self, manifest: Manifest, term: Term) -> Manifest:
        """See Objects.create."""
        return await self._wire.call(
            f"create {manifest['kind']} {manifest['metadata']['name']}",
            lambda: self._objects.create(manifest, term),
        )

    async def update(self, manifest: Manifest, term: Term) -> Manifest:
        """See Objects.update."""
        return await self._wire.call(
            f"update {manifest['kind']} {manifest['metadata']['name']}",
            lambda: self._objects.update(manifest, term),
        )

    async def delete(self, ref: ObjectRef, version: str, term: Term) -> None:
        """See Objects.delete."""
        await self._wire.call(
            f"delete {ref.kind} {ref.name}", lambda: self._objects.delete(ref, version, term)
        )

    async def changed(self) -> frozenset[ObjectRef] | None:
        """See Objects.changed."""
        return await self._wire.call("changed", self._objects.changed)


class WiredClock:
    """The port Clock over a wire; reading it is no call."""

    def __init__(self, wire: Wire, clock: Clock) -> None:
        self._wire, self._clock = wire, clock
        self.now, self.monotonic = clock.now, clock.monotonic

    async def sleep(self, seconds: float) -> None:
        """See Clock.sleep."""
        await self._wire.call("sleep", lambda: self._clock.sleep(seconds))


class WiredWorkers:
    """The port Workers over a wire."""

    def __init__(self, wire: Wire, workers: Workers) -> None:
        self._wire, self._workers = wire, workers

    async def run(self, work: Callable[[], T]) -> T:
        """See Workers.run."""
        return await self._wire.call("work", lambda: self._workers.run(work))


class CountedEntropy:
    """The port Entropy; it says how many keys were made."""

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self.keys: list[KeyType] = []

    def private_key(self, key_type: KeyType) -> bytes:
        """See Entropy.private_key."""
        self.keys.append(key_type)
        return self._entropy.private_key(key_type)
