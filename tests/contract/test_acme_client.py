"""acmeistio's ACME client at the CAs: what RFC 8555 and RFC 9773 offer beside a plain order.

Runs on the simulated CA and on real Pebble. Plain orders have their tests in tests/simulation and
tests/pebble.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.x509.oid import NameOID

from acmeistio.accounts import AccountChange, AccountEvent
from acmeistio.acme.account import account_key, deactivate, look_up, register, roll_over
from acmeistio.acme.ari import renewal_info
from acmeistio.acme.order import NamesFailed, Ordering
from acmeistio.acme.revocation import RevocationReason, revoke, revoke_by_key
from acmeistio.acme.session import ProblemResponse, Signer
from acmeistio.acme.transport import AiohttpTransport
from acmeistio.errors import KeyMissing, Permanent
from acmeistio.issuer import ExternalAccount, Issuer
from acmeistio.model import KeyType
from acmeistio.names import DnsName
from acmeistio.pki import generate_key
from acmeistio.stores.accounts import HMAC_KEY, NEXT_KEY
from acmeistio.stores.secrets import encoded
from acmeistio.system import SystemClock
from pebble.local_ca import LocalCa
from tests.contract.ca_subjects import BLOCKED, PROFILE, Subject
from tests.contract.client_bed import (
    EXTERNAL_ID,
    EXTERNAL_KEY,
    ISSUER,
    NAMESPACE,
    AccountBed,
    Client,
    ServingSolver,
    der,
    leaf_of,
    new_key,
    session_at,
    special_pebble,
    transport_to,
)
from tests.contract.raw_acme import renewal_id

pytestmark = pytest.mark.asyncio(loop_scope="module")
pytest_plugins = ("tests.contract.ca_fixtures",)


@pytest_asyncio.fixture(loop_scope="module")
async def mine(ca: Subject) -> Client:
    """A client with an account of its own."""
    return await Client.at(ca)


async def found_again(client: Client, *names: str, **members: str | None) -> x509.Certificate:
    """A certificate whose serial number Pebble 2.10.1 finds again (see test_ca_renewal_info)."""
    leaf = await client.issued(PROFILE, *names, **members)  # type: ignore[arg-type]
    if leaf.serial_number.bit_length() % 8 == 0:
        return await found_again(client, *names, **members)
    return leaf


# ── orders ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_profile_is_ordered(mine: Client, names: Iterator[str]) -> None:
    """The order has it, and the CA's meta lists it (draft-ietf-acme-profiles §3, §4)."""
    assert PROFILE in (await mine.session.meta()).profiles
    order = await mine.ordering.create([DnsName(next(names))], PROFILE)
    assert order.body.profile == PROFILE


async def test_an_unknown_profile_is_refused(mine: Client, names: Iterator[str]) -> None:
    """It is no failure of the names."""
    with pytest.raises(ProblemResponse):
        await mine.ordering.create([DnsName(next(names))], "no-such-profile")


async def test_names_are_proved_without_a_certificate(mine: Client, names: Iterator[str]) -> None:
    """The order is ready, and none of the CA's certificates is spent (Ordering.authorize)."""
    order = await mine.ordering.create([DnsName(next(names)), DnsName(next(names))], PROFILE)
    ready = await mine.ordering.authorize(order)
    assert ready.status == "ready"
    assert (await mine.ordering.fetch(order.url)).status == "ready"
    assert (await mine.ordering.authorize(ready)) is ready
    assert not mine.solver.served


