"""What acmeistio may not do, and what the mesh says: each a Defect at its own object."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from dataclasses import replace
from typing import Any

import pytest

from acmeistio.app import _is_shared
from acmeistio.errors import Permanent
from acmeistio.issuer import ExternalAccount
from acmeistio.model import ObjectRef
from acmeistio.ports import Manifest
from acmeistio.reasons import Defect
from acmeistio.stores.accounts import HMAC_KEY
from acmeistio.stores.secrets import encoded
from tests.simulated.objects import SimulatedObjects
from tests.simulated.virtual_time import in_virtual_time
from tests.simulation import check
from tests.simulation.world import BARE_CA, HOUR, MINUTE, NAMESPACE, SECRET, World, ingress

WWW, IMG = "www.shop.example", "img.shop.example"
MESH = ObjectRef("ConfigMap", NAMESPACE, "istio")


def _defects(world: World, code: str) -> list[Defect]:
    return [found for found in world.journal.current_defects if found.code == code]


# ── Secrets ───────────────────────────────────────────────────────────────────────────────────


@in_virtual_time
async def test_a_secret_that_is_not_granted_is_a_defect_and_no_request() -> None:
    """It names the setting; the Secret is never asked for, and the others are served."""
    async with World(secrets_granted=frozenset({SECRET})) as world:
        world.apply(ingress("a", WWW), ingress("b", IMG, secret="theirs"))
        process = world.start()
        await world.until(lambda: check.is_served(world, WWW))
        [found] = _defects(world, "SecretNotGranted")
        assert found.subject == ObjectRef("Ingress", "default", "b")
        assert found.sentence == (
            f"this installation may not write Secret {NAMESPACE}/theirs; it may write {SECRET}"
        )
        assert "ACMEISTIO_SECRETS_GRANTED" in found.remedy
        assert not any("theirs" in call for call in process.wire.log)


@in_virtual_time
async def test_a_secret_that_may_not_be_read_is_a_defect() -> None:
    """It is unknown, not absent: no order, until the right is given."""
    async with World() as world:
        world.apply(ingress("a", WWW, secret="a"), ingress("b", IMG, secret="b"))
        process = world.start()
        process.objects.refused = lambda call: call.name == "a"
        await world.until(lambda: check.is_served(world, IMG, secret="b"))
        [found] = _defects(world, "SecretForbidden")
        assert "get Secret istio-system/a" in found.sentence
        assert "Add a to the Role" in found.remedy
        await world.sleep(HOUR)
        check.orders_at_most(world, 1)
        process.objects.refused = lambda _: False
        await world.until(lambda: check.is_served(world, WWW, secret="a"), within=5)
        assert not _defects(world, "SecretForbidden")


@in_virtual_time
async def test_a_secret_that_may_not_be_created_costs_no_order() -> None:
    """The placeholder is refused first; soon after the right is given the host is served."""
    async with World() as world:
        world.apply(ingress("a", WWW))
        process = world.start()
        process.objects.refused = lambda call: call.method == "create" and call.name == SECRET
        await world.until(lambda: _defects(world, "SecretForbidden"))
        await world.sleep(HOUR)
        check.orders_at_most(world, 0)
        process.objects.refused = lambda _: False
        await world.until(lambda: check.is_served(world, WWW), within=MINUTE)
        await world.sleep(MINUTE)
        assert world.journal.current_defects == ()


@in_virtual_time
async def test_a_secret_that_may_not_be_updated_costs_one_order() -> None:
    """The certificate waits at the CA, its key is kept; a Defect says which right is missing."""
    async with World() as world:
        world.apply(ingress("a", WWW))
        process = world.start()
        process.objects.refused = lambda call: call.method == "update" and call.name == SECRET
        await world.until(lambda: _defects(world, "OrderForbidden"))
        [found] = _defects(world, "OrderForbidden")
        assert f"update Secret {NAMESPACE}/{SECRET}" in found.sentence
        assert "Role" in found.remedy
        await world.sleep(HOUR)
        process.objects.refused = lambda _: False
        await world.until(lambda: check.is_served(world, WWW), within=HOUR)
        check.orders_at_most(world, 1)
        check.nothing_open(world)


# ── external accounts ─────────────────────────────────────────────────────────────────────────

MAC_KEY = b"k" * 32
EXTERNAL = ExternalAccount("customer-1", "acmeistio-eab-simulated")
CUSTOMERS_CA = replace(BARE_CA, external_accounts={EXTERNAL.key_id: MAC_KEY})


def _customer() -> World:
    """A CA for its customers, and an issuer that names one of them."""
    world = World(CUSTOMERS_CA, issuer={"external_account": EXTERNAL})
    world.apply(ingress("a", WWW))
    return world


def _mac_key(text: str = urlsafe_b64encode(MAC_KEY).decode()) -> Manifest:
    """What the README has its reader create."""
    metadata = {"namespace": NAMESPACE, "name": EXTERNAL.secret_name}
    data = {HMAC_KEY: encoded(text.encode())}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


@in_virtual_time
async def test_a_mac_key_is_read_and_never_followed_nor_written() -> None:
    """It is the administrator's: `get` suffices, of what is taken for acmeistio's own."""
    async with _customer() as world:
        world.apply(_mac_key())
        process = world.start()
        await world.until(lambda: check.is_served(world, WWW))
        touched = {call for call in process.wire.log if EXTERNAL.secret_name in call}
        assert touched == {f"get Secret {EXTERNAL.secret_name}"}
        ref = ObjectRef("Secret", NAMESPACE, EXTERNAL.secret_name)
        assert not _is_shared(ref, world.installation)


@in_virtual_time
@pytest.mark.parametrize("name", [EXTERNAL.secret_name, "acmeistio-account-simulated"])
async def test_a_right_that_an_account_needs_is_named(name: str) -> None:
    """One Defect, with the place that gives it; no order, and minutes later it goes on."""
    async with _customer() as world:
        world.apply(_mac_key())
        process = world.start()
        process.objects.refused = lambda call: call.method == "get" and call.name == name
        await world.until(lambda: _defects(world, "OrderForbidden"))
        await world.sleep(HOUR)
        [found] = world.journal.current_defects
        assert f"get Secret {NAMESPACE}/{name}" in found.sentence
        assert "Role" in found.remedy
        assert "deploy/install.yaml" in found.remedy
        check.orders_at_most(world, 0)
        process.objects.refused = lambda _: False
        await world.until(lambda: check.is_served(world, WWW), within=6 * MINUTE)
        await world.sleep(MINUTE)
        assert world.journal.current_defects == ()


@in_virtual_time
@pytest.mark.parametrize("text", [None, "no key!"])
async def test_a_mac_key_that_comes_later_is_found(text: str | None) -> None:
    """Whoever creates the Secret after the order was wanted changes nothing else for it."""
    async with _customer() as world:
        if text:
            world.apply(_mac_key(text))
        world.start()
        await world.until(lambda: _defects(world, "MACKeyMissing"))
        await world.sleep(HOUR)
        [found] = world.journal.current_defects
        assert f"Secret {NAMESPACE}/{EXTERNAL.secret_name}" in found.sentence
        assert "hmac-key" in found.remedy
        assert len(world.ca.accounts) == len(world.ca.orders) == 0
        world.apply(_mac_key())
        await world.until(lambda: check.is_served(world, WWW), within=6 * MINUTE)
        check.one_account(world)


# ── the mesh ──────────────────────────────────────────────────────────────────────────────────


def _mesh(text: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": MESH.kind,
        "metadata": {"namespace": MESH.namespace, "name": MESH.name},
        "data": {"mesh": text},
    }


def _of_class(name: str, host: str, ingress_class: str) -> Manifest:
    manifest: dict[str, Any] = ingress(name, host, secret=name)
    manifest["metadata"]["annotations"]["kubernetes.io/ingress.class"] = ingress_class
    return manifest


@in_virtual_time
async def test_the_mesh_says_which_class_counts() -> None:
    """Also when it changes its mind: no restart."""
    async with World(mesh_config=MESH) as world:
        world.apply(_mesh("ingressClass: edge"))
        world.apply(_of_class("a", WWW, "edge"), _of_class("b", IMG, "istio"))
        world.start()
        await world.until(lambda: check.is_served(world, WWW, secret="a"))
        [found] = _defects(world, "IngressClassNotProcessed")
        assert found.subject.name == "b"
        world.apply(_mesh("ingressClass: istio"))
        await world.until(lambda: check.is_served(world, IMG, secret="b"))
        [found] = _defects(world, "IngressClassNotProcessed")
        assert found.subject.name == "a"


@in_virtual_time
async def test_a_mesh_configuration_that_cannot_be_read_keeps_what_it_said() -> None:
    """A slip in a ConfigMap of somebody else's takes no certificate away."""
    async with World(mesh_config=MESH) as world:
        world.apply(_mesh("ingressClass: edge"), _of_class("a", WWW, "edge"))
        world.start()
        await world.until(lambda: check.is_served(world, WWW, secret="a"))
        for text in ("ingressClass: {", "ingressControllerMode: strict"):
            world.apply(_mesh(text))
            await world.until(lambda: _defects(world, "MeshConfigUnreadable"))
            assert not _defects(world, "IngressClassNotProcessed")
            world.apply(_mesh("ingressClass: edge"))
            await world.until(lambda: not world.journal.current_defects)


