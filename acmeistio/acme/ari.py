"""When a CA wants a certificate to be renewed (RFC 9773 §4): one question, one answer.

Owns how the question is put and what of an answer is believed. When it is asked, and what follows
from it, is the caller's business.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from acmeistio.acme.headers import web_url
from acmeistio.acme.session import HTTP_TOO_MANY, ProblemResponse, Reply, Session
from acmeistio.errors import Permanent, Transient

LEAST_SECONDS = 60.0
MOST_SECONDS = 86_400.0
"""Retry-After is brought between these (RFC 9773 §4.3.2)."""

DEFAULT_SECONDS = 21_600.0
"""Where a CA forgot Retry-After (RFC 9773 §4.3.3)."""


@dataclass(frozen=True, slots=True)
class RenewalInfo:
    """The suggested window [start, end), in UTC, and in how many seconds to ask again.

    `explanation_url` is a page for humans, where the CA says why.
    """

    start: datetime
    end: datetime
    explanation_url: str | None
    retry_after_seconds: float


async def renewal_info(session: Session, renewal_id: str) -> RenewalInfo:
    """What the CA suggests for the certificate with this identifier (RFC 9773 §4.1).

    Raises Transient for what may pass (no answer, 5xx, 429), Permanent for what will last: no such
    service, no such certificate, an answer that is none (RFC 9773 §4.3.3).
    """
    base = (await session.meta()).renewal_info_url
    if base is None:
        raise Permanent("the CA offers no renewal information")
    try:
        reply = await session.get(f"{base.rstrip('/')}/{renewal_id}")
    except ProblemResponse as error:
        if error.problem.status == HTTP_TOO_MANY:
            raise Transient(str(error)) from error
        raise
    return _parsed(reply)


def _parsed(reply: Reply) -> RenewalInfo:
    try:
        document = json.loads(reply.body)
        window = document["suggestedWindow"]
        start, end = _instant(window["start"]), _instant(window["end"])
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise Permanent("the CA's renewal information is not understood") from error
    if end <= start:
        raise Permanent("the CA's suggested window ends before it begins")
    return RenewalInfo(start, end, web_url(document.get("explanationURL")), _wait(reply))


def _wait(reply: Reply) -> float:
    given = reply.retry_after_seconds
    return DEFAULT_SECONDS if given is None else min(max(given, LEAST_SECONDS), MOST_SECONDS)


def _instant(text: Any) -> datetime:
    """An RFC 3339 date-time, in UTC. Raises ValueError, TypeError, OverflowError."""
    if not isinstance(text, str):
        raise TypeError("it is no text")
    instant = datetime.fromisoformat(text.upper())
    if instant.tzinfo is None:
        raise ValueError("it has no zone")
    return instant.astimezone(UTC)
