"""Renewal information as Let's Encrypt and Pebble give it: when to renew, and what replaces what.

RFC 9773 on the simulated CA and on real Pebble; where they differ is the table `Habits`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from josepy.json_util import encode_b64jose

from tests.contract.ca_subjects import PROFILE, Subject
from tests.contract.raw_acme import Answer, RawClient, certificate_key, csr, renewal_id
from tests.contract.raw_flow import certificate, finish, ready_order

pytestmark = pytest.mark.asyncio(loop_scope="module")
pytest_plugins = ("tests.contract.ca_fixtures",)


async def _issued(ca: Subject, client: RawClient, *names: str, **members: str) -> x509.Certificate:
    """A certificate whose serial number Pebble 2.10.1 finds again.

    It compares those of ARI in hexadecimal, in which a leading octet 00 gets lost.
    """
    leaf = await certificate(ca.served, client, PROFILE, *names, **members)
    if leaf.serial_number.bit_length() % 8 == 0:
        return await _issued(ca, client, *names, **members)
    return leaf


async def _asked(client: RawClient, name: str) -> Answer:
    return await client.get(f"{client.directory['renewalInfo']}/{name}")


# ── renewal information (RFC 9773 §4) ─────────────────────────────────────────────────────────────


async def test_window(ca: Subject, client: RawClient, names: Iterator[str]) -> None:
    """It lies around two thirds of the life of the certificate; anyone may ask (§4.1, §4.2)."""
    leaf = await _issued(ca, client, next(names))
    answer = await _asked(client, renewal_id(leaf))
    assert answer.status == 200
    assert answer.header("content-type").startswith("application/json")
    start, end = _window(answer)
    validity = leaf.not_valid_after_utc - leaf.not_valid_before_utc + timedelta(seconds=1)
    middle = start + (end - start) / 2
    assert abs(middle - leaf.not_valid_before_utc - validity * 2 / 3) < timedelta(seconds=3)
    width = validity * ca.habits.window_width_percent / 100
    assert abs(end - start - width) < timedelta(seconds=3)


async def test_when_to_ask_again(ca: Subject, client: RawClient, names: Iterator[str]) -> None:
    """Retry-After is in the answer: six hours, give or take a fifth (§4.3.2)."""
    answer = await _asked(client, renewal_id(await _issued(ca, client, next(names))))
    assert 0.8 * 21_600 <= int(answer.header("retry-after")) <= 1.2 * 21_600


async def test_window_that_was_moved(ca: Subject, client: RawClient, names: Iterator[str]) -> None:
    """A CA may change its mind, and say why (§4.2)."""
    leaf = await _issued(ca, client, next(names))
    start = datetime(2040, 1, 2, 3, 4, 5, tzinfo=UTC)
    ca.suggest(leaf, start, start + timedelta(days=2), "https://ca.example/why")
    answer = await _asked(client, renewal_id(leaf))
    assert _window(answer) == (start, start + timedelta(days=2))
    assert answer.json["explanationURL"] == "https://ca.example/why"


async def test_certificate_that_nobody_knows(
    ca: Subject, client: RawClient, names: Iterator[str]
) -> None:
    """404 malformed (§4.1 leaves it open; both do so)."""
    leaf = await _issued(ca, client, next(names))
    answer = await _asked(client, _unknown(leaf))
    assert (answer.status, answer.problem) == (404, "malformed")


# ── replacements (RFC 9773 §5) ────────────────────────────────────────────────────────────────────


async def test_order_that_replaces(ca: Subject, client: RawClient, names: Iterator[str]) -> None:
    """The order says what it replaces, now and later; one name in common suffices."""
    name = next(names)
    old = renewal_id(await _issued(ca, client, name))
    order = await client.new_order(name, next(names), profile=PROFILE, replaces=old)
    assert order.status == 201
    assert order.json["replaces"] == old
    assert (await client.post(order.location)).json["replaces"] == old


async def test_replaced_once(ca: Subject, client: RawClient, names: Iterator[str]) -> None:
    """A second replacement is 409 alreadyReplaced; without `replaces` it is an order."""
    name = next(names)
    old = renewal_id(await _issued(ca, client, name))
    order = await ready_order(ca.served, client, PROFILE, name, replaces=old)
    open_order = await client.new_order(name, next(names), profile=PROFILE, replaces=old)
    assert (open_order.problem == "alreadyReplaced") is ca.habits.open_order_replaces
    finalized = await client.post(order.json["finalize"], csr(certificate_key(), name))
    await finish(client, order, finalized)
    again = await client.new_order(name, profile=PROFILE, replaces=old)
    assert (again.status, again.problem) == (409, "alreadyReplaced")
    assert (await client.new_order(name, profile=PROFILE)).status == 201


async def test_replacing_what_nobody_knows(
    ca: Subject, client: RawClient, names: Iterator[str]
) -> None:
    """Refused, and no order is made."""
    name = next(names)
    leaf = await _issued(ca, client, name)
    answer = await client.new_order(name, profile=PROFILE, replaces=_unknown(leaf))
    assert (answer.status, answer.problem) == ca.habits.replaces_unknown


async def test_replacing_other_names(ca: Subject, client: RawClient, names: Iterator[str]) -> None:
    """Refused: old and new must have a name in common."""
    old = renewal_id(await _issued(ca, client, next(names)))
    answer = await client.new_order(next(names), profile=PROFILE, replaces=old)
    assert (answer.status, answer.problem) == ca.habits.replaces_stranger


async def test_replacing_what_is_somebody_elses(
    ca: Subject, client: RawClient, names: Iterator[str]
) -> None:
    """Refused: unauthorized."""
    name = next(names)
    old = renewal_id(await _issued(ca, client, name))
    other = await RawClient.at(ca.http, ca.directory_url)
    await other.new_account()
    answer = await other.new_order(name, profile=PROFILE, replaces=old)
    assert (answer.status, answer.problem) == (403, "unauthorized")


def _window(answer: Answer) -> tuple[datetime, datetime]:
    window = answer.json["suggestedWindow"]
    return datetime.fromisoformat(window["start"]), datetime.fromisoformat(window["end"])


def _unknown(leaf: x509.Certificate) -> str:
    """The name of a certificate of the same issuer that was never issued."""
    return f"{renewal_id(leaf).partition('.')[0]}.{encode_b64jose(b'nobody')}"
