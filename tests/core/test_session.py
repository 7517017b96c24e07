"""acme/session.py: what is common to all requests to a CA, against answers made up for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from josepy.jwk import JWK

from acmeistio.acme.account import account_key
from acmeistio.acme.session import ProblemResponse, RateLimited, ServerError, Session, Signer
from acmeistio.errors import AcmeistioError, Permanent, Transient
from acmeistio.issuer import Limit, Limits
from acmeistio.model import KeyType
from acmeistio.pki import generate_key
from acmeistio.ports import HttpResponse
from tests.core.fake_ca import DIRECTORY, DIRECTORY_URL, FakeClock, FakeHttp, answer, refusal

SIGNER = Signer(account_key(generate_key(KeyType.ECDSA_P256)), "https://ca.example/account/1")
URL = "https://ca.example/thing"


async def failure_of(*answers: HttpResponse | Exception) -> AcmeistioError:
    """What a request to a CA that answers so raises."""
    session = Session(FakeHttp(*answers), FakeClock(), DIRECTORY_URL)
    with pytest.raises(AcmeistioError) as caught:
        await session.post(URL, {}, SIGNER)
    return caught.value


async def test_429_with_retry_after_is_a_limit() -> None:
    """The caller decides what it is about; the issuer is not paused (RFC 8555 §6.6)."""
    error = await failure_of(refusal("rateLimited", 429, retry_after="99"))
    assert isinstance(error, RateLimited)
    assert error.retry_after_seconds == 99
    assert error.problem.type == "rateLimited"
    assert not error.pauses_issuer


async def test_429_without_retry_after_is_a_refusal() -> None:
    """Let's Encrypt's paused names: only a human can end that (facts/acme.md §1)."""
    error = await failure_of(refusal("rateLimited", 429))
    assert isinstance(error, ProblemResponse)
    assert error.problem_type == "rateLimited"


@pytest.mark.parametrize(
    ("status", "headers", "wait", "pauses"),
    [
        (503, {"retry_after": "7"}, 7, True),
        (503, {}, None, False),
        (500, {"retry_after": "60"}, 60, False),
        (500, {}, None, False),
    ],
)
async def test_server_errors_pass(
    status: int, headers: dict[str, str], wait: float | None, pauses: bool
) -> None:
    """503 with Retry-After is the load balancer's: it means this client as a whole."""
    error = await failure_of(refusal("serverInternal", status, **headers))
    assert isinstance(error, ServerError)
    assert (error.retry_after_seconds, error.pauses_issuer) == (wait, pauses)


async def test_changed_terms_are_shown() -> None:
    """Both URLs of 403 userActionRequired reach the user (RFC 8555 §7.3.3)."""
    document = {
        "type": "urn:ietf:params:acme:error:userActionRequired",
        "detail": "Terms of service have changed",
        "instance": "https://ca.example/agree?token=x",
    }
    link = '<https://ca.example/index>;rel="index", </terms/v7>;rel="terms-of-service"'
    error = await failure_of(answer(document, 403, link=link))
    assert isinstance(error, ProblemResponse)
    assert error.problem.instance == "https://ca.example/agree?token=x"
    assert error.links["terms-of-service"] == ("https://ca.example/terms/v7",)


async def test_a_retry_after_date_counts_from_the_date_of_its_answer() -> None:
    """A calendar of the machine that is wrong doesn't change how long is waited."""
    error = await failure_of(
        refusal(
            "rateLimited",
            429,
            date="Tue, 01 Jan 2036 12:00:00 GMT",
            retry_after="Tue, 01 Jan 2036 12:01:30 GMT",
        )
    )
    assert isinstance(error, Transient)
    assert error.retry_after_seconds == 90


async def test_every_date_is_heard() -> None:
    """Of errors too, for it is the CA's clock all the same (RFC 9110 §6.6.1)."""
    heard: list[datetime] = []
    http = FakeHttp(
        answer(date="Tue, 01 Jan 2030 12:00:00 GMT"),
        answer(date="now"),
        refusal("malformed", date="Tue, 01 Jan 2030 12:00:05 GMT"),
    )
    session = Session(http, FakeClock(), DIRECTORY_URL, heard=heard.append)
    await session.post(URL, {}, SIGNER)
    await session.post(URL, {}, SIGNER)
    with pytest.raises(ProblemResponse):
        await session.get(URL)
    noon = datetime(2030, 1, 1, 12, tzinfo=UTC)
    assert heard == [noon, noon + timedelta(seconds=5)]


