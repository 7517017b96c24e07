"""acme/ari.py: which answers about renewal are believed, and which failures pass (RFC 9773 §4)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmeistio.acme.ari import RenewalInfo, renewal_info
from acmeistio.acme.session import RateLimited, Session
from acmeistio.errors import AcmeistioError, Permanent, Transient
from acmeistio.ports import HttpResponse
from tests.core.fake_ca import DIRECTORY, DIRECTORY_URL, FakeClock, FakeHttp, answer, refusal

RENEWAL_ID = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"
START, END = "2030-02-28T12:00:00Z", "2030-03-02T12:00:00Z"
EARLIEST, LATEST = (datetime(year, 1, 1, tzinfo=UTC).replace(tzinfo=None) for year in (1971, 2999))
WINDOW = {"suggestedWindow": {"start": START, "end": END}}


async def asked(*answers: HttpResponse | Exception, **directory: Any) -> RenewalInfo:
    """What is made of a CA's answer."""
    http = FakeHttp(*answers, directory={**DIRECTORY, **directory})
    return await renewal_info(Session(http, FakeClock(), DIRECTORY_URL), RENEWAL_ID)


async def failure_of(*answers: HttpResponse | Exception, **directory: Any) -> AcmeistioError:
    """And what is raised."""
    with pytest.raises(AcmeistioError) as caught:
        await asked(*answers, **directory)
    return caught.value


async def test_a_suggestion() -> None:
    """Window, explanation and when to ask again (RFC 9773 §4.2)."""
    document = {**WINDOW, "explanationURL": "https://ca.example/why"}
    assert await asked(answer(document, retry_after="21600")) == RenewalInfo(
        datetime(2030, 2, 28, 12, tzinfo=UTC),
        datetime(2030, 3, 2, 12, tzinfo=UTC),
        "https://ca.example/why",
        21_600,
    )


@pytest.mark.parametrize("base", ["https://ca.example/ari", "https://ca.example/ari/"])
async def test_one_plain_get(base: str) -> None:
    """One slash between URL and identifier; nothing is signed, no nonce is spent (§4.1)."""
    http = FakeHttp(answer(WINDOW), directory={**DIRECTORY, "renewalInfo": base})
    await renewal_info(Session(http, FakeClock(), DIRECTORY_URL), RENEWAL_ID)
    assert http.asked == [
        ("GET", DIRECTORY_URL),
        ("GET", f"https://ca.example/ari/{RENEWAL_ID}"),
    ]


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("0", 60),
        ("59", 60),
        ("3600", 3600),
        ("86401", 86_400),
        ("-1", 60),
        ("soon", 21_600),
        (None, 21_600),
        ("Tue, 01 Jan 2030 13:00:00 GMT", 3600),
    ],
)
async def test_when_to_ask_again(retry_after: str | None, seconds: float) -> None:
    """Between a minute and a day; six hours where it is missing or bad (§4.3.2, §4.3.3)."""
    headers = {} if retry_after is None else {"retry_after": retry_after}
    assert (await asked(answer(WINDOW, **headers))).retry_after_seconds == seconds


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"suggestedWindow": None},
        {"suggestedWindow": {"start": START}},
        {"suggestedWindow": {"start": START, "end": 5}},
        {"suggestedWindow": {"start": START, "end": "soon"}},
        {"suggestedWindow": {"start": START, "end": "2030-03-02T12:00:00"}},
        {"suggestedWindow": {"start": START, "end": START}},
        {"suggestedWindow": {"start": END, "end": START}},
        {"suggestedWindow": {"start": "0001-01-01T00:00:00+14:00", "end": END}},
    ],
)
async def test_an_answer_that_is_none(document: object) -> None:
    """An invalid object, or a window that ends before it begins, will last (§4.2, §4.3.3)."""
    assert isinstance(await failure_of(answer(document)), Permanent)


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"[" * 100_000])
async def test_an_answer_that_is_no_json(body: bytes) -> None:
    """Whatever its content type says."""
    response = HttpResponse(200, {"content-type": "application/json"}, body)
    assert isinstance(await failure_of(response), Permanent)


@pytest.mark.parametrize("status", [400, 403, 404, 410])
async def test_a_certificate_that_the_ca_does_not_know(status: int) -> None:
    """4xx will last (§4.3.3)."""
    assert isinstance(await failure_of(refusal("malformed", status)), Permanent)


async def test_a_ca_without_renewal_information() -> None:
    """It is supported exactly where the directory has it (§4.1); nobody is asked."""
    assert isinstance(await failure_of(renewalInfo=None), Permanent)


async def test_failures_that_pass() -> None:
    """No answer, 5xx and 429; what the CA wants to be waited is said (§4.3.3)."""
    assert type(await failure_of(Transient("no answer in time"))) is Transient
    assert isinstance(await failure_of(refusal("serverInternal", 500)), Transient)
    assert type(await failure_of(refusal("rateLimited", 429))) is Transient
    limited = await failure_of(refusal("rateLimited", 429, retry_after="70"))
    assert isinstance(limited, RateLimited)
    assert limited.retry_after_seconds == 70


@pytest.mark.parametrize("url", ["javascript:alert(1)", "ftp://x/y", "https://x/\ny", 5, None])
async def test_only_a_web_page_explains(url: object) -> None:
    """Anything else is not shown, and the window counts all the same."""
    assert (await asked(answer({**WINDOW, "explanationURL": url}))).explanation_url is None


@given(
    st.datetimes(max_value=LATEST, min_value=EARLIEST),
    st.integers(1, 10**7),
    st.integers(-14 * 60, 14 * 60),
)
async def test_any_zone_is_read(start: datetime, seconds: int, minutes: int) -> None:
    """The instants of RFC 3339, with fractions and offsets, come out in UTC."""
    zone = timezone(timedelta(minutes=minutes))
    aware = start.replace(tzinfo=zone)
    end = aware + timedelta(seconds=seconds)
    body = {"suggestedWindow": {"start": aware.isoformat(), "end": end.isoformat()}}
    info = await asked(answer(json.loads(json.dumps(body))))
    assert (info.start, info.end) == (aware, end)
    assert info.start.tzinfo is UTC
