"""What is known of the objects that one list-watch follows, our own writes among it. Pure.

Owns which of two tellings of an object counts, and what is news: what we wrote ourselves is
none, whether the watch or the answer to the write tells of it first. Manifests are handed out as
they are and changed by nobody: the same object is the same value.
"""

from __future__ import annotations

from collections.abc import Iterable

from acmeistio.kube.resources import version_of
from acmeistio.kube.stream import Change
from acmeistio.ports import Manifest

Key = tuple[str, str]
"""Namespace and name."""


class Collection:
    """Objects of one kind by namespace and name."""

    def __init__(self) -> None:
        self._objects: dict[Key, Manifest] = {}
        self._writing: dict[Key, int] = {}
        """How many writes of ours are under way."""
        self._held: dict[Key, list[Change]] = {}
        """What was told meanwhile, in order."""
        self._deleted: dict[Key, int] = {}
        """What we deleted, and its version then: what was told of it before is told late."""
        self._written: set[Key] = set()
        """What we wrote since the list that is under way was begun; it may be newer than that."""
        self._all: tuple[Manifest, ...] | None = None

    def get(self, key: Key) -> Manifest | None:
        """An object, None where there is none."""
        return self._objects.get(key)

    def all(self) -> tuple[Manifest, ...]:
        """All objects; the same value until something changes."""
        if self._all is None:
            self._all = tuple(self._objects.values())
        return self._all

    def list_begins(self) -> None:
        """From now on a list may tell less than our own writes."""
        self._written.clear()

    def listed(self, found: Iterable[Change], version: int) -> bool:
        """All objects as they were at this version; whether that is news.

        It counts whatever was known before, but what we have written since it was begun.
        """
        present = {change.key: change for change in found}
        ever = self._objects.keys() | self._writing.keys()
        gone = (Change(*key, version, None) for key in ever if key not in present)
        changes = [*present.values(), *gone]
        self._deleted = {k: v for k, v in self._deleted.items() if k in self._written}
        news = [self._take(c, newer_only=c.key in self._written) for c in changes]
        return any(news)

    def changed(self, change: Change) -> bool:
        """A change that a watch tells of; whether it is news."""
        return self._take(change, newer_only=True)

    def _take(self, change: Change, *, newer_only: bool) -> bool:
        """Whether an object is another now. While we write it, that can't be said yet."""
        if change.key in self._writing:
            self._held.setdefault(change.key, []).append(change)
            return False
        if newer_only and change.version <= self._known_version(change.key):
            return False
        self._deleted.pop(change.key, None)
        if self._objects.get(change.key) == change.manifest:
            return False
        self._put(change.key, change.manifest)
        return True

    def _known_version(self, key: Key) -> int:
        known = self._objects.get(key)
        return version_of(known) if known is not None else self._deleted.get(key, 0)

    def write_begins(self, key: Key) -> None:
        """From now on what is told of this object may be our own doing."""
        self._writing[key] = self._writing.get(key, 0) + 1

    def write_ends(self, key: Key, written: Change | None) -> bool:
        """What we wrote, None if nothing or nobody knows; whether there is news.

        Without a manifest it is what we deleted, and its version before. What was told while we
        wrote counts if it is newer than what we wrote.
        """
        if written is not None:
            self._written.add(key)
            self._keep(written)
        self._writing[key] -= 1
        if self._writing[key]:
            return False
        del self._writing[key]
        news = [self.changed(change) for change in self._held.pop(key, ())]
        return any(news)

    def _keep(self, written: Change) -> None:
        """Know what we wrote, unless something newer is known."""
        newest = self._known_version(written.key)
        if written.manifest is not None and newest < written.version:
            self._put(written.key, written.manifest)
            self._deleted.pop(written.key, None)
        elif written.manifest is None and newest <= written.version:
            self._put(written.key, None)
            self._deleted[written.key] = written.version

    def _put(self, key: Key, manifest: Manifest | None) -> None:
        self._all = None
        if manifest is None:
            self._objects.pop(key, None)
        else:
            self._objects[key] = manifest
