"""The CA's word on single names: authorizations, their challenges, and whom a problem is about.

Owns how a name is written as an identifier (RFC 8555 §9.7.7, RFC 8738 §3) and read back. It sends
nothing. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from acme import challenges, messages
from josepy import errors as jose_errors

from acmeistio.acme.problem import Problem, parse_problem
from acmeistio.acme.session import Reply
from acmeistio.errors import AcmeistioError, Transient
from acmeistio.names import DnsName, InvalidName, is_ip_address, parse_name

_OF_NAMES = frozenset(
    {
        "caa",
        "connection",
        "dns",
        "incorrectResponse",
        "rejectedIdentifier",
        "tls",
        "unsupportedIdentifier",
    }
)
"""Problem types that are always about a name (RFC 8555 §6.7)."""

_WORDS = re.compile(r"[A-Za-z0-9*._:-]*[A-Za-z0-9]")


@dataclass(frozen=True, slots=True)
class NameFailure:
    """One name that the CA did not validate, or refuses to."""

    name: DnsName
    problem: Problem


class NamesFailed(AcmeistioError):
    """The order is invalid, or was refused, because of some of its names."""

    def __init__(self, failures: Sequence[NameFailure]) -> None:
        super().__init__("; ".join(f"{f.name}: {f.problem}" for f in failures))
        self.failures = tuple(failures)


def identifier_of(name: DnsName) -> messages.Identifier:
    """The identifier that stands for a name in newOrder."""
    kind = messages.IDENTIFIER_IP if is_ip_address(name) else messages.IDENTIFIER_FQDN
    return messages.Identifier(typ=kind, value=name)


def name_of(value: str) -> DnsName:
    """The name that a CA means by the value of an identifier, however it spells an address."""
    try:
        return parse_name(value)
    except InvalidName:
        return DnsName(value)


def parse_authorization(reply: Reply) -> messages.Authorization:
    """The authorization in an answer. Raises Transient where it is not understood."""
    document = dict(reply.document) if isinstance(reply.document, dict) else {}
    if document.get("status") == "expired":
        # RFC 8555 §7.1.6 has it, acme.messages does not; like revoked, it is no failure.
        document["status"] = "revoked"
    try:
        authorization: messages.Authorization = messages.Authorization.from_json(document)
    except (jose_errors.Error, ValueError, TypeError, AttributeError, KeyError) as problem:
        raise Transient("the CA's authorization is not understood") from problem
    return authorization


def challenge_of(
    authorization: messages.Authorization, types: frozenset[str]
) -> messages.ChallengeBody:
    """The challenge that is to be answered. Raises NamesFailed where there is none of `types`."""
    for challenge in authorization.challenges or ():
        chall = challenge.chall
        if isinstance(chall, challenges.KeyAuthorizationChallenge) and chall.typ in types:
            return challenge
    problem = Problem("", f"the CA offers no challenge of the types {', '.join(sorted(types))}")
    raise NamesFailed([NameFailure(name_of(authorization.identifier.value), problem)])


def failures_of(authorization: messages.Authorization) -> list[NameFailure]:
    """What the CA says of a name whose authorization it did not grant."""
    if authorization.status != messages.STATUS_INVALID:
        return []
    errors = [challenge.error for challenge in authorization.challenges or () if challenge.error]
    problem = Problem("", "the authorization is invalid and no reason is given")
    if errors:
        problem = parse_problem(errors[0].to_json())
    return [NameFailure(name_of(authorization.identifier.value), problem)]


def failures_in(problem: Problem, names: Iterable[DnsName]) -> list[NameFailure]:
    """Which names of an order its problem is about, as far as that is said.

    Subproblems say it (RFC 8555 §6.7.1). Let's Encrypt gives none where a single name is refused:
    its detail has the name.
    """
    failures = [
        NameFailure(name_of(below.identifier), below)
        for below in problem.subproblems
        if below.identifier
    ]
    if failures or problem.type not in _OF_NAMES:
        return failures
    return [NameFailure(name, problem) for name in _mentioned(problem.detail, tuple(names))]


def _mentioned(detail: str, names: Sequence[DnsName]) -> Sequence[DnsName]:
    """Those in quotation marks, else the one that stands first, else the only one there is."""
    quoted = [name for name in names if f'"{name}"' in detail]
    if quoted:
        return quoted
    first = next((word for word in _WORDS.findall(detail) if word in names), None)
    return [DnsName(first)] if first else names if len(names) == 1 else ()
