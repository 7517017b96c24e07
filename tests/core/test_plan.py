"""planning/plan.py: properties of the whole plan, over worlds in which anything went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmeistio.model import (
    CertificateSpec,
    Decision,
    Defer,
    Issue,
    IssueReason,
    Keep,
    Leaf,
    Marks,
    Revoke,
    Stored,
    StoreKnown,
    StorePlaceholder,
    Target,
    Validate,
    is_by_hand,
)
from acmeistio.names import DnsName, covers
from acmeistio.planning import limits, setbacks
from acmeistio.planning.decide import Verdict
from acmeistio.planning.failing import REVOCATION, armed_by
from acmeistio.planning.ledger import NEVER, Ledger
from acmeistio.planning.ledger_text import from_json, to_json
from acmeistio.planning.plan import Plan, World, plan
from acmeistio.planning.renewal import endangered_at, last_resort_at, pressing_at, renew_at
from acmeistio.planning.setbacks import Case, Setback
from acmeistio.planning.shares import costs_of
from tests.core.builders import (
    DAY,
    INSTALLATION,
    MINUTE,
    NAMESPACE,
    NOW,
    TARGET,
    A,
    B,
    declaration,
    failed_name,
    placeholder_of,
    spec_of,
    stored,
)
from tests.core.strategies import NAMES, SMALL, Drawn, worlds

K = TypeVar("K")
V = TypeVar("V")
ROUNDS = 8
"""Put right from memory, prove each name that failed, order: then nothing is left to do."""


def shuffled(data: st.DataObject, mapping: Mapping[K, V]) -> dict[K, V]:
    """The same mapping in another order."""
    return dict(data.draw(st.permutations(list(mapping.items()))))


def after(drawn: Drawn, made: Plan, working: Mapping[Target, Verdict] | None = None) -> Drawn:
    """A pure model of the stores: the world once everything that the plan says was done.

    `working`: those of its verdicts that can be carried out, all unless given.
    """
    world, known = drawn.world, dict(drawn.known)
    held, ledger = dict(world.held), world.ledger
    for target, verdict in (made.verdicts if working is None else working).items():
        spec = made.specs[target]
        match verdict.decision:
            case StorePlaceholder():
                known[target] = placeholder_of(*spec.names, made=world.now)
            case StoreKnown():
                pass
            case Issue(names=ordered):
                before = held[target]
                marks = before.marks if before else Marks()
                known[target] = issued(world, spec, ordered, marks)
                ledger = ledger.issued(target, spec.issuer, frozenset(ordered))
            case Validate(name=name):
                ledger = ledger.name_proved(spec.issuer, name)
                continue
            case Revoke():
                before = held[target]
                assert isinstance(before, Stored)
                noted = replace(before.marks, revoked_sha256=before.leaf.sha256)
                held[target] = replace(before, marks=noted)
                continue
            case _:
                continue
        held[target] = known[target]
    after_it = replace(world, held=held, ledger=ledger, remembered=frozenset(known))
    return Drawn(after_it, known)


def issued(world: World, spec: CertificateSpec, ordered: tuple[str, ...], marks: Marks) -> Stored:
    """What issuing.py stores: a fresh certificate for the names of the order, and its facts."""
    made = stored(made=world.now - timedelta(hours=1), serial=7)
    leaf = Leaf(
        frozenset(name for name in spec.names if name in ordered),
        made.leaf.not_before,
        made.leaf.not_after,
        made.leaf.serial,
        made.leaf.sha256,
        spec.key_type,
    )
    facts = replace(
        made.marks,
        directory_url=world.installation.issuers[spec.issuer].directory_url,
        profile=spec.profile,
        declared_by=spec.sources,
        fallback_for=spec.fallback_for,
        allows_downgrade=marks.allows_downgrade,
        renew_requested_at=marks.renew_requested_at,
        renewed_for=marks.renew_requested_at,
    )
    return Stored(leaf, facts)


def decisions(made: Plan) -> dict[Target, Decision]:
    """Target → decision."""
    return {target: verdict.decision for target, verdict in made.verdicts.items()}


@given(st.data(), worlds())
def test_the_order_never_matters(data: st.DataObject, drawn: Drawn) -> None:
    """A permutation of the input never changes the plan (issue 3 §2, DESIGN §5 Merging).

    Not of the declarations, and not of what is stored and remembered, which a restart reads
    back in another order.
    """
    world = drawn.world
    other = replace(
        world,
        declarations=tuple(data.draw(st.permutations(world.declarations))),
        held=shuffled(data, world.held),
        ledger=Ledger(
            shuffled(data, world.ledger.names),
            shuffled(data, world.ledger.targets),
            shuffled(data, world.ledger.orders),
            shuffled(data, world.ledger.pauses),
            shuffled(data, world.ledger.budgets),
        ),
        suggestions=shuffled(data, world.suggestions),
    )
    assert plan(other) == plan(world)


@given(worlds())
def test_planning_twice_gives_the_same(drawn: Drawn) -> None:
    """Planning changes nothing, and a ledger read back plans the same (issue 3 §2)."""
    world = drawn.world
    read_back = replace(world, ledger=from_json(to_json(world.ledger)))
    first = plan(world)
    assert plan(world) == first
    assert plan(read_back) == first


@given(worlds())
def test_a_plan_carried_out_leaves_nothing_to_do(drawn: Drawn) -> None:
    """When all is stored and issued, the next plan only keeps and defers (issue 3 §2).

    From memory an old pair may come back first, which is ordered anew in the next round; names that
    failed are proved one by one before.
    """
    for _ in range(ROUNDS):
        drawn = after(drawn, plan(drawn.world))
    for decision in decisions(plan(drawn.world)).values():
        assert isinstance(decision, Keep | Defer)


def after_failing(drawn: Drawn, made: Plan, broken: frozenset[DnsName]) -> Drawn:
    """The same where the CA can't validate some names: those orders fail, as attempt.py has it."""
    world, ledger = drawn.world, drawn.world.ledger
    working: dict[Target, Verdict] = {}
    for target, verdict in made.verdicts.items():
        failed = broken.intersection(asked_for(verdict.decision))
        if failed:
            case = case_of(world, verdict)
            ledger = setbacks.names_failed(ledger, case, dict.fromkeys(failed, NO), world.now)
        else:
            working[target] = verdict
    return after(replace(drawn, world=replace(world, ledger=ledger)), made, working)


