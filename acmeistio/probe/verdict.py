"""What the way of a probe through a gateway means for a CA that will go the same way. Pure.

Owns the rules of DESIGN.md §5 ("The probe"): which redirects are followed, what is a clear
failure, and what can't be judged from inside the cluster, because a gateway may treat the CA
otherwise (PROXY protocol, allow-lists). It knows neither how a hop was made nor what waits for
the verdict.
"""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from acmeistio.model import GatewayAddress, ObjectRef
from acmeistio.names import DnsName, url_host
from acmeistio.reasons import Defect, Reason, defect

MAX_REDIRECTS: Final = 10
"""As many as Let's Encrypt follows."""

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_FORBIDDING: Final = frozenset({401, 403, 429})
_NOT_UNDERSTANDING: Final = frozenset({400, 421})
_UNREACHED: Final = frozenset({502, 503, 504})
_ENVOYS_WORDS: Final = (
    b"upstream connect error",
    b"no healthy upstream",
    b"upstream request timeout",
)
"""How the bodies begin that Envoy itself answers where it can't reach what it routes to."""


class How(StrEnum):
    """How a hop can end without an answer."""

    REFUSED = "refused"
    UNRESOLVED = "unresolved"
    TLS = "tls"
    RESET = "reset"
    TIMEOUT = "timeout"
    NOT_HTTP = "not-http"


@dataclass(frozen=True, slots=True)
class Answered:
    """An HTTP response. `body` is its beginning, `server` the header of that name.

    `envoy`: an Envoy stands in the way; `upstream`: it says that something behind it answered.
    """

    status: int
    location: str | None = None
    body: bytes = field(default=b"", repr=False)
    server: str = ""
    envoy: bool = False
    upstream: bool = False


@dataclass(frozen=True, slots=True)
class Broken:
    """No response; `text` says in words what happened."""

    how: How
    text: str


@dataclass(frozen=True, slots=True)
class Asked:
    """One request at the gateway's address; `path` as sent, with the query."""

    scheme: str
    port: int
    path: str


@dataclass(frozen=True, slots=True)
class Hop:
    """One request of a probe, and what came of it."""

    asked: Asked
    came: Answered | Broken


