"""planning/renewal.py, wanted.py: when a certificate is due by the CA's suggestion (RFC 9773)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmeistio.model import Defer, Issue, IssueReason, Keep, Leaf, Stored, Suggestion
from acmeistio.planning.decide import decide
from acmeistio.planning.renewal import (
    EARLY_PART,
    endangered_at,
    instant_in,
    last_resort_at,
    longest_retry,
    pressing_at,
    renew_at,
)
from tests.core.builders import DAY, MINUTE, NOW, A, B, C, failed_name, situation, spec_of, stored
from tests.core.strategies import LIFETIMES

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)


def leaf(lifetime: timedelta, made: datetime = NOW) -> Leaf:
    """A certificate of that lifetime that a CA can be asked about."""
    return Leaf(frozenset({A}), made, made + lifetime, 1, "", None, "id")


def suggestion(start: datetime, end: datetime, renewal_id: str = "id") -> Suggestion:
    """What a CA says of it."""
    return Suggestion(renewal_id, start, end)


def held(*, made: datetime = NOW - 30 * DAY, lifetime: timedelta = 90 * DAY, **m: Any) -> Stored:
    """A Secret with a certificate that the CA has been asked about."""
    there = stored(A, B, made=made, lifetime=lifetime, **m)
    return replace(there, leaf=replace(there.leaf, renewal_id="id"))


# --- the instant in the window


def test_the_instant_is_stable() -> None:
    """The same after a restart: from the certificate and the window alone (acme.md §2.1)."""
    window = suggestion(NOW, NOW + 10 * DAY)
    assert instant_in(window) == instant_in(suggestion(NOW, NOW + 10 * DAY))
    assert instant_in(window) == datetime(2030, 1, 8, 4, 1, 54, tzinfo=NOW.tzinfo)


def test_another_window_or_certificate_has_another() -> None:
    """So that those of one day are spread over their window (acme.md §2.1)."""
    found = {instant_in(suggestion(NOW, NOW + 10 * DAY, f"id{index}")) for index in range(100)}
    assert len(found) == 100
    halves = sum(instant < NOW + 4 * DAY for instant in found)
    assert 30 <= halves <= 70


@given(st.integers(0, 10**7), st.integers(1, 10**7), st.text(max_size=5))
def test_in_the_first_part_of_the_window(start: int, width: int, renewal_id: str) -> None:
    """Retries still fall inside: outside, a renewal is not exempt (acme.md §2.1, §1.2)."""
    begins = NOW + timedelta(seconds=start)
    ends = begins + timedelta(seconds=width)
    instant = instant_in(suggestion(begins, ends, renewal_id))
    assert begins <= instant <= begins + timedelta(seconds=width) * EARLY_PART
    assert instant.microsecond == 0


# --- which instant counts

LEAF = leaf(90 * DAY)


def test_a_window_in_the_past_is_now() -> None:
    """The CA wants it replaced: an incident (acme.md §2.1)."""
    now = NOW + 30 * DAY
    assert renew_at(LEAF, suggestion(now - 2 * DAY, now - DAY)) < now


def test_a_fresh_certificate_is_left_an_hour() -> None:
    """A CA that wants every new certificate replaced at once is not asked for ever."""
    assert renew_at(LEAF, suggestion(NOW - 2 * DAY, NOW - DAY)) == NOW + HOUR
    short = leaf(timedelta(minutes=10))
    assert renew_at(short, suggestion(NOW - 2 * DAY, NOW - DAY)) == NOW + MINUTE


def test_what_presses_beats_a_late_window() -> None:
    """An emergency floor beats the CA's hint (DESIGN §5, Renewal)."""
    late = suggestion(NOW + 85 * DAY, NOW + 89 * DAY)
    assert renew_at(LEAF, late) == pressing_at(LEAF) == NOW + 67.5 * DAY


def test_a_window_counts_before_and_after_two_thirds() -> None:
    """Within what does not press the CA's word is the one that counts (RFC 9773 §4.2)."""
    for days in (20, 59, 62, 66):
        window = suggestion(NOW + days * DAY, NOW + days * DAY + HOUR)
        assert renew_at(LEAF, window) == instant_in(window)


