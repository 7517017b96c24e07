"""How accounts change and end, and how certificates are revoked: RFC 8555 §7.3, §7.6.

On the simulated CA and on real Pebble; where they differ is the table `Habits`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from cryptography import x509

from tests.contract.ca_subjects import ALTERNATES, EXTERNAL_ID, EXTERNAL_KEY, PROFILE, Subject
from tests.contract.raw_acme import Answer, RawClient, certificate_key, csr, jwk, renewal_id
from tests.contract.raw_flow import authorization_of, certificate, finish, ready_order, serve

pytestmark = pytest.mark.asyncio(loop_scope="module")
pytest_plugins = ("tests.contract.ca_fixtures",)


# ── key change (RFC 8555 §7.3.5) ──────────────────────────────────────────────────────────────────


async def test_new_key(client: RawClient) -> None:
    """From then on the account is the new key's, under the same URL, and not the old one's."""
    new, old = certificate_key(), client.key
    assert (await client.change_key(new)).status == 200
    answer = await client.post(client.account_url)
    assert (answer.status, answer.problem) == (400, "malformed")
    client.key = new
    assert (await client.post(client.account_url)).status == 200
    assert (await client.new_account(onlyReturnExisting=True)).location == client.account_url
    client.key = old
    answer = await client.new_account(onlyReturnExisting=True)
    assert answer.problem == "accountDoesNotExist"


async def test_challenges_are_answered_for_the_new_key(
    ca: Subject, client: RawClient, names: Iterator[str]
) -> None:
    """An order from before goes on: its key authorizations are of the key that there is (§8.1)."""
    order = await client.new_order(next(names), profile=PROFILE)
    new = certificate_key()
    await client.change_key(new)
    client.key = new
    authorization = await authorization_of(client, order.json)
    challenge = serve(ca.served, client, authorization)
    assert (await client.post(challenge["url"], {})).status == 200
    await ready_order(ca.served, client, PROFILE, next(names))


async def test_key_change_names_account_and_old_key(ca: Subject, client: RawClient) -> None:
    """The inner message must mean this account, as it is now."""
    new = certificate_key()
    for wrong in ({"account": client.account_url + "x"}, {"oldKey": jwk(new)}):
        answer = await client.change_key(new, **wrong)
        assert (answer.status, answer.problem) == (400, "malformed")
    assert (await client.change_key(client.key)).status == 400
    assert (await client.post(client.account_url)).status == 200


async def test_key_change_is_signed_by_the_new_key(client: RawClient) -> None:
    """Else anyone's key could be claimed."""
    new, url = certificate_key(), client.directory["keyChange"]
    content = {"account": client.account_url, "oldKey": jwk(client.key)}
    inner = client.sign(url, content, nonce=None, by_jwk=True, key=new)
    forged = inner.replace(b'"signature": "', b'"signature": "AAAA')
    assert (await client.post(url, forged)).status == 400
    elsewhere = client.sign(url + "/", content, nonce=None, by_jwk=True, key=new)
    assert (await client.post(url, elsewhere)).status == 400
    assert (await client.post(client.account_url)).status == 200


async def test_key_of_another_account(ca: Subject, client: RawClient) -> None:
    """409, and the Location says whose it is."""
    other = await RawClient.at(ca.http, ca.directory_url)
    await other.new_account()
    answer = await client.change_key(other.key)
    if ca.habits.takes_key_of_another_account:
        assert answer.status == 200
    else:
        assert (answer.status, answer.location) == (409, other.account_url)


# ── deactivation (RFC 8555 §7.3.6) ────────────────────────────────────────────────────────────────


async def test_deactivation(ca: Subject, client: RawClient, names: Iterator[str]) -> None:
    """It shows once; then the account may do nothing, and its key opens no other one."""
    answer = await client.post(client.account_url, {"status": "deactivated"})
    assert (answer.status, answer.json["status"]) == (200, "deactivated")
    answer = await client.new_order(next(names), profile=PROFILE)
    assert (answer.status, answer.problem) == (ca.habits.status_of_deactivated, "unauthorized")
    answer = await client.new_account()
    assert (answer.status, answer.problem) == (403, "unauthorized")


async def test_account_of_somebody_else_is_not_deactivated(ca: Subject, client: RawClient) -> None:
    """The URL alone is no right, in any CA."""
    other = await RawClient.at(ca.http, ca.directory_url)
    await other.new_account()
    await other.post(client.account_url, {"status": "deactivated"})
    assert (await client.post(client.account_url)).json["status"] == "valid"


# ── revocation (RFC 8555 §7.6) ────────────────────────────────────────────────────────────────────


async def test_revoked_by_its_account(ca: Subject, client: RawClient, names: Iterator[str]) -> None:
    """200 without a body; the second time it is alreadyRevoked."""
    leaf = await certificate(ca.served, client, PROFILE, next(names))
    answer = await client.revoke(leaf, reason=4)
    assert (answer.status, answer.response.body) == (200, b"")
    answer = await client.revoke(leaf)
    assert (answer.status, answer.problem) == (400, "alreadyRevoked")


