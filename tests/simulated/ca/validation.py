"""How a CA looks whether a name is controlled: HTTP-01 (RFC 8555 §8.3; Boulder va/http.go)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from tests.simulated.ca.names import url_host
from tests.simulated.ca.problems import Problem
from tests.simulated.ca.records import Challenge

Fetch = Callable[[str, str, Mapping[str, str]], Awaitable[tuple[int, bytes]]]
"""(host, path, headers) → status and body of http://host/path, port 80.

The host is the name that is validated, an IPv6 address without its brackets; the header Host
has them (RFC 8738 §4). Redirects are its business. Raises OSError, of which TimeoutError is
one, when nobody answers.
"""

_MAX_BODY_OCTETS = 128
_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "user-agent": (
            "Mozilla/5.0 (compatible; Let's Encrypt validation server; "
            "+https://www.letsencrypt.org)"
        ),
        "accept": "*/*",
        "connection": "close",
    }
)


async def look(challenge: Challenge, fetch: Fetch) -> Problem | None:
    """What is wrong with the answer to `challenge`; only HTTP-01 can be right here."""
    if challenge.kind == "http-01":
        return await http_01(challenge, fetch)
    if challenge.kind == "dns-01":
        return _invalid(f"No TXT record found at _acme-challenge.{challenge.authorization.name}")
    return Problem("connection", "Connection refused on port 443")


async def http_01(challenge: Challenge, fetch: Fetch) -> Problem | None:
    """What is wrong with the answer under the well-known URL; None when it proves control."""
    name = challenge.authorization.name
    host, path = url_host(name), f"/.well-known/acme-challenge/{challenge.token}"
    try:
        status, body = await fetch(name, path, {"host": host, **_HEADERS})
    except OSError as error:
        return Problem("connection", f"Fetching http://{host}{path}: {error!r}")
    if status != 200:
        return _invalid(f"Invalid response from http://{host}{path}: {status}")
    if len(body) > _MAX_BODY_OCTETS or body.rstrip() != key_authorization(challenge):
        return _invalid("The key authorization file from the server did not match this challenge")
    return None


def key_authorization(challenge: Challenge) -> bytes:
    """What proves that the account's holder has put it there (RFC 8555 §8.1)."""
    return f"{challenge.token}.{challenge.authorization.account.thumbprint}".encode()


def _invalid(detail: str) -> Problem:
    return Problem("unauthorized", detail, 403)
