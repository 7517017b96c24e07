"""What the probe does to orders: it delays what can't work, and never forbids."""

from __future__ import annotations

import pytest

from acmeistio.model import Probing
from acmeistio.probe.verdict import Answered, Broken, How
from tests.simulated.virtual_time import in_virtual_time
from tests.simulation import check
from tests.simulation.world import DAY, HOUR, MINUTE, NAMESPACE, SECRET, World, ingress, served

GOOD, BAD = "good.shop.example", "bad.shop.example"
NOT_ROUTED = Answered(404, envoy=True)


def _ordered(world: World, name: str) -> int:
    return sum(name in order.names for order in world.ca.orders)


@in_virtual_time
async def test_what_the_gateway_does_not_route_is_not_ordered() -> None:
    """The CA would fail it, and its limit on failures is spent for nothing; the rest goes on."""
    async with World() as world:
        world.gateway.faults[BAD] = NOT_ROUTED
        world.apply(ingress("site", GOOD, BAD))
        world.start()
        await world.until(lambda: check.is_served(world, GOOD))
        await world.sleep(10 * MINUTE)
        assert (_ordered(world, GOOD), _ordered(world, BAD)) == (1, 0)
        (told,) = [d for d in world.journal.current_defects if d.code == "ChallengeNotRouted"]
        assert told.subject.name == "site"
        assert BAD in told.sentence


@in_virtual_time
async def test_a_change_of_objects_has_it_asked_again_at_once() -> None:
    """Whoever mends a route does not wait for a timer."""
    async with World() as world:
        world.gateway.faults[BAD] = NOT_ROUTED
        world.apply(ingress("site", BAD))
        world.start()
        await world.sleep(10 * MINUTE)
        assert world.ca.orders == []
        del world.gateway.faults[BAD]
        world.apply(ingress("other", GOOD, secret="other", tls="false"))
        took = await world.until(lambda: check.is_served(world, BAD))
        assert took < 2
        await world.until(lambda: world.journal.codes == set())


@in_virtual_time
async def test_without_a_change_it_is_noticed_soon() -> None:
    """A NetworkPolicy, a pod that came back: nothing that is watched."""
    async with World() as world:
        world.gateway.faults[BAD] = Answered(503, envoy=True)
        world.apply(ingress("site", BAD))
        world.start()
        await world.sleep(10 * MINUTE)
        del world.gateway.faults[BAD]
        assert await world.until(lambda: check.is_served(world, BAD)) < 61


@in_virtual_time
async def test_after_an_hour_the_ca_is_asked_all_the_same() -> None:
    """The probe may be wrong, and the CA has the last word."""
    async with World() as world:
        world.gateway.faults[BAD] = NOT_ROUTED
        world.apply(ingress("site", BAD))
        world.start()
        await world.sleep(HOUR - 2 * MINUTE)
        assert world.ca.orders == []
        await world.sleep(4 * MINUTE)
        assert check.is_served(world, BAD)
        assert world.journal.codes == set()


@pytest.mark.parametrize(
    "came",
    [
        Answered(403),
        Answered(400),
        Answered(301, "https://elsewhere.example/"),
        Broken(How.RESET, "closed"),
        Broken(How.TIMEOUT, "no answer in time"),
    ],
)
@in_virtual_time
async def test_what_cant_be_judged_does_not_wait(came: Answered | Broken) -> None:
    """PROXY protocol, an allow-list, another way in: the CA may well be answered, and is."""
    async with World() as world:
        world.gateway.faults[GOOD] = came
        world.apply(ingress("site", GOOD))
        world.start()
        assert await world.until(lambda: check.is_served(world, GOOD)) < 2
        await world.sleep(MINUTE)
        assert world.journal.codes == set()


@in_virtual_time
async def test_what_could_not_be_judged_is_told_once_the_ca_has_failed() -> None:
    """A denying policy denies both; then it is the likeliest reason."""
    async with World() as world:
        world.nowhere.add(BAD)
        world.gateway.faults[BAD] = Answered(403)
        world.apply(ingress("site", BAD))
        world.start()
        await world.until(lambda: "ValidationFailed" in world.journal.codes)
        assert "GatewayForbids" in world.journal.codes


@pytest.mark.parametrize(("mode", "told"), [(Probing.ADVISE, True), (Probing.OFF, False)])
@in_virtual_time
async def test_only_the_gate_makes_it_wait(mode: Probing, told: bool) -> None:
    """With the others the order goes; `advise` tells as well, as long as nothing is issued."""
    async with World(probing=mode) as world:
        world.nowhere.add(BAD)
        world.gateway.faults[BAD] = NOT_ROUTED
        world.apply(ingress("site", BAD))
        world.start()
        await world.until(lambda: "ValidationFailed" in world.journal.codes)
        assert ("ChallengeNotRouted" in world.journal.codes) == told
        assert bool(world.gateway.asked) == told


