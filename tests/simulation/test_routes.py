"""Route objects through the whole service: what goes wrong with them stops nothing else."""

from __future__ import annotations

import pytest

from acmeistio.model import ISTIO_GATEWAY
from acmeistio.ports import Manifest
from acmeistio.routes.changes import wanted
from tests.simulated.virtual_time import in_virtual_time
from tests.simulation import check
from tests.simulation.world import HOUR, MINUTE, NAMESPACE, World, ingress

WWW = "www.shop.example"


def _missing(world: World) -> set[str]:
    """The route objects that are not there."""
    routes = wanted(world.installation, {}, ())
    return {
        str(ref) for ref in routes if world.store.get(ref.kind, ref.namespace, ref.name) is None
    }


def _writes(world: World) -> int:
    """How many route objects this life has written."""
    return sum(call.kind in _KINDS for call in world.living.objects.writes)


_KINDS = {ISTIO_GATEWAY, "VirtualService", "EnvoyFilter", "DestinationRule"}


@in_virtual_time
async def test_they_are_made_once() -> None:
    """And nothing is written while nothing changes, nor after a restart."""
    async with World(keeps_routes=True) as world:
        world.apply(ingress("site", WWW))
        world.start()
        await world.until(lambda: check.is_served(world, WWW))
        assert _missing(world) == set()
        made = _writes(world)
        await world.sleep(HOUR)
        assert _writes(world) == made
        await world.crash()
        world.start()
        await world.sleep(HOUR)
        assert _writes(world) == 0


@pytest.mark.parametrize(
    ("kind", "method"), [("DestinationRule", "get"), *((kind, "create") for kind in sorted(_KINDS))]
)
@in_virtual_time
async def test_a_missing_right_stops_nothing_else(kind: str, method: str) -> None:
    """It is told, the other routes are made, certificates are issued, and it is tried again."""
    async with World(keeps_routes=True) as world:
        world.apply(ingress("site", WWW))
        process = world.start()
        process.objects.refused = lambda call: (call.kind, call.method) == (kind, method)
        await world.until(lambda: check.is_served(world, WWW))
        assert {ref.split()[0] for ref in _missing(world)} == {kind}
        assert "RouteForbidden" in world.journal.codes
        process.objects.refused = lambda _: False
        await world.until(lambda: not _missing(world), within=2 * MINUTE)
        await world.until(lambda: "RouteForbidden" not in world.journal.codes, within=2 * MINUTE)


@in_virtual_time
async def test_what_cant_be_written_is_not_hurried() -> None:
    """A kind or a namespace may be missing for ever."""
    async with World(keeps_routes=True) as world:
        process = world.start()
        process.objects.unreachable = lambda call: call.method == "create"
        await world.sleep(10 * MINUTE)
        before = len(process.wire.log)
        await world.sleep(10 * MINUTE)
        tries = [what for what in process.wire.log[before:] if what.startswith("create ")]
        assert len(tries) <= 11 * len(wanted(world.installation, {}, ()))
        process.objects.unreachable = lambda _: False
        await world.until(lambda: not _missing(world), within=2 * MINUTE)


@in_virtual_time
async def test_one_that_is_spoilt_beyond_reading_is_mended() -> None:
    """Whatever somebody leaves of it; the loop goes on."""
    async with World(keeps_routes=True) as world:
        world.apply(ingress("site", WWW))
        world.start()
        await world.until(lambda: check.is_served(world, WWW))

        def spoil(manifest: Manifest) -> None:
            del manifest["spec"]

        world.store.edit(ISTIO_GATEWAY, NAMESPACE, "acmeistio", spoil)

        def is_mended() -> bool:
            found = world.store.get(ISTIO_GATEWAY, NAMESPACE, "acmeistio")
            return found is not None and "spec" in found

        await world.until(is_mended)
        check.nothing_unexpected(world)
