"""The simulated CA for years: cheap certificates that are certificates, and nothing that grows."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address
from random import Random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from josepy.json_util import decode_b64jose
from josepy.jwk import JWKEC

from acmeistio import controller
from acmeistio.acme.signing import sign_jws
from tests.contract.ca_scene import DAY_SECONDS, NAME, START, Scene
from tests.contract.raw_acme import certificate_key, csr, forged_csr
from tests.contract.raw_flow import ready_order
from tests.simulated.ca import LETS_ENCRYPT_LIMITS, CaOptions, Resource, Rule
from tests.simulated.ca.authority import Authority
from tests.simulated.ca.csrs import Csr, spki_of
from tests.simulated.ca.nonces import Nonces
from tests.simulated.signing import unsigned_jws
from tests.simulated.virtual_time import run
from tests.simulation import check
from tests.simulation.world import DAY, HOUR, World, ingress

pytestmark = pytest.mark.looptime

CHEAP = CaOptions(cheap=True, remember=timedelta(days=7), remote_perspectives=0)


# ── cheap certificates ────────────────────────────────────────────────────────────────────────────


async def test_cheap_certificate_is_like_any_other() -> None:
    """Names, key, dates, issuer and extensions, but for the key's own identifier; it verifies."""
    names = (NAME, "*.example.org", "192.0.2.7", "2001:db8::1")
    key, leaves = certificate_key(), []
    for cheap in (False, True):
        scene = Scene(CaOptions(cheap=cheap))
        wish = Csr(frozenset(names), key.public_key(), spki_of(key.public_key()))
        client = await scene.client()
        order = (await client.new_order(NAME), scene.ca.orders[-1])[1]
        order.names = wish.names
        issued = scene.ca.authority.issue(order, wish, START, timedelta(days=90), cheap=cheap)
        issued.leaf.verify_directly_issued_by(scene.ca.authority.intermediate)
        assert issued.chain.count(b"BEGIN CERTIFICATE") == 2
        leaves.append(issued.leaf)
    honest, cheap_one = leaves
    assert cheap_one.public_key() == honest.public_key() == key.public_key()
    assert cheap_one.issuer == honest.issuer
    assert cheap_one.not_valid_before_utc == honest.not_valid_before_utc
    assert cheap_one.not_valid_after_utc == honest.not_valid_after_utc
    own = x509.SubjectKeyIdentifier.oid
    assert list(cheap_one.extensions) == [each for each in honest.extensions if each.oid != own]
    san = cheap_one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(san.get_values_for_type(x509.DNSName)) == set(names[:2])
    assert set(san.get_values_for_type(x509.IPAddress)) == set(map(ip_address, names[2:]))


@pytest.mark.looptime(False)
@pytest.mark.parametrize("kind", ["p384", "rsa", "many names", "after 2050"])
def test_cheap_certificates_of_all_kinds(kind: str) -> None:
    """Every key that CAs take, lengths of more than a byte, dates of the other form."""
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey = certificate_key().public_key()
    if kind == "p384":
        key = ec.generate_private_key(ec.SECP384R1()).public_key()
    if kind == "rsa":
        key = rsa.generate_private_key(65537, 2048).public_key()
    names = frozenset(f"n{n}.example.com" for n in range(100 if kind == "many names" else 1))
    start = START.replace(year=2055) if kind == "after 2050" else START
    authority = Authority(_random(), START)
    signer = authority._cheap
    leaf = signer.leaf(names, spki_of(key), 0xDEADBEEF << 100, start, start + timedelta(days=90))
    leaf.verify_directly_issued_by(authority.intermediate)
    assert leaf.public_key() == key
    assert leaf.serial_number == 0xDEADBEEF << 100
    assert leaf.not_valid_before_utc == start
    san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(san.get_values_for_type(x509.DNSName)) == names


async def test_cheap_certificate_by_the_protocol() -> None:
    """From order to certificate, whose chain leads to the root; a client notices nothing."""
    scene = Scene(CHEAP)
    client = await scene.client()
    finalized = await scene.certified(client, NAME)
    chain = (await client.post(finalized.json["certificate"])).response.body
    leaf, intermediate = x509.load_pem_x509_certificates(chain)
    leaf.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(x509.load_pem_x509_certificate(scene.ca.root_pem))
    assert scene.broken() == []


async def test_cheap_ca_believes_signatures() -> None:
    """Of requests and of CSRs; nonces, names and all else are looked at as ever."""
    scene = Scene(CHEAP)
    client = await scene.client()
    order = await ready_order(scene.served, client, "classic", NAME)
    client.key = certificate_key()
    answer = await client.post(order.json["finalize"], forged_csr(certificate_key(), "b.example"))
    assert answer.problem == "unauthorized"
    answer = await client.post(order.json["finalize"], forged_csr(certificate_key(), NAME))
    assert answer.json["status"] == "valid"
    nonce = await client.fresh_nonce()
    await client.post(client.account_url, nonce=nonce)
    assert (await client.post(client.account_url, nonce=nonce)).problem == "badNonce"