@in_virtual_time
async def test_a_served_name_is_not_dropped_by_a_probe() -> None:
    """A new name waits with its order rather than that the certificate loses one."""
    async with served(BAD) as world:
        world.gateway.faults[BAD] = NOT_ROUTED
        world.apply(ingress("more", GOOD))
        await world.sleep(30 * MINUTE)
        assert check.is_served(world, BAD)
        await world.sleep(40 * MINUTE)
        assert check.is_served(world, BAD, GOOD)


@in_virtual_time
async def test_it_rests_when_all_is_served() -> None:
    """No probe but before an order."""
    async with served(GOOD) as world:
        before = len(world.gateway.asked)
        await world.sleep(10 * DAY)
        assert len(world.gateway.asked) == before


@in_virtual_time
async def test_what_has_just_been_applied_has_time_to_arrive() -> None:
    """A gateway has it after some tenths of a second, and nobody is told of that."""
    async with World() as world:
        world.gateway.faults[GOOD] = NOT_ROUTED
        world.apply(ingress("site", GOOD))
        world.start()
        await world.sleep(1.5)
        del world.gateway.faults[GOOD]
        assert await world.until(lambda: check.is_served(world, GOOD)) < 2
        assert world.journal.codes == set()


@in_virtual_time
async def test_objects_that_change_all_the_time_hurry_nobody() -> None:
    """Most changes are none of its business; it is asked somewhat sooner, and not at each."""
    async with World() as world:
        world.gateway.faults[BAD] = NOT_ROUTED
        world.apply(ingress("site", BAD))
        world.start()
        await world.sleep(MINUTE)
        before = len(world.gateway.asked)
        for number in range(600):
            world.apply(ingress("other", GOOD, secret="other", tls="false", note=str(number)))
            await world.sleep(1)
        assert len(world.gateway.asked) - before < 60


@in_virtual_time
async def test_a_change_while_it_is_asked_counts() -> None:
    """The answer may be that of a moment before."""
    async with World() as world:
        world.gateway.faults[BAD] = NOT_ROUTED
        world.apply(ingress("site", BAD))
        world.start()
        await world.sleep(10 * MINUTE)
        world.gateway.seconds = 1.0
        world.apply(ingress("one", GOOD, secret="other", tls="false"))
        await world.sleep(3.5)
        del world.gateway.faults[BAD]
        world.apply(ingress("two", GOOD, secret="other", tls="false"))
        assert await world.until(lambda: check.is_served(world, BAD)) < 6


@in_virtual_time
async def test_slow_names_of_one_certificate_keep_no_other_waiting() -> None:
    """Each certificate has probes of its own."""
    async with World() as world:
        slow = [f"h{number}.slow.example" for number in range(48)]
        world.gateway.slow.update(slow)
        world.apply(ingress("slow", *slow, secret="slow"))
        world.start()
        await world.sleep(2)
        world.apply(ingress("site", GOOD))
        assert await world.until(lambda: check.is_served(world, GOOD)) < 2


@in_virtual_time
async def test_a_failure_that_nothing_waits_for_is_forgotten() -> None:
    """A renewal that is no longer asked for: all is served, and there is nothing to tell."""
    async with served(BAD) as world:
        world.gateway.faults[BAD] = NOT_ROUTED
        world.annotate_secret(renew_requested_at="now")
        await world.until(lambda: "ChallengeNotRouted" in world.journal.codes)
        world.store.edit(
            "Secret",
            NAMESPACE,
            SECRET,
            lambda secret: secret["metadata"]["annotations"].pop("acmeistio.io/renew-requested-at"),
        )
        await world.sleep(10 * MINUTE)
        assert world.journal.codes == set()


@in_virtual_time
async def test_no_name_slips_through_while_others_are_asked() -> None:
    """Objects that change make all due again; who was found out of reach is still not ordered."""
    async with World() as world:
        bad = [f"bad-{number}.shop.example" for number in range(3)]
        world.gateway.faults.update(dict.fromkeys(bad, NOT_ROUTED))
        world.apply(ingress("site", GOOD, bad[0]))
        world.start()
        await world.until(lambda: check.is_served(world, GOOD))
        for number, name in enumerate(bad[1:]):
            await world.sleep(MINUTE)
            world.apply(ingress(f"more-{number}", name))
            await world.sleep(1)
            world.apply(ingress("other", "c.shop.example", secret="other", note=str(number)))
        await world.sleep(10 * MINUTE)
        assert not [order.names for order in world.ca.orders if order.names & set(bad)]
