"""What the program relies on in the port Objects, whatever is behind it.

Each rule runs on the objects in memory, which simulations stand on, on the folders of the
embedded default, and on a real API server.
"""

from __future__ import annotations

import asyncio
import base64
import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from acmeistio.errors import Conflict, NotLeader
from acmeistio.model import ISTIO_GATEWAY, K8S_GATEWAY, ObjectRef
from acmeistio.ports import Manifest, Term
from tests.contract import object_subjects
from tests.contract.object_subjects import NAMESPACE, Subject

ADDED_BY_STORES = ("resourceVersion", "uid", "creationTimestamp")

CERTS = ObjectRef("Secret", NAMESPACE, "certs")

SOON_SECONDS = 5.0
QUIET_SECONDS = 0.5


@pytest_asyncio.fixture(params=["simulated", "folder", "cluster"])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    """Each implementation in turn, empty."""
    in_cluster = request.param == "cluster"
    place = request.getfixturevalue("control_plane") if in_cluster else tmp_path
    async with getattr(object_subjects, request.param)(place) as each:
        yield each


def secret(name: str = "certs", **data: str) -> Manifest:
    """A Secret that acmeistio might write."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": NAMESPACE, "name": name, "labels": {"by": "acmeistio"}},
        "type": "Opaque",
        "data": data or {"key": "dmFsdWU="},
    }


def ingress(name: str = "shop", host: str = "www.example.org") -> Manifest:
    """An Ingress that a user might apply."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"namespace": "default", "name": name},
        "spec": {"rules": [{"host": host}]},
    }


def _bare(manifest: Manifest | None) -> Any:
    """Without what the store adds."""
    assert manifest is not None
    bare = copy.deepcopy(manifest)
    for key in ADDED_BY_STORES:
        bare["metadata"].pop(key, None)
    return bare


def _value(text: str) -> str:
    """A text as a Secret's data holds it."""
    return base64.b64encode(text.encode()).decode()


def _version(manifest: Manifest) -> str:
    return str(manifest["metadata"]["resourceVersion"])


def _with(manifest: Manifest, **data: str) -> Manifest:
    return {**manifest, "data": data}


async def _told(subject: Subject) -> None:
    await asyncio.wait_for(subject.objects.changed(), SOON_SECONDS)


async def _not_told(subject: Subject) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(subject.objects.changed(), QUIET_SECONDS)


# ── reading and writing ───────────────────────────────────────────────────────────────────────


async def test_what_does_not_exist_is_none(subject: Subject) -> None:
    """Getting nothing is no error."""
    assert await subject.objects.get("Secret", NAMESPACE, "certs") is None
    await subject.objects.create(secret("other"), subject.term)
    assert await subject.objects.get("Secret", NAMESPACE, "certs") is None
    assert await subject.objects.get("ConfigMap", NAMESPACE, "other") is None
    assert await subject.objects.get("Secret", "elsewhere", "other") is None


async def test_what_was_created_is_read_back(subject: Subject) -> None:
    """With a resourceVersion, and else as it was given."""
    created = await subject.objects.create(secret(), subject.term)
    assert created["metadata"]["resourceVersion"]
    assert _bare(created) == secret()
    assert await subject.objects.get("Secret", NAMESPACE, "certs") == created


async def test_what_was_updated_is_read_back(subject: Subject) -> None:
    """Under another resourceVersion, which the next update is made with."""
    created = await subject.objects.create(secret(), subject.term)
    updated = await subject.objects.update(_with(created, a="YQ=="), subject.term)
    assert updated["metadata"]["resourceVersion"] != created["metadata"]["resourceVersion"]
    assert await subject.objects.get("Secret", NAMESPACE, "certs") == updated
    again = await subject.objects.update(_with(updated, b="Yg=="), subject.term)
    read = await subject.objects.get("Secret", NAMESPACE, "certs")
    assert read == again
    assert read["data"] == {"b": "Yg=="}


async def test_an_update_that_changes_nothing_is_done(subject: Subject) -> None:
    """Its resourceVersion stays good for the next one."""
    created = await subject.objects.create(secret(), subject.term)
    same = await subject.objects.update(created, subject.term)
    assert await subject.objects.update(_with(same, a="YQ=="), subject.term)


async def test_what_exists_is_not_created(subject: Subject) -> None:
    """Conflict, and what is there stays."""
    await subject.objects.create(secret(a="YQ=="), subject.term)
    with pytest.raises(Conflict):
        await subject.objects.create(secret(b="Yg=="), subject.term)
    read = await subject.objects.get("Secret", NAMESPACE, "certs")
    assert _bare(read) == secret(a="YQ==")


