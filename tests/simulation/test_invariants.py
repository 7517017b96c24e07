"""The invariants notice: for each one a bug is planted that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from acmeistio.errors import Permanent
from acmeistio.model import Leaf, Suggestion
from acmeistio.planning import decide, limits, wanted
from acmeistio.planning.ledger import Failure, Ledger
from tests.simulated.virtual_time import run
from tests.simulation.invariants import Watch
from tests.simulation.story import world_of
from tests.simulation.world import NAMESPACE, World

DOMAIN = "crowd.example"
CERTIFICATES = 20
"""More than the limit of the domain lets be ordered at once."""

pytestmark = pytest.mark.usefixtures("seldom")

Plot = Callable[[World, Watch], Any]


async def _complaints(plot: Plot | None = None, days: float = 8) -> list[str]:
    """What is wrong with nine days of some certificates; `plot` happens after the first day."""
    world = world_of(1)
    watch = Watch(world, crowded=DOMAIN)
    async with world:
        for number in range(CERTIFICATES):
            watch.declare(f"c{number}", f"www.c{number}.{DOMAIN}", profile="shortlived")
        watch.declare("own", "www.own.example", "img.own.example", profile="shortlived")
        world.start()
        await watch.passes(24)
        if plot:
            await plot(world, watch)
        await watch.passes(24 * days)
        return watch.complaints()


async def _name_fails(_: World, watch: Watch) -> None:
    watch.fail("img.own.example")


async def _revoked(_: World, watch: Watch) -> None:
    watch.revoke("own")


async def _restarted(world: World, _: Watch) -> None:
    await world.crash()
    world.start()


async def _robbed(world: World, watch: Watch) -> None:
    """Somebody deletes the account's key."""
    await world.crash()
    world.store.delete("Secret", NAMESPACE, "acmeistio-account-simulated")
    world.start()
    watch.renew("own", "now")


@pytest.mark.parametrize("plot", [None, _name_fails, _revoked, _restarted])
def test_nothing_is_broken_without_a_bug(plot: Plot | None) -> None:
    """The plots by themselves break no rule."""
    assert run(_complaints(plot)) == []


def _never_due(leaf: Leaf, _: Suggestion | None = None) -> datetime:
    return leaf.not_after + timedelta(days=1)


def _soon_due(leaf: Leaf, _: Suggestion | None = None) -> datetime:
    return leaf.not_before + (leaf.not_after - leaf.not_before) / 5


def _forgetful(ledger: Ledger, *_: object, **__: object) -> Ledger:
    return ledger


def _never_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every write leaves a failure behind."""
    real, count = Ledger.spent, [0]

    def spent(ledger: Ledger, *args: Any) -> Ledger:
        count[0] += 1
        failure = Failure(1, datetime.max.replace(tzinfo=args[1].tzinfo), ("x",), "y" * 2000)
        return real(ledger.name_failed("nobody", f"n{count[0]}", failure), *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Ledger, "spent", spent)
    monkeypatch.setattr(Ledger, "tidied", _forgetful)


def _never_renews(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (wanted, decide):
        monkeypatch.setattr(module, "renew_at", _never_due)
    monkeypatch.setattr(wanted, "pressing_at", _never_due)


def _renews_too_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wanted, "renew_at", _soon_due)


def _refills_too_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_interval", lambda limit: limit.every / 10)


def _waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def scarcest(_: Any, costs: Any, now: datetime) -> tuple[datetime, Any]:
        return now + timedelta(days=3), next(iter(costs), None)

    monkeypatch.setattr(limits, "scarcest", scarcest)


def _deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silence(*_: object) -> None:
        raise Permanent("no renewal information")

    monkeypatch.setattr("acmeistio.renewals.renewal_info", silence)


def _none(_: pytest.MonkeyPatch) -> None:
    """What the plot does is bad enough."""


@pytest.mark.parametrize(
    ("bug", "plot", "rule"),
    [
        (_never_renews, None, "expired"),
        (_renews_too_soon, None, "waste"),
        (_refills_too_fast, None, "limit"),
        (_waits_for_nothing, None, "waits"),
        (_deaf, _revoked, "revoked"),
        (_never_forgets, None, "ledger"),
        (_none, _robbed, "account"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_planted_bug_is_noticed(
    bug: Callable[[pytest.MonkeyPatch], None],
    plot: Plot | None,
    rule: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each rule complains of what breaks it."""
    bug(monkeypatch)
    assert rule in {complaint.partition(":")[0] for complaint in run(_complaints(plot))}
