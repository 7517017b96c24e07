"""The states of a list-watch: what is asked for next, how soon, and when a loss is shown."""

from __future__ import annotations

import pytest

from acmeistio.errors import AcmeistioError, Forbidden, Transient
from acmeistio.kube.following import (
    LONGEST_ABSENT_WAIT_SECONDS,
    LONGEST_ASKED_SECONDS,
    LONGEST_REFUSED_WAIT_SECONDS,
    LONGEST_WAIT_SECONDS,
    LOSS_SHOWN_SECONDS,
    Ended,
    Failed,
    Following,
    Happening,
    Listed,
    Listing,
    Opened,
    Outdated,
    Received,
    Unserved,
    Waiting,
    Watching,
    Woke,
    step,
)
from acmeistio.kube.refusals import Missing

AWAY = Failed(Transient("connection refused"))
REFUSED = Failed(Forbidden("no right"))
UNSERVED = Unserved(Missing("no such kind"), versions=3, can_be_absent=True)
LOST = Unserved(Missing("no such kind"), versions=3, can_be_absent=False)


def _after(*happenings: Happening, now: float = 0.0) -> Following:
    state = Following()
    for happening in happenings:
        state = step(state, happening, now)
    return state


def _waits(error: AcmeistioError, count: int = 12) -> list[float]:
    """The seconds between tries that all fail in the same way."""
    state, found = Following(), []
    for _ in range(count):
        state = step(state, Failed(error), 0.0)
        assert isinstance(state.phase, Waiting)
        found.append(state.phase.until)
        state = step(state, Woke(), 0.0)
        assert state.phase == Listing()
    return found


def test_a_list_leads_to_a_watch_from_its_version() -> None:
    """And each change or bookmark moves on."""
    assert Following().phase == Listing()
    assert _after(Listed(5)).phase == Watching(5)
    assert _after(Listed(5), Opened(), Received(7), Received(7), Received(9)).phase == Watching(9)


def test_a_watch_that_ended_as_announced_goes_on() -> None:
    """At once, and from where it was."""
    assert _after(Listed(5), Opened(), Received(7), Ended()) == Following(Watching(7))


@pytest.mark.parametrize("happening", [AWAY, REFUSED], ids=["away", "refused"])
def test_any_failure_leads_to_a_new_list(happening: Happening) -> None:
    """After a restored API server the old version would be one of the future."""
    state = _after(Listed(5), Opened(), Received(7), happening)
    assert isinstance(state.phase, Waiting)
    assert step(state, Woke(), 1.0).phase == Listing()


def test_an_outdated_watch_is_listed_anew_at_once() -> None:
    """A quiet kind's version is forgotten in the normal course of things."""
    assert _after(Listed(5), Opened(), Received(7), Outdated()).phase == Listing()


def test_a_watch_that_is_outdated_again_and_again_is_not_hurried() -> None:
    """Nothing was received between: each time it waits longer."""
    state = _after(Listed(5), Outdated(), Listed(5), Outdated())
    assert isinstance(state.phase, Waiting)
    later = step(step(step(state, Woke(), 0.0), Listed(5), 0.0), Outdated(), 0.0)
    assert isinstance(later.phase, Waiting)
    assert later.phase.until > state.phase.until


def test_an_outdated_list_begins_anew() -> None:
    """Its pages took longer than the API server keeps a version."""
    state = _after(Outdated())
    assert isinstance(state.phase, Waiting)
    assert step(state, Woke(), 1.0).phase == Listing()


def test_a_version_that_went_back_is_not_followed() -> None:
    """The API server is not the one it was."""
    state = _after(Listed(5), Opened(), Received(4))
    assert isinstance(state.phase, Waiting)
    assert step(state, Woke(), 1.0).phase == Listing()


def test_an_api_server_that_is_away_is_tried_often() -> None:
    """So that its return is noticed within two seconds."""
    waits = _waits(Transient("away"))
    assert waits[0] <= 0.2
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_WAIT_SECONDS == 2.0


@pytest.mark.parametrize("error", [Forbidden("no right"), Missing("no such kind")])
def test_what_somebody_has_to_mend_is_tried_seldom(error: AcmeistioError) -> None:
    """Within ten seconds a right that was given is noticed."""
    waits = _waits(error)
    assert waits[0] >= 0.5
    assert waits[-1] == LONGEST_REFUSED_WAIT_SECONDS == 10.0


def test_a_refusal_after_an_outage_is_tried_again_soon() -> None:
    """An API server that is back refuses everybody until it has read who may do what."""
    state = _after(*[AWAY] * 12, REFUSED)
    assert state.phase == Waiting(0.5)
    again = step(step(state, Woke(), 1.0), REFUSED, 1.0)
    assert again.phase == Waiting(2.0), "what lasts is tried less often, as ever"


def test_a_retry_after_is_a_floor() -> None:
    """Up to a minute, whatever was said."""
    assert _waits(Transient("busy", retry_after_seconds=7.0))[0] == 7.0
    endless = Transient("busy", retry_after_seconds=1e9)
    assert _waits(endless)[0] == LONGEST_ASKED_SECONDS


