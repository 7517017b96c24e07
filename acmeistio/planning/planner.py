"""Plans again and again, and does anew only what may have become another. Pure but for its memory.

A target whose declarations and Secret are as they were has the same spec. A certificate that was
kept, and that no failure concerns, is kept until the first instant that it depends on: it is at
rest. Whatever is not at rest is decided anew each time, so that what is remembered stays small
enough to be sure of: a Planner gives exactly what `plan` gives (tests/core/test_planner.py).

What is at rest is not even looked at: a pass costs what has changed, not what there is.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain

from acmeistio.model import CertificateSpec, Declaration, Held, Keep, Stored, Target
from acmeistio.planning.changed import Groups, differing
from acmeistio.planning.decide import Verdict
from acmeistio.planning.ledger import Ledger, NameKey
from acmeistio.planning.limits import Budgets, Kind
from acmeistio.planning.merge import merge
from acmeistio.planning.plan import (
    Plan,
    World,
    decided,
    holder_of,
    in_order,
    kept_in,
    names_asked,
)
from acmeistio.planning.renewal import last_resort_at
from acmeistio.planning.shares import sharing
from acmeistio.reasons import Defect

AT_ONCE = 25
"""So many targets are planned between two breaths: some milliseconds."""

_FAILURES = frozenset({Kind.FAILURES, Kind.FAILURES_IN_A_ROW})
_EVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Merged:
    """What the declarations of a target and its Secret gave."""

    spec: CertificateSpec | None
    defects: tuple[Defect, ...]


@dataclass(frozen=True, slots=True)
class _Decided:
    """A verdict; with `until`, it stands from `since` to then if nothing else changes."""

    verdict: Verdict
    since: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class _Concerned:
    """The names and targets that something went wrong with, or that are under way."""

    names: frozenset[str] = frozenset()
    targets: frozenset[Target] = frozenset()


class Planner:
    """The plans of one installation, one after the other."""

    def __init__(self) -> None:
        self._before: World | None = None
        self._forget()

    def _forget(self) -> None:
        self.plan = Plan({}, ())
        """The last one."""
        self._groups = Groups()
        self._kept: dict[Target, tuple[Declaration, ...]] = {}
        self._merged: dict[Target, _Merged] = {}
        self._decided: dict[Target, _Decided] = {}
        self._asked: dict[Target, tuple[NameKey, ...]] = {}
        self._verdicts: dict[Target, Verdict] = {}
        """Sorted, and before what the CAs' limits leave is shared out."""
        self._restless: set[Target] = set()
        self._troubled: set[Target] = set()
        """Those with Defects."""
        self._concerned = _Concerned()
        self._failures: tuple[Budgets, frozenset[str]] = ({}, frozenset())
        self._calm = _EVER
        """Between these instants nobody who is at rest is disturbed by time."""

    def steps(self, world: World) -> Iterator[None]:
        """Make the next plan; whoever iterates may do something else after each step.

        Whoever does not go on to the end is given the next plan from the very beginning.
        """
        before, self._before = self._before, None
        if before is None or not _is_comparable(before, world):
            self._forget()
            before = _nothing_before(world)
        changed = differing(before.held, world.held)
        remerged = changed | self._groups.update(self._declared(changed, world))
        concerned = self._concerned_by(world.ledger)
        dirty = sorted(remerged | self._disturbed(before, world, concerned))
        self._concerned = concerned
        for number, target in enumerate(dirty, 1):
            self._work_on(target, target in remerged, world)
            if number % AT_ONCE == 0:
                yield
        if dirty:
            self._show(dirty)
            yield
            self.plan = yield from self._planned(world)
        self._before = world

    def _declared(self, changed: set[Target], world: World) -> tuple[Declaration, ...]:
        """All declarations, and those that are kept, by what Secrets that have `changed` hold."""
        for target in changed if world.unknown else ():
            self._kept[target] = tuple(kept_in(target, world))
        kept = chain.from_iterable(self._kept.values())
        return (*world.declarations, *kept) if self._kept else world.declarations

    def _concerned_by(self, ledger: Ledger) -> _Concerned:
        if self._failures[0] is not ledger.budgets:
            failed = frozenset(key.subject for key in ledger.budgets if key.kind in _FAILURES)
            self._failures = (ledger.budgets, failed)
        names = self._failures[1].union(name for _, name in ledger.names)
        return _Concerned(names, frozenset(target for target, _ in ledger.targets))

    def _disturbed(self, before: World, world: World, concerned: _Concerned) -> set[Target]:
        """Those that are not at rest, or not any more, though what they were merged of is."""
        found = {
            *self._restless,
            *differing(before.suggestions, world.suggestions),
            *(before.awaited ^ world.awaited),
            *self._doubted(world),
            *(concerned.targets - self._concerned.targets),
            *self._named(concerned.names - self._concerned.names),
            *self._disturbed_by_time(world.now),
        }
        return found & self._merged.keys()

    def _doubted(self, world: World) -> frozenset[Target]:
        if world.doubted is not None:
            return world.doubted
        specs = (merged.spec for merged in self._merged.values() if merged.spec)
        return frozenset(spec.target for spec in specs if world.unreachable(spec))

    def _named(self, names: frozenset[str]) -> Iterator[Target]:
        """The targets that have one of these names."""
        for target, merged in self._merged.items() if names else ():
            if merged.spec and not names.isdisjoint(merged.spec.names):
                yield target

    def _disturbed_by_time(self, now: datetime) -> list[Target]:
        since, until = self._calm
        if since <= now < until:
            return []
        self._calm, found = _EVER, list[Target]()
        for target, made in self._decided.items():
            if made.until and made.since <= now < made.until:
                self._calm_for(made.since, made.until)
            else:
                found.append(target)
        return found

    def _calm_for(self, since: datetime, until: datetime) -> None:
        self._calm = max(self._calm[0], since), min(self._calm[1], until)

    def _work_on(self, target: Target, is_remerged: bool, world: World) -> None:
        """The spec of a target if it may have changed, and the verdict."""
        group = self._groups.by_target.get(target)
        if group is None or target not in world.held:
            self._merged.pop(target, None)
            self._drop(target)
            return
        if is_remerged:
            self._merged[target] = _merge(group, target, world)
        spec = self._merged[target].spec
        if spec is None:
            self._drop(target)
            return
        made = self._decided[target] = self._decide(spec, world)
        issuers = world.installation.issuers
        self._asked[target] = tuple(names_asked(spec, made.verdict, issuers))
        if made.until:
            self._calm_for(made.since, made.until)

    def _drop(self, target: Target) -> None:
        self._decided.pop(target, None)
        self._asked.pop(target, None)

    def _decide(self, spec: CertificateSpec, world: World) -> _Decided:
        target = spec.target
        verdict, known = decided(spec, world), self._decided.get(target)
        if known and known.verdict == verdict:
            # Whoever compares by identity sees that nothing has changed.
            verdict = known.verdict
        is_restless = _is_restless(spec, world, self._concerned)
        until = None if is_restless else _rests_until(verdict, world.held[target])
        return _Decided(verdict, world.now, until)

    def _show(self, dirty: list[Target]) -> None:
        """Note who is at rest now, who has Defects, and all verdicts, sorted."""
        verdicts = self._verdicts
        for target in dirty:
            made, merged = self._decided.get(target), self._merged.get(target)
            is_restless = made is not None and made.until is None
            has_defects = merged and (merged.defects or (made and made.verdict.defects))
            _keep_in(self._restless, target, is_restless)
            _keep_in(self._troubled, target, bool(has_defects))
            if made and target in verdicts:
                verdicts[target] = made.verdict
        if verdicts.keys() != self._decided.keys():
            self._verdicts = {t: self._decided[t].verdict for t in sorted(self._decided)}

    def _planned(self, world: World) -> Generator[None, None, Plan]:
        """All of it together; what the CAs' limits leave is shared out each time."""
        asking = {t: self._verdicts[t] for t in sorted(self._restless)}
        issuers = world.installation.issuers
        waiting = yield from sharing(asking, world.held, world.ledger, issuers, world.now)
        verdicts = self._verdicts | waiting
        found = set[Defect]()
        for target in self._troubled:
            found.update(self._merged[target].defects)
        for target in self._troubled | waiting.keys():
            if target in verdicts:
                found.update(verdicts[target].defects)
        return Plan(verdicts, in_order(found), {**self._asked})


