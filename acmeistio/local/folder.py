"""The port Objects over two folders: manifests that users write, state that acmeistio writes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import watchfiles

from acmeistio.errors import NotLeader, Transient
from acmeistio.local.manifests import ManifestFolder
from acmeistio.local.outputs import Outputs
from acmeistio.local.state import FOLDER_MODE, StateFolder
from acmeistio.ports import Leadership, Listing, Manifest, Term, Workers

WATCH_STEP_MILLISECONDS = 20
WATCH_DEBOUNCE_MILLISECONDS = 100
"""Changes within these are told of together; the controller gathers on top of it."""


class FolderObjects:
    """Objects as files. Of kinds that acmeistio writes, the state folder's count first."""

    def __init__(
        self, manifests: Path, state: Path, workers: Workers, leadership: Leadership
    ) -> None:
        self._manifests = ManifestFolder(manifests)
        self._manifests_root = manifests.resolve()
        self._state = StateFolder(state.resolve())
        self._outputs = Outputs(state.resolve())
        self._workers = workers
        self._leadership = leadership
        self._changed = asyncio.Event()

    async def listing(self, kind: str) -> Listing:
        """See Objects.listing."""
        declared = await self._workers.run(lambda: self._manifests.listing(kind))
        stored = await self._workers.run(lambda: self._stored(kind))
        return Listing((*stored, *declared.manifests), declared.complete, declared.troubles)

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """See Objects.get."""
        path = self._state.path(kind, namespace, name)
        fresh, manifest = self._state.peek(path)
        if fresh:
            return manifest
        return await self._workers.run(lambda: self._state.read(path))

    async def create(self, manifest: Manifest, term: Term) -> Manifest:
        """See Objects.create."""
        self._require(term)
        path = self._path(manifest)
        return await self._workers.run(lambda: self._put_out(self._state.create(path, manifest)))

    async def update(self, manifest: Manifest, term: Term) -> Manifest:
        """See Objects.update."""
        self._require(term)
        path = self._path(manifest)
        return await self._workers.run(lambda: self._put_out(self._state.update(path, manifest)))

    async def changed(self) -> None:
        """See Objects.changed."""
        await self._changed.wait()
        self._changed.clear()

    async def watch(self) -> None:
        """Notice changes for ever, and put right the files made from Secrets."""
        self._state.root.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        await self._workers.run(lambda: self._repair(self._state.paths("Secret")))
        async for changes in watchfiles.awatch(
            self._manifests_root,
            self._state.root,
            step=WATCH_STEP_MILLISECONDS,
            debounce=WATCH_DEBOUNCE_MILLISECONDS,
            watch_filter=None,
            ignore_permission_denied=True,
        ):
            await self._noticed({Path(path) for _, path in changes})

    async def _noticed(self, paths: set[Path]) -> None:
        ours = {path for path in paths if path.is_relative_to(self._state.root)}
        if paths - ours or any(self._is_news(path) for path in ours):
            self._changed.set()
        secrets = {path for path in map(self._secret_of, ours) if path}
        await self._workers.run(lambda: self._repair(secrets))

    def _is_news(self, path: Path) -> bool:
        """Whether a file of the state folder holds an object and was changed by others."""
        return (
            path.suffix == ".yaml"
            and path.parent.parent == self._state.root
            and (not path.name.startswith(".") and not self._state.peek(path)[0])
        )

    def _secret_of(self, path: Path) -> Path | None:
        """The Secret's file that a changed file belongs to."""
        parts = path.relative_to(self._state.root).parts
        if len(parts) < 2:  # noqa: PLR2004  # the namespace's folder itself
            return None
        name = parts[1].removesuffix(".sds.json").removesuffix(".secret.yaml")
        return self._state.path("Secret", parts[0], name) if not name.startswith(".") else None

    def _repair(self, paths: Iterable[Path]) -> None:
        for path in paths:
            try:
                secret = self._state.read(path)
                if secret is not None:
                    self._put_out(secret)
            except Transient:
                # The write that this would have been is made again with the next change.
                continue

    def _put_out(self, manifest: Manifest) -> Manifest:
        if manifest.get("kind") == "Secret":
            self._outputs.ensure(manifest)
        return manifest

    def _stored(self, kind: str) -> list[Manifest]:
        manifests = map(self._state.read, self._state.paths(kind))
        return [manifest for manifest in manifests if manifest is not None]

    def _path(self, manifest: Manifest) -> Path:
        metadata = manifest["metadata"]
        return self._state.path(manifest["kind"], metadata["namespace"], metadata["name"])

    def _require(self, term: Term) -> None:
        if not self._leadership.holds(term):
            raise NotLeader(f"{term} is over")
