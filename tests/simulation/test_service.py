"""What users see over months: renewals, names that come, go and fail, Secrets that are touched."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from acmeistio import controller
from acmeistio.model import IssueReason, Probing
from acmeistio.names import DnsName
from acmeistio.pki import placeholder
from acmeistio.ports import Manifest
from acmeistio.stores.secrets import encoded
from tests.simulated.ca import CaOptions, Profile, Resource
from tests.simulated.system import EPOCH
from tests.simulated.virtual_time import in_virtual_time
from tests.simulation import check
from tests.simulation.world import (
    BARE_CA,
    DAY,
    HOUR,
    MINUTE,
    NAMESPACE,
    SECRET,
    SILENT_CA,
    World,
    days,
    ingress,
    served,
)

GATEWAY: Manifest = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "Gateway",
    "metadata": {
        "name": "web",
        "namespace": "default",
        "annotations": {"acmeistio.io/tls": "true"},
    },
    "spec": {
        "selector": {"istio": "ingressgateway"},
        "servers": [
            {
                "hosts": ["img.shop.example"],
                "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
                "tls": {"mode": "SIMPLE", "credentialName": SECRET},
            }
        ],
    },
}
ISTIOS: Manifest = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "IngressClass",
    "metadata": {"name": "istio"},
    "spec": {"controller": "istio.io/ingress-controller"},
}

WWW, IMG, BAD = "www.shop.example", "img.shop.example", "nowhere.shop.example"


def _order_times(world: World, name: str) -> list[timedelta]:
    """When the orders with a name were made, counted from the first."""
    made = [order.created for order in world.ca.orders if name in order.names]
    return [instant - made[0] for instant in made]


def _has_issued(world: World, number: int) -> bool:
    return len(world.ca.certificates) == number


def _reasons(world: World) -> list[IssueReason]:
    return [issue.reason for _, issue, _ in world.journal.issues]


# ── renewal ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("seldom")
@in_virtual_time
async def test_certificates_renew_by_themselves_at_two_thirds() -> None:
    """200 days of a 90-day certificate: orders on day 0, 60, 120 and 180, and none else."""
    async with served(WWW, options=SILENT_CA) as world:
        await world.sleep(200 * DAY)
        times = _order_times(world, WWW)
        assert len(times) == 4
        for number, time in enumerate(times):
            assert abs(time - days(60 * number)) < timedelta(minutes=1)
        check.quiet(world, WWW, orders=4)
        assert _reasons(world) == [IssueReason.NOT_ISSUED_YET, *[IssueReason.RENEWAL_DUE] * 3]


@in_virtual_time
async def test_a_renewal_needs_no_event_to_come_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer is set to the instant when the first certificate is due: nothing else wakes it."""
    monkeypatch.setattr(controller, "LONGEST_SLEEP_SECONDS", 1000 * DAY)
    async with World() as world:
        world.apply(ingress("a", WWW, secret="a"))
        world.start()
        await world.until(lambda: check.is_served(world, WWW, secret="a"))
        await world.sleep(10 * DAY)
        world.apply(ingress("b", IMG, secret="b"))
        await world.until(lambda: check.is_served(world, IMG, secret="b"))
        await world.sleep(55 * DAY)
        assert [order.names for order in world.ca.orders] == [{WWW}, {IMG}, {WWW}]
        await world.sleep(10 * DAY)
        assert [order.names for order in world.ca.orders] == [{WWW}, {IMG}, {WWW}, {IMG}]


@pytest.mark.usefixtures("seldom")
@in_virtual_time
async def test_short_lived_certificates_renew_at_half() -> None:
    """Below ten days it is half of the lifetime: six-day certificates every three days."""
    profile = Profile("six days", timedelta(days=6), 100)
    options = replace(SILENT_CA, profiles={"short": profile}, default_profile="short")
    async with served(WWW, options=options) as world:
        await world.sleep(30 * DAY)
        assert len(world.ca.orders) == 11
        check.quiet(world, WWW, orders=11)


