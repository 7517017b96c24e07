"""planning/planner.py: a Planner gives what `plan` gives, whatever came before."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmeistio.model import (
    Declaration,
    Defer,
    Held,
    Installation,
    Issue,
    Stored,
    Suggestion,
    Target,
    Unreachable,
)
from acmeistio.planning.ledger import NEVER, Ledger, OpenOrder, Pause
from acmeistio.planning.limits import MARGIN, BudgetKey, Kind, set_digest
from acmeistio.planning.plan import Plan, World, plan
from acmeistio.planning.planner import Planner
from tests.core.builders import (
    CA,
    DAY,
    INSTALLATION,
    MINUTE,
    NAMESPACE,
    NOW,
    TARGET,
    A,
    B,
    declaration,
    placeholder_of,
    stored,
)
from tests.core.strategies import HOUR, SMALL, Drawn, worlds

MOMENTS = (
    timedelta(),
    timedelta(seconds=1),
    timedelta(hours=1),
    -timedelta(hours=1),
    DAY,
    7 * DAY,
    31 * DAY,
    90 * DAY,
)


def planned(planner: Planner, world: World) -> Plan:
    """What a Planner makes of a world."""
    for _ in planner.steps(world):
        pass
    return planner.plan


@st.composite
def histories(draw: st.DrawFn) -> list[World]:
    """Worlds that follow one another: in each step one part is another, often none but time."""
    first, other = draw(worlds()).world, draw(worlds()).world
    world, found = first, [first]
    for _ in range(draw(st.integers(1, 6))):
        came = draw(st.sampled_from([first, other]))
        world = draw(st.sampled_from(_changes(world, came)))
        found.append(replace(world, now=world.now + draw(st.sampled_from(MOMENTS))))
        world = found[-1]
    return found


def _changes(world: World, came: World) -> list[World]:
    """The same world, and those in which one part is as in another."""
    targets = tuple(world.held)
    hinted = {t: _suggestion(held, world.now) for t, held in world.held.items() if _is(held)}
    gone = {
        name: Unreachable(world.now + DAY) for made in world.declarations for name in made.names
    }
    return [
        world,
        replace(world, declarations=tuple(d for d in came.declarations)),
        replace(world, declarations=world.declarations[1:]),
        replace(world, declarations=_each_once(*came.declarations[:1], *world.declarations)),
        replace(world, declarations=world.declarations[::-1]),
        replace(world, held=came.held),
        replace(world, held={t: h for t, h in world.held.items() if t != min(targets, default=0)}),
        replace(world, ledger=came.ledger),
        replace(world, ledger=replace(world.ledger, budgets=came.ledger.budgets)),
        replace(world, ledger=replace(world.ledger, pauses=came.ledger.pauses)),
        replace(world, ledger=replace(world.ledger, orders=came.ledger.orders)),
        replace(world, remembered=came.remembered),
        replace(world, unknown=frozenset({"Ingress"}) ^ world.unknown),
        replace(world, suggestions=hinted if not world.suggestions else {}),
        replace(world, awaited=frozenset(targets) ^ world.awaited),
        replace(world, unreachable=lambda _: gone, doubted=frozenset(targets)),
        replace(world, unreachable=lambda _: gone, doubted=None),
        replace(world, unreachable=lambda _: {}, doubted=frozenset()),
    ]


WAITERS = tuple(Target(NAMESPACE, name) for name in ("one", "two", "three", "four"))
QUEUE = tuple(
    declaration(target.name, f"{target.name}.example.com", target=target) for target in WAITERS
)
SPENT = tuple(
    BudgetKey(CA.directory_url, kind, subject)
    for kind, subject in (
        (Kind.ORDERS, ""),
        (Kind.DOMAIN, "example.com"),
        (Kind.NAME_SET, set_digest(QUEUE[0].names)),
        (Kind.FAILURES, QUEUE[1].names[0]),
    )
)
"""What those that wait may wait for: some of it all together, some each by itself."""


def _may_be_held(made: Declaration) -> list[Held]:
    """A placeholder, and certificates with so much of their time left, or nothing."""
    ages = (DAY, 70 * DAY, 88 * DAY, 91 * DAY, 119 * DAY)
    by_age = [stored(*made.names, made=NOW - age) for age in ages]
    by_age = [replace(held, leaf=replace(held.leaf, renewal_id="id")) for held in by_age]
    return [placeholder_of(*made.names), *by_age, stored(A, renew_requested_at="now"), None]


@st.composite
def queues(draw: st.DrawFn) -> list[World]:
    """Worlds that follow one another, in which orders wait: for limits, for a pause, for others."""
    with_fallback = SMALL if draw(st.booleans()) else _without_fallback(SMALL)
    held = {made.target: draw(st.sampled_from(_may_be_held(made))) for made in QUEUE}
    world = World(QUEUE, held, frozenset(), Ledger(), with_fallback, NOW, doubted=frozenset())
    found = [world]
    for _ in range(draw(st.integers(1, 8))):
        known = draw(st.sampled_from(found))
        ledger = _ledger_after(draw, world.ledger, known.ledger, world.now)
        target = draw(st.sampled_from(WAITERS))
        made = next(made for made in QUEUE if made.target == target)
        changed = {target: draw(st.sampled_from(_may_be_held(made)))} if draw(_SELDOM) else {}
        said = {target: draw(st.sampled_from(SUGGESTED))} if draw(_SELDOM) else {}
        world = replace(
            world,
            held={**world.held, **changed},
            suggestions={**world.suggestions, **said},
            ledger=ledger,
            now=draw(st.sampled_from(_moments_after(world))),
        )
        found.append(world)
    return found


_SELDOM = st.sampled_from([True, False, False])
SUGGESTED = (
    Suggestion("id", NOW - DAY, NOW + DAY),
    Suggestion("id", NOW + HOUR, NOW + 20 * DAY),
    Suggestion("another", NOW, NOW + DAY),
)


def _without_fallback(installation: Installation) -> Installation:
    issuers = {name: replace(i, fallback=None) for name, i in installation.issuers.items()}
    return replace(installation, issuers=issuers)


def _ledger_after(draw: st.DrawFn, ledger: Ledger, known: Ledger, now: datetime) -> Ledger:
    """The same ledger mostly, or one in which something was spent, ordered, asked for or undone."""
    key, span = draw(st.sampled_from(SPENT)), draw(st.sampled_from([MINUTE, HOUR, 3 * DAY]))
    made = draw(st.sampled_from(QUEUE))
    names = draw(st.sampled_from([made.names, (A,)]))
    opened = OpenOrder("https://ca.example/1", CA.directory_url, names, now)
    pause = Pause(now + span, "slow down")
    return draw(
        st.sampled_from(
            [
                *[ledger] * 4,
                replace(ledger, budgets={**ledger.budgets, key: now + span}),
                replace(ledger, budgets={}),
                replace(ledger, pauses={}),
                ledger.paused("ca", pause),
                ledger.order_opened(made.target, opened),
                ledger.order_closed(made.target),
                known,
            ]
        )
    )


def _moments_after(world: World) -> list[datetime]:
    """When the next look may be: soon, late, by a clock that is set back, or just at what waits."""
    instants = [world.now + moment for moment in MOMENTS]
    for verdict in plan(world).verdicts.values():
        if isinstance(verdict.decision, Defer) and verdict.decision.until < NEVER:
            instants += [verdict.decision.until, verdict.decision.until - timedelta(seconds=1)]
    return instants


def _each_once(*declarations: Declaration) -> tuple[Declaration, ...]:
    """As sources hand them out."""
    return tuple({id(made): made for made in declarations}.values())


def _is(held: object) -> bool:
    return isinstance(held, Stored)


def _suggestion(held: object, now: datetime) -> Suggestion:
    assert isinstance(held, Stored)
    return Suggestion(str(held.leaf.renewal_id), now + DAY, now + 2 * DAY)


@given(histories())
def test_what_is_remembered_changes_nothing(history: list[World]) -> None:
    """After any worlds, in any order, a Planner's plan is the one of `plan` (issue 6)."""
    planner = Planner()
    for world in history:
        assert planned(planner, world) == plan(world)
        assert list(planner.plan.verdicts) == sorted(planner.plan.verdicts)


