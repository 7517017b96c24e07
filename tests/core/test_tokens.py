"""tokens.py: what is said to whom on the challenge port."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmeistio.tokens import NOT_FOUND, PASS_MARK, PATH_PREFIX, Answer, Request, Tokens

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
KEY_AUTHORIZATION = f"{TOKEN}.nP1qzpXGymHBrUEepNY9HCsQk7K8KhOypzEt62jcerQ"
OTHER = "DGyRejmCefe7v4NfDGDKfA"
BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def tokens() -> Tokens:
    """One token is presented."""
    presented = Tokens()
    presented.present(TOKEN, KEY_AUTHORIZATION)
    return presented


def asked(
    path: str = PATH_PREFIX + TOKEN,
    *,
    method: str = "GET",
    query: str = "",
    host: str = "www.example.com",
    scheme: str = "http",
) -> Answer:
    """The answer to a request."""
    return tokens().answer(Request(method, path, query, host, scheme))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("host", ["www.example.com", "www.example.com:5002", "", "any\r\nthing"])
def test_a_token_of_ours(method: str, host: str) -> None:
    """200 with exactly the key authorization, whatever the host (RFC 8555 §8.3, facts §5)."""
    answer = asked(method=method, host=host)
    assert answer.status == 200
    assert answer.body == KEY_AUTHORIZATION.encode()
    assert answer.headers == {
        "Content-Type": "application/octet-stream",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }


def test_a_token_of_ours_that_comes_back() -> None:
    """A request that was handed back by another replica is answered too (DESIGN §5, Tokens)."""
    assert asked(query=PASS_MARK).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", ""])
def test_other_methods(method: str) -> None:
    """GET and HEAD only; everything else 404 (DESIGN §5, Tokens)."""
    assert asked(method=method) == NOT_FOUND
    assert asked(PATH_PREFIX + OTHER, method=method) == NOT_FOUND


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        TOKEN,
        PATH_PREFIX,
        PATH_PREFIX + "short",
        PATH_PREFIX + "a" * 21,
        PATH_PREFIX + "a" * 129,
        PATH_PREFIX + "a" * 100_000,
        PATH_PREFIX + TOKEN + "/",
        PATH_PREFIX + TOKEN + "\n",
        PATH_PREFIX + TOKEN + "=",
        PATH_PREFIX + TOKEN + "%0a",
        PATH_PREFIX + TOKEN + "?x",
        PATH_PREFIX + "/" + TOKEN,
        PATH_PREFIX + "../acme-challenge/" + TOKEN,
        PATH_PREFIX + "..%2f..%2fetc%2fpasswd.........",
        PATH_PREFIX + "<script>alert(1)</script>aaaa",
        PATH_PREFIX + "é" * 30,
        PATH_PREFIX + "٣" * 30,
        PATH_PREFIX.upper() + TOKEN,
        "/x" + PATH_PREFIX + TOKEN,
        "http://www.example.com" + PATH_PREFIX + TOKEN,
    ],
)
def test_other_paths(path: str) -> None:
    """Only base64url tokens under the one prefix, everything else 404 (RFC 8555 §8.3)."""
    assert asked(path) == NOT_FOUND


@pytest.mark.parametrize(
    ("host", "scheme"),
    [
        ("www.example.com", "http"),
        ("www.example.com", "https"),
        ("www.example.com:5002", "http"),
        ("[2001:db8::1]:80", "http"),
        ("192.0.2.1", "http"),
        ("a_b.example.com", "http"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_unknown_token_is_handed_back(host: str, scheme: str, method: str) -> None:
    """It takes nothing from anybody: the gateway follows to what the user has (DESIGN §5, Routing).

    Absolute, to the same scheme, host and path, and marked.
    """
    answer = asked(PATH_PREFIX + OTHER, method=method, host=host, scheme=scheme)
    assert answer.status == 302
    assert answer.headers["Location"] == f"{scheme}://{host}{PATH_PREFIX}{OTHER}?{PASS_MARK}"
    assert answer.body == b""


@pytest.mark.parametrize(
    "query", [PASS_MARK, f"{PASS_MARK}=", f"{PASS_MARK}=1", f"a=b&{PASS_MARK}", f"{PASS_MARK}&x"]
)
def test_a_marked_one_is_not_found(query: str) -> None:
    """What comes back marked has nobody else's route: 404, and no loop (issue 3 §4)."""
    assert asked(PATH_PREFIX + OTHER, query=query) == NOT_FOUND


@pytest.mark.parametrize("query", ["", "x=1", f"x={PASS_MARK}", f"no-{PASS_MARK}", f"{PASS_MARK}s"])
def test_only_the_mark_is_the_mark(query: str) -> None:
    """Another query is not ours to judge, and is not carried along (tokens.py)."""
    answer = asked(PATH_PREFIX + OTHER, query=query)
    assert answer.status == 302
    assert answer.headers["Location"].endswith(f"{OTHER}?{PASS_MARK}")