@pytest.mark.usefixtures("seldom")
@in_virtual_time
async def test_a_restart_changes_no_renewal() -> None:
    """A program that restarts every day orders no more than one that never does."""
    async with served(WWW) as world:
        for _ in range(130):
            await world.crash()
            world.start()
            await world.sleep(DAY)
        check.quiet(world, WWW, orders=3, crashed=True)


@in_virtual_time
async def test_a_forced_renewal_happens_once_per_value() -> None:
    """Any new value of renew-requested-at is one order, the same one none, after a restart too."""
    async with served(WWW) as world:
        for number in range(1, 4):
            world.annotate_secret(renew_requested_at=f"time-{number}")
            await world.until(functools.partial(_has_issued, world, number + 1))
            await world.sleep(HOUR)
            world.annotate_secret(renew_requested_at=f"time-{number}", note="touched")
            await world.sleep(HOUR)
            await world.crash()
            world.start()
            await world.sleep(HOUR)
            check.quiet(world, WWW, orders=number + 1)
            assert check.certificate(world) is world.ca.certificates[-1]


@in_virtual_time
async def test_a_bare_timestamp_is_a_value_like_any_other() -> None:
    """YAML reads an unquoted renew-requested-at as a date; it forces one renewal all the same."""
    async with served(WWW) as world:
        world.nowhere.add(WWW)
        world.ca.restart()  # it forgets the valid authorization

        def request(secret: Manifest) -> None:
            secret["metadata"]["annotations"]["acmeistio.io/renew-requested-at"] = EPOCH

        world.store.edit("Secret", NAMESPACE, SECRET, request)
        await world.sleep(5 * MINUTE)
        check.orders_at_most(world, 3)
        world.nowhere.clear()
        await world.until(lambda: check.certificate(world) is world.ca.certificates[-1])
        await world.sleep(DAY)
        assert len(world.ca.certificates) == 2
        check.nothing_unexpected(world)


@in_virtual_time
async def test_a_renewal_requested_while_one_is_under_way_comes_after_it() -> None:
    """The value that counts as served is the one the order was made for, not the newest."""
    async with World(CaOptions(issuance_delay_seconds=(5, 5), reuses_orders=False)) as world:
        world.apply(ingress("shop", WWW))
        world.start()
        await world.until(lambda: world.ca.requests_for(Resource.FINALIZE))
        world.annotate_secret(renew_requested_at="meanwhile")
        await world.sleep(HOUR)
        check.quiet(world, WWW, orders=2)
        assert _reasons(world) == [IssueReason.NOT_ISSUED_YET, IssueReason.RENEWAL_REQUESTED]


# ── names ─────────────────────────────────────────────────────────────────────────────────────


@in_virtual_time
async def test_a_name_that_fails_costs_one_order_and_blocks_no_other() -> None:
    """It is tried again after 1, 10, 100 minutes, then daily: one order each, none between."""
    async with World() as world:
        world.nowhere.add(BAD)
        world.apply(ingress("shop", WWW, IMG, BAD))
        world.start()
        took = await world.until(lambda: check.is_served(world, WWW, IMG))
        assert took < MINUTE
        await world.sleep(4 * DAY)
        times = _order_times(world, BAD)
        steps = [later - earlier for earlier, later in itertools.pairwise(times)]
        wanted = [timedelta(minutes=n) for n in (1, 10, 100, 1440, 1440, 1440)]
        assert len(steps) == len(wanted)
        for step, least in zip(steps, wanted, strict=True):
            assert least <= step < least + timedelta(minutes=1), steps
        assert len(world.ca.orders) == len(times) + 1
        assert "ValidationFailed" in world.journal.codes
        check.quiet(world, WWW, IMG, orders=len(times) + 1)


