"""The plan for all targets: merge, decide for each, share out what the CAs' limits leave. Pure.

Planning twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import chain

from acmeistio.issuer import Issuer
from acmeistio.model import (
    CertificateSpec,
    Decision,
    Declaration,
    Defer,
    Held,
    Installation,
    Keep,
    Stored,
    Suggestion,
    Target,
    Unreachable,
)
from acmeistio.names import DnsName
from acmeistio.planning.decide import Verdict, decide
from acmeistio.planning.ledger import NEVER, Ledger, NameKey
from acmeistio.planning.merge import Holder, merge
from acmeistio.planning.shares import shared_out
from acmeistio.planning.situation import Situation, is_placeholder
from acmeistio.reasons import Defect, Reason, defect


@dataclass(frozen=True, slots=True)
class World:
    """All that a plan depends on, as it was looked at in one go.

    `held` has an entry for every target that a declaration names; a target whose Secret could
    not be read is left out of it, and of the plan: unknown is not absent. `unknown` are kinds of
    declaring objects that could not be read; `unreachable` says which names of a spec wait for a
    way. `suggestions` are what the CAs say of renewals, `awaited` the targets that they are asked
    about now. `doubted` are the targets that `unreachable` may name, None where nobody knows.
    """

    declarations: tuple[Declaration, ...]
    held: Mapping[Target, Held]
    remembered: frozenset[Target]
    ledger: Ledger
    installation: Installation
    now: datetime
    unknown: frozenset[str] = frozenset()
    unreachable: Callable[[CertificateSpec], Mapping[DnsName, Unreachable]] = lambda _: {}
    suggestions: Mapping[Target, Suggestion] = field(default_factory=dict)
    awaited: frozenset[Target] = frozenset()
    doubted: frozenset[Target] | None = None


@dataclass(frozen=True)
class Plan:
    """One verdict per target, the Defects of all, and when to look again at the latest."""

    verdicts: Mapping[Target, Verdict]
    defects: tuple[Defect, ...]
    asked: Mapping[Target, tuple[NameKey, ...]] = field(default_factory=dict)
    """The names of each target, with every issuer that may be asked: what failed there counts."""

    @property
    def specs(self) -> Mapping[Target, CertificateSpec]:
        """What each target should hold, from the CA that is to be asked."""
        return _Specs(self.verdicts)

    @cached_property
    def names(self) -> frozenset[NameKey]:
        """All names, each with every issuer that may be asked for it."""
        return frozenset(chain.from_iterable(self.asked.values()))

    @cached_property
    def look_again_at(self) -> datetime | None:
        """The earliest instant at which a decision changes by itself."""
        instants = [_instant(verdict.decision) for verdict in self.verdicts.values()]
        return min((i for i in instants if i and i < NEVER), default=None)

    @cached_property
    def unsettled(self) -> Mapping[Target, Verdict]:
        """The verdicts of those for which more is wanted than to keep what there is."""
        return {t: found for t, found in self.verdicts.items() if type(found.decision) is not Keep}


class _Specs(Mapping[Target, CertificateSpec]):
    """The specs of verdicts. A view: there are thousands, and few are looked up."""

    def __init__(self, verdicts: Mapping[Target, Verdict]) -> None:
        self._verdicts = verdicts

    def __getitem__(self, target: Target) -> CertificateSpec:
        return self._verdicts[target].spec

    def __iter__(self) -> Iterator[Target]:
        return iter(self._verdicts)

    def __len__(self) -> int:
        return len(self._verdicts)


def plan(world: World) -> Plan:
    """What to do now for every target."""
    holders = {target: holder_of(held) for target, held in world.held.items()}
    specs, merge_defects = merge(declared(world), holders, world.installation)
    verdicts = {spec.target: decided(spec, world) for spec in specs}
    issuers = world.installation.issuers
    verdicts |= shared_out(verdicts, world.held, world.ledger, issuers, world.now)
    found = [d for verdict in verdicts.values() for d in verdict.defects]
    asked = {s.target: tuple(names_asked(s, verdicts[s.target], issuers)) for s in specs}
    return Plan(verdicts, in_order([*merge_defects, *found]), asked)


def declared(world: World) -> list[Declaration]:
    """The declarations of the targets that could be read, and those that are kept."""
    known = [d for d in world.declarations if d.target in world.held]
    return [*known, *kept_declarations(world)]


def in_order(defects: Iterable[Defect]) -> tuple[Defect, ...]:
    """Each once, sorted as Defects are; there may be one for each of thousands, so it is quick."""
    by_key = {_in_order(found): found for found in defects}
    return tuple([by_key[key] for key in sorted(by_key)])


def _in_order(found: Defect) -> tuple[object, ...]:
    """A plain tuple, which is hashed and compared some times faster than a Defect."""
    subject = found.subject
    return subject.kind, subject.namespace, subject.name, found.code, found.facts


def names_asked(
    spec: CertificateSpec, verdict: Verdict, issuers: Mapping[str, Issuer]
) -> Iterator[NameKey]:
    """The names of a spec, each with every issuer that may be asked for it."""
    asked = {spec.issuer, issuers[spec.issuer].fallback, verdict.spec.issuer}
    yield from ((issuer, name) for issuer in sorted(filter(None, asked)) for name in spec.names)


def kept_declarations(world: World) -> Iterator[Declaration]:
    """What objects of an unknown kind have in the certificates that are stored.

    Nothing else is known of them; a certificate that is made meanwhile must not lose their names.
    """
    for target in world.held if world.unknown else ():
        yield from kept_in(target, world)


def kept_in(target: Target, world: World) -> Iterator[Declaration]:
    """The same for one certificate."""
    held = world.held.get(target)
    if not isinstance(held, Stored) or is_placeholder(held):
        return
    issuers = world.installation.issuers.values()
    url = held.marks.directory_url
    for ref in held.marks.declared_by:
        if ref.kind in world.unknown:
            yield Declaration(
                source=ref,
                created_at=None,
                names=tuple(sorted(held.leaf.names)),
                target=target,
                issuer=next((i.name for i in issuers if i.directory_url == url), None),
                key_type=held.leaf.key_type,
                profile=held.marks.profile,
            )


def decided(spec: CertificateSpec, world: World) -> Verdict:
    """The verdict for one target; a mistake of ours in finding it stays with that target."""
    try:
        return decide(_situation(spec, world))
    except Exception as error:  # noqa: BLE001  # a bulkhead: the rest goes on
        problem = f"{type(error).__name__}: {error}"
        found = defect(Reason.InternalError, spec.target.ref, problem=problem)
        return Verdict(Keep(None), spec, (found,))


def _situation(spec: CertificateSpec, world: World) -> Situation:
    return Situation(
        spec=spec,
        issuers=world.installation.issuers,
        held=world.held[spec.target],
        remembers=spec.target in world.remembered,
        ledger=world.ledger,
        now=world.now,
        suggestion=world.suggestions.get(spec.target),
        awaits_suggestion=spec.target in world.awaited,
        unreachable=world.unreachable(spec),
    )


def holder_of(held: Held) -> Holder:
    """What merging must know of a Secret."""
    if held is None:
        return Holder()
    if not isinstance(held, Stored) or is_placeholder(held):
        return Holder(held.marks.declared_by)
    return Holder(held.marks.declared_by, held.leaf.names)


def _instant(decision: Decision) -> datetime | None:
    if isinstance(decision, Keep):
        return decision.look_again_at
    return decision.until if isinstance(decision, Defer) else None