NO = Setback("NXDOMAIN", "dns")


def asked_for(decision: Decision) -> tuple[DnsName, ...]:
    """The names that a CA is asked to validate."""
    match decision:
        case Issue(names=ordered):
            return ordered
        case Validate(name=name):
            return (name,)
    return ()


def case_of(world: World, verdict: Verdict) -> Case:
    """What was to be done."""
    spec = verdict.spec
    return Case(spec, world.installation.issuers[spec.issuer], world.held[spec.target])


def after_refusals(drawn: Drawn, made: Plan) -> Drawn:
    """The world once every CA has refused all that the plan asks of it; then it is tidied."""
    world, ledger = drawn.world, drawn.world.ledger
    repairs: dict[Target, Verdict] = {}
    for target, verdict in made.verdicts.items():
        case = case_of(world, verdict)
        match verdict.decision:
            case Issue():
                ledger = setbacks.refused(ledger, case, NO, world.now)
            case Validate(name=name):
                ledger = setbacks.names_failed(ledger, case, {name: NO}, world.now)
            case Revoke():
                ledger = setbacks.refused(ledger, case, Setback("no", REVOCATION), world.now)
            case StoreKnown() | StorePlaceholder():
                repairs[target] = verdict
    settled = frozenset(t for t, d in decisions(made).items() if isinstance(d, Keep))
    ledger = ledger.tidied(made.names, frozenset(made.specs), world.now, settled=settled)
    return after(replace(drawn, world=replace(world, ledger=ledger)), made, repairs)