@in_virtual_time
async def test_a_name_that_works_again_joins() -> None:
    """A repaired name is served from its next attempt on, and its failures are forgotten.

    Five orders: for both names, for the good one, twice for the bad one alone, which fails and then
    does not, and for both again; one more where they are not given out again.
    """
    async with World() as world:
        world.nowhere.add(BAD)
        world.apply(ingress("shop", WWW, BAD))
        world.start()
        await world.sleep(15 * MINUTE)
        assert check.is_served(world, WWW)
        world.nowhere.clear()
        await world.until(lambda: check.is_served(world, WWW, BAD), within=101 * MINUTE)
        await world.sleep(DAY)
        assert check.ledger(world)["names"] == []
        assert world.journal.current_defects == ()
        check.quiet(world, WWW, BAD, orders=6)


@in_virtual_time
async def test_backoff_outlives_restarts() -> None:
    """A program that crashes every minute tries a failing name no oftener."""
    async with World() as world:
        world.nowhere.add(BAD)
        world.apply(ingress("shop", WWW, BAD))
        world.start()
        for _ in range(120):
            await world.sleep(MINUTE)
            await world.crash()
            world.start()
        await world.sleep(MINUTE)
        assert len(_order_times(world, BAD)) <= 5
        check.orders_at_most(world, 6)
        check.one_account(world)


@in_virtual_time
async def test_a_changed_declaration_is_tried_at_once() -> None:
    """Who takes the failing name out and puts it back does not wait for what was."""
    async with World() as world:
        world.nowhere.add(BAD)
        world.apply(ingress("shop", WWW, BAD))
        world.start()
        await world.sleep(HOUR)
        world.apply(ingress("shop", WWW))
        await world.sleep(MINUTE)
        assert check.ledger(world)["names"] == []
        world.nowhere.clear()
        world.apply(ingress("shop", WWW, BAD))
        await world.until(lambda: check.is_served(world, WWW, BAD), within=10)


@in_virtual_time
async def test_a_name_that_the_ca_refuses_blocks_no_other() -> None:
    """The others get their certificate without the one that is a rejectedIdentifier."""
    async with World() as world:
        world.ca.blocked_names.update({BAD, "also." + BAD})
        world.apply(ingress("shop", WWW, BAD, "also." + BAD))
        world.start()
        await world.until(lambda: check.is_served(world, WWW), within=3 * MINUTE)
        await world.sleep(HOUR)
        check.quiet(world, WWW, orders=1)


@pytest.mark.usefixtures("seldom")
@in_virtual_time
async def test_a_new_name_is_ordered_and_a_removed_one_triggers_nothing() -> None:
    """One order for the new name, none for the one that goes; it leaves with the next renewal."""
    async with served(WWW) as world:
        world.apply(ingress("site", WWW, IMG))
        took = await world.until(lambda: check.is_served(world, WWW, IMG))
        assert took < 5
        assert _reasons(world)[-1] is IssueReason.NAMES_ADDED
        world.apply(ingress("site", WWW))
        await world.sleep(30 * DAY)
        check.quiet(world, WWW, IMG, orders=2)
        await world.sleep(31 * DAY)
        check.quiet(world, WWW, orders=3)


@in_virtual_time
async def test_two_ingresses_with_one_secret_share_one_order() -> None:
    """Applied together, before the start or after it: one order with the names of both."""
    async with World() as world:
        world.apply(ingress("a", WWW), ingress("b", IMG))
        world.start()
        await world.until(lambda: check.is_served(world, WWW, IMG))
        await world.sleep(1)
        world.apply(ingress("c", "c.shop.example", secret="other"))
        await world.sleep(0.1)
        world.apply(ingress("d", "d.shop.example", secret="other"))
        await world.until(
            lambda: check.is_served(world, "c.shop.example", "d.shop.example", secret="other")
        )
        await world.sleep(HOUR)
        check.quiet(world, WWW, IMG, orders=2)


