"""acme/order.py and its parts: what CAs say of orders and names, against answers made up for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from acme import messages
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from acmeistio.acme.account import account_key
from acmeistio.acme.authorization import failures_in, identifier_of, name_of
from acmeistio.acme.chain import MAX_ALTERNATES, download
from acmeistio.acme.order import NamesFailed, OrderGone, Ordering, OrderState
from acmeistio.acme.problem import Problem, parse_problem
from acmeistio.acme.session import ProblemResponse, RateLimited, Session, Signer
from acmeistio.acme.solver import ChallengeResponse
from acmeistio.errors import Permanent, Transient
from acmeistio.model import KeyType
from acmeistio.names import DnsName
from acmeistio.pki import generate_key
from acmeistio.ports import HttpResponse
from tests.core.fake_ca import DIRECTORY_URL, URN, FakeClock, FakeHttp, answer, refusal
from tests.core.sent import payload_of

SIGNER = Signer(account_key(generate_key(KeyType.ECDSA_P256)), "https://ca.example/account/1")
WWW, IMG = DnsName("www.example.com"), DnsName("img.example.com")
ORDER_URL, CERTIFICATE_URL = "https://ca.example/order/1", "https://ca.example/certificate/1"
REPLACED = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"


class NoSolver:
    """A Solver whose challenges are always answerable."""

    challenge_types = frozenset({"http-01"})

    async def present(self, responses: Sequence[ChallengeResponse]) -> None:
        """See Solver.present."""

    async def fetched(self, responses: Sequence[ChallengeResponse]) -> None:
        """See Solver.fetched."""

    async def fetched_again(self, responses: Sequence[ChallengeResponse]) -> None:
        """See Solver.fetched_again."""

    async def clean_up(self, responses: Sequence[ChallengeResponse]) -> None:
        """See Solver.clean_up."""


def order(status: str = "pending", http_status: int = 201, **members: Any) -> HttpResponse:
    """An order for WWW and IMG."""
    document = {
        "status": status,
        "identifiers": [{"type": "dns", "value": name} for name in (WWW, IMG)],
        "authorizations": [],
        "finalize": "https://ca.example/finalize/1",
        **members,
    }
    return answer(document, http_status, location=ORDER_URL)


def ordering(*answers: HttpResponse | Exception) -> tuple[Ordering, FakeHttp]:
    """Orders at a CA that gives these answers."""
    clock, http = FakeClock(), FakeHttp(*answers)
    return Ordering(Session(http, clock, DIRECTORY_URL), SIGNER, NoSolver(), clock), http


async def created(
    *answers: HttpResponse | Exception, replaces: str | None = REPLACED
) -> tuple[OrderState, list[Any]]:
    """The order, and what was sent for it."""
    orders, http = ordering(*answers)
    made = await orders.create([WWW, IMG], "classic", replaces)
    return made, [payload_of(body) for body in http.bodies]


# ── newOrder (RFC 8555 §7.4, RFC 9773 §5) ─────────────────────────────────────────────────────────


async def test_what_is_ordered() -> None:
    """Identifiers, profile, and what is replaced; the CA's confirmation is kept."""
    made, (sent,) = await created(order(replaces=REPLACED))
    assert sent == {
        "identifiers": [{"type": "dns", "value": WWW}, {"type": "dns", "value": IMG}],
        "profile": "classic",
        "replaces": REPLACED,
    }
    assert (made.url, made.status, made.replaces) == (ORDER_URL, "pending", REPLACED)
    assert made.names == (WWW, IMG)


async def test_nothing_is_replaced_without_being_asked() -> None:
    """No member `replaces` where there is none."""
    made, (sent,) = await created(order(), replaces=None)
    assert "replaces" not in sent
    assert made.replaces is None


@pytest.mark.parametrize(
    "refused",
    [
        refusal("alreadyReplaced", 409),
        refusal("conflict", 409),
        refusal("malformed", 404),
        refusal("unauthorized", 403),
        refusal("malformed", 400),
        answer({}, 400),
        refusal("serverInternal", 500),
    ],
)
async def test_what_the_ca_will_not_replace_is_ordered_all_the_same(refused: HttpResponse) -> None:
    """On any of Boulder's refusals, and on Pebble's, without `replaces` (facts/acme.md §2.1)."""
    made, (first, second) = await created(refused, order())
    assert first.pop("replaces") == REPLACED
    assert first == second
    assert made.replaces is None


async def test_the_second_refusal_counts() -> None:
    """It was not `replaces` then."""
    with pytest.raises(ProblemResponse, match="too long"):
        await created(refusal("malformed"), refusal("malformed", detail="too long"))


