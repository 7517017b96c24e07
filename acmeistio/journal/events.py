"""Tells users what happens to what they declared, by Events on their own objects.

Owns what is worth an Event and when it is told again: once per change, and as long as a Defect
lasts again and again, so that `kubectl describe` shows it although Events are forgotten after an
hour. That the time of the next try has moved is no change. How an Event reaches the cluster is not
known here.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from acmeistio.accounts import AccountEvent
from acmeistio.controller import Look
from acmeistio.issuing import Issued, NotIssued
from acmeistio.model import (
    CertificateSpec,
    Event,
    Issue,
    IssueReason,
    Keep,
    Leaf,
    ObjectRef,
    Stored,
    StoreKnown,
    StorePlaceholder,
    Target,
    Validate,
    is_by_hand,
)
from acmeistio.names import DnsName, covers
from acmeistio.planning.changed import differing
from acmeistio.planning.decide import Verdict
from acmeistio.planning.plan import Plan
from acmeistio.ports import Clock
from acmeistio.reasons import Defect, Reason, defect

AT_ONCE = 50
"""So much is gone through between two breaths."""

TOLD_AGAIN_SECONDS = 1800.0
"""A Defect that lasts is told again after this: the API server forgets Events after an hour."""

_FIRST = frozenset({IssueReason.NOT_ISSUED_YET, IssueReason.NAMES_ADDED})

_INTERRUPTED = frozenset({Reason.IssuerPaused.code})
"""Gone while it is tried whether they last; one that is back after that is no change."""


class _Telling(NamedTuple):
    """What makes a Defect the same to its user, whatever its remedy says of the next try."""

    regarding: ObjectRef
    code: str
    sentence: str


@dataclass(frozen=True, slots=True)
class _Made:
    """The Events of a Defect, on the objects that it concerns."""

    defect: Defect
    subjects: tuple[ObjectRef, ...]
    events: tuple[tuple[_Telling, Event], ...]


class Announcer(Protocol):
    """Who brings an Event to the cluster."""

    def tell(self, event: Event) -> None:
        """Have an Event shown on its object. Never waits and never fails."""


class EventJournal:
    """The controller's Journal as Events."""

    def __init__(self, announcer: Announcer, clock: Clock) -> None:
        self._announcer = announcer
        self._clock = clock
        self._look = Look(Plan({}, ()), {}, {}, ())
        """The last one: what is the same as then is not gone through again."""
        self._made: dict[int, _Made] = {}
        """The last Events, by the identity of their Defects."""
        self._told_at: dict[_Telling, float] = {}
        self._tell_again_at = 0.0
        """Before it nothing that was told before is told again."""
        self._looked_at: dict[Target, tuple[CertificateSpec, Stored]] = {}
        """What newcomers were told of: nobody is new to what is the same."""
        self._served: dict[Target, set[ObjectRef]] = {}
        """Who was told in this life that its names are served."""

    def looked(self, look: Look) -> Iterator[None]:
        """Tell each Defect that is new or was told long ago, and who finds its names served."""
        before, self._look = self._look, look
        # Where too much is told at once the oldest is lost: of the two, what needs nobody's hand.
        yield from self._tell_served(before, look)
        yield from self._tell_defects(before, look)

    def _tell_served(self, before: Look, look: Look) -> Iterator[None]:
        """Who came after a certificate was issued and finds all its names in it."""
        if look.declarers is not before.declarers:
            for target in set(before.declarers).difference(look.declarers):
                self._served.pop(target, None)
                self._looked_at.pop(target, None)
        changed = differing(before.plan.verdicts, look.plan.verdicts)
        now = self._clock.now()
        changed |= differing(before.held, look.held)
        yield
        for number, target in enumerate(sorted(changed), 1):
            self._tell_served_of(target, look, now)
            if number % AT_ONCE == 0:
                yield

    def _tell_served_of(self, target: Target, look: Look, now: datetime) -> None:
        verdict, held = look.plan.verdicts.get(target), look.held.get(target)
        known = self._looked_at.get(target)
        if verdict is None or (known and known[0] is verdict.spec and known[1] is held):
            return
        if isinstance(held, Stored) and _is_of_a_ca(held) and held.leaf.not_after > now:
            self._looked_at[target] = (verdict.spec, held)
            self._served.setdefault(target, set()).intersection_update(look.declarers[target])
            self._tell_newcomers(verdict.spec, held, verdict)

    def _tell_newcomers(self, spec: CertificateSpec, held: Stored, verdict: Verdict) -> None:
        told = self._served.setdefault(spec.target, set())
        # Those that the Secret was written for were told when it was issued.
        newcomers = _names_of_others(spec, told.union(held.marks.declared_by))
        for source, names in newcomers.items():
            if all(covers(held.leaf.names, name) for name in names):
                told.add(source)
                note = _note(spec.target, _issuer(spec, verdict), names, held.leaf)
                self._announcer.tell(Event(source, "CertificateServed", note))

    def _tell_defects(self, before: Look, look: Look) -> Iterator[None]:
        now, same = self._clock.monotonic(), look.defects is before.defects
        if same and look.declarers is before.declarers and now < self._tell_again_at:
            return
        current = yield from self._current(look)
        self._told_at = {
            telling: at
            for telling, at in self._told_at.items()
            if now - at < TOLD_AGAIN_SECONDS
            and (telling in current or telling.code in _INTERRUPTED)
        }
        yield
        for number, (telling, event) in enumerate(current.items(), 1):
            if telling not in self._told_at:
                self._told_at[telling] = now
                self._announcer.tell(event)
            if number % AT_ONCE == 0:
                yield
        self._tell_again_at = min(self._told_at.values(), default=now) + TOLD_AGAIN_SECONDS

    def _current(self, look: Look) -> Generator[None, None, dict[_Telling, Event]]:
        """What there is to tell; sentences are made only of what was not the same before."""
        made, current = dict[int, _Made](), dict[_Telling, Event]()
        for number, found in enumerate(look.defects, 1):
            subjects, known = _subjects(found, look), self._made.get(id(found))
            if known is None or known.subjects != subjects:
                known = _Made(found, subjects, tuple(_events(found, subjects)))
            made[id(found)] = known
            current.update(known.events)
            if number % AT_ONCE == 0:
                yield
        self._made = made
        return current

    def issued(self, spec: CertificateSpec, issue: Issue, issued: Issued) -> None:
        """Tell each object that declares one of the names that are in it."""
        leaf = issued.bundle.leaf
        reason = "CertificateIssued" if issue.reason in _FIRST else "CertificateRenewed"
        note = _note(spec.target, spec.issuer, leaf.names, leaf)
        for source in sorted({ref for n in leaf.names for ref in spec.declared_by.get(n, ())}):
            self._announcer.tell(Event(source, reason, note))
            if issued.missing_chain:
                self._announcer.tell(_missing_chain(spec, issued.missing_chain, source))

    def not_issued(
        self, spec: CertificateSpec, decision: Issue | Validate, not_issued: NotIssued
    ) -> None:
        """Nothing: the next look has a Defect for it."""

    def stored(self, spec: CertificateSpec, decision: StoreKnown | StorePlaceholder) -> None:
        """Nothing: it is a step on the way."""

    def tended(self, event: AccountEvent) -> None:
        """Nothing: an account is nobody's object."""

    def failed(self, what: str, error: BaseException) -> None:
        """Nothing: what users can do something about is a Defect."""