@given(worlds())
def test_refusals_end_in_waiting(drawn: Drawn) -> None:
    """Whatever a CA refuses, nothing is asked again and again, of it or its fallback in turn."""
    for _ in range(ROUNDS):
        drawn = after_refusals(drawn, plan(drawn.world))
    for decision in decisions(plan(drawn.world)).values():
        assert isinstance(decision, Keep | Defer)


@given(worlds(), st.frozensets(st.sampled_from(NAMES[:4])))
def test_names_that_fail_end_in_waiting(drawn: Drawn, broken: frozenset[DnsName]) -> None:
    """A name that the CA can't validate costs an order, not one per pass (issue 3, must show).

    Also where several Secrets want it: they must not take turns in trying it.
    """
    for _ in range(ROUNDS):
        drawn = after_failing(drawn, plan(drawn.world), broken)
    for decision in decisions(plan(drawn.world)).values():
        assert isinstance(decision, Keep | Defer)


def test_one_failing_name_in_two_secrets() -> None:
    """Each Secret tries a name once; then it has one backoff for both (issue 3 §2)."""
    second = Target(NAMESPACE, "second")
    world = replace(
        world_of(A, B, held=stored(A)),
        declarations=(declaration("web", A, B), declaration("web", A, B, target=second)),
        held={TARGET: stored(A), second: stored(A)},
    )
    drawn, orders = Drawn(world, {}), 0
    for _ in range(5):
        made = plan(drawn.world)
        orders += sum(isinstance(d, Issue) for d in decisions(made).values())
        drawn = after_failing(drawn, made, frozenset({B}))
    assert orders == 2


@given(worlds())
def test_only_declared_names_are_ordered(drawn: Drawn) -> None:
    """A plan never issues, or waits, for a name that nobody declares for that target."""
    world = drawn.world
    for target, decision in decisions(plan(world)).items():
        declared = {n for d in world.declarations if d.target == target for n in d.names}
        names = decision.names if isinstance(decision, Defer) else asked_for(decision)
        assert names or not isinstance(decision, Issue | Defer)
        assert declared >= set(names)
        assert len(set(names)) == len(names) <= 3
        assert "*.example.com" not in names


@given(worlds())
def test_foreign_and_unknown_targets_are_left_alone(drawn: Drawn) -> None:
    """What is not ours is only kept, and unknown is not absent (DESIGN §5)."""
    world = drawn.world
    made = plan(world)
    assert set(made.verdicts) == set(made.specs) <= set(world.held)
    for target, decision in decisions(made).items():
        held = world.held[target]
        if held is not None and not held.marks.managed:
            assert decision == Keep(None)
        assert isinstance(decision, StorePlaceholder | StoreKnown) or held is not None


@given(worlds())
def test_failing_names_are_not_asked_for(drawn: Drawn) -> None:
    """A name whose backoff runs is in no order, nor tried alone (DESIGN §5, No name blocks)."""
    world = drawn.world
    for target, verdict in plan(world).verdicts.items():
        spec, held = verdict.spec, world.held[target]
        issuer, marks = world.installation.issuers[spec.issuer], held.marks if held else None
        for name in asked_for(verdict.decision):
            failure = world.ledger.names.get((spec.issuer, name))
            if failure and armed_by(spec, issuer, marks, name) in failure.armed_by:
                assert failure.retry_at <= world.now


@given(worlds())
def test_no_limit_is_overspent(drawn: Drawn) -> None:
    """All that a plan asks for at once can be paid together (DESIGN §5, Rate limits)."""
    world = drawn.world
    made, budgets = plan(world), world.ledger.budgets
    for target, verdict in made.verdicts.items():
        if target in world.ledger.orders:
            continue  # one that is open costs nothing more
        case = case_of(world, verdict)
        costs = costs_of(verdict.decision, case.issuer, case.held, world.now)
        assert limits.payable_at(budgets, costs, world.now) == world.now
        budgets = limits.spent(budgets, costs, world.now)
        for name in asked_for(verdict.decision):
            failures = limits.costs_of_failures(case.issuer, [name])
            assert limits.payable_at(world.ledger.budgets, failures, world.now) == world.now