async def test_what_others_created_is_not_created(subject: Subject) -> None:
    """Conflict also where nobody has told yet that it is there."""
    assert await subject.objects.get("Secret", NAMESPACE, "certs") is None
    subject.put(secret(a="YQ=="))
    with pytest.raises(Conflict):
        await subject.objects.create(secret(b="Yg=="), subject.term)


async def test_a_stale_update_is_a_conflict(subject: Subject) -> None:
    """Of two that read the same version one may write; the other reads again."""
    created = await subject.objects.create(secret(), subject.term)
    updated = await subject.objects.update(_with(created, a="YQ=="), subject.term)
    with pytest.raises(Conflict):
        await subject.objects.update(_with(created, b="Yg=="), subject.term)
    assert await subject.objects.get("Secret", NAMESPACE, "certs") == updated


async def test_an_update_of_what_others_changed_is_a_conflict(subject: Subject) -> None:
    """Also before anybody has told of the change."""
    created = await subject.objects.create(secret(), subject.term)
    subject.put(secret(theirs="YQ=="))
    with pytest.raises(Conflict):
        await subject.objects.update(_with(created, ours="Yg=="), subject.term)
    await _told(subject)
    read = await subject.objects.get("Secret", NAMESPACE, "certs")
    assert _bare(read) == secret(theirs="YQ==")


async def test_an_update_of_what_is_gone_is_a_conflict(subject: Subject) -> None:
    """It does not come back by an update; it may be created again."""
    created = await subject.objects.create(secret(), subject.term)
    subject.delete("Secret", "certs")
    with pytest.raises(Conflict):
        await subject.objects.update(_with(created, a="YQ=="), subject.term)
    await subject.objects.create(secret(a="YQ=="), subject.term)


async def test_an_update_of_what_never_was_is_a_conflict(subject: Subject) -> None:
    """Whatever version it claims, or none."""
    for version in ({}, {"resourceVersion": "1"}):
        manifest = secret()
        manifest["metadata"] |= version
        with pytest.raises(Conflict):
            await subject.objects.update(manifest, subject.term)
    assert await subject.objects.get("Secret", NAMESPACE, "certs") is None


async def test_of_updates_at_once_one_wins(subject: Subject) -> None:
    """Ten that read the same version: one is written, nine are Conflict."""
    created = await subject.objects.create(secret(), subject.term)
    attempts = [
        subject.objects.update(_with(created, number=_value(str(n))), subject.term)
        for n in range(10)
    ]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    winners = [result for result in results if isinstance(result, dict)]
    assert len(winners) == 1
    assert all(isinstance(r, Conflict) for r in results if not isinstance(r, dict))
    assert await subject.objects.get("Secret", NAMESPACE, "certs") == winners[0]


async def test_of_creations_at_once_one_wins(subject: Subject) -> None:
    """Ten that saw nothing there: one is written, nine are Conflict."""
    attempts = [subject.objects.create(secret(n=_value(str(n))), subject.term) for n in range(10)]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(result, dict) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 9


async def test_foreign_fields_survive(subject: Subject) -> None:
    """What others put on an object is still there after a read, an update and a read."""
    manifest = secret()
    manifest["metadata"]["labels"] |= {"team.example.org/name": "shop"}
    manifest["metadata"]["annotations"] = {"note": "ünïcode: – | > # '\" \n two lines", "n": "1e3"}
    manifest["metadata"]["finalizers"] = ["example.org/keep"]
    manifest["data"]["ca.crt"] = "QUFB"
    manifest["immutable"] = False
    if subject.keeps_unknown_fields:
        manifest["x-unknown"] = {"deep": [1, {"er": None}, "yes", "0123", "2026-01-01"]}
    created = await subject.objects.create(manifest, subject.term)
    changed = {**created, "data": {**created["data"], "key": "YQ=="}}
    await subject.objects.update(changed, subject.term)
    read = _bare(await subject.objects.get("Secret", NAMESPACE, "certs"))
    manifest["data"]["key"] = "YQ=="
    assert read == manifest


async def test_objects_do_not_mix(subject: Subject) -> None:
    """Kind, namespace and name together say which object it is."""
    for kind in ("Secret", "ConfigMap"):
        for namespace in (NAMESPACE, "default"):
            for name in ("a", "a.b", "a-b"):
                manifest = secret(name, it=_value(f"{kind}-{namespace}-{name}"))
                manifest["kind"] = kind
                manifest["metadata"]["namespace"] = namespace
                await subject.objects.create(manifest, subject.term)
    for kind in ("Secret", "ConfigMap"):
        for namespace in (NAMESPACE, "default"):
            for name in ("a", "a.b", "a-b"):
                read = await subject.objects.get(kind, namespace, name)
                assert read
                assert read["data"] == {"it": _value(f"{kind}-{namespace}-{name}")}


