"""Events as the API server takes them and kubectl shows them: counted, cut, never in the way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from acmeistio.kube import events as events_module
from acmeistio.kube.client import Client, connect
from acmeistio.kube.events import MAX_NOTE_BYTES, MAX_WAITING, Events
from acmeistio.model import Event, ObjectRef
from acmeistio.ports import Manifest
from tests.cluster.control_plane import ControlPlane
from tests.contract.object_subjects import empty
from tests.simulated.api_server import Answer, document, scripted, status

REF = ObjectRef("Ingress", "shop", "www")
ISSUED = Event(REF, "CertificateIssued", "Secret istio-system/certs has a certificate")
LIMITED = Event(REF, "RateLimited", "The CA lets no more pass. Wait.", warns=True)
INGRESS = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "Ingress",
    "metadata": {"namespace": "shop", "name": "www", "uid": "0-1"},
}


class _Known:
    """Objects that can be found, by reference."""

    def __init__(self, *manifests: Manifest) -> None:
        self._manifests = {
            ObjectRef(
                m["kind"], m["metadata"].get("namespace", "default"), m["metadata"]["name"]
            ): m
            for m in manifests
        }

    def find(self, ref: ObjectRef) -> Manifest | None:
        return self._manifests.get(ref)


@contextlib.asynccontextmanager
async def telling(client: Client, *manifests: Manifest) -> AsyncIterator[Events]:
    """Events that are being published."""
    events = Events(client, _Known(*manifests).find, "acmeistio-0")
    running = asyncio.ensure_future(events.run())
    try:
        yield events
    finally:
        running.cancel()
        await asyncio.wait({running})
        await client.close()


# ── on a real API server ──────────────────────────────────────────────────────────────────────


@pytest.fixture
def ingress(control_plane: ControlPlane) -> Manifest:
    """The Ingress, in an API server without Events."""
    api = control_plane.api
    empty(api)
    for event in api.list("Event"):
        api.delete("Event", event["metadata"]["namespace"], event["metadata"]["name"])
    spec = {"rules": [{"host": "www.example.org"}]}
    metadata = {"namespace": "shop", "name": "www"}
    return api.create({**INGRESS, "metadata": metadata, "spec": spec})


async def _events(plane: ControlPlane, count: int) -> list[dict[str, Any]]:
    """The Events when there are so many, and a little later."""
    async with asyncio.timeout(5):
        while len(plane.api.list("Event.events.k8s.io")) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    return plane.api.list("Event.events.k8s.io")


async def test_an_event_is_shown_on_its_object(
    control_plane: ControlPlane, ingress: Manifest
) -> None:
    """By `kubectl describe`, with who says it."""
    client = await connect(control_plane.kubeconfig(control_plane.admin_token))
    async with telling(client, ingress) as events:
        events.tell(ISSUED)
        events.tell(LIMITED)
        await _events(control_plane, 2)
    shown = control_plane.kubectl("describe", "ingress", "--namespace", "shop", "www")
    rows = [row.split(maxsplit=4) for row in shown.partition("Events:")[2].splitlines()[3:]]
    assert {(row[0], row[1], row[3], row[4]) for row in rows} == {
        ("Normal", ISSUED.reason, "acmeistio.io/acmeistio", ISSUED.note),
        ("Warning", LIMITED.reason, "acmeistio.io/acmeistio", LIMITED.note),
    }


async def test_the_same_again_is_counted(control_plane: ControlPlane, ingress: Manifest) -> None:
    """Also by a process that knows nothing of the first: a crash loop makes no more of them."""
    for _ in range(2):
        client = await connect(control_plane.kubeconfig(control_plane.admin_token))
        async with telling(client, ingress) as events:
            for _ in range(2):
                events.tell(LIMITED)
            await _events(control_plane, 1)
    [event] = await _events(control_plane, 1)
    assert event["series"]["count"] == 4
    assert event["series"]["lastObservedTime"] > event["eventTime"]


async def test_another_note_or_object_is_another_event(
    control_plane: ControlPlane, ingress: Manifest
) -> None:
    """An object that was made anew under the same name does not go on with the old one's."""
    client = await connect(control_plane.kubeconfig(control_plane.admin_token))
    async with telling(client, ingress) as events:
        events.tell(LIMITED)
        events.tell(Event(REF, LIMITED.reason, "Another note", warns=True))
        await _events(control_plane, 2)
    client = await connect(control_plane.kubeconfig(control_plane.admin_token))
    anew = {**ingress, "metadata": {**ingress["metadata"], "uid": "0-2"}}
    async with telling(client, anew) as events:
        events.tell(LIMITED)
        found = await _events(control_plane, 3)
    assert all("series" not in event for event in found)
    assert {event["regarding"]["uid"] for event in found} == {ingress["metadata"]["uid"], "0-2"}