@given(worlds())
def test_nothing_trusted_is_replaced_by_what_is_not(drawn: Drawn) -> None:
    """Unless the Secret says so, or nothing valid is served (DESIGN §5, Bundles)."""
    world, urls = drawn.world, {i.directory_url: i for i in SMALL.issuers.values()}
    for target, verdict in plan(world).verdicts.items():
        held = world.held[target]
        if not isinstance(verdict.decision, Issue) or not isinstance(held, Stored):
            continue
        if held.leaf.not_after <= world.now or held.marks.allows_downgrade or is_by_hand(held):
            continue
        made_by = urls[held.marks.directory_url or ""]
        asked = SMALL.issuers[verdict.spec.issuer]
        assert asked.trusted or not made_by.trusted or held.marks.placeholder


@given(worlds())
def test_no_busy_loop(drawn: Drawn) -> None:
    """When nothing is to be done now, the plan is looked at again later and never now."""
    made = plan(drawn.world)
    for decision in decisions(made).values():
        if isinstance(decision, Keep) and decision.look_again_at:
            assert decision.look_again_at > drawn.world.now
        if isinstance(decision, Defer):
            assert decision.until > drawn.world.now
    assert made.look_again_at is None or made.look_again_at > drawn.world.now


@given(worlds(), st.floats(0, 0.999))
def test_nothing_changes_before_it_is_looked_at_again(drawn: Drawn, part: float) -> None:
    """Until `look_again_at` no decision changes by itself, so that sleeping loses nothing.

    A Defer may wait for a better reason: a certificate expires while its issuer pauses.
    """
    world = drawn.world
    made = plan(world)
    for target, verdict in made.verdicts.items():
        decision = verdict.decision
        until = decision.look_again_at if isinstance(decision, Keep) else None
        until = decision.until if isinstance(decision, Defer) else until
        if (not until and not isinstance(decision, Keep)) or is_rate_limited(verdict):
            continue
        until = min(until or NEVER, world.now + 400 * DAY)
        later = replace(world, now=world.now + (until - world.now) * part)
        then = plan(later).verdicts[target].decision
        if isinstance(decision, Defer):
            assert isinstance(then, Defer)
            assert then.until == decision.until
        else:
            assert then == decision


def is_rate_limited(verdict: Verdict) -> bool:
    """Whether the decision is one of shares.py."""
    ref = verdict.spec.target.ref
    return any(made.code == "RateLimited" and made.subject == ref for made in verdict.defects)


def instants_of(world: World) -> list[datetime]:
    """When something is another thing by the course of time alone."""
    ledger = world.ledger
    found = [failure.retry_at for failure in (*ledger.names.values(), *ledger.targets.values())]
    found += [pause.until for pause in ledger.pauses.values()]
    found += [i for window in world.suggestions.values() for i in (window.start, window.end)]
    for target, held in world.held.items():
        if isinstance(held, Stored):
            leaf = held.leaf
            found.append(renew_at(leaf, world.suggestions.get(target)))
            found += [stage(leaf) for stage in (renew_at, pressing_at, endangered_at)]
            found += [last_resort_at(leaf), leaf.not_after]
    return [instant for instant in found if instant > world.now]


@given(worlds(), st.floats(0, 0.999))
def test_whoever_waits_for_a_limit_waits_as_told(drawn: Drawn, part: float) -> None:
    """Nobody's turn comes before it was told, as long as nothing else changes (shares.py)."""
    world = drawn.world
    made = plan(world)
    quiet_until = min([*instants_of(world), made.look_again_at or world.now], default=world.now)
    then = plan(replace(world, now=world.now + (quiet_until - world.now) * part))
    for target, verdict in made.verdicts.items():
        if is_rate_limited(verdict) and isinstance(verdict.decision, Defer):
            decision = then.verdicts[target].decision
            assert isinstance(decision, Defer)
            assert decision.until >= verdict.decision.until


@given(worlds())
def test_defects_have_words(drawn: Drawn) -> None:
    """Every Defect that a plan finds has its sentence and remedy, once each (issue 3 §2)."""
    defects = plan(drawn.world).defects
    assert len(set(defects)) == len(defects)
    assert list(defects) == sorted(defects)
    assert all(made.sentence and made.remedy for made in defects)


