"""What befalls many certificates at once, or for long, with Let's Encrypt's limits as they are."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from acmeistio.issuer import LETS_ENCRYPT_PROFILES
from acmeistio.stores.memory import LEDGER_NAME
from tests.simulated.ca import (
    LETS_ENCRYPT_DOOR,
    LETS_ENCRYPT_LIMITS,
    CaOptions,
    Limit,
    Limited,
)
from tests.simulated.virtual_time import in_virtual_time
from tests.simulation import check
from tests.simulation.invariants import Watch
from tests.simulation.story import known, world_of
from tests.simulation.world import DAY, HOUR, MINUTE, NAMESPACE, World, ingress

LETS_ENCRYPT = CaOptions(
    latency_seconds=(0.005, 0.05),
    issuance_delay_seconds=(0.5, 2.0),
    limits=LETS_ENCRYPT_LIMITS,
    requests_per_second=LETS_ENCRYPT_DOOR,
    remote_perspectives=0,
    cheap=True,
)
LONGER = 1.1
"""So many times what the limits allow may be taken."""

pytestmark = pytest.mark.usefixtures("seldom")


REVOKED = 1000 if "ACMEISTIO_FULL" in os.environ else 200
"""With 200 the limit on orders is a fifth of Let's Encrypt's, so that it takes as long."""


def _world(options: CaOptions = LETS_ENCRYPT, **more: Any) -> World:
    limits = replace(known(options.limits), exempts_renewals=options.exempts_renewals)
    settings = {"limits": limits, "profiles": LETS_ENCRYPT_PROFILES}
    return World(options, issuer=settings, concurrent_orders=32, **more)


def _declare(
    watch: Watch, numbers: Iterable[int], profile: str = "classic", domain: str = "example"
) -> None:
    for number in numbers:
        watch.declare(f"c{number}", f"www.site{number}.{domain}", profile=profile)


async def _served(watch: Watch, within: float) -> float:
    """Seconds until nothing is missing."""
    return await watch.world.until(lambda: not watch.missing, within=within)


def _least_seconds(limit: Limit, asked_at: Iterable[float]) -> float:
    """When the last of some orders can be had at the earliest, from a bucket that is full."""
    every = limit.period.total_seconds() / limit.capacity
    full_at = at = 0.0
    for asked in sorted(asked_at):
        at = max(asked, full_at - (limit.capacity - 1) * every)
        full_at = max(full_at, at) + every
    return at


@pytest.mark.parametrize("exempts_renewals", [True, False])
@in_virtual_time
async def test_a_mass_revocation_is_over_as_soon_as_the_limits_allow(
    exempts_renewals: bool,
) -> None:
    """Each certificate's holder knows of it when it asks next, and none waits for longer."""
    orders = Limit(REVOKED * 300 // 1000, timedelta(hours=3))
    limits = replace(LETS_ENCRYPT_LIMITS, orders_per_account=orders)
    options = replace(LETS_ENCRYPT, limits=limits, exempts_renewals=exempts_renewals)
    async with _world(options) as world:
        watch = Watch(world)
        _declare(watch, range(REVOKED))
        world.start()
        await _served(watch, 12 * HOUR)
        await watch.passes(24)
        before, began = len(world.ca.certificates), world.clock.monotonic()
        watch.revoke(*watch.wishes)
        await world.until(lambda: _all_replaced(watch), within=2 * DAY)
        took = world.clock.monotonic() - began
        all_know = 1.2 * options.renewal_info_retry_after_seconds
        allowed = 0.0 if exempts_renewals else _least_seconds(orders, [0.0] * REVOKED)
        print(f"{REVOKED} revoked: {took:.0f} s; limits {allowed:.0f} s, all know {all_know:.0f} s")
        assert took <= LONGER * max(all_know, allowed)
        assert len(world.ca.certificates) == before + REVOKED
        watch.holds()


def _all_replaced(watch: Watch) -> bool:
    return all(wish.held and not wish.held.revoked for wish in watch.wishes.values())


@in_virtual_time
async def test_a_flood_of_new_domains_takes_what_the_limits_take() -> None:
    """Three hundred within an hour, and then two hundred more at once, beside old ones."""
    async with _world() as world:
        watch = Watch(world)
        _declare(watch, range(50), "shortlived")
        world.start()
        await watch.passes(48)
        began, random = world.clock.monotonic(), Random(1)
        asked_at = sorted(random.uniform(0, HOUR) for _ in range(300))
        for number, asked in enumerate(asked_at, 50):
            await world.sleep(began + asked - world.clock.monotonic())
            _declare(watch, [number])
        await _served(watch, MINUTE)
        _declare(watch, range(350, 550))
        asked_at += [world.clock.monotonic() - began] * 200
        await _served(watch, 12 * HOUR)
        took = world.clock.monotonic() - began
        assert took <= LONGER * _least_seconds(LETS_ENCRYPT_LIMITS.orders_per_account, asked_at)
        assert len(world.ca.orders) < 550 + 60, "a renewal or two of each of the old ones"
        watch.holds()


@in_virtual_time
async def test_nobody_notices_the_names_of_others_that_fail() -> None:
    """Of ten names one fails for ever, here alone, there in a certificate with others."""
    async with _world() as world:
        watch = Watch(world)
        for number in range(50):
            names = [f"{word}.site{number}.example" for word in ("www", "img")]
            watch.declare(f"c{number}", *names, profile="shortlived")
            if number % 5 == 0:
                watch.fail(names[number % 2])
        world.start()
        healthy = [watch.wishes[f"c{number}"] for number in range(50) if number % 5]
        took = await world.until(lambda: not any(wish.wanted for wish in healthy))
        assert took <= MINUTE, "as if nobody failed"
        await _served(watch, 5 * MINUTE)
        await watch.passes(7 * 24)
        assert not watch.missing
        watch.holds()


@pytest.mark.parametrize("life_seconds", [1.0, 20.0])
@in_virtual_time
async def test_a_pod_that_crash_loops_costs_no_limit(life_seconds: float) -> None:
    """As often as Kubernetes starts it again; what it has got is kept, and it ends as it should."""
    async with _world() as world:
        watch = Watch(world)
        _declare(watch, range(100), "shortlived")
        watch.is_disturbed = True
        for number in range(40):
            world.start()
            await world.sleep(life_seconds)
            await world.crash()
            await world.sleep(min(10.0 * 2**number, 5 * MINUTE))
        world.start()
        watch.is_disturbed = False
        await _served(watch, HOUR)
        await watch.passes(24)
        assert len(world.ca.accounts) == 1
        watch.holds()


@pytest.mark.parametrize("is_lost", [True, False], ids=["lost", "older"])
@in_virtual_time
async def test_a_ledger_of_another_day_overruns_no_limit(is_lost: bool) -> None:
    """A cluster is restored: what the certificates show is counted as spent."""
    async with world_of(1) as world:
        watch = Watch(world, crowded="crowd.example")
        _declare(watch, range(2))
        world.start()
        await watch.passes(0.5)
        older = world.store.get("ConfigMap", NAMESPACE, LEDGER_NAME)
        _declare(watch, range(2, 24))
        _declare(watch, range(24, 30), "shortlived", "crowd.example")
        await watch.passes(0.2)
        await world.crash()
        world.store.delete("ConfigMap", NAMESPACE, LEDGER_NAME)
        if older and not is_lost:
            world.store.put(older)
        _declare(watch, range(30, 50))
        _declare(watch, range(50, 56), "shortlived", "crowd.example")
        world.start()
        await watch.passes(7 * 24)
        assert not watch.missing
        watch.holds()


@in_virtual_time
async def test_two_clusters_that_declare_the_same_domains() -> None:
    """DNS leads to either by chance: both get their certificates in time, neither is paused."""
    async with _world() as one, _world(neighbour=one, seed=5) as other:
        one.reached.append(other)
        for world in (one, other):
            for number in range(10):
                host = f"www.site{number}.example"
                world.apply(ingress(f"c{number}", host, secret=f"c{number}", profile="shortlived"))
            world.start()
        await one.until(lambda: _have_all(one, other), within=3 * DAY, step=MINUTE)
        for _ in range(15 * 24):
            await one.sleep(HOUR)
            assert _have_all(one, other)
        assert not [hit for hit in one.ca.limit_hits if hit.limit is Limited.PAUSED]
        assert len(one.ca.accounts) == 2


def _have_all(*worlds: World) -> bool:
    return all(
        check.is_served(world, f"www.site{number}.example", secret=f"c{number}")
        for world in worlds
        for number in range(10)
    )


@in_virtual_time
async def test_another_ca_helps_out_before_a_certificate_ends() -> None:
    """The CA is gone for two weeks; when it is back, it is the CA of all certificates again."""
    settings = {"profiles": LETS_ENCRYPT_PROFILES, "profile": "shortlived"}
    async with World(LETS_ENCRYPT, spare=LETS_ENCRYPT, issuer=settings) as world:
        assert world.spare
        for number in range(4):
            world.apply(ingress(f"c{number}", f"www.site{number}.example", secret=f"c{number}"))
        world.start()
        await world.sleep(DAY)
        world.ca.outage = True
        for _ in range(14 * 24):
            await world.sleep(HOUR)
            assert all(_lives(world, f"c{number}") for number in range(4))
        assert len(world.spare.certificates) <= 4 * 4, "each lives for half of its time"
        world.ca.outage = False
        before = len(world.spare.certificates)
        await world.sleep(7 * DAY)
        assert all(check.certificate(world, f"c{number}") for number in range(4))
        assert len(world.spare.certificates) == before


def _lives(world: World, secret: str) -> bool:
    leaf = check.stored_leaf(world, secret)
    return leaf is not None and leaf.not_valid_before_utc <= world.now < leaf.not_valid_after_utc
