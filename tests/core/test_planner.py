"""planning/planner.py: a Planner gives what `plan` gives, whatever came before."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmeistio.model import Declaration, Stored, Suggestion, Unreachable
from acmeistio.planning.ledger import Ledger
from acmeistio.planning.plan import Plan, World, plan
from acmeistio.planning.planner import Planner
from tests.core.builders import DAY, INSTALLATION, NOW, TARGET, A, declaration, stored
from tests.core.strategies import Drawn, worlds

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
        replace(world, remembered=came.remembered),
        replace(world, unknown=frozenset({"Ingress"}) ^ world.unknown),
        replace(world, suggestions=hinted if not world.suggestions else {}),
        replace(world, awaited=frozenset(targets) ^ world.awaited),
        replace(world, unreachable=lambda _: gone, doubted=frozenset(targets)),
        replace(world, unreachable=lambda _: gone, doubted=None),
        replace(world, unreachable=lambda _: {}, doubted=frozenset()),
    ]


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
