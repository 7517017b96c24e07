"""What a simulated CA knows and remembers: the resources of RFC 8555 §7.1 and their states.

The CA's own state, which tests read to judge a client without believing what it says.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

from cryptography import x509

from tests.simulated.ca.problems import Problem, Rule


class Resource(StrEnum):
    """The kinds of resource, spelt as the first part of their URL's path."""

    DIRECTORY = "directory"
    NEW_NONCE = "new-nonce"
    NEW_ACCOUNT = "new-account"
    NEW_ORDER = "new-order"
    ACCOUNT = "account"
    ORDER = "order"
    FINALIZE = "finalize"
    AUTHORIZATION = "authorization"
    CHALLENGE = "challenge"
    CERTIFICATE = "certificate"


class Status(StrEnum):
    """The states of orders, authorizations and challenges (RFC 8555 §7.1.6)."""

    PENDING = "pending"
    PROCESSING = "processing"
    READY = "ready"
    VALID = "valid"
    INVALID = "invalid"
    EXPIRED = "expired"


@dataclass(eq=False, slots=True)
class Account:
    """A client's public key, known to the CA (RFC 8555 §7.1.2)."""

    id: str
    jwk: dict[str, Any]
    thumbprint: str
    contact: tuple[str, ...]
    created: datetime


@dataclass(eq=False, slots=True)
class Challenge:
    """One way to prove control of a name (RFC 8555 §7.1.5, §8).

    `posts` counts how often the client answered it, `running` the validations under way.
    """

    id: str
    kind: str
    token: str
    authorization: Authorization
    posts: int = 0
    running: int = 0
    validated: datetime | None = None
    error: Problem | None = None

    @property
    def status(self) -> Status:
        """From pending over processing to valid or invalid (RFC 8555 §7.1.6)."""
        if self.error:
            return Status.INVALID
        if self.validated:
            return Status.VALID
        return Status.PROCESSING if self.running else Status.PENDING


@dataclass(eq=False, slots=True)
class Authorization:
    """The CA's knowledge that an account controls a name (RFC 8555 §7.1.4).

    `name` keeps the `*.` of a wildcard, which the resource shows as a member of its own.
    """

    id: str
    account: Account
    name: str
    profile: str
    expires: datetime
    challenges: list[Challenge] = field(default_factory=list)

    def status(self, now: datetime) -> Status:
        """From pending to valid or invalid; pending and valid expire (RFC 8555 §7.1.6)."""
        statuses = {challenge.status for challenge in self.challenges}
        if Status.INVALID in statuses:
            return Status.INVALID
        if now >= self.expires:
            return Status.EXPIRED
        return Status.VALID if Status.VALID in statuses else Status.PENDING

    @property
    def is_final(self) -> bool:
        """Whether its challenges have decided it; nothing may be validated any more."""
        return any(challenge.error or challenge.validated for challenge in self.challenges)


@dataclass(eq=False, slots=True)
class Certificate:
    """A certificate that was issued; `chain` is the leaf and its intermediates as PEM."""

    account: Account
    serial: int
    names: frozenset[str]
    not_before: datetime
    not_after: datetime
    leaf: x509.Certificate
    chain: bytes

    @property
    def id(self) -> str:
        """The serial number in hexadecimal."""
        return f"{self.serial:x}"


@dataclass(eq=False, slots=True)
class Order:
    """A request for a certificate (RFC 8555 §7.1.3)."""

    id: str
    account: Account
    names: frozenset[str]
    profile: str
    created: datetime
    expires: datetime
    authorizations: list[Authorization]
    csr: x509.CertificateSigningRequest | None = None
    certificate: Certificate | None = None
    error: Problem | None = None

    def status(self, now: datetime) -> Status:
        """Pending, ready, processing, valid; from any but valid to invalid (§7.1.6)."""
        if self.certificate:
            return Status.VALID
        if self.error or now >= self.expires:
            return Status.INVALID
        if self.csr:
            return Status.PROCESSING
        statuses = {authorization.status(now) for authorization in self.authorizations}
        if statuses & {Status.INVALID, Status.EXPIRED}:
            return Status.INVALID
        return Status.READY if statuses == {Status.VALID} else Status.PENDING


@dataclass(eq=False, slots=True)
class Request:
    """A request as the CA saw it: `status` is None until it is answered, and when it never was.

    `problem` is the kind of the problem that was answered; `reply_lost` says that the request
    was carried out and its reply lost.
    """

    at: datetime
    method: str
    url: str
    resource: Resource | None
    status: int | None = None
    problem: str | None = None
    reply_lost: bool = False


@dataclass(frozen=True, slots=True)
class Validation:
    """The end of one validation; `problem` is None where the name was proved."""

    at: datetime
    account: Account
    name: str
    problem: Problem | None


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule of the protocol that the client broke."""

    at: datetime
    rule: Rule
    detail: str
    request: Request


Wished = tuple[str, frozenset[str], str]
"""What an order is for: account id, names, profile."""

Proved = tuple[str, str, str]
"""What a valid authorization proves: account id, name, profile (reused only within it)."""


@dataclass(eq=False, slots=True)
class Book:
    """What the CA knows now, by id.

    `latest_orders` and `latest_proofs` are what may be given out again; they may be over.
    """

    accounts: dict[str, Account] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    authorizations: dict[str, Authorization] = field(default_factory=dict)
    challenges: dict[str, Challenge] = field(default_factory=dict)
    certificates: dict[str, Certificate] = field(default_factory=dict)
    latest_orders: dict[Wished, Order] = field(default_factory=dict)
    latest_proofs: dict[Proved, Authorization] = field(default_factory=dict)
    nonces: set[str] = field(default_factory=set)
    spent_nonces: set[str] = field(default_factory=set)

    def account_with(self, thumbprint: str) -> Account | None:
        """The account of a key (RFC 8555 §7.3.1)."""
        return next((a for a in self.accounts.values() if a.thumbprint == thumbprint), None)

    def forget(self) -> None:
        """Know nothing any more."""
        for each in fields(self):
            getattr(self, each.name).clear()


@dataclass(eq=False, slots=True)
class History:
    """Everything that ever was, in its order; a restart of the CA forgets none of it."""

    accounts: list[Account] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    certificates: list[Certificate] = field(default_factory=list)
    validations: list[Validation] = field(default_factory=list)
