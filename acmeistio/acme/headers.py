"""What a CA says beside the body: Retry-After, Date, Link, and URLs that are to be shown. Pure.

Whatever is malformed is absent: none of it is needed to go on.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from acmeistio.reasons import plain

MAX_RETRY_AFTER_SECONDS = 7 * 24 * 3600.0
"""The longest wait of Let's Encrypt's limits; a longer one is a mistake of somebody."""

MAX_URL_CHARACTERS = 2000
MAX_LINK_CHARACTERS = 16_384
MAX_LINKS = 32

_PARAMETER = r"""\s*+;\s*+([\w!#$&+.^`|~*-]++)(?:=("(?:[^"\\]|\\.)*+"|[^\s",;]*+))?+"""
_PARAMETERS = re.compile(_PARAMETER)
_LINK = re.compile(rf"<([^<>\s]*+)>((?:{_PARAMETER})*+)")
"""One link-value (RFC 8288 §3): the URL, then its parameters."""


def retry_after_seconds(text: str | None, now: datetime) -> float | None:
    """Retry-After as seconds from `now`; CAs send both forms (RFC 9110 §10.2.3)."""
    if text is None:
        return None
    try:
        seconds = float(min(int(text), int(MAX_RETRY_AFTER_SECONDS)))
    except ValueError:
        instant = http_date(text)
        if instant is None:
            return None
        seconds = (instant - now).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)


def http_date(text: str | None) -> datetime | None:
    """An HTTP-date (RFC 9110 §5.6.7), aware; one without a zone is in UTC."""
    if text is None:
        return None
    try:
        instant = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def links(text: str | None, base_url: str) -> Mapping[str, tuple[str, ...]]:
    """The URLs of Link header fields by their relation in lower case (RFC 8288 §3).

    `text` is all the fields, joined by commas; relative URLs are those of `base_url`. Only http
    and https are given, and not more than MAX_LINKS.
    """
    found: dict[str, list[str]] = {}
    for target, parameters, *_ in _LINK.findall((text or "")[:MAX_LINK_CHARACTERS])[:MAX_LINKS]:
        if url := _joined(base_url, target):
            for relation in _relations(parameters):
                found.setdefault(relation, []).append(url)
    return {relation: tuple(urls) for relation, urls in found.items()}


def _relations(parameters: str) -> list[str]:
    """The words of the first `rel` (RFC 8288 §3.3)."""
    values = (value for name, value in _PARAMETERS.findall(parameters) if name.lower() == "rel")
    return str(next(values, "")).strip('"').lower().split()


def _joined(base_url: str, target: str) -> str | None:
    try:
        return web_url(urllib.parse.urljoin(base_url, target))
    except ValueError:
        return None


def web_url(value: object) -> str | None:
    """A URL from outside, if a browser may be sent there: http or https, one line, not long."""
    if not isinstance(value, str) or plain(value, MAX_URL_CHARACTERS) != value:
        return None
    try:
        parts = urllib.parse.urlsplit(value)
        fit = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return None
    return value if fit and not re.search(r"\s", value) else None
