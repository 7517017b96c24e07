"""What the API server sends for a list or a watch as what it tells: objects, changes, errors.

Pure, but for waiting for the next bytes. A line that can't be read is an error of the whole
stream: what it told is not known, so nothing that follows may be trusted before everything was
listed anew.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from acmeistio.errors import AcmeistioError, Transient
from acmeistio.kube.refusals import refusal
from acmeistio.kube.resources import Resource, version_of
from acmeistio.ports import Manifest

MAX_LINE_BYTES = 16 << 20
"""An object is at most 1.5 MB in the API server's storage; as JSON it may be several times that."""

_NOT_UNDERSTOOD = (ValueError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class Bookmark:
    """Nothing else has changed up to this version."""

    version: int


@dataclass(frozen=True, slots=True)
class Change:
    """An object as it is from this version on; None: it is gone."""

    namespace: str
    name: str
    version: int
    manifest: Manifest | None = field(repr=False)

    @property
    def key(self) -> tuple[str, str]:
        """Which of its kind it is."""
        return self.namespace, self.name


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list; `rest` is the token for the next part, empty with the last one."""

    found: tuple[Change, ...]
    version: int
    rest: str


def page(document: dict[str, Any], resource: Resource) -> Page:
    """A part of a list. Raises Transient."""
    try:
        found = tuple(present(resource.whole(each), resource) for each in document["items"] or ())
        metadata = document["metadata"]
        return Page(found, int(metadata["resourceVersion"]), metadata.get("continue") or "")
    except _NOT_UNDERSTOOD as error:
        raise Transient(f"a list is not understood ({error!r})") from error


async def lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """What came, line by line. Raises Transient for a line that is too long or cut off."""
    rest = bytearray()
    async for chunk in chunks:
        rest += chunk
        if b"\n" in chunk:
            *whole, last = bytes(rest).split(b"\n")
            rest = bytearray(last)
            for line in whole:
                yield line
        if len(rest) > MAX_LINE_BYTES:
            raise Transient(f"the API server sent a line of more than {MAX_LINE_BYTES} bytes")
    if rest.strip():
        raise Transient("the API server ended a watch in the middle of a line")


def told(line: bytes, resource: Resource) -> Change | Bookmark:
    """What one line of a watch tells. Raises AcmeistioError: the error that it tells of."""
    try:
        event = json.loads(line)
        return _told(event["type"], event["object"], resource)
    except _NOT_UNDERSTOOD as error:
        raise Transient(f"a line of a watch is not understood ({error!r})") from error


def _told(what: str, found: dict[str, Any], resource: Resource) -> Change | Bookmark:
    match what:
        case "ADDED" | "MODIFIED":
            return present(resource.whole(found), resource)
        case "DELETED":
            last = present(resource.whole(found), resource)
            return Change(last.namespace, last.name, last.version, None)
        case "BOOKMARK":
            return Bookmark(version_of(found))
        case "ERROR":
            raise _error(found)
        case _:
            raise ValueError(what)


def present(manifest: Manifest, resource: Resource) -> Change:
    """An object that is there."""
    ref = resource.reference(manifest)
    return Change(ref.namespace, ref.name, version_of(manifest), manifest)


def _error(status: dict[str, Any]) -> AcmeistioError:
    code = status.get("code")
    return refusal(code if isinstance(code, int) else 500, status)