async def test_a_name_that_is_not_proved(ca: Subject, mine: Client, names: Iterator[str]) -> None:
    """Its problem has the CA's type, and the others are named not (RFC 8555 §6.7)."""
    good, bad = DnsName(next(names)), DnsName(next(names))

    class Mute(ServingSolver):
        async def present(self, responses: object) -> None:
            await super().present([each for each in responses if each.name == good])  # type: ignore[attr-defined]

        async def clean_up(self, responses: object) -> None:
            """Nothing."""

    ordering = Ordering(mine.session, mine.signer, Mute(ca.served), SystemClock())
    with pytest.raises(NamesFailed) as caught:
        await ordering.authorize(await ordering.create([good, bad], PROFILE))
    (failure,) = caught.value.failures
    assert failure.name == bad
    assert failure.problem.type == "unauthorized"


async def test_names_that_the_ca_refuses(mine: Client, names: Iterator[str]) -> None:
    """The answer to newOrder says which (RFC 8555 §6.7.1); with `replaces` too, and once only."""
    wanted = [DnsName(next(names)), DnsName(f"www.{BLOCKED}")]
    for replaces in (None, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"):
        with pytest.raises((NamesFailed, ProblemResponse)) as caught:
            await mine.ordering.create(wanted, PROFILE, replaces)
        if isinstance(caught.value, NamesFailed):
            assert [each.name for each in caught.value.failures] == [f"www.{BLOCKED}"]


async def test_an_address_gets_a_certificate(mine: Client) -> None:
    """By http-01, as an iPAddress (RFC 8738 §3, §4)."""
    leaf = await mine.issued(PROFILE, "127.0.0.1")
    san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(each) for each in san.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert not san.get_values_for_type(x509.DNSName)


# ── renewal information (RFC 9773) ────────────────────────────────────────────────────────────────


async def test_renewal_information(ca: Subject, mine: Client, names: Iterator[str]) -> None:
    """Window, explanation and when to ask again, as the CA has them (§4.2)."""
    leaf = await found_again(mine, next(names))
    info = await renewal_info(mine.session, renewal_id(leaf))
    assert leaf.not_valid_before_utc < info.start < info.end < leaf.not_valid_after_utc
    assert info.explanation_url is None
    assert 0.8 * 21_600 <= info.retry_after_seconds <= 1.2 * 21_600
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
    ca.suggest(leaf, start, start + timedelta(hours=1), "https://ca.example/incident")
    info = await renewal_info(mine.session, renewal_id(leaf))
    assert (info.start, info.end) == (start, start + timedelta(hours=1))
    assert info.explanation_url == "https://ca.example/incident"


async def test_no_renewal_information(ca: Subject) -> None:
    """Of a certificate that the CA doesn't know: Permanent (§4.3.3)."""
    with pytest.raises(Permanent):
        await renewal_info(session_at(ca), "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE")


async def test_an_order_replaces(mine: Client, names: Iterator[str]) -> None:
    """The CA confirms it, and refuses to have it done twice: then it is ordered without (§5)."""
    name = next(names)
    old = renewal_id(await found_again(mine, name))
    order = await mine.ordering.create([DnsName(name)], PROFILE, old)
    assert order.replaces == old
    await mine.finished(order)
    again = await mine.ordering.create([DnsName(name)], PROFILE, old)
    assert again.replaces is None
    assert again.url != order.url


async def test_what_can_not_be_replaced(mine: Client, names: Iterator[str]) -> None:
    """Unknown, of other names, of another account: the order is made without it (§5)."""
    name = DnsName(next(names))
    others = renewal_id(await found_again(mine, next(names)))
    for replaces in ("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE", others, "absurd"):
        order = await mine.ordering.create([name], PROFILE, replaces)
        assert order.replaces is None
        assert order.names == (name,)


# ── accounts (RFC 8555 §7.3) ──────────────────────────────────────────────────────────────────────


async def test_an_account_is_looked_up(mine: Client) -> None:
    """By its key; none is made (§7.3.1)."""
    assert await look_up(mine.session, mine.signer.key) == mine.signer
    assert await look_up(mine.session, new_key()) is None


async def test_a_known_key_is_registered_again(mine: Client) -> None:
    """It is the same account (§7.3.1)."""
    assert await register(mine.session, mine.signer.key, None) == mine.signer


async def test_a_new_key_orders(mine: Client, names: Iterator[str]) -> None:
    """After the rollover the account is the new key's, and the old one has none (§7.3.5)."""
    old, mine.signer = mine.signer, await roll_over(mine.session, mine.signer, new_key())
    assert mine.signer.account_url == old.account_url
    assert await look_up(mine.session, old.key) is None
    assert await look_up(mine.session, mine.signer.key) == mine.signer
    await mine.issued(PROFILE, next(names))


# Pebble takes it (Habits.takes_key_of_another_account; test_ca_accounts has what comes of that).
@pytest.mark.parametrize("ca", ["simulated"], indirect=True)
async def test_a_key_of_another_account_is_refused(ca: Subject, mine: Client) -> None:
    """409, and nothing has changed (§7.3.5)."""
    other = await Client.at(ca)
    with pytest.raises(ProblemResponse):
        await roll_over(mine.session, mine.signer, other.signer.key)
    assert await look_up(mine.session, mine.signer.key) == mine.signer


async def test_a_deactivated_account_orders_nothing(mine: Client, names: Iterator[str]) -> None:
    """For ever (§7.3.6)."""
    await deactivate(mine.session, mine.signer)
    with pytest.raises(ProblemResponse) as caught:
        await mine.ordering.create([DnsName(next(names))], PROFILE)
    assert caught.value.problem.type == "unauthorized"


# ── revocation (RFC 8555 §7.6) ────────────────────────────────────────────────────────────────────


async def test_revoked_by_its_account(mine: Client, names: Iterator[str]) -> None:
    """And once more, which is done already."""
    leaf = await mine.issued(PROFILE, next(names))
    for _ in range(2):
        await revoke(mine.session, der(leaf), RevocationReason.superseded, mine.signer)


async def test_revoked_by_its_key(ca: Subject, mine: Client, names: Iterator[str]) -> None:
    """Whoever has the key may, without an account."""
    key_pem = generate_key(KeyType.ECDSA_P256)
    leaf = await mine.issued(PROFILE, next(names), key_pem=key_pem)
    session = session_at(ca)
    reason = RevocationReason.keyCompromise
    with pytest.raises(ProblemResponse):
        await revoke_by_key(session, der(leaf), reason, new_key())
    await revoke_by_key(session, der(leaf), reason, account_key(key_pem))


async def test_revoked_by_a_stranger(ca: Subject, mine: Client, names: Iterator[str]) -> None:
    """Another account may not."""
    leaf = await mine.issued(PROFILE, next(names))
    stranger = await Client.at(ca)
    with pytest.raises(ProblemResponse) as caught:
        await revoke(mine.session, der(leaf), RevocationReason.unspecified, stranger.signer)
    assert caught.value.problem.type == "unauthorized"


# ── accounts in the store ─────────────────────────────────────────────────────────────────────────


@pytest.fixture
def bed(ca: Subject) -> AccountBed:
    """Accounts at the CA, none yet."""
    return AccountBed(ca.http, Issuer(ISSUER, ca.directory_url))


async def test_nothing_is_asked_for(bed: AccountBed) -> None:
    """The CA isn't asked, however often one looks; the account lives on."""
    accounts = bed.live()
    assert await accounts.tend(bed.issuer, bed.term) == ()
    signer = await accounts.signer(bed.issuer, bed.term)
    bed.wire.log.clear()
    assert await accounts.tend(bed.issuer, bed.term) == ()
    assert all(call.startswith("get Secret") for call in bed.wire.log)
    assert await accounts.signer(bed.issuer, bed.term) is signer


async def test_a_rollover_that_is_asked_for(bed: AccountBed) -> None:
    """By any other value of the annotation, once for each."""
    accounts = bed.live()
    first = await accounts.signer(bed.issuer, bed.term)
    done = (AccountEvent(ISSUER, AccountChange.ROLLED_OVER, first.account_url or ""),)
    for value in ("2030-01-01", "again"):
        bed.annotate(rollover_requested_at=value)
        before = await accounts.signer(bed.issuer, bed.term)
        assert await accounts.tend(bed.issuer, bed.term) == done
        assert await accounts.tend(bed.issuer, bed.term) == ()
        assert bed.note("rolled-over-for") == value
        after = await accounts.signer(bed.issuer, bed.term)
        assert (after.account_url, after.key == before.key) == (first.account_url, False)
        assert await look_up(bed.session, after.key) == after
    assert NEXT_KEY not in bed.secret["data"]


@pytest.mark.parametrize("after", [False, True], ids=["never-happened", "answer-lost"])
async def test_a_crash_at_any_call_of_a_rollover_is_resumed(ca: Subject, after: bool) -> None:
    """The account is never lost, nor a second one made: its next key is stored before it is told.

    Dying at call k, for every k: the next life has the account, and ends with the new key.
    """
    issuer = Issuer(ISSUER, ca.directory_url)
    k, died = 0, True
    while died:
        k += 1
        bed = AccountBed(ca.http, issuer)
        url = (await bed.live().signer(issuer, bed.term)).account_url
        bed.annotate(rollover_requested_at="now")
        died = await _rolls_over_and_dies(bed, k, after)
        accounts = bed.live()
        opened = await accounts.signer(issuer, bed.term)
        assert await look_up(bed.session, opened.key) == opened
        await accounts.tend(issuer, bed.term)
        final = await accounts.signer(issuer, bed.term)
        assert final.account_url == opened.account_url == url
        assert await look_up(bed.session, final.key) == final
        assert bed.note("rolled-over-for") == "now"
        assert NEXT_KEY not in bed.secret["data"]
    assert k > 8, "a rollover has more calls than that"


async def _rolls_over_and_dies(bed: AccountBed, k: int, after: bool) -> bool:
    accounts = bed.live(cut_at=k, after=after)

    async def life() -> None:
        await accounts.signer(bed.issuer, bed.term)
        await accounts.tend(bed.issuer, bed.term)

    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.ensure_future(life())
    return bed.wire.dead


async def test_a_lost_answer_is_no_second_rollover(bed: AccountBed) -> None:
    """A request that was carried out, whose key is in the store, is only written down."""
    first = await bed.live().signer(bed.issuer, bed.term)
    bed.annotate(rollover_requested_at="now")
    following = generate_key(KeyType.ECDSA_P256)
    await roll_over(bed.session, first, account_key(following))
    bed.store.edit(
        "Secret",
        NAMESPACE,
        bed.secret["metadata"]["name"],
        lambda secret: secret["data"].update({NEXT_KEY: encoded(following)}),
    )
    accounts = bed.live()
    (event,) = await accounts.tend(bed.issuer, bed.term)
    assert event.change is AccountChange.ROLLED_OVER
    signer = await accounts.signer(bed.issuer, bed.term)
    assert signer == Signer(account_key(following), first.account_url)


async def test_a_deactivation_that_is_asked_for(bed: AccountBed) -> None:
    """Once; then nothing is ordered, and the CA isn't asked, until the Secret is deleted."""
    accounts = bed.live()
    first = await accounts.signer(bed.issuer, bed.term)
    bed.annotate(deactivate_requested="true")
    done = (AccountEvent(ISSUER, AccountChange.DEACTIVATED, first.account_url or ""),)
    assert await accounts.tend(bed.issuer, bed.term) == done
    assert await accounts.tend(bed.issuer, bed.term) == ()
    assert bed.note("deactivated-at")
    for living in (accounts, bed.live()):
        bed.wire.log.clear()
        with pytest.raises(Permanent, match="is deactivated; delete Secret") as caught:
            await living.signer(bed.issuer, bed.term)
        assert caught.value.problem_type == "unauthorized"
        assert all(call.startswith("get Secret") for call in bed.wire.log)
    bed.store.delete("Secret", NAMESPACE, bed.secret["metadata"]["name"])
    assert (await accounts.signer(bed.issuer, bed.term)).account_url != first.account_url


@pytest.mark.parametrize("after", [False, True], ids=["never-happened", "answer-lost"])
async def test_a_crash_at_any_call_of_a_deactivation_is_resumed(ca: Subject, after: bool) -> None:
    """Whatever the CA has heard, the account ends, and that is written down."""
    issuer = Issuer(ISSUER, ca.directory_url)
    k, died = 0, True
    while died:
        k += 1
        bed = AccountBed(ca.http, issuer)
        await bed.live().signer(issuer, bed.term)
        bed.annotate(deactivate_requested="true")
        died = await _rolls_over_and_dies(bed, k, after)
        await bed.live().tend(issuer, bed.term)
        assert bed.note("deactivated-at")
    assert k > 5, "a deactivation has more calls than that"


async def test_only_true_deactivates(bed: AccountBed) -> None:
    """Values are exact (DESIGN §6)."""
    accounts = bed.live()
    await accounts.signer(bed.issuer, bed.term)
    bed.annotate(deactivate_requested="yes")
    assert await accounts.tend(bed.issuer, bed.term) == ()


async def test_what_the_ca_will_not_do_is_said_again_but_not_asked_again(bed: AccountBed) -> None:
    """As long as the same is asked for; the account works on with its old key."""
    accounts = bed.live()
    signer = await accounts.signer(bed.issuer, bed.term)
    directory = dict((await bed.session.directory()).to_partial_json())
    directory.pop("keyChange", None)
    bed.session._known = (type(await bed.session.directory())(directory), await bed.session.meta())
    bed.annotate(rollover_requested_at="now")
    for _ in range(3):
        bed.wire.log.clear()
        with pytest.raises(Permanent, match="the CA offers no keyChange"):
            await accounts.tend(bed.issuer, bed.term)
        assert await accounts.signer(bed.issuer, bed.term) == signer
    assert not any(call.startswith(("POST", "HEAD")) for call in bed.wire.log)
    bed.annotate(rollover_requested_at="once more")
    bed.wire.log.clear()
    with pytest.raises(Permanent):
        await accounts.tend(bed.issuer, bed.term)
    assert len(bed.wire.log) > 1, "another request is tried at once"


# ── what only Pebble has: external accounts (§7.3.4) and several chains (§7.4.2) ──────────────────


@pytest.fixture(scope="module")
def special() -> Iterator[LocalCa]:
    """A Pebble that wants external accounts and offers several chains."""
    with special_pebble() as ca:
        yield ca


@pytest_asyncio.fixture(loop_scope="module")
async def http(special: LocalCa) -> AsyncIterator[AiohttpTransport]:
    """The way to it."""
    async with transport_to(special) as transport:
        yield transport


@pytest.fixture
def bound(special: LocalCa, http: AiohttpTransport) -> AccountBed:
    """Accounts at it, with the key of the external account in its Secret."""
    external = ExternalAccount(EXTERNAL_ID, "customer")
    bed = AccountBed(http, Issuer(ISSUER, special.directory_url, external_account=external))
    put_external_key(bed, EXTERNAL_KEY)
    return bed


def put_external_key(bed: AccountBed, text: str, item: str = HMAC_KEY) -> None:
    """What an administrator puts beside acmeistio's own Secrets."""
    bed.store.put(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"namespace": NAMESPACE, "name": "customer"},
            "data": {item: encoded(text.encode())},
        }
    )


