"""What a restart must find again: the Ledger in a ConfigMap, keys of open orders in a Secret.

Owns how many changes share few writes. What the Ledger means is planning/ledger.py's business.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from acmeistio.errors import Conflict, Misconfigured
from acmeistio.model import ACMEISTIO, MANAGED_BY
from acmeistio.planning.ledger import Ledger
from acmeistio.planning.ledger_text import NewerLedger, UnreadableLedger, from_json, to_json
from acmeistio.ports import Clock, Manifest, Objects, Term, Workers

LEDGER_NAME = "acmeistio-ledger"
LEDGER_KEY = "ledger.json"
SMALL_LEDGER = 500
"""One with so many budgets is written out in some milliseconds; with tens of thousands it takes
tenths of a second, and others go on meanwhile. A small one does not wait for a thread: they may all
be busy with RSA keys."""
PENDING_KEYS_NAME = "acmeistio-pending-keys"
"""One Secret for the keys of all open orders, so that a fixed name can be granted by RBAC."""


class GroupCommit:
    """Many changes, few writes: a caller returns when a write that began after it came is done."""

    def __init__(self, write: Callable[[], Awaitable[None]]) -> None:
        self._write = write
        self._asked = 0
        self._written = 0
        self._lock = asyncio.Lock()

    async def __call__(self) -> None:
        """Return when what has been changed until now is written."""
        self._asked += 1
        mine = self._asked
        async with self._lock:
            if self._written >= mine:
                return
            covered = self._asked
            await self._write()
            self._written = covered


class _Document:
    """One object of ours whose whole content this process decides, as its only writer."""

    def __init__(self, objects: Objects, kind: str, namespace: str, name: str) -> None:
        self._objects = objects
        self._kind, self._namespace, self._name = kind, namespace, name
        self._stored: Manifest | None = None

    async def load(self) -> dict[str, str]:
        """Its data, empty where it does not exist yet."""
        self._stored = await self._objects.get(self._kind, self._namespace, self._name)
        return dict((self._stored or {}).get("data") or {})

    async def save(self, data: dict[str, str], term: Term) -> None:
        """Replace its data; whoever else touched the object is overruled, once a write."""
        try:
            await self._put(data, term)
        except Conflict:
            await self.load()
            await self._put(data, term)

    async def _put(self, data: dict[str, str], term: Term) -> None:
        if self._stored is None:
            self._stored = await self._objects.create({**self._new(), "data": data}, term)
        else:
            self._stored = await self._objects.update({**self._stored, "data": data}, term)

    def _new(self) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": self._kind,
            "metadata": {
                "namespace": self._namespace,
                "name": self._name,
                "labels": {MANAGED_BY: ACMEISTIO},
            },
        }


class LedgerStore:
    """The Ledger as it is now; changes count at once and are written in groups."""

    def __init__(self, objects: Objects, namespace: str, clock: Clock, workers: Workers) -> None:
        self._document = _Document(objects, "ConfigMap", namespace, LEDGER_NAME)
        self._clock = clock
        self._workers = workers
        self._commit = GroupCommit(self._write)
        self._term = Term("", 0)
        self.ledger = Ledger()

    async def load(self) -> str | None:
        """Read it; the answer says what was wrong with an unreadable one, which starts empty.

        Raises Misconfigured when it was written by a newer acmeistio.
        """
        data = await self._document.load()
        self.ledger = Ledger()
        try:
            if LEDGER_KEY in data:
                self.ledger = await self._workers.run(lambda: from_json(data[LEDGER_KEY]))
        except NewerLedger as error:
            raise Misconfigured(str(error)) from error
        except UnreadableLedger as error:
            return str(error)
        return None

    async def change(self, transition: Callable[[Ledger], Ledger], term: Term) -> None:
        """Apply a transition and return when it is written."""
        changed = transition(self.ledger)
        if changed is self.ledger:
            return
        self.ledger, self._term = changed, term
        await self._commit()

    async def _write(self) -> None:
        ledger = self.ledger = replace(self.ledger, as_of=self._clock.now())
        is_small = len(ledger.budgets) <= SMALL_LEDGER
        text = to_json(ledger) if is_small else await self._workers.run(lambda: to_json(ledger))
        await self._document.save({LEDGER_KEY: text}, self._term)


class PendingKeys:
    """The certificate keys of open orders, by the order's URL.

    A key is kept before its order is finalized and until its bundle is stored: a crash between
    the two wastes no order.
    """

    def __init__(self, objects: Objects, namespace: str) -> None:
        self._document = _Document(objects, "Secret", namespace, PENDING_KEYS_NAME)
        self._commit = GroupCommit(self._write)
        self._term = Term("", 0)
        self._keys: dict[str, str] = {}

    async def load(self) -> None:
        """Read them."""
        self._keys = await self._document.load()

    def get(self, order_url: str) -> bytes | None:
        """The key of an order as PEM, None where there is none."""
        value = self._keys.get(_slot(order_url))
        try:
            return base64.b64decode(value, validate=True) if value else None
        except ValueError:
            return None

    async def keep(self, order_url: str, key_pem: bytes, term: Term) -> None:
        """Return when the key of an order is kept."""
        self._keys[_slot(order_url)] = base64.b64encode(key_pem).decode()
        self._term = term
        await self._commit()

    async def forget(self, order_url: str, term: Term) -> None:
        """Drop the key of an order that is finished."""
        if self._keys.pop(_slot(order_url), None):
            self._term = term
            await self._commit()

    async def retain(self, order_urls: frozenset[str], term: Term) -> None:
        """Drop all keys but those of open orders."""
        stale = self._keys.keys() - {_slot(url) for url in order_urls}
        for slot in stale:
            del self._keys[slot]
        if stale:
            self._term = term
            await self._commit()

    async def _write(self) -> None:
        await self._document.save(dict(self._keys), self._term)


def _slot(order_url: str) -> str:
    """The key of a Secret's data for a URL."""
    return hashlib.sha256(order_url.encode()).hexdigest()[:32]
