"""The port Objects over two folders: manifests that users write, state that acmeistio writes."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import watchfiles

from acmeistio.errors import NotLeader
from acmeistio.local.manifests import ManifestFolder, signature
from acmeistio.local.outputs import Outputs
from acmeistio.local.state import FOLDER_MODE, StateFolder
from acmeistio.model import ObjectRef, kind_of
from acmeistio.ports import Leadership, Listing, Manifest, Term, Workers

_log = logging.getLogger(__name__)

WATCH_STEP_MILLISECONDS = 20
WATCH_DEBOUNCE_MILLISECONDS = 100
"""Changes within these are told of together; the controller gathers on top of it."""

OUTPUTS_AT_ONCE = 10

NAMESPACE_DEPTH = 2
"""`<namespace>/<file>`: where objects lie in the state folder."""

RESCAN_SECONDS = 30.0
"""The folders are read anew after this even if no change was noticed: some file systems tell
of none."""


Written = TypeVar("Written", bound=Manifest | None)
"""What a write leaves of an object."""


class FolderObjects:
    """Objects as files. Of kinds that acmeistio writes, the state folder's count first."""

    def __init__(
        self, manifests: Path, state: Path, workers: Workers, leadership: Leadership
    ) -> None:
        self._manifests = ManifestFolder(manifests)
        self._manifests_root = manifests.resolve()
        self._state = StateFolder(state.resolve())
        self._state_prefix = f"{state.resolve()}{os.sep}"
        self._outputs = Outputs(state.resolve())
        self._workers = workers
        self._leadership = leadership
        self._changed = asyncio.Event()
        self._current: dict[Path, Manifest | None] = {}
        self._generation = 0
        self._to_make: dict[Path, None] = {}
        self._asked = asyncio.Event()
        self._listings: dict[str, Listing] = {}
        self._read_at = -RESCAN_SECONDS

    async def listing(self, kind: str) -> Listing:
        """See Objects.listing. Between changes that were noticed, the answer is the same."""
        if time.monotonic() - self._read_at > RESCAN_SECONDS:
            self._listings, self._current, self._read_at = {}, {}, time.monotonic()
            await self._workers.run(self._manifests.refresh)
        if kind not in self._listings:
            self._listings[kind] = await self._workers.run(lambda: self._all(kind))
        return self._listings[kind]

    def _all(self, kind: str) -> Listing:
        declared = self._manifests.listing(kind)
        stored = [self._state.read(path) for path in self._state.paths(kind)]
        manifests = [manifest for manifest in stored if manifest is not None]
        return Listing((*manifests, *declared.manifests), declared.complete, declared.troubles)

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """See Objects.get.

        What is known counts until a change of the file is noticed: a write made on a stale
        view meets Conflict.
        """
        path = self._state.path(kind, namespace, name)
        if path not in self._current and signature(path) is None:
            return None
        if path in self._current:
            return self._current[path]
        before = self._generation
        manifest = await self._workers.run(lambda: self._state.read(path))
        if self._generation == before:
            self._current[path] = manifest
        return manifest

    async def create(self, manifest: Manifest, term: Term) -> Manifest:
        """See Objects.create.

        What servers read of a new Secret is there when this returns: a gateway that redirects
        to HTTPS must have a placeholder to serve before the CA comes.
        """
        create = functools.partial(self._create, manifest=manifest)
        return await self._write(_ref(manifest), create, term)

    async def update(self, manifest: Manifest, term: Term) -> Manifest:
        """See Objects.update. What servers read follows at once."""
        update = functools.partial(self._state.update, manifest=manifest)
        return await self._write(_ref(manifest), update, term)

    async def delete(self, ref: ObjectRef, version: str, term: Term) -> None:
        """See Objects.delete. The files made from a Secret stay, as when others delete it."""
        delete = functools.partial(self._state.delete, version=version)
        await self._write(ref, delete, term)

    def _create(self, path: Path, manifest: Manifest) -> Manifest:
        created = self._state.create(path, manifest)
        self._make([path])
        return created

    async def _write(self, ref: ObjectRef, write: Callable[[Path], Written], term: Term) -> Written:
        if not self._leadership.holds(term):
            raise NotLeader(f"{term} is over")
        path = self._state.path(ref.kind, ref.namespace, ref.name)
        self._listings.pop(ref.kind, None)
        self._forget(path)
        try:
            written = await self._workers.run(lambda: write(path))
        finally:
            self._forget(path)
        self._current[path] = written
        self._remake(path)
        return written

    def _forget(self, path: Path) -> None:
        """What is known of a file may be old, also what is being read at this moment."""
        self._generation += 1
        self._current.pop(path, None)

    async def changed(self) -> frozenset[ObjectRef] | None:
        """See Objects.changed. Which object a file is, is not known before it is read."""
        await self._changed.wait()
        self._changed.clear()
        return None

    async def watch(self) -> None:
        """Notice changes, and keep the files made from Secrets what they should be, for ever."""
        self._state.root.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        for path in self._state.paths("Secret"):
            self._remake(path)
        making = asyncio.ensure_future(self._make_outputs())
        try:
            async for changes in watchfiles.awatch(
                self._manifests_root,
                self._state.root,
                step=WATCH_STEP_MILLISECONDS,
                debounce=WATCH_DEBOUNCE_MILLISECONDS,
                watch_filter=None,
                ignore_permission_denied=True,
            ):
                self._noticed({path for _, path in changes})
        finally:
            making.cancel()
            await asyncio.wait({making})
            self._make(self._to_make)

    def _remake(self, path: Path) -> None:
        """Have the files that are made from an object looked at."""
        self._to_make[path] = None
        self._asked.set()

    async def _make_outputs(self) -> None:
        """One Secret after the other, beside everything else: a burst of orders goes first."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            while self._to_make:
                batch = dict.fromkeys(list(self._to_make)[:OUTPUTS_AT_ONCE])
                for path in batch:
                    del self._to_make[path]
                await self._workers.run(functools.partial(self._make, batch))

    def _make(self, paths: Iterable[Path]) -> None:
        for path in paths:
            try:
                secret = self._state.read(path)
                if secret is not None and secret.get("kind") == "Secret":
                    self._outputs.ensure(secret)
            except Exception:  # noqa: BLE001  # a bulkhead: other Secrets' files are made
                # Tried again when the folder is noticed next.
                _log.exception("the files of %s could not be made", path)

    def _noticed(self, paths: set[str]) -> None:
        """Text, not Path: every write of ours comes by here too, several times."""
        ours = {path for path in paths if path.startswith(self._state_prefix)}
        news = [path for path in ours if self._is_news(path)]
        for path in news:
            for known in self._below(path):
                self._forget(known)
        if paths - ours or news:
            self._read_at = -RESCAN_SECONDS
            self._changed.set()
        for owner in {self._owner(path) for path in ours}:
            if owner:
                self._remake(self._state.path("Secret", *owner))

    def _is_news(self, path: str) -> bool:
        """Whether a file of the state folder holds an object and was changed by others.

        Of a folder that was made or moved with files in it, the kernel tells as a whole.
        """
        parts = path.removeprefix(self._state_prefix).split("/")
        if len(parts) < NAMESPACE_DEPTH:
            return any(not self._state.is_ours(known) for known in self._below(path))
        return (
            len(parts) == NAMESPACE_DEPTH
            and parts[1].endswith(".yaml")
            and not parts[1].startswith(".")
            and not self._state.is_ours(path)
        )

    def _below(self, path: str) -> set[Path]:
        """The file itself, or the objects' files that are, or were, in a folder."""
        where = Path(path)
        if where.parent != self._state.root:
            return {where}
        return {*where.glob("*.yaml"), *(known for known in self._current if known.parent == where)}

    def _owner(self, path: str) -> tuple[str, str] | None:
        """Namespace and name of the Secret that a changed file belongs to."""
        parts = path.removeprefix(self._state_prefix).split("/")
        if len(parts) < NAMESPACE_DEPTH or parts[1].startswith("."):
            return None
        return parts[0], parts[1].removesuffix(".sds.json").removesuffix(".secret.yaml")


def _ref(manifest: Manifest) -> ObjectRef:
    metadata = manifest["metadata"]
    return ObjectRef(kind_of(manifest), metadata["namespace"], metadata["name"])