async def test_what_is_given_is_not_changed(subject: Subject) -> None:
    """A manifest that was handed over is still what it was."""
    manifest = secret()
    created = await subject.objects.create(manifest, subject.term)
    assert manifest == secret()
    changed = _with(created, a="YQ==")
    kept = copy.deepcopy(changed)
    await subject.objects.update(changed, subject.term)
    assert changed == kept


# ── deleting ──────────────────────────────────────────────────────────────────────────────────


async def test_what_was_deleted_is_gone(subject: Subject) -> None:
    """At once, from every view of it, and no other object with it; it may be made anew."""
    created = await subject.objects.create(secret(), subject.term)
    other = await subject.objects.create(secret("other"), subject.term)
    assert len((await subject.objects.listing("Secret")).manifests) == 2
    await subject.objects.delete(CERTS, _version(created), subject.term)
    assert await subject.objects.get("Secret", NAMESPACE, "certs") is None
    assert (await subject.objects.listing("Secret")).manifests == (other,)
    anew = await subject.objects.create(secret(a="YQ=="), subject.term)
    assert await subject.objects.get("Secret", NAMESPACE, "certs") == anew


async def test_what_was_changed_since_it_was_read_is_not_deleted(subject: Subject) -> None:
    """Conflict, whoever changed it, and before anybody has told of it; what is there stays."""
    created = await subject.objects.create(secret(), subject.term)
    updated = await subject.objects.update(_with(created, a="YQ=="), subject.term)
    with pytest.raises(Conflict):
        await subject.objects.delete(CERTS, _version(created), subject.term)
    assert await subject.objects.get("Secret", NAMESPACE, "certs") == updated
    subject.put(secret(theirs="YQ=="))
    with pytest.raises(Conflict):
        await subject.objects.delete(CERTS, _version(updated), subject.term)
    await _told(subject)
    read = await subject.objects.get("Secret", NAMESPACE, "certs")
    assert _bare(read) == secret(theirs="YQ==")


async def test_deleting_what_is_not_there_is_no_error(subject: Subject) -> None:
    """It never was, or it is gone already, whoever deleted it."""
    await subject.objects.delete(CERTS, "1", subject.term)
    for theirs in (True, False):
        created = await subject.objects.create(secret(), subject.term)
        if theirs:
            subject.delete("Secret", "certs")
        for _ in range(2):
            await subject.objects.delete(CERTS, _version(created), subject.term)
            assert await subject.objects.get("Secret", NAMESPACE, "certs") is None


async def test_our_own_deletions_are_no_news(subject: Subject) -> None:
    """Else the loop would never come to rest."""
    for _ in range(3):
        created = await subject.objects.create(secret(), subject.term)
        await asyncio.sleep(0.05)
        await subject.objects.delete(CERTS, _version(created), subject.term)
    await _not_told(subject)
    subject.put(secret(theirs="YQ=="))
    await _told(subject)


# ── who may write ─────────────────────────────────────────────────────────────────────────────


async def test_a_term_that_is_over_writes_nothing(subject: Subject) -> None:
    """NotLeader for all that changes something, and everything is as it was."""
    created = await subject.objects.create(secret(), subject.term)
    subject.end_term()
    await asyncio.sleep(0)
    with pytest.raises(NotLeader):
        await subject.objects.create(secret("more"), subject.term)
    with pytest.raises(NotLeader):
        await subject.objects.update(_with(created, a="YQ=="), subject.term)
    with pytest.raises(NotLeader):
        await subject.objects.delete(CERTS, _version(created), subject.term)
    assert await subject.objects.get("Secret", NAMESPACE, "certs") == created
    assert await subject.objects.get("Secret", NAMESPACE, "more") is None


async def test_a_term_of_somebody_else_writes_nothing(subject: Subject) -> None:
    """A Term is good for the process that it was given to."""
    with pytest.raises(NotLeader):
        await subject.objects.create(secret(), Term("somebody else", 1))
    assert await subject.objects.get("Secret", NAMESPACE, "certs") is None


# ── listing and noticing ──────────────────────────────────────────────────────────────────────


async def test_a_kind_without_objects_is_an_empty_complete_listing(subject: Subject) -> None:
    """Nothing there is something known."""
    listing = await subject.objects.listing("Ingress")
    assert (listing.manifests, listing.complete, listing.troubles) == ((), True, ())


