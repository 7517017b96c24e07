"""The state folder: the objects that acmeistio writes, one YAML file each, mode 0600.

`<namespace>/<name>.<kind>.yaml`; its resourceVersion is a digest of the file. Every write is
whole: a new file, synced, renamed over the old one. A file that is no YAML counts as absent, and
is put aside when another is written in its place.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

from acmeistio.errors import Conflict, Transient
from acmeistio.local.manifests import Signature, load_documents, signature
from acmeistio.model import kind_of
from acmeistio.ports import Manifest

Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

FOLDER_MODE = 0o700
FILE_MODE = 0o600


class StateFolder:
    """Objects in files. Its methods block: call them on Workers, but for `peek`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read: dict[str, tuple[Signature | None, Manifest | None]] = {}
        self._written: dict[str, Signature | None] = {}
        self._paths: dict[tuple[str, str, str], Path] = {}
        self._locks: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)

    def path(self, kind: str, namespace: str, name: str) -> Path:
        """The file of an object. Raises ValueError for a name that would lead elsewhere."""
        key = (kind, namespace, name)
        path = self._paths.get(key)
        if path is None:
            if not all(_is_plain(part) for part in key):
                raise ValueError(f"{key} is no object that a folder can hold")
            path = self._paths[key] = self.root / namespace / f"{name}.{kind.lower()}.yaml"
        return path

    def peek(self, path: Path | str) -> tuple[bool, Manifest | None]:
        """Whether the file is as it was last read or written, and the object in it if so.

        One stat and no reading, quick enough for the event loop.
        """
        known = self._read.get(str(path))
        if known is None or known[0] != signature(path):
            return False, None
        return True, known[1]

    def is_ours(self, path: Path | str) -> bool:
        """Whether the file is as this process wrote it; having read it makes it no less news."""
        return str(path) in self._written and self._written[str(path)] == signature(path)

    def read(self, path: Path) -> Manifest | None:
        """The object in a file, None where there is no readable one."""
        with self._locks[path]:
            return self._load(path)

    def paths(self, kind: str) -> list[Path]:
        """The files of all objects of a kind."""
        return sorted(p for p in self.root.glob(f"*/*.{kind.lower()}.yaml") if p.is_file())

    def create(self, path: Path, manifest: Manifest) -> Manifest:
        """Write an object that must not exist yet. Raises Conflict, Transient."""
        with self._locks[path]:
            if self._load(path) is not None:
                raise Conflict(f"{path.name} exists")
            _put_aside(path)
            return self._write(path, manifest)

    def update(self, path: Path, manifest: Manifest) -> Manifest:
        """Replace an object that must be as it was read. Raises Conflict, Transient."""
        with self._locks[path]:
            current = self._load(path)
            version = manifest["metadata"].get("resourceVersion")
            if current is None or current["metadata"]["resourceVersion"] != version:
                raise Conflict(f"{path.name} has changed")
            return self._write(path, manifest)

    def delete(self, path: Path, version: str) -> None:
        """Remove an object that must be as it was read, or gone. Raises Conflict, Transient."""
        with self._locks[path]:
            current = self._load(path)
            if current is None:
                return
            if current["metadata"]["resourceVersion"] != version:
                raise Conflict(f"{path.name} has changed")
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise Transient(f"{path} can't be removed: {error.strerror}") from error
            self._written[str(path)] = None
            self._read[str(path)] = (None, None)

    def _load(self, path: Path) -> Manifest | None:
        fresh, manifest = self.peek(path)
        if fresh:
            return manifest
        before = signature(path)
        manifest = _parsed(path)
        self._read[str(path)] = (before, manifest)
        return manifest

    def _write(self, path: Path, manifest: Manifest) -> Manifest:
        metadata = {k: v for k, v in manifest["metadata"].items() if k != "resourceVersion"}
        content = yaml.dump({**manifest, "metadata": metadata}, Dumper=Dumper, sort_keys=False)
        replace_file(path, content.encode())
        written = {
            **manifest,
            "metadata": {**metadata, "resourceVersion": _version(content.encode())},
        }
        self._written[str(path)] = signature(path)
        self._read[str(path)] = (self._written[str(path)], written)
        return written


def replace_file(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Put `content` in the place of a file in one step. Raises Transient where the disk refuses.

    `sync` false is for what can be made again from something that was synced.
    """
    draft = f"{path.parent}{os.sep}.{path.name}.new"
    try:
        with os.fdopen(_opened(draft, path.parent), "wb", buffering=0) as file:
            file.write(content)
            if sync:
                os.fsync(file.fileno())
        os.replace(draft, path)  # noqa: PTH105  # several times per certificate
    except OSError as error:
        with contextlib.suppress(OSError):
            Path(draft).unlink()
        raise Transient(f"{path} can't be written: {error.strerror}") from error


def _is_plain(part: str) -> bool:
    """Whether a text can be a part of a path and stays where it is put."""
    return bool(part) and not part.startswith(".") and not set(part) & {os.sep, "\0"}


def _opened(path: str, folder: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        return os.open(path, flags, FILE_MODE)
    except FileNotFoundError:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        return os.open(path, flags, FILE_MODE)


def _parsed(path: Path) -> Manifest | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Transient(f"{path} can't be read: {error.strerror}") from error
    try:
        documents: list[Any] = load_documents(content)
    except ValueError:
        return None
    manifest = documents[0] if len(documents) == 1 else None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("metadata"), dict):
        return None
    if not all(isinstance(manifest.get(field, ""), str) for field in ("kind", "apiVersion")):
        return None
    # Where the file lies says which object it is, whatever it says itself.
    kind = kind_of(manifest)
    if not path.name.endswith(f".{kind.lower()}.yaml"):
        return None
    identity = {"namespace": path.parent.name, "name": path.name[: -len(f".{kind}.yaml")]}
    metadata = {**manifest["metadata"], **identity, "resourceVersion": _version(content)}
    return {**manifest, "metadata": metadata}


def _put_aside(path: Path) -> None:
    """Keep a file that is no object under another name: nothing of anybody's is lost."""
    with contextlib.suppress(OSError):
        path.replace(path.with_name(f"{path.name}.unreadable"))


def _version(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
