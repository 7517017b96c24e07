"""What a CA answers instead of what was asked: problem documents (RFC 8555 §6.7, RFC 7807)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tests.simulated.ca.names import identifier

NAMESPACE = "urn:ietf:params:acme:error:"


class Rule(StrEnum):
    """A rule of the protocol that a client must not break, whatever the CA answers."""

    WELL_FORMED = "requests are well-formed (RFC 8555 §6.2, §6.3, §6.4)"
    OWN_RESOURCES = "an account asks for what is its own (RFC 8555 §10.5)"
    NONCE_ONCE = "a nonce is used once (RFC 8555 §6.5)"
    CHALLENGE_ONCE = "a challenge is answered while its authorization is pending (§7.5.1)"
    FINALIZE_READY = "an order is finalized once it is ready (RFC 8555 §7.4)"
    CSR_AS_ORDERED = "a CSR is sound and has exactly the names of its order (RFC 8555 §7.4)"
    RENEWAL_INFO_IN_USE = "renewal information is for certificates in use (RFC 9773 §4.3)"
    RETRY_AFTER = "nothing is asked again before Retry-After (RFC 8555 §7.5.1, §6.6)"


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem document; `kind` is the last part of its type, `name` what it is about."""

    kind: str
    detail: str
    status: int = 400
    name: str | None = None
    subproblems: tuple[Problem, ...] = ()
    instance: str = ""
    """Where a human finds out more (RFC 7807 §3.1)."""

    def document(self) -> dict[str, Any]:
        """As JSON; members that say nothing are left out, as both Boulder and Pebble do."""
        document: dict[str, Any] = {"type": NAMESPACE + self.kind, "detail": self.detail}
        if self.name is None:
            document["status"] = self.status
        else:
            document["identifier"] = identifier(self.name)
        if self.instance:
            document["instance"] = self.instance
        if self.subproblems:
            document["subproblems"] = [each.document() for each in self.subproblems]
        return document


@dataclass(eq=False)
class Refused(Exception):
    """A request that ends in a problem; `broken` is the rule that the client broke, if any."""

    problem: Problem
    broken: Rule | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def malformed(detail: str, *, status: int = 400) -> Refused:
    """The client's own mistake: the request can never be right."""
    return Refused(Problem("malformed", detail, status), Rule.WELL_FORMED)


def not_found(what: str) -> Refused:
    """Nothing there, or not any more; nobody's mistake."""
    return Refused(Problem("malformed", f"No such {what}", 404))


def unauthorized(detail: str) -> Refused:
    """Somebody else's resource."""
    return Refused(Problem("unauthorized", detail, 403), Rule.OWN_RESOURCES)