async def test_revoked_by_its_key(
    ca: Subject, client: RawClient, stranger: RawClient, names: Iterator[str]
) -> None:
    """Whoever has the key may revoke, without an account."""
    key = certificate_key()
    leaf = await certificate(ca.served, client, PROFILE, next(names), key=key)
    nobody = await RawClient.at(ca.http, ca.directory_url)
    assert (await nobody.revoke(leaf, reason=1, by_jwk=True, key=key)).status == 200


async def test_revoked_by_nobody_else(ca: Subject, client: RawClient, names: Iterator[str]) -> None:
    """Neither another account nor another key may."""
    leaf = await certificate(ca.served, client, PROFILE, next(names))
    other = await RawClient.at(ca.http, ca.directory_url)
    await other.new_account()
    for signing in ({}, {"by_jwk": True}):
        answer = await other.revoke(leaf, **signing)
        assert (answer.status, answer.problem) == (403, "unauthorized")


async def test_bad_reason(ca: Subject, client: RawClient, names: Iterator[str]) -> None:
    """There is no reason 7 (RFC 5280 §5.3.1)."""
    leaf = await certificate(ca.served, client, PROFILE, next(names))
    answer = await client.revoke(leaf, reason=7)
    assert (answer.status, answer.problem) == (400, "badRevocationReason")


async def test_revoked_certificates_are_to_be_renewed_at_once(
    ca: Subject, client: RawClient, names: Iterator[str]
) -> None:
    """Their window lies in the past (RFC 9773 §4.2)."""
    leaf = await certificate(ca.served, client, PROFILE, next(names))
    await client.revoke(leaf)
    url = f"{client.directory['renewalInfo']}/{renewal_id(leaf)}"
    window = (await client.get(url)).json["suggestedWindow"]
    assert datetime.fromisoformat(window["end"]) < datetime.now(UTC)


# ── external accounts (RFC 8555 §7.3.4), alternate chains (§7.4.2) ────────────────────────────────


async def _bound(special: Subject) -> RawClient:
    client = await RawClient.at(special.http, special.directory_url)
    binding = client.binding(EXTERNAL_ID, EXTERNAL_KEY)
    assert (await client.new_account(externalAccountBinding=binding)).status == 201
    return client


async def test_external_account(special: Subject) -> None:
    """The directory asks for one; an account that is bound is found again without it."""
    client = await _bound(special)
    assert client.directory["meta"]["externalAccountRequired"] is True
    assert (await client.new_account()).status == 200


async def test_missing_external_account(special: Subject) -> None:
    """403 externalAccountRequired."""
    client = await RawClient.at(special.http, special.directory_url)
    answer = await client.new_account()
    assert (answer.status, answer.problem) == (403, "externalAccountRequired")


async def test_wrong_external_account(special: Subject) -> None:
    """An unknown id, another MAC key, another account's key, another URL: no account is opened."""
    client = await RawClient.at(special.http, special.directory_url)
    other = await RawClient.at(special.http, special.directory_url)
    for binding in (
        client.binding("nobody", EXTERNAL_KEY),
        client.binding(EXTERNAL_ID, EXTERNAL_KEY[::-1]),
        other.binding(EXTERNAL_ID, EXTERNAL_KEY),
        client.binding(EXTERNAL_ID, EXTERNAL_KEY, url="https://ca.example/new-account"),
    ):
        answer = await client.new_account(externalAccountBinding=binding)
        assert answer.status in (400, 403)
        assert answer.problem
    assert (await client.new_account(onlyReturnExisting=True)).problem == "accountDoesNotExist"


async def test_alternate_chains(special: Subject, names: Iterator[str]) -> None:
    """Each chain links to the others; all have the same leaf, and lead to different roots."""
    client, name = await _bound(special), next(names)
    order = await ready_order(special.served, client, PROFILE, name)
    finalized = await client.post(order.json["finalize"], csr(certificate_key(), name))
    url = (await finish(client, order, finalized))["certificate"]
    default = await client.post(url)
    others = [await client.post(each) for each in alternates(default)]
    assert len(others) == ALTERNATES
    chains = [x509.load_pem_x509_certificates(a.response.body) for a in (default, *others)]
    assert len({chain[0] for chain in chains}) == 1
    assert len({chain[-1].issuer for chain in chains}) == 1 + ALTERNATES
    for chain in chains:
        chain[0].verify_directly_issued_by(chain[1])
    assert all(url in alternates(each) for each in others)


def alternates(answer: Answer) -> list[str]:
    """The URLs of other chains (RFC 8288)."""
    return re.findall(r'<([^>]*)>\s*;\s*rel="alternate"', answer.header("link"))