def _missing_chain(spec: CertificateSpec, chain: str, source: ObjectRef) -> Event:
    found = defect(Reason.PreferredChainMissing, source, chain=chain, issuer=spec.issuer)
    note = f"{_begun(found.sentence, found)}. {found.remedy}"
    return Event(source, found.code, note, warns=True)


def _is_of_a_ca(held: Stored) -> bool:
    """Whether acmeistio had it issued: what was put there by hand may be of anybody."""
    marks = held.marks
    return marks.managed and not marks.placeholder and not is_by_hand(held)


def _issuer(spec: CertificateSpec, verdict: Verdict) -> str | None:
    """Of what is stored, None where it may be another than the one that is asked for now."""
    return spec.issuer if isinstance(verdict.decision, Keep) else None


def _names_of_others(
    spec: CertificateSpec, known: set[ObjectRef]
) -> Mapping[ObjectRef, list[DnsName]]:
    """The names of each object that is not known, in one pass: there may be thousands."""
    found: dict[ObjectRef, list[DnsName]] = {}
    for name, refs in spec.declared_by.items():
        for ref in refs:
            if ref not in known:
                found.setdefault(ref, []).append(name)
    return found


def _note(target: Target, issuer: str | None, names: Iterable[DnsName], leaf: Leaf) -> str:
    """What is in a Secret, for the owner of some of its names."""
    return (
        f"Secret {target} has a certificate {f'of {issuer} ' if issuer else ''}for "
        f"{', '.join(sorted(names))}; valid until {leaf.not_after:%Y-%m-%d %H:%M} UTC, "
        f"serial {leaf.serial:x}"
    )


def _subjects(defect: Defect, look: Look) -> tuple[ObjectRef, ...]:
    """The object that a Defect is about; of a Secret's the objects that want it."""
    if defect.subject.kind != "Secret":
        return (defect.subject,)
    return look.declarers.get(Target(defect.subject.namespace, defect.subject.name), ())


def _events(defect: Defect, subjects: tuple[ObjectRef, ...]) -> Iterator[tuple[_Telling, Event]]:
    """A Defect on each of these objects."""
    about = f"{defect.subject}: " if subjects != (defect.subject,) else ""
    sentence = f"{about}{defect.sentence}"
    for subject in subjects:
        note = f"{_begun(sentence, defect)}. {defect.remedy}"
        event = Event(subject, defect.code, note, warns=True)
        yield _Telling(subject, defect.code, sentence), event


def _begun(sentence: str, defect: Defect) -> str:
    """With a capital, unless it begins with what the user wrote, such as a host's name."""
    is_theirs = defect.reason.value.sentence.startswith("{")
    return sentence if is_theirs else f"{sentence[0].upper()}{sentence[1:]}"