async def test_requests_are_paced() -> None:
    """All of them: directory, nonces, what is signed and what is not (issuer.Limits)."""
    clock = FakeClock()
    limits = Limits(requests=Limit(2, timedelta(seconds=1)))
    http = FakeHttp(answer(), answer())
    session = Session(http, clock, DIRECTORY_URL, limits=limits)
    await session.post(URL, {}, SIGNER)
    await session.get(URL)
    assert [method for method, _ in http.asked] == ["GET", "HEAD", "POST", "GET"]
    assert clock.slept == [1, 1]


async def test_new_nonces_have_a_pace_of_their_own() -> None:
    """Let's Encrypt allows fewer of them (facts/acme.md §1); pooled ones cost nothing."""
    clock = FakeClock()
    limits = Limits(nonces=Limit(1, timedelta(seconds=1)))
    spent = HttpResponse(200, {"replay-nonce": ""}, b"")
    http = FakeHttp(spent, answer(), answer())
    session = Session(http, clock, DIRECTORY_URL, limits=limits)
    for _ in range(3):
        await session.post(URL, {}, SIGNER)
    assert [method for method, _ in http.asked].count("HEAD") == 2
    assert clock.slept == [1]


async def test_who_signs_is_a_port() -> None:
    """What is signed, by which key, with which nonce, for which URL and account."""
    asked: list[tuple[bytes, JWK, str, str, str | None]] = []

    def sign(payload: bytes, key: JWK, nonce: str, url: str, account_url: str | None) -> bytes:
        asked.append((payload, key, nonce, url, account_url))
        return b"signed"

    http = FakeHttp(answer())
    await Session(http, FakeClock(), DIRECTORY_URL, sign=sign).post(URL, None, SIGNER)
    assert http.bodies == [b"signed"]
    assert asked == [(b"", SIGNER.key, "AAAA", URL, SIGNER.account_url)]


async def test_a_get_is_not_signed() -> None:
    """Renewal information is public (RFC 9773 §4.1): no nonce, no body."""
    http = FakeHttp(answer({"x": 1}))
    reply = await Session(http, FakeClock(), DIRECTORY_URL).get(URL)
    assert reply.document == {"x": 1}
    assert http.asked == [("GET", URL)]
    assert http.bodies == [b""]


async def test_the_directory_is_fetched_once_a_day() -> None:
    """Resources and meta come from the same answer."""
    clock, http = FakeClock(), FakeHttp()
    session = Session(http, clock, DIRECTORY_URL)
    assert (await session.directory())["newOrder"] == DIRECTORY["newOrder"]
    assert (await session.meta()).renewal_info_url == DIRECTORY["renewalInfo"]
    assert len(http.asked) == 1
    clock.seconds += 24 * 3600 + 1
    await session.meta()
    assert len(http.asked) == 2


async def test_a_resource_that_the_ca_lacks() -> None:
    """Asking again won't help: one clear sentence."""
    http = FakeHttp(directory={k: v for k, v in DIRECTORY.items() if k != "keyChange"})
    with pytest.raises(Permanent, match="the CA offers no keyChange"):
        await Session(http, FakeClock(), DIRECTORY_URL).resource("keyChange")


async def test_a_directory_that_is_none() -> None:
    """A wrong URL, or a page of somebody in between: it may pass."""
    session = Session(FakeHttp(directory=[]), FakeClock(), DIRECTORY_URL)
    with pytest.raises(Transient, match="is not an ACME directory"):
        await session.directory()


async def test_one_refused_nonce_after_another() -> None:
    """Tried again with the nonce of each refusal (RFC 8555 §6.5), but not without end."""
    error = await failure_of(*[refusal("badNonce")] * 15)
    assert isinstance(error, Transient)
    assert "badNonce" in str(error)


@pytest.mark.parametrize("key_type", list(KeyType))
async def test_every_kind_of_key_signs(key_type: KeyType) -> None:
    """By the algorithm of its kind (RFC 7518 §3.1)."""
    http = FakeHttp(answer())
    signer = Signer(account_key(generate_key(key_type)), "https://ca.example/account/1")
    await Session(http, FakeClock(), DIRECTORY_URL).post(URL, {}, signer)
    assert http.bodies
