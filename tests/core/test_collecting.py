"""system.py: Python's garbage collection without its stalls."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from acmeistio.system import WHOLE_COLLECTION_SECONDS, Collecting


class Cycle:
    """What only a collection frees."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def collecting() -> Iterator[Collecting]:
    """Begun, and ended after the test."""
    collecting = Collecting()
    collecting.begin()
    yield collecting
    collecting.end()
    assert gc.get_freeze_count() == 0


def test_what_survives_is_not_looked_at_again(
    collecting: Collecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Garbage among it is freed by the one collection in a day that looks at everything."""
    there, later = Cycle(), Cycle()
    old = weakref.ref(there)
    gc.collect()
    assert gc.get_freeze_count() > 0
    new = weakref.ref(later)
    del there
    gc.collect()
    assert old() is not None
    monkeypatch.setattr(collecting, "_whole_at", collecting._whole_at - WHOLE_COLLECTION_SECONDS)
    gc.collect()
    assert old() is None
    assert new() is not None


def test_new_garbage_is_freed_at_once(collecting: Collecting) -> None:
    """A full collection looks at all that came since the last."""
    gone = weakref.ref(Cycle())
    gc.collect()
    assert gone() is None
