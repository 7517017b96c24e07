"""Forgetting what is over, so that ten years take no more room, and no more time, than one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from tests.simulated.ca.options import CaOptions
from tests.simulated.ca.records import Book, History
from tests.simulated.ca.world import World

K, V = TypeVar("K"), TypeVar("V")

_FEWEST_REQUESTS = 10_000
_SAME_NAMES_MATTER = timedelta(days=120)


@dataclass(eq=False, slots=True)
class Pruner:
    """Prunes as seldom as there is much to look through: each request pays little for it."""

    world: World
    options: CaOptions
    book: Book
    history: History
    _left: int = _FEWEST_REQUESTS

    def is_due(self) -> bool:
        """Count a request; whether it is time to prune again."""
        self._left -= 1
        return self._left < 0 and self.options.remember is not None

    def prune(self) -> None:
        """Forget what has been over for as long as the options say."""
        assert self.options.remember is not None
        now = self.world.now()
        self._prune_book(now, now - self.options.remember)
        self._prune_history(now - self.options.remember)
        book = self.book
        size = len(book.orders) + len(book.challenges) + len(book.certificates)
        self._left = max(_FEWEST_REQUESTS, size)

    def _prune_book(self, now: datetime, before: datetime) -> None:
        book = self.book
        _drop(book.orders, (k for k, v in book.orders.items() if v.expires < before))
        over = [each for each in book.authorizations.values() if each.expires < before]
        _drop(book.authorizations, (each.id for each in over))
        _drop(book.challenges, (challenge.id for each in over for challenge in each.challenges))
        expired = [each for each in book.certificates.values() if each.not_after < before]
        _drop(book.certificates, (each.id for each in expired))
        _drop(book.renewable, (each.renewal_id for each in expired))
        _drop(book.latest_orders, (k for k, v in book.latest_orders.items() if v.expires < now))
        _drop(book.latest_proofs, (k for k, v in book.latest_proofs.items() if v.expires < now))
        old = now - _SAME_NAMES_MATTER
        _drop(book.latest_issued, (k for k, v in book.latest_issued.items() if v < old))

    def _prune_history(self, before: datetime) -> None:
        history = self.history
        history.orders[:] = [each for each in history.orders if each.expires >= before]
        history.certificates[:] = [c for c in history.certificates if c.not_after >= before]
        history.validations[:] = [each for each in history.validations if each.at >= before]


def _drop(records: dict[K, V], keys: Iterable[K]) -> None:
    for key in list(keys):
        del records[key]