@pytest.mark.looptime(False)
@pytest.mark.parametrize("account_url", [None, "https://ca.example/acct/1"])
def test_cheap_request_is_like_any_other(account_url: str | None) -> None:
    """Member for member, and as long; only the signature is none."""
    key = JWKEC(key=certificate_key())
    messages = []
    for sign in (sign_jws, unsigned_jws):
        message = json.loads(sign(b"{}", key, "bm9uY2U", "https://ca.example/new", account_url))
        signature = decode_b64jose(message.pop("signature"))
        message["protected"] = json.loads(decode_b64jose(message["protected"]))
        messages.append((message, len(signature)))
    assert messages[0] == messages[1]


async def test_equal_seeds_make_equal_cheap_certificates() -> None:
    """Byte for byte."""
    request, chains = csr(certificate_key(), NAME), []
    for _ in range(2):
        scene = Scene(CHEAP)
        client = await scene.client()
        order = await ready_order(scene.served, client, "classic", NAME)
        await client.post(order.json["finalize"], request)
        chains.append(scene.ca.certificates[-1].chain)
    assert chains[0] == chains[1]


@pytest.mark.looptime(False)
def test_cheap_world_renews_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program on a cheap CA is served, and breaks no rule of the protocol, for months."""
    monkeypatch.setattr(controller, "LONGEST_SLEEP_SECONDS", 6 * HOUR)

    async def months() -> None:
        async with World(replace(CHEAP, reuses_orders=False)) as world:
            world.apply(ingress("site", NAME))
            world.start()
            await world.until(lambda: check.is_served(world, NAME))
            await world.sleep(130 * DAY)
            assert check.is_served(world, NAME)
            assert world.ca.totals.certificates == 3
            assert world.ca.violations == []
            assert world.journal.failures == []

    run(months())


# ── what is over is forgotten ─────────────────────────────────────────────────────────────────────


async def test_years_take_no_more_room_than_months() -> None:
    """Old records go, totals stay, and nothing is noticed by the client."""
    scene = Scene(replace(CHEAP, limits=LETS_ENCRYPT_LIMITS, renewal_info_retry_after_seconds=1))
    client = await scene.client()
    book = scene.ca._book
    most, old = 0, await scene.certificate(client, NAME)
    for round_ in range(120):
        await _poll_much(scene, client, old.renewal_id)
        await asyncio.sleep(45 * DAY_SECONDS)
        new = await scene.certificate(client, NAME, replaces=old.renewal_id)
        assert new.replacement is None
        assert old.replacement
        old = new
        if round_ == 20:
            most = _size(scene)
    assert _size(scene) <= most
    assert scene.ca.totals.orders == scene.ca.totals.certificates == 121
    assert scene.ca.totals.validations == 121
    assert scene.ca.totals.requests[Resource.NEW_ORDER] == 121
    assert scene.ca.limit_hits == []
    assert scene.broken().count(Rule.WELL_FORMED) == 0
    assert len(book.certificates) <= len(scene.ca.certificates) <= 10


def _size(scene: Scene) -> int:
    book, ca = scene.ca._book, scene.ca
    records = (book.orders, book.authorizations, book.challenges, book.certificates)
    indexes = (book.renewable, book.latest_orders, book.latest_proofs, book.latest_issued)
    return sum(map(len, (*records, *indexes, ca.orders, ca.certificates, ca.validations)))


async def _poll_much(scene: Scene, client: object, name: str) -> None:
    """So many requests that pruning is due."""
    url = f"https://ca.simulated/renewal-info/{name}"
    for _ in range(1000):
        await scene.ca.request("GET", url)


async def test_without_remember_nothing_is_forgotten() -> None:
    """The default, for tests that look at all there was."""
    scene = Scene(CaOptions(remote_perspectives=0))
    client = await scene.client()
    first = await scene.certificate(client, NAME)
    await asyncio.sleep(400 * DAY_SECONDS)
    for _ in range(10_100):
        await scene.ca.request("GET", scene.ca.directory_url)
    assert scene.ca.certificates == [first]
    assert len(scene.ca.orders) == 1


@pytest.mark.looptime(False)
def test_old_nonces_are_forgotten() -> None:
    """65,536 are good at a time, as at Boulder; a forgotten one is a bad one."""
    nonces = Nonces()
    for number in range(70_000):
        nonces.give(str(number))
    assert not nonces.spend("4463")
    assert nonces.spend("4464")
    assert not nonces.spend("4464")
    assert nonces.was_spent("4464")


def _random() -> Random:
    return Random(7)
