"""Nonces: each is good once, and not for ever (RFC 8555 §6.5)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

_REMEMBERED = 65_536
"""As Boulder's nonce service: older ones are forgotten, and are then bad nonces."""


@dataclass(eq=False, slots=True)
class Nonces:
    """Those that are still good, and those that were spent; the oldest are forgotten."""

    _good: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _spent: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def give(self, nonce: str) -> None:
        """From now on it is good."""
        _remember(self._good, nonce)

    def spend(self, nonce: str) -> bool:
        """Whether it was good; it is not any more."""
        good = nonce in self._good
        self._good.pop(nonce, None)
        _remember(self._spent, nonce)
        return good

    def was_spent(self, nonce: str) -> bool:
        """Whether somebody used it."""
        return nonce in self._spent

    def clear(self) -> None:
        """Forget all."""
        self._good.clear()
        self._spent.clear()


def _remember(nonces: OrderedDict[str, None], nonce: str) -> None:
    nonces[nonce] = None
    if len(nonces) > _REMEMBERED:
        nonces.popitem(last=False)
