"""What only the folders of the embedded default promise: files that users edit and servers read."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import os
import stat
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from acmeistio.errors import AcmeistioError, Misconfigured
from acmeistio.local.folder import FolderObjects
from acmeistio.local.lock import FolderLeadership
from acmeistio.local.outputs import Outputs
from acmeistio.names import DnsName
from acmeistio.pki import Bundle, parse_pair, placeholder
from acmeistio.ports import Listing, Manifest, Term
from acmeistio.reasons import Defect
from tests.contract.object_subjects import NAMESPACE, watched

SOON_SECONDS = 5.0


class Folder:
    """A watched folder under test."""

    def __init__(self, root: Path, objects: FolderObjects, term: Term) -> None:
        self.root = root
        self.manifests = root / "manifests"
        self.state = root / "state"
        self.objects = objects
        self.term = term

    def write(self, name: str, text: str) -> None:
        """What an editor does with a file of manifests."""
        path = self.manifests / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    async def ingresses(self) -> Listing:
        """The Ingresses, once what was written is noticed."""
        await asyncio.wait_for(self.objects.changed(), SOON_SECONDS)
        return await self.objects.listing("Ingress")


@pytest_asyncio.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Folder]:
    """An empty one, with room above it."""
    root = tmp_path / "above" / "root"
    (root / "manifests").mkdir(parents=True)
    leadership = FolderLeadership(root / "state")
    term = await leadership.acquire()
    async with watched(root / "manifests", root / "state", leadership) as objects:
        yield Folder(root, objects, term)


def ingress(name: str, **more: Any) -> Manifest:
    """An Ingress of a user."""
    return {"kind": "Ingress", "metadata": {"name": name}, **more}


def names(listing: Listing) -> list[str]:
    """The names of what is listed."""
    return [manifest["metadata"]["name"] for manifest in listing.manifests]


def sentences(listing: Listing) -> list[str]:
    """What is said about the trouble, as users read it."""
    return [Defect(t.subject, t.code, t.facts).sentence for t in listing.troubles]


def pair(number: int = 0) -> Bundle:
    """Another key and certificate each time."""
    return placeholder([DnsName(f"n{number}.example.org")], datetime.now(UTC))


def secret(bundle: Bundle, name: str = "certs") -> Manifest:
    """A TLS Secret."""
    data = {"tls.crt": bundle.chain_pem, "tls.key": bundle.key_pem}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": NAMESPACE, "name": name},
        "type": "kubernetes.io/tls",
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }


async def until(holds: Callable[[], object]) -> None:
    """Return when it holds, soon."""
    async with asyncio.timeout(SOON_SECONDS):
        while not holds():  # noqa: ASYNC110  # files tell nobody
            await asyncio.sleep(0.01)


def served(folder: Folder, name: str = "certs") -> tuple[bytes, bytes] | None:
    """The PEM pair as a server opens it."""
    where = folder.state / NAMESPACE / name
    try:
        return (where / "tls.crt").read_bytes(), (where / "tls.key").read_bytes()
    except OSError:
        return None


def served_by_sds(folder: Folder, name: str = "certs") -> tuple[bytes, bytes] | None:
    """The pair in the SDS file, as Envoy reads it."""
    try:
        document = json.loads((folder.state / NAMESPACE / f"{name}.sds.json").read_text())
        certificate = document["resources"][0]["tls_certificate"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    parts = (certificate[part]["inline_string"] for part in ("certificate_chain", "private_key"))
    chain, key = (part.encode() for part in parts)
    return chain, key


def contents(bundle: Bundle) -> tuple[bytes, bytes]:
    """What servers should read."""
    return bundle.chain_pem, bundle.key_pem


def is_served(folder: Folder, bundle: Bundle) -> bool:
    """Whether it is what servers read, in both forms."""
    return served(folder) == served_by_sds(folder) == contents(bundle)


# ── manifests ─────────────────────────────────────────────────────────────────────────────────


async def test_all_documents_of_all_files_count(folder: Folder) -> None:
    """Several documents, a List, a list of Lists, JSON, folders in folders; empty ones do not."""
    folder.write("a.yaml", "---\n" + yaml.safe_dump_all([ingress("a"), ingress("b")]) + "---\n")
    nested = {"kind": "List", "items": [ingress("d")]}
    folder.write("b.yml", yaml.safe_dump({"kind": "IngressList", "items": [ingress("c"), nested]}))
    folder.write("deep/er/c.json", json.dumps(ingress("e")))
    folder.write("empty.yaml", "")
    folder.write("comment.yaml", "# nothing\n---\n# here\n")
    folder.write("readme.txt", "no: {yaml")
    listing = await folder.ingresses()
    assert sorted(names(listing)) == ["a", "b", "c", "d", "e"]
    assert listing.troubles == ()


async def test_hidden_files_and_folders_do_not_count(folder: Folder) -> None:
    """Drafts of editors and the folders of a mounted ConfigMap are not read twice."""
    folder.write(".draft.yaml", yaml.safe_dump(ingress("draft")))
    folder.write(".git/a.yaml", yaml.safe_dump(ingress("git")))
    folder.write("..2026_01_01/a.yaml", yaml.safe_dump(ingress("mounted")))
    folder.write("a.yaml", yaml.safe_dump(ingress("a")))
    assert names(await folder.ingresses()) == ["a"]


async def test_a_mounted_config_map_is_followed(folder: Folder) -> None:
    """Kubelet swaps a symlinked folder below symlinked files."""
    for version in ("1", "2"):
        (folder.manifests / f"..{version}").mkdir()
        text = yaml.safe_dump(ingress(f"v{version}"))
        (folder.manifests / f"..{version}" / "a.yaml").write_text(text)
    (folder.manifests / "..data").symlink_to("..1")
    (folder.manifests / "a.yaml").symlink_to("..data/a.yaml")
    assert names(await folder.ingresses()) == ["v1"]
    (folder.manifests / "..next").symlink_to("..2")
    (folder.manifests / "..next").rename(folder.manifests / "..data")
    assert names(await folder.ingresses()) == ["v2"]


BAD = {
    "no YAML": "kind: [Ingress\nmetadata: }",
    "a tab": "kind: Ingress\n\tmetadata: x",
    "no mapping": "just text",
    "no kind": "metadata: {name: a}",
    "no name": "kind: Ingress\nmetadata: {}",
    "metadata a list": "kind: Ingress\nmetadata: [a]",
    "an object of Python": "!!python/object/apply:os.system ['true']",
    "nested without end": "[" * 5000,
    "no UTF-8": "a: \udcff\udcfe",
    "an item no object": yaml.safe_dump({"kind": "List", "items": [ingress("b"), "text"]}),
    "a month 13": "kind: Ingress\nmetadata: {name: a}\nwhen: 2026-13-01",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
async def test_a_bad_file_keeps_what_it_declared(folder: Folder, text: str) -> None:
    """Its objects stay, other files go on, and a sentence says which file is bad."""
    folder.write("a.yaml", yaml.safe_dump(ingress("a")))
    folder.write("good.yaml", yaml.safe_dump(ingress("good")))
    before = await folder.ingresses()
    await asyncio.sleep(0.2)
    (folder.manifests / "a.yaml").write_bytes(text.encode(errors="surrogateescape"))
    folder.write("more.yaml", yaml.safe_dump(ingress("more")))
    listing = await folder.ingresses()
    assert sorted(names(listing)) == ["a", "good", "more"]
    assert [m for m in listing.manifests if m in before.manifests] == list(before.manifests)
    (trouble,) = listing.troubles
    assert trouble.subject.name == "a.yaml"
    (sentence,) = sentences(listing)
    assert "what it declared before stays in force" in sentence
    folder.write("a.yaml", yaml.safe_dump(ingress("a", spec={"fixed": True})))
    fixed = await folder.ingresses()
    assert fixed.troubles == ()
    assert ingress("a", spec={"fixed": True}) in fixed.manifests


async def test_a_file_that_was_never_good_declares_nothing(folder: Folder) -> None:
    """It is trouble and nothing else."""
    folder.write("a.yaml", BAD["no YAML"])
    listing = await folder.ingresses()
    assert listing.manifests == ()
    assert listing.complete
    assert len(listing.troubles) == 1
    assert "line" in sentences(listing)[0]


async def test_a_half_written_file_never_breaks_anything(folder: Folder) -> None:
    """Cut off anywhere, it is read as something or is trouble; whole again, it is what it says."""
    whole = yaml.safe_dump_all(
        [ingress("a", spec={"rules": [{"host": "a.example"}]}), ingress("b")]
    )
    folder.write("a.yaml", whole)
    await folder.ingresses()
    for cut in range(0, len(whole), 3):
        (folder.manifests / "a.yaml").write_text(whole[:cut])
        folder.objects._read_at = -1e9  # as if the change had been noticed
        listing = await folder.objects.listing("Ingress")
        assert set(names(listing)) <= {"a", "b", ""} or listing.troubles
    (folder.manifests / "a.yaml").write_text(whole)
    folder.objects._read_at = -1e9
    assert names(await folder.objects.listing("Ingress")) == ["a", "b"]


async def test_of_duplicates_the_first_file_counts(folder: Folder) -> None:
    """And the other one is told where the winner is; another namespace is another object."""
    folder.write("a.yaml", yaml.safe_dump(ingress("x", spec="first")))
    folder.write("b.yaml", yaml.safe_dump(ingress("x", spec="second")))
    other = ingress("x")
    other["metadata"]["namespace"] = "shop"
    folder.write("c.yaml", yaml.safe_dump(other))
    listing = await folder.ingresses()
    assert [m.get("spec") for m in listing.manifests] == ["first", None]
    (trouble,) = listing.troubles
    assert (trouble.subject.name, trouble.code) == ("b.yaml", "DuplicateManifest")
    assert "a.yaml" in sentences(listing)[0]


async def test_a_file_that_is_gone_declares_nothing(folder: Folder) -> None:
    """Deleting is saying so."""
    folder.write("a.yaml", yaml.safe_dump(ingress("a")))
    folder.write("b.yaml", yaml.safe_dump(ingress("b")))
    await folder.ingresses()
    await asyncio.sleep(0.2)
    (folder.manifests / "a.yaml").unlink()
    assert names(await folder.ingresses()) == ["b"]


# ── what servers read ─────────────────────────────────────────────────────────────────────────


async def test_a_secret_is_there_as_a_pem_pair_and_for_envoy(folder: Folder) -> None:
    """Both as soon as it is created, and soon after it is updated."""
    first, second = pair(1), pair(2)
    created = await folder.objects.create(secret(first), folder.term)
    assert served(folder) == served_by_sds(folder) == contents(first)
    await folder.objects.update({**created, "data": secret(second)["data"]}, folder.term)
    await until(lambda: served(folder) == served_by_sds(folder) == contents(second))


async def test_the_sds_file_is_what_envoy_expects(folder: Folder) -> None:
    """A DiscoveryResponse with one resource, named as the Secret."""
    bundle = pair()
    await folder.objects.create(secret(bundle), folder.term)
    document = json.loads((folder.state / NAMESPACE / "certs.sds.json").read_text())
    chain, key = contents(bundle)
    assert document == {
        "resources": [
            {
                "@type": ("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"),
                "name": "certs",
                "tls_certificate": {
                    "certificate_chain": {"inline_string": chain.decode()},
                    "private_key": {"inline_string": key.decode()},
                },
            }
        ]
    }


async def test_a_reader_never_sees_a_mixed_pair(folder: Folder) -> None:
    """Over many swaps: whoever opens ..data once and reads both through it has one pair.

    So do readers of the SDS file; and the two names are never missing.
    """
    bundles = [pair(number) for number in range(40)]
    good = {contents(bundle) for bundle in bundles}
    where = folder.state / NAMESPACE / "certs"
    current = await folder.objects.create(secret(bundles[0]), folder.term)
    seen: set[tuple[bytes, bytes]] = set()
    mixed: list[str] = []
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            try:
                descriptor = os.open(where / "..data", os.O_RDONLY | os.O_DIRECTORY)
            except OSError as error:
                mixed.append(f"no ..data: {error}")
                continue
            try:
                found = tuple(_read_at(descriptor, name) for name in ("tls.crt", "tls.key"))
            except FileNotFoundError:
                found = None  # swapped out and removed meanwhile: to be opened again
            finally:
                os.close(descriptor)
            if found and found not in good:
                mixed.append("mixed")
            elif found:
                seen.add((found[0], found[1]))
            if served_by_sds(folder) not in good:
                mixed.append("SDS")
            if not all(os.path.lexists(where / name) for name in ("tls.crt", "tls.key")):
                mixed.append("a name is missing")

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for bundle in bundles[1:]:
        update = {**current, "data": secret(bundle)["data"]}
        current = await folder.objects.update(update, folder.term)
        await until(functools.partial(is_served, folder, bundle))
    over.set()
    for reader in readers:
        reader.join()
    assert not mixed, (len(mixed), mixed[0])
    assert len(seen) > 5, "the readers hardly ran"
    assert [path.name for path in where.glob("..?*") if path.name != "..data"] == [
        str((where / "..data").readlink())
    ], "pairs that are swapped out are removed"


def _read_at(folder: int, name: str) -> bytes:
    with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=folder), "rb") as file:
        return file.read()


def _delete(path: Path) -> None:
    path.unlink()


def _overwrite(path: Path) -> None:
    path.unlink()
    path.write_text("spoiled")


def _overwrite_in_place(path: Path) -> None:
    path.write_text("spoiled")


@pytest.mark.parametrize("what", ["certs/tls.crt", "certs/tls.key", "certs.sds.json"])
@pytest.mark.parametrize("spoil", [_delete, _overwrite, _overwrite_in_place])
async def test_spoiled_files_are_put_right(
    folder: Folder, what: str, spoil: Callable[[Path], None]
) -> None:
    """Deleted or overwritten, it is soon there again, without an order."""
    bundle = pair()
    await folder.objects.create(secret(bundle), folder.term)
    await asyncio.sleep(0.3)
    spoil(folder.state / NAMESPACE / what)
    await until(lambda: served(folder) == served_by_sds(folder) == contents(bundle))


def test_no_draft_of_a_link_leads_to_the_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a watch that begins then is one of the draft, and ends with it: nothing is noticed."""
    lead_to_a_pair: list[bool] = []
    make = Path.symlink_to

    def noted(link: Path, destination: str) -> None:
        make(link, destination)
        lead_to_a_pair.append(link.is_dir())

    monkeypatch.setattr(Path, "symlink_to", noted)
    stored = secret(pair())
    stored["metadata"]["resourceVersion"] = "1"
    Outputs(tmp_path).ensure(stored)
    assert (tmp_path / NAMESPACE / "certs" / "..data").is_dir()
    assert lead_to_a_pair == [False] * 3