@given(worlds())
def test_a_served_name_is_not_dropped_lightly(drawn: Drawn) -> None:
    """A certificate that serves is never made worse by a first stumble (DESIGN §5).

    A name that is declared, served by a valid certificate of ours and failed once or twice is
    part of the next order, unless its other names are endangered.
    """
    world = drawn.world
    made = plan(world)
    for target, decision in decisions(made).items():
        held = world.held[target]
        if not isinstance(decision, Issue) or not isinstance(held, Stored):
            continue
        if held.marks.placeholder or held.leaf.not_after <= world.now:
            continue
        spec = made.specs[target]
        served = [name for name in spec.names if covers(held.leaf.names, name)]
        suggestion = world.suggestions.get(target)
        recalled = suggestion is not None and suggestion.end <= world.now
        if recalled or decision.reason is IssueReason.REVOKED:
            continue
        for name in set(served) - set(decision.names):
            failure = world.ledger.names.get((spec.issuer, name))
            given_up = failure is not None and (failure.count >= 3 or failure.is_permanent)
            assert given_up or world.now >= endangered_at(held.leaf)


# --- examples


def world_of(*names: str, held: Stored | None = None, ledger: Ledger | None = None) -> World:
    """One target that one object declares."""
    return World(
        declarations=(declaration("web", *names),),
        held={TARGET: held},
        remembered=frozenset(),
        ledger=ledger or Ledger(),
        installation=INSTALLATION,
        now=NOW,
    )


def test_a_target_that_could_not_be_read_is_left_out() -> None:
    """Unknown is not absent: no placeholder over what can't be seen (DESIGN §5, Growing)."""
    made = plan(replace(world_of(A), held={}))
    assert (made.specs, made.verdicts, made.defects) == ({}, {}, ())
    assert made.look_again_at is None


def test_an_undeclared_target_is_left_as_it_is() -> None:
    """A Secret whose last declaration goes stays as it is (DESIGN §5, Growing)."""
    made = plan(replace(world_of(), declarations=(), held={TARGET: stored(A)}))
    assert made.verdicts == {}


def test_look_again_is_the_earliest() -> None:
    """The loop wakes for the first of all targets (plan.py)."""
    second = Target(NAMESPACE, "second")
    world = world_of(A, B, held=stored(A), ledger=failed_name(spec_of(A, B), B))
    made = plan(
        replace(
            world,
            declarations=(*world.declarations, declaration("web", A, target=second)),
            held={**world.held, second: stored(A)},
        )
    )
    # the failed name is armed by another spec: its target is ordered, only the second is kept
    assert {type(d) for d in decisions(made).values()} <= {Keep, Issue}
    assert made.look_again_at == min(
        d.look_again_at for d in decisions(made).values() if isinstance(d, Keep) and d.look_again_at
    )
    assert made.look_again_at == NOW + MINUTE


def test_the_holder_is_read_from_the_secret() -> None:
    """Who stands in the Secret's declared-by keeps it (DESIGN §5, Merging)."""
    world = replace(
        world_of(),
        declarations=(declaration("a", A, issuer="ca"), declaration("web", B, issuer="other")),
        held={TARGET: stored(B)},
    )
    made = plan(world)
    assert made.specs[TARGET].names == (B,)
    assert [d.code for d in made.defects] == ["ConflictingDeclaration"]


@pytest.mark.parametrize("placeholder", [True, False])
def test_names_of_a_placeholder_are_not_served(placeholder: bool) -> None:
    """A placeholder gives no name the right to stay among too many (DESIGN §5)."""
    many = tuple(f"n{index:03}.example.com" for index in range(100))
    held = placeholder_of(B) if placeholder else stored(B)
    declared = (
        declaration("old", *many, created_at=NOW - DAY),
        declaration("web", B, created_at=NOW),
    )
    holder = replace(held, marks=replace(held.marks, declared_by=()))
    made = plan(replace(world_of(), declarations=declared, held={TARGET: holder}))
    assert (B in made.specs[TARGET].names) is not placeholder