@given(queues())
def test_what_waits_is_told_what_it_would_be_told_anew(history: list[World]) -> None:
    """Whatever is spent, paused, opened or past meanwhile, and by whom."""
    planner = Planner()
    for world in history:
        assert planned(planner, world) == plan(world)


@given(histories(), st.lists(st.integers(0, 3)))
def test_what_was_not_planned_to_its_end_changes_nothing(
    history: list[World], taken: list[int]
) -> None:
    """A pass that is given up in its midst leaves nothing that the next would build on."""
    planner = Planner()
    for world, count in zip(history, taken, strict=False):
        for _ in zip(range(count), planner.steps(world), strict=False):
            pass
        assert planned(planner, history[0]) == plan(history[0])


@given(worlds())
def test_the_next_instant_is_not_slept_through(drawn: Drawn) -> None:
    """Just before what a plan waits for, and at it, a Planner says what `plan` says."""
    planner = Planner()
    first = planned(planner, drawn.world)
    if first.look_again_at and first.look_again_at < NOW + 1000 * DAY:
        for at in (first.look_again_at - timedelta(seconds=1), first.look_again_at):
            world = replace(drawn.world, now=at)
            assert planned(planner, world) == plan(world)


def _resting() -> World:
    return World(
        declarations=(declaration("web", A),),
        held={TARGET: stored(A)},
        remembered=frozenset(),
        ledger=Ledger(),
        installation=INSTALLATION,
        now=NOW,
        doubted=frozenset(),
    )


