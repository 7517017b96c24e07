"""HTTP to a CA over aiohttp: the port Http. Owns time-outs, bounds, translated errors."""

from __future__ import annotations

import functools
import ssl
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path

import aiohttp

from acmeistio import __version__
from acmeistio.errors import Misconfigured, NotSent, Transient
from acmeistio.ports import HttpResponse

MAX_BODY_BYTES = 1 << 20
"""No ACME resource is larger; a chain of a few certificates is some kilobytes."""

TIMEOUT = aiohttp.ClientTimeout(total=30, connect=10)
"""For one request. Let's Encrypt answers within a second; a finalize may take several."""

USER_AGENT = f"acmeistio/{__version__} aiohttp/{aiohttp.__version__}"
"""RFC 8555 §6.1: the product and its HTTP library."""


class AiohttpTransport:
    """The port Http. Verification of the CA's TLS certificate can't be turned off."""

    def __init__(self, ca_bundle: str | None = None) -> None:
        """`ca_bundle`: a PEM file of roots for a private CA, instead of the system's."""
        self._ssl = _ssl_context(ca_bundle)
        self._session: aiohttp.ClientSession | None = None

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] = {}, body: bytes = b""
    ) -> HttpResponse:
        """See Http.request."""
        session = self._opened()
        try:
            async with session.request(
                method,
                url,
                headers=headers,
                data=body or None,
                allow_redirects=False,
                proxy=_proxy(urllib.parse.urlsplit(url).hostname or ""),
            ) as response:
                return HttpResponse(
                    response.status,
                    _joined(response.headers.items()),
                    await _bounded(response),
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotSent(f"{url} can't be reached: {_why(error)}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Transient(f"{url} can't be reached: {_why(error)}") from error

    async def close(self) -> None:
        """Close all connections."""
        if self._session:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._ssl, limit=32, keepalive_timeout=60)
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=TIMEOUT,
                headers={"User-Agent": USER_AGENT, "Accept-Language": "en"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def _ssl_context(ca_bundle: str | None) -> ssl.SSLContext | bool:
    """What verifies the CA's certificate; True is aiohttp's own context, the system's roots."""
    if ca_bundle is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(Path(ca_bundle)))
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(
            f"the CA bundle {ca_bundle} is not a readable PEM file of certificates "
            f"({error.strerror or type(error).__name__})"
        ) from error


@functools.lru_cache(maxsize=64)
def _proxy(host: str) -> str | None:
    """The proxy that the environment names for an HTTPS host (HTTPS_PROXY, NO_PROXY).

    aiohttp's own trust_env asks anew for each request, in a thread.
    """
    if urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get("https")


def _joined(fields: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """By name in lower case; fields of the same name are a list (RFC 9110 §5.3)."""
    joined: dict[str, str] = {}
    for name, value in fields:
        key = name.lower()
        joined[key] = f"{joined[key]}, {value}" if key in joined else value
    return joined


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = await response.content.read(MAX_BODY_BYTES + 1)
    chunk = body
    while chunk and len(body) <= MAX_BODY_BYTES:
        chunk = await response.content.read(MAX_BODY_BYTES + 1 - len(body))
        body += chunk
    if len(body) > MAX_BODY_BYTES:
        raise Transient(f"{response.url} answered with more than {MAX_BODY_BYTES} bytes")
    return body


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