@pytest.mark.parametrize(
    ("refused", "kind"),
    [
        (refusal("rateLimited", 429, retry_after="60"), RateLimited),
        (refusal("rateLimited", 429), ProblemResponse),
        (refusal("invalidProfile", 400), ProblemResponse),
        (refusal("userActionRequired", 403), ProblemResponse),
        (refusal("accountDoesNotExist", 400), ProblemResponse),
        (refusal("serverInternal", 500, retry_after="60"), Transient),
        (refusal("serverInternal", 503), Transient),
        (Transient("no answer in time"), Transient),
        (refusal("rejectedIdentifier", 400, detail=f'no "{WWW}"'), NamesFailed),
    ],
)
async def test_what_is_not_about_replaces_is_not_repeated(
    refused: HttpResponse | Exception, kind: type[Exception]
) -> None:
    """The exemption from the CA's limits is not thrown away for another's fault."""
    with pytest.raises(kind):
        await created(refused)


def test_an_address_is_another_kind_of_identifier() -> None:
    """With its canonical text (RFC 8738 §3), and read back however it is spelt."""
    address = DnsName("2001:db8::1")
    assert identifier_of(address).to_json() == {"type": "ip", "value": "2001:db8::1"}
    assert identifier_of(DnsName("192.0.2.7")).to_json() == {"type": "ip", "value": "192.0.2.7"}
    assert identifier_of(WWW).typ == messages.IDENTIFIER_FQDN
    assert name_of("2001:0DB8:0:0::1") == address
    assert name_of("127.0.0.1") == "127.0.0.1"
    assert name_of("WWW.example.com") == WWW


# ── whom a problem is about (RFC 8555 §6.7.1) ─────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("problem", "blamed"),
    [
        (Problem("rejectedIdentifier", f'policy forbids "{IMG}"'), [IMG]),
        (Problem("caa", f"Error finalizing order :: While processing CAA for {WWW}"), [WWW]),
        (Problem("caa", f"{IMG}: CAA record for example.com forbids it"), [IMG]),
        (Problem("dns", "no answer"), []),
        (Problem("malformed", f'"{WWW}" and more'), []),
        (Problem("unauthorized", f"not for {WWW}"), []),
        (Problem("caa", f"x{WWW} and {WWW}.uk"), []),
    ],
)
def test_whom_a_problem_is_about(problem: Problem, blamed: list[str]) -> None:
    """The names in quotation marks, else the first one; never a guess."""
    failures = failures_in(problem, [WWW, IMG])
    assert [each.name for each in failures] == blamed
    assert all(each.problem is problem for each in failures)


def test_subproblems_say_it() -> None:
    """Each with its own type, which the caller keeps apart."""
    document = {
        "type": URN + "malformed",
        "subproblems": [
            {"type": URN + "caa", "detail": "a", "identifier": {"type": "dns", "value": WWW}},
            {"type": URN + "dns", "detail": "b"},
        ],
    }
    (failure,) = failures_in(parse_problem(document), [WWW, IMG])
    assert (failure.name, failure.problem.type) == (WWW, "caa")


def test_the_only_name_is_blamed() -> None:
    """Where there is none but one."""
    (failure,) = failures_in(Problem("caa", "forbidden"), [WWW])
    assert failure.name == WWW


# ── states ────────────────────────────────────────────────────────────────────────────────────────


async def completed(*answers: HttpResponse | Exception, status: str = "ready") -> bytes:
    """The chain, or what is raised."""
    orders, _ = ordering(order(status), *answers)

    async def csr() -> bytes:
        return b"csr"

    return (await orders.complete(await orders.create([WWW, IMG], None), csr)).pem


async def test_an_order_without_its_certificate_url() -> None:
    """It may be there the next time (RFC 8555 §7.1.3)."""
    with pytest.raises(Transient, match="no certificate URL"):
        await completed(order("valid", 200))


async def test_a_problem_at_finalize_that_is_about_a_name() -> None:
    """CAA is looked at again then; the other names go on without it."""
    error = {"type": URN + "caa", "detail": f"While processing CAA for {IMG}"}
    with pytest.raises(NamesFailed) as caught:
        await completed(order("invalid", 200, error=error))
    assert [(f.name, f.problem.type) for f in caught.value.failures] == [(IMG, "caa")]
    with pytest.raises(NamesFailed):
        await completed(answer(error, 403))


