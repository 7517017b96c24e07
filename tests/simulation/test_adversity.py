"""What goes wrong around the program: the CA, the store, the clock, and mistakes of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from acmeistio.errors import NotLeader
from acmeistio.issuer import Limit, Limits
from acmeistio.planning import plan as planning
from acmeistio.sources import ingress as ingress_source
from acmeistio.stores.secrets import SecretStore
from tests.simulated.ca import CaOptions, Resource
from tests.simulated.objects import Call
from tests.simulated.system import VirtualClock
from tests.simulated.virtual_time import in_virtual_time, run
from tests.simulation import check
from tests.simulation.world import (
    BARE_CA,
    DAY,
    HOUR,
    MINUTE,
    SLOW_CA,
    World,
    days,
    ingress,
    served,
)

WWW, IMG = "www.shop.example", "img.shop.example"
STEPS = (
    Resource.DIRECTORY,
    Resource.NEW_NONCE,
    Resource.NEW_ACCOUNT,
    Resource.NEW_ORDER,
    Resource.AUTHORIZATION,
    Resource.CHALLENGE,
    Resource.ORDER,
    Resource.FINALIZE,
    Resource.CERTIFICATE,
)
every_step = pytest.mark.parametrize("step", STEPS)


async def _at(world: World, step: Resource) -> None:
    """Return when the CA has been asked for `step`."""
    await world.until(lambda: world.ca.requests_for(step), step=0.001)


# ── the CA ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(8))
@in_virtual_time
async def test_half_of_all_nonces_may_be_refused(seed: int) -> None:
    """50 % badNonce: the certificate is got, by one order, without a wait that anybody notices."""
    options = CaOptions(nonce_reject_percent=50, reuses_orders=False)
    async with World(options, seed=seed) as world:
        world.apply(ingress("shop", WWW, IMG))
        world.start()
        took = await world.until(lambda: check.is_served(world, WWW, IMG))
        assert took < 5
        await world.sleep(HOUR)
        check.quiet(world, WWW, IMG, orders=1)


@every_step
@in_virtual_time
async def test_a_ca_that_forgets_everything_is_asked_anew(step: Resource) -> None:
    """Pebble restarted in the middle: another account with the same key, and the certificate."""
    async with World(SLOW_CA) as world:
        world.apply(ingress("shop", WWW, IMG))
        world.start()
        await _at(world, step)
        world.ca.restart()
        await world.until(lambda: check.is_served(world, WWW, IMG))
        await world.sleep(HOUR)
        check.nothing_open(world)
        check.nothing_unexpected(world)
        assert len({account.thumbprint for account in world.ca.accounts}) == 1
        assert len(world.ca.accounts) <= 2
        check.orders_at_most(world, 2)


@in_virtual_time
async def test_a_ca_that_has_forgotten_us_renews() -> None:
    """The account is gone when the renewal is due: it is registered again with its key."""
    async with served(WWW) as world:
        await world.sleep(MINUTE)
        world.ca.restart()
        world.annotate_secret(renew_requested_at="now")
        await world.until(lambda: check.certificate(world) is world.ca.certificates[-1])
        await world.until(lambda: len(world.ca.certificates) == 2)
        await world.sleep(HOUR)
        assert len({account.thumbprint for account in world.ca.accounts}) == 1
        check.nothing_open(world)
        check.orders_at_most(world, 2)


@every_step
@in_virtual_time
async def test_an_outage_of_three_hours_is_waited_for(step: Resource) -> None:
    """From any step on: asked ever less often, at most every five minutes, and then got."""
    async with World(SLOW_CA) as world:
        world.apply(ingress("shop", WWW, IMG))
        world.start()
        await _at(world, step)
        world.ca.outage = True
        await world.sleep(10 * MINUTE)
        before = len(world.ca.requests)
        await world.sleep(3 * HOUR - 10 * MINUTE)
        assert len(world.ca.requests) - before <= 2 * 60, "it hammers"
        world.ca.outage = False
        took = await world.until(lambda: check.is_served(world, WWW, IMG))
        assert took < 7 * MINUTE
        await world.sleep(HOUR)
        check.quiet(world, WWW, IMG, orders=2)


@every_step
@in_virtual_time
async def test_a_lost_answer_costs_no_certificate(step: Resource) -> None:
    """The CA did it and nobody heard: it is found again, at worst by one more order."""
    async with World() as world:
        world.ca.lose_reply(step)
        world.apply(ingress("shop", WWW, IMG))
        world.start()
        await world.until(lambda: check.is_served(world, WWW, IMG))
        await world.sleep(HOUR)
        check.quiet(world, WWW, IMG, orders=2, crashed=True)
        assert len(world.ca.certificates) == 1


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("step", [Resource.NEW_ORDER, Resource.FINALIZE, Resource.NEW_ACCOUNT])
@in_virtual_time
async def test_retry_after_pauses_the_issuer(status: int, step: Resource) -> None:
    """429 and 503 with Retry-After: no request at all before it is over, for no Secret."""
    async with World() as world:
        world.ca.refuse(step, status=status, retry_after_seconds=1800)
        world.apply(ingress("shop", WWW))
        world.start()
        await _at(world, step)
        await world.sleep(10)
        asked = len(world.ca.requests)
        world.apply(ingress("other", IMG, secret="other"))
        await world.sleep(1750)
        assert len(world.ca.requests) == asked
        assert "IssuerPaused" in world.journal.codes
        await world.until(lambda: check.is_served(world, WWW), within=2 * MINUTE)
        await world.until(lambda: check.is_served(world, IMG, secret="other"))
        await world.sleep(HOUR)
        check.quiet(world, WWW, orders=2)
        assert "IssuerPaused" not in world.journal.codes


@in_virtual_time
async def test_a_pause_outlives_a_restart() -> None:
    """A program that is started anew asks for the time, and for nothing before the old one may."""
    async with World() as world:
        world.ca.refuse(Resource.NEW_ORDER, status=429, retry_after_seconds=3600)
        world.apply(ingress("shop", WWW))
        world.start()
        await _at(world, Resource.NEW_ORDER)
        await world.sleep(10)
        await world.crash()
        asked = len(world.ca.requests)
        world.start()
        await world.sleep(3500)
        assert [r.resource for r in list(world.ca.requests)[asked:]] == [Resource.DIRECTORY]
        await world.until(lambda: check.is_served(world, WWW))


@every_step
@pytest.mark.parametrize("status", [500, 503])
@in_virtual_time
async def test_a_server_error_at_any_step_passes(step: Resource, status: int) -> None:
    """Three 5xx answers in a row without Retry-After cost some seconds, and one order at most."""
    async with World() as world:
        world.ca.refuse(step, status=status, times=3)
        world.apply(ingress("shop", WWW, IMG))
        world.start()
        took = await world.until(lambda: check.is_served(world, WWW, IMG))
        assert took < MINUTE
        await world.sleep(HOUR)
        check.quiet(world, WWW, IMG, orders=1)


@in_virtual_time
async def test_an_issuance_that_is_refused_is_not_hammered() -> None:
    """Finalized and then invalid: tried again after 1, 10, 100 minutes, with one key each."""
    async with World() as world:
        world.ca.failing_issuances[WWW] = "serverInternal"
        world.apply(ingress("shop", WWW))
        world.start()
        await world.sleep(2 * HOUR)
        assert len(world.ca.orders) == 4
        check.nothing_open(world)
        world.ca.failing_issuances.clear()
        await world.until(lambda: check.is_served(world, WWW), within=DAY)
        await world.sleep(HOUR)
        check.quiet(world, WWW, orders=5)


# ── the store ─────────────────────────────────────────────────────────────────────────────────


def _everything(_call: Call) -> bool:
    return True


def _secrets(call: Call) -> bool:
    return call.kind == "Secret"


def _writes(call: Call) -> bool:
    return call.method in ("create", "update")


def _listings(call: Call) -> bool:
    return call.method == "listing"


@pytest.mark.parametrize("what", [_everything, _secrets, _writes, _listings])
@pytest.mark.parametrize("options", [BARE_CA, SLOW_CA], ids=["bare", "slow"])
def test_a_store_that_fails_for_a_minute_costs_nothing(
    what: Callable[[Call], bool], options: CaOptions
) -> None:
    """From any port call on: still one order, and what is in hand is stored at once afterwards."""
    calls = len(run(_calls(options)))
    for k in range(1, calls + 1, 2 if options is BARE_CA else 7):
        run(_store_fails(options, what, k))


async def _calls(options: CaOptions) -> list[str]:
    async with World(options) as world:
        world.apply(ingress("shop", WWW, IMG))
        process = world.start()
        await world.until(lambda: check.is_served(world, WWW, IMG), step=0.001)
        return list(process.wire.log)


async def _store_fails(options: CaOptions, what: Callable[[Call], bool], k: int) -> None:
    async with World(options) as world:
        world.apply(ingress("shop", WWW, IMG))
        process = world.start()
        await world.until(lambda: len(process.wire.log) >= k, step=0.0005)
        process.objects.unreachable = what
        await world.sleep(MINUTE)
        process.objects.unreachable = lambda _call: False
        in_hand = bool(world.ca.certificates)
        took = await world.until(lambda: check.is_served(world, WWW, IMG))
        assert took < (5 if in_hand and what is not _everything else 70), (k, took)
        await world.sleep(HOUR)
        check.orders_at_most(world, 1)
        check.one_account(world)
        check.nothing_open(world)
        check.lawful(world)
        assert world.journal.current_defects == (), k


@in_virtual_time
async def test_a_store_that_fails_while_a_certificate_is_stored_gets_it_at_once_afterwards() -> (
    None
):
    """The bundle is kept in hand: no second order, and it is in once the store is back."""
    async with World(CaOptions(issuance_delay_seconds=(5, 5))) as world:
        world.apply(ingress("shop", WWW))
        process = world.start()
        await _at(world, Resource.FINALIZE)
        process.objects.unreachable = _everything
        await world.sleep(MINUTE)
        assert len(world.ca.certificates) == 1
        process.objects.unreachable = lambda _call: False
        took = await world.until(lambda: check.is_served(world, WWW))
        assert took <= 1.1
        await world.sleep(HOUR)
        check.orders_at_most(world, 1)
        check.nothing_open(world)


@pytest.mark.parametrize("what", [_everything, _secrets, _writes, _listings])
@in_virtual_time
async def test_a_store_that_fails_at_the_start_is_waited_for(what: Callable[[Call], bool]) -> None:
    """The program neither dies nor decides anything before it knows what an earlier life knew."""
    async with served(WWW) as world:
        await world.sleep(MINUTE)
        await world.crash()
        world.apply(ingress("more", IMG, secret="more"))
        process = world.start()
        process.objects.unreachable = what
        await world.sleep(MINUTE)
        check.orders_at_most(world, 1)
        process.objects.unreachable = lambda _call: False
        took = await world.until(lambda: check.is_served(world, IMG, secret="more"))
        assert took < 5
        check.orders_at_most(world, 2)
        check.one_account(world)


@in_virtual_time
async def test_one_secret_that_cannot_be_read_keeps_nobody_waiting() -> None:
    """Unknown is not absent: it is neither ordered nor replaced, and the others go on."""
    async with World() as world:
        world.apply(ingress("a", WWW, secret="a"), ingress("b", IMG, secret="b"))
        process = world.start()
        process.objects.unreachable = lambda call: call.name == "a"
        await world.until(lambda: check.is_served(world, IMG, secret="b"))
        await world.sleep(10 * MINUTE)
        check.orders_at_most(world, 1)
        process.objects.unreachable = lambda _call: False
        await world.until(lambda: check.is_served(world, WWW, secret="a"))
        check.orders_at_most(world, 2)


@in_virtual_time
async def test_a_term_that_is_over_ends_the_program_before_it_writes() -> None:
    """Somebody else leads now: nothing more is written, and the run ends with NotLeader."""
    async with World(CaOptions(issuance_delay_seconds=(5, 5))) as world:
        world.apply(ingress("shop", WWW))
        process = world.start()
        await _at(world, Resource.FINALIZE)
        process.leadership.end()
        before = world.secret()
        with pytest.raises(NotLeader):
            await world.sleep(HOUR)
        assert world.secret() == before
        with pytest.raises(NotLeader):
            await world.dead()


# ── time ──────────────────────────────────────────────────────────────────────────────────────


@in_virtual_time
async def test_a_clock_that_jumps_forward_is_noticed() -> None:
    """70 days at once, as after a suspended machine: the renewal is made within five minutes."""
    async with served(WWW) as world:
        await world.sleep(MINUTE)
        world.clock.jump(days(70))
        await world.until(lambda: len(world.ca.certificates) == 2, within=6 * MINUTE)
        await world.sleep(HOUR)
        check.quiet(world, WWW, orders=2)


@in_virtual_time
async def test_a_clock_that_jumps_past_expiry_is_noticed() -> None:
    """An expired certificate is replaced, and no name of it is waited for."""
    async with served(WWW, IMG) as world:
        await world.sleep(MINUTE)
        world.nowhere.add(IMG)
        world.clock.jump(days(100))
        await world.until(lambda: check.is_served(world, WWW), within=8 * MINUTE)


@pytest.mark.usefixtures("seldom")
@in_virtual_time
async def test_a_clock_that_jumps_back_repeats_nothing() -> None:
    """A day back and forth again: no order more."""
    async with served(WWW) as world:
        await world.sleep(10 * DAY)
        world.clock.jump(-timedelta(days=1))
        await world.sleep(HOUR)
        world.clock.jump(timedelta(days=1))
        await world.sleep(HOUR)
        check.quiet(world, WWW, orders=1)


@pytest.mark.parametrize("by", [-400, 400])
@in_virtual_time
async def test_a_program_that_starts_with_a_wrong_calendar(by: int) -> None:
    """Nothing is ordered, no budget and no pause forgotten, before the CA has told the time."""
    limits = Limits(certificates_per_set=Limit(5, timedelta(days=7) / 5))
    async with served(WWW, issuer={"limits": limits}) as world:
        await world.sleep(MINUTE)
        budgets = check.ledger(world)["budgets"]
        await world.crash()
        world.wall = VirtualClock()
        world.wall.jump(days(by))
        world.ca.outage = True
        world.start()
        await world.sleep(HOUR)
        world.ca.outage = False
        await world.sleep(DAY)
        (kept,) = check.ledger(world)["budgets"].values()
        (spent,) = budgets.values()
        assert kept["set"].keys() == spent["set"].keys()
        assert min(kept["set"].values()) >= min(spent["set"].values())
        check.quiet(world, WWW, orders=1)


# ── mistakes of its own ───────────────────────────────────────────────────────────────────────


class Planted(Exception):
    """A mistake of ours that a test puts in."""


def _plant(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, meant: str) -> None:
    """Let `owner.name` fail whenever its arguments speak of `meant`."""
    real: Any = getattr(owner, name)

    def check_arguments(*args: Any, **kwargs: Any) -> None:
        if meant in repr((args, kwargs)):
            raise Planted(meant)

    def failing(*args: Any, **kwargs: Any) -> Any:
        check_arguments(*args, **kwargs)
        return real(*args, **kwargs)

    async def failing_later(*args: Any, **kwargs: Any) -> Any:
        check_arguments(*args, **kwargs)
        return await real(*args, **kwargs)

    late = inspect.iscoroutinefunction(real)
    monkeypatch.setattr(owner, name, failing_later if late else failing)


PATHS = {
    "source": (ingress_source, "declarations"),
    "decision": (planning, "decide"),
    "reading": (SecretStore, "read"),
    "writing": (SecretStore, "write"),
}


@pytest.mark.parametrize("where", PATHS)
@in_virtual_time
async def test_a_mistake_of_ours_stays_with_its_target(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception in one target's path is a Defect InternalError; the others are served."""
    async with World() as world:
        world.apply(ingress("good", WWW, secret="good"), ingress("bad", IMG, secret="cursed"))
        _plant(monkeypatch, *PATHS[where], "cursed")
        world.start()
        await world.until(lambda: check.is_served(world, WWW, secret="good"))
        await world.sleep(MINUTE)
        assert "InternalError" in world.journal.codes
        failed = len(world.journal.failed_parts)
        await world.sleep(DAY)
        assert len(world.journal.failed_parts) - failed < 500, "it hammers"
        assert check.is_served(world, WWW, secret="good")
        check.orders_at_most(world, 2)


@in_virtual_time
async def test_a_mistake_of_ours_in_an_order_is_not_repeated_at_the_cas_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An exception after the order was made: it does not cost the CA an order every few seconds."""
    async with World() as world:
        world.apply(ingress("good", WWW, secret="good"), ingress("bad", IMG, secret="cursed"))
        real = SecretStore.write

        async def failing(
            store: SecretStore, spec: Any, bundle: Any, *rest: Any, **more: Any
        ) -> None:
            issued = rest[0]["acmeistio.io/placeholder"] is None
            if issued and spec.target.name == "cursed":
                raise Planted("a certificate")
            await real(store, spec, bundle, *rest, **more)

        monkeypatch.setattr(SecretStore, "write", failing)
        world.start()
        await world.until(lambda: check.is_served(world, WWW, secret="good"))
        await world.sleep(HOUR)
        assert "InternalError" in world.journal.codes
        assert len([order for order in world.ca.orders if IMG in order.names]) <= 4
