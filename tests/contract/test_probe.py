"""probe/hops.py on real sockets: where it goes, what it says, and what each kind of end looks like.

The gateways are servers of a few lines that play one part each.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from acmeistio.model import GatewayAddress
from acmeistio.names import DnsName
from acmeistio.probe import hops as hops_module
from acmeistio.probe.hops import MAX_BODY_BYTES, USER_AGENT, Prober
from acmeistio.probe.verdict import Answered, Asked, Broken, Hop, How, Outcome, judge
from pebble.processes import LOOPBACK, free_ports
from pebble.self_signed import self_signed
from tests.core.builders import REF

NAME = DnsName("www.example.com")
PATH = "/.well-known/acme-challenge/t0ken"
BODY = b"t0ken.thumbprint"


@dataclass
class Gateway:
    """One listener: what it was asked, and the names by which it was asked for over TLS."""

    port: int = 0
    asked: list[list[str]] = field(default_factory=list)
    sni: list[str | None] = field(default_factory=list)
    connections: int = 0


Part = Callable[[Gateway, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(
    part: Part, *, host: str = LOOPBACK, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Gateway]:
    """A gateway that plays a part on each connection."""
    gateway = Gateway()
    running: list[asyncio.Task[Any]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        running.append(task)
        gateway.connections += 1
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await part(gateway, reader, writer)
                writer.close()
                await writer.wait_closed()
        finally:
            writer.transport.abort()

    if tls:
        tls.sni_callback = lambda _socket, name, _context: gateway.sni.append(name)
    server = await asyncio.start_server(handle, host, port, ssl=tls)
    gateway.port = server.sockets[0].getsockname()[1]
    try:
        yield gateway
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.sleep(0)  # what was aborted is closed in the next round


async def request_lines(reader: asyncio.StreamReader) -> list[str]:
    """The head of a request."""
    head = await reader.readuntil(b"\r\n\r\n")
    return head.decode().strip().split("\r\n")


def saying(text: str, body: bytes = b"", *headers: str) -> Part:
    """Answers each request the same; the connection stays open as long as the client wants."""

    async def part(
        gateway: Gateway, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        lines = [f"HTTP/1.1 {text}", f"Content-Length: {len(body)}", *headers, "", ""]
        while True:
            gateway.asked.append(await request_lines(reader))
            writer.write("\r\n".join(lines).encode("utf-8", "surrogateescape") + body)

    return part


def redirecting(location: str, status: int = 301) -> Part:
    """Sends everybody elsewhere."""
    return saying(f"{status} Moved", b"", f"Location: {location}", "server: istio-envoy")


def blurting(octets: bytes) -> Part:
    """Says something, whatever is asked, and hangs up."""

    async def part(_: Gateway, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(octets)
        await writer.drain()

    return part


async def reset(_: Gateway, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Breaks off in the middle of a request, by RST."""
    await reader.read(1)
    made: socket.socket = writer.get_extra_info("socket")
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def hanging_up(
    _: Gateway, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Takes the request and closes without a word."""
    await request_lines(reader)
    writer.transport.abort()


ENCRYPTED = b"\x17"
"""How a record begins in which TLS 1.3 has an alert; with TLS 1.2 one can be read by all."""


def shaking_hands(context: ssl.SSLContext, *, tells: bool = True) -> Part:
    """The server's side of a handshake, and time to read what it says at the end.

    asyncio's own server hangs up before its alert is sent; this one only if it `tells` none
    with TLS 1.3.
    """

    async def part(_: Gateway, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        side = context.wrap_bio(incoming, outgoing, server_side=True)
        while octets := await reader.read(65536):
            incoming.write(octets)
            with contextlib.suppress(ssl.SSLError):
                side.do_handshake()
            said = outgoing.read()
            if said.startswith(ENCRYPTED) and not tells:
                return
            writer.write(said)

    return part


async def silent(_: Gateway, __: asyncio.StreamReader, ___: asyncio.StreamWriter) -> None:
    """Never answers."""
    await asyncio.Event().wait()


async def flood(
    gateway: Gateway, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answers without an end."""
    gateway.asked.append(await request_lines(reader))
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def trickle(_: Gateway, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers so slowly that it never ends."""
    await request_lines(reader)
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x")
        await asyncio.sleep(0.02)


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    """A server's side of TLS with a certificate that is for another name and of no CA."""
    certificate, key = self_signed("somebody else")
    (tmp_path / "pair.pem").write_bytes(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pair.pem")
    return context


@pytest.fixture
async def prober() -> AsyncIterator[Prober]:
    """One for the test."""
    made = Prober()
    yield made
    await made.close()


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowded machine is no silent gateway."""
    monkeypatch.setattr(hops_module, "HOP_SECONDS", 60.0)
    monkeypatch.setattr(hops_module, "CONNECT_SECONDS", 60.0)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time limits that a test can wait for."""
    monkeypatch.setattr(hops_module, "HOP_SECONDS", 0.2)
    monkeypatch.setattr(hops_module, "CONNECT_SECONDS", 0.1)


def at(http: Gateway | int, https: Gateway | int = 1, host: str = LOOPBACK) -> GatewayAddress:
    """An address with these listeners."""
    ports = [way.port if isinstance(way, Gateway) else way for way in (http, https)]
    return GatewayAddress(host, *ports)


async def came_of(prober: Prober, part: Part) -> Answered | Broken:
    """What comes of a single hop to a gateway that plays this part."""
    async with listening(part) as gateway:
        (hop,) = await prober.walk(NAME, at(gateway), PATH)
    assert hop.asked == Asked("http", gateway.port, PATH)
    return hop.came


# ── an answer ─────────────────────────────────────────────────────────────────────────────────


async def test_it_asks_for_the_host_at_the_gateways_address(prober: Prober) -> None:
    """As the CA does: without the port, compression or cookies; and it says who it is."""
    async with listening(saying("200 OK", BODY, "Set-Cookie: a=b; Path=/")) as gateway:
        for _ in range(2):
            (hop,) = await prober.walk(NAME, at(gateway), PATH)
            assert hop.came == Answered(200, None, BODY)
    assert gateway.asked[0] == gateway.asked[1]
    assert gateway.asked[0][0] == f"GET {PATH} HTTP/1.1"
    headers = dict(line.split(": ", 1) for line in gateway.asked[0][1:])
    assert headers == {
        "Host": NAME,
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "User-Agent": USER_AGENT,
        "Connection": "close",
    }
    assert USER_AGENT.startswith("acmeistio/")
    assert gateway.connections == 2


@pytest.mark.parametrize(
    ("headers", "envoy", "upstream"),
    [
        ([], False, False),
        (["server: nginx"], False, False),
        (["server: istio-envoy"], True, False),
        (["Server: envoy"], True, False),
        (["x-envoy-upstream-service-time: 1"], True, True),
        (["X-Envoy-Overloaded: true"], True, False),
    ],
)
async def test_it_tells_who_answered(
    prober: Prober, headers: list[str], envoy: bool, upstream: bool
) -> None:
    """The gateway itself, or something behind it, as far as can be seen."""
    came = await came_of(prober, saying("404 Not Found", b"", *headers))
    assert isinstance(came, Answered)
    assert (came.status, came.envoy, came.upstream) == (404, envoy, upstream)
    named = [line.split(": ")[1] for line in headers if line.lower().startswith("server")]
    assert came.server == "".join(named)


async def test_a_proxy_of_the_environment_is_not_asked(
    prober: Prober, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would go another way than the one that is judged."""
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    assert await came_of(prober, saying("200 OK", BODY)) == Answered(200, None, BODY)


async def test_a_large_body_is_cut(prober: Prober) -> None:
    """Its beginning says enough, and it may have no end."""
    async with asyncio.timeout(20):
        came = await came_of(prober, flood)
    assert came == Answered(200, None, b"x" * MAX_BODY_BYTES)


async def test_a_compressed_body_stays_so(prober: Prober) -> None:
    """Nobody asked for it, and unpacked it may be endless."""
    came = await came_of(prober, saying("200 OK", b"\x1f\x8b...", "Content-Encoding: gzip"))
    assert came == Answered(200, None, b"\x1f\x8b...")


# ── redirects ─────────────────────────────────────────────────────────────────────────────────


async def test_a_redirect_to_https_is_followed_with_the_hosts_name(
    prober: Prober, tls: ssl.SSLContext
) -> None:
    """At the gateway's own port, by SNI, whatever certificate is there."""
    async with (
        listening(saying("200 OK", BODY), tls=tls) as secure,
        listening(redirecting(f"https://{NAME.upper()}{PATH}?a=b%20c")) as gateway,
    ):
        way = await prober.walk(NAME, at(gateway, secure), PATH)
    assert [hop.asked for hop in way] == [
        Asked("http", gateway.port, PATH),
        Asked("https", secure.port, f"{PATH}?a=b%20c"),
    ]
    assert way[-1].came == Answered(200, None, BODY)
    assert secure.sni == [NAME]
    assert secure.asked[0][0] == f"GET {PATH}?a=b%20c HTTP/1.1"
    assert f"Host: {NAME}" in secure.asked[0]
    assert judge(NAME, at(gateway, secure), way, BODY).outcome is Outcome.REACHED


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("host", ["127.0.0.1", "other.example", "localhost"])
async def test_a_redirect_to_another_host_is_not_followed(
    prober: Prober, monkeypatch: pytest.MonkeyPatch, host: str, status: int
) -> None:
    """Nobody is made to ask a third party: no name is resolved, no connection made."""
    monkeypatch.setattr(socket, "getaddrinfo", None)
    async with (
        listening(saying("200 OK", BODY)) as third,
        listening(redirecting(f"http://{host}:{third.port}/", status)) as gateway,
    ):
        way = await prober.walk(NAME, at(gateway), PATH)
    assert len(way) == 1
    assert isinstance(way[0].came, Answered)
    assert way[0].came.location == f"http://{host}:{third.port}/"
    assert (gateway.connections, third.connections) == (1, 0)


async def test_a_redirect_to_a_strange_port_is_not_followed(prober: Prober) -> None:
    """A host's name opens no other port of the gateway."""
    async with (
        listening(saying("200 OK", BODY)) as third,
        listening(redirecting(f"http://{NAME}:{third.port}/")) as gateway,
    ):
        assert len(await prober.walk(NAME, at(gateway), PATH)) == 1
    assert third.connections == 0


async def test_a_loop_ends(prober: Prober) -> None:
    """After as many redirects as Let's Encrypt follows."""
    async with listening(redirecting(PATH)) as gateway:
        way = await prober.walk(NAME, at(gateway), PATH)
    assert len(way) == gateway.connections == 11
    assert judge(NAME, at(gateway), way, BODY).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    "location", ["", " ", "http://[", "http://:80", "\udcff", "/a b\tc", "/\u00fc", "%", "//", "\\"]
)
async def test_a_location_may_be_anything(prober: Prober, location: str) -> None:
    """It ends or leads to the same gateway."""
    async with listening(redirecting(location)) as gateway:
        way = await prober.walk(NAME, at(gateway), PATH)
    assert len(way) in (1, 11)
    assert all(isinstance(hop.came, Answered) for hop in way)
    assert judge(NAME, at(gateway), way, BODY).defect(REF)


# ── no answer ─────────────────────────────────────────────────────────────────────────────────


async def test_a_closed_port(prober: Prober) -> None:
    """Nothing listens there."""
    (port,) = free_ports(1)
    (hop,) = await prober.walk(NAME, at(port), PATH)
    assert hop.came == Broken(How.REFUSED, "the connection is refused")


async def test_a_closed_https_port(prober: Prober) -> None:
    """After the redirect."""
    (port,) = free_ports(1)
    async with listening(redirecting(f"https://{NAME}{PATH}")) as gateway:
        first, second = await prober.walk(NAME, at(gateway, port), PATH)
    assert isinstance(first.came, Answered)
    assert second == Hop(
        Asked("https", port, PATH), Broken(How.REFUSED, "the connection is refused")
    )


@pytest.mark.parametrize("host", ["gateway.invalid", "a" * 64 + ".invalid"])
async def test_an_address_that_does_not_resolve(
    prober: Prober, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """Nor can be the name of anything."""
    real = socket.getaddrinfo

    def resolve(host: Any, *arguments: Any, **options: Any) -> Any:
        if host == "gateway.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    (hop,) = await prober.walk(NAME, at(80, host=host), PATH)
    assert hop.came == Broken(How.UNRESOLVED, "its name does not resolve")


async def closing(_: Gateway, __: asyncio.StreamReader, ___: asyncio.StreamWriter) -> None:
    """Hangs up at once, as a listener that expects the PROXY protocol may."""


@pytest.mark.parametrize("part", [closing, reset, blurting(b"HTTP/1.1 200 OK\r\nContent-")])
async def test_a_connection_that_is_closed_before_the_answer(prober: Prober, part: Part) -> None:
    """Before a word or in the middle of one."""
    came = await came_of(prober, part)
    assert isinstance(came, Broken)
    assert came.how is How.RESET


async def test_a_body_that_breaks_off(prober: Prober) -> None:
    """Half an answer is none."""
    came = await came_of(prober, blurting(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf"))
    assert isinstance(came, Broken)
    assert came.how is How.RESET


async def test_a_listener_that_wants_other_words_first(prober: Prober) -> None:
    """It may also answer 400."""
    answer = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    assert await came_of(prober, blurting(answer)) == Answered(400)


@pytest.mark.parametrize(
    "octets",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_words_that_are_not_http(prober: Prober, octets: bytes) -> None:
    """Another protocol, or something that went wrong."""
    came = await came_of(prober, blurting(octets))
    assert isinstance(came, Broken)
    assert came.how in (How.NOT_HTTP, How.RESET)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("part", [silent, trickle])
async def test_an_answer_that_does_not_come_in_time(prober: Prober, part: Part) -> None:
    """Or does not end."""
    async with asyncio.timeout(20):
        assert await came_of(prober, part) == Broken(How.TIMEOUT, "no answer in time")


# ── TLS ───────────────────────────────────────────────────────────────────────────────────────


async def came_of_tls(
    prober: Prober, part: Part, context: ssl.SSLContext | None = None
) -> Answered | Broken:
    """What comes of the second hop to a gateway that plays this part at its HTTPS port."""
    async with (
        listening(part, tls=context) as secure,
        listening(redirecting(f"https://{NAME}{PATH}")) as gateway,
    ):
        _, hop = await prober.walk(NAME, at(gateway, secure), PATH)
    return hop.came


@pytest.mark.parametrize("part", [closing, reset, blurting(b"")])
async def test_a_handshake_that_is_broken_off(prober: Prober, part: Part) -> None:
    """As by Envoy where no server has the host, or its Secret is missing."""
    came = await came_of_tls(prober, part)
    assert came == Broken(How.TLS, "the connection is closed during the handshake")


async def test_a_handshake_with_what_speaks_no_tls(prober: Prober) -> None:
    """Such as a server for plain HTTP."""
    came = await came_of_tls(prober, blurting(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    assert isinstance(came, Broken)
    assert came.how is How.TLS


async def test_a_certificate_that_is_demanded(prober: Prober, tls: ssl.SSLContext) -> None:
    """With TLS 1.3 the server says so only after the handshake; a CA has none to show."""
    tls.verify_mode = ssl.CERT_REQUIRED
    came = await came_of_tls(prober, shaking_hands(tls))
    assert came == Broken(How.TLS, "it demands a client certificate")


async def test_a_certificate_that_is_demanded_and_not_said(
    prober: Prober, tls: ssl.SSLContext
) -> None:
    """The alert may be overtaken by the end of the connection, as happens with Envoy."""
    tls.verify_mode = ssl.CERT_REQUIRED
    came = await came_of_tls(prober, shaking_hands(tls, tells=False))
    assert came == Broken(How.TLS, "it demands a client certificate")
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    came = await came_of_tls(prober, shaking_hands(tls, tells=False))
    assert came == Broken(How.RESET, "the connection is closed before the answer's end")


@pytest.mark.parametrize("part", [closing, reset, hanging_up])
async def test_tls_that_is_broken_off(prober: Prober, tls: ssl.SSLContext, part: Part) -> None:
    """After a handshake that went well; politely or not."""
    came = await came_of_tls(prober, part, tls)
    assert came == Broken(How.RESET, "the connection is closed before the answer's end")


async def test_tls_that_is_too_old(prober: Prober, tls: ssl.SSLContext) -> None:
    """What is wrong is told."""
    tls.minimum_version = tls.maximum_version = ssl.TLSVersion.TLSv1_2
    tls.set_ciphers("AES128-SHA")
    came = await came_of_tls(prober, shaking_hands(tls))
    assert isinstance(came, Broken)
    assert came.how is How.TLS
    assert "alert handshake failure" in came.text


@pytest.mark.usefixtures("hurried")
async def test_a_handshake_that_does_not_end(prober: Prober) -> None:
    """No more is known than that it takes too long."""
    async with listening(silent) as secure:
        came = await prober._came(NAME, LOOPBACK, Asked("https", secure.port, PATH))
    assert came == Broken(How.TIMEOUT, "no answer in time")


# ── IPv6 ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("host", ["::1", "gateway.test"])
async def test_ipv6(
    prober: Prober, monkeypatch: pytest.MonkeyPatch, tls: ssl.SSLContext, host: str
) -> None:
    """As an address, and as all that a name resolves to."""
    real = socket.getaddrinfo

    def resolve(host: Any, *arguments: Any, **options: Any) -> Any:
        return real("::1" if host == "gateway.test" else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with (
        listening(saying("200 OK", BODY), host="::1", tls=tls) as secure,
        listening(redirecting(f"https://{NAME}{PATH}"), host="::1") as gateway,
    ):
        way = await prober.walk(NAME, at(gateway, secure, host), PATH)
    assert [hop.came for hop in way][1:] == [Answered(200, None, BODY)]
    assert secure.sni == [NAME]


@pytest.mark.parametrize(
    ("name", "host"), [("203.0.113.7", "203.0.113.7"), ("2001:db8::7", "[2001:db8::7]")]
)
async def test_an_address_as_a_name(
    prober: Prober, tls: ssl.SSLContext, name: str, host: str
) -> None:
    """An IPv6 one in brackets (RFC 3986 §3.2.2); over TLS none is said (RFC 6066 §3)."""
    async with (
        listening(saying("200 OK", BODY), tls=tls) as secure,
        listening(redirecting(f"https://{host}{PATH}")) as gateway,
    ):
        way = await prober.walk(DnsName(name), at(gateway, secure), PATH)
    assert [hop.asked.scheme for hop in way] == ["http", "https"]
    assert way[-1].came == Answered(200, None, BODY)
    assert f"Host: {host}" in gateway.asked[0]
    assert f"Host: {host}" in secure.asked[0]
    assert secure.sni == [None]


async def test_every_address_of_a_name_is_tried(
    prober: Prober, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two families may be closed."""
    real = socket.getaddrinfo

    def resolve(host: Any, *arguments: Any, **options: Any) -> Any:
        both = ["::1", LOOPBACK] if host == "gateway.test" else [host]
        return [found for one in both for found in real(one, *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with listening(saying("200 OK", BODY)) as gateway:
        address = at(gateway, host="gateway.test")
        (hop,) = await prober.walk(NAME, address, PATH)
    assert hop.came == Answered(200, None, BODY)
    (hop,) = await prober.walk(NAME, address, PATH)
    assert hop.came == Broken(How.REFUSED, "the connection is refused")


# ── many ──────────────────────────────────────────────────────────────────────────────────────


async def test_many_walk_at_once(prober: Prober) -> None:
    """None waits for another: that would be taken for a gateway's silence."""
    everybody = asyncio.Barrier(150)

    async def together(
        gateway: Gateway, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await everybody.wait()
        await saying("200 OK", BODY)(gateway, reader, writer)

    async with listening(together) as gateway:
        ways = await asyncio.gather(
            *(prober.walk(NAME, at(gateway), f"{PATH}{i}") for i in range(everybody.parties))
        )
    assert {way[-1].came for way in ways} == {Answered(200, None, BODY)}


@pytest.mark.usefixtures("hurried")
async def test_it_can_be_closed_at_any_time(prober: Prober) -> None:
    """Also unused, twice, and under way."""
    await Prober().close()
    async with listening(silent) as gateway:
        walking = asyncio.create_task(prober.walk(NAME, at(gateway), PATH))
        await asyncio.sleep(0.05)
        await prober.close()
        await prober.close()
        (hop,) = await walking
    assert isinstance(hop.came, Broken)
