"""What a simulated CA knows and remembers: the resources of RFC 8555 §7.1 and their states.

The CA's own state, which tests read to judge a client without believing what it says.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

from cryptography import x509

from tests.simulated.ca.csrs import Csr
from tests.simulated.ca.names import covers
from tests.simulated.ca.nonces import Nonces
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
    KEY_CHANGE = "key-change"
    REVOKE_CERT = "revoke-cert"
    RENEWAL_INFO = "renewal-info"


class Status(StrEnum):
    """The states of accounts, orders, authorizations and challenges (RFC 8555 §7.1.6)."""

    PENDING = "pending"
    PROCESSING = "processing"
    READY = "ready"
    VALID = "valid"
    INVALID = "invalid"
    EXPIRED = "expired"
    DEACTIVATED = "deactivated"


@dataclass(eq=False, slots=True)
class Account:
    """A client's public key, known to the CA (RFC 8555 §7.1.2).

    `spki` is the key as certificates have keys, `external_account` the id of the account
    elsewhere that it is bound to (§7.3.4).
    """

    id: str
    jwk: dict[str, Any]
    thumbprint: str
    spki: bytes
    contact: tuple[str, ...]
    created: datetime
    status: Status = Status.VALID
    external_account: str | None = None


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
    deactivated: bool = False

    def status(self, now: datetime) -> Status:
        """From pending to valid or invalid; pending and valid end (RFC 8555 §7.1.6)."""
        if self.deactivated:
            return Status.DEACTIVATED
        statuses = {challenge.status for challenge in self.challenges}
        if Status.INVALID in statuses:
            return Status.INVALID
        if now >= self.expires:
            return Status.EXPIRED
        return Status.VALID if Status.VALID in statuses else Status.PENDING

    @property
    def is_final(self) -> bool:
        """Whether it is decided; nothing may be validated any more."""
        return self.deactivated or any(
            challenge.error or challenge.validated for challenge in self.challenges
        )


@dataclass(frozen=True, slots=True)
class Window:
    """When a certificate had better be renewed (RFC 9773 §4.2)."""

    start: datetime
    end: datetime

    def holds(self, now: datetime) -> bool:
        """Whether it is open: from its start to just before its end (Boulder's IsWithin)."""
        return self.start <= now < self.end


@dataclass(eq=False, slots=True)
class Certificate:
    """A certificate that was issued; `chains` are the leaf and its intermediates as PEM.

    `renewal_id` is its name in renewal information (RFC 9773 §4.1), `suggestion` a window that
    a test chose. `replacement` is the last order that replaces it, `fetched` says
    that its holder has it, `shown` is its renewal information while that stays as it is.
    """

    account: Account
    serial: int
    names: frozenset[str]
    not_before: datetime
    not_after: datetime
    leaf: x509.Certificate
    chains: tuple[bytes, ...]
    renewal_id: str
    suggestion: Window | None = None
    explanation_url: str | None = None
    revoked: datetime | None = None
    revocation_reason: int | None = None
    replacement: Order | None = None
    fetched: bool = False
    shown: bytes = b""

    @property
    def id(self) -> str:
        """The serial number in hexadecimal."""
        return f"{self.serial:x}"

    @property
    def chain(self) -> bytes:
        """The chain that is given out unless another one is asked for."""
        return self.chains[0]

    def covers(self, name: str) -> bool:
        """Whether it is good for that name."""
        return any(covers(each, name) for each in self.names)


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
    replaces: str = ""
    csr: Csr | None = None
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
        if statuses & {Status.INVALID, Status.EXPIRED, Status.DEACTIVATED}:
            return Status.INVALID
        return Status.READY if statuses == {Status.VALID} else Status.PENDING


@dataclass(eq=False, slots=True)
class Request:
    """A request as the CA saw it: `status` is None until it is answered, and when it never was.

    `name` is what the URL names, `problem` the kind of the problem that was answered;
    `reply_lost` says that the request was carried out and its reply lost.
    """

    at: datetime
    method: str
    url: str
    resource: Resource | None
    name: str = ""
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


class Limited(StrEnum):
    """What a CA limits."""

    ACCOUNTS = "accounts per client"
    ORDERS = "orders per account"
    DOMAIN = "certificates per registered domain"
    SET = "certificates per exact set of names"
    FAILURES = "failed authorizations per name and account"
    PAUSED = "consecutive failures per name and account"
    REQUESTS = "requests per second"


@dataclass(frozen=True, slots=True)
class LimitHit:
    """A request that was refused by a limit; `account` is an id, None where nobody knows.

    `retry_after_seconds` is the Retry-After that the client was given, None where it got none.
    """

    at: datetime
    limit: Limited
    subject: str
    account: str | None
    retry_after_seconds: float | None


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

    `accounts_by_key` has them by their keys' thumbprints (RFC 8555 §7.3.1), `renewable` the
    certificates by renewal id. `latest_orders` and `latest_proofs` are what may be given out
    again; they may be over. `latest_issued` says when a set of names had its last certificate.
    """

    accounts: dict[str, Account] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    authorizations: dict[str, Authorization] = field(default_factory=dict)
    challenges: dict[str, Challenge] = field(default_factory=dict)
    certificates: dict[str, Certificate] = field(default_factory=dict)
    renewable: dict[str, Certificate] = field(default_factory=dict)
    latest_issued: dict[frozenset[str], datetime] = field(default_factory=dict)
    latest_orders: dict[Wished, Order] = field(default_factory=dict)
    latest_proofs: dict[Proved, Authorization] = field(default_factory=dict)
    accounts_by_key: dict[str, Account] = field(default_factory=dict)
    nonces: Nonces = field(default_factory=Nonces)

    def forget(self) -> None:
        """Know nothing any more."""
        for each in fields(self):
            getattr(self, each.name).clear()


@dataclass(eq=False, slots=True)
class Totals:
    """How many there ever were, forgotten ones too."""

    orders: int = 0
    certificates: int = 0
    validations: int = 0
    requests: Counter[Resource | None] = field(default_factory=Counter)


@dataclass(eq=False, slots=True)
class History:
    """Everything that ever was, in its order; a restart of the CA forgets none of it."""

    accounts: list[Account] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    certificates: list[Certificate] = field(default_factory=list)
    validations: list[Validation] = field(default_factory=list)
    limit_hits: list[LimitHit] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    totals: Totals = field(default_factory=Totals)

    def ordered(self, order: Order) -> None:
        """An order was made."""
        self.orders.append(order)
        self.totals.orders += 1

    def issued(self, certificate: Certificate) -> None:
        """A certificate was issued."""
        self.certificates.append(certificate)
        self.totals.certificates += 1

    def validated(self, validation: Validation) -> None:
        """A validation decided an authorization."""
        self.validations.append(validation)
        self.totals.validations += 1
