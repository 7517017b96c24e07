"""planning/ledger.py: what survives a restart, and the transitions of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmeistio.planning.ledger import MAX_DIGESTS, NEVER, Failure, Ledger, OpenOrder, Pause
from acmeistio.planning.ledger_text import (
    SCHEMA_VERSION,
    NewerLedger,
    UnreadableLedger,
    from_json,
    to_json,
)
from acmeistio.planning.limits import BudgetKey, Kind
from tests.core.builders import CA, DAY, MINUTE, NOW, TARGET, A, B, C, failed_name, spec_of
from tests.core.strategies import LEDGERS

FAILURE = Failure(2, NOW + MINUTE, ("digest",), "NXDOMAIN")
ORDER = OpenOrder("https://ca.example/order/1", CA.directory_url, (A, B), NOW)
FULL = Ledger(
    names={("ca", A): FAILURE},
    targets={(TARGET, "ca"): replace(FAILURE, costly=False)},
    orders={TARGET: ORDER},
    pauses={"ca": Pause(NOW + DAY, "slow down")},
    budgets={BudgetKey(CA.directory_url, Kind.DOMAIN, "example.com"): NOW + 3 * DAY},
    as_of=NOW,
)


@given(LEDGERS)
def test_round_trip(ledger: Ledger) -> None:
    """A restart reads back what was written (DESIGN §4, Ledger).

    Equal ledgers are the same text in whatever order they grew, so that nothing is written
    when nothing changed.
    """
    text = to_json(ledger)
    assert from_json(text) == ledger
    assert to_json(from_json(text)) == text
    parts = (ledger.names, ledger.targets, ledger.orders, ledger.pauses, ledger.budgets)
    turned = (dict(reversed(part.items())) for part in parts)
    assert to_json(Ledger(*turned, as_of=ledger.as_of)) == text


def test_an_empty_ledger() -> None:
    """It has a schema version from the first day (issue 3 §2)."""
    assert json.loads(to_json(Ledger()))["schemaVersion"] == SCHEMA_VERSION
    assert from_json(to_json(Ledger())) == Ledger()


def test_a_newer_schema_is_refused() -> None:
    """A ledger of a newer acmeistio is not read as if it were ours; the message says what to do."""
    document = {**json.loads(to_json(FULL)), "schemaVersion": SCHEMA_VERSION + 1, "names": "new"}
    with pytest.raises(NewerLedger, match="run the newer acmeistio again"):
        from_json(json.dumps(document))


def test_a_ledger_of_version_1() -> None:
    """After an upgrade, open orders are taken up and pauses kept (ledger_text.py)."""
    document = {**json.loads(to_json(FULL)), "schemaVersion": 1}
    del document["budgets"], document["asOf"]
    del document["targets"][0]["issuer"]
    for failure in (*document["names"], *document["targets"]):
        del failure["kind"], failure["link"]
    assert from_json(json.dumps(document)) == Ledger(orders=FULL.orders, pauses=FULL.pauses)


def without_zone(document: Any) -> None:
    """An instant that could be any."""
    document["names"][0]["retryAt"] = "2030-01-01T12:00:00"


def endless_count(document: Any) -> None:
    """JSON has it, no failure count is it."""
    document["names"][0]["count"] = float("inf")


def name_of_another_kind(document: Any) -> None:
    """A name is a text."""
    document["names"][0]["name"] = ["a.example.com"]


def missing_part(document: Any) -> None:
    """A part that every ledger has."""
    del document["orders"]


def endless_version(document: Any) -> None:
    """A version is a number of this world."""
    document["schemaVersion"] = float("inf")


def budgets_of_another_kind(document: Any) -> None:
    """Budgets are by directory, kind and subject."""
    document["budgets"] = []


def unknown_kind(document: Any) -> None:
    """What a budget is for is one of a few things."""
    document["budgets"] = {"https://ca.example": {"another": {"": 0}}}


@pytest.mark.parametrize(
    "spoil",
    [
        without_zone,
        endless_count,
        name_of_another_kind,
        missing_part,
        endless_version,
        budgets_of_another_kind,
        unknown_kind,
    ],
)
def test_a_spoilt_ledger_is_unreadable(spoil: Callable[[Any], None]) -> None:
    """What is not a ledger is UnreadableLedger and nothing else (ledger.from_json)."""
    document = json.loads(to_json(FULL))
    spoil(document)
    with pytest.raises(UnreadableLedger):
        from_json(json.dumps(document))


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[]", "7", '"x"', "{}", '{"schemaVersion": "x"}', "[" * 100_000]
)
def test_no_ledger_at_all(text: str) -> None:
    """Nor is any other text (ledger.from_json)."""
    with pytest.raises(UnreadableLedger):
        from_json(text)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["2030-01-01T00:00:00+00:00", "ns/name", 1]),
    lambda below: st.lists(below, max_size=2) | st.dictionaries(st.text(max_size=5), below),
    max_leaves=5,
)
ROWS = st.lists(
    st.dictionaries(
        st.sampled_from([*json.loads(to_json(FULL))["names"][0], "target", "url", "until"]),
        VALUES,
    )
    | VALUES,
    max_size=2,
)
DOCUMENTS = st.fixed_dictionaries(
    {"schemaVersion": st.just(SCHEMA_VERSION) | VALUES},
    optional=dict.fromkeys(
        ("names", "targets", "orders", "pauses", "budgets", "asOf"), ROWS | VALUES
    ),
)


@given(st.text() | DOCUMENTS.map(json.dumps))
def test_garbage_is_unreadable_or_a_ledger(text: str) -> None:
    """Whatever stands there, reading gives a ledger that can be written, or UnreadableLedger."""
    try:
        ledger = from_json(text)
    except UnreadableLedger:
        return
    assert from_json(to_json(ledger)) == ledger


@given(st.data())
def test_one_value_spoilt(data: st.DataObject) -> None:
    """The same for a real ledger in which one value was replaced by another."""
    document = json.loads(to_json(FULL))
    part = data.draw(st.sampled_from(["names", "targets", "orders", "pauses"]))
    row = document[part][0]
    row[data.draw(st.sampled_from(sorted(row)))] = data.draw(VALUES)
    try:
        ledger = from_json(json.dumps(document))
    except UnreadableLedger:
        return
    assert from_json(to_json(ledger)) == ledger


# --- transitions


def test_nothing_is_changed_in_place() -> None:
    """Every transition gives a new ledger and leaves the old as it was (ledger.py)."""
    before = to_json(FULL)
    FULL.name_failed("ca", B, FAILURE)
    FULL.name_failed("ca", A, replace(FAILURE, armed_by=("other",)))
    FULL.target_failed(TARGET, "ca", FAILURE)
    FULL.order_opened(TARGET, replace(ORDER, url="x"))
    FULL.order_closed(TARGET)
    FULL.issued(TARGET, "ca", frozenset({A}))
    FULL.paused("other", Pause(NOW, "x"))
    FULL.tidied(frozenset(), frozenset(), NOW + 2 * DAY)
    assert to_json(FULL) == before


def test_attempts_in_a_row_are_remembered_for_a_while() -> None:
    """After a pause another attempt may be in vain; one that was asked for is over (Pause)."""
    for attempts, minutes_later, is_kept in ((0, 0, False), (3, 9, True), (3, 10, False)):
        ledger = Ledger().paused("ca", Pause(NOW, "refused", attempts))
        tidied = ledger.tidied(frozenset(), frozenset(), NOW + minutes_later * MINUTE)
        assert bool(tidied.pauses) == is_kept


def test_a_name_failed() -> None:
    """A failure is one of a name at an issuer; the others stay (issue 3 §2)."""
    ledger = FULL.name_failed("other", A, replace(FAILURE, count=7))
    assert ledger.names == {("ca", A): FAILURE, ("other", A): replace(FAILURE, count=7)}


def test_declarations_of_one_name_wait_together() -> None:
    """The failure of a name holds for all declarations that tried it, the newest counts."""
    again = Failure(3, NOW + DAY, ("another",), "refused")
    (failure,) = Ledger().name_failed("ca", A, FAILURE).name_failed("ca", A, again).names.values()
    assert failure == replace(again, armed_by=("digest", "another"))
    ledger = Ledger()
    for index in range(2 * MAX_DIGESTS):
        ledger = ledger.name_failed("ca", A, replace(FAILURE, armed_by=(str(index),)))
    assert len(ledger.names["ca", A].armed_by) == MAX_DIGESTS
    assert str(2 * MAX_DIGESTS - 1) in ledger.names["ca", A].armed_by


def test_orders() -> None:
    """An order is remembered from its opening to its end, one per target (DESIGN §5)."""
    ledger = Ledger().order_opened(TARGET, ORDER)
    assert ledger.orders == {TARGET: ORDER}
    assert ledger.order_closed(TARGET) == Ledger()
    assert Ledger().order_closed(TARGET) == Ledger()


def test_issued() -> None:
    """A certificate that is stored ends the order and the failures of its names, no others."""
    spec = spec_of(A, B, C)
    ledger = failed_name(spec, C, ledger=failed_name(spec, B, ledger=FULL))
    ledger = ledger.name_failed("other", A, FAILURE)
    ledger = ledger.issued(TARGET, "ca", frozenset({A, B}))
    assert set(ledger.names) == {("ca", C), ("other", A)}
    assert ledger.targets == {}
    assert ledger.orders == {}
    assert ledger.pauses == FULL.pauses


def test_tidied() -> None:
    """What nobody declares is forgotten; thus a name that comes back is tried at once."""
    declared, targets = frozenset({("ca", A)}), frozenset({TARGET})
    assert FULL.tidied(declared, targets, NOW) is FULL
    assert FULL.tidied(frozenset({("other", A)}), targets, NOW).names == {}
    assert FULL.tidied(declared, frozenset(), NOW).targets == {}
    assert FULL.tidied(declared, frozenset(), NOW).orders == {}
    assert FULL.tidied(declared, targets, NOW + DAY).pauses == {}
    assert FULL.tidied(declared, targets, NOW + DAY).names == FULL.names


def test_what_is_settled_is_tidied() -> None:
    """A target that wants no order has no failure, nor an order that is open (ledger.py)."""
    declared, targets = frozenset({("ca", A)}), frozenset({TARGET})
    tidy = FULL.tidied(declared, targets, NOW, settled=targets)
    assert (tidy.targets, tidy.orders) == ({}, {})
    assert (tidy.names, tidy.budgets) == (FULL.names, FULL.budgets)


def test_budgets_that_are_full_are_tidied() -> None:
    """Whoever declares what: what is spent at a CA stays spent until it is refilled."""
    nobody: frozenset[Any] = frozenset()
    assert FULL.tidied(nobody, nobody, NOW + 2 * DAY).budgets == FULL.budgets
    assert FULL.tidied(nobody, nobody, NOW + 3 * DAY).budgets == {}


def test_budgets_are_written_in_whole_seconds() -> None:
    """Rounded up: rather a second too late than one too early (ledger_text.py)."""
    (key,) = FULL.budgets
    ledger = Ledger(budgets={key: NOW + timedelta(microseconds=1)})
    assert from_json(to_json(ledger)).budgets == {key: NOW + timedelta(seconds=1)}


def test_a_name_that_is_reachable_again_is_tried_at_once() -> None:
    """A probe that turns green ends its wait, not a refusal for good (rearming.py)."""
    ledger = FULL.name_rearmed("ca", A, NOW)
    assert ledger.names["ca", A] == replace(FAILURE, retry_at=NOW)
    assert ledger.name_rearmed("ca", A, NOW) is ledger
    assert FULL.name_rearmed("ca", B, NOW) is FULL
    for_good = Ledger(names={("ca", A): replace(FAILURE, retry_at=NEVER)})
    assert for_good.name_rearmed("ca", A, NOW) is for_good


def test_a_failure_at_one_ca_is_none_at_another() -> None:
    """What one CA refuses another may issue (ledger.py, TargetKey)."""
    ledger = FULL.target_failed(TARGET, "other", FAILURE)
    assert set(ledger.targets) == {(TARGET, "ca"), (TARGET, "other")}
    assert ledger.issued(TARGET, "ca", frozenset()).targets == {}
