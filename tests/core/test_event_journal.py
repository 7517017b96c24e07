"""journal/events.py: which Events users see at their objects, and when again."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import pytest

from acmeistio.controller import Look
from acmeistio.journal.events import TOLD_AGAIN_SECONDS, EventJournal
from acmeistio.model import Event, ObjectRef
from acmeistio.planning.plan import Plan
from acmeistio.reasons import Defect, Reason, defect
from tests.core.builders import NOW, REF, TARGET

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


def test_a_defect_is_told_once_and_again_while_it_lasts(heard: Heard) -> None:
    """The API server forgets an Event after an hour; looks come far more often."""
    journal = EventJournal(heard, heard)
    for _ in range(3):
        journal.looked(look(NO_NAMES))
    assert [event.reason for event in heard.events] == ["NoNames"]
    heard.seconds += TOLD_AGAIN_SECONDS
    journal.looked(look(NO_NAMES))
    assert len(heard.events) == 2
    assert heard.events[0] == heard.events[1]


def test_a_defect_that_came_back_is_told_at_once(heard: Heard) -> None:
    """It is a change."""
    journal = EventJournal(heard, heard)
    journal.looked(look(NO_NAMES))
    journal.looked(look())
    journal.looked(look(NO_NAMES))
    assert len(heard.events) == 2


def test_an_event_says_what_is_wrong_and_what_to_do(heard: Heard) -> None:
    """Sentence and remedy, as a warning at the object that it is about."""
    EventJournal(heard, heard).looked(look(NO_NAMES))
    [event] = heard.events
    assert event.regarding == REF
    assert event.warns
    assert event.note == f"It asks for a certificate and names no host. {NO_NAMES.remedy}"


def test_a_defect_of_a_secret_is_told_to_all_that_want_it(heard: Heard) -> None:
    """Users look at what they wrote; the Secret is named in the sentence."""
    EventJournal(heard, heard).looked(look(FOREIGN))
    assert [event.regarding for event in heard.events] == [OTHER, REF]
    assert all(
        event.note.startswith(f"Secret {TARGET}: the Secret exists") for event in heard.events
    )