@pytest.mark.pebble
@pytest.mark.parametrize("ending", ["", "=", "\n"])
async def test_an_external_account_is_bound(bound: AccountBed, ending: str) -> None:
    """With padding or a line's end too, which tools like to add."""
    put_external_key(bound, EXTERNAL_KEY + ending)
    signer = await bound.live().signer(bound.issuer, bound.term)
    assert (await bound.session.meta()).external_account_required
    assert await look_up(bound.session, signer.key) == signer


@pytest.mark.pebble
async def test_an_account_that_exists_needs_no_external_one(bound: AccountBed) -> None:
    """Its key is known; the other's credentials may be used up (facts/acme.md §4)."""
    first = await bound.live().signer(bound.issuer, bound.term)
    await bound.live().renounce(bound.issuer, first, bound.term)
    bound.store.edit(
        "Secret",
        NAMESPACE,
        bound.secret["metadata"]["name"],
        lambda secret: secret["metadata"]["annotations"].pop("acmeistio.io/account-url"),
    )
    bound.store.delete("Secret", NAMESPACE, "customer")
    assert await bound.live().signer(bound.issuer, bound.term) == first


@pytest.mark.pebble
async def test_no_external_account_is_configured(bound: AccountBed) -> None:
    """One clear sentence, and the CA isn't asked to make an account."""
    bound.issuer = replace(bound.issuer, external_account=None)
    with pytest.raises(Permanent, match="externalAccount") as caught:
        await bound.live().signer(bound.issuer, bound.term)
    assert caught.value.problem_type == "externalAccountRequired"
    assert not any(call.startswith("POST") for call in bound.wire.log)


