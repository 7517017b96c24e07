"""What the API server sends, read: lines cut anywhere, events of every kind, refusals."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmeistio.errors import AcmeistioError, Conflict, Forbidden, Permanent, Transient
from acmeistio.kube.refusals import Gone, Missing, refusal
from acmeistio.kube.resources import LAST_APPLIED, RESOURCES
from acmeistio.kube.stream import MAX_LINE_BYTES, Bookmark, Change, lines, page, told

INGRESS = RESOURCES["Ingress"]
SECRET = RESOURCES["Secret"]


def _event(what: str, **metadata: Any) -> bytes:
    found = {"namespace": "shop", "name": "www", "resourceVersion": "7", **metadata}
    return json.dumps({"type": what, "object": {"metadata": found, "spec": {}}}).encode()


async def _chunks(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def _lines(*chunks: bytes) -> list[bytes]:
    return [line async for line in lines(_chunks(*chunks))]


# ── lines ─────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.binary(max_size=8).map(lambda b: b.replace(b"\n", b"")), max_size=8), st.data())
async def test_lines_are_whole_however_they_are_cut(wanted: list[bytes], data: Any) -> None:
    """Chunks end wherever the network likes."""
    text = b"".join(line + b"\n" for line in wanted)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    ends = [0, *cuts, len(text)]
    assert await _lines(*(text[a:b] for a, b in itertools.pairwise(ends))) == wanted


async def test_a_line_of_megabytes_is_read() -> None:
    """An object may be larger than any buffer on the way."""
    line = b"x" * (3 << 20)
    chunks = [line[at : at + 65536] for at in range(0, len(line), 65536)]
    assert await _lines(*chunks, b"\n") == [line]


async def test_a_line_without_end_is_refused() -> None:
    """It would fill the memory."""
    with pytest.raises(Transient, match="more than"):
        await _lines(b"x" * MAX_LINE_BYTES, b"x")


async def test_half_a_line_is_an_error() -> None:
    """The connection broke in it: what it told is not known."""
    with pytest.raises(Transient, match="middle of a line"):
        await _lines(b'{"type":"ADDED"}\n{"type":"DEL')


# ── events ────────────────────────────────────────────────────────────────────────────────────


def test_changes_and_bookmarks_are_read() -> None:
    """With the version that they bring."""
    for what in ("ADDED", "MODIFIED"):
        change = told(_event(what), INGRESS)
        assert isinstance(change, Change)
        assert (change.key, change.version) == (("shop", "www"), 7)
        assert change.manifest
        assert change.manifest["kind"] == "Ingress"
    assert told(_event("DELETED"), INGRESS) == Change("shop", "www", 7, None)
    assert told(_event("BOOKMARK", name=""), INGRESS) == Bookmark(7)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"null",
        b"<html>",
        b"\xff\xfe",
        b'{"type":"ADDED"}',
        b'{"type":"ADDED","object":null}',
        b'{"type":"ADDED","object":{}}',
        b'{"type":"BOOKMARK","object":{"metadata":{}}}',
        _event("ADDED", resourceVersion="new"),
        _event("ADDED", resourceVersion=None),
        _event("RENAMED"),
    ],
)
def test_what_is_not_understood_is_transient(line: bytes) -> None:
    """Everything is listed anew then, and nothing breaks."""
    with pytest.raises(Transient, match="not understood"):
        told(line, INGRESS)


@pytest.mark.parametrize("status", [{}, {"code": "x"}, {"code": 500, "message": "etcd"}])
def test_an_error_in_a_watch_is_transient(status: Any) -> None:
    """Whatever it looks like."""
    with pytest.raises(Transient):
        told(json.dumps({"type": "ERROR", "object": status}).encode(), INGRESS)


def test_410_in_a_watch_is_gone() -> None:
    """It comes as an event, too, when the watch was opened before."""
    with pytest.raises(Gone, match="too old"):
        told(b'{"type":"ERROR","object":{"code":410,"message":"too old"}}', INGRESS)


def test_a_page_has_objects_version_and_the_rest() -> None:
    """Objects of a list come without their kind, which is known."""
    item = {"metadata": {"namespace": "shop", "name": "www", "resourceVersion": "3"}}
    found = page({"items": [item], "metadata": {"resourceVersion": "9", "continue": "c"}}, INGRESS)
    assert (found.version, found.rest) == (9, "c")
    assert found.found[0].manifest == {
        **item,
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
    }
    assert page({"items": None, "metadata": {"resourceVersion": "9"}}, INGRESS).found == ()
    with pytest.raises(Transient):
        page({"items": [{}], "metadata": {"resourceVersion": "9"}}, INGRESS)


def test_only_what_is_of_use_is_kept() -> None:
    """An object that is written back keeps all that users see on it."""
    notes = {LAST_APPLIED: "{}", "team": "shop"}
    found = {"metadata": {"name": "a", "managedFields": [{}], "annotations": notes}}
    assert INGRESS.whole(found)["metadata"] == {"name": "a", "annotations": {"team": "shop"}}
    assert SECRET.whole(found)["metadata"] == {"name": "a", "annotations": notes}
    assert found["metadata"]["managedFields"]


@pytest.mark.parametrize("name", ["..", "a/b", "a%2fb", " ", "A", "a?b", "x" * 254, "a\n"])
def test_a_name_that_is_none_never_becomes_a_path(name: str) -> None:
    """It would be another object's."""
    with pytest.raises(Permanent):
        SECRET.path("istio-system", name)
    assert SECRET.path("istio-system", "a.b-c") == "/api/v1/namespaces/istio-system/secrets/a.b-c"


# ── refusals ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Permanent),
        (401, Forbidden),
        (403, Forbidden),
        (404, Missing),
        (408, Transient),
        (409, Conflict),
        (410, Gone),
        (413, Permanent),
        (422, Permanent),
        (429, Transient),
        (500, Transient),
        (503, Transient),
        (504, Transient),
    ],
)
def test_each_status_has_its_meaning(status: int, error: type[AcmeistioError]) -> None:
    """With the API server's own sentence."""
    found = refusal(status, b'{"kind":"Status","message":"secrets \\"a\\" is\\nso"}')
    assert type(found) is error
    assert 'secrets "a" is so' in str(found)


@pytest.mark.parametrize("body", [b"", b"<html>\xff", b"null", b"[]", b'{"message": 1}'])
def test_a_refusal_of_something_else_says_its_code(body: bytes) -> None:
    """A proxy on the way is no API server."""
    assert "502" in str(refusal(502, body))


def test_a_retry_after_is_kept() -> None:
    """In seconds; anything else says nothing."""
    for text, seconds in (("7", 7.0), ("", None), ("soon", None), ("-1", None)):
        error = refusal(429, b"", text)
        assert isinstance(error, Transient)
        assert error.retry_after_seconds == seconds
