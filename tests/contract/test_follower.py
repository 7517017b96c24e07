"""A list-watch against an API server that plays every trick: in the end it knows what there is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from acmeistio.errors import Forbidden, Transient
from acmeistio.kube import follower as follower_module
from acmeistio.kube import following
from acmeistio.kube import groups as groups_module
from acmeistio.kube.follower import Follower, Selection
from acmeistio.kube.groups import Groups
from acmeistio.kube.refusals import Missing
from acmeistio.kube.resources import RESOURCES
from acmeistio.ports import Manifest
from tests.simulated.api_server import (
    TOKEN,
    Answer,
    ScriptedServer,
    bookmark,
    document,
    event,
    page,
    scripted,
    status,
    watch,
)

INGRESSES = Selection(RESOURCES["Ingress"])


def ingress(name: str, version: int, host: str = "www.example.org") -> Manifest:
    """An Ingress as an API server has it."""
    metadata = {"namespace": "shop", "name": name, "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": {"rules": [{"host": host}]}}


A, B, C = ingress("a", 1), ingress("b", 2), ingress("c", 3)
GONE = {"kind": "Status", "code": 410, "message": "too old resource version: 10 (99)"}


@dataclass
class Followed:
    """A follower at work."""

    server: ScriptedServer
    follower: Follower
    news: list[None] = field(default_factory=list)

    @property
    def names(self) -> set[str]:
        """Of the objects that are known."""
        return {m["metadata"]["name"] for m in self.follower.collection.all()}

    def versions_asked(self) -> list[str]:
        """From where each watch was to begin; nothing for a list."""
        return [request.query.get("resourceVersion", "") for request in self.server.asked]

    async def until(self, *names: str) -> None:
        """Return when these objects are known, and no others."""
        async with asyncio.timeout(10):
            while self.names != set(names):  # noqa: ASYNC110  # its news are what is tested
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def followed(*answers: Answer, selection: Selection = INGRESSES) -> AsyncIterator[Followed]:
    """A follower of an API server that gives these answers."""
    async with scripted(*answers) as server:
        client = await server.client()
        news: list[None] = []
        follower = Follower(client, Groups(client), selection, lambda _: news.append(None))
        task = asyncio.ensure_future(follower.run())
        try:
            yield Followed(server, follower, news)
        finally:
            task.cancel()
            await asyncio.wait({task})
            await client.close()


@pytest.fixture(autouse=True)
def soon_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch of this server may end at once, as one of a real one after five minutes."""
    monkeypatch.setattr(follower_module, "ENDED_AT_ONCE_SECONDS", 0.0)


# ── listing ───────────────────────────────────────────────────────────────────────────────────


async def test_a_list_comes_in_pages() -> None:
    """Each is asked for with the token of the one before."""
    async with followed(page(A, rest="t1"), page(B, rest="t2"), page(C), watch(then="hang")) as it:
        await it.until("a", "b", "c")
        await it.server.until_asked(4)
        queries = [request.query for request in it.server.asked]
        assert [query.get("continue") for query in queries] == [None, "t1", "t2", None]
        assert {query.get("limit") for query in queries[:3]} == {"500"}
        assert queries[3]["resourceVersion"] == "10"


async def test_a_list_that_expires_between_its_pages_begins_anew() -> None:
    """What the first pages told is not mixed with the later list."""
    answers = page(A, B, rest="t1"), status(410), page(A, C), watch(then="hang")
    async with followed(*answers) as it:
        await it.until("a", "c")
        await it.server.until_asked(4)
        assert [r.query.get("continue") for r in it.server.asked] == [None, "t1", None, None]


async def test_a_list_that_expires_at_first_says_nothing_yet() -> None:
    """Who asks waits for the next: that there is nothing would be a lie."""
    async with followed(page(A, rest="t1"), status(410), page(A), watch(then="hang")) as it:
        await it.follower.tried()
        assert it.names == {"a"}