@in_virtual_time
async def test_many_secrets_are_issued_at_once_and_one_account_is_enough() -> None:
    """30 Secrets: one order each, and the account is made once although all want it at once."""
    async with World() as world:
        for number in range(30):
            world.apply(ingress(f"i{number}", f"h{number}.shop.example", secret=f"s{number}"))
        world.start()
        await world.until(lambda: len(world.ca.certificates) == 30)
        await world.sleep(HOUR)
        for number in range(30):
            assert check.is_served(world, f"h{number}.shop.example", secret=f"s{number}")
        check.orders_at_most(world, 30)
        check.one_account(world)
        check.nothing_open(world)
        check.lawful(world)
        check.nothing_unexpected(world)


@pytest.mark.usefixtures("seldom")
@in_virtual_time
async def test_an_orphaned_secret_stays_as_it_is() -> None:
    """A Secret that nobody declares any more is neither renewed nor taken away."""
    async with served(WWW) as world:
        before = world.secret()
        world.store.delete("Ingress", "default", "site")
        await world.sleep(100 * DAY)
        assert world.secret() == before
        check.orders_at_most(world, 1)


@pytest.mark.usefixtures("seldom")
@in_virtual_time
async def test_unknown_is_not_absent() -> None:
    """Ingresses that can't be listed keep declaring what they did; their renewal comes too."""
    async with served(WWW) as world:
        world.store.incomplete.add("Ingress")
        world.store.touch()
        await world.sleep(70 * DAY)
        check.quiet(world, WWW, orders=2)


@pytest.mark.parametrize("kind", ["Ingress", "IngressClass", "Namespace"])
@in_virtual_time
async def test_what_was_unknown_from_the_start_loses_no_name(kind: str) -> None:
    """A restart without the right to list: a certificate that is made meanwhile keeps its names."""
    async with World() as world:
        by_class = ingress("site", WWW)
        del by_class["metadata"]["annotations"]["kubernetes.io/ingress.class"]
        by_class["spec"]["ingressClassName"] = "istio"
        world.apply(by_class, ISTIOS, GATEWAY)
        world.start()
        await world.until(lambda: check.is_served(world, WWW, IMG))
        await world.crash()
        world.store.incomplete.add(kind)
        world.annotate_secret(renew_requested_at="now")
        world.start()
        await world.sleep(MINUTE)
        assert check.is_served(world, WWW, IMG)
        world.store.incomplete.clear()
        world.store.touch()
        await world.until(lambda: check.is_served(world, WWW, IMG) and _has_issued(world, 2))


@in_virtual_time
async def test_without_the_namespaces_nobody_is_read() -> None:
    """They say who may have which domain; nobody gets more while that is unknown."""
    async with World() as world:
        world.store.put(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {
                    "name": "default",
                    "annotations": {"acmeistio.io/allowed-domains": "shop.example"},
                },
            }
        )
        world.apply(ingress("site", WWW), ingress("thief", "bank.example", secret="other"))
        world.store.incomplete.add("Namespace")
        world.start()
        await world.sleep(MINUTE)
        assert world.ca.orders == []
        world.store.incomplete.clear()
        world.store.touch()
        await world.until(lambda: check.is_served(world, WWW))
        await world.sleep(MINUTE)
        assert [order.names for order in world.ca.orders] == [{WWW}]
        assert "NameNotAllowed" in world.journal.codes


# ── Secrets ───────────────────────────────────────────────────────────────────────────────────


def _spoil_key(secret: Manifest) -> None:
    secret["data"]["tls.key"] = secret["data"]["tls.crt"]


def _empty(secret: Manifest) -> None:
    secret["data"] = {}


def _no_base64(secret: Manifest) -> None:
    secret["data"]["tls.crt"] = "%%%"


def _data_is_text(secret: Manifest) -> None:
    secret["data"] = "nonsense"