def test_a_suggestion_for_another_certificate_is_none() -> None:
    """Its own lifetime counts (renewal.py)."""
    other = suggestion(NOW - DAY, NOW, "another")
    assert renew_at(LEAF, other) == renew_at(LEAF) == NOW + 60 * DAY
    unidentified = replace(LEAF, renewal_id=None)
    assert renew_at(unidentified, suggestion(NOW - DAY, NOW)) == NOW + 60 * DAY


@given(LIFETIMES, st.integers(-(10**8), 10**8), st.integers(1, 10**8))
def test_never_before_it_is_proved_nor_after_it_presses(
    lifetime: timedelta, start: int, width: int
) -> None:
    """Whatever a CA says: neither for ever at once, nor too late (renewal.py)."""
    certificate, begins = leaf(lifetime), NOW + timedelta(seconds=start)
    due = renew_at(certificate, suggestion(begins, begins + timedelta(seconds=width)))
    assert due + SECOND > NOW
    assert due - NOW >= min(lifetime / 10, HOUR) - SECOND
    assert due <= pressing_at(certificate) < certificate.not_after


@pytest.mark.parametrize(
    ("lifetime", "due", "pressing", "endangered", "last_resort"),
    [
        (90 * DAY, 60 * DAY, 67.5 * DAY, 75 * DAY, 82.5 * DAY),
        (45 * DAY, 30 * DAY, 33.75 * DAY, 37.5 * DAY, 41.25 * DAY),
        (64 * DAY, 64 * DAY * 2 / 3, 48 * DAY, 64 * DAY * 5 / 6, 64 * DAY * 11 / 12),
        (160 * HOUR, 80 * HOUR, 120 * HOUR, 120 * HOUR, 160 * HOUR * 11 / 12),
    ],
)
def test_stages_of_a_life(
    lifetime: timedelta,
    due: timedelta,
    pressing: timedelta,
    endangered: timedelta,
    last_resort: timedelta,
) -> None:
    """Everything follows from the lifetime (renewal.py; acme.md §7: backstop without ARI)."""
    certificate = leaf(lifetime)
    stages = [
        stage(certificate) for stage in (renew_at, pressing_at, endangered_at, last_resort_at)
    ]
    wanted = [due, pressing, endangered, last_resort]
    for found, stage in zip(stages, wanted, strict=True):
        assert abs(found - NOW - stage) <= SECOND


@pytest.mark.parametrize(
    ("lifetime", "opens", "closes", "left"),
    [
        (90 * DAY, 59.1 * DAY, 60.9 * DAY, 29 * DAY),
        (64 * DAY, 42.0 * DAY, 43.3 * DAY, 20.6 * DAY),
        (45 * DAY, 29.6 * DAY, 30.5 * DAY, 14.5 * DAY),
        (160 * HOUR, 78.4 * HOUR, 81.6 * HOUR, 78.4 * HOUR),
    ],
)
def test_lets_encrypts_windows_count(
    lifetime: timedelta, opens: timedelta, closes: timedelta, left: timedelta
) -> None:
    """None of Let's Encrypt's own windows is overruled by what presses (acme.md §2.1)."""
    certificate, window = leaf(lifetime), suggestion(NOW + opens, NOW + closes)
    due = renew_at(certificate, window)
    assert window.includes(due)
    assert certificate.not_after - due >= left


@pytest.mark.parametrize(
    ("lifetime", "longest"),
    [(90 * DAY, DAY), (45 * DAY, DAY), (160 * HOUR, 80 * HOUR / 12), (MINUTE, 2.5 * SECOND)],
)
def test_longest_retry(lifetime: timedelta, longest: timedelta) -> None:
    """Daily, and about every six hours for a life of 160 h (acme.md §7)."""
    assert longest_retry(leaf(lifetime)) == longest
    assert longest_retry(None) == DAY


# --- in a situation


