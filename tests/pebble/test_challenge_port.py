"""The challenge port as a stranger sees it: over raw sockets, and through Envoy."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from josepy.json_util import encode_b64jose

from acmeistio.acme.account import account_key
from pebble.processes import LOOPBACK
from tests.pebble.conftest import MakeSite
from tests.pebble.program import MOBILE, WWW, Site

PREFIX = "/.well-known/acme-challenge/"
UNKNOWN = PREFIX + "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
MARK = "acmeistio-pass"
SILENT_ADDRESS = "127.0.0.2"
TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


def test_a_token_is_answered_only_while_its_order_runs(site: Site) -> None:
    """GET gives the key authorization, HEAD only its headers; afterwards the token is unknown."""
    with never_answered(site):
        site.start()
        found = None

        def asked() -> bool:
            nonlocal found
            found = re.search(rf"http://{WWW}:\d+{PREFIX}([\w-]+)", site.ca.log_text())
            return found is not None

        site.wait_for(asked, "the CA asks for a token")
        assert found
        token = found[1]
        path = PREFIX + token
        got = ask(site.challenge_port, "GET", path)
        assert (got.status, got.body.decode()) == (200, f"{token}.{thumbprint(site)}")
        assert got.headers["x-content-type-options"] == "nosniff"
        assert "html" not in got.headers["content-type"]
        marked = ask(site.challenge_port, "GET", f"{path}?{MARK}")
        assert marked.status == 200
        head = ask(site.challenge_port, "HEAD", path)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == str(len(got.body))
        post = ask(site.challenge_port, "POST", path, body=b"x" * 100)
        assert (post.status, post.body) == (404, b"")
    site.ca.clear(MOBILE)
    gone = lambda: ask(site.challenge_port, "GET", path).status == 302  # noqa: E731
    site.wait_for(gone, "the token is forgotten")


def test_all_else_is_not_found(site: Site) -> None:
    """An unknown token is handed back by a redirect with the mark; everything else is 404.

    No answer has a body or tells what server it is, and each leaves the server as well as before.
    """
    site.start()
    port = site.challenge_port
    handed_back = ask(port, "GET", UNKNOWN, host=WWW)
    assert handed_back.status == 302
    assert handed_back.headers["location"] == f"http://{WWW}{UNKNOWN}?{MARK}"
    assert ask(port, "HEAD", UNKNOWN, host=WWW).status == 302
    for method, path in (
        ("GET", f"{UNKNOWN}?{MARK}"),
        ("GET", f"{UNKNOWN}?{MARK}="),
        ("GET", "/"),
        ("GET", PREFIX),
        ("GET", PREFIX + "short"),
        ("GET", PREFIX + "a" * 129),
        ("GET", PREFIX + "../../etc/passwd"),
        ("GET", PREFIX + "%65" * 30),
        ("GET", UNKNOWN + "/"),
        ("GET", "/livez"),
        ("POST", UNKNOWN),
        ("PUT", UNKNOWN),
        ("DELETE", UNKNOWN),
        ("OPTIONS", UNKNOWN),
        ("PROPFIND", UNKNOWN),
    ):
        answer = ask(port, method, path)
        assert (answer.status, answer.body) == (404, b""), (method, path)
        assert "server" not in answer.headers
    post = ask(port, "POST", UNKNOWN, body=b"x" * 10_000)
    assert (post.status, post.body) == (404, b"")
    evil = ask(port, "GET", UNKNOWN, host="evil.example/@x")
    assert evil.status in {400, 404}
    site.wait_for_certificate()


def test_what_is_no_http_is_refused(site: Site) -> None:
    """It gets an error or the connection's end, no word about the server, and harms nothing."""
    program = site.start()
    for request in (
        b"\x16\x03\x01\x02\x00\x01\x00",  # TLS
        b"GET " + b"/" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 20_000 + b"\r\n\r\n",
        b"nonsense\r\n\r\n",
    ):
        answer = exchange(site.challenge_port, request)
        assert answer == b"" or answer.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
        assert b"server:" not in answer.lower()
        assert b"Traceback" not in answer
    site.wait_for_certificate()
    assert "Traceback" not in program.output


def test_through_envoy_others_get_their_tokens(make_site: MakeSite) -> None:
    """A token that is not ours reaches the user's own backend, at the same path.

    Where a host has no backend it is 404; HTTPS and plain HTTP alike.
    """
    site = make_site(through_envoy=True)
    site.start()
    site.wait_for_certificate()
    passed = ask(site.http_port, "GET", UNKNOWN, host=WWW)
    assert passed.status == 200
    assert b"Hello from helloworld-v1" in passed.body
    assert f"host {WWW}, path {UNKNOWN}".encode() in passed.body
    assert ask(site.http_port, "GET", UNKNOWN, host="nobody.example").status == 404
    post = ask(site.http_port, "POST", UNKNOWN, host=WWW, body=b"x" * 100)
    assert post.status == 404
    page = ask(site.http_port, "GET", "/page", host=MOBILE)
    assert b"Hello from helloworld-v2" in page.body


def ask(
    port: int, method: str, path: str, *, host: str = "localhost", body: bytes | None = None
) -> Answer:
    """One request on a connection of its own, spelled out so that nothing is tidied up."""
    length = f"Content-Length: {len(body)}\r\n" if body is not None else ""
    lines = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{length}Connection: close\r\n\r\n"
    answer = exchange(port, lines.encode() + (body or b""))
    head, _, content = answer.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    headers = (field.split(": ", 1) for field in fields)
    return Answer(int(status.split()[1]), {k.lower(): v for k, v in headers}, content)


def exchange(port: int, request: bytes) -> bytes:
    """Send bytes; all that comes back until the connection ends."""
    with socket.create_connection((LOOPBACK, port), TIMEOUT_SECONDS) as connection:
        connection.sendall(request)
        answer = b""
        try:
            while got := connection.recv(65536):
                answer += got
        except ConnectionResetError:
            pass
        return answer


def thumbprint(site: Site) -> str:
    """Of the account's key, as it stands in key authorizations."""
    key = account_key(site.secret_data("acmeistio-account-pebble")["tls.key"])
    return str(encode_b64jose(key.thumbprint()))


@contextmanager
def never_answered(site: Site) -> Iterator[None]:
    """The CA's questions for one of the names get no answer, so that the order goes on and on."""
    with socket.create_server((SILENT_ADDRESS, site.challenge_port)):
        site.ca.set_addresses(MOBILE, [SILENT_ADDRESS])
        yield
