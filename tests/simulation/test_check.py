"""The checkers notice: each one is fed a world that is broken in just the way it looks for."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from acmeistio.issuing import Issuing
from acmeistio.planning import backoff
from acmeistio.planning.ledger import Ledger
from acmeistio.ports import Manifest
from acmeistio.stores.memory import LEDGER_KEY, LEDGER_NAME, PENDING_KEYS_NAME, PendingKeys
from tests.simulated.ca import Request, Rule, Violation
from tests.simulated.virtual_time import in_virtual_time, run
from tests.simulation import check, test_crash, test_service
from tests.simulation.world import BARE_CA, NAMESPACE, SECRET, SLOW_CA, World, days, ingress, served

WWW = "www.shop.example"


def _edit(world: World, kind: str, name: str, change: Callable[[Manifest], object]) -> None:
    world.store.edit(kind, NAMESPACE, name, change)


def _another_key(world: World) -> None:
    account = world.secret("acmeistio-account-simulated")
    assert account

    def change(secret: Manifest) -> None:
        secret["data"]["tls.key"] = account["data"]["tls.key"]

    _edit(world, "Secret", SECRET, change)


def _no_pem(world: World) -> None:
    def change(secret: Manifest) -> None:
        secret["data"]["tls.crt"] = base64.b64encode(b"no PEM").decode()

    _edit(world, "Secret", SECRET, change)


def _another_type(world: World) -> None:
    _edit(world, "Secret", SECRET, lambda secret: secret.update(type="Opaque"))


def _gone(world: World) -> None:
    world.store.delete("Secret", NAMESPACE, SECRET)


def _expired(world: World) -> None:
    world.clock.jump(days(91))


def _not_the_cas(world: World) -> None:
    world.ca.certificates.clear()


def _other_names(world: World) -> None:
    (certificate,) = world.ca.certificates
    certificate.names = frozenset({WWW, "more." + WWW})


def _second_account(world: World) -> None:
    world.ca.accounts.append(world.ca.accounts[0])


def _unknown_account(world: World) -> None:
    world.ca.accounts[0] = replace(world.ca.accounts[0], id="another")


def _second_order(world: World) -> None:
    world.ca.orders.append(world.ca.orders[0])


def _open_order(world: World) -> None:
    def change(ledger: Manifest) -> None:
        document = json.loads(ledger["data"][LEDGER_KEY])
        document["orders"] = [{"target": "a/b"}]
        ledger["data"][LEDGER_KEY] = json.dumps(document)

    _edit(world, "ConfigMap", LEDGER_NAME, change)


def _pending_key(world: World) -> None:
    _edit(world, "Secret", PENDING_KEYS_NAME, lambda keys: keys.update(data={"slot": "a2V5"}))


def _violation(world: World) -> None:
    request = Request(world.now, "POST", "https://ca.simulated/new-order", None)
    world.ca.violations.append(Violation(world.now, Rule.NONCE_ONCE, "twice", request))


def _failure(world: World) -> None:
    world.journal.failed("look", ValueError("odd"))


BROKEN = (
    _another_key,
    _no_pem,
    _another_type,
    _gone,
    _expired,
    _not_the_cas,
    _other_names,
    _second_account,
    _unknown_account,
    _second_order,
    _open_order,
    _pending_key,
    _violation,
    _failure,
)


@pytest.mark.parametrize("break_it", BROKEN)
@in_virtual_time
async def test_a_broken_world_is_not_quiet(break_it: Callable[[World], None]) -> None:
    """Quiet before, and not after."""
    async with served(WWW) as world:
        await world.sleep(60)
        check.quiet(world, WWW, orders=1)
        break_it(world)
        with pytest.raises(AssertionError):
            check.quiet(world, WWW, orders=1)


@in_virtual_time
async def test_a_program_that_dies_does_not_pass_unnoticed() -> None:
    """Waiting in a world whose program has died raises what it died of."""
    async with served(WWW) as world:
        assert world.process
        world.process.controller._bulkheads.ended_by = OSError("the loop broke")
        world.apply()
        with pytest.raises(OSError, match="the loop broke"):
            await world.sleep(1000)
        world.process = None


@in_virtual_time
async def test_what_a_dead_process_does_reaches_nobody() -> None:
    """Its wire is cut: not even what it does in `finally` is seen by store or CA."""
    async with served(WWW) as world:
        process = world.process
        assert process
        before = len(world.ca.requests), world.secret()
        world.annotate_secret(renew_requested_at="now")
        await world.until(lambda: len(world.ca.requests) > before[0], step=0.001)
        process.wire.cut()
        requests, secret = len(world.ca.requests), world.secret()
        await world.sleep(1000)
        assert (len(world.ca.requests), world.secret()) == (requests, secret)


# ── mutants: the tests fail when the program forgets one of its rules ─────────────────────────


async def _forget_nothing(self: PendingKeys, *_: object) -> None:
    """The keys of finished orders are kept for ever."""


def _mutant_keys_stay(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PendingKeys, "forget", _forget_nothing)
    patch.setattr(PendingKeys, "retain", _forget_nothing)


def _mutant_keys_are_not_kept(patch: pytest.MonkeyPatch) -> None:
    async def keep(self: PendingKeys, order_url: str, key_pem: bytes, *_: object) -> None:
        """Only in memory."""

    patch.setattr(PendingKeys, "keep", keep)


def _mutant_orders_are_not_written_down(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ledger, "order_opened", lambda self, *_: self)


def _mutant_accounts_are_not_kept_first(patch: pytest.MonkeyPatch) -> None:
    async def write(self: object, *_: object) -> None:
        """The key of the account is not stored."""

    patch.setattr("acmeistio.stores.accounts.AccountStore.write", write)


def _mutant_orders_are_never_resumed(patch: pytest.MonkeyPatch) -> None:
    async def none(self: Issuing, *_: object) -> None:
        """Whatever the ledger says, there is nothing to go on with."""

    patch.setattr(Issuing, "_resumed", none)


CRASH_MUTANTS = (
    _mutant_keys_stay,
    _mutant_keys_are_not_kept,
    _mutant_orders_are_not_written_down,
    _mutant_accounts_are_not_kept_first,
    _mutant_orders_are_never_resumed,
)


@pytest.mark.parametrize("mutate", CRASH_MUTANTS)
def test_the_crash_tests_kill_mutants(
    mutate: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that forgets one step of resuming does not pass at every call."""
    mutate(monkeypatch)
    with pytest.raises((AssertionError, TimeoutError)):
        test_crash.test_a_crash_at_any_port_call_is_resumed(BARE_CA, after=True)


def _mutant_no_backoff(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(backoff, "VALIDATION_STEPS", (days(0.1),))


def _mutant_slow_backoff(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(backoff, "VALIDATION_STEPS", (days(1),))


@pytest.mark.parametrize("mutate", [_mutant_no_backoff, _mutant_slow_backoff])
def test_the_backoff_test_kills_mutants(
    mutate: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that tries a failing name at other instants does not pass."""
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        test_service.test_a_name_that_fails_costs_one_order_and_blocks_no_other()


def test_seeded_worlds_repeat() -> None:
    """Equal seeds make equal lives: what fails once fails again."""

    async def life() -> list[str]:
        async with World(SLOW_CA, seed=5) as world:
            world.apply(ingress("shop", WWW))
            process = world.start()
            await world.until(lambda: check.is_served(world, WWW))
            return [*process.wire.log, str(world.now)]

    assert run(life()) == run(life())