def test_what_is_at_rest_is_the_same_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is decided, and whoever compares by identity sees that nothing has changed."""
    planner, world = Planner(), _resting()
    first = planned(planner, world)
    monkeypatch.setattr("acmeistio.planning.planner.decided", None)
    later = planned(planner, replace(world, now=NOW + timedelta(hours=1)))
    assert later is first


REFILL = HOUR * MARGIN
"""The CA's limits leave room for two orders at once, then for one in each such time."""
SPENT_FOR_AN_HOUR = {SPENT[0]: NOW + HOUR + REFILL}
PRESSING = replace(stored(A).leaf, not_before=NOW - 80 * DAY, not_after=NOW + 10 * DAY)
WAITING = replace(_resting(), installation=_without_fallback(SMALL))
FOR_A_LIMIT = replace(
    WAITING, held={TARGET: placeholder_of(A)}, ledger=Ledger(budgets=SPENT_FOR_AN_HOUR)
)
FOR_THE_CA = replace(
    WAITING,
    held={TARGET: stored(B, directory_url="https://gone")},
    ledger=Ledger(pauses={"ca": Pause(NOW + HOUR, "slow down")}),
)
FOR_ITS_WINDOW = replace(
    WAITING,
    held={TARGET: replace(stored(A), leaf=replace(PRESSING, renewal_id="id"))},
    ledger=Ledger(
        budgets={BudgetKey(CA.directory_url, Kind.NAME_SET, set_digest([A])): NOW + 5 * DAY}
    ),
    suggestions={TARGET: Suggestion("id", NOW + HOUR, NOW + DAY)},
)


@pytest.mark.parametrize("world", [FOR_A_LIMIT, FOR_THE_CA, FOR_ITS_WINDOW])
def test_what_waits_rests_until_its_instant(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """Neither a decision nor a share is worked out again before, and then it is."""
    planner = Planner()
    first = planned(planner, world)
    assert first.look_again_at == NOW + HOUR
    with monkeypatch.context() as patched:
        patched.setattr("acmeistio.planning.planner.decided", None)
        patched.setattr("acmeistio.planning.shares.costs_of", None)
        before = replace(world, now=NOW + HOUR - timedelta(seconds=1))
        assert planned(planner, before) is first
    (verdict,) = planned(planner, replace(world, now=NOW + HOUR)).verdicts.values()
    assert isinstance(verdict.decision, Issue)


def test_an_order_that_is_open_waits_for_no_limit_any_more() -> None:
    """It was paid when it was made, as by an earlier life of which one learns late."""
    planner, world = Planner(), FOR_A_LIMIT
    planned(planner, world)
    order = OpenOrder("https://ca.example/1", CA.directory_url, (A,), NOW)
    ledger = world.ledger.order_opened(TARGET, order)
    (verdict,) = planned(planner, replace(world, ledger=ledger)).verdicts.values()
    assert isinstance(verdict.decision, Issue)


def test_what_others_spend_moves_who_waits_and_decides_nothing_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is told the later instant."""
    planner, world = Planner(), FOR_A_LIMIT
    planned(planner, world)
    later = {key: at + HOUR for key, at in SPENT_FOR_AN_HOUR.items()}
    monkeypatch.setattr("acmeistio.planning.planner.decided", None)
    now = planned(planner, replace(world, ledger=Ledger(budgets=later)))
    assert now.look_again_at == NOW + 2 * HOUR
