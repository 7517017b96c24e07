"""What a CA is willing to issue for: reading and judging the wish of a newOrder request.

Pure. Pauses and `replaces` (RFC 9773) belong after `judge_form`, rate limits after
`judge_profile`, in Boulder's order (wfe2 NewOrder, then ra NewOrder).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.simulated.ca.names import address_of
from tests.simulated.ca.options import CaOptions, Profile
from tests.simulated.ca.problems import Problem, Refused, Rule, malformed

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_MAX_NAME_OCTETS = 253
_MAX_LABEL_OCTETS = 63
_MAX_LABELS = 10


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client wants a certificate for."""

    names: frozenset[str]
    profile: str
    replaces: str = ""
    """The renewal id of the certificate that it is to replace (RFC 9773 §5)."""


def read(payload: dict[str, Any], options: CaOptions) -> Wish:
    """The wish of a newOrder payload (RFC 8555 §7.4)."""
    if payload.keys() & {"notBefore", "notAfter"}:
        raise malformed("NotBefore and NotAfter are not supported")
    identifiers = payload.get("identifiers")
    if not isinstance(identifiers, list) or not identifiers:
        raise malformed("NewOrder request did not specify any identifiers")
    return Wish(
        names=frozenset(_name(identifier) for identifier in identifiers),
        profile=str(payload.get("profile") or options.default_profile),
        replaces=str(payload.get("replaces") or ""),
    )


def judge_form(wish: Wish) -> None:
    """Refuse names that are none (Boulder policy/pa.go, WellFormedIdentifiers)."""
    objections = {name: _form_objection(name.removeprefix("*.")) for name in wish.names}
    _refuse([_problem("malformed", name, why) for name, why in sorted(objections.items()) if why])


def judge_profile(wish: Wish, options: CaOptions) -> Profile:
    """The profile; one that the directory does not list is refused."""
    profile = options.profiles.get(wish.profile)
    if profile is None:
        raise Refused(Problem("invalidProfile", f"Unrecognized profile {wish.profile!r}"))
    return profile


def judge_names(wish: Wish, profile: Profile, blocked: Iterable[str]) -> None:
    """Refuse what the CA will never issue (Boulder policy/pa.go and ra.go)."""
    if not profile.ip_addresses and any(map(address_of, wish.names)):
        detail = f"Profile {wish.profile!r} does not permit ip type identifiers"
        raise Refused(Problem("rejectedIdentifier", detail))
    objection, forbidden = "it is forbidden by policy", frozenset(blocked)
    blocked_names = [name for name in sorted(wish.names) if _parents(name) & forbidden]
    _refuse([_problem("rejectedIdentifier", name, objection) for name in blocked_names])
    if len(wish.names) > profile.max_names:
        raise malformed(f"Order cannot contain more than {profile.max_names} identifiers")
    for name in sorted(wish.names):
        if not name.startswith("*.") and _wildcard_beside(name) in wish.names:
            raise malformed(f"Domain name {name!r} is redundant with a wildcard domain")


def _refuse(problems: list[Problem]) -> None:
    """One refused name is the problem itself, several are its subproblems, as at Boulder."""
    if not problems:
        return
    first = problems[0]
    if len(problems) == 1:
        raise Refused(Problem(first.kind, first.detail))
    detail = (
        f"{first.detail} (and {len(problems) - 1} more problems. "
        "Refer to sub-problems for more information.)"
    )
    raise Refused(Problem("rejectedIdentifier", detail, subproblems=tuple(problems)))


def _parents(name: str) -> set[str]:
    """A name and all domains that it is in."""
    return {name.split(".", cut)[cut] for cut in range(name.count(".") + 1)}


def _form_objection(name: str) -> str | None:
    """Why `name` is no domain name that a public CA takes (Boulder policy/pa.go)."""
    if address_of(name):
        return None
    labels = name.split(".")
    checks = (
        (len(name) > _MAX_NAME_OCTETS, f"it is longer than {_MAX_NAME_OCTETS} bytes"),
        (name.endswith("."), "it ends in a dot"),
        (not 1 < len(labels) <= _MAX_LABELS, f"it has not 2 to {_MAX_LABELS} labels"),
        (any(len(label) > _MAX_LABEL_OCTETS for label in labels), "a label is too long"),
        (not all(map(_LABEL.fullmatch, labels)), "it contains an invalid character"),
    )
    return next((objection for wrong, objection in checks if wrong), None)


def _problem(kind: str, name: str, objection: str) -> Problem:
    detail = f"Error creating new order :: Cannot issue for {name!r}: {objection}"
    return Problem(kind, detail, name=name)


def _name(identifier: object) -> str:
    """The name; an address is told from a DNS name by its look, so it must have the right type."""
    if not isinstance(identifier, dict) or not isinstance(identifier.get("value"), str):
        raise malformed("An identifier has 'type' and 'value'")
    kind, name = identifier.get("type"), str(identifier["value"]).lower()
    address = address_of(name)
    if kind == "ip" and str(address) == name:
        return name
    if kind == "ip":
        raise malformed(f"Cannot issue for {name!r}: not an IP address in canonical form")
    if kind != "dns":
        detail = f"Identifiers of type {kind!r} are not supported"
        raise Refused(Problem("unsupportedIdentifier", detail), Rule.WELL_FORMED)
    if address:
        raise malformed(f"Cannot issue for {name!r}: it is an IP address")
    return name


def _wildcard_beside(name: str) -> str:
    return "*." + name.partition(".")[2]