async def test_a_problem_of_the_order_itself() -> None:
    """It is told as it is; without one the order is as good as gone."""
    with pytest.raises(Permanent) as caught:
        await completed(order("invalid", 200, error={"type": URN + "badCSR", "detail": "no"}))
    assert caught.value.problem_type == "badCSR"
    with pytest.raises(OrderGone):
        await completed(order("invalid", 200))


async def test_an_order_that_was_finalized_before() -> None:
    """Its answer was lost: the order says how it stands (RFC 8555 §7.4)."""
    gone_on = order("valid", 200, certificate=CERTIFICATE_URL)
    pem = HttpResponse(200, {"replay-nonce": "AAAA"}, b"chain")
    assert await completed(refusal("orderNotReady", 403), gone_on, pem) == b"chain"


async def test_authorize_finalizes_nothing() -> None:
    """An order that needs no more is given back as it is; an invalid one says why."""
    orders, http = ordering(order("ready"), order("invalid", 201))
    ready = await orders.create([WWW], None)
    assert await orders.authorize(ready) is ready
    assert len(http.bodies) == 1
    with pytest.raises(OrderGone):
        await orders.authorize(await orders.create([WWW], None))


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_an_order_that_is_gone(status: int) -> None:
    """Another one has to be made."""
    orders, _ = ordering(refusal("malformed", status))
    with pytest.raises(OrderGone):
        await orders.fetch(ORDER_URL)


@pytest.mark.parametrize("document", [None, [], {}, {"status": "odd"}, {"status": "pending"}])
async def test_an_order_that_is_not_understood(document: object) -> None:
    """Somebody in between may have answered: it may pass."""
    orders, _ = ordering(answer(document))
    with pytest.raises(Transient):
        await orders.fetch(ORDER_URL)


# ── chains (RFC 8555 §7.4.2) ──────────────────────────────────────────────────────────────────────


def certificate(subject: str, issuer: str) -> bytes:
    """A certificate as PEM, signed by nobody in particular."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime(2030, 1, 1, tzinfo=UTC)
    named = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n)]) for n in (subject, issuer))
    builder = x509.CertificateBuilder().subject_name(next(named)).issuer_name(next(named))
    builder = builder.public_key(key.public_key()).serial_number(7)
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


LEAF = certificate("leaf", "Inter")
SHORT = LEAF + certificate("Inter", "Root X2")
LONG = SHORT + certificate("Root X2", "Root X1")


def pem(body: bytes, *alternates: str) -> HttpResponse:
    """A chain, and the URLs of others."""
    link = ", ".join(f'<{url}>;rel="alternate"' for url in alternates)
    return HttpResponse(200, {"replay-nonce": "AAAA", "link": link}, body)


async def chosen(
    preferred: str | None, *answers: HttpResponse | Exception
) -> tuple[bytes, bool, int]:
    """The chain, whether it is the preferred one, and how many were looked at."""
    http = FakeHttp(*answers)
    session = Session(http, FakeClock(), DIRECTORY_URL)

    async def post(url: str, payload: Any, /) -> Any:
        return await session.post(url, payload, SIGNER)

    chain = await download(post, CERTIFICATE_URL, preferred)
    return chain.pem, chain.is_preferred, len(http.bodies)


async def test_the_default_chain() -> None:
    """Without a preference, or where it is the preferred one, the others are not asked for."""
    assert await chosen(None, pem(LONG, "/2")) == (LONG, True, 1)
    assert await chosen("Root X1", pem(LONG, "/2")) == (LONG, True, 1)


async def test_another_chain() -> None:
    """The issuer of the topmost certificate counts, not who stands below."""
    assert await chosen("Root X2", pem(LONG, "/2"), pem(SHORT)) == (SHORT, True, 2)


@pytest.mark.parametrize(
    "other",
    [
        pem(LONG),
        pem(b"no chain"),
        pem(certificate("leaf", "Inter") + certificate("Inter", "Root X2")),
        refusal("malformed", 404),
        Transient("no answer in time"),
    ],
)
async def test_no_chain_that_is_preferred(other: HttpResponse | Exception) -> None:
    """Of another certificate, unreadable or not to be got: the default is taken, visibly."""
    assert await chosen("Root X2", pem(LONG, "/2"), other) == (LONG, False, 2)
    assert await chosen("Root X2", pem(b"odd", "/2"), other) == (b"odd", False, 2)


async def test_not_all_chains_are_looked_at() -> None:
    """A CA can't make us ask without end."""
    urls = [f"/{number}" for number in range(20)]
    answers = [pem(LONG) for _ in urls]
    assert await chosen("No", pem(LONG, *urls), *answers) == (LONG, False, 1 + MAX_ALTERNATES)
