"""Plans again and again, and does anew only what may have become another. Pure but for its memory.

A target whose declarations and Secret are as they were has the same spec. A certificate that was
kept, and that no failure concerns, is kept until the first instant that it depends on: it is at
rest. So is one that would be ordered, or waits for its CA's pause to end; whether the CA's limits
leave room for it is for Shares to remember. Whatever is not at rest is decided anew each time, so
that what is remembered stays small enough to be sure of: a Planner gives exactly what `plan` gives
(tests/core/test_planner.py).

What is at rest is not even looked at: a pass costs what has changed, not what there is.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain

from acmeistio.issuer import Issuer
from acmeistio.model import (
    CertificateSpec,
    Declaration,
    Defer,
    Issue,
    Keep,
    Stored,
    Target,
    Validate,
)
from acmeistio.planning.changed import Groups, differing
from acmeistio.planning.decide import Verdict
from acmeistio.planning.ledger import Ledger, NameKey
from acmeistio.planning.limits import FAILURES, Budgets
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
from acmeistio.planning.renewal import last_resort_at, pressing_at, renew_at
from acmeistio.planning.shares import Shares
from acmeistio.planning.situation import is_placeholder
from acmeistio.reasons import Defect

AT_ONCE = 25
"""So many targets are planned between two breaths: some milliseconds."""

_ASKING = frozenset({Issue, Validate})
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
        self._shares = Shares()
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
        yield
        remerged = changed | self._groups.update(self._declared(changed, world))
        yield
        concerned = self._concerned_by(world.ledger)
        dirty = sorted(remerged | self._disturbed(before, world, concerned))
        self._concerned = concerned
        for number, target in enumerate(dirty, 1):
            self._work_on(target, target in remerged, world)
            if number % AT_ONCE == 0:
                yield
        self._show(dirty)
        yield
        if dirty or not self._shares.stands(world.ledger, world.now):
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
            failed = frozenset(key.subject for key in ledger.budgets if key.kind in FAILURES)
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
            *(self._unsettled() if before.ledger.pauses != world.ledger.pauses else ()),
            *(concerned.targets - self._concerned.targets),
            *self._named(concerned.names - self._concerned.names),
            *self._disturbed_by_time(world.now),
        }
        return found & self._merged.keys()

    def _unsettled(self) -> Iterator[Target]:
        """The targets for which the CA is, or would be, asked."""
        for target, verdict in self._verdicts.items():
            if type(verdict.decision) is not Keep:
                yield target

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
        until = None if is_restless else _rests_until(verdict, spec, world)
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
        asking = {t: made for t, made in self._verdicts.items() if type(made.decision) in _ASKING}
        issuers = world.installation.issuers
        yield from self._shares.steps(asking, world.held, world.ledger, issuers, world.now)
        waiting = self._shares.waiting
        verdicts = {**self._verdicts, **waiting}
        yield
        found = [d for target in self._troubled for d in self._merged[target].defects]
        # In the order of the verdicts it is nearly sorted.
        found += chain.from_iterable([v.defects for v in verdicts.values() if v.defects])
        defects = in_order(found)
        yield
        return Plan(verdicts, defects, {**self._asked})


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


def _rests_until(verdict: Verdict, spec: CertificateSpec, world: World) -> datetime | None:
    """Until when a verdict stands if nothing happens; None where the target is not at rest."""
    decision, held, now = verdict.decision, world.held[spec.target], world.now
    if not isinstance(held, Stored):
        return None
    if isinstance(decision, Keep):
        again = decision.look_again_at
        return again and min(again, held.leaf.not_after, last_resort_at(held.leaf))
    if _may_ask_another(world.installation.issuers[spec.issuer], held):
        return None
    instants = [held.leaf.not_after, last_resort_at(held.leaf), pressing_at(held.leaf)]
    instants.append(renew_at(held.leaf, world.suggestions.get(spec.target)))
    instants += [pause.forgotten_at for pause in world.ledger.pauses.values()]
    next_at = min((instant for instant in instants if instant > now), default=_EVER[1])
    if isinstance(decision, Defer):
        return min(next_at, decision.until)
    return next_at if isinstance(decision, Issue) else None


def _may_ask_another(issuer: Issuer, held: Stored) -> bool:
    """Whether it depends on what the CAs' limits leave which of two is asked (authority.py)."""
    return issuer.fallback is not None and not is_placeholder(held)


def _keep_in(targets: set[Target], target: Target, belongs: bool) -> None:
    if belongs:
        targets.add(target)
    else:
        targets.discard(target)
