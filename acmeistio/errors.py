"""The ways in which work can fail; owns the exceptions and nothing that handles them.

A user's mistake is never one of these: it is a Defect, a value (reasons.py). A library's
exception is translated into one of these once, at the edge where it appears.
"""

from __future__ import annotations


class AcmeistioError(Exception):
    """Any failure that acmeistio expects and handles; never raised itself."""


class Transient(AcmeistioError):
    """Trying again later may succeed: network, 5xx, 429, conflict, badNonce.

    `retry_after_seconds` is what the other side asked for (a floor), None if it said nothing.
    `pauses_issuer` is true where the CA asked this client as a whole to slow down (429, 503).
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after_seconds: float | None = None,
        pauses_issuer: bool = False,
    ) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.pauses_issuer = pauses_issuer


class NotSent(Transient):
    """There was no connection: the other side has nothing of the request."""


class Forbidden(Transient):
    """The API server refuses a request to this identity; it succeeds once the right is given.

    The message says verb, resource and name, as the API server does.
    """


class KeyMissing(Transient):
    """The MAC key of an external account is not there; it succeeds once somebody puts it there."""


class Permanent(AcmeistioError):
    """Repeating the same request can't succeed: spec or settings must change first.

    `problem_type` is the last part of the CA's problem type (RFC 8555 §6.7), or "".
    """

    def __init__(self, message: str, *, problem_type: str = "") -> None:
        super().__init__(message)
        self.problem_type = problem_type


class Misconfigured(AcmeistioError):
    """The program can't start as it was told to; ends as one line and exit code 2."""


class Conflict(AcmeistioError):
    """An object changed, appeared or went since it was read; read again and decide anew."""


class NotLeader(AcmeistioError):
    """The Term under which a write was made is over; somebody else may write now."""