@in_virtual_time
async def test_without_a_mesh_configuration_istios_defaults_count() -> None:
    """And it is said, once somebody wants a certificate or not."""
    async with World(mesh_config=MESH) as world:
        world.apply(_of_class("a", WWW, "istio"))
        world.start()
        await world.until(lambda: check.is_served(world, WWW, secret="a"))
        [found] = world.journal.current_defects
        assert (found.code, found.subject) == ("MeshConfigMissing", MESH)


@in_virtual_time
async def test_a_mesh_configuration_that_may_not_be_read_stops_nothing() -> None:
    """The right is named; Ingresses are read by Istio's defaults."""
    async with World(mesh_config=MESH) as world:
        world.apply(_mesh("ingressClass: istio"), _of_class("a", WWW, "istio"))
        process = world.start()
        process.objects.refused = lambda call: call.kind == MESH.kind and call.name == MESH.name
        await world.until(lambda: check.is_served(world, WWW, secret="a"))
        [found] = world.journal.current_defects
        assert "get ConfigMap istio-system/istio" in found.sentence


@in_virtual_time
async def test_a_mesh_configuration_that_is_refused_for_good_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the API server has against the request, it is a Defect; the rest goes on."""
    real = SimulatedObjects.get

    async def refusing(
        objects: SimulatedObjects, kind: str, namespace: str, name: str
    ) -> Manifest | None:
        if (kind, name) == (MESH.kind, MESH.name):
            raise Permanent("the API server answered 400")
        return await real(objects, kind, namespace, name)

    monkeypatch.setattr(SimulatedObjects, "get", refusing)
    async with World(mesh_config=MESH) as world:
        world.apply(_of_class("a", WWW, "istio"))
        world.start()
        await world.until(lambda: check.is_served(world, WWW, secret="a"))
        [found] = world.journal.current_defects
        assert (found.code, found.subject) == ("MeshConfigUnreadable", MESH)
