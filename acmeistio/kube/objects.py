"""The port Objects over the API server.

Kinds are listed from a cache that a list-watch keeps; so is an object that others may change too.
What only acmeistio writes is asked for each time, which is seldom. Owns which of them are
followed, and the writes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator

from acmeistio.errors import AcmeistioError, Conflict, NotLeader, Transient
from acmeistio.kube.client import Client
from acmeistio.kube.follower import Follower, Selection
from acmeistio.kube.refusals import Missing
from acmeistio.kube.resources import RESOURCES, Resource
from acmeistio.model import ObjectRef
from acmeistio.ports import Leadership, Listing, Manifest, Term, Trouble
from acmeistio.reasons import Reason, plain

UNASKED_SECONDS = 1800.0
"""An object that nobody has asked for since is not followed any more; the controller asks for all
that are declared every few minutes."""
TENDING_SECONDS = 60.0


class KubeObjects:
    """Objects in a cluster. `watch` must run beside every other use.

    `kinds` are followed in all namespaces from the start. Of the objects for which `is_shared`,
    others may change, each is followed by itself, or in `whole` (kind, namespace) with all others
    of its kind there.
    """

    def __init__(
        self,
        client: Client,
        leadership: Leadership,
        *,
        kinds: Iterable[str],
        is_shared: Callable[[ObjectRef], bool],
        whole: Iterable[tuple[str, str]] = (),
    ) -> None:
        self._client = client
        self._leadership = leadership
        self._kinds = tuple(kinds)
        self._is_shared = is_shared
        self._whole = frozenset(whole)
        self._changed = asyncio.Event()
        self._followers: dict[Selection, Follower] = {}
        self._tasks: dict[Selection, asyncio.Task[None]] = {}

    async def listing(self, kind: str) -> Listing:
        """See Objects.listing. A kind that may not be listed is incomplete and a Trouble.

        While the API server is away it is incomplete only: that is nobody's mistake.
        """
        follower = self._follow(Selection(RESOURCES[kind]))
        await follower.tried()
        trouble, known = follower.trouble, follower.collection.all()
        if trouble is None:
            return Listing(known)
        if type(trouble) is not Transient:
            return Listing(known, complete=False, troubles=(_unlistable(kind, trouble),))
        if not follower.is_known:
            raise trouble
        return Listing(known, complete=False)

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """See Objects.get. What was known last counts while the API server is away."""
        ref = ObjectRef(kind, namespace, name)
        follower = self._following(ref)
        if follower is None:
            return await self._read(ref)
        await follower.tried()
        if follower.trouble and not follower.is_known:
            raise follower.trouble
        return follower.collection.get((namespace, name))

    async def _read(self, ref: ObjectRef) -> Manifest | None:
        resource = RESOURCES[ref.kind]
        try:
            path = resource.path(ref.namespace, ref.name)
            return resource.whole(await self._client.request("GET", path))
        except Missing:
            return None

    def find(self, ref: ObjectRef) -> Manifest | None:
        """An object if it is one of those that are followed, without asking for it."""
        resource = RESOURCES.get(ref.kind)
        if resource is None:
            return None
        key = (ref.namespace if resource.namespaced else "", ref.name)
        found = (follower.collection.get(key) for follower in self._covering(resource, ref))
        return next(filter(None, found), None)

    async def create(self, manifest: Manifest, term: Term) -> Manifest:
        """See Objects.create."""
        resource, ref = _what(manifest)
        try:
            return await self._write("POST", resource.path(ref.namespace), ref, manifest, term)
        except Missing as error:
            raise Transient(f"{ref} can't be created: {error}") from error

    async def update(self, manifest: Manifest, term: Term) -> Manifest:
        """See Objects.update."""
        resource, ref = _what(manifest)
        if not manifest["metadata"].get("resourceVersion"):
            # The API server would replace whatever is there.
            raise Conflict(f"{ref} was not read before")
        path = resource.path(ref.namespace, ref.name)
        try:
            return await self._write("PUT", path, ref, manifest, term)
        except Missing as error:
            raise Conflict(str(error)) from error

    async def _write(
        self, method: str, path: str, ref: ObjectRef, manifest: Manifest, term: Term
    ) -> Manifest:
        """Whoever follows the object knows the answer when this returns, and that it is ours."""
        self._following(ref)
        resource, key = RESOURCES[ref.kind], (ref.namespace, ref.name)
        collections = [follower.collection for follower in self._covering(resource, ref)]
        for collection in collections:
            collection.write_begins(key)
        written = None
        try:
            if not self._leadership.holds(term):
                raise NotLeader(f"{term} is over")
            written = resource.whole(await self._client.request(method, path, manifest))
        finally:
            news = [collection.write_ends(key, written) for collection in collections]
            if any(news):
                self._changed.set()
        return written

    async def changed(self) -> None:
        """See Objects.changed."""
        await self._changed.wait()
        self._changed.clear()

    async def watch(self) -> None:
        """Follow what is to be followed, for ever."""
        try:
            for kind in self._kinds:
                self._follow(Selection(RESOURCES[kind]))
            while True:
                await asyncio.sleep(TENDING_SECONDS)
                self._tend()
        finally:
            tasks = [*self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _tend(self) -> None:
        """Let go of what nobody asks for; a follower that broke is a mistake that ends us."""
        for task in self._tasks.values():
            if task.done():
                task.result()
        old = time.monotonic() - UNASKED_SECONDS
        for selection in [s for s, f in self._followers.items() if s.name and f.asked_at < old]:
            del self._followers[selection]
            self._tasks.pop(selection).cancel()

    def _following(self, ref: ObjectRef) -> Follower | None:
        """Who follows an object; None for one that only we change."""
        resource = RESOURCES[ref.kind]
        follower = next(self._covering(resource, ref), None)
        if follower or not self._is_shared(ref):
            return follower
        together = (ref.kind, ref.namespace) in self._whole
        return self._follow(Selection(resource, ref.namespace, None if together else ref.name))

    def _covering(self, resource: Resource, ref: ObjectRef) -> Iterator[Follower]:
        namespace = ref.namespace if resource.namespaced else None
        for selection in (
            Selection(resource),
            Selection(resource, namespace),
            Selection(resource, namespace, ref.name),
        ):
            if selection in self._followers:
                yield self._followers[selection]

    def _follow(self, selection: Selection) -> Follower:
        if selection not in self._followers:
            follower = Follower(self._client, selection, self._changed.set)
            self._followers[selection] = follower
            self._tasks[selection] = asyncio.ensure_future(follower.run())
        return self._followers[selection]


def _what(manifest: Manifest) -> tuple[Resource, ObjectRef]:
    resource = RESOURCES[manifest["kind"]]
    return resource, resource.reference(manifest)


def _unlistable(kind: str, why: AcmeistioError) -> Trouble:
    facts = {"kind": kind, "why": plain(why)}
    return Trouble(ObjectRef("Kind", "", kind), Reason.KindUnlistable.name, tuple(facts.items()))
