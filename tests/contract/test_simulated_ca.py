"""What the simulated CA does beyond its contract: faults on demand, its own account, its time.

All on a virtual clock: days pass in milliseconds.
"""

from __future__ import annotations

import ast
import asyncio
from collections import Counter
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import process_time

import pytest

from acmeistio.errors import Transient
from tests.contract.ca_scene import DAY_SECONDS, NAME, PROFILE, Scene, now
from tests.contract.raw_acme import RawClient, certificate_key, csr
from tests.contract.raw_flow import authorization_of, http_01, poll, ready_order, serve
from tests.simulated import ca as package
from tests.simulated.ca import CaOptions, Resource, Rule, Weather

pytestmark = pytest.mark.looptime

# ── faults on demand ──────────────────────────────────────────────────────────────────────────────


async def test_outage() -> None:
    """Connections fail while it lasts; nothing is carried out."""
    scene = Scene()
    client = await scene.client()
    scene.ca.outage = True
    with pytest.raises(Transient):
        await client.new_order(NAME)
    assert scene.ca.orders == []
    assert scene.ca.requests[-1].status is None
    scene.ca.outage = False
    assert (await client.new_order(NAME)).status == 201


async def test_lost_reply() -> None:
    """The request is carried out and nobody hears of it; others are as usual."""
    scene = Scene()
    client = await scene.client()
    scene.ca.lose_reply(Resource.NEW_ORDER)
    assert (await client.post(client.account_url)).status == 200
    with pytest.raises(Transient):
        await client.new_order(NAME)
    (order,) = scene.ca.orders
    assert scene.ca.requests_for(Resource.NEW_ORDER)[-1].reply_lost
    assert (await client.new_order(NAME)).location.endswith(order.id)
    assert scene.ca.orders == [order]


async def test_rate_limit_on_demand() -> None:
    """429 rateLimited with a nonce and Retry-After, as Boulder does."""
    scene = Scene()
    client = await scene.client()
    scene.ca.refuse(Resource.NEW_ORDER, retry_after_seconds=60)
    answer = await client.new_order(NAME)
    assert (answer.status, answer.problem) == (429, "rateLimited")
    assert answer.header("retry-after") == "60"
    assert answer.nonce
    assert scene.ca.orders == []


async def test_busy_on_demand() -> None:
    """503 comes from in front of the CA: it says nothing but Retry-After, not even a nonce."""
    scene = Scene()
    client = await scene.client()
    scene.ca.refuse(status=503, retry_after_seconds=5)
    answer = await client.post(client.account_url)
    assert (answer.status, answer.header("retry-after"), answer.nonce) == (503, "5", "")


async def test_slow_on_demand() -> None:
    """Each request and each reply takes so much longer, as long as is told."""
    scene = Scene()
    client = await scene.client()
    scene.ca.slow(20)
    started = now()
    await client.post(client.account_url)
    assert now() - started == timedelta(seconds=40)
    scene.ca.slow(0)
    await client.post(client.account_url)
    assert now() - started == timedelta(seconds=40)


async def test_weather() -> None:
    """Each goes wrong as often as told, while the weather lasts."""
    scene = Scene()
    client = await scene.client()
    storm = Weather(errors_percent=10, bad_nonces_percent=20, lost_replies_percent=30)
    until = now() + timedelta(hours=1)
    scene.ca.weather = lambda instant: storm if instant < until else Weather()
    for _ in range(1000):
        await _outcome(client)
    seen = scene.ca.requests_for(Resource.ACCOUNT)
    assert sum(each.reply_lost for each in seen) / len(seen) == pytest.approx(0.3, abs=0.05)
    problems = Counter(each.problem for each in seen)
    assert problems["serverInternal"] / len(seen) == pytest.approx(0.1, abs=0.04)
    assert problems["badNonce"] / len(seen) == pytest.approx(0.9 * 0.2, abs=0.05)
    await asyncio.sleep(3600)
    assert [await _outcome(client) for _ in range(100)] == [""] * 100
    assert set(scene.broken()) == {Rule.RETRY_AFTER}, "this client does not wait after a 500"


async def _outcome(client: RawClient) -> str:
    try:
        return (await client.post(client.account_url)).problem
    except Transient:
        return "lost"


