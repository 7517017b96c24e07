"""Issue, crash, resume: the program may die at any instruction and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from random import Random

import pytest

from tests.simulated.ca import CaOptions
from tests.simulated.virtual_time import VirtualLoop, in_virtual_time, run
from tests.simulation import check
from tests.simulation.world import BARE_CA, SLOW_CA, Process, World, ingress, served

DOWN_SECONDS = 0.5
"""How long nobody is there after a death; short, so that the CA is still at work."""

HOSTS = ("www.shop.example", "img.shop.example")
CAS = {"bare": BARE_CA, "slow": SLOW_CA, "as-boulder": CaOptions()}
every_ca = pytest.mark.parametrize("options", CAS.values(), ids=CAS)

AT_REST_SECONDS = 400.0
"""Longer than the loop ever sleeps: what would be done without cause has been done by then."""


async def _resumes(world: World, *, orders: int = 2) -> None:
    """A new life ends as an undisturbed one would, but for one order."""
    await asyncio.sleep(DOWN_SECONDS)
    world.start()
    await world.until(lambda: check.is_served(world, *HOSTS))
    await world.until(lambda: not check.ledger(world)["orders"])
    await world.until(lambda: not check.pending_keys(world))
    await world.sleep(AT_REST_SECONDS)
    check.quiet(world, *HOSTS, orders=orders, crashed=True)


async def _life(options: CaOptions, seed: int, die: Callable[[World], Process]) -> bool:
    """A life that `die` begins and ends, and the next one; whether the first was cut short.

    What was finalized is never ordered again: its key was kept.
    """
    async with World(options, seed=seed) as world:
        world.apply(ingress("shop", *HOSTS))
        process = die(world)
        await asyncio.wait({process.task}, timeout=AT_REST_SECONDS)
        died = process.wire.dead
        if died:
            await world.dead()
        else:
            await world.crash()
        finalized = any(order.csr for order in world.ca.orders)
        await _resumes(world, orders=2 if died and not finalized else 1)
        return died


@every_ca
@pytest.mark.parametrize("after", [False, True], ids=["never-happened", "answer-lost"])
def test_a_crash_at_any_port_call_is_resumed(options: CaOptions, after: bool) -> None:
    """Dying at call k, for every k: one certificate, one account, one order too many at most."""
    calls = run(_undisturbed(options))
    for step in ("new-account", "new-order", "challenge", "finalize", "certificate"):
        assert any(step in call for call in calls), f"{step} is no step any more"
    survived = []
    ks = range(1, len(calls) + 1)
    for k in ks[after::2] if options is SLOW_CA else ks:
        died = run(_life(options, 1, functools.partial(World.start, cut_at=k, after=after)))
        survived += [] if died else [calls[k - 1]]
    assert set(survived) <= {"changed", "sleep"}, "only what is never answered is survived"


@pytest.mark.parametrize("options", [BARE_CA, SLOW_CA], ids=["bare", "slow"])
def test_a_crash_at_any_await_is_resumed(options: CaOptions) -> None:
    """Dying before round n of the event loop, for every n: at every await that there is."""
    stride = 1 if options is BARE_CA else 7

    def die_at(number: int) -> Callable[[World], Process]:
        def begin(world: World) -> Process:
            process = world.start()
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            loop.at_round[loop.rounds + number] = process.wire.cut
            return process

        return begin

    number = 1
    while run(_life(options, 1, die_at(number))):
        number += stride
    assert number > 70, "a life that is at rest has more rounds than that behind it"


async def _undisturbed(options: CaOptions) -> list[str]:
    """The port calls of an issue that nothing happens to."""
    async with World(options) as world:
        world.apply(ingress("shop", *HOSTS))
        process = world.start()
        await world.until(lambda: check.is_served(world, *HOSTS), step=0.001, within=20)
        await world.until(lambda: not check.pending_keys(world), step=0.001, within=20)
        return list(process.wire.log)


@pytest.mark.parametrize("seed", range(6))
@in_virtual_time
async def test_crash_after_crash_is_resumed(seed: int) -> None:
    """Five deaths in a row cost no more than one order each, and never an account."""
    random = Random(seed)
    async with World(SLOW_CA, seed=seed) as world:
        world.apply(ingress("shop", *HOSTS))
        for _ in range(5):
            process = world.start(cut_at=random.randint(3, 45), after=random.random() < 0.5)
            await asyncio.wait({process.task}, timeout=AT_REST_SECONDS)
            await (world.dead() if process.wire.dead else world.crash())
            await asyncio.sleep(DOWN_SECONDS)
        await _resumes(world, orders=6)


@every_ca
@pytest.mark.parametrize("after", [False, True], ids=["never-happened", "answer-lost"])
def test_a_crash_during_a_renewal_never_takes_the_certificate_away(
    options: CaOptions, after: bool
) -> None:
    """A forced renewal that dies at call k: the old or the new pair is there at every instant."""
    for k in range(5, 60, 3):
        run(_renewal_dies(options, k, after))


async def _renewal_dies(options: CaOptions, k: int, after: bool) -> None:
    async with served(*HOSTS, options=options) as world:
        await world.until(lambda: not check.pending_keys(world))
        await world.crash()
        world.annotate_secret(renew_requested_at="now")
        process = world.start(cut_at=k, after=after)
        await asyncio.wait({process.task}, timeout=AT_REST_SECONDS)
        assert check.is_served(world, *HOSTS)
        await (world.dead() if process.wire.dead else world.crash())
        await asyncio.sleep(DOWN_SECONDS)
        world.start()
        await world.until(lambda: _renewed(world))
        await world.sleep(AT_REST_SECONDS)
        check.quiet(world, *HOSTS, orders=3, crashed=True)
        assert check.certificate(world) is world.ca.certificates[-1]


def _renewed(world: World) -> bool:
    assert check.is_served(world, *HOSTS)
    secret = world.secret()
    assert secret
    return bool(secret["metadata"]["annotations"].get("acmeistio.io/renewed-for") == "now")
