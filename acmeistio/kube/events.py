"""Events of the cluster (events.k8s.io/v1) on users' objects, where `kubectl describe` shows them.

Owns how an Event is named, counted and cut. What is worth one is decided in journal/. An Event that
can't be told is lost and changes nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from acmeistio.errors import AcmeistioError, Conflict, Transient
from acmeistio.kube.client import Client
from acmeistio.kube.refusals import Missing
from acmeistio.kube.resources import RESOURCES
from acmeistio.model import Event, ObjectRef
from acmeistio.ports import Manifest

_log = logging.getLogger(__name__)

CONTROLLER = "acmeistio.io/acmeistio"
ACTION = "ManageCertificate"
"""What acmeistio was about; the API asks for it and kubectl does not show it."""

MAX_WAITING = 1000
MAX_NOTE_BYTES = 1024
MAX_INSTANCE_CHARACTERS = 128
MAX_OBJECT_CHARACTERS = 200
"""Of the object's name in that of the Event."""
RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 60.0, 60.0)
"""Between tries while the API server is away; then the Event is given up."""


@dataclass(frozen=True, slots=True)
class _Told:
    """An Event with the object that it is on, as both were when it was told."""

    event: Event
    on: Manifest
    at: datetime


class Events:
    """Where Events are brought; `run` must run beside. Whoever tells is never kept waiting."""

    def __init__(
        self, client: Client, find: Callable[[ObjectRef], Manifest | None], instance: str
    ) -> None:
        """`find` knows the objects that Events are on; `instance` is the pod's name."""
        self._client = client
        self._find = find
        self._instance = instance[:MAX_INSTANCE_CHARACTERS]
        self._waiting: asyncio.Queue[_Told] = asyncio.Queue(MAX_WAITING)
        self._complained: set[str] = set()

    def tell(self, event: Event) -> None:
        """Have an Event shown; nowhere if its object is gone. Of too many the oldest are lost."""
        on = self._find(event.regarding)
        if on is None:
            return
        if self._waiting.full():
            self._waiting.get_nowait()
        self._waiting.put_nowait(_Told(event, on, datetime.now(UTC)))

    async def run(self) -> None:
        """Publish what is told, one after the other, for ever."""
        while True:
            await self._publish(await self._waiting.get())

    async def _publish(self, told: _Told) -> None:
        for seconds in (*RETRY_SECONDS, None):
            try:
                await self._put(self._manifest(told))
            except Exception as error:  # noqa: BLE001  # a bulkhead: the next Event goes on
                if seconds is None or type(error) is not Transient:
                    self._complain(told.event, error)
                    return
                await asyncio.sleep(seconds)
            else:
                return

    async def _put(self, manifest: Manifest) -> None:
        """Make an Event; one that is there already counts on, as a series."""
        metadata = manifest["metadata"]
        resource = RESOURCES["Event"]
        try:
            await self._client.request("POST", resource.path(metadata["namespace"]), manifest)
        except Conflict:
            path = resource.path(metadata["namespace"], metadata["name"])
            await self._count_on(path, manifest["eventTime"])

    async def _count_on(self, path: str, at: str) -> None:
        """The right to patch suffices: a patch of nothing tells how often it was counted."""
        try:
            present = await self._client.request("PATCH", path, {})
            count = (present.get("series") or {}).get("count", 1)
            series = {"count": count + 1, "lastObservedTime": at}
            await self._client.request("PATCH", path, {"series": series})
        except Missing as error:
            raise Transient(f"an Event was forgotten at this moment: {error}") from error

    def _manifest(self, told: _Told) -> Manifest:
        """The same Event on the same object has the same name, whoever tells it again."""
        event, metadata = told.event, told.on["metadata"]
        identity = "\n".join((metadata["uid"], event.reason, event.note))
        suffix = hashlib.sha256(identity.encode()).hexdigest()[:16]
        name = metadata["name"][:MAX_OBJECT_CHARACTERS].rstrip("-.")
        return {
            "apiVersion": RESOURCES["Event"].api_version,
            "kind": "Event",
            "metadata": {
                # That of an object without a namespace is in this one.
                "namespace": metadata.get("namespace", "default"),
                "name": f"{name}.{suffix}",
            },
            "eventTime": f"{told.at:%Y-%m-%dT%H:%M:%S.%fZ}",
            "type": "Warning" if event.warns else "Normal",
            "reason": event.reason,
            "note": _cut(event.note),
            "action": ACTION,
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "regarding": {
                "apiVersion": told.on["apiVersion"],
                "kind": told.on["kind"],
                "name": metadata["name"],
                "uid": metadata["uid"],
                **({"namespace": metadata["namespace"]} if "namespace" in metadata else {}),
            },
        }

    def _complain(self, event: Event, error: Exception) -> None:
        """Once for each kind of failure: it would fill the log, and users miss only a hint."""
        kind = type(error).__name__
        if kind in self._complained:
            return
        self._complained.add(kind)
        traceback = None if isinstance(error, AcmeistioError) else error
        _log.warning("an Event on %s was not told: %s", event.regarding, error, exc_info=traceback)


def _cut(note: str) -> str:
    """As long as the API takes, which counts bytes."""
    encoded = note.encode()
    if len(encoded) <= MAX_NOTE_BYTES:
        return note
    return encoded[: MAX_NOTE_BYTES - len("…".encode())].decode(errors="ignore") + "…"