@pytest.mark.parametrize("what", ["certs/..data", "certs"])
async def test_a_lost_folder_is_made_again(folder: Folder, what: str) -> None:
    """The link, or all of it."""
    bundle = pair()
    await folder.objects.create(secret(bundle), folder.term)
    await asyncio.sleep(0.3)
    where = folder.state / NAMESPACE / what
    if where.is_symlink():
        where.unlink()
    else:
        where.rename(folder.root / "moved away")
    await until(lambda: served(folder) == contents(bundle))


async def test_a_secret_without_a_pair_leaves_what_is_served(folder: Folder) -> None:
    """What is served never gets worse because a Secret did."""
    bundle = pair()
    created = await folder.objects.create(secret(bundle), folder.term)
    data = {**created["data"], "tls.key": secret(pair())["data"]["tls.key"]}
    await folder.objects.update({**created, "data": data}, folder.term)
    await asyncio.sleep(0.5)
    assert served(folder) == served_by_sds(folder) == contents(bundle)


async def test_files_are_made_at_the_start(tmp_path: Path) -> None:
    """What was spoilt while nobody watched is put right when somebody does."""
    (tmp_path / "manifests").mkdir()
    bundle = pair()
    for life in range(2):
        leadership = FolderLeadership(tmp_path / "state")
        term = await leadership.acquire()
        async with watched(tmp_path / "manifests", tmp_path / "state", leadership) as objects:
            folder = Folder(tmp_path, objects, term)
            if life == 0:
                await objects.create(secret(bundle), term)
            await until(functools.partial(is_served, folder, bundle))
        (tmp_path / "state" / NAMESPACE / "certs.sds.json").write_text("spoiled")
        (tmp_path / "state" / NAMESPACE / "certs" / "tls.key").unlink()


