"""Problem documents (RFC 7807) as CAs send them (RFC 8555 §6.7). Pure.

`acme.messages.Error` drops `status` and `instance` and has no code for newer types, so the
document is read here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from acmeistio.acme.headers import web_url
from acmeistio.reasons import plain

PREFIX = "urn:ietf:params:acme:error:"
MAX_SUBPROBLEMS = 200

_TOKEN = re.compile(
    r"(?<=/\.well-known/acme-challenge/)[\w-]+|(?<![\w.-])[\w-]{22,128}\.[\w-]{43}(?![\w-])"
)
"""A token in a URL, and a key authorization, which CAs quote where a challenge failed."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem; `type` is the last part of its URN, "" for none of ACME's.

    `identifier` is the name that a subproblem is about, `instance` a URL where a human settles
    the matter (RFC 8555 §7.3.3); "" where it has none.
    """

    type: str
    detail: str
    status: int = 0
    identifier: str = ""
    subproblems: tuple[Problem, ...] = ()
    instance: str = ""

    def __str__(self) -> str:
        return f"{self.detail} ({self.type})" if self.type else self.detail


def parse_problem(document: object, status: int = 0) -> Problem:
    """The problem in a decoded JSON value; whatever is missing or of a wrong shape is empty."""
    fields: Mapping[str, Any] = document if isinstance(document, Mapping) else {}
    identifier = fields.get("identifier")
    name = identifier.get("value") if isinstance(identifier, Mapping) else ""
    below = fields.get("subproblems")
    below = below[:MAX_SUBPROBLEMS] if isinstance(below, list) else []
    return Problem(
        type=plain(str(fields.get("type", "")).removeprefix(PREFIX), 60),
        detail=_detail(fields.get("detail") or fields.get("title") or f"HTTP status {status}"),
        status=status,
        identifier=plain(name or "", 260),
        subproblems=tuple(parse_problem(item) for item in below if isinstance(item, Mapping)),
        instance=web_url(fields.get("instance")) or "",
    )


def _detail(text: object) -> str:
    """Without tokens: they are for no log, and the same failure reads the same the next time."""
    return plain(_TOKEN.sub("…", str(text)))


def problem_of(status: int, body: bytes) -> Problem:
    """The problem in the body of an error response, whatever the body is."""
    try:
        return parse_problem(json.loads(body), status)
    except (ValueError, RecursionError):
        return parse_problem({}, status)
