"""Tells users what happens to what they declared, by Events on their own objects.

Owns what is worth an Event and when it is told again: once per change, and as long as a Defect
lasts again and again, so that `kubectl describe` shows it although Events are forgotten after an
hour. How an Event reaches the cluster is not known here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from acmeistio.controller import Look
from acmeistio.issuing import Issued, NotIssued
from acmeistio.model import (
    CertificateSpec,
    Event,
    Issue,
    IssueReason,
    ObjectRef,
    StoreKnown,
    StorePlaceholder,
    Target,
)
from acmeistio.ports import Clock
from acmeistio.reasons import Defect

TOLD_AGAIN_SECONDS = 1800.0
"""A Defect that lasts is told again after this: the API server forgets Events after an hour."""

_FIRST = frozenset({IssueReason.NOT_ISSUED_YET, IssueReason.NAMES_ADDED})


class Announcer(Protocol):
    """Who brings an Event to the cluster."""

    def tell(self, event: Event) -> None:
        """Have an Event shown on its object. Never waits and never fails."""


class EventJournal:
    """The controller's Journal as Events."""

    def __init__(self, announcer: Announcer, clock: Clock) -> None:
        self._announcer = announcer
        self._clock = clock
        self._told_at: dict[Event, float] = {}

    def looked(self, look: Look) -> None:
        """Tell each Defect that is new, and each that was told long ago."""
        now = self._clock.monotonic()
        current = [event for defect in look.defects for event in _events(defect, look)]
        self._told_at = {e: self._told_at[e] for e in current if e in self._told_at}
        for event in current:
            if event not in self._told_at or now - self._told_at[event] >= TOLD_AGAIN_SECONDS:
                self._told_at[event] = now
                self._announcer.tell(event)

    def issued(self, spec: CertificateSpec, issue: Issue, issued: Issued) -> None:
        """Tell each object that declares one of the names."""
        leaf = issued.bundle.leaf
        reason = "CertificateIssued" if issue.reason in _FIRST else "CertificateRenewed"
        note = (
            f"Secret {spec.target} has a certificate of {spec.issuer} for "
            f"{', '.join(sorted(leaf.names))}; valid until {leaf.not_after:%Y-%m-%d %H:%M} UTC, "
            f"serial {leaf.serial:x}"
        )
        for source in spec.sources:
            self._announcer.tell(Event(source, reason, note))

    def not_issued(self, spec: CertificateSpec, issue: Issue, not_issued: NotIssued) -> None:
        """Nothing: the next look has a Defect for it."""

    def stored(self, spec: CertificateSpec, decision: StoreKnown | StorePlaceholder) -> None:
        """Nothing: it is a step on the way."""

    def failed(self, what: str, error: BaseException) -> None:
        """Nothing: what users can do something about is a Defect."""


def _events(defect: Defect, look: Look) -> Iterator[Event]:
    """A Defect on the object that it is about; one of a Secret on the objects that want it."""
    subjects: tuple[ObjectRef, ...] = (defect.subject,)
    if defect.subject.kind == "Secret":
        target = Target(defect.subject.namespace, defect.subject.name)
        subjects = look.declarers.get(target, ())
    about = f"{defect.subject}: " if subjects != (defect.subject,) else ""
    sentence = f"{about}{defect.sentence}"
    for subject in subjects:
        note = f"{_begun(sentence, defect)}. {defect.remedy}"
        yield Event(subject, defect.code, note, warns=True)


def _begun(sentence: str, defect: Defect) -> str:
    """With a capital, unless it begins with what the user wrote, such as a host's name."""
    is_theirs = defect.reason.value.sentence.startswith("{")
    return sentence if is_theirs else f"{sentence[0].upper()}{sentence[1:]}"