async def test_one_object_is_followed_by_its_name() -> None:
    """RBAC takes the field selector for the name."""
    one = Selection(RESOURCES["Secret"], "istio-system", "certs")
    async with followed(page(), watch(then="hang"), selection=one) as it:
        await it.server.until_asked(2)
        for request in it.server.asked:
            assert request.path == "/api/v1/namespaces/istio-system/secrets"
            assert request.query["fieldSelector"] == "metadata.name=certs"


@pytest.mark.parametrize("answer", [document([]), document({}), document({"items": [1]})])
async def test_a_list_that_is_none_is_asked_for_again(answer: Answer) -> None:
    """Something on the way answered; nothing is known by that."""
    async with followed(answer, page(A), watch(then="hang")) as it:
        await it.until("a")


# ── watching ──────────────────────────────────────────────────────────────────────────────────


async def test_a_watch_that_ends_goes_on_from_its_last_bookmark() -> None:
    """Nothing is listed again, and nothing missed."""
    first = watch(event("ADDED", ingress("b", 12)), bookmark(20))
    second = watch(event("DELETED", ingress("a", 21)), then="hang")
    async with followed(page(A), first, second) as it:
        await it.until("b")
        assert it.versions_asked() == ["", "10", "20"]
        assert len(it.news) == 3


@pytest.mark.parametrize(
    "broken",
    [
        watch(event("ERROR", GONE), then="hang"),
        status(410, "too old"),
        status(504, "Too large resource version: 10, current: 3"),
        status(429, "slow down"),
        watch(then="cut"),
        watch(event("MODIFIED", ingress("a", 11))[:40], then="cut"),
        watch(event("MODIFIED", ingress("a", 11))[:40], then="end"),
        watch(b"<html>busy</html>\n", then="hang"),
        watch(event("RENAMED", A), then="hang"),
        watch(bookmark(9), then="hang"),
        watch(event("MODIFIED", ingress("a", 4)), then="hang"),
        watch(event("ERROR", {"code": 500, "message": "etcd"}), then="hang"),
    ],
    ids=[
        "gone-in-stream", "gone", "future", "busy", "cut", "cut-in-line", "ended-in-line",
        "no-json", "no-event", "bookmark-back", "event-back", "error",
    ],
)  # fmt: skip
async def test_whatever_breaks_a_watch_all_is_listed_anew(broken: Answer) -> None:
    """So that what was deleted meanwhile is seen."""
    async with followed(page(A, B), broken, page(A, version=30), watch(then="hang")) as it:
        await it.until("a")
        await it.server.until_asked(4)
        assert it.versions_asked() == ["", "10", "", "30"]


async def test_a_silent_watch_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is dead, or the API server waits for a version of the future."""
    monkeypatch.setattr(follower_module, "SILENCE_SECONDS", 0.3)
    silent = watch(bookmark(11), then="hang")
    async with followed(page(A), silent, page(B), watch(then="hang")) as it:
        await it.until("b")


async def test_what_is_told_twice_is_news_once() -> None:
    """A watch may repeat itself."""
    again = event("ADDED", ingress("b", 12))
    async with followed(page(A), watch(again, again, again, then="hang")) as it:
        await it.until("a", "b")
        await asyncio.sleep(0.1)
        assert len(it.news) == 2


async def test_an_unchanged_object_is_the_same_value_after_a_new_list() -> None:
    """It need not be read again."""
    answers = page(A, B), watch(then="cut"), page(A, C, version=30), watch(then="hang")
    async with followed(*answers) as it:
        await it.until("a", "b")
        before = it.follower.collection.get(("shop", "a"))
        await it.until("a", "c")
        assert it.follower.collection.get(("shop", "a")) is before


async def test_an_object_of_megabytes_is_followed() -> None:
    """It is larger than the buffers on the way."""
    large = ingress("large", 12)
    large["metadata"]["annotations"] = {"note": "x" * (3 << 20)}
    async with followed(page(A), watch(event("ADDED", large), then="hang")) as it:
        await it.until("a", "large")


async def test_a_watch_that_ends_at_once_is_not_hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some proxies do not let a watch through."""
    monkeypatch.setattr(follower_module, "ENDED_AT_ONCE_SECONDS", 1.0)
    answers = [answer for _ in range(50) for answer in (page(A), watch())]
    async with followed(*answers) as it:
        await asyncio.sleep(1.5)
        assert 4 <= len(it.server.asked) <= 10


