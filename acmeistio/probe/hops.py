"""The way of a probe: HTTP to a gateway's own address, hop by hop, in the name of a host.

Owns connections, time limits, bounds, and what a failure of each looks like here. It connects to
no other address than the one it is given, whatever a host says or a redirect asks for. What the
hops mean is not its business.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
import ssl

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from acmeistio import __version__
from acmeistio.model import GatewayAddress
from acmeistio.names import DnsName, url_host
from acmeistio.probe.verdict import MAX_REDIRECTS, Answered, Asked, Broken, Hop, How, onward

CONNECT_SECONDS = 2.0
HOP_SECONDS = 4.0
"""For one hop, all in all. It ends in the same cluster, so this is long."""

MAX_BODY_BYTES = 4096
"""A key authorization has about a hundred; the rest is for telling who answered."""

USER_AGENT = f"acmeistio/{__version__} probe"

_DEMANDS_A_CERTIFICATE = "it demands a client certificate"
_HANDSHAKE_FAILURE = "sslv3 alert handshake failure"
_NO_WAY = (errno.EHOSTUNREACH, errno.ENETUNREACH)
_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class Prober:
    """Asks gateways as a CA would ask them. Each hop has a connection of its own.

    How many walk at once is the caller's business.
    """

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def walk(self, name: DnsName, address: GatewayAddress, path: str) -> tuple[Hop, ...]:
        """The hops from `http://NAME{path}` to where redirects to the same host end."""
        hops: list[Hop] = []
        asked: Asked | None = Asked("http", address.http_port, path)
        while asked and len(hops) <= MAX_REDIRECTS:
            hop = Hop(asked, await self._came(name, address.host, asked))
            hops.append(hop)
            asked = onward(name, address, hop)
        return tuple(hops)

    async def close(self) -> None:
        """Close all connections."""
        if self._session:
            await self._session.close()

    async def _came(self, name: DnsName, host: str, asked: Asked) -> Answered | Broken:
        """What comes of one request, and of a second look where TLS 1.3 hides the reason.

        There a client learns only after its request that it should have shown a certificate, if
        the connection's end does not overtake the alert. With TLS 1.2 the handshake says so.
        """
        came = await self._once(name, host, asked, _any_certificate())
        if asked.scheme == "https" and isinstance(came, Broken) and came.how is How.RESET:
            again = await self._once(name, host, asked, _any_certificate(ssl.TLSVersion.TLSv1_2))
            if again == Broken(How.TLS, _HANDSHAKE_FAILURE):
                return Broken(How.TLS, _DEMANDS_A_CERTIFICATE)
        return came

    async def _once(
        self, name: DnsName, host: str, asked: Asked, tls: ssl.SSLContext
    ) -> Answered | Broken:
        request = self._opened().get(
            f"{asked.scheme}://{url_host(host)}:{asked.port}{asked.path}",
            headers={"Host": url_host(name)},
            ssl=tls,
            # Python says no address to the server (RFC 6066 §3).
            server_hostname=name if asked.scheme == "https" else None,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=HOP_SECONDS, connect=CONNECT_SECONDS),
        )
        try:
            async with request as response:
                body = await _bounded(response.content)
                response.close()
                return _answered(response, body)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _broken(error, asked.scheme)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=_SystemResolver(),
                use_dns_cache=False,
                force_close=True,
                limit=0,  # a queue here would look like a gateway that does not answer
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session


class _SystemResolver(AbstractResolver):
    """getaddrinfo as it is. aiohttp's own leaves out IPv6 where a host has only ::1 of it."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """See AbstractResolver.resolve."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        return [
            ResolveResult(
                hostname=host,
                host=str(at[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=_NUMERIC,
            )
            for kind, _, protocol, _, at in found
        ]

    async def close(self) -> None:
        """Nothing is open."""


@functools.cache
def _any_certificate(newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED) -> ssl.SSLContext:
    """A CA that was redirected to HTTPS takes any certificate, and no secret is told here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = newest
    context.set_alpn_protocols(["http/1.1"])
    return context


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    """The beginning of a body, or all of it."""
    body = b""
    while len(body) < MAX_BODY_BYTES and (chunk := await content.read(MAX_BODY_BYTES - len(body))):
        body += chunk
    return body


def _answered(response: aiohttp.ClientResponse, body: bytes) -> Answered:
    headers = {key.lower(): value for key, value in response.headers.items()}
    server = headers.get("server", "")
    return Answered(
        status=response.status,
        location=headers.get("location"),
        body=body,
        server=server,
        envoy=server.lower() in ("envoy", "istio-envoy")
        or any(key.startswith("x-envoy-") for key in headers),
        upstream="x-envoy-upstream-service-time" in headers,
    )


def _broken(error: Exception, scheme: str) -> Broken:
    """What a library's error means; its text may name addresses and is not told."""
    cause = error.__cause__ if isinstance(error, aiohttp.ClientOSError) else error
    match cause:
        case TimeoutError():
            return Broken(How.TIMEOUT, "no answer in time")
        case OSError(errno=number) if number in _NO_WAY:
            return Broken(How.TIMEOUT, "there is no route to it")
        case ConnectionRefusedError():
            return Broken(How.REFUSED, "the connection is refused")
        case socket.gaierror() | UnicodeError() | aiohttp.InvalidURL():
            return Broken(How.UNRESOLVED, "its name does not resolve")
        case ssl.SSLError(reason=str(why)) if _is_of_handshake(error, why):
            demands = "CERTIFICATE_REQUIRED" in why
            told = _DEMANDS_A_CERTIFICATE if demands else why.replace("_", " ").lower()
            return Broken(How.TLS, told)
    return _cut_off(error, scheme)


def _is_of_handshake(error: Exception, why: str) -> bool:
    """Whether TLS says why it failed, and not only that nothing more came.

    With TLS 1.3 a server refuses only after the handshake what a client showed in it.
    """
    return "ALERT" in why or (isinstance(error, aiohttp.ClientConnectorError) and "EOF" not in why)


def _cut_off(error: Exception, scheme: str) -> Broken:
    """A connection that was made, and ended by the other side."""
    if isinstance(error, aiohttp.ClientConnectorError) and scheme == "https":
        return Broken(How.TLS, "the connection is closed during the handshake")
    if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
        return Broken(How.RESET, "the connection is closed before the answer's end")
    return Broken(How.NOT_HTTP, "its answer is not HTTP")
