"""local/: what a file that nobody validated may do to the folders, which is nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from acmeistio.local.manifests import ManifestFolder
from acmeistio.local.outputs import Outputs
from acmeistio.local.state import StateFolder
from acmeistio.sources import untrusted

GOOD = "kind: Ingress\nmetadata: {name: good}\n"


def folder(root: Path, **files: str) -> ManifestFolder:
    """A manifests folder with the good file and others."""
    for name, text in {"good": GOOD, **files}.items():
        (root / f"{name}.yaml").write_text(text)
    manifests = ManifestFolder(root)
    manifests.refresh()
    return manifests


@pytest.mark.parametrize(
    "text",
    [
        "x: !!bool maybe",
        "x: !!int ''",
        "x: !!timestamp foo",
        "x: " + "1:" * 300 + "0.0",
        "&a {kind: List, items: [*a]}",
        "- " * 20_000 + "x",
        "kind: Ingress",
        "just text",
        "kind: Gateway\napiVersion: [&a [x], *a]\nmetadata: {name: odd}",
        "\x00",
        "a: b: c",
    ],
)
def test_an_odd_file_is_a_trouble_of_its_own(tmp_path: Path, text: str) -> None:
    """What can't be read is told of, with its file and why, and every other file counts."""
    listing = folder(tmp_path, odd=text).listing("Ingress")
    assert [manifest["metadata"]["name"] for manifest in listing.manifests] == ["good"]
    assert {trouble.subject.name for trouble in listing.troubles} <= {"odd.yaml"}
    assert listing.complete


def test_a_file_that_becomes_unreadable_keeps_declaring(tmp_path: Path) -> None:
    """Unknown is not absent (DESIGN §5): a half-written file takes nothing back."""
    manifests = folder(tmp_path)
    (tmp_path / "good.yaml").write_text("kind: Ingr{")
    manifests.refresh()
    listing = manifests.listing("Ingress")
    assert [m["metadata"]["name"] for m in listing.manifests] == ["good"]
    assert [trouble.code for trouble in listing.troubles] == ["ManifestUnreadable"]


def test_a_folder_that_cannot_be_read_takes_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in listing the folder is not the removal of everything in it (DESIGN §5)."""
    manifests = folder(tmp_path)

    def fails(_path: object = None) -> object:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(os, "scandir", fails)
    manifests.refresh()
    listing = manifests.listing("Ingress")
    assert [m["metadata"]["name"] for m in listing.manifests] == ["good"]
    assert not listing.complete


def test_aliases_are_never_spelt_out(tmp_path: Path) -> None:
    """A small file whose aliases stand for a billion leaves costs nothing to show."""
    bomb = "&a0 [x,x,x,x,x,x,x,x,x,x]"
    for level in range(1, 9):
        bomb = f"&a{level} [{bomb}, {', '.join([f'*a{level - 1}'] * 9)}]"
    text = f"kind: Ingress\nmetadata: {{name: b, annotations: {{acmeistio.io/tls: {bomb}}}}}\n"
    (found,) = (
        manifest
        for manifest in folder(tmp_path, bomb=text).listing("Ingress").manifests
        if manifest["metadata"]["name"] == "b"
    )
    assert untrusted.annotations_of(found) == {"acmeistio.io/tls": "(not a string)"}


def test_where_a_file_lies_says_which_object_it_is(tmp_path: Path) -> None:
    """A Secret file can't make the PEM pair of another Secret, nor one outside the folder."""
    state = StateFolder(tmp_path)
    path = state.path("Secret", "ns", "mine")
    path.parent.mkdir()
    path.write_text("kind: Secret\nmetadata: {name: yours, namespace: ../..}\n")
    secret = state.read(path)
    assert secret is not None
    assert (secret["metadata"]["namespace"], secret["metadata"]["name"]) == ("ns", "mine")
    path.write_text("kind: Secret\nmetadata: {}\n")
    unnamed = state.read(path)
    assert unnamed is not None
    Outputs(tmp_path).ensure(unnamed)


def test_a_folder_named_as_a_file_is_no_object(tmp_path: Path) -> None:
    """The PEM folder of a Secret with an odd name does not stop the listing of a kind."""
    (tmp_path / "ns" / "shop.ingress.yaml").mkdir(parents=True)
    assert StateFolder(tmp_path).paths("Ingress") == []
