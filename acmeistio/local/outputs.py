"""What servers read: each TLS Secret as a PEM pair and as an Envoy SDS file.

`<namespace>/<name>/tls.crt` and `tls.key` change together, by one rename of a symlink, as kubelet
does with a mounted Secret; `<namespace>/<name>.sds.json` is Envoy's `path_config_source`. They
are made from the Secret and made again when spoilt; a Secret without a usable pair changes
nothing, so what is served never gets worse.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import uuid
from pathlib import Path

from acmeistio.errors import Transient
from acmeistio.local.manifests import signature
from acmeistio.local.state import FILE_MODE, FOLDER_MODE, replace_file
from acmeistio.pki import Unfit, parse_pair
from acmeistio.ports import Manifest

PAIR = ("tls.crt", "tls.key")
CURRENT = "..data"
SDS_SUFFIX = ".sds.json"
SDS_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


class Outputs:
    """The files made from TLS Secrets below a folder. Its methods block."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: dict[Path, tuple[object, ...]] = {}

    def ensure(self, secret: Manifest) -> None:
        """Make the files of a Secret what they should be. Raises Transient."""
        metadata = secret["metadata"]
        folder = self._root / metadata["namespace"] / metadata["name"]
        version = metadata["resourceVersion"]
        if self._made.get(folder) == (version, *_signatures(folder)):
            return
        pair = _usable_pair(secret)
        if pair is None:
            return
        if folder in self._made or not _is_made(folder, pair):
            _make(folder, pair)
        self._made[folder] = (version, *_signatures(folder))


def _is_made(folder: Path, pair: tuple[bytes, bytes]) -> bool:
    """Whether an earlier process has made the files already."""
    contents = (*(_content(folder / name) for name in PAIR), _content(_sds_path(folder)))
    return contents == (*pair, _sds(folder.name, pair))


def _make(folder: Path, pair: tuple[bytes, bytes]) -> None:
    try:
        _swap_in(folder, pair)
    except OSError as error:
        raise Transient(f"{folder} can't be written: {error.strerror}") from error
    replace_file(_sds_path(folder), _sds(folder.name, pair), sync=False)


def _signatures(folder: Path) -> tuple[object, ...]:
    """What tells whether the files are still those that were made."""
    paths = (*(f"{folder}/{name}" for name in PAIR), str(_sds_path(folder)))
    return tuple(signature(path) for path in paths)


def _sds_path(folder: Path) -> Path:
    return folder.with_name(folder.name + SDS_SUFFIX)


def _usable_pair(secret: Manifest) -> tuple[bytes, bytes] | None:
    try:
        data = secret["data"]
        chain_pem, key_pem = (base64.b64decode(data[name], validate=True) for name in PAIR)
        parse_pair(chain_pem, key_pem)
    except (KeyError, TypeError, ValueError, Unfit):
        return None
    return chain_pem, key_pem


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _swap_in(folder: Path, pair: tuple[bytes, bytes]) -> None:
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    old = _pointed_to(folder)
    fresh = folder / f"..{uuid.uuid4().hex}"
    fresh.mkdir(mode=FOLDER_MODE)
    for name, content in zip(PAIR, pair, strict=True):
        descriptor = os.open(fresh / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            file.write(content)
    _point(folder / CURRENT, fresh.name)
    for name in PAIR:
        if _destination(folder / name) != f"{CURRENT}/{name}":
            _point(folder / name, f"{CURRENT}/{name}")
    if old is not None:
        _remove(old)


def _pointed_to(folder: Path) -> Path | None:
    """Where the pair that is in force lies; leftovers of a crash are removed on the way."""
    current = _destination(folder / CURRENT)
    if current is None:
        for leftover in folder.glob("..?*"):
            _remove(leftover)
        return None
    return folder / current if current.startswith("..") and os.sep not in current else None


def _destination(link: Path) -> str | None:
    try:
        return os.readlink(link)  # noqa: PTH115  # text is what is compared
    except OSError:
        return None


def _remove(old: Path) -> None:
    """Remove a pair that is no longer pointed to."""
    try:
        for name in PAIR:
            (old / name).unlink(missing_ok=True)
        old.rmdir()
    except OSError:
        shutil.rmtree(old, ignore_errors=True)


def _point(link: Path, destination: str) -> None:
    """Make `link` a symlink to `destination`, whatever was there, in one step.

    The draft lies above, where it leads nowhere: whoever has begun to watch the folder at this
    moment would follow it to the pair, and watch the pair no more when the draft is gone.
    """
    draft = link.parent.with_name(f".{link.parent.name}.{link.name}.{uuid.uuid4().hex}")
    draft.symlink_to(destination)
    if link.exists() and not link.is_symlink():
        # Not one of ours: kept, so that nothing of anybody's is lost.
        link.replace(link.with_name(f"{link.name}.replaced-{uuid.uuid4().hex[:8]}"))
    try:
        draft.replace(link)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def _sds(name: str, pair: tuple[bytes, bytes]) -> bytes:
    """A discovery response with one secret, both parts inline, so that they change together."""
    chain_pem, key_pem = (content.decode("ascii", "replace") for content in pair)
    certificate = {
        "certificate_chain": {"inline_string": chain_pem},
        "private_key": {"inline_string": key_pem},
    }
    resource = {"@type": SDS_TYPE, "name": name, "tls_certificate": certificate}
    return json.dumps({"resources": [resource]}).encode()