async def test_a_listing_has_all_objects_of_its_kind(subject: Subject) -> None:
    """Those of users, from all namespaces, and no others."""
    subject.declare(ingress("a"))
    elsewhere = ingress("b")
    elsewhere["metadata"]["namespace"] = "shop"
    subject.declare(elsewhere)
    spec = {"controller": "istio.io/ingress-controller"}
    klass = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "spec": spec}
    subject.declare({**klass, "metadata": {"name": "istio"}})
    await _told(subject)
    listing = await subject.objects.listing("Ingress")
    assert listing.complete
    assert {m["metadata"]["name"] for m in listing.manifests} == {"a", "b"}
    classes = await subject.objects.listing("IngressClass")
    assert [m["metadata"]["name"] for m in classes.manifests] == ["istio"]


@pytest.mark.parametrize("subject", ["simulated", "folder"], indirect=True)
async def test_two_groups_may_have_the_same_kind(subject: Subject) -> None:
    """A Gateway is Istio's or that of the Gateway API; test_cluster_objects has it for clusters."""
    for group in ("networking.istio.io", "gateway.networking.k8s.io"):
        gateway = {"apiVersion": f"{group}/v1", "kind": "Gateway"}
        subject.declare({**gateway, "metadata": {"name": f"of-{group}", "namespace": "shop"}})
    await _told(subject)
    for kind, name in (
        (ISTIO_GATEWAY, "of-networking.istio.io"),
        (K8S_GATEWAY, "of-gateway.networking.k8s.io"),
        ("Gateway", None),
    ):
        found = (await subject.objects.listing(kind)).manifests
        assert [m["metadata"]["name"] for m in found] == ([name] if name else [])


async def test_a_listing_sees_what_was_written(subject: Subject) -> None:
    """Our own writes too, at once."""
    assert (await subject.objects.listing("Secret")).manifests == ()
    created = await subject.objects.create(secret(), subject.term)
    assert (await subject.objects.listing("Secret")).manifests == (created,)
    updated = await subject.objects.update(_with(created, a="YQ=="), subject.term)
    assert (await subject.objects.listing("Secret")).manifests == (updated,)


async def test_an_unchanged_listing_has_the_same_values(subject: Subject) -> None:
    """The controller reads an object again only when it is another: identity is the sign."""
    subject.declare(ingress("a"))
    subject.declare(ingress("b"))
    await _told(subject)
    first = await subject.objects.listing("Ingress")
    second = await subject.objects.listing("Ingress")
    assert list(map(id, first.manifests)) == list(map(id, second.manifests))


@pytest.mark.parametrize("how", ["declared", "edited", "created", "changed", "deleted"])
async def test_changes_of_others_are_told_and_seen(subject: Subject, how: str) -> None:
    """changed() returns soon, and from then on the change is what is read."""
    subject.declare(ingress("there"))
    await subject.objects.create(secret(), subject.term)
    await _told(subject)
    await subject.objects.listing("Ingress")
    await subject.objects.get("Secret", NAMESPACE, "certs")
    await subject.objects.get("Secret", NAMESPACE, "new")
    waiting = asyncio.ensure_future(subject.objects.changed())
    await asyncio.sleep(QUIET_SECONDS)
    if how == "declared":
        subject.declare(ingress("fresh"))
    elif how == "edited":
        subject.declare(ingress("there", "img.example.org"))
    elif how == "created":
        subject.put(secret("new"))
    elif how == "changed":
        subject.put(secret(theirs="YQ=="))
    else:
        subject.delete("Secret", "certs")
    await asyncio.wait_for(waiting, SOON_SECONDS)
    manifests = (await subject.objects.listing("Ingress")).manifests
    certs = await subject.objects.get("Secret", NAMESPACE, "certs")
    new = await subject.objects.get("Secret", NAMESPACE, "new")
    hosts = {m["metadata"]["name"]: m["spec"]["rules"][0]["host"] for m in manifests}
    seen = {
        "declared": "fresh" in hosts,
        "edited": hosts["there"] == "img.example.org",
        "created": new is not None and _bare(new) == secret("new"),
        "changed": certs is not None and certs["data"] == {"theirs": "YQ=="},
        "deleted": certs is None,
    }
    assert {what for what, is_seen in seen.items() if is_seen} == {how}


async def test_a_change_that_came_before_anybody_waited_is_told(subject: Subject) -> None:
    """No change is lost between two calls."""
    await asyncio.sleep(QUIET_SECONDS)
    subject.declare(ingress())
    await asyncio.sleep(QUIET_SECONDS)
    await _told(subject)
    await _not_told(subject)


async def test_our_own_writes_are_no_news(subject: Subject) -> None:
    """Else the loop would never come to rest."""
    created = await subject.objects.create(secret(), subject.term)
    for number in range(5):
        created = await subject.objects.update(_with(created, n=_value(str(number))), subject.term)
        await asyncio.sleep(0.05)
    await _not_told(subject)
