"""The simulated CA's rate limits: Let's Encrypt's table, row by row, and its notes.

Facts: Let's Encrypt's docs/rate-limits and Boulder, as in the docstrings of limits.py.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.contract.ca_scene import DAY_SECONDS, NAME, PROFILE, START, Scene, now
from tests.contract.raw_acme import Answer, RawClient, certificate_key, csr
from tests.contract.raw_flow import authorization_of, ready_order
from tests.simulated.ca import (
    LETS_ENCRYPT_DOOR,
    LETS_ENCRYPT_LIMITS,
    LETS_ENCRYPT_STAGING_DOOR,
    LETS_ENCRYPT_STAGING_LIMITS,
    CaOptions,
    Limit,
    Limited,
    RateLimits,
    Resource,
)
from tests.simulated.ca.buckets import Buckets
from tests.simulated.ca.names import registered_domain

pytestmark = pytest.mark.looptime

MINUTE_SECONDS, HOUR_SECONDS = 60, 3600
PRODUCTION = CaOptions(limits=LETS_ENCRYPT_LIMITS, remote_perspectives=0)
DOCUMENTATION = "https://letsencrypt.org/docs/rate-limits"


def _check_refused(scene: Scene, answer: Answer, limited: Limited, seconds: float) -> None:
    """429 with the time to wait, give or take 3 % and a second, and noted down."""
    assert (answer.status, answer.problem) == (429, "rateLimited")
    assert seconds <= int(answer.header("retry-after")) <= seconds * 1.03 + 1
    assert f'<{DOCUMENTATION}>;rel="help"' in answer.header("link")
    hit = scene.ca.limit_hits[-1]
    assert (hit.at, hit.limit) == (now(), limited)
    assert hit.retry_after_seconds == int(answer.header("retry-after"))


# ── the table ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.looptime(False)
def test_numbers() -> None:
    """Capacities, and seconds until one more is there (table: capacity, refill, staging)."""

    def shown(limits: RateLimits) -> list[tuple[int, float]]:
        values: list[Limit] = [getattr(limits, name) for name in RateLimits.__slots__]
        return [(v.capacity, v.period.total_seconds() / v.capacity) for v in values]

    assert shown(LETS_ENCRYPT_LIMITS) == [
        (10, 18 * MINUTE_SECONDS),
        (300, 36),
        (50, pytest.approx(202 * MINUTE_SECONDS, rel=0.01)),
        (5, pytest.approx(34 * HOUR_SECONDS, rel=0.02)),
        (5, 12 * MINUTE_SECONDS),
        (1152, DAY_SECONDS),
    ]
    assert [capacity for capacity, _ in shown(LETS_ENCRYPT_STAGING_LIMITS)] == [
        *(50, 1500, 30_000, 30_000, 200, 3600),
    ]


async def test_accounts_per_client() -> None:
    """10 at once, then one per 18 minutes; finding an old one again costs nothing."""
    scene = Scene(PRODUCTION)
    clients = [await RawClient.at(scene.ca, scene.ca.directory_url) for _ in range(12)]
    assert [(await client.new_account()).status for client in clients[:10]] == [201] * 10
    assert (await clients[0].new_account()).status == 200
    answer = await clients[10].new_account()
    _check_refused(scene, answer, Limited.ACCOUNTS, 18 * MINUTE_SECONDS)
    await asyncio.sleep(18 * MINUTE_SECONDS)
    assert (await clients[10].new_account()).status == 201
    assert (await clients[11].new_account()).status == 429


async def test_orders_per_account() -> None:
    """300 at once, then one per 36 seconds; spent by newOrder; each account has its own."""
    scene = Scene(PRODUCTION)
    client, other = await scene.client(), await scene.client()
    for number in range(300):
        assert (await client.new_order(f"www.d{number}.example")).status == 201
    answer = await client.new_order("www.more.example")
    _check_refused(scene, answer, Limited.ORDERS, 36)
    assert scene.ca.limit_hits[-1].account == scene.ca.accounts[0].id
    assert (await other.new_order("www.more.example")).status == 201
    await asyncio.sleep(36)
    assert (await client.new_order("www.more.example")).status == 201
    assert (await client.new_order("www.evenmore.example")).status == 429


async def test_order_that_is_not_made_is_refunded() -> None:
    """Note 4: an order that fails costs nothing."""
    limits = Scene(PRODUCTION)
    client = await limits.client()
    limits.ca.blocked_names.add("blocked.example")
    for _ in range(301):
        assert (await client.new_order("www.blocked.example")).problem == "rejectedIdentifier"
    assert (await client.new_order(NAME)).status == 201


async def test_certificates_per_registered_domain() -> None:
    """50 in 7 days for all accounts together, then one per 202 minutes; spent by issuance."""
    scene = Scene(PRODUCTION)
    client, other = await scene.client(), await scene.client()
    for number in range(50):
        await scene.certificate(client, f"n{number}.example.com", f"m{number}.example.com")
    for each in (client, other):
        answer = await each.new_order("more.example.com", "n.example.org")
        _check_refused(scene, answer, Limited.DOMAIN, 7 * DAY_SECONDS / 50)
        assert scene.ca.limit_hits[-1].subject == "example.com"
    assert (await client.new_order("www.example.org")).status == 201
    await asyncio.sleep(7 * DAY_SECONDS / 50)
    await scene.certificate(other, "more.example.com")
    assert (await client.new_order("evenmore.example.com")).status == 429


async def test_open_orders_do_not_spend_certificates() -> None:
    """Note 4: with one certificate left two orders are made, and both are issued."""
    scene = Scene(PRODUCTION)
    client = await scene.client()
    scene.ca.spend_by_others("example.com", 49)
    names = ("a.example.com", "b.example.com")
    orders = [await ready_order(scene.served, client, PROFILE, name) for name in names]
    for order, name in zip(orders, names, strict=True):
        answer = await client.post(order.json["finalize"], csr(certificate_key(), name))
        assert answer.json["status"] == "valid"
    assert (await client.new_order("c.example.com")).status == 429
    await asyncio.sleep(7 * DAY_SECONDS / 50)
    assert (await client.new_order("c.example.com")).status == 201


async def test_certificates_per_exact_set() -> None:
    """5 in 7 days for all accounts together, then one per 34 hours; order and case are nothing."""
    scene = Scene(PRODUCTION)
    client, other = await scene.client(), await scene.client()
    for _ in range(5):
        await scene.certificate(client, NAME, "b.example.com")
    answer = await other.new_order("B.example.com", NAME)
    _check_refused(scene, answer, Limited.SET, 7 * DAY_SECONDS / 5)
    assert (await client.new_order(NAME)).status == 201
    await asyncio.sleep(7 * DAY_SECONDS / 5)
    assert (await other.new_order("B.example.com", NAME)).status == 201


async def test_failed_authorizations() -> None:
    """5 in an hour per name and account, then one per 12 minutes; they block new orders."""
    scene = Scene(PRODUCTION)
    client, other = await scene.client(), await scene.client()
    for _ in range(5):
        await scene.failed(client)
    answer = await client.new_order("good.example.com", NAME)
    _check_refused(scene, answer, Limited.FAILURES, 12 * MINUTE_SECONDS - 1)
    assert scene.ca.limit_hits[-1].subject == NAME
    assert (await client.new_order("good.example.com")).status == 201
    assert (await other.new_order(NAME)).status == 201
    await asyncio.sleep(12 * MINUTE_SECONDS)
    await scene.failed(client)
    assert (await client.new_order(NAME)).status == 429


async def test_consecutive_failures_lead_to_a_pause() -> None:
    """Note 1, a tenth of it: 115, one less a day; then a human must come: a URL, no Retry-After."""
    limits = replace(LETS_ENCRYPT_LIMITS, failures_until_pause=Limit(115, timedelta(days=115)))
    scene = Scene(replace(PRODUCTION, limits=limits))
    client = await scene.client()
    (account,) = scene.ca.accounts
    while (await client.new_order(NAME)).status == 201:
        await scene.failed(client)
        await asyncio.sleep(DAY_SECONDS / 15)
    days = (now() - START) / timedelta(days=1)
    assert 115 + days - 1 < scene.ca.totals.validations < 115 + days + 2
    assert 8.2 < days < 8.4
    answer = await client.new_order("good.example.com", NAME)
    assert (answer.status, answer.problem) == (429, "rateLimited")
    assert answer.header("retry-after") == ""
    assert NAME in answer.json["detail"]
    assert "https://" in answer.json["detail"]
    hit = scene.ca.limit_hits[-1]
    assert (hit.limit, hit.subject, hit.account) == (Limited.PAUSED, NAME, account.id)
    assert hit.retry_after_seconds is None
    assert (await client.new_order("good.example.com")).status == 201
    await asyncio.sleep(400 * DAY_SECONDS)
    assert (await client.new_order(NAME)).status == 429
    scene.ca.unpause(account, NAME)
    assert (await client.new_order(NAME)).status == 201


async def test_one_success_ends_the_row() -> None:
    """Failures before it do not count any more; one a day never counts."""
    limits = replace(LETS_ENCRYPT_LIMITS, failures_until_pause=Limit(20, timedelta(days=20)))
    scene = Scene(replace(PRODUCTION, limits=limits))
    client = await scene.client()
    for _ in range(3):
        for _ in range(19):
            await scene.failed(client)
            await asyncio.sleep(HOUR_SECONDS)
        await scene.certificate(client, NAME)
        await asyncio.sleep(31 * DAY_SECONDS)
    for _ in range(40):
        await scene.failed(client)
        await asyncio.sleep(DAY_SECONDS)
    assert scene.ca.limit_hits == []


async def test_name_that_was_unpaused_has_two_weeks() -> None:
    """Failures pause it again only then (Boulder's grace)."""
    limits = replace(LETS_ENCRYPT_LIMITS, failures_until_pause=Limit(1, timedelta(days=1000)))
    scene = Scene(replace(PRODUCTION, limits=limits))
    client = await scene.client()
    await scene.failed(client)
    scene.ca.unpause(scene.ca.accounts[0], NAME)
    await asyncio.sleep(13 * DAY_SECONDS)
    await scene.failed(client)
    await asyncio.sleep(2 * DAY_SECONDS)
    await scene.failed(client)
    assert (await client.new_order(NAME)).status == 429


# ── exemptions (table: ARI renewal, non-ARI renewal; notes 2 and 3) ───────────────────────────────


async def _spent(profile: str = "classic") -> tuple[Scene, RawClient, str]:
    """A scene where the first certificate's window is open and all limits are exhausted."""
    scene = Scene(PRODUCTION)
    client = await scene.client()
    old = await scene.certificate(client, NAME, "b.example.com", profile=profile)
    await asyncio.sleep(60 * DAY_SECONDS)
    for _ in range(5):
        await scene.certificate(client, NAME, "b.example.com")
    scene.ca.spend_by_others("example.com", 50)
    for number in range(300):
        await client.new_order(f"www.d{number}.example")
    return scene, client, old.renewal_id


async def test_suggested_renewal_is_exempt_from_all() -> None:
    """All four conditions: `replaces`, same account, a name in common, inside the window."""
    scene, client, old = await _spent()
    assert (await client.new_order(NAME, "b.example.com")).status == 429
    assert (await client.new_order(NAME, "b.example.com", replaces=old)).status == 201
    assert len(scene.ca.limit_hits) == 1


async def test_suggested_renewal_may_have_other_names() -> None:
    """One name in common suffices; the domain's limit is not spent below nothing by it."""
    scene, client, old = await _spent()
    await scene.certificate(client, NAME, "new.example.com", replaces=old)
    assert scene.ca.limit_hits == []


@pytest.mark.parametrize("hours", [-22, +22])
async def test_outside_the_window_limits_apply(hours: int) -> None:
    """Its start is inside, its end outside; `replaces` is taken all the same (note 2)."""
    scene = Scene(PRODUCTION)
    client = await scene.client()
    old = await scene.certificate(client, NAME)
    await asyncio.sleep(60 * DAY_SECONDS + hours * HOUR_SECONDS)
    scene.ca.spend_by_others("example.com", 50)
    answer = await client.new_order(NAME, "b.example.com", replaces=old.renewal_id)
    assert (answer.status, scene.ca.limit_hits[-1].limit) == (429, Limited.DOMAIN)
    renewal = await client.new_order(NAME, replaces=old.renewal_id)
    assert renewal.json["replaces"] == old.renewal_id


async def test_edges_of_the_window() -> None:
    """From its start to just before its end (Boulder's IsWithin)."""
    scene = Scene(PRODUCTION)
    client = await scene.client()
    old = await scene.certificate(client, NAME)
    scene.ca.spend_by_others("example.com", 50)
    hour = timedelta(hours=1)
    answers = []
    for start, end in ((now() - hour, now()), (now(), now() + hour)):
        scene.ca.suggest(old, start, end)
        answers.append(await client.new_order(NAME, "b.example.com", replaces=old.renewal_id))
    assert [answer.status for answer in answers] == [429, 201]


async def test_suggested_renewal_is_not_exempt_from_a_pause() -> None:
    """The pause is looked at before `replaces`."""
    scene = Scene(PRODUCTION)
    client = await scene.client()
    old = await scene.certificate(client, NAME)
    scene.ca.suggest(old, now(), now() + timedelta(days=1))
    scene.ca.pause(scene.ca.accounts[0], NAME)
    assert (await client.new_order(NAME, replaces=old.renewal_id)).status == 429
    assert scene.ca.limit_hits[-1].limit is Limited.PAUSED


async def test_same_names_are_exempt_from_orders_and_domain() -> None:
    """A renewal without `replaces`, of anyone's certificate; 120 days long (note 3)."""
    scene = Scene(PRODUCTION)
    client, other = await scene.client(), await scene.client()
    await scene.certificate(other, NAME, "b.example.com")
    await asyncio.sleep(119 * DAY_SECONDS)
    scene.ca.spend_by_others("example.com", 50)
    for number in range(300):
        await client.new_order(f"www.d{number}.example")
    await scene.certificate(client, "B.example.com", NAME)
    assert scene.ca.limit_hits == []
    assert (await client.new_order(NAME)).status == 429


async def test_same_names_are_new_after_120_days() -> None:
    """Then the domain's limit counts again."""
    scene = Scene(PRODUCTION)
    client = await scene.client()
    await scene.certificate(client, NAME)
    await asyncio.sleep(120 * DAY_SECONDS)
    scene.ca.spend_by_others("example.com", 50)
    assert (await client.new_order(NAME)).status == 429


async def test_same_names_count_for_their_set_and_for_failures() -> None:
    """The other two limits are for renewals of the same names too."""
    scene = Scene(PRODUCTION)
    client = await scene.client()
    await scene.certificate(client, "b.example.com")
    for _ in range(4):
        await scene.certificate(client, "b.example.com")
    assert (await client.new_order("b.example.com")).status == 429
    await scene.certificate(client, NAME)
    await asyncio.sleep(31 * DAY_SECONDS)
    for _ in range(5):
        await scene.failed(client)
    assert (await client.new_order(NAME)).status == 429
    hits = [hit.limit for hit in scene.ca.limit_hits]
    assert hits == [Limited.SET, Limited.FAILURES]


@pytest.mark.parametrize("suggested", [True, False])
async def test_strict_ca_spares_no_renewal(suggested: bool) -> None:
    """An option: neither an open window nor the same names exempt an order."""
    scene = Scene(replace(PRODUCTION, exempts_renewals=False))
    client = await scene.client()
    old = await scene.certificate(client, NAME)
    scene.ca.suggest(old, now(), now() + timedelta(days=1))
    wish = {"replaces": old.renewal_id} if suggested else {}
    for number in range(299):
        assert (await client.new_order(f"www.d{number}.example")).status == 201
    _check_refused(scene, await client.new_order(NAME, **wish), Limited.ORDERS, 36)
    await asyncio.sleep(36)
    scene.ca.spend_by_others("example.com", 49)
    answer = await client.new_order(NAME, **wish)
    _check_refused(scene, answer, Limited.DOMAIN, 7 * DAY_SECONDS / 50 - 36)


async def test_renewals_at_a_strict_ca_spend_the_domain() -> None:
    """Each is a certificate like any other."""
    scene = Scene(replace(PRODUCTION, exempts_renewals=False))
    client = await scene.client()
    scene.ca.spend_by_others("example.com", 48)
    for _ in range(2):
        await scene.certificate(client, NAME)
    answer = await client.new_order("b.example.com")
    _check_refused(scene, answer, Limited.DOMAIN, 7 * DAY_SECONDS / 50)


# ── what is answered, and what else counts ────────────────────────────────────────────────────────


async def test_words_of_boulder() -> None:
    """Note 7: the sentence ends in the instant to come again at, and a link."""
    scene = Scene(PRODUCTION)
    client = await scene.client()
    scene.ca.spend_by_others("example.co.uk", 50)
    answer = await client.new_order("www.example.co.uk")
    again = now() + timedelta(seconds=int(answer.header("retry-after")))
    assert answer.json["detail"] == (
        'too many certificates (50) already issued for "example.co.uk" in the last 168h0m0s, '
        f"retry after {again:%Y-%m-%d %H:%M:%S} UTC: "
        f"see {DOCUMENTATION}/#new-certificates-per-registered-domain"
    )


async def test_latest_of_several_limits_is_told() -> None:
    """Note 7: whoever comes again then is let in."""
    scene = Scene(PRODUCTION)
    client = await scene.client()
    scene.ca.spend_by_others("example.com", 50)
    for _ in range(5):
        await scene.failed(client, "www.example.org")
    answer = await client.new_order("www.example.org", "new.example.com")
    _check_refused(scene, answer, Limited.DOMAIN, 7 * DAY_SECONDS / 50 - 1)
    await asyncio.sleep(int(answer.header("retry-after")))
    assert (await client.new_order("www.example.org", "new.example.com")).status == 201


async def test_giving_up_an_authorization_is_a_failure() -> None:
    """Note 5: to deactivate a pending one counts as a failed validation (Boulder)."""
    scene = Scene(PRODUCTION)
    client = await scene.client()
    for _ in range(5):
        order = await client.new_order(NAME)
        (url,) = order.json["authorizations"]
        assert (await client.post(url, {"status": "deactivated"})).status == 200
        assert (await authorization_of(client, order.json))["status"] == "deactivated"
        assert (await client.post(order.location)).json["status"] == "invalid"
    assert (await client.new_order(NAME)).status == 429


async def test_restart_forgets_limits() -> None:
    """As it forgets all else."""
    scene = Scene(PRODUCTION)
    scene.ca.spend_by_others("example.com", 50)
    scene.ca.restart()
    assert (await (await scene.client()).new_order(NAME)).status == 201


async def test_without_limits_nothing_is_limited() -> None:
    """The default, for tests of something else."""
    scene = Scene(CaOptions(remote_perspectives=0))
    client = await scene.client()
    for _ in range(10):
        await scene.certificate(client, NAME)
    for _ in range(10):
        await scene.failed(client, "bad.example.com")
    assert scene.ca.limit_hits == []


# ── the load balancer ─────────────────────────────────────────────────────────────────────────────


async def test_requests_per_second() -> None:
    """503 with Retry-After and without a nonce, once the burst is over; each endpoint by itself."""
    scene = Scene(CaOptions(requests_per_second=LETS_ENCRYPT_DOOR))
    client = await scene.client()
    url = client.directory["newNonce"]
    answers = [await client.get(url, method="HEAD") for _ in range(20)]
    statuses = [answer.status for answer in answers]
    assert statuses == [200] * statuses.count(200) + [503] * statuses.count(503)
    assert 9 <= statuses.count(200) <= 10
    assert (answers[-1].header("retry-after"), answers[-1].nonce) == ("1", "")
    assert {hit.limit for hit in scene.ca.limit_hits} == {Limited.REQUESTS}
    assert {hit.subject for hit in scene.ca.limit_hits} == {Resource.NEW_NONCE}
    assert {hit.retry_after_seconds for hit in scene.ca.limit_hits} == {1.0}
    assert (await client.get(scene.ca.directory_url)).status == 200
    await asyncio.sleep(1)
    assert (await client.get(url, method="HEAD")).status == 200


def test_requests_per_second_of_lets_encrypt() -> None:
    """Staging is stricter with orders and with all that has no row of its own."""
    assert LETS_ENCRYPT_DOOR[None] == (250, 125)
    assert LETS_ENCRYPT_STAGING_DOOR[None] == (20, 20)
    assert LETS_ENCRYPT_DOOR[Resource.NEW_ORDER] == (300, 200)
    assert LETS_ENCRYPT_STAGING_DOOR[Resource.NEW_ORDER] == (20, 40)
    assert LETS_ENCRYPT_STAGING_DOOR[Resource.NEW_NONCE] == (20, 10)


# ── reckoning ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("example.com", "example.com"),
        ("a.b.example.com", "example.com"),
        ("*.example.com", "example.com"),
        ("a.b.example.co.uk", "example.co.uk"),
        ("co.uk", "co.uk"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:1:2::3", "2001:db8:0:1::/64"),
    ],
)
@pytest.mark.looptime(False)
def test_registered_domain(name: str, domain: str) -> None:
    """The label before the public suffix; an address, or its /64."""
    assert registered_domain(name, frozenset({"co.uk"})) == domain


