"""The port Objects over the API server.

Kinds are listed from a cache that a list-watch keeps; so is an object that others may change too.
What only acmeistio writes is asked for each time, which is seldom. Owns which of them are
followed, and the writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from acmeistio.errors import AcmeistioError, Conflict, NotLeader, Transient
from acmeistio.kube.client import Client
from acmeistio.kube.follower import Follower, Selection
from acmeistio.kube.groups import Groups
from acmeistio.kube.refusals import Missing
from acmeistio.kube.resources import RESOURCES, Resource
from acmeistio.kube.stream import Change, present
from acmeistio.model import ObjectRef, kind_of
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
        self._groups = Groups(client)
        self._leadership = leadership
        self._kinds = tuple(kinds)
        self._is_shared = is_shared
        self._whole = frozenset(whole)
        self._changed = asyncio.Event()
        self._news: set[ObjectRef] | None = set()
        """What has changed since somebody asked, None where that can't be said."""
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
        try:
            resource, found = await self._asked("GET", ref)
        except Missing:
            return None
        return resource.whole(found)

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
        ref = _what(manifest)
        try:
            return await self._put("POST", ref, manifest, term)
        except Missing as error:
            raise Transient(f"{ref} can't be created: {error}") from error

    async def update(self, manifest: Manifest, term: Term) -> Manifest:
        """See Objects.update."""
        ref = _what(manifest)
        if not manifest["metadata"].get("resourceVersion"):
            # The API server would replace whatever is there.
            raise Conflict(f"{ref} was not read before")
        try:
            return await self._put("PUT", ref, manifest, term)
        except Missing as error:
            raise Conflict(str(error)) from error

    async def delete(self, ref: ObjectRef, version: str, term: Term) -> None:
        """See Objects.delete. What has finalizers stays for a while, marked as deleted."""
        with self._write(ref, term) as outcome:
            try:
                resource, answer = await self._asked("DELETE", ref, _only_if(version))
                stays = bool(answer.get("metadata", {}).get("finalizers"))
            except Missing:
                stays = False
            gone = Change(ref.namespace, ref.name, int(version), None)
            outcome.append(present(resource.whole(answer), resource) if stays else gone)

    async def _put(self, method: str, ref: ObjectRef, manifest: Manifest, term: Term) -> Manifest:
        with self._write(ref, term) as outcome:
            resource, answer = await self._asked(method, ref, manifest)
            written = resource.whole(answer)
            outcome.append(present(written, resource))
        return written

    @contextlib.contextmanager
    def _write(self, ref: ObjectRef, term: Term) -> Iterator[list[Change]]:
        """A write of ours, whose outcome is put into the list; left empty where nobody knows.

        Whoever follows the object knows the outcome when this ends, and that it is ours.
        """
        self._following(ref)
        key, outcome = (ref.namespace, ref.name), list[Change]()
        collections = [f.collection for f in self._covering(RESOURCES[ref.kind], ref)]
        for collection in collections:
            collection.write_begins(key)
        try:
            if not self._leadership.holds(term):
                raise NotLeader(f"{term} is over")
            yield outcome
        finally:
            written = outcome[0] if outcome else None
            news = [collection.write_ends(key, written) for collection in collections]
            if any(news):
                self._heard(ref)

    async def _asked(
        self, method: str, ref: ObjectRef, body: Manifest | None = None
    ) -> tuple[Resource, dict[str, Any]]:
        """The answer about an object, and the version of its kind in which it was given.

        A 404 may mean that the version is not served: then another is tried. Raises Missing.
        """
        missing: list[Missing] = []
        for resource in self._versions(ref):
            path = resource.path(ref.namespace, None if method == "POST" else ref.name)
            sent = resource.spoken(body) if body and method != "DELETE" else body
            try:
                return resource, await self._client.request(method, path, sent)
            except Missing as error:
                missing.append(error)
        raise missing[0]

    def _versions(self, ref: ObjectRef) -> list[Resource]:
        """The versions of a kind, the one in use first."""
        resource = RESOURCES[ref.kind]
        in_use = {follower.resource for follower in self._covering(resource, ref)}
        return sorted(resource.versions, key=lambda version: version not in in_use)

    async def changed(self) -> frozenset[ObjectRef] | None:
        """See Objects.changed."""
        await self._changed.wait()
        self._changed.clear()
        news, self._news = self._news, set()
        return None if news is None else frozenset(news)

    def _heard(self, ref: ObjectRef | None) -> None:
        """An object has changed, or None: one of those that are followed."""
        if ref is None:
            self._news = None
        elif self._news is not None:
            self._news.add(ref)
        self._changed.set()

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
            follower = Follower(self._client, self._groups, selection, self._heard)
            self._followers[selection] = follower
            self._tasks[selection] = asyncio.ensure_future(follower.run())
        return self._followers[selection]


def _what(manifest: Manifest) -> ObjectRef:
    return RESOURCES[kind_of(manifest)].reference(manifest)


def _only_if(version: str) -> Manifest:
    """What a deletion says for an object that must be of this version."""
    preconditions = {"resourceVersion": version}
    return {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}


def _unlistable(kind: str, why: AcmeistioError) -> Trouble:
    facts = {"kind": kind, "why": plain(why)}
    return Trouble(ObjectRef("Kind", "", kind), Reason.KindUnlistable.name, tuple(facts.items()))
