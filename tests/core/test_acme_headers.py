"""acme/headers.py and acme/directory.py: what a CA says beside its resources, malformed or not.

Retry-After has its tests in test_problems.py.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmeistio.acme.directory import MAX_PROFILES, Meta, parse_directory
from acmeistio.acme.headers import MAX_LINKS, http_date, links, web_url
from tests.core.fake_ca import DIRECTORY

HERE = "https://ca.example/acme/cert/1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, {}),
        ("", {}),
        ('<https://ca.example/d>;rel="index"', {"index": ("https://ca.example/d",)}),
        ("<https://ca.example/d>; rel=index", {"index": ("https://ca.example/d",)}),
        (
            '<https://a.example/1>;rel="alternate", <https://a.example/2>;rel="alternate"',
            {"alternate": ("https://a.example/1", "https://a.example/2")},
        ),
        ("</acme/2>;rel=alternate", {"alternate": ("https://ca.example/acme/2",)}),
        ('<x>; title="a, <b>; rel=no"; rel="up"', {"up": ("https://ca.example/acme/cert/x",)}),
        (
            '<https://a.example/>;REL="Help  Index"',
            {"help": ("https://a.example/",), "index": ("https://a.example/",)},
        ),
        ("<https://a.example/>", {}),
        ("<javascript:alert(1)>;rel=help", {}),
        ("<https://[broken>;rel=help", {}),
        ("<https://a.example/ x>;rel=help", {}),
        ("garbage", {}),
    ],
)
def test_links(text: str | None, expected: dict[str, tuple[str, ...]]) -> None:
    """By relation, several fields, relative URLs (RFC 8288 §3); the malformed is absent."""
    assert links(text, HERE) == expected


def test_links_have_bounds() -> None:
    """A CA can't make us work without end (DESIGN §5, Errors)."""
    many = ", ".join(f"<https://a.example/{n}>;rel=alternate" for n in range(1000))
    assert len(links(many, HERE)["alternate"]) == MAX_LINKS
    assert links("<" * 10**6 + ";" * 10**6, HERE) == {}
    assert links("<x>" + "; a" * 10**5 + '; rel="' + "\\" * 10**5, HERE) == {}


@given(st.text(alphabet='<>;,="\\ relatnx:/[]', max_size=60))
def test_any_link_is_harmless(text: str) -> None:
    """Whatever the header says, URLs for a browser come out, or nothing."""
    assert all(web_url(url) for urls in links(text, HERE).values() for url in urls)


@pytest.mark.parametrize(
    ("value", "fit"),
    [
        ("https://a.example/x?y=z", True),
        ("http://a.example", True),
        ("ftp://a.example", False),
        ("javascript:alert(1)", False),
        ("https://", False),
        ("https://a.example/\nx", False),
        ("https://a.example/ x", False),
        ("https://a.example/\u202ex", False),
        ("https://a.example/" + "x" * 3000, False),
        ("https://[", False),
        ("", False),
        (None, False),
        (7, False),
    ],
)
def test_web_url(value: object, fit: bool) -> None:
    """Only what a browser may be sent to is shown."""
    assert web_url(value) == (value if fit else None)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("Tue, 01 Jan 2030 12:00:00 GMT", datetime(2030, 1, 1, 12, tzinfo=UTC)),
        ("Tue, 01 Jan 2030 12:00:00", datetime(2030, 1, 1, 12, tzinfo=UTC)),
        ("now", None),
        ("", None),
        (None, None),
    ],
)
def test_date(text: str | None, instant: datetime | None) -> None:
    """An HTTP-date is an aware instant; anything else is none (RFC 9110 §5.6.7)."""
    assert http_date(text) == instant


def test_a_directory() -> None:
    """Members of meta that acme does not know are kept, the resources are as they were."""
    meta = {
        "termsOfService": "https://ca.example/terms",
        "externalAccountRequired": True,
        "profiles": {"short": "for a\nweek"},
        "unknown": {},
    }
    directory, found = parse_directory(json.dumps({**DIRECTORY, "meta": meta}).encode())
    assert directory["newOrder"] == DIRECTORY["newOrder"]
    assert found == Meta(
        {"short": "for a week"}, True, "https://ca.example/terms", DIRECTORY["renewalInfo"]
    )


@pytest.mark.parametrize("meta", [{}, None, [], "x", {"profiles": [], "termsOfService": 1}])
def test_a_directory_with_odd_meta(meta: object) -> None:
    """It says nothing, and the CA works all the same."""
    document = {**DIRECTORY, "renewalInfo": 5, "meta": meta}
    _, found = parse_directory(json.dumps(document).encode())
    assert found == Meta({}, False, None, None)


def test_a_directory_has_bounds() -> None:
    """Not more profiles than anybody would read."""
    meta = {"profiles": {f"p{n}": "x" for n in range(10**4)}}
    _, found = parse_directory(json.dumps({**DIRECTORY, "meta": meta}).encode())
    assert len(found.profiles) == MAX_PROFILES


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{}", b'{"newNonce": 1}', b"<html>"])
def test_no_directory(body: bytes) -> None:
    """What lacks the three resources that every order needs is none."""
    with pytest.raises(ValueError, match=r"it (is no|lacks)|Expecting value"):
        parse_directory(body)