# ── what is said about a loss ─────────────────────────────────────────────────────────────────


async def test_a_kind_that_was_never_listed_is_unknown() -> None:
    """And why is known at once."""
    async with followed(status(403, 'cannot list resource "ingresses"')) as it:
        await it.follower.tried()
        assert not it.follower.is_known
        assert isinstance(it.follower.trouble, Forbidden)
        assert 'cannot list resource "ingresses"' in str(it.follower.trouble)


async def test_an_api_server_that_starts_forbids_nothing() -> None:
    """It refuses everybody until it has read who may do what: that is no missing right."""
    async with scripted(status(403, "cannot list"), status(403, "cannot list")) as server:
        client = await server.client()
        server.is_ready = False
        with pytest.raises(Transient, match=r"not ready yet.*cannot list") as starting:
            await client.request("GET", "/api/v1/secrets")
        assert type(starting.value) is Transient
        server.is_ready = True
        with pytest.raises(Forbidden):
            await client.request("GET", "/api/v1/secrets")
        await client.close()


async def test_that_a_kind_is_known_at_last_is_news() -> None:
    """Also when there is nothing: who was told "unknown" must hear it."""
    async with followed(status(403), page(), watch(then="hang")) as it:
        await it.server.until_asked(3)
        assert it.follower.is_known
        assert len(it.news) == 1


async def test_a_loss_that_lasts_is_told_and_its_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was known last stays known; a short loss is nobody's business."""
    monkeypatch.setattr(following, "LOSS_SHOWN_SECONDS", 0.3)
    answers = page(A), watch(then="cut"), *[status(503, "starting")] * 3, page(A)
    async with followed(*answers, watch(then="hang")) as it:
        await it.server.until_asked(5)
        await asyncio.sleep(0.05)
        assert it.names == {"a"}
        assert isinstance(it.follower.trouble, Transient)
        assert len(it.news) == 2
        await it.server.until_asked(7)
        await asyncio.sleep(0.05)
        assert it.follower.trouble is None
        assert len(it.news) == 3


async def test_a_short_loss_is_not_told() -> None:
    """API servers are restarted."""
    answers = page(A), watch(then="cut"), status(503), page(A), watch(then="hang")
    async with followed(*answers) as it:
        await it.server.until_asked(5)
        assert it.follower.trouble is None
        assert len(it.news) == 1