@pytest.mark.pebble
@pytest.mark.parametrize(
    ("item", "text", "why"),
    [
        ("hmac", EXTERNAL_KEY, "hmac-key is missing"),
        (HMAC_KEY, "", "hmac-key is missing"),
        (HMAC_KEY, "not base64url!", "hmac-key is not base64url"),
    ],
)
async def test_no_key_of_the_external_account(
    bound: AccountBed, item: str, text: str, why: str
) -> None:
    """The sentence names the Secret and what it lacks."""
    put_external_key(bound, text, item)
    with pytest.raises(KeyMissing, match=rf"Secret {NAMESPACE}/customer .*{why}"):
        await bound.live().signer(bound.issuer, bound.term)


@pytest.mark.pebble
async def test_no_secret_of_the_external_account(bound: AccountBed) -> None:
    """As if it held nothing."""
    bound.store.delete("Secret", NAMESPACE, "customer")
    with pytest.raises(KeyMissing, match=f"Secret {NAMESPACE}/customer"):
        await bound.live().signer(bound.issuer, bound.term)


@pytest.mark.pebble
async def test_a_wrong_key_of_the_external_account(bound: AccountBed) -> None:
    """The CA's own words are passed on."""
    put_external_key(bound, "AAAA")
    with pytest.raises(ProblemResponse):
        await bound.live().signer(bound.issuer, bound.term)


@pytest.mark.pebble
async def test_the_chain_that_is_preferred(special: LocalCa, bound: AccountBed) -> None:
    """By the common name that issued its topmost certificate, else the default (§7.4.2)."""
    signer = await bound.live().signer(bound.issuer, bound.term)
    client = Client(bound.session, signer, ServingSolver({}))
    roots = [x509.load_pem_x509_certificate(special.root_pem(number)) for number in range(3)]
    names = [root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value for root in roots]
    order = await client.ordering.create([DnsName("www.example.com")], "default")
    tops, leaves = [], []
    for wanted in (None, *names, "No Such Root"):
        chain = await client.finished(order, preferred=wanted)  # type: ignore[arg-type]
        assert chain.is_preferred is (wanted != "No Such Root")
        certificates = x509.load_pem_x509_certificates(chain.pem)
        tops.append(certificates[-1].issuer)
        leaves.append(leaf_of(chain))
        order = await client.ordering.fetch(order.url)
    default = roots[0].subject
    assert tops == [default, *(root.subject for root in roots), default]
    assert len(set(leaves)) == 1