async def test_date() -> None:
    """Every answer tells the CA's time, refused ones and those of a load balancer too."""
    scene = Scene()
    client = await scene.client()
    await asyncio.sleep(1000)
    answers = [await client.get(scene.ca.directory_url), await client.get("https://ca.simulated/x")]
    scene.ca.refuse(status=503)
    answers.append(await client.post(client.account_url))
    dates = [parsedate_to_datetime(answer.header("date")) for answer in answers]
    assert dates == [now()] * 3


async def test_restart_forgets_all_but_the_history() -> None:
    """Accounts, orders and nonces are gone, validations under way stop (Pebble)."""
    scene = Scene(CaOptions(validation_delay_seconds=(5, 5)))
    client = await scene.client()
    order = await client.new_order(NAME)
    authorization = await authorization_of(client, order.json)
    before = await client.post(serve(scene.served, client, authorization)["url"], {})
    scene.ca.restart()
    await asyncio.sleep(60)
    assert scene.fetched == []
    assert (await client.post(order.location, nonce=before.nonce)).problem == "accountDoesNotExist"
    url, stale = client.directory["newAccount"], before.nonce
    assert (await client.post(url, {}, by_jwk=True, nonce=stale)).problem == "badNonce"
    assert (await client.new_account()).status == 201
    assert (await client.post(order.location)).status == 404
    assert (len(scene.ca.accounts), len(scene.ca.orders)) == (2, 1)


async def test_good_nonces_are_refused_now_and_then() -> None:
    """Half of them, if told so; an honest client breaks no rule by that."""
    scene = Scene(CaOptions(nonce_reject_percent=50))
    client = await RawClient.at(scene.ca, scene.ca.directory_url)
    while (await client.new_account()).status != 201:
        pass
    refused = [(await client.post(client.account_url)).problem for _ in range(400)]
    assert 150 < refused.count("badNonce") < 250
    assert scene.broken() == []


async def test_names_fail_as_told() -> None:
    """A chosen problem for a name, whatever it serves; and a name that nobody can reach."""
    scene = Scene(CaOptions(), unreachable={"dead.example.com"})
    scene.ca.failing_validations["dns.example.com"] = "dns"
    client = await scene.client()
    for name, kind in (("dns.example.com", "dns"), ("dead.example.com", "connection")):
        order = await client.new_order(name)
        authorization = await authorization_of(client, order.json)
        await client.post(serve(scene.served, client, authorization)["url"], {})
        assert (await poll(client, order.location, "pending"))["status"] == "invalid"
        problem = scene.ca.validations[-1].problem
        assert problem
        assert problem.kind == kind


async def test_issuance_fails_as_told() -> None:
    """An order may turn invalid after finalize, with the problem in its error (CAA at Boulder)."""
    scene = Scene()
    scene.ca.failing_issuances[NAME] = "caa"
    client = await scene.client()
    order = (await scene.certified(client, NAME)).json
    assert (order["status"], order["error"]["type"][-4:]) == ("invalid", ":caa")
    assert scene.ca.certificates == []


# ── accounts and certificates that change ─────────────────────────────────────────────────────────


async def test_changed_terms_of_service() -> None:
    """No orders until a human has agreed; links to the terms and to where that is done (§7.3.3)."""
    scene = Scene()
    client = await scene.client()
    scene.ca.change_terms()
    answer = await client.new_order(NAME)
    assert (answer.status, answer.problem) == (403, "userActionRequired")
    terms = (await client.get(scene.ca.directory_url)).json["meta"]["termsOfService"]
    assert f'<{terms}>;rel="terms-of-service"' in answer.header("link")
    assert answer.json["instance"].startswith("https://")
    assert (await client.post(client.account_url)).status == 200
    scene.ca.agree()
    assert (await client.new_order(NAME)).status == 201


async def test_external_account_is_noted() -> None:
    """And no account is opened without one."""
    scene = Scene(CaOptions(external_accounts={"customer": b"key"}))
    client = await scene.client()
    assert scene.ca.accounts == []
    binding = client.binding("customer", b"key")
    assert (await client.new_account(externalAccountBinding=binding)).status == 201
    assert [account.external_account for account in scene.ca.accounts] == ["customer"]


