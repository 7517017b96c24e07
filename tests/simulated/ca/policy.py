"""What a CA is willing to issue for: reading and judging the wish of a newOrder request.

Pure. Rate limits and `replaces` (RFC 9773) belong after `judge`, before an order is made.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.simulated.ca.options import CaOptions
from tests.simulated.ca.problems import IDENTIFIER_TYPE, Problem, Refused, Rule, malformed

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_MAX_NAME_OCTETS = 253
_MAX_LABEL_OCTETS = 63
_MAX_LABELS = 10


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client wants a certificate for."""

    names: frozenset[str]
    profile: str


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
    )


def judge(wish: Wish, options: CaOptions, blocked: Iterable[str]) -> None:
    """Refuse what the CA will never issue (Boulder policy/pa.go and ra.go)."""
    if wish.profile not in options.profiles:
        detail = f"Unrecognized profile {wish.profile!r}"
        raise Refused(Problem("invalidProfile", detail))
    _judge_each(sorted(wish.names), frozenset(blocked))
    most = options.profiles[wish.profile].max_names
    if len(wish.names) > most:
        raise malformed(f"Order cannot contain more than {most} identifiers")
    for name in sorted(wish.names):
        if not name.startswith("*.") and _wildcard_beside(name) in wish.names:
            raise malformed(f"Domain name {name!r} is redundant with a wildcard domain")


def _judge_each(names: list[str], blocked: frozenset[str]) -> None:
    """One refused name is the problem itself, several are its subproblems, as at Boulder."""
    problems = [problem for name in names if (problem := _objection(name, blocked))]
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


def _objection(name: str, blocked: frozenset[str]) -> Problem | None:
    """Why the CA does not issue for `name`."""
    parents = {name.split(".", cut)[cut] for cut in range(name.count(".") + 1)}
    if parents & blocked:
        return _problem("rejectedIdentifier", name, "it is forbidden by policy")
    if objection := _form_objection(name.removeprefix("*.")):
        return _problem("malformed", name, objection)
    return None


def _form_objection(name: str) -> str | None:
    """Why `name` is no domain name that a public CA takes (Boulder policy/pa.go)."""
    labels = name.split(".")
    checks = (
        (len(name) > _MAX_NAME_OCTETS, f"it is longer than {_MAX_NAME_OCTETS} bytes"),
        (name.endswith("."), "it ends in a dot"),
        (_is_address(name), "it is an IP address"),
        (not 1 < len(labels) <= _MAX_LABELS, f"it has not 2 to {_MAX_LABELS} labels"),
        (any(len(label) > _MAX_LABEL_OCTETS for label in labels), "a label is too long"),
        (not all(map(_LABEL.fullmatch, labels)), "it contains an invalid character"),
    )
    return next((objection for wrong, objection in checks if wrong), None)


def _problem(kind: str, name: str, objection: str) -> Problem:
    detail = f"Error creating new order :: Cannot issue for {name!r}: {objection}"
    return Problem(kind, detail, identifier=name)


def _name(identifier: object) -> str:
    if not isinstance(identifier, dict) or not isinstance(identifier.get("value"), str):
        raise malformed("An identifier has 'type' and 'value'")
    if identifier.get("type") != IDENTIFIER_TYPE:
        detail = f"Identifiers of type {identifier.get('type')!r} are not supported"
        raise Refused(Problem("unsupportedIdentifier", detail), Rule.WELL_FORMED)
    return str(identifier["value"]).lower()


def _wildcard_beside(name: str) -> str:
    return "*." + name.partition(".")[2]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
