"""Follows some objects of one kind: carries out the states of following.py, for ever.

Owns the requests of a list-watch and nothing of what they mean; what is known lies in a
Collection.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from acmeistio.errors import AcmeistioError, Transient
from acmeistio.kube.client import Client
from acmeistio.kube.collection import Collection
from acmeistio.kube.following import (
    Ended,
    Failed,
    Following,
    Happening,
    Listed,
    Listing,
    Loss,
    Opened,
    Outdated,
    Received,
    Unserved,
    Waiting,
    Watching,
    Woke,
    step,
)
from acmeistio.kube.groups import Groups
from acmeistio.kube.refusals import Gone, Missing
from acmeistio.kube.resources import Resource
from acmeistio.kube.stream import Bookmark, Change, lines, page, told
from acmeistio.model import ObjectRef

_log = logging.getLogger(__name__)

PAGE_OBJECTS = 500
SHORTEST_WATCH_SECONDS = 300
WATCH_SPREAD_SECONDS = 300
"""The API server is asked to end a watch after the first and up to the second more: after a
restart of it not all watches of all programs come back together for ever."""
ENDED_AT_ONCE_SECONDS = 1.0
"""A watch that ends sooner was not wanted, and is not asked for again at once."""
SILENCE_SECONDS = 90.0
"""A connection over which nothing comes for so long is dead: bookmarks come every minute. Where
nothing at all has happened the API server may leave one out, and before the first change of a kind
all of them; then everything is listed for nothing, and it goes on."""


News = Callable[[ObjectRef | None], None]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects: all of a kind, those of a namespace, or the one of a name there."""

    resource: Resource
    namespace: str | None = None
    name: str | None = None

    @property
    def query(self) -> dict[str, str]:
        """Which of those there. RBAC takes it for a name where a Role names objects."""
        return {"fieldSelector": f"metadata.name={self.name}"} if self.name else {}

    def __str__(self) -> str:
        if self.name:
            return f"{self.resource.kind} {self.namespace}/{self.name}"
        return f"{self.resource.plural} of {self.namespace or 'all namespaces'}"


class Follower:
    """One list-watch.

    `news` is called whenever something may have changed, not by us: with the object, or with None
    where it may be any of them.
    """

    def __init__(self, client: Client, groups: Groups, selection: Selection, news: News) -> None:
        self._groups = groups
        self.selection = selection
        self.collection = Collection()
        self.asked_at = time.monotonic()
        """When somebody wanted to know last."""
        self._client = client
        self._news = news
        self._state = Following()
        self._tried = asyncio.Event()
        self._is_known = False
        self._was_absent: bool | None = None
        self._shown: Loss | None = None

    @property
    def is_known(self) -> bool:
        """Whether there ever was an answer; what was known last counts until there is another."""
        return self._is_known

    @property
    def resource(self) -> Resource:
        """The kind in the version in use, or in the one that is tried next."""
        return self.selection.resource.versions[self._state.served_as]

    @property
    def trouble(self) -> AcmeistioError | None:
        """Why nothing is known, or has not been heard for a while."""
        loss = self._shown if self._is_known else self._state.loss
        return loss.error if loss else None

    async def tried(self) -> None:
        """Return when there is an answer, or a failure: `trouble`."""
        self.asked_at = time.monotonic()
        await self._tried.wait()

    async def run(self) -> None:
        """Follow, until cancelled."""
        while True:
            match self._state.phase:
                case Listing():
                    await self._attempted(self._list())
                case Watching(version):
                    await self._attempted(self._watch(version))
                case Waiting(until):
                    await asyncio.sleep(max(0.0, until - time.monotonic()))
                    self._advance(Woke())

    async def _attempted(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Gone:
            self._advance(Outdated())
        except Missing as error:
            self._advance(self._unserved(error))
        except AcmeistioError as error:
            self._advance(Failed(error))
        except Exception as error:  # noqa: BLE001  # a bulkhead
            # A mistake of ours must not leave these objects unwatched.
            _log.exception("following %s", self.selection)
            self._advance(Failed(Transient(f"{type(error).__name__}: {error}")))

    def _unserved(self, error: Missing) -> Unserved:
        """What a 404 means: a list is there however empty it is, so there is no such kind."""
        resource = self.selection.resource
        can_be_absent = resource.optional and not self.collection.all()
        return Unserved(error, len(resource.versions), can_be_absent)

    async def _list(self) -> None:
        self.collection.list_begins()
        resource, found = self.resource, list[Change]()
        if self._state.is_absent and await self._groups.is_missing(resource.group):
            raise Missing(f"nothing of {resource.group} is served")
        path = resource.path(self.selection.namespace)
        query = {**self.selection.query, "limit": str(PAGE_OBJECTS)}
        while True:
            part = page(await self._client.request("GET", path, query=query), resource)
            found += part.found
            if not part.rest:
                break
            query["continue"] = part.rest
        is_news = self.collection.listed(found, part.version)
        self._advance(Listed(part.version))
        if is_news:
            self._news(None)

    async def _watch(self, version: int) -> None:
        began = time.monotonic()
        spread = zlib.crc32(str(self.selection).encode()) % WATCH_SPREAD_SECONDS
        query = {
            **self.selection.query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": str(version),
            "timeoutSeconds": str(SHORTEST_WATCH_SECONDS + spread),
        }
        path, silence = self.resource.path(self.selection.namespace), SILENCE_SECONDS
        async with self._client.stream(path, query, silence_seconds=silence) as chunks:
            self._advance(Opened())
            async for line in lines(chunks):
                self._receive(told(line, self.resource))
                if not isinstance(self._state.phase, Watching):
                    return
        if time.monotonic() - began < ENDED_AT_ONCE_SECONDS:
            raise Transient("the API server ended a watch at once")
        self._advance(Ended())

    def _receive(self, what: Change | Bookmark) -> None:
        self._advance(Received(what.version))
        is_in_order = isinstance(self._state.phase, Watching)
        if is_in_order and isinstance(what, Change) and self.collection.changed(what):
            self._news(ObjectRef(self.resource.kind, *what.key))

    def _advance(self, happening: Happening) -> None:
        now = time.monotonic()
        self._state = step(self._state, happening, now)
        if isinstance(happening, Listed) or self._state.is_absent:
            self._answered()
        if isinstance(happening, Listed) or self._state.is_absent or self._state.loss:
            self._tried.set()
        self._show(self._state.shown_loss(now))

    def _answered(self) -> None:
        """There is an answer, be it that there is no such kind."""
        if self._tried.is_set() and not self._is_known:
            self._news(None)
        self._is_known = True
        before, self._was_absent = self._was_absent, self._state.is_absent
        if before is not None and before != self._was_absent:
            _log.info("%s: the kind is %s", self.selection, "gone" if self._was_absent else "here")

    def _show(self, loss: Loss | None) -> None:
        """Tell when the objects are lost from sight for a while, and when they are back.

        A kind that may not be listed becomes a Trouble; of all else nobody would hear why.
        """
        before, self._shown = self._shown, loss
        if loss and not before and (self.selection.namespace or type(loss.error) is Transient):
            _log.warning("%s can't be followed: %s", self.selection, loss.error)
        if (loss is None) != (before is None):
            self._news(None)