def test_due_by_the_suggestion() -> None:
    """A renewal within the window says which certificate it replaces (RFC 9773 §5)."""
    there, window = held(), suggestion(NOW - HOUR, NOW + HOUR)
    due = instant_in(window)
    asked = situation(spec_of(A, B), there, suggestion=window)
    assert decide(replace(asked, now=due)).decision == Issue(
        (A, B), IssueReason.RENEWAL_DUE, window
    )
    assert decide(replace(asked, now=due - SECOND)).decision == Keep(due)


def test_every_order_says_what_it_replaces() -> None:
    """Also one for another reason, if a name is in both (RFC 9773 §5)."""
    window = suggestion(NOW + DAY, NOW + 2 * DAY)
    asked = situation(spec_of(A, B), held(renew_requested_at="now"), suggestion=window)
    assert decide(asked).decision == Issue((A, B), IssueReason.RENEWAL_REQUESTED, window)


@pytest.mark.parametrize(
    "there",
    [
        held(written_sha256="by hand"),
        replace(held(), leaf=replace(held().leaf, names=frozenset({C}))),
        replace(held(), leaf=replace(held().leaf, renewal_id="another")),
        held(directory_url="https://another.example"),
    ],
)
def test_what_the_ca_would_not_take_is_not_said(there: Stored) -> None:
    """Not ours, no common name, another certificate, another CA (acme.md §2.1, replaces)."""
    window = suggestion(NOW + DAY, NOW + 2 * DAY)
    marks = replace(there.marks, renew_requested_at="now")
    asked = situation(spec_of(A, B), replace(there, marks=marks), suggestion=window)
    decision = decide(asked).decision
    assert isinstance(decision, Issue)
    assert decision.replaces is None


def test_an_answer_that_is_awaited_holds_a_renewal_back() -> None:
    """The CA is asked before what may be due is ordered, as after a restart (renewals.py)."""
    there = held(made=NOW - 62 * DAY)
    asked = situation(spec_of(A, B), there, awaits_suggestion=True)
    assert decide(asked).decision == Keep(pressing_at(there.leaf))
    answered = replace(asked, awaits_suggestion=False)
    assert decide(answered).decision == Issue((A, B), IssueReason.RENEWAL_DUE)


def test_but_not_what_presses() -> None:
    """Nobody waits for an answer with a quarter of the life left (renewal.py)."""
    there = held(made=NOW - 68 * DAY)
    asked = situation(spec_of(A, B), there, awaits_suggestion=True)
    assert decide(asked).decision == Issue((A, B), IssueReason.RENEWAL_DUE)


def test_nor_what_has_another_reason() -> None:
    """An answer is about renewals only (wanted.py)."""
    asked = situation(spec_of(A), held(renew_requested_at="now"), awaits_suggestion=True)
    assert decide(asked).decision == Issue((A,), IssueReason.RENEWAL_REQUESTED)


def test_a_recalled_certificate_waits_for_no_failing_name() -> None:
    """A window that is over long before its time: it will be revoked (RFC 9773 §4.2)."""
    there, spec = held(), spec_of(A, B)
    ledger = failed_name(spec, B)
    recalled = suggestion(NOW - 2 * DAY, NOW - DAY)
    verdict = decide(situation(spec, there, ledger=ledger, suggestion=recalled))
    assert verdict.decision == Issue((A,), IssueReason.RENEWAL_DUE, recalled)
    early = suggestion(NOW - HOUR, NOW + HOUR)
    asked = situation(spec, there, ledger=ledger, suggestion=early, now=instant_in(early))
    ledger = failed_name(spec, B, retry_at=asked.now + MINUTE)
    assert isinstance(decide(replace(asked, ledger=ledger)).decision, Defer)


def test_why_is_told() -> None:
    """The CA's page about it is shown to users (RFC 9773 §4.2)."""
    window = replace(suggestion(NOW + DAY, NOW + 2 * DAY), explanation_url="https://ca.example/why")
    verdict = decide(situation(spec_of(A, B), held(), suggestion=window))
    (told,) = verdict.defects
    assert told.code == "RenewalSuggested"
    assert "https://ca.example/why" in told.sentence
