"""What the simulated CA says of renewals beyond its contract: Boulder's windows, and its rules."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.contract.ca_scene import DAY_SECONDS, NAME, START, Scene, now
from tests.contract.raw_acme import Answer, RawClient, renewal_id
from tests.simulated.ca import CaOptions, Certificate, Rule
from tests.simulated.ca import renewals as judged

pytestmark = pytest.mark.looptime

OTHER = "other.example.com"


async def _asked(client: RawClient, certificate: Certificate) -> Answer:
    return await client.get(f"{client.directory['renewalInfo']}/{certificate.renewal_id}")


def _window(answer: Answer) -> tuple[datetime, datetime]:
    window: dict[str, Any] = answer.json["suggestedWindow"]
    return datetime.fromisoformat(window["start"]), datetime.fromisoformat(window["end"])


@pytest.mark.looptime(False)
def test_name_of_a_certificate() -> None:
    """The example of the specification (RFC 9773 §4.1)."""
    key_id = bytes.fromhex("69885B6B87464041E1B37B847BA0AE2CDE01C8D4")
    assert judged.renewal_id(key_id, 0x87654321) == "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"


async def test_names_are_as_clients_reckon() -> None:
    """From the leaf alone."""
    scene = Scene()
    certificate = await scene.certificate(await scene.client(), NAME)
    assert certificate.renewal_id == renewal_id(certificate.leaf)


@pytest.mark.parametrize(
    ("profile", "after", "width"),
    [
        ("classic", timedelta(days=59.1), timedelta(hours=43.2)),
        ("tlsserver", timedelta(days=29.55), timedelta(hours=21.6)),
        ("shortlived", timedelta(hours=78.4), timedelta(hours=3.2)),
    ],
)
async def test_windows_of_boulder(profile: str, after: timedelta, width: timedelta) -> None:
    """At 2/3 of the life, 1/2 if it is shorter than 10 days, ± 1 % (facts: table in §2.1)."""
    scene = Scene()
    client = await scene.client()
    certificate = await scene.certificate(client, NAME, profile=profile)
    start, end = _window(await _asked(client, certificate))
    assert abs(start - START - after) < timedelta(seconds=2)
    assert abs(end - start - width) < timedelta(seconds=2)


async def test_window_of_revoked_certificates() -> None:
    """It is over already, whenever one asks, and says why."""
    scene = Scene()
    client = await scene.client()
    certificate = await scene.certificate(client, NAME)
    scene.ca.revoke_for_incident([certificate], "https://ca.example/incident")
    for _ in range(2):
        answer = await _asked(client, certificate)
        start, end = _window(answer)
        assert start < end < now()
        assert answer.json["explanationURL"] == "https://ca.example/incident"
        await asyncio.sleep(DAY_SECONDS)


async def test_retry_after_is_drawn_anew() -> None:
    """A fifth more or less than told, in seconds."""
    scene = Scene(CaOptions(renewal_info_retry_after_seconds=1000))
    client = await scene.client()
    certificate = await scene.certificate(client, NAME)
    told = [int((await _asked(client, certificate)).header("retry-after")) for _ in range(100)]
    assert 800 <= min(told) < 850
    assert 1150 < max(told) <= 1200


async def test_without_renewal_information() -> None:
    """The directory does not offer it."""
    scene = Scene(CaOptions(renewal_info=False))
    assert "renewalInfo" not in (await scene.client()).directory


async def test_asking_too_early() -> None:
    """Retry-After is for renewal information too, and for each certificate by itself."""
    scene = Scene()
    client = await scene.client()
    first, second = await scene.certificate(client, NAME), await scene.certificate(client, OTHER)
    await _asked(client, first)
    await _asked(client, second)
    assert scene.broken() == []
    await _asked(client, first)
    assert scene.broken() == [Rule.RETRY_AFTER]
    await asyncio.sleep(1.2 * 21_600)
    await _asked(client, first)
    assert scene.broken() == [Rule.RETRY_AFTER]


async def test_asking_for_an_expired_certificate() -> None:
    """Clients must not (RFC 9773 §4.3)."""
    scene = Scene()
    client = await scene.client()
    certificate = await scene.certificate(client, NAME)
    await asyncio.sleep(90 * DAY_SECONDS)
    await _asked(client, certificate)
    assert scene.broken() == [Rule.RENEWAL_INFO_IN_USE]


async def test_asking_for_a_replaced_certificate() -> None:
    """Clients must not, once they have the new one (RFC 9773 §4.3)."""
    scene = Scene(CaOptions(renewal_info_retry_after_seconds=0))
    client = await scene.client()
    old = await scene.certificate(client, NAME)
    finalized = await scene.certified(client, NAME, replaces=old.renewal_id)
    await _asked(client, old)
    assert scene.broken() == []
    await client.post(finalized.json["certificate"])
    await _asked(client, old)
    assert scene.broken() == [Rule.RENEWAL_INFO_IN_USE]


async def test_failed_replacement_frees_the_certificate() -> None:
    """An invalid order replaces nothing, nor does an expired one; an open one does (Boulder)."""
    scene = Scene(CaOptions(valid_authorization_lifetime=timedelta(hours=1)))
    client = await scene.client()
    old = (await scene.certificate(client, NAME)).renewal_id
    await asyncio.sleep(DAY_SECONDS)
    await scene.failed(client, replaces=old)
    assert (await client.new_order(NAME, replaces=old)).status == 201
    assert (await client.new_order(NAME, replaces=old)).problem == "alreadyReplaced"
    await asyncio.sleep(8 * DAY_SECONDS)
    assert (await client.new_order(NAME, replaces=old)).status == 201


async def test_wildcard_covers_a_name_in_common() -> None:
    """The names need not be equal: the old certificate must be good for a new name (Boulder)."""
    scene = Scene()
    client = await scene.client()
    old = await scene.certificate(client, NAME)
    old.names = frozenset({"*.example.com"})
    answer = await client.new_order("sub.www.example.com", replaces=old.renewal_id)
    assert (answer.status, answer.problem) == (400, "malformed")
    assert (await client.new_order("any.example.com", replaces=old.renewal_id)).status == 201


async def test_replacing_what_another_ca_issued() -> None:
    """400 malformed: the issuer is not known (Boulder)."""
    scene, other = Scene(seed=1), Scene(seed=2)
    foreign = await other.certificate(await other.client(), NAME)
    answer = await (await scene.client()).new_order(NAME, replaces=foreign.renewal_id)
    assert (answer.status, answer.problem) == (400, "malformed")