async def test_one_bad_secret_keeps_no_other_from_being_served(folder: Folder) -> None:
    """A file that is odd in any way is not in the way of the next one."""
    where = folder.state / NAMESPACE
    where.mkdir(exist_ok=True)
    odd = {
        "no-names": {"kind": "Secret", "metadata": {}, "data": secret(pair())["data"]},
        "another": secret(pair(7), "certs"),
        "climbing": secret(pair(8), "../../../outside"),
        "data-text": {**secret(pair(), "data-text"), "data": "text"},
        "labels-list": {**secret(pair(), "x"), "metadata": {"name": "x", "labels": [1]}},
    }
    for name, manifest in odd.items():
        (where / f"{name}.secret.yaml").write_text(yaml.safe_dump(manifest))
    (where / "folder.secret.yaml").mkdir()
    await asyncio.sleep(0.5)
    bundle = pair()
    await folder.objects.create(secret(bundle), folder.term)
    await until(lambda: served(folder) == served_by_sds(folder) == contents(bundle))
    await asyncio.sleep(0.5)
    assert served(folder) == served_by_sds(folder) == contents(bundle), "another's file counted"
    assert not list(folder.root.parent.parent.glob("**/outside*"))


# ── state ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", ["{no: yaml", "", "[]", "just text", "a: 1\n---\nb: 2\n", "\x00"])
async def test_a_file_that_is_no_object_is_put_aside(folder: Folder, text: str) -> None:
    """It counts as absent; what is written in its place leaves it beside, as it was."""
    where = folder.state / NAMESPACE / "certs.secret.yaml"
    where.parent.mkdir(exist_ok=True)
    where.write_text(text)
    await asyncio.wait_for(folder.objects.changed(), SOON_SECONDS)
    assert await folder.objects.get("Secret", NAMESPACE, "certs") is None
    bundle = pair()
    created = await folder.objects.create(secret(bundle), folder.term)
    assert await folder.objects.get("Secret", NAMESPACE, "certs") == created
    assert where.with_name("certs.secret.yaml.unreadable").read_text() == text