def _data_is_a_list(secret: Manifest) -> None:
    secret["data"] = ["tls.crt"]


def _values_are_numbers(secret: Manifest) -> None:
    secret["data"] = {"tls.crt": 1, "tls.key": 2}


def _no_data(secret: Manifest) -> None:
    secret["data"] = None


def _annotations_are_none(secret: Manifest) -> None:
    secret["metadata"]["annotations"] = None
    secret["data"] = {}


def _annotations_are_a_list(secret: Manifest) -> None:
    secret["metadata"]["annotations"] = ["acmeistio.io/renewed-for"]
    secret["data"] = {}


SPOILED = (
    _spoil_key,
    _empty,
    _no_base64,
    _data_is_text,
    _data_is_a_list,
    _values_are_numbers,
    _no_data,
    _annotations_are_none,
    _annotations_are_a_list,
)


@pytest.mark.parametrize("spoil", SPOILED)
@in_virtual_time
async def test_a_spoiled_secret_is_put_right_from_memory(spoil: Any) -> None:
    """The same certificate again within seconds, without an order."""
    async with served(WWW) as world:
        before = check.certificate(world)
        await world.sleep(MINUTE)
        world.store.edit("Secret", NAMESPACE, SECRET, spoil)
        await world.until(lambda: check.certificate(world) is before, within=10)
        await world.sleep(HOUR)
        check.quiet(world, WWW, orders=1)


@in_virtual_time
async def test_a_deleted_secret_is_put_right_from_memory() -> None:
    """The same certificate again within seconds, without an order."""
    async with served(WWW) as world:
        before = check.certificate(world)
        await world.sleep(MINUTE)
        world.store.delete("Secret", NAMESPACE, SECRET)
        await world.until(lambda: check.certificate(world) is before, within=10)
        await world.sleep(HOUR)
        check.quiet(world, WWW, orders=1)


@in_virtual_time
async def test_a_gateway_has_time_to_take_up_a_new_secret() -> None:
    """Behind a redirect to HTTPS the CA finds a port that opens with the placeholder.

    For where the gateway itself is not asked.
    """
    async with World(settle_seconds=1.0, probing=Probing.OFF) as world:
        world.apply(ingress("site", WWW))
        world.start()
        await world.until(world.secret, step=0.01)
        took = await world.until(lambda: world.ca.requests_for(Resource.NEW_ORDER), step=0.01)
        assert 0.9 <= took <= 1.1
        await world.until(lambda: check.is_served(world, WWW))
        world.apply(ingress("more", IMG))
        took = await world.until(lambda: world.ca.orders[1:], step=0.01)
        assert took < 0.5, "a Secret that is there is served already"


@in_virtual_time
async def test_a_pair_placed_by_hand_during_an_order_is_kept() -> None:
    """What came of the order is not written over what somebody has put there meanwhile."""
    pair = placeholder((DnsName(WWW),), EPOCH)

    def by_hand(secret: Manifest) -> None:
        secret["data"] = {"tls.crt": encoded(pair.chain_pem), "tls.key": encoded(pair.key_pem)}

    async with World(CaOptions(issuance_delay_seconds=(5, 5))) as world:
        world.apply(ingress("site", WWW))
        world.start()
        await world.until(lambda: world.ca.requests_for(Resource.FINALIZE))
        world.store.edit("Secret", NAMESPACE, SECRET, by_hand)
        await world.sleep(HOUR)
        leaf = check.stored_leaf(world)
        assert leaf
        assert leaf.serial_number == pair.leaf.serial
        check.orders_at_most(world, 1)
        assert {found.code for found in world.journal.current_defects} == {
            "CertificateReplacedByHand"
        }


