"""The seams between the program and the world, as Protocols; owns no behaviour.

Every implementation of a port passes the contract suite of that port (tests/contract), the
simulated ones too, so that what runs on a virtual clock runs on the real thing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar

from acmeistio.model import KeyType, ObjectRef

T = TypeVar("T")

Manifest = dict[str, Any]
"""A Kubernetes object as plain data."""


@dataclass(frozen=True, slots=True)
class Term:
    """The right to write, given by Leadership and checked at every mutating call."""

    holder: str
    number: int


class Leadership(Protocol):
    """Who may write."""

    async def acquire(self) -> Term:
        """Wait until this process may write. Raises Misconfigured if it never may."""

    def holds(self, term: Term) -> bool:
        """Whether `term` still gives the right to write."""

    async def release(self) -> None:
        """Let another take over at once."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that keeps a part of a kind from being read; its last state stays in force.

    `code` is the reason's code (reasons.py), `facts` fill its sentence.
    """

    subject: ObjectRef
    code: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects of a kind that are known, and what is not known about them.

    `complete` is false while the kind could not be read at all: then absence means nothing.
    """

    manifests: tuple[Manifest, ...]
    complete: bool = True
    troubles: tuple[Trouble, ...] = ()


class Objects(Protocol):
    """Kubernetes objects, wherever they are kept.

    All calls raise Transient when the store can't be reached now (Forbidden where a right is
    missing), Permanent when it will never do what is asked. Mutating calls raise NotLeader when
    the Term is over, Conflict when the object changed since it was read.
    """

    async def listing(self, kind: str) -> Listing:
        """All objects of `kind` in all namespaces, with what is unknown about them."""

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """The object as it is now, or None when it does not exist."""

    async def create(self, manifest: Manifest, term: Term) -> Manifest:
        """Make an object that must not exist yet; the answer has its resourceVersion."""

    async def update(self, manifest: Manifest, term: Term) -> Manifest:
        """Replace an object; its resourceVersion must be the one that was read."""

    async def delete(self, ref: ObjectRef, version: str, term: Term) -> None:
        """Delete an object that is as it was read: of this resourceVersion, or gone already."""

    async def changed(self) -> frozenset[ObjectRef] | None:
        """Return when something that was not written by this process may have changed.

        The answer is what that may be, None where it can't be said: it may be anything.
        """


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer over HTTP; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class Http(Protocol):
    """HTTP requests to a CA; verification of its TLS certificate is always on."""

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] = {}, body: bytes = b""
    ) -> HttpResponse:
        """One request, no redirects. Raises Transient when no whole answer came in time."""


class Clock(Protocol):
    """Time: the only source of it."""

    def now(self) -> datetime:
        """The instant, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class Entropy(Protocol):
    """Randomness: the only source of keys."""

    def private_key(self, key_type: KeyType) -> bytes:
        """A new private key as PKCS#8 PEM. RSA takes up to a second: call it on Workers."""


class Workers(Protocol):
    """Threads for what would stall the event loop: key generation, disk."""

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, computed beside the loop."""
