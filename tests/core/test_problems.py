"""acme/problem.py, and Retry-After in acme/headers.py: what CAs send, whatever they send."""

from __future__ import annotations

import json
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmeistio.acme.headers import MAX_RETRY_AFTER_SECONDS, retry_after_seconds
from acmeistio.acme.problem import MAX_SUBPROBLEMS, Problem, parse_problem, problem_of
from tests.core.builders import NOW

URN = "urn:ietf:params:acme:error:"


def test_a_problem() -> None:
    """Type without its URN, detail and status (RFC 7807, RFC 8555 §6.7)."""
    body = json.dumps({"type": URN + "rateLimited", "detail": "too many", "status": 500}).encode()
    problem = problem_of(429, body)
    assert problem == Problem("rateLimited", "too many", status=429)
    assert str(problem) == "too many (rateLimited)"


def test_subproblems() -> None:
    """Each may have its own type and identifier (RFC 8555 §6.7.1)."""
    body = json.dumps(
        {
            "type": URN + "rejectedIdentifier",
            "detail": "some are refused",
            "subproblems": [
                {
                    "type": URN + "caa",
                    "detail": "forbidden",
                    "identifier": {"type": "dns", "value": "a.example.com"},
                },
                "absurd",
                {"type": URN + "dns"},
            ],
        }
    ).encode()
    problem = problem_of(400, body)
    assert [(p.type, p.identifier) for p in problem.subproblems] == [
        ("caa", "a.example.com"),
        ("dns", ""),
    ]
    assert problem.identifier == ""


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, Problem("", "HTTP status 500", status=500)),
        ({"title": "Oops"}, Problem("", "Oops", status=500)),
        ({"detail": ""}, Problem("", "HTTP status 500", status=500)),
        ({"type": "about:blank", "detail": "x"}, Problem("about:blank", "x", status=500)),
        ([], Problem("", "HTTP status 500", status=500)),
        (None, Problem("", "HTTP status 500", status=500)),
        ("text", Problem("", "HTTP status 500", status=500)),
        ({"detail": "one\r\ntwo\x1b[31m"}, Problem("", "one two [31m", status=500)),
        ({"identifier": "x", "subproblems": "y"}, Problem("", "HTTP status 500", status=500)),
    ],
)
def test_odd_documents(document: object, expected: Problem) -> None:
    """What is missing or of a wrong shape is empty; text is made plain (DESIGN §5, Errors)."""
    assert problem_of(500, json.dumps(document).encode()) == expected


@pytest.mark.parametrize("body", [b"", b"<html>502</html>", b"\xff\xfe", b"{", b"[" * 100_000])
def test_no_document(body: bytes) -> None:
    """A load balancer's page is a problem with its status only (problem_of)."""
    assert problem_of(502, body) == Problem("", "HTTP status 502", status=502)


def nested(depth: int) -> dict[str, Any]:
    """A problem in a problem in a problem."""
    document: dict[str, Any] = {"detail": "core"}
    for _ in range(depth):
        document = {"subproblems": [document]}
    return document


def test_limits() -> None:
    """A CA can't make us work or remember without bounds (DESIGN §5, Errors)."""
    many = {"type": "t" * 999, "detail": "x" * 10**6, "subproblems": [{}] * 1000}
    problem = parse_problem(many, 400)
    assert len(problem.subproblems) == MAX_SUBPROBLEMS
    assert len(problem.detail) <= 300
    assert len(problem.type) <= 60
    assert problem_of(400, json.dumps(nested(200)).encode()).status == 400
    assert problem_of(400, b'{"subproblems":[' * 900 + b"{}" + b"]}" * 900).status == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "detail", "title", "identifier", "value", "subproblems"]),
            below,
        )
    ),
    max_leaves=10,
)


@given(JSON, st.integers(400, 599))
def test_any_document_is_a_problem(document: object, status: int) -> None:
    """Whatever a CA answers is a problem whose text can be shown."""
    problem = problem_of(status, json.dumps(document).encode())
    assert problem.status == status
    assert problem.detail
    assert "\n" not in str(problem)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("0", 0),
        ("1", 1),
        ("120", 120),
        (" 120 ", 120),
        ("-5", 0),
        ("604800", 604_800),
        ("604801", MAX_RETRY_AFTER_SECONDS),
        ("9" * 400, MAX_RETRY_AFTER_SECONDS),
        ("", None),
        ("soon", None),
        ("1.5", None),
        ("1e3", None),
        ("nan", None),
        ("inf", None),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        ("Tue, 01 Jan 2030 12:01:30 +0000", 90),
        ("Tue, 01 Jan 2030 13:01:30 +0100", 90),
        ("Tue, 01 Jan 2030 12:01:30", 90),
        ("Tue, 01 Jan 2030 12:01:30 -0000", 90),
        ("Tuesday, 01-Jan-30 12:01:30 GMT", 90),
        ("Tue Jan  1 12:01:30 2030", 90),
        ("Tue, 01 Jan 2019 12:00:00 GMT", 0),
        ("Tue, 01 Jan 2999 12:00:00 GMT", MAX_RETRY_AFTER_SECONDS),
        ("Tue, 99 Jan 2030 12:00:00 GMT", None),
        ("Tue, 01 Jan 2030 12:00:00 +99999999999999999999", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", MAX_RETRY_AFTER_SECONDS),
    ],
)
def test_retry_after(text: str | None, seconds: float | None) -> None:
    """Seconds or a date; within a week; garbage is nothing (RFC 9110 §10.2.3, issue 3 §3)."""
    assert retry_after_seconds(text, NOW) == seconds


DATE_PARTS = [
    "Tue, ",
    "01",
    "99",
    " Jan ",
    "2030",
    " ",
    "12:01:30",
    "25:00",
    "GMT",
    "+0000",
    "-9999",
]


@given(
    st.text()
    | st.lists(st.sampled_from(DATE_PARTS)).map("".join)
    | st.integers().map(str)
    | st.text(alphabet="0123456789 +-:,.TGM", max_size=30)
)
def test_any_retry_after(text: str) -> None:
    """Whatever the header says is a wait within a week, or none (headers.py)."""
    seconds = retry_after_seconds(text, NOW)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER_SECONDS