@pytest.mark.parametrize("note", ["a" * 3000, "é" * 3000, "x" + "€" * 3000, "😀" * 3000])
async def test_a_long_note_is_cut(
    control_plane: ControlPlane, ingress: Manifest, note: str
) -> None:
    """Where the API ends, which counts bytes, and never within a character."""
    client = await connect(control_plane.kubeconfig(control_plane.admin_token))
    async with telling(client, ingress) as events:
        events.tell(Event(REF, "Long", note))
        [event] = await _events(control_plane, 1)
    assert MAX_NOTE_BYTES - 8 < len(event["note"].encode()) <= MAX_NOTE_BYTES
    assert event["note"].rstrip("…") == note[: len(event["note"]) - 1]


async def test_what_has_no_namespace_is_told_of_in_default(
    control_plane: ControlPlane, ingress: Manifest
) -> None:
    """And the longest name fits."""
    name = "c" * 253
    spec = {"controller": "istio.io/ingress-controller"}
    klass = {"apiVersion": INGRESS["apiVersion"], "kind": "IngressClass", "spec": spec}
    made = control_plane.api.create({**klass, "metadata": {"name": name}})
    client = await connect(control_plane.kubeconfig(control_plane.admin_token))
    async with telling(client, made) as events:
        events.tell(Event(ObjectRef("IngressClass", "default", name), "Odd", "Note"))
        [event] = await _events(control_plane, 1)
    assert event["metadata"]["namespace"] == "default"
    assert event["regarding"]["name"] == name


# ── what goes wrong ───────────────────────────────────────────────────────────────────────────


@contextlib.asynccontextmanager
async def told(*answers: Answer) -> AsyncIterator[tuple[Events, list[tuple[str, Any]]]]:
    """Events that get these answers; the method and body of what was asked."""
    async with scripted(*answers) as server, telling(await server.client(), INGRESS) as events:
        yield events, server.bodies


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries come one after the other."""
    monkeypatch.setattr(events_module, "RETRY_SECONDS", (0.01, 0.01, 0.01))


async def _until(bodies: list[Any], count: int) -> list[Any]:
    async with asyncio.timeout(5):
        while len(bodies) < count:  # noqa: ASYNC110  # a list tells nobody
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.1)
    return bodies


async def test_an_api_server_that_is_away_is_tried_again() -> None:
    """The Event comes late and is not lost."""
    async with told(status(503), status(429), document({})) as (events, bodies):
        events.tell(ISSUED)
        assert [method for method, _ in await _until(bodies, 3)] == ["POST"] * 3


async def test_an_event_that_was_forgotten_is_made_anew() -> None:
    """Events live for an hour: it may end between the two requests."""
    there, empty_patch = status(409), status(404)
    async with told(there, empty_patch, document({})) as (events, bodies):
        events.tell(ISSUED)
        assert [method for method, _ in await _until(bodies, 3)] == ["POST", "PATCH", "POST"]


async def test_the_series_goes_on_where_it_was() -> None:
    """A patch of nothing reads it: the right to patch suffices."""
    there = document({"series": {"count": 7}})
    async with told(status(409), there, document({})) as (events, bodies):
        events.tell(ISSUED)
        [_, (_, nothing), (_, patch)] = await _until(bodies, 3)
    assert nothing == {}
    assert patch["series"]["count"] == 8


@pytest.mark.parametrize("code", [403, 404, 422])
async def test_what_is_refused_is_complained_of_once(
    code: int, caplog: pytest.LogCaptureFixture
) -> None:
    """And the next Event goes on."""
    async with told(*[status(code, "no")] * 3, document({})) as (events, bodies):
        for number in range(4):
            events.tell(Event(REF, "R", f"note {number}"))
        await _until(bodies, 4)
    assert caplog.text.count("was not told") == 1


async def test_an_object_that_is_gone_has_no_events() -> None:
    """There is nothing to show them on."""
    async with told(document({})) as (events, bodies):
        events.tell(Event(ObjectRef("Ingress", "shop", "gone"), "R", "note"))
        events.tell(ISSUED)
        assert len(await _until(bodies, 1)) == 1


async def test_of_too_many_the_oldest_are_lost() -> None:
    """Whoever tells is never kept waiting."""
    async with told(*[document({})] * (MAX_WAITING + 10)) as (events, bodies):
        for number in range(MAX_WAITING + 5):
            events.tell(Event(REF, "R", f"note {number}"))
        await _until(bodies, MAX_WAITING)
    notes = [body["note"] for _, body in bodies]
    assert notes == [f"note {number}" for number in range(5, MAX_WAITING + 5)]
