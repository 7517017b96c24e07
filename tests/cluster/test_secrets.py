"""A Secret that was deleted, spoilt, or replaced by its users, and what Envoy serves meanwhile.

A client asks for the certificate all the time: once there is one, it always gets one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from acmeistio.model import KeyType
from acmeistio.names import DnsName
from acmeistio.pki import Bundle, generate_key, placeholder
from acmeistio.stores.secrets import encoded
from pebble.program import Program
from pebble.watching import Watch
from tests.cluster.api import Object
from tests.cluster.bed import NAMESPACE, SECRET_NAME, Bed
from tests.cluster.manifests import ingress, renewal, wish
from tests.cluster.seen import names
from tests.cluster.told import note
from tests.cluster.turnstile import AT_FINALIZATION, Turnstile

HOST = "www.mydomain.com"
RESTORED_SECONDS = 3.0
MANAGED = "app.kubernetes.io/managed-by"


def _serving(bed: Bed, **settings: str | Path) -> Program:
    """Acmeistio, once a certificate is served for an Ingress."""
    bed.service("shop", "www")
    program = bed.start_acmeistio(**settings)
    bed.apply(ingress("shop", "www", HOST, service="www"))
    bed.wait_for(lambda: HOST in names(bed, HOST), f"{HOST} is served")
    return program


def _served(bed: Bed) -> str:
    """The serial number of the certificate that Envoy serves, as acmeistio's log writes it."""
    return f"{bed.gateway.certificate(HOST).serial_number:x}"


def _watch(bed: Bed) -> Watch:
    return Watch(lambda: _served(bed))


def _secret(bed: Bed) -> Object:
    return bed.api.get("Secret", NAMESPACE, SECRET_NAME)


def _change(bed: Bed, **parts: Object) -> None:
    """Change parts of the Secret as its users do; all else stays as it is."""
    bed.api.patch("Secret", NAMESPACE, SECRET_NAME, parts)


def _delete(bed: Bed) -> None:
    bed.api.delete("Secret", NAMESPACE, SECRET_NAME)


def _empty(bed: Bed) -> None:
    """The API server takes nothing less from a Secret of this type."""
    _change(bed, data={"tls.crt": "", "tls.key": ""})


def _swap_key(bed: Bed) -> None:
    _change(bed, data={"tls.key": encoded(generate_key(KeyType.ECDSA_P256))})


def _pair_of_their_own() -> Bundle:
    return placeholder([DnsName(HOST)], datetime.now(UTC))


def _data(pair: Bundle) -> dict[str, str]:
    return {"tls.crt": encoded(pair.chain_pem), "tls.key": encoded(pair.key_pem)}


def _renew(bed: Bed) -> None:
    """Ask for a renewal; returns when it is served. Nothing that was to come before it comes."""
    before = _served(bed)
    _change(bed, **renewal())
    bed.wait_for(lambda: _served(bed) != before, "another certificate is served")
    bed.wait_for(lambda: HOST in names(bed, HOST), "it is one of the CA's")


DAMAGES: dict[str, Callable[[Bed], None]] = {
    "deleted": _delete,
    "emptied": _empty,
    "key swapped": _swap_key,
}


def test_damage_is_put_right_from_memory(clean_bed: Bed, report: Callable[[str], None]) -> None:
    """Within seconds and without an order; what is served stays the same certificate."""
    bed = clean_bed
    orders = bed.ca.count("orders")
    _serving(bed)
    whole = _secret(bed)["data"]
    with _watch(bed) as client:
        for name, damage in DAMAGES.items():
            begin = time.monotonic()
            damage(bed)
            bed.wait_for(lambda: _holds(bed, whole), f"it is restored when {name}")
            seconds = time.monotonic() - begin
            report(f"Secret {name}: restored after {seconds:.2f} s")
            assert seconds < RESTORED_SECONDS
        first = _served(bed)
        _renew(bed)
    assert client.failures == []
    assert client.seen == [first, _served(bed)]
    assert bed.ca.count("orders") - orders == 2, "one at first, one for the renewal"


