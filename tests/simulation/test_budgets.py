"""What an order costs in the ledger is what the CA has counted for it: not less, and not twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from acmeistio.issuer import LETS_ENCRYPT_LIMITS
from acmeistio.planning.limits import MARGIN, Kind
from tests.simulated.ca import Resource
from tests.simulated.ca import orders as ca_orders
from tests.simulated.virtual_time import in_virtual_time
from tests.simulation import check
from tests.simulation.world import DAY, NAMESPACE, SLOW_CA, World, days, ingress, served

WWW, IMG = "www.shop.example", "img.shop.example"
LIMITED = {"limits": LETS_ENCRYPT_LIMITS}
REFILL = {
    Kind.ORDERS: LETS_ENCRYPT_LIMITS.orders,
    Kind.DOMAIN: LETS_ENCRYPT_LIMITS.certificates_per_domain,
    Kind.NAME_SET: LETS_ENCRYPT_LIMITS.certificates_per_set,
    Kind.FAILURES: LETS_ENCRYPT_LIMITS.failures,
    Kind.FAILURES_IN_A_ROW: LETS_ENCRYPT_LIMITS.failures_in_a_row,
}

ROUNDED = timedelta(seconds=2)
"""So much later a budget may be full: whole seconds are written, and the CA counts a bit later."""


def _spent(world: World) -> dict[Kind, list[int]]:
    """How often each budget is spent now, by what it is for."""
    found: dict[Kind, list[int]] = {}
    for kinds in check.ledger(world)["budgets"].values():
        for kind, subjects in kinds.items():
            for full_at in subjects.values():
                limit = REFILL[Kind(kind)]
                assert limit
                left = datetime.fromtimestamp(full_at, UTC) - world.now
                times = -int(-(left - ROUNDED) // (limit.every * MARGIN))
                found.setdefault(Kind(kind), []).append(times)
    return {kind: [n for n in times if n > 0] for kind, times in found.items() if max(times) > 0}


async def _until_ordered(world: World, number: int) -> None:
    """Return when the CA has made so many certificates, and the last one is stored."""
    await world.until(lambda: len(world.ca.certificates) == number, within=DAY, step=1)
    await world.until(lambda: check.certificate(world) is world.ca.certificates[-1])
    await world.until(lambda: not check.ledger(world)["orders"])


async def _takes_it(_: World, __: pytest.MonkeyPatch) -> None:
    """A CA that confirms what an order replaces."""


async def _says_nothing(_: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CA that takes the order, and no word of what it replaces."""
    real = ca_orders.Orders._document

    def silent(orders: Any, order: Any) -> dict[str, Any]:
        return {word: said for word, said in real(orders, order).items() if word != "replaces"}

    monkeypatch.setattr(ca_orders.Orders, "_document", silent)


async def _refuses_it(world: World, _: pytest.MonkeyPatch) -> None:
    """A CA for which it is replaced already: it is ordered without."""
    (certificate,), (order,) = world.ca.certificates, world.ca.orders
    certificate.replacement = order


async def _knows_another(world: World, _: pytest.MonkeyPatch) -> None:
    """The certificate is of an account that is lost: the program itself orders without."""
    await world.crash()
    world.store.delete("Secret", NAMESPACE, "acmeistio-account-simulated")
    world.start()


@pytest.mark.usefixtures("seldom")
@pytest.mark.parametrize(
    ("ca", "spent"),
    [
        (_takes_it, {}),
        (_says_nothing, {Kind.NAME_SET: [1]}),
        (_refuses_it, {Kind.NAME_SET: [1]}),
        (_knows_another, {Kind.NAME_SET: [1]}),
    ],
)
@in_virtual_time
async def test_a_renewal_is_exempt_where_the_ca_confirms_it(
    monkeypatch: pytest.MonkeyPatch,
    ca: Callable[[World, pytest.MonkeyPatch], Awaitable[None]],
    spent: dict[Kind, list[int]],
) -> None:
    """An order that is not marked as a replacement is one like others (RFC 9773 §5), once.

    Of the same names it costs what a renewal costs without ARI.
    """
    async with served(WWW, issuer=LIMITED) as world:
        await world.sleep(10 * DAY)
        assert _spent(world) == {}
        await ca(world, monkeypatch)
        begin = world.now + days(0.2)
        world.ca.suggest(world.ca.certificates[0], begin, begin + days(0.2))
        await _until_ordered(world, 2)
        assert _spent(world) == spent


@pytest.mark.usefixtures("seldom")
@pytest.mark.parametrize("forgets", [False, True])
@in_virtual_time
async def test_an_order_of_an_account_that_the_ca_has_forgotten_costs_as_any_other(
    forgets: bool,
) -> None:
    """What it refused for want of an account it has not counted."""
    async with served(WWW, issuer=LIMITED) as world:
        await world.sleep(10 * DAY)
        assert _spent(world) == {}
        if forgets:
            world.ca.restart()
        world.apply(ingress("site", WWW, IMG))
        await _until_ordered(world, 2)
        assert len(world.ca.accounts) == 1 + forgets
        assert _spent(world) == {Kind.ORDERS: [1], Kind.DOMAIN: [1], Kind.NAME_SET: [1]}


@pytest.mark.usefixtures("seldom")
@in_virtual_time
async def test_an_order_that_the_ca_has_forgotten_was_counted_and_no_name_has_failed() -> None:
    """Pebble restarted in the middle: two orders were made, and no validation failed."""
    async with served(WWW, options=SLOW_CA, issuer=LIMITED) as world:
        await world.sleep(10 * DAY)
        before = len(world.ca.requests_for(Resource.AUTHORIZATION))
        world.apply(ingress("site", WWW, IMG))
        await world.until(
            lambda: len(world.ca.requests_for(Resource.AUTHORIZATION)) > before, step=0.001
        )
        world.ca.restart()
        await _until_ordered(world, 2)
        assert len(world.ca.orders) == 3
        assert _spent(world) == {Kind.ORDERS: [2], Kind.DOMAIN: [2], Kind.NAME_SET: [2]}