def test_a_watch_that_breaks_at_once_is_not_hurried() -> None:
    """That it can be listed and opened proves nothing."""
    state, waits = Following(), []
    for _ in range(8):
        for happening in (Listed(5), Opened(), AWAY):
            state = step(state, happening, 0.0)
        assert isinstance(state.phase, Waiting)
        waits.append(state.phase.until)
        state = step(state, Woke(), 0.0)
    assert waits[-1] == LONGEST_WAIT_SECONDS
    assert step(_after(Listed(5), Opened(), Received(6)), AWAY, 0.0).phase == Waiting(0.1)


def test_only_a_loss_that_lasts_is_shown() -> None:
    """It began with the first failure, and says what the last one was."""
    state = step(_after(Listed(5), Opened()), AWAY, 100.0)
    assert state.shown_loss(100.0 + LOSS_SHOWN_SECONDS - 0.1) is None
    state = step(step(state, Woke(), 101.0), REFUSED, 100.0 + LOSS_SHOWN_SECONDS)
    shown = state.shown_loss(100.0 + LOSS_SHOWN_SECONDS)
    assert shown
    assert (shown.since, shown.error) == (100.0, REFUSED.error)


def test_what_can_be_listed_and_not_watched_is_lost() -> None:
    """Until a watch is opened."""
    state = step(_after(Listed(5)), REFUSED, 0.0)
    for now in (1.0, 20.0):
        state = step(step(step(state, Woke(), now), Listed(6), now), REFUSED, now)
    assert state.shown_loss(20.0)
    state = step(step(step(state, Woke(), 21.0), Listed(7), 21.0), Opened(), 21.0)
    assert state.shown_loss(99.0) is None


# ── kinds that come and go ────────────────────────────────────────────────────────────────────


def test_a_kind_is_looked_for_in_all_its_versions() -> None:
    """One after the other, at once; the one that is served is followed and stays in use."""
    state = _after(UNSERVED)
    assert (state.phase, state.served_as) == (Listing(), 1)
    served = step(state, Listed(5), 0.0)
    for happening in (Opened(), Received(7), Ended(), Received(9), Outdated(), AWAY, Woke()):
        served = step(served, happening, 0.0)
        assert served.served_as == 1
    assert step(served, Listed(9), 0.0).phase == Watching(9)


def test_a_version_that_is_no_longer_served_gives_way_to_another() -> None:
    """Also an older one to a newer: whatever is left is asked for before a kind is absent."""
    state = _after(UNSERVED, UNSERVED, Listed(5), Opened(), Received(7))
    assert state.served_as == 2
    for version in (0, 1):
        state = step(state, UNSERVED, 0.0)
        assert (state.phase, state.served_as, state.is_absent) == (Listing(), version, False)
    assert step(state, UNSERVED, 0.0).is_absent


def test_a_kind_that_is_served_in_no_version_is_absent() -> None:
    """That is an answer and no loss, also where there was one."""
    state = _after(REFUSED, Woke(), *[UNSERVED] * 3)
    assert state.is_absent
    assert state.phase == Waiting(1.0)
    assert state.shown_loss(99.0) is None


def test_an_absent_kind_is_asked_for_seldom() -> None:
    """Within half a minute it is noticed when it comes, the version to prefer first."""
    state, waits = Following(), []
    for _ in range(7):
        for _ in range(3):
            state = step(state, UNSERVED, 0.0)
        assert isinstance(state.phase, Waiting)
        waits.append(state.phase.until)
        state = step(state, Woke(), 0.0)
        assert (state.phase, state.served_as) == (Listing(), 0)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert LONGEST_ABSENT_WAIT_SECONDS == 30.0
    here = step(state, Listed(5), 0.0)
    assert (here.phase, here.is_absent) == (Watching(5), False)
    again = step(step(here, Opened(), 0.0), Received(6), 0.0)
    for _ in range(3):
        again = step(again, UNSERVED, 0.0)
    assert again.phase == Waiting(1.0), "what has just gone may come back soon"


def test_a_kind_whose_objects_are_known_is_lost_and_not_absent() -> None:
    """Unknown is not absent: an API server may have been put back without the kind."""
    state = _after(Listed(5), Opened(), Received(7), LOST, LOST, LOST)
    assert not state.is_absent
    assert state.phase == Waiting(0.5)
    assert state.shown_loss(LOSS_SHOWN_SECONDS) is not None
    assert step(step(state, Woke(), 1.0), Listed(8), 1.0).phase == Watching(8)


def test_an_absent_kind_may_be_lost_from_sight() -> None:
    """As any other while the API server is away, or a right is missing; that is not hurried."""
    absent = _after(*[UNSERVED] * 3, Woke(), *[UNSERVED] * 3, Woke())
    for happening, wait in ((AWAY, 0.1), (REFUSED, 0.5)):
        state = step(absent, happening, 0.0)
        assert state.phase == Waiting(wait)
        assert not state.is_absent
        assert state.shown_loss(LOSS_SHOWN_SECONDS) is not None