class Outcome(StrEnum):
    """Whether a CA that goes the same way gets the answer to its challenge.

    UNKNOWN: what answers may answer the CA otherwise, so it must not hold up an order.
    """

    REACHED = "reached"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a probe has shown; unless it is REACHED, with a reason and its facts."""

    outcome: Outcome
    reason: Reason | None = None
    facts: tuple[tuple[str, str], ...] = ()

    def defect(self, subject: ObjectRef) -> Defect | None:
        """The same said of an object that declares the name; None where all is well."""
        return Defect(subject, self.reason.code, self.facts) if self.reason else None


def onward(name: DnsName, address: GatewayAddress, hop: Hop) -> Asked | None:
    """What to ask the same gateway next; None where the way ends here.

    Only a redirect to the same host, and to a port where a CA goes, leads on: the CA's 80 and
    443 are the gateway's own ports here.
    """
    location = _redirect(hop)
    if location is None:
        return None
    try:
        to = _target(name, hop, location)
        host, port = to.hostname, to.port
    except ValueError:
        return None
    ports = {"http": (80, address.http_port), "https": (443, address.https_port)}
    known = ports.get(to.scheme, ())
    if host != name or not known or port not in (None, *known):
        return None
    return Asked(to.scheme, known[1], (to.path or "/") + (f"?{to.query}" if to.query else ""))


def judge(
    name: DnsName,
    address: GatewayAddress,
    hops: tuple[Hop, ...],
    expected: bytes,
    owner: ObjectRef | None = None,
) -> Verdict:
    """What the hops of a probe mean; `owner` is the object that routes the host, if known."""
    last = hops[-1]
    seen = _Seen(name, address, last, owner)
    if isinstance(last.came, Broken):
        return _broken(seen, last.came)
    if last.came.status == HTTPStatus.OK and last.came.body.rstrip() == expected:
        return Verdict(Outcome.REACHED)
    if _redirect(last) is not None:
        return _loop(seen) if onward(name, address, last) else _elsewhere(seen)
    return _answered(seen, last.came)


def _redirect(hop: Hop) -> str | None:
    """The Location of a redirect; what has none is an answer like others."""
    came = hop.came
    return came.location if isinstance(came, Answered) and came.status in _REDIRECTS else None


def _target(name: DnsName, hop: Hop, location: str) -> urllib.parse.SplitResult:
    """What a Location means where it was said. Raises ValueError."""
    location.encode()  # octets that are no UTF-8 lead nowhere
    asked = f"{hop.asked.scheme}://{url_host(name)}{hop.asked.path}"
    return urllib.parse.urlsplit(urllib.parse.urljoin(asked, location))


@dataclass(frozen=True, slots=True)
class _Seen:
    """The last hop as the words of a reason have it."""

    name: DnsName
    gateway: GatewayAddress
    hop: Hop
    owned_by: ObjectRef | None

    @property
    def there(self) -> dict[str, str]:
        """Which name, seen through what."""
        address = f"{url_host(self.gateway.host)}:{self.hop.asked.port}"
        return {"name": self.name, "address": address}

    @property
    def answer(self) -> dict[str, str]:
        """The same with what was answered there."""
        status = str(self.hop.came.status) if isinstance(self.hop.came, Answered) else "nothing"
        return {**self.there, "scheme": self.hop.asked.scheme, "status": status}

    @property
    def owner(self) -> str:
        """Which object routes the host."""
        return str(self.owned_by or "no object that acmeistio sees")

    @property
    def problem(self) -> str:
        """What came, in a few words."""
        came = self.hop.came
        return came.text if isinstance(came, Broken) else f"it answers {came.status}"

    @property
    def location(self) -> str:
        """Where a redirect leads, without path and query, which may be others each time."""
        location = _redirect(self.hop) or ""
        try:
            to = _target(self.name, self.hop, location)
        except ValueError:
            return location
        return f"{to.scheme}://{to.netloc.rpartition('@')[2]}" if to.netloc else f"{to.scheme}:"


def _broken(seen: _Seen, came: Broken) -> Verdict:
    """A last hop without an answer. What listens may talk to others, what does not, to nobody."""
    match came.how:
        case How.REFUSED if seen.hop.asked.scheme == "https":
            return _closed_port(seen)
        case How.REFUSED:
            return _not_answering(seen)
        case How.UNRESOLVED:
            return _not_found(seen)
        case How.TLS:
            return _broken_tls(seen)
        case How.TIMEOUT:
            return _timed_out(seen)
        case How.RESET | How.NOT_HTTP:
            return _not_understood(seen)


def _answered(seen: _Seen, came: Answered) -> Verdict:
    """A last answer that is neither the expected one nor a redirect."""
    if came.status in _FORBIDDING:
        return _forbidden(seen)
    if came.status in _NOT_UNDERSTANDING:
        return _not_understood(seen)
    if came.status == HTTPStatus.NOT_FOUND and not came.upstream:
        return _not_routed(seen)
    if came.status in _UNREACHED and _is_envoys_own(came):
        return _unreachable(seen)
    return _another_backend(seen)


def _is_envoys_own(came: Answered) -> bool:
    """Whether it is the gateway that says so, and not a backend through it."""
    return came.body.startswith(_ENVOYS_WORDS) or (came.envoy and not came.upstream)


_ANYBODY: Final = ObjectRef("", "", "")
"""Whom a verdict is about is said later (Verdict.defect)."""


def _failed(found: Defect) -> Verdict:
    return Verdict(Outcome.FAILED, found.reason, found.facts)


def _unknown(found: Defect) -> Verdict:
    return Verdict(Outcome.UNKNOWN, found.reason, found.facts)


def _not_answering(seen: _Seen) -> Verdict:
    found = defect(Reason.GatewayNotAnswering, _ANYBODY, **seen.there, problem=seen.problem)
    return _failed(found)


def _not_found(seen: _Seen) -> Verdict:
    """Where to ask is our own guess or setting, and says nothing of the way of the CA."""
    return _unknown(defect(Reason.GatewayNotFound, _ANYBODY, **seen.there))


def _closed_port(seen: _Seen) -> Verdict:
    found = defect(Reason.RedirectedToClosedPort, _ANYBODY, **seen.there)
    return _failed(found)


def _broken_tls(seen: _Seen) -> Verdict:
    found = defect(Reason.RedirectedToBrokenTLS, _ANYBODY, **seen.there, problem=seen.problem)
    return _failed(found)


def _loop(seen: _Seen) -> Verdict:
    found = defect(
        Reason.RedirectLoop, _ANYBODY, **seen.there, location=seen.location, owner=seen.owner
    )
    return _failed(found)


def _not_routed(seen: _Seen) -> Verdict:
    found = defect(Reason.ChallengeNotRouted, _ANYBODY, **seen.answer, owner=seen.owner)
    return _failed(found)


def _another_backend(seen: _Seen) -> Verdict:
    found = defect(Reason.AnotherBackend, _ANYBODY, **seen.answer, owner=seen.owner)
    return _failed(found)


def _unreachable(seen: _Seen) -> Verdict:
    found = defect(Reason.AcmeistioUnreachable, _ANYBODY, **seen.answer)
    return _failed(found)


def _forbidden(seen: _Seen) -> Verdict:
    found = defect(Reason.GatewayForbids, _ANYBODY, **seen.answer)
    return _unknown(found)


def _not_understood(seen: _Seen) -> Verdict:
    found = defect(Reason.ProbeNotUnderstood, _ANYBODY, **seen.there, problem=seen.problem)
    return _unknown(found)


def _timed_out(seen: _Seen) -> Verdict:
    found = defect(Reason.ProbeTimedOut, _ANYBODY, **seen.there, scheme=seen.hop.asked.scheme)
    return _unknown(found)


def _elsewhere(seen: _Seen) -> Verdict:
    found = defect(
        Reason.RedirectedElsewhere, _ANYBODY, **seen.there, location=seen.location, owner=seen.owner
    )
    return _unknown(found)
