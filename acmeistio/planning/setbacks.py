"""What is remembered of an order that did not end with a certificate, and when to try again. Pure.

    names failed   each of them waits by itself; the others go on without it
    refused        the order as a whole: the same order again would be refused too
    delayed        something passes by itself: the order stays open and goes on
    paused         the CA as a whole asked to wait
    unreachable    the CA as a whole can't be reached: one order in a while asks whether it can
    limited        the CA's limits: what is spent there is spent here

Each is a transition of the Ledger. What a CA's answer is, is found out by who asked it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from acmeistio.issuer import Issuer
from acmeistio.model import CertificateSpec, Held, Leaf, Marks, Stored
from acmeistio.names import DnsName
from acmeistio.planning import backoff, limits
from acmeistio.planning.failing import PAUSED, armed_by
from acmeistio.planning.ledger import NEVER, Failure, Ledger, Pause
from acmeistio.planning.renewal import longest_retry
from acmeistio.planning.situation import is_placeholder

PERMANENT = frozenset(
    {
        "badCSR",
        "badPublicKey",
        "externalAccountRequired",
        "invalidContact",
        "invalidProfile",
        "rejectedIdentifier",
        "unsupportedContact",
        "unsupportedIdentifier",
        "userActionRequired",
    }
)
"""Problem types (RFC 8555 §6.7) that time does not cure. `caa` is none of them: its cure lies in
DNS, where nobody tells of a change."""


@dataclass(frozen=True, slots=True)
class Setback:
    """Why there is no certificate: `problem` for humans; `kind` and `link` as in Failure.

    `wait_seconds` is what the CA asked for (Retry-After), None if it said nothing.
    """

    problem: str
    kind: str = ""
    link: str = ""
    wait_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """What was to be done: for which spec, at which CA, with which Secret before it."""

    spec: CertificateSpec
    issuer: Issuer
    held: Held

    @property
    def marks(self) -> Marks | None:
        """What the Secret says of itself."""
        return self.held.marks if self.held else None

    @property
    def leaf(self) -> Leaf | None:
        """The certificate that was there."""
        held = self.held
        return held.leaf if isinstance(held, Stored) and not is_placeholder(held) else None


def names_failed(
    ledger: Ledger, case: Case, setbacks: Mapping[DnsName, Setback], now: datetime
) -> Ledger:
    """Each name waits by itself; its order is over."""
    spec, ledger = case.spec, ledger.order_closed(case.spec.target)
    for name, setback in setbacks.items():
        digest = armed_by(spec, case.issuer, case.marks, name)
        failure = _failure(ledger.names.get((spec.issuer, name)), digest, setback, case, now)
        ledger = ledger.name_failed(spec.issuer, name, failure)
    return ledger


def refused(ledger: Ledger, case: Case, setback: Setback, now: datetime) -> Ledger:
    """The order as a whole was refused and is over."""
    spec = case.spec
    before = ledger.targets.get((spec.target, spec.issuer))
    failure = _failure(before, armed_by(spec, case.issuer, case.marks), setback, case, now)
    return ledger.order_closed(spec.target).target_failed(spec.target, spec.issuer, failure)


def delayed(ledger: Ledger, case: Case, setback: Setback, now: datetime) -> Ledger:
    """Something that passes by itself; the order stays open and is resumed."""
    spec, digest = case.spec, armed_by(case.spec, case.issuer, case.marks)
    count = _count(ledger.targets.get((spec.target, spec.issuer)), digest, costly=False)
    retry_at = backoff.after_transients(count, now, setback.wait_seconds)
    failure = Failure(count, retry_at, (digest,), setback.problem, costly=False, kind=setback.kind)
    return ledger.target_failed(spec.target, spec.issuer, failure)


def paused(ledger: Ledger, case: Case, setback: Setback, now: datetime) -> Ledger:
    """The CA asked this client as a whole to wait."""
    return ledger.paused(case.spec.issuer, Pause(_waited(setback, now), setback.problem))


def unreachable(ledger: Ledger, case: Case, setback: Setback, now: datetime) -> Ledger:
    """Nobody's order gets through to the CA; what failed together counts once."""
    before = ledger.pauses.get(case.spec.issuer)
    if before and before.until > now:
        return ledger
    attempts = 1 + (before.attempts if before and before.forgotten_at > now else 0)
    until = backoff.after_transients(attempts, now, setback.wait_seconds)
    return ledger.paused(case.spec.issuer, Pause(until, setback.problem, attempts))


def limited(
    ledger: Ledger, case: Case, names: tuple[DnsName, ...], setback: Setback, now: datetime
) -> Ledger:
    """A limit of the CA is reached; one that its words do not name concerns the whole client."""
    costs = limits.named_by(case.issuer, names, setback.problem)
    if not costs:
        return paused(ledger, case, setback, now)
    return ledger.exhausted(costs, _waited(setback, now))


def _waited(setback: Setback, now: datetime) -> datetime:
    """When what the CA asked for is over; at once is never."""
    asked = timedelta(seconds=setback.wait_seconds or 0)
    return now + max(asked, backoff.FIRST_TRANSIENT_STEP)


def _failure(
    before: Failure | None, digest: str, setback: Setback, case: Case, now: datetime
) -> Failure:
    count = _count(before, digest)
    if setback.kind in PERMANENT:
        retry_at = NEVER
    elif setback.kind == PAUSED:
        retry_at = now + backoff.VALIDATION_STEPS[-1]
    else:
        retry_at = backoff.after_failures(count, now, longest_retry(case.leaf))
    return Failure(
        count, retry_at, (digest,), setback.problem, kind=setback.kind, link=setback.link
    )


def _count(before: Failure | None, digest: str, *, costly: bool = True) -> int:
    """Failures in a row, this one included; another declaration or another kind starts anew."""
    same = before is not None and digest in before.armed_by and before.costly == costly
    return before.count + 1 if before and same else 1