async def test_revoked_by_whoever_controls_the_names() -> None:
    """All of them, now: such an account may revoke another's certificate (§7.6)."""
    scene = Scene()
    client, other = await scene.client(), await scene.client()
    revoked = await scene.certificate(client, NAME, "b.example.com")
    await ready_order(scene.served, other, PROFILE, NAME)
    assert (await other.revoke(revoked.leaf)).problem == "unauthorized"
    await ready_order(scene.served, other, PROFILE, "b.example.com")
    assert (await other.revoke(revoked.leaf, reason=5)).status == 200
    assert (revoked.revoked, revoked.revocation_reason) == (now(), 5)


async def test_reasons_that_users_may_not_give() -> None:
    """Let's Encrypt takes 0, 1, 4 and 5 (Boulder revocation/reasons.go)."""
    scene = Scene()
    client = await scene.client()
    leaf = (await scene.certificate(client, NAME)).leaf
    refused = [(await client.revoke(leaf, reason=code)).problem for code in (2, 3, 6, 7, 8, 9, 10)]
    assert refused == ["badRevocationReason"] * 7


async def test_certificate_that_is_none() -> None:
    """What cannot be read is malformed; what this CA did not issue is not found."""
    scene, foreign = Scene(seed=1), Scene(seed=2)
    client = await scene.client()
    strange = await foreign.certificate(await foreign.client(), NAME)
    assert (await client.revoke(strange.leaf)).status == 404
    answer = await client.post(client.directory["revokeCert"], {"certificate": "AAAA"})
    assert (answer.status, answer.problem) == (400, "malformed")


# ── rules that clients break ──────────────────────────────────────────────────────────────────────


async def test_nothing_is_broken_by_an_honest_client() -> None:
    """From account to certificate without a violation."""
    scene = Scene(CaOptions(issuance_delay_seconds=(1, 2), retry_after_order_seconds=3))
    client = await scene.client()
    finalized = await scene.certified(client, NAME, "www.example.org")
    await asyncio.sleep(3)
    order = await client.post(finalized.location)
    assert (await client.post(order.json["certificate"])).status == 200
    assert scene.broken() == []


async def test_challenge_answered_once_too_often() -> None:
    """Noticed when its authorization is final; a valid one is shown, an invalid one refused."""
    scene = Scene()
    client = await scene.client()
    for name, status in (("good.example.com", 200), ("bad.example.com", 400)):
        order = await client.new_order(name)
        authorization = await authorization_of(client, order.json)
        challenge = http_01(authorization)
        if name.startswith("good"):
            serve(scene.served, client, authorization)
        await client.post(challenge["url"], {})
        await poll(client, order.location, "pending")
        assert (await client.post(challenge["url"], {})).status == status
    assert scene.broken() == [Rule.CHALLENGE_ONCE, Rule.CHALLENGE_ONCE]
    assert [max(c.posts for c in a.challenges) for o in scene.ca.orders for a in o.authorizations]


async def test_challenge_answered_again_while_it_is_validated() -> None:
    """Two validations run, as at Boulder; the first to end decides; no rule is broken."""
    scene = Scene(CaOptions(validation_delay_seconds=(1, 9), remote_perspectives=0))
    client = await scene.client()
    order = await client.new_order(NAME)
    authorization = await authorization_of(client, order.json)
    challenge = serve(scene.served, client, authorization)
    await client.post(challenge["url"], {})
    await client.post(challenge["url"], {})
    await asyncio.sleep(10)
    assert (len(scene.fetched), len(scene.ca.validations)) == (2, 1)
    assert scene.broken() == []


async def test_asking_again_before_retry_after() -> None:
    """Noticed where the client was told, at finalize for the order too; not afterwards."""
    scene = Scene(CaOptions(issuance_delay_seconds=(60, 60), retry_after_order_seconds=10))
    client = await scene.client()
    finalized = await scene.certified(client, NAME)
    await asyncio.sleep(5)
    await client.post(finalized.location)
    assert scene.broken() == [Rule.RETRY_AFTER]
    await asyncio.sleep(10)
    await client.post(finalized.location)
    assert scene.broken() == [Rule.RETRY_AFTER]