async def test_bucket() -> None:
    """As many as its capacity at once, then evenly one after the other, never more."""
    buckets = Buckets(Limit(3, timedelta(seconds=30)))
    assert [buckets.take_if_there("x", now()) for _ in range(4)] == [True, True, True, False]
    assert buckets.wait("x", now()) == timedelta(seconds=10)
    await asyncio.sleep(9)
    assert buckets.wait("x", now()) == timedelta(seconds=1)
    await asyncio.sleep(1)
    assert buckets.take_if_there("x", now())
    buckets.give_back("x", now())
    assert buckets.take_if_there("x", now())
    await asyncio.sleep(1000)
    assert [buckets.take_if_there("x", now()) for _ in range(4)] == [True, True, True, False]


async def test_buckets_forget_those_that_are_full() -> None:
    """A hundred thousand names in ten years leave nothing behind."""
    buckets = Buckets(Limit(3, timedelta(seconds=30)))
    for number in range(100_000):
        buckets.take(number, now() + number * timedelta(seconds=0.1))
    assert len(buckets._buckets) <= 2000


async def test_certificate_of_an_exempt_order_counts_for_its_set() -> None:
    """A suggested renewal is exempt from what is looked at, not from being counted."""
    scene = Scene(PRODUCTION)
    client = await scene.client()
    old = await scene.certificate(client, NAME)
    scene.ca.suggest(old, now(), now() + timedelta(days=1))
    await scene.certificate(client, NAME, replaces=old.renewal_id)
    for _ in range(3):
        order = await client.new_order(NAME)
        await client.post(order.json["finalize"], csr(certificate_key(), NAME))
    assert (await client.new_order(NAME)).status == 429