@pytest.mark.parametrize("spoil", [None, *SPOILED])
@in_virtual_time
async def test_a_lost_secret_is_put_right_by_an_order_after_a_restart(spoil: Any) -> None:
    """Nobody remembers the bundle: one order gets another."""
    async with served(WWW) as world:
        await world.sleep(MINUTE)
        await world.crash()
        if spoil:
            world.store.edit("Secret", NAMESPACE, SECRET, spoil)
        else:
            world.store.delete("Secret", NAMESPACE, SECRET)
        world.start()
        await world.until(lambda: world.ca.certificates[1:] and check.is_served(world, WWW))
        await world.sleep(HOUR)
        check.quiet(world, WWW, orders=2)


@in_virtual_time
async def test_a_foreign_secret_is_never_touched() -> None:
    """A Secret without our label stays as it is, costs no order, and a Defect says so."""
    foreign: Manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": NAMESPACE, "name": SECRET, "labels": {"owner": "somebody"}},
        "type": "kubernetes.io/tls",
        "data": {"tls.crt": "", "tls.key": ""},
    }
    async with World() as world:
        world.apply(foreign, ingress("shop", WWW), ingress("mine", IMG, secret="mine"))
        before = world.secret()
        world.start()
        await world.until(lambda: check.is_served(world, IMG, secret="mine"))
        await world.sleep(DAY)
        assert world.secret() == before
        assert {order.names for order in world.ca.orders} == {frozenset({IMG})}
        assert "SecretNotManaged" in world.journal.codes


@in_virtual_time
async def test_a_secret_that_becomes_foreign_during_an_order_is_not_overwritten() -> None:
    """Who takes the label away in the middle keeps what they put there."""

    def take_over(secret: Manifest) -> None:
        secret["metadata"]["labels"] = {"owner": "somebody"}

    async with World(CaOptions(issuance_delay_seconds=(5, 5))) as world:
        world.apply(ingress("shop", WWW))
        world.start()
        await world.until(lambda: world.ca.requests_for(Resource.FINALIZE))
        world.store.edit("Secret", NAMESPACE, SECRET, take_over)
        before = world.secret()
        await world.sleep(HOUR)
        assert world.secret() == before
        check.orders_at_most(world, 1)
        check.nothing_open(world)


@in_virtual_time
async def test_what_others_put_on_a_secret_stays() -> None:
    """Labels, annotations and keys of others survive a renewal."""

    def add(secret: Manifest) -> None:
        secret["metadata"]["labels"]["team"] = "shop"
        secret["metadata"]["annotations"]["example.org/note"] = "hello"
        secret["data"]["ca.crt"] = "QUFB"

    async with served(WWW) as world:
        world.store.edit("Secret", NAMESPACE, SECRET, add)
        world.annotate_secret(renew_requested_at="now")
        await world.until(lambda: check.certificate(world) is world.ca.certificates[-1])
        await world.until(lambda: len(world.ca.certificates) == 2)
        await world.sleep(MINUTE)
        secret = world.secret()
        assert secret
        assert secret["metadata"]["labels"]["team"] == "shop"
        assert secret["metadata"]["annotations"]["example.org/note"] == "hello"
        assert secret["data"]["ca.crt"] == "QUFB"


@in_virtual_time
async def test_at_rest_nothing_is_written() -> None:
    """A day on which nothing happens costs no write; the CA is asked for its suggestion only."""
    async with served(WWW) as world:
        await world.sleep(MINUTE)
        assert world.process
        writes, requests = list(world.process.objects.writes), len(world.ca.requests)
        await world.sleep(DAY)
        assert world.process.objects.writes == writes
        asked = [request.resource for request in world.ca.requests][requests:]
        assert set(asked) == {Resource.RENEWAL_INFO}


@in_virtual_time
async def test_a_placeholder_is_there_before_the_ca_is_asked() -> None:
    """From the first second on there is a pair to serve, whatever the CA does."""
    async with World(BARE_CA) as world:
        world.ca.outage = True
        world.apply(ingress("shop", WWW))
        world.start()
        await world.until(lambda: check.stored_leaf(world), within=1)
        assert check.certificate(world) is None