async def test_other_rules() -> None:
    """A nonce twice, GET where it is not allowed, finalize too early, a CSR for other names."""
    scene = Scene()
    client = await scene.client()
    nonce = await client.fresh_nonce()
    await client.post(client.account_url, nonce=nonce)
    await client.post(client.account_url, nonce=nonce)
    await client.get(client.account_url)
    order = await client.new_order("early.example.com")
    await client.post(order.json["finalize"], csr(certificate_key(), "early.example.com"))
    order = await ready_order(scene.served, client, PROFILE, NAME)
    await client.post(order.json["finalize"], csr(certificate_key(), "other.example.com"))
    assert scene.broken() == [
        Rule.NONCE_ONCE,
        Rule.WELL_FORMED,
        Rule.FINALIZE_READY,
        Rule.CSR_AS_ORDERED,
    ]


# ── time ──────────────────────────────────────────────────────────────────────────────────────────


async def test_everything_takes_its_time() -> None:
    """Latency, validation and issuance last as long as the options say, on the clock given."""
    options = CaOptions(
        latency_seconds=(0.5, 0.5),
        validation_delay_seconds=(10, 10),
        issuance_delay_seconds=(100, 100),
    )
    scene = Scene(options)
    client = await scene.client()
    order = await client.new_order(NAME)
    authorization = await authorization_of(client, order.json)
    started = now()
    await client.post(serve(scene.served, client, authorization)["url"], {})
    assert now() - started == timedelta(seconds=1)
    await asyncio.sleep(30)
    assert (scene.ca.validations[0].at - started).total_seconds() == pytest.approx(20.5)
    await client.post(order.json["finalize"], csr(certificate_key(), NAME))
    assert (await client.post(order.location)).json["status"] == "processing"
    await asyncio.sleep(100)
    assert (await client.post(order.location)).json["status"] == "valid"


async def test_remote_perspectives_look_later() -> None:
    """An answer that is withdrawn once it was fetched is too early gone (facts: Boulder's VA)."""
    scene = Scene(CaOptions(validation_delay_seconds=(5, 5), remote_perspectives=4))
    client = await scene.client()
    order = await client.new_order(NAME)
    authorization = await authorization_of(client, order.json)
    challenge = serve(scene.served, client, authorization)
    await client.post(challenge["url"], {})
    await asyncio.sleep(7)
    scene.served.clear()
    await asyncio.sleep(7)
    assert scene.fetched == [NAME] * 5
    assert (await client.post(order.location)).json["status"] == "invalid"


async def test_things_expire() -> None:
    """Orders and pending authorizations after 7 days, valid ones after 30."""
    scene = Scene()
    client = await scene.client()
    await scene.certified(client, NAME)
    order = await client.new_order("late.example.com")
    await asyncio.sleep(8 * DAY_SECONDS)
    assert (await client.post(order.location)).status == 404
    assert (await client.post(order.json["authorizations"][0])).status == 404
    again = await client.new_order("late.example.com")
    assert again.location != order.location
    assert (await client.new_order(NAME)).json["status"] == "ready"
    await asyncio.sleep(23 * DAY_SECONDS)
    assert (await client.new_order(NAME)).json["status"] == "pending"


async def test_profiles() -> None:
    """Each has its validity; authorizations are valid within one profile only (Boulder)."""
    scene = Scene()
    client = await scene.client()
    for profile in ("classic", "tlsserver", "shortlived"):
        assert (await client.new_order(NAME, profile=profile)).json["status"] == "pending"
        await scene.certified(client, NAME, profile=profile)
    hours = [
        (c.leaf.not_valid_after_utc - c.leaf.not_valid_before_utc + timedelta(seconds=1))
        for c in scene.ca.certificates
    ]
    assert hours == [timedelta(days=90), timedelta(days=45), timedelta(hours=160)]


async def test_instant_issuance_is_valid_at_once() -> None:
    """Without a delay, finalize answers a valid order: `processing` is never seen (§7.4)."""
    scene = Scene()
    finalized = await scene.certified(await scene.client(), NAME)
    assert finalized.json["status"] == "valid"
    assert finalized.json["certificate"]


# ── policy, chance, speed, independence ───────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "names",
    [
        ("no-dots",),
        ("under_score.example.com",),
        ("dot.at.end.",),
        (f"{'a' * 64}.example.com",),
        ("-hyphen.example.com",),
        ("*.example.com", "www.example.com"),
        tuple(f"n{number}.example.com" for number in range(101)),
    ],
)
async def test_names_that_no_public_ca_takes(names: tuple[str, ...]) -> None:
    """One bad name is `malformed` by itself, as at Boulder (policy/pa.go)."""
    scene = Scene()
    answer = await (await scene.client()).new_order(*names)
    assert (answer.status, answer.problem) == (400, "malformed")


