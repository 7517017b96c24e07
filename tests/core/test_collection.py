"""What is known of followed objects: the newest counts, and our own writes are no news."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from acmeistio.kube.collection import Collection
from acmeistio.kube.resources import version_of
from acmeistio.kube.stream import Change
from acmeistio.ports import Manifest

KEY = ("ns", "certs")


def _object(version: int, name: str = "certs", **data: str) -> Manifest:
    metadata = {"namespace": "ns", "name": name, "resourceVersion": str(version)}
    return {"metadata": metadata, "data": data}


def _is(version: int, name: str = "certs", **data: str) -> Change:
    return Change("ns", name, version, _object(version, name, **data))


def _gone(version: int, name: str = "certs") -> Change:
    return Change("ns", name, version, None)


def _listed(*changes: Change, version: int = 10) -> Collection:
    collection = Collection()
    collection.list_begins()
    collection.listed(changes, version)
    return collection


# ── what others do ────────────────────────────────────────────────────────────────────────────


def test_a_list_that_shows_something_new_is_news() -> None:
    """An empty first one is none."""
    assert not Collection().listed((), 10)
    assert Collection().listed((_is(3),), 10)


def test_what_is_gone_from_a_list_is_gone() -> None:
    """A deletion that nobody told of."""
    collection = _listed(_is(3), _is(4, "other"))
    assert collection.listed((_is(4, "other"),), 20)
    assert collection.get(KEY) is None
    assert len(collection.all()) == 1


def test_an_unchanged_object_is_the_same_value() -> None:
    """Whatever is listed or told again, the reader need not look at it again."""
    collection = _listed(_is(3))
    known, everything = collection.get(KEY), collection.all()
    assert not collection.listed((_is(3),), 20)
    assert not collection.changed(_is(3))
    assert collection.get(KEY) is known
    assert collection.all() is everything


def test_an_older_telling_never_wins_in_a_watch() -> None:
    """Also one that says that the object is gone."""
    collection = _listed(_is(5))
    assert not collection.changed(_is(4, a="old"))
    assert not collection.changed(_gone(4))
    assert collection.get(KEY) == _object(5)


def test_a_list_counts_however_old_it_looks() -> None:
    """The API server was put back to an earlier day: its versions begin again."""
    collection = _listed(_is(1000, a="before"), version=1000)
    assert collection.listed((_is(500, a="restored"),), 600)
    assert collection.get(KEY) == _object(500, a="restored")
    assert collection.listed((_is(500, a="other content"),), 600)


# ── what we write ─────────────────────────────────────────────────────────────────────────────


def test_an_own_write_is_known_at_once_and_no_news() -> None:
    """Told of by the watch later, or before the answer was here."""
    collection = _listed()
    collection.write_begins(KEY)
    assert not collection.write_ends(KEY, _is(11))
    assert collection.get(KEY) == _object(11)
    assert not collection.changed(_is(11))
    collection.write_begins(KEY)
    assert not collection.changed(_is(12))
    assert not collection.write_ends(KEY, _is(12))
    assert collection.get(KEY) == _object(12)


def test_what_others_did_after_our_write_is_news() -> None:
    """Also when the watch was faster than our answer."""
    collection = _listed(_is(3))
    collection.write_begins(KEY)
    assert not collection.changed(_is(11))
    assert not collection.changed(_gone(12))
    assert collection.write_ends(KEY, _is(11))
    assert collection.get(KEY) is None


def test_a_write_that_failed_leaves_what_others_did() -> None:
    """It is told when the write is over."""
    collection = _listed(_is(3))
    collection.write_begins(KEY)
    assert not collection.changed(_is(11, theirs="a"))
    assert collection.get(KEY) == _object(3)
    assert collection.write_ends(KEY, None)
    assert collection.get(KEY) == _object(11, theirs="a")


def test_a_list_from_before_our_write_does_not_hide_it() -> None:
    """It was begun before, and came after."""
    collection = _listed()
    collection.list_begins()
    collection.write_begins(KEY)
    collection.write_ends(KEY, _is(11))
    assert not collection.listed((), 10)
    assert collection.get(KEY) == _object(11)
    collection.list_begins()
    assert collection.listed((), 12)
    assert collection.get(KEY) is None


def test_of_writes_at_once_the_newest_counts() -> None:
    """Two of ours on the same object, answered in the other order."""
    collection = _listed()
    collection.write_begins(KEY)
    collection.write_begins(KEY)
    assert not collection.changed(_is(12))
    assert not collection.write_ends(KEY, _is(12))
    assert not collection.write_ends(KEY, _is(11))
    assert collection.get(KEY) == _object(12)


# ── what we delete ────────────────────────────────────────────────────────────────────────────


def test_an_own_deletion_is_known_at_once_and_no_news() -> None:
    """Told of by the watch later, or before the answer was here."""
    collection = _listed(_is(3), _is(4, "other"))
    collection.write_begins(KEY)
    assert not collection.write_ends(KEY, _gone(3))
    assert collection.get(KEY) is None
    assert not collection.changed(_gone(11))
    other = ("ns", "other")
    collection.write_begins(other)
    assert not collection.changed(_gone(12, "other"))
    assert not collection.write_ends(other, _gone(4, "other"))
    assert collection.all() == ()


def test_what_we_deleted_does_not_come_back_by_an_old_telling() -> None:
    """Not by a watch that lags behind, nor by a list that was begun before."""
    collection = _listed(_is(3))
    collection.list_begins()
    collection.write_begins(KEY)
    collection.write_ends(KEY, _gone(3))
    assert not collection.changed(_is(3))
    assert not collection.listed((_is(3),), 10)
    assert collection.get(KEY) is None
    assert not collection.changed(_gone(11))


def test_what_others_made_in_place_of_what_we_deleted_is_news() -> None:
    """Also when the watch was faster than our answer."""
    collection = _listed(_is(3))
    collection.write_begins(KEY)
    assert not collection.changed(_gone(11))
    assert not collection.changed(_is(12, theirs="a"))
    assert collection.write_ends(KEY, _gone(3))
    assert collection.get(KEY) == _object(12, theirs="a")


def test_what_we_deleted_counts_again_after_a_list_that_has_it() -> None:
    """The API server was put back to an earlier day: its versions begin again."""
    collection = _listed(_is(30), version=30)
    collection.write_begins(KEY)
    collection.write_ends(KEY, _gone(30))
    collection.list_begins()
    assert not collection.listed((), 20)
    assert collection.changed(_is(21, a="anew"))


# ── all orders of events ──────────────────────────────────────────────────────────────────────

THEIRS = ("theirs", "delete")
OURS = ("begin", "doom", "reach", "end", "lose")
FOLLOWING = ("watch", "ask", "snap", "list")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(THEIRS + OURS + FOLLOWING),
        st.sampled_from(["a", "b"]),
    ),
    max_size=60,
)


class _World:
    """An API server, one watch that lags behind, and our own writes in all their stages."""

    def __init__(self) -> None:
        self.collection = _listed()
        self.stored: dict[str, Manifest] = {}
        self.log: list[Change] = []
        self.told = 0
        """How many changes of the log the watch has told of."""
        self.writing: dict[str, Change | None] = {}
        """Our writes under way; what they did, once they reached the API server."""
        self.dooming: dict[str, int] = {}
        """Those of them that delete, and the version that was read."""
        self.ours: list[Manifest] = []
        self.deleted: dict[str, int] = {}
        """What we deleted, and its version then."""
        self.is_asked = False
        self.page: tuple[list[Change], int, int] | None = None
        """A list on its way: its objects, their version, and the changes that it covers."""

    def known(self) -> dict[str, Manifest]:
        """What the collection knows."""
        return {manifest["metadata"]["name"]: manifest for manifest in self.collection.all()}

    def do(self, what: str, name: str) -> None:
        """One step, if it is possible; what is known changes only with news, or by us.

        While we wrote, something may have come and gone: that is news without a change.
        """
        before = self.known()
        news = getattr(self, f"_{what}")(name)
        after = self.known()
        changed = {n for n in before.keys() | after.keys() if before.get(n) != after.get(n)}
        was_deletion = what == "end" and self.deleted.get(name) is not None and name not in after
        ours = {n for n in changed if after.get(n) in self.ours or (was_deletion and n == name)}
        assert ours == changed or news
        assert not news or changed or what in {"end", "lose"}
        assert all(version_of(m) > self.deleted.get(n, 0) for n, m in after.items())

    def _theirs(self, name: str) -> bool:
        self._store(name)
        return False

    def _delete(self, name: str) -> bool:
        if self.stored.pop(name, None):
            self.log.append(_gone(self._version + 1, name))
        return False

    def _begin(self, name: str) -> bool:
        if name not in self.writing:
            self.collection.write_begins(("ns", name))
            self.writing[name] = None
        return False

    def _doom(self, name: str) -> bool:
        """We delete what we know, as it was read."""
        if name not in self.writing and name in self.known():
            self.dooming[name] = version_of(self.known()[name])
            self._begin(name)
        return False

    def _reach(self, name: str) -> bool:
        if name not in self.writing or self.writing[name] is not None:
            return False
        if name not in self.dooming:
            self.writing[name] = _is_stored(self._store(name))
            self.ours.append(self.stored[name])
        elif self._is_as_read(name):
            self._delete(name)
            self.writing[name] = _gone(self.dooming[name], name)
        return False

    def _is_as_read(self, name: str) -> bool:
        """Whether a deletion is not refused: what is there is what was read, or nothing."""
        stored = self.stored.get(name)
        return stored is None or version_of(stored) == self.dooming[name]

    def _end(self, name: str) -> bool:
        """The answer is here. What is known then is what we wrote, or something newer."""
        if (written := self.writing.get(name)) is None:
            return False
        del self.writing[name]
        self.dooming.pop(name, None)
        news = self.collection.write_ends(("ns", name), written)
        assert news or self.known().get(name) == written.manifest
        if written.manifest is None:
            self.deleted[name] = written.version
        return news

    def _lose(self, name: str) -> bool:
        """The answer never comes, whether we wrote or not."""
        if name not in self.writing:
            return False
        del self.writing[name]
        self.dooming.pop(name, None)
        return self.collection.write_ends(("ns", name), None)

    def _watch(self, _: str) -> bool:
        if self.is_asked or self.told == len(self.log):
            return False
        self.told += 1
        return self.collection.changed(self.log[self.told - 1])

    def _ask(self, _: str) -> bool:
        """The watch is over, and everything is asked for."""
        self.is_asked, self.page = True, None
        self.collection.list_begins()
        return False

    def _snap(self, _: str) -> bool:
        """The list is made."""
        if self.is_asked and self.page is None:
            found = [_is_stored(manifest) for manifest in self.stored.values()]
            self.page = found, self._version, len(self.log)
        return False

    def _list(self, _: str) -> bool:
        """The list is here, and the watch goes on from it."""
        if self.page is None:
            return False
        found, version, self.told = self.page
        self.is_asked, self.page = False, None
        return self.collection.listed(found, version)

    @property
    def _version(self) -> int:
        return 10 + len(self.log)

    def _store(self, name: str) -> Manifest:
        self.stored[name] = _object(self._version + 1, name)
        self.log.append(_is_stored(self.stored[name]))
        return self.stored[name]

    def settle(self) -> None:
        """All answers come, and all that the watch has to tell."""
        for name in [*self.writing]:
            self.do("lose" if self.writing[name] is None else "end", name)
        self.do("snap", "")
        self.do("list", "")
        while self.told < len(self.log):
            self.do("watch", "")


def _is_stored(manifest: Manifest) -> Change:
    metadata = manifest["metadata"]
    return Change("ns", metadata["name"], int(metadata["resourceVersion"]), manifest)


@given(STEPS)
def test_in_the_end_what_is_known_is_what_is_stored(steps: list[tuple[str, str]]) -> None:
    """In whatever order changes, answers, watch events and lists come."""
    world = _World()
    for what, name in steps:
        world.do(what, name)
    world.settle()
    assert world.known() == world.stored
