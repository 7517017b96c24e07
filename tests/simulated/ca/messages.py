"""What passes between the server, which knows HTTP, and the service, which knows ACME."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.simulated.ca.problems import Rule, malformed
from tests.simulated.ca.records import Account, Resource

_RESOURCES = {str(each): each for each in Resource}


@dataclass(frozen=True, slots=True)
class Signed:
    """A request whose signature was checked; `account` is None only where a jwk is allowed."""

    payload: bytes
    jwk: dict[str, Any]
    account: Account | None

    @property
    def asker(self) -> Account:
        """Who asks."""
        assert self.account
        return self.account


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered: JSON, PEM or nothing; `broken` is a rule broken without being refused."""

    status: int
    content: Mapping[str, Any] | bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    broken: Rule | None = None


@dataclass(frozen=True, slots=True)
class Urls:
    """Where the resources are: a resource's kind, then its id."""

    base: str

    def of(self, resource: Resource, name: str = "") -> str:
        """The URL of a resource."""
        return f"{self.base}/{resource}/{name}".rstrip("/")

    def parse(self, url: str) -> tuple[Resource | None, str]:
        """The inverse of `of`; None where nothing can be."""
        kind, _, name = url.removeprefix(f"{self.base}/").partition("/")
        resource = _RESOURCES.get(kind)
        return (resource, name) if resource and self.of(resource, name) == url else (None, "")


def reading(signed: Signed, reply: Reply) -> Reply:
    """The reply to a POST-as-GET, whose payload is empty (RFC 8555 §6.3)."""
    if signed.payload:
        raise malformed("POST-as-GET requests must have an empty payload")
    return reply