async def test_blocked_names_have_a_subproblem_each() -> None:
    """One order, two blocked names: the good one may be ordered without them (§6.7.1)."""
    scene = Scene()
    scene.ca.blocked_names.add("blocked.example")
    answer = await (await scene.client()).new_order("a.blocked.example", NAME, "b.blocked.example")
    assert (answer.status, answer.problem) == (400, "rejectedIdentifier")
    about = {each["identifier"]["value"] for each in answer.json["subproblems"]}
    assert about == {"a.blocked.example", "b.blocked.example"}


async def test_addresses_are_for_profiles_that_take_them() -> None:
    """Let's Encrypt's shortlived only, and only as RFC 5952 spells them (RFC 8738)."""
    scene = Scene()
    client = await scene.client()
    answer = await client.new_order("192.0.2.7", profile="tlsserver")
    assert (answer.status, answer.problem) == (400, "rejectedIdentifier")
    assert (await client.new_order("192.0.2.7", profile="shortlived")).status == 201
    for kind, value in (("ip", "2001:DB8:0:0::1"), ("ip", "www.example.com"), ("dns", "192.0.2.7")):
        payload = {"identifiers": [{"type": kind, "value": value}], "profile": "shortlived"}
        answer = await client.post(client.directory["newOrder"], payload)
        assert (answer.status, answer.problem) == (400, "malformed")


async def test_address_is_asked_by_its_own_name() -> None:
    """The header Host is the address, in brackets where it is an IPv6 one (RFC 8738 §4)."""
    scene = Scene()
    client = await scene.client()
    for address in ("192.0.2.7", "2001:db8::1"):
        found = await scene.certificate(client, address, profile="shortlived")
        assert found.names == {address}
    assert scene.hosts == ["192.0.2.7"] * 3 + ["[2001:db8::1]"] * 3


async def test_nothing_comes_in_an_order_to_rely_on() -> None:
    """Identifiers and authorizations are shuffled anew, each by itself (§7.4, as Pebble does)."""
    scene = Scene()
    client = await scene.client()
    order = await client.new_order(*(f"n{number}.example.com" for number in range(5)))
    shown = [(await client.post(order.location)).json for _ in range(20)]
    assert len({str(each["identifiers"]) for each in shown}) > 1
    assert len({str(each["authorizations"]) for each in shown}) > 1


async def test_retry_after_has_two_forms() -> None:
    """Seconds and dates, by chance, as at Pebble."""
    scene = Scene(CaOptions(issuance_delay_seconds=(9, 9), retry_after_order_seconds=3))
    client = await scene.client()
    forms = [await scene.certified(client, f"n{number}.example.com") for number in range(20)]
    assert {each.header("retry-after").isdigit() for each in forms} == {True, False}


async def test_equal_seeds_make_equal_runs() -> None:
    """Tokens, serial numbers, even the certificates' bytes."""

    async def run(seed: int) -> tuple[list[str], list[bytes]]:
        scene = Scene(seed=seed)
        client = await scene.client()
        order = await ready_order(scene.served, client, PROFILE, NAME)
        await client.post(order.json["finalize"], request)
        return list(scene.served), [certificate.chain for certificate in scene.ca.certificates]

    request = csr(certificate_key(), NAME)
    first, second, other = await run(1), await run(1), await run(2)
    assert first == second
    assert (len(first[0]), len(first[1])) == (1, 1)
    assert first[0] != other[0]
    assert first[1] != other[1]


async def test_speed() -> None:
    """A whole certificate, raw client included, stays affordable for years of simulation."""
    scene = Scene(CaOptions(remote_perspectives=0))
    client = await scene.client()
    started, count = process_time(), 50
    for number in range(count):
        await scene.certified(client, f"n{number}.example.com")
    assert len(scene.ca.certificates) == count
    assert (process_time() - started) / count < 0.05


@pytest.mark.looptime(False)
def test_independence() -> None:
    """The judge imports no more of the judged than the port and its exception."""
    allowed = {"acmeistio.ports", "acmeistio.errors"}
    for path in Path(*package.__path__).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            if module and module.startswith("acmeistio"):
                assert module in allowed, f"{path.name} imports {module}"
