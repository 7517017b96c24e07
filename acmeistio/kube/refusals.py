"""What the API server's refusals mean to the program: the one place that knows its status codes.

Its own words are kept, since they say verb, resource and name; they are cut and made one line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from acmeistio.errors import AcmeistioError, Conflict, Forbidden, Permanent, Transient
from acmeistio.reasons import plain

MAX_MESSAGE_CHARACTERS = 1000

_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}


class Missing(Permanent):
    """404: there is no such object, namespace or kind."""


class Gone(AcmeistioError):
    """410: what a list or watch was to go on from is forgotten; it must begin anew."""


_MEANINGS: Mapping[int, type[AcmeistioError]] = {
    HTTPStatus.UNAUTHORIZED: Forbidden,
    HTTPStatus.FORBIDDEN: Forbidden,
    HTTPStatus.NOT_FOUND: Missing,
    HTTPStatus.CONFLICT: Conflict,
    HTTPStatus.GONE: Gone,
}


def refusal(status: int, body: bytes | Mapping[str, Any], retry_after: str = "") -> AcmeistioError:
    """The error for an answer that is no success; `body` is a Status, or what a proxy says."""
    message = _message(status, body)
    if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        floor = float(retry_after) if retry_after.isdecimal() else None
        return Transient(message, retry_after_seconds=floor)
    if status == HTTPStatus.UNAUTHORIZED:
        message = (
            f"the API server does not accept acmeistio's credentials ({message}); "
            "they have expired, or the ServiceAccount is gone"
        )
    return _MEANINGS.get(status, Permanent)(message)


def _message(status: int, body: bytes | Mapping[str, Any]) -> str:
    """The API server's own sentence; what something else on the way says comes with its code."""
    try:
        found = body if isinstance(body, Mapping) else json.loads(body)
        sentence = found["message"]
    except (ValueError, KeyError, TypeError):
        sentence = None
    if not isinstance(sentence, str) or not sentence:
        text = body.decode(errors="replace") if isinstance(body, bytes) else ""
        sentence = f"the API server answered {status} {text}".strip()
    return plain(sentence, MAX_MESSAGE_CHARACTERS)