@pytest.mark.parametrize(
    ("host", "scheme"),
    [
        ("", "http"),
        ("www.example.com", ""),
        ("www.example.com", "javascript"),
        ("www.example.com", "HTTP"),
        ("www.example.com", "http://evil.example/?"),
        ("www.example.com\r\nSet-Cookie: a=b", "http"),
        ("www.example.com\n", "http"),
        ("www.example.com/evil", "http"),
        ("user@evil.example", "http"),
        ("www.example.com:port", "http"),
        ("www.example.com:", "http"),
        ("www.example.com:123456", "http"),
        ("www example.com", "http"),
        ("www.example.com#", "http"),
        ("www.example.com?", "http"),
        ("wwẃ.example.com", "http"),
        ("[::1", "http"),
        ("[evil]", "http"),
        ("a" * 256, "http"),
    ],
)
def test_what_can_be_no_location(host: str, scheme: str) -> None:
    """A host or scheme that no Location can hold is 404 (facts/ux.md §4, hardening)."""
    assert asked(PATH_PREFIX + OTHER, host=host, scheme=scheme) == NOT_FOUND


HOSTS = st.text(max_size=20) | st.text(alphabet="ab.:[]@/\\?#%\r\n\t 1", max_size=12)
PATHS = st.text(max_size=20) | st.text(alphabet=BASE64URL + "/.%\r\n", max_size=140).map(
    PATH_PREFIX.__add__
)
REQUESTS = st.builds(
    Request,
    method=st.sampled_from(["GET", "HEAD"]) | st.text(max_size=5),
    path=PATHS | st.text(alphabet=BASE64URL, min_size=22, max_size=30).map(PATH_PREFIX.__add__),
    query=st.text(max_size=10) | st.sampled_from(["", PASS_MARK, "\r\nSet-Cookie: a=b"]),
    host=HOSTS | st.sampled_from(["www.example.com", "[::1]:80"]),
    scheme=st.sampled_from(["http", "https", "http\r\n", "ftp"]) | st.text(max_size=5),
)


@given(REQUESTS)
def test_any_request_is_answered_cleanly(request: Request) -> None:
    """Whatever is asked: an answer, no line end in a header, no other host in Location.

    And no text of the request in a body (RFC 8555 §8.3: the XSS of copying a token).
    """
    answer = tokens().answer(request)
    assert answer.status in (200, 302, 404)
    for value in answer.headers.values():
        assert value.isascii()
        assert value.isprintable()
    if answer.status == 302:
        location = urlsplit(answer.headers["Location"])
        assert location.scheme == request.scheme
        assert location.netloc == request.host
        assert location.path == request.path
        assert location.query == PASS_MARK
        assert location.fragment == ""
        assert location.username is None
    assert answer.body in (b"", KEY_AUTHORIZATION.encode())
    assert (answer.status == 200) is (answer.body != b"")


def test_clean_up() -> None:
    """Entries are dropped when they are final; twice does no harm (DESIGN §5, Tokens)."""
    presented = tokens()
    presented.present(OTHER, "other.key")
    presented.clean_up(TOKEN)
    presented.clean_up(TOKEN)
    request = Request("GET", PATH_PREFIX + TOKEN, "", "www.example.com", "http")
    assert presented.answer(request).status == 302
    other = Request("GET", PATH_PREFIX + OTHER, "", "www.example.com", "http")
    assert presented.answer(other).body == b"other.key"


def test_content_is_hidden() -> None:
    """Tokens hide their key authorizations from repr and logs (DESIGN §5, Secrets in memory)."""
    presented = tokens()
    assert KEY_AUTHORIZATION not in repr(presented)
    assert KEY_AUTHORIZATION not in repr(vars_of(presented))
    assert KEY_AUTHORIZATION not in repr(asked())


def vars_of(presented: Tokens) -> object:
    """What a careless log line would show of it."""
    return presented._presented


GET = Request("GET", PATH_PREFIX + TOKEN, "", "www.example.com", "http")


def test_fetched_tells_the_order() -> None:
    """The order learns when its token was fetched, and not before (DESIGN §5, Issuing)."""

    async def scene() -> None:
        presented = tokens()
        waiting = asyncio.ensure_future(presented.fetched(TOKEN))
        await asyncio.sleep(0)
        presented.answer(replace(GET, path=PATH_PREFIX + OTHER))
        presented.answer(replace(GET, method="POST"))
        await asyncio.sleep(0)
        assert not waiting.done()
        presented.answer(GET)
        await asyncio.wait_for(waiting, 1)
        await asyncio.wait_for(presented.fetched(TOKEN), 1)

    asyncio.run(scene())


def test_no_news_of_no_token() -> None:
    """A token that is not presented is never fetched: no order polls for it (tokens.py)."""
    for wait in (Tokens().fetched(TOKEN), Tokens().fetched_again([TOKEN])):
        with pytest.raises(TimeoutError):
            asyncio.run(asyncio.wait_for(wait, 0.01))


def test_shared_token() -> None:
    """A token that two orders present is answered until both have cleaned up (tokens.py)."""
    presented = tokens()
    presented.present(TOKEN, KEY_AUTHORIZATION)
    presented.clean_up(TOKEN)
    assert presented.answer(GET).status == 200
    presented.clean_up(TOKEN)
    assert presented.answer(GET).status == 302


def test_fetched_again() -> None:
    """Each fetch is news to who waits, and a past one is none (tokens.py)."""

    async def scene() -> None:
        presented = tokens()
        presented.answer(GET)
        waiting = asyncio.ensure_future(presented.fetched_again([TOKEN]))
        await asyncio.sleep(0)
        assert not waiting.done()
        presented.answer(GET)
        await asyncio.wait_for(waiting, 1)

    asyncio.run(scene())