async def test_the_token_is_never_told(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong, and however much is logged."""
    caplog.set_level("DEBUG")
    answers = status(401), status(403), document([]), watch(then="cut")
    async with followed(*answers) as it:
        said = set()
        async with asyncio.timeout(10):
            while len(it.server.asked) < 5:
                said.add(f"{it.follower.trouble!r}{it.follower._state!r}{it.follower._client!r}")
                await asyncio.sleep(0.01)
        assert it.server.asked[0].headers["Authorization"] == TOKEN
    assert TOKEN.split()[1] not in caplog.text + "".join(said)


# ── kinds that come and go ────────────────────────────────────────────────────────────────────

SERVICES = Selection(RESOURCES["VirtualService"])
UNSERVED = status(404, "page not found")
GROUP = status(200, "{}")


@pytest.fixture
def soon_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """An absent kind is asked for again at once, a loss shown at once."""
    monkeypatch.setattr(following, "FIRST_ABSENT_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(groups_module, "REMEMBERED_SECONDS", 0.0)
    monkeypatch.setattr(following, "FIRST_REFUSED_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(following, "LOSS_SHOWN_SECONDS", 0.0)


def versions_of(followed: Followed) -> list[str]:
    """The version of the kind in each request; "" where only its group was asked for."""
    return [([*request.path.split("/"), ""])[3] for request in followed.server.asked]


@pytest.mark.usefixtures("soon_asked")
async def test_an_absent_kind_is_known_and_asked_for_again() -> None:
    """Its group, and once that is there the kind in all its versions."""
    absent, no_group = [UNSERVED] * 3, [UNSERVED] * 3
    here = [GROUP, UNSERVED, GROUP, page(A), watch(bookmark(12)), watch(then="hang")]
    answers = *absent, *no_group, *here
    async with followed(*answers, selection=SERVICES) as it:
        await it.follower.tried()
        assert (it.follower.is_known, it.follower.trouble, it.names) == (True, None, set())
        await it.until("a")
        await it.server.until_asked(12)
        every = ["v1", "v1beta1", "v1alpha3"]
        assert versions_of(it) == [*every, "", "", "", "", "v1", "", *["v1beta1"] * 3]
        assert len(it.news) == 1


@pytest.mark.usefixtures("soon_asked")
async def test_that_a_kind_is_absent_is_news_to_who_was_told_unknown() -> None:
    """As a list without objects is."""
    answers = status(403), *[UNSERVED] * 3, page(), watch(then="hang")
    async with followed(*answers, selection=SERVICES) as it:
        await it.server.until_asked(6)
        assert (it.follower.is_known, it.follower.trouble) == (True, None)


@pytest.mark.usefixtures("soon_asked")
async def test_a_kind_that_vanishes_keeps_its_objects() -> None:
    """An API server was put back without it: unknown is not absent."""
    lost = [UNSERVED] * 6
    answers = page(A), watch(bookmark(12)), *lost, page(B), watch(then="hang")
    async with followed(*answers, selection=SERVICES) as it:
        await it.server.until_asked(7)
        assert it.names == {"a"}
        assert isinstance(it.follower.trouble, Missing)
        await it.until("b")
        await it.server.until_asked(10)
        assert it.follower.trouble is None


@pytest.mark.usefixtures("soon_asked")
async def test_a_kind_that_every_api_server_has_is_never_absent() -> None:
    """What says 404 to it is no API server."""
    async with followed(*[UNSERVED] * 3, page(A), watch(then="hang")) as it:
        await it.follower.tried()
        assert isinstance(it.follower.trouble, Missing)
        await it.until("a")


@pytest.mark.usefixtures("soon_asked")
async def test_kinds_that_come_and_go_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Not that one is absent from the start."""
    caplog.set_level("INFO", logger=follower_module.__name__)
    absent, here = [UNSERVED] * 3, [GROUP, page()]
    answers = *absent, *absent, *here, watch(bookmark(12)), *absent, *absent, *here
    async with followed(*answers, watch(then="hang"), selection=SERVICES) as it:
        await it.server.until_asked(18)
        said = [record.message for record in caplog.records]
        assert [message.rpartition(" ")[2] for message in said] == ["here", "gone", "here"]


async def test_one_asks_for_all_kinds_of_a_group() -> None:
    """At about the same time; a cluster without it is not asked for each of them for ever."""
    async with scripted(UNSERVED, GROUP) as server:
        client = await server.client()
        groups = Groups(client)
        asking = (groups.is_missing("gateway.networking.k8s.io") for _ in range(8))
        assert await asyncio.gather(*asking) == [True] * 8
        assert not await groups.is_missing("networking.istio.io")
        assert [request.path for request in server.asked] == [
            "/apis/gateway.networking.k8s.io",
            "/apis/networking.istio.io",
        ]
        await client.close()