def _is_comparable(before: World, world: World) -> bool:
    """Whether what every spec and verdict depends on is the same; it changes seldom."""
    return before.installation == world.installation and before.unknown == world.unknown


def _nothing_before(world: World) -> World:
    """A world in which nothing is known yet, to compare with."""
    return World(
        declarations=(),
        held={},
        remembered=frozenset(),
        ledger=Ledger(),
        installation=world.installation,
        now=world.now,
    )


def _merge(group: list[Declaration], target: Target, world: World) -> _Merged:
    specs, defects = merge(group, {target: holder_of(world.held[target])}, world.installation)
    return _Merged(next(iter(specs), None), defects)


def _is_restless(spec: CertificateSpec, world: World, concerned: _Concerned) -> bool:
    """Whether anything has happened to a target that time or others may change."""
    return (
        spec.target in concerned.targets
        or not concerned.names.isdisjoint(spec.names)
        or bool(world.unreachable(spec))
    )


def _rests_until(verdict: Verdict, held: Held) -> datetime | None:
    """Until when a certificate is kept if nothing happens to it; None where it is not at rest."""
    decision = verdict.decision
    if not isinstance(decision, Keep) or not decision.look_again_at or not isinstance(held, Stored):
        return None
    return min(decision.look_again_at, held.leaf.not_after, last_resort_at(held.leaf))


def _keep_in(targets: set[Target], target: Target, belongs: bool) -> None:
    if belongs:
        targets.add(target)
    else:
        targets.discard(target)
