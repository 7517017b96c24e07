"""The manifests folder: Kubernetes objects in YAML or JSON files, read only.

Owns how files become objects. A file that can't be read keeps declaring what it last did.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from acmeistio.model import ObjectRef, kind_of
from acmeistio.ports import Listing, Manifest, Trouble
from acmeistio.reasons import plain

SUFFIXES = frozenset({".yaml", ".yml", ".json"})
MAX_FILE_BYTES = 4 << 20
MAX_FILES = 20_000

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Signature = tuple[int, int, int]
"""(inode, modified at in ns, size in bytes): differs when a file was written."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A file as it was read last: the objects stay when it becomes unreadable."""

    signature: Signature | None
    manifests: tuple[Manifest, ...] = ()
    why_not: str | None = None


class ManifestFolder:
    """All objects in the files of a folder and the folders below it, hidden ones left out."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[Path, _Read] = {}
        self._complete = True

    def refresh(self) -> None:
        """Read what has changed. It blocks."""
        unreadable: list[OSError] = []
        paths = _paths(self._root, unreadable.append)
        self._complete = not unreadable
        if unreadable:
            # Unknown is not absent: what was declared stays until the folder can be read.
            paths = sorted({*paths, *self._files})
        self._files = {path: _read(path, self._files.get(path)) for path in paths}

    def listing(self, kind: str) -> Listing:
        """The objects of a kind; of two with the same name that in the first file counts."""
        found: dict[tuple[str, str], tuple[Path, Manifest]] = {}
        troubles = [_unreadable(self._ref(p), r) for p, r in self._files.items() if r.why_not]
        for path, read in self._files.items():
            for manifest in read.manifests:
                if kind_of(manifest) != kind:
                    continue
                first, _ = found.setdefault(_key(manifest), (path, manifest))
                if first != path:
                    troubles.append(_duplicate(self._ref(path), manifest, first))
        return Listing(tuple(m for _, m in found.values()), self._complete, tuple(troubles))

    def _ref(self, path: Path) -> ObjectRef:
        return ObjectRef("File", "", plain(path.relative_to(self._root)))


def load_documents(text: bytes) -> list[Any]:
    """The documents of a YAML or JSON text. Raises ValueError that says what is wrong."""
    try:
        return list(yaml.load_all(text, Loader))  # a safe loader, in C where it exists
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{error.problem or error.context}{line}") from error
    except Exception as error:  # PyYAML lets through what constructors of odd tags raise
        raise ValueError(f"it is not YAML ({type(error).__name__})") from error


def signature(path: Path | str) -> Signature | None:
    """What tells one state of a file from the next, None where there is no file."""
    try:
        status = os.stat(path)  # noqa: PTH116  # asked thousands of times
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def _paths(root: Path, onerror: Callable[[OSError], None]) -> list[Path]:
    paths = []
    for folder, folders, files in os.walk(root, onerror=onerror):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [
            Path(folder, name)
            for name in files
            if Path(name).suffix in SUFFIXES and not name.startswith(".")
        ]
    return sorted(paths)[:MAX_FILES]


def _read(path: Path, before: _Read | None) -> _Read:
    now = signature(path)
    if before and before.signature == now:
        return before
    try:
        return _Read(now, tuple(_objects(load_documents(_content(path)))))
    except OSError as error:
        why = error.strerror or type(error).__name__
    except ValueError as error:
        why = str(error)
    except RecursionError:
        why = "it is nested without end"
    return replace(before or _Read(None), signature=now, why_not=why)


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"it is larger than {MAX_FILE_BYTES >> 20} MiB")
    return content


def _objects(documents: Iterable[Any]) -> Iterable[Manifest]:
    """The objects in documents; a List is what it lists, an empty document nothing."""
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
            raise ValueError("a document has no kind, so it is no Kubernetes object")
        if document["kind"].endswith("List") and isinstance(document.get("items"), list):
            yield from _objects(document["items"])
            continue
        if not isinstance(document.get("apiVersion", ""), str):
            raise ValueError(f"the apiVersion of a {plain(document['kind'], 60)} is no text")
        metadata = document.get("metadata")
        if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
            raise ValueError(f"a {plain(document['kind'], 60)} has no metadata.name")
        yield document


def _key(manifest: Manifest) -> tuple[str, str]:
    metadata = manifest["metadata"]
    namespace = metadata.get("namespace")
    return namespace if isinstance(namespace, str) and namespace else "default", metadata["name"]


def _unreadable(ref: ObjectRef, read: _Read) -> Trouble:
    return Trouble(ref, "ManifestUnreadable", (("why", plain(read.why_not)),))


def _duplicate(ref: ObjectRef, manifest: Manifest, winner: Path) -> Trouble:
    namespace, name = _key(manifest)
    facts = {"object": plain(f"{manifest['kind']} {namespace}/{name}"), "winner": winner.name}
    return Trouble(ref, "DuplicateManifest", tuple(sorted(facts.items())))
