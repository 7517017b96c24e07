"""Plans again and again, and does anew only what may have become another. Pure but for its memory.

A target whose declarations and Secret are as they were has the same spec. A certificate that was
kept, and that no failure concerns, is kept until the first instant that it depends on: it is at
rest. Whatever is not at rest is decided anew each time, so that what is remembered stays small
enough to be sure of: a Planner gives exactly what `plan` gives (tests/core/test_planner.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

from acmeistio.model import CertificateSpec, Declaration, Held, Keep, Stored, Suggestion, Target
from acmeistio.planning.decide import Verdict
from acmeistio.planning.ledger import Ledger, NameKey
from acmeistio.planning.limits import Kind
from acmeistio.planning.merge import merge
from acmeistio.planning.plan import Plan, World, decided, declared, holder_of, names_asked
from acmeistio.planning.renewal import last_resort_at
from acmeistio.planning.shares import shared_out
from acmeistio.reasons import Defect

AT_ONCE = 25
"""So many targets are planned between two breaths: some milliseconds."""

_FAILURES = frozenset({Kind.FAILURES, Kind.FAILURES_IN_A_ROW})


@dataclass(frozen=True, slots=True)
class _Merged:
    """What the declarations of a target and its Secret gave."""

    declarations: list[Declaration]
    held: Held
    spec: CertificateSpec | None
    defects: tuple[Defect, ...]


@dataclass(frozen=True, slots=True)
class _Decided:
    """A verdict; with `until`, it stands from `since` to then if nothing else changes."""

    verdict: Verdict
    names: tuple[NameKey, ...]
    suggestion: Suggestion | None
    is_awaited: bool
    since: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class _Concerned:
    """The names and targets that something went wrong with, or that are under way."""

    names: frozenset[str]
    targets: frozenset[Target]


class Planner:
    """The plans of one installation, one after the other."""

    def __init__(self) -> None:
        self.plan = Plan({}, ())
        """The last one."""
        self._groups: dict[Target, list[Declaration]] = {}
        self._order: list[Target] = []
        self._merged: dict[Target, _Merged] = {}
        self._decided: dict[Target, _Decided] = {}
        self._before: World | None = None

    def steps(self, world: World) -> Iterator[None]:
        """Make the next plan; whoever iterates may do something else after each step."""
        groups, is_same = self._groups_of(world), True
        self._forget_what_depended_on(world)
        if groups.keys() != self._merged.keys():
            is_same = False
            self._order = sorted(groups, key=lambda target: (target.namespace, target.name))
            self._merged = {t: made for t, made in self._merged.items() if t in groups}
            self._decided = {t: made for t, made in self._decided.items() if t in groups}
        concerned, worked = _concerned(world.ledger), 0
        for target in self._order:
            before = self._decided.get(target)
            if self._is_merged(target, groups[target], world) and (
                before is None or _rests(before, target, world, concerned)
            ):
                continue
            self._work_on(target, groups[target], world, concerned)
            is_same = is_same and _is_named_as(before, self._decided.get(target))
            worked += 1
            if worked % AT_ONCE == 0:
                yield
        self.plan = self._planned(world, self.plan.names if is_same else None)

    def _groups_of(self, world: World) -> dict[Target, list[Declaration]]:
        """The declarations by target; the same value where they are the same."""
        before = self._before
        is_same = (
            before is not None
            and before.declarations is world.declarations
            and not (before.unknown or world.unknown)
            and before.held.keys() == world.held.keys()
        )
        if not is_same:
            self._groups = _grouped(world)
        return self._groups

    def _forget_what_depended_on(self, world: World) -> None:
        """What every spec and verdict depends on changes seldom."""
        before = self._before
        if before is None or (before.installation, before.unknown) != (
            world.installation,
            world.unknown,
        ):
            self.plan = Plan({}, ())
            self._order, self._merged, self._decided = [], {}, {}
        self._before = world

    def _is_merged(self, target: Target, group: list[Declaration], world: World) -> bool:
        known = self._merged.get(target)
        return (
            known is not None and known.held is world.held[target] and known.declarations == group
        )

    def _work_on(
        self, target: Target, group: list[Declaration], world: World, concerned: _Concerned
    ) -> None:
        """The spec of a target if it may have changed, and the verdict."""
        held = world.held[target]
        if not self._is_merged(target, group, world):
            specs, defects = merge(group, {target: holder_of(held)}, world.installation)
            self._merged[target] = _Merged(group, held, next(iter(specs), None), defects)
        spec = self._merged[target].spec
        if spec is None:
            self._decided.pop(target, None)
        else:
            self._decided[target] = _decide(spec, world, concerned)

    def _planned(self, world: World, names: frozenset[NameKey] | None) -> Plan:
        """All of it together; what the CAs' limits leave is shared out each time."""
        verdicts = {
            target: made.verdict for target in self._order if (made := self._decided.get(target))
        }
        asking = {t: v for t, v in verdicts.items() if type(v.decision) is not Keep}
        issuers = world.installation.issuers
        verdicts |= shared_out(asking, world.held, world.ledger, issuers, world.now)
        found = {defect for merged in self._merged.values() for defect in merged.defects}
        found.update(defect for verdict in verdicts.values() for defect in verdict.defects)
        if names is None:
            names = frozenset(chain.from_iterable(made.names for made in self._decided.values()))
        return Plan(verdicts, tuple(sorted(found)), names)


def _grouped(world: World) -> dict[Target, list[Declaration]]:
    """The declarations by target, as far as it is known what the targets hold."""
    groups: dict[Target, list[Declaration]] = {}
    for declaration in declared(world):
        target = declaration.target
        if target in groups:
            groups[target].append(declaration)
        else:
            groups[target] = [declaration]
    return groups


def _concerned(ledger: Ledger) -> _Concerned:
    counted = {key.subject for key in ledger.budgets if key.kind in _FAILURES}
    names = frozenset(counted.union(name for _, name in ledger.names))
    return _Concerned(names, frozenset(target for target, _ in ledger.targets))


def _decide(spec: CertificateSpec, world: World, concerned: _Concerned) -> _Decided:
    target = spec.target
    verdict = decided(spec, world)
    return _Decided(
        verdict,
        tuple(names_asked(spec, verdict, world.installation.issuers)),
        world.suggestions.get(target),
        target in world.awaited,
        world.now,
        None if _is_restless(spec, world, concerned) else _rests_until(verdict, world.held[target]),
    )


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


def _rests(known: _Decided, target: Target, world: World, concerned: _Concerned) -> bool:
    """Whether a verdict of before is the one that would be found now."""
    return (
        known.until is not None
        and known.since <= world.now < known.until
        and world.suggestions.get(target) == known.suggestion
        and (target in world.awaited) is known.is_awaited
        and not _is_touched(known.verdict.spec, world, concerned)
    )


def _is_touched(spec: CertificateSpec, world: World, concerned: _Concerned) -> bool:
    """Whether something happened to a target that was at rest."""
    doubted = world.doubted
    return (
        (doubted is None and bool(world.unreachable(spec)))
        or (bool(doubted) and spec.target in (doubted or ()))
        or spec.target in concerned.targets
        or not concerned.names.isdisjoint(spec.names)
    )


def _is_named_as(one: _Decided | None, other: _Decided | None) -> bool:
    """Whether the same issuers may be asked for the same names."""
    return (one.names if one else ()) == (other.names if other else ())
