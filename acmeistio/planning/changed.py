"""What has become another since the last time: thousands of things are the same. Pure."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import TypeVar

from acmeistio.model import Declaration, Target

K = TypeVar("K")
V = TypeVar("V")

_NOTHING = object()


def differing(before: Mapping[K, V], now: Mapping[K, V]) -> set[K]:
    """The keys whose value is another, or that only one of them has."""
    if before == now:
        return set()
    found = {
        key
        for key, value in now.items()
        if (known := before.get(key, _NOTHING)) is not value and known != value
    }
    # Of dicts, and not of their keys, which would be hashed anew.
    return found.union(set(before).difference(now))


class Groups:
    """The declarations by target; `update` does anew only the groups that have changed."""

    def __init__(self) -> None:
        self.by_target: dict[Target, list[Declaration]] = {}
        self._declarations: tuple[Declaration, ...] = ()

    def update(self, declarations: tuple[Declaration, ...]) -> set[Target]:
        """The targets whose declarations are others than the last time; each is among them once.

        Sources hand out the same values while their objects are the same, so that what came and
        what went is found by identity.
        """
        gone, come = exchanged(self._declarations, declarations)
        self._declarations = declarations
        changed = {made.target for made in (*gone, *come)}
        lost = set(map(id, gone))
        for target in changed:
            kept = self.by_target.pop(target, [])
            self.by_target[target] = [made for made in kept if id(made) not in lost]
        for made in come:
            self.by_target[made.target].append(made)
        for target in changed:
            if not self.by_target[target]:
                del self.by_target[target]
        return changed


def exchanged(before: Sequence[V], now: Sequence[V]) -> tuple[list[V], list[V]]:
    """What went and what came, by identity; mostly it is little, and at one place."""
    if before is now:
        return [], []
    begin = _same_at_begin(before, now)
    before, now = before[begin:], now[begin:]
    end = _same_at_begin(before[::-1], now[::-1])
    before, now = before[: len(before) - end], now[: len(now) - end]
    were, are = set(map(id, before)), set(map(id, now))
    return [v for v in before if id(v) not in are], [v for v in now if id(v) not in were]


def _same_at_begin(ones: Sequence[V], others: Sequence[V]) -> int:
    """How many of the first are the same."""
    first = bytes(map(operator.is_, ones, others)).find(False)
    return min(len(ones), len(others)) if first < 0 else first
