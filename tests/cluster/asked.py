"""What the program asked of the API server, as the audit log tells of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.cluster.bed import Bed

USER_AGENT = "acmeistio/"
"""Tests ask under acmeistio's name as well, to see what it may."""


@dataclass(frozen=True)
class Right:
    """What RBAC is asked for a request; "" as the name where the request names no object."""

    verb: str
    resource: str
    name: str = ""


@dataclass(frozen=True)
class Request:
    """One request of the program with its answer."""

    right: Right
    subject: str
    """The name of the object that it is about, else the resource."""
    code: int
    event: dict[str, Any]
    """As the audit log has it."""

    def __str__(self) -> str:
        said = self.event["responseStatus"].get("message", "")
        return f"{self.code} {self.event['verb']} {self.event['requestURI']}: {said}"


def requests(bed: Bed) -> Iterator[Request]:
    """All since the start of the bed; of a watch that it was begun."""
    for event in bed.audit():
        if event["userAgent"].startswith(USER_AGENT):
            subject, verb = event.get("objectRef", {}), event["verb"]
            resource, name = subject.get("resource", event["requestURI"]), subject.get("name", "")
            # RBAC does not know yet how an object is called that is created, nor asks for Events.
            right = Right(verb, resource, "" if verb == "create" or resource == "events" else name)
            yield Request(right, name or resource, event["responseStatus"]["code"], event)
