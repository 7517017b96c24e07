"""journal/events.py: which Events users see at their objects, and when again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import pytest

from acmeistio.controller import Look
from acmeistio.journal.events import TOLD_AGAIN_SECONDS, EventJournal
from acmeistio.model import (
    Decision,
    Defer,
    Event,
    Held,
    IssueReason,
    Keep,
    ObjectRef,
    Stored,
    Unusable,
)
from acmeistio.names import DnsName
from acmeistio.planning.decide import Verdict
from acmeistio.planning.plan import Plan
from acmeistio.reasons import Defect, Reason, defect
from tests.core.builders import DAY, NOW, REF, TARGET, A, B, placeholder_of, spec_of, stored

OTHER = ObjectRef("Ingress", "shop", "mobile")
NO_NAMES = defect(Reason.NoNames, REF)
FOREIGN = defect(Reason.SecretNotManaged, TARGET.ref)


@dataclass
class Heard:
    """Clock and announcer in one."""

    seconds: float = 0.0
    events: list[Event] = field(default_factory=list)

    def now(self) -> datetime:
        """See Clock.now."""
        return NOW

    def monotonic(self) -> float:
        """See Clock.monotonic."""
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """See Clock.sleep."""
        self.seconds += seconds

    def tell(self, event: Event) -> None:
        """See Announcer.tell."""
        self.events.append(event)


@pytest.fixture
def heard() -> Heard:
    """Nothing so far."""
    return Heard()


def look(*defects: Defect) -> Look:
    """One look at two objects that want the same Secret."""
    return Look(Plan({}, {}, ()), {}, {TARGET: (OTHER, REF)}, defects)


def told(journal: EventJournal, seen: Look) -> None:
    """The journal is told of a look, to the last step."""
    for _ in journal.looked(seen):
        pass


def test_a_defect_is_told_once_and_again_while_it_lasts(heard: Heard) -> None:
    """The API server forgets an Event after an hour; looks come far more often."""
    journal = EventJournal(heard, heard)
    for _ in range(3):
        told(journal, look(NO_NAMES))
    assert [event.reason for event in heard.events] == ["NoNames"]
    heard.seconds += TOLD_AGAIN_SECONDS
    told(journal, look(NO_NAMES))
    assert len(heard.events) == 2
    assert heard.events[0] == heard.events[1]


def test_a_defect_that_came_back_is_told_at_once(heard: Heard) -> None:
    """It is a change."""
    journal = EventJournal(heard, heard)
    told(journal, look(NO_NAMES))
    told(journal, look())
    told(journal, look(NO_NAMES))
    assert len(heard.events) == 2


def test_an_event_says_what_is_wrong_and_what_to_do(heard: Heard) -> None:
    """Sentence and remedy, as a warning at the object that it is about."""
    told(EventJournal(heard, heard), look(NO_NAMES))
    [event] = heard.events
    assert event.regarding == REF
    assert event.warns
    assert event.note == f"It asks for a certificate and names no host. {NO_NAMES.remedy}"


def test_a_defect_of_a_secret_is_told_to_all_that_want_it(heard: Heard) -> None:
    """Users look at what they wrote; the Secret is named in the sentence."""
    told(EventJournal(heard, heard), look(FOREIGN))
    assert [event.regarding for event in heard.events] == [OTHER, REF]
    assert all(
        event.note.startswith(f"Secret {TARGET}: the Secret exists") for event in heard.events
    )


# ── a Defect that is tried again and again ────────────────────────────────────────────────────


def delayed(retry_at: str, problem: str = "the CA is busy") -> Defect:
    """An order that goes on at an instant."""
    return defect(Reason.OrderDelayed, REF, problem=problem, retry_at=retry_at)


def paused(retry_at: str) -> Defect:
    """An issuer that asked to wait until an instant."""
    facts = {"issuer": "ca", "problem": "too many requests", "retry_at": retry_at}
    return defect(Reason.IssuerPaused, REF, **facts)


def test_the_time_of_the_next_try_makes_no_new_event(heard: Heard) -> None:
    """Each try moves it; when the Defect is told again, it is the newest."""
    journal = EventJournal(heard, heard)
    for retry_at in ("12:01", "12:02", "12:04"):
        told(journal, look(delayed(retry_at)))
    assert len(heard.events) == 1
    heard.seconds += TOLD_AGAIN_SECONDS
    told(journal, look(delayed("12:34")))
    first, again = heard.events
    assert "at 12:01." in first.note
    assert "at 12:34." in again.note


def test_another_problem_is_told_at_once(heard: Heard) -> None:
    """The sentence is another: something has changed."""
    journal = EventJournal(heard, heard)
    told(journal, look(delayed("12:01")))
    told(journal, look(delayed("12:02", "the CA is away")))
    assert len(heard.events) == 2


def test_a_pause_that_goes_on_after_a_try_is_not_told_again(heard: Heard) -> None:
    """While it is tried whether the CA takes orders again, there is no Defect of a pause."""
    journal = EventJournal(heard, heard)
    for retry_at in ("12:01", "12:02"):
        told(journal, look(paused(retry_at)))
        told(journal, look())
    assert len(heard.events) == 1
    heard.seconds += TOLD_AGAIN_SECONDS
    told(journal, look())
    told(journal, look(paused("12:34")))
    assert len(heard.events) == 2


# ── objects that find their certificate there ─────────────────────────────────────────────────

KEEP = Keep(NOW + DAY)
SERVED = stored(A, B)
"""Issued when REF alone declared names."""


def declared(
    held: Held,
    declared_by: Mapping[DnsName, tuple[ObjectRef, ...]],
    decision: Decision = KEEP,
) -> Look:
    """One look at objects that declare names of one Secret."""
    sources = tuple(sorted({ref for refs in declared_by.values() for ref in refs}))
    spec = replace(spec_of(*declared_by), declared_by=declared_by)
    plan = Plan({TARGET: Verdict(decision, spec)}, ())
    return Look(plan, {TARGET: held}, {TARGET: sources}, ())


BOTH = {A: (REF,), B: (OTHER,)}


def test_an_object_that_finds_its_certificate_there_is_told_so(heard: Heard) -> None:
    """Once, and of its own names; the others were told when it was issued."""
    journal = EventJournal(heard, heard)
    for _ in range(3):
        told(journal, declared(SERVED, BOTH))
        heard.seconds += TOLD_AGAIN_SECONDS
    note = (
        f"Secret {TARGET} has a certificate of ca for {B}; valid until "
        f"{SERVED.leaf.not_after:%Y-%m-%d %H:%M} UTC, serial 1"
    )
    assert heard.events == [Event(OTHER, "CertificateServed", note)]


def test_an_object_with_a_name_that_is_not_served_yet_is_not_told(heard: Heard) -> None:
    """Until all of its names are in the certificate."""
    journal = EventJournal(heard, heard)
    both_theirs = {A: (REF, OTHER), B: (OTHER,)}
    told(journal, declared(stored(A), both_theirs))
    assert heard.events == []
    told(journal, declared(SERVED, both_theirs))
    assert [event.regarding for event in heard.events] == [OTHER]
    assert f" for {A}, {B};" in heard.events[0].note


@pytest.mark.parametrize(
    "held",
    [
        None,
        Unusable("tls.key is missing", SERVED.marks),
        placeholder_of(A, B),
        stored(A, B, made=NOW - 90 * DAY),
        stored(A, B, managed=False),
        stored(A, B, written_sha256="0" * 64),
    ],
    ids=["none", "unusable", "placeholder", "expired", "foreign", "by-hand"],
)
def test_what_is_no_valid_certificate_of_a_ca_is_not_told(heard: Heard, held: Held) -> None:
    """An object that only has something to keep its port open has not what it asks for."""
    told(EventJournal(heard, heard), declared(held, BOTH))
    assert heard.events == []


def test_an_issuer_that_is_not_known_is_not_named(heard: Heard) -> None:
    """The certificate may be of the issuer that was asked for before."""
    waiting = Defer(NOW + DAY, IssueReason.ISSUER_CHANGED, (A, B))
    told(EventJournal(heard, heard), declared(SERVED, BOTH, waiting))
    [event] = heard.events
    assert event.note.startswith(f"Secret {TARGET} has a certificate for {B}; valid until ")


def test_an_object_that_was_gone_is_told_again(heard: Heard) -> None:
    """What nobody declares any more is forgotten."""
    journal = EventJournal(heard, heard)
    for declared_by in (BOTH, {A: (REF,)}, BOTH):
        told(journal, declared(SERVED, declared_by))
    assert [event.regarding for event in heard.events] == [OTHER, OTHER]


def test_a_secret_that_cannot_be_read_for_a_while_tells_nothing_anew(heard: Heard) -> None:
    """Unknown is not gone."""
    journal = EventJournal(heard, heard)
    told(journal, declared(SERVED, BOTH))
    told(journal, look())
    told(journal, declared(SERVED, BOTH))
    assert len(heard.events) == 1


def test_with_the_next_certificate_all_are_told_of_it_alone(heard: Heard) -> None:
    """Then the Secret says that it was made for the object too."""
    journal = EventJournal(heard, heard)
    everybody = replace(SERVED.marks, declared_by=(OTHER, REF))
    told(journal, declared(Stored(SERVED.leaf, everybody), BOTH))
    assert heard.events == []