def _holds(bed: Bed, data: Object) -> bool:
    secret = bed.api.find("Secret", NAMESPACE, SECRET_NAME)
    return secret is not None and secret["data"] == data


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_while_acmeistio_is_away_costs_one_order(
    clean_bed: Bed, tmp_path: Path, name: str
) -> None:
    """Who does not remember the certificate orders another one, once, by the same account.

    Until the CA has issued it a spoilt Secret leaves Envoy with what it had. In place of a deleted
    one there is a placeholder, which gateways that start need, and which Envoy serves as well.
    """
    bed = clean_bed
    orders, accounts = bed.ca.count("orders"), bed.ca.count("accounts")
    with Turnstile(bed.ca, AT_FINALIZATION, tmp_path) as turnstile:
        turnstile.open()
        _serving(bed, **turnstile.settings)
        with _watch(bed) as client:
            first = _served(bed)
            bed.stop_acmeistio()
            DAMAGES[name](bed)
            turnstile.close()
            bed.start_acmeistio(**turnstile.settings)
            turnstile.wait_for_arrival()
            if name == "deleted":
                bed.wait_for(lambda: _served(bed) != first, "the placeholder is served")
            meanwhile = _served(bed)
            turnstile.open()
            bed.wait_for(lambda: _served(bed) not in (first, meanwhile), "another is served")
            second = _served(bed)
            _renew(bed)
    assert client.failures == []
    assert client.seen == [*dict.fromkeys((first, meanwhile, second, _served(bed)))]
    assert len(client.seen) == (4 if name == "deleted" else 3)
    assert bed.ca.count("orders") - orders == 3, "one at first, one now, one for the renewal"
    assert bed.ca.count("accounts") - accounts == 1


def test_a_pair_placed_by_hand_is_kept(clean_bed: Bed) -> None:
    """It is served and told, and replaced no sooner than somebody asks for it, or it is due."""
    bed = clean_bed
    orders = bed.ca.count("orders")
    program = _serving(bed)
    first, theirs = _served(bed), _pair_of_their_own()
    with _watch(bed) as client:
        _change(bed, data=_data(theirs))
        told = note(bed, "shop", "www", "CertificateReplacedByHand")
        assert f"Secret {NAMESPACE}/{SECRET_NAME}: the Secret holds a valid certificate" in told
        assert "renew-requested-at" in told
        assert _reasons(program) == ["CertificateReplacedByHand"]
        bed.wait_for(lambda: _served(bed) == f"{theirs.leaf.serial:x}", "theirs is served")
        assert _holds(bed, _data(theirs))
        _renew(bed)
    assert client.failures == []
    assert client.seen == [first, f"{theirs.leaf.serial:x}", _served(bed)]
    assert bed.ca.count("orders") - orders == 2, "one at first, one for the renewal"


def _reasons(program: Program) -> list[str]:
    """Of the Defects that its log tells of."""
    return [event["reason"] for event in program.events("defect")]


def test_a_secret_of_somebody_else_is_not_touched(clean_bed: Bed) -> None:
    """Whatever becomes of it, until it is handed over by the label; then its pair is kept, too."""
    bed = clean_bed
    orders = bed.ca.count("orders")
    theirs, others = _pair_of_their_own(), _pair_of_their_own()
    bed.service("shop", "www")
    metadata = {"namespace": NAMESPACE, "name": SECRET_NAME}
    foreign = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls"}
    bed.api.create({**foreign, "metadata": metadata, "data": _data(theirs)})
    bed.start_acmeistio()
    bed.apply(ingress("shop", "www", HOST, service="www"))
    assert "not acmeistio's, so it is not touched" in note(bed, "shop", "www", "SecretNotManaged")
    for number, data in enumerate(({"tls.crt": "", "tls.key": ""}, _data(others))):
        _change(bed, data=data)
        version = _secret(bed)["metadata"]["resourceVersion"]
        # By the time that it has looked at this, it has looked at the Secret.
        bed.apply(wish("shop", f"wish-{number}", "*.mydomain.com"))
        note(bed, "shop", f"wish-{number}", "WildcardNeedsDNS01")
        assert _secret(bed)["metadata"]["resourceVersion"] == version
    _change(bed, metadata={"labels": {MANAGED: "acmeistio"}})
    note(bed, "shop", "www", "CertificateReplacedByHand")
    assert _holds(bed, _data(others))
    assert bed.ca.count("orders") == orders