async def test_nobody_else_may_read_what_is_secret(folder: Folder) -> None:
    """Files 0600, folders 0700, whatever the umask."""
    before = os.umask(0)
    try:
        created = await folder.objects.create(secret(pair(1)), folder.term)
        update = {**created, "data": secret(pair(2))["data"]}
        await folder.objects.update(update, folder.term)
        await until(lambda: served(folder) == served_by_sds(folder))
    finally:
        os.umask(before)
    modes = {
        str(path.relative_to(folder.state)): stat.S_IMODE(path.lstat().st_mode)
        for path in folder.state.rglob("*")
        if not path.is_symlink()
    }
    assert {mode for name, mode in modes.items() if (folder.state / name).is_dir()} == {0o700}
    assert {mode for name, mode in modes.items() if (folder.state / name).is_file()} == {0o600}
    assert len(modes) >= 6
    assert stat.S_IMODE(folder.state.stat().st_mode) == 0o700


async def test_a_write_is_whole_or_not_at_all(folder: Folder) -> None:
    """A reader of the state never sees half a file, and no draft is left over."""
    current = await folder.objects.create(secret(pair(0)), folder.term)
    where = folder.state / NAMESPACE / "certs.secret.yaml"
    over, torn = threading.Event(), []

    def read() -> None:
        while not over.is_set():
            document = yaml.load(where.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
            data = document["data"]
            try:
                parse_pair(*(base64.b64decode(data[k]) for k in ("tls.crt", "tls.key")))
            except ValueError as error:
                torn.append(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 30):
        update = {**current, "data": secret(pair(number))["data"]}
        current = await folder.objects.update(update, folder.term)
    over.set()
    reader.join()
    assert not torn
    await until(lambda: not list(folder.state.rglob("*.new")))


ODD_NAMES = (
    "../outside",
    "../../outside",
    "../../../outside",
    "a/b",
    "{root}/outside",
    "..",
    ".",
    "",
    "a\x00b",
)


def _outside(folder: Folder) -> set[Path]:
    """Everything around the state folder."""
    around = folder.root.parent.parent.rglob("*")
    return {path for path in around if folder.state not in path.parents}


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("part", ["name", "namespace"])
async def test_no_name_escapes_the_folder(folder: Folder, name: str, part: str) -> None:
    """Whatever an object is called: nothing is read, written or made outside the state folder."""
    name = name.format(root=folder.root)
    (folder.root / "outside.secret.yaml").write_text(yaml.safe_dump(secret(pair(), "outside")))
    before = _outside(folder)
    manifest = secret(pair())
    manifest["metadata"][part] = name
    where = {"namespace": NAMESPACE, "name": "certs", part: name}
    try:
        assert await folder.objects.get("Secret", where["namespace"], where["name"]) is None
        await folder.objects.create(manifest, folder.term)
    except (AcmeistioError, ValueError):
        pass
    await asyncio.sleep(0.1)
    assert _outside(folder) == before


async def test_a_folder_has_one_process(tmp_path: Path) -> None:
    """The second one is told so, and may start once the first is gone."""
    first, second = FolderLeadership(tmp_path / "state"), FolderLeadership(tmp_path / "state")
    term = await first.acquire()
    with pytest.raises(Misconfigured, match="another acmeistio works on"):
        await second.acquire()
    assert first.holds(term)
    assert not second.holds(term)
    await first.release()
    assert not first.holds(term)
    assert second.holds(await second.acquire())
    await second.release()


async def test_a_folder_that_cannot_be_written_is_misconfigured(tmp_path: Path) -> None:
    """One clear line instead of a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="can't be written"):
        await FolderLeadership(tmp_path / "file" / "state").acquire()


async def test_a_change_that_nobody_told_of_is_seen_in_the_end(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems tell of none: the folders are read anew every half minute."""
    folder.write("a.yaml", yaml.safe_dump(ingress("a")))
    await folder.ingresses()
    await asyncio.sleep(0.3)
    assert await folder.objects.get("Secret", NAMESPACE, "certs") is None
    monkeypatch.setattr(folder.objects, "_noticed", lambda _paths: None)
    folder.write("b.yaml", yaml.safe_dump(ingress("b")))
    (folder.state / NAMESPACE).mkdir(exist_ok=True)
    where = folder.state / NAMESPACE / "certs.secret.yaml"
    where.write_text(yaml.safe_dump(secret(pair())))
    folder.objects._read_at -= timedelta(minutes=1).total_seconds()
    assert names(await folder.objects.listing("Ingress")) == ["a", "b"]
    assert await folder.objects.get("Secret", NAMESPACE, "certs")
