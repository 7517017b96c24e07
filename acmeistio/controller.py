"""The loop: look at everything, plan, act, know when to look again.

Level-triggered: whatever woke it, it looks at the whole and compares with what should be. It is
the only place where the pure middle meets the edges, and decides nothing itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import starmap
from typing import Protocol

from acmeistio.accounts import AccountEvent
from acmeistio.bulkheads import Bulkheads
from acmeistio.errors import Conflict, Forbidden, Permanent, Transient
from acmeistio.looking import Looking, Seen
from acmeistio.model import (
    Declaration,
    Defer,
    Held,
    Installation,
    Keep,
    ObjectRef,
    Target,
)
from acmeistio.planning.changed import Groups
from acmeistio.planning.ledger import Ledger
from acmeistio.planning.plan import Plan, World, in_order
from acmeistio.planning.planner import Planner
from acmeistio.planning.replay import replayed, taken_up
from acmeistio.planning.situation import text
from acmeistio.ports import Clock, Leadership, Objects, Term
from acmeistio.probing import Probes
from acmeistio.pursuing import AT_THE_CA, Outcomes, Pursuit
from acmeistio.rearming import Rearming
from acmeistio.reasons import Defect, Reason, defect
from acmeistio.renewals import Renewals
from acmeistio.routing import RouteKeeping
from acmeistio.stores.memory import LedgerStore, PendingKeys
from acmeistio.stores.secrets import SecretStore
from acmeistio.tending import Tending
from acmeistio.timekeeping import Timekeeping

GATHER_SECONDS = 0.2
LONGEST_GATHER_SECONDS = 1.0
"""Changes are gathered until they have been quiet for the first, at most for the second: two
Ingresses applied together become one order."""

BETWEEN_LOOKS_SECONDS = 0.05
LONGEST_BETWEEN_LOOKS_SECONDS = 1.0
LOOKS_SHARE = 10.0
"""Between two looks lies at least the first, at most the second, and this many times what a look
takes: while many orders end, looking stays a small part of the work."""

LONGEST_SLEEP_SECONDS = 300.0
"""A clock that jumped, or a change that nobody told of, is noticed after this at the latest."""

READ_AT_ONCE = 32
"""So many Secrets; others have their turn between them."""

LOOK_FAILED_SECONDS = 2.0
"""What can't be looked at, or loaded at the start, is tried again after this."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at everything gave; `held` lacks the Secrets that could not be read.

    `declarers` has for each target, read or not, the objects that want it, sorted.
    """

    plan: Plan
    held: Mapping[Target, Held]
    declarers: Mapping[Target, tuple[ObjectRef, ...]]
    defects: tuple[Defect, ...]


class Journal(Outcomes, Protocol):
    """Who is told what happens; the controller does not know how it is shown."""

    def looked(self, look: Look) -> Iterator[None]:
        """A look is done; these are the plan and all Defects now.

        There may be thousands: others have their turn after each step.
        """

    def tended(self, event: AccountEvent) -> None:
        """An account was changed as a user asked for."""

    def failed(self, what: str, error: BaseException) -> None:
        """Something failed that should not, and the rest goes on."""


class Controller:
    """One installation's controller; `run` ends only when it is cancelled."""

    def __init__(
        self,
        *,
        objects: Objects,
        leadership: Leadership,
        installation: Installation,
        secrets: SecretStore,
        ledger: LedgerStore,
        keys: PendingKeys,
        pursuit: Pursuit,
        clock: Clock,
        journal: Journal,
        routes: RouteKeeping | None,
        probes: Probes,
        renewals: Renewals,
        timekeeping: Timekeeping,
        tending: Tending,
    ) -> None:
        """`routes` is None where nothing routes by objects."""
        self._objects = objects
        self._leadership = leadership
        self._installation = installation
        self._secrets = secrets
        self._ledger = ledger
        self._keys = keys
        self._clock = clock
        self._journal = journal
        self._pursuit = pursuit
        self._routes = routes
        self._probes = probes
        self._renewals = renewals
        self._timekeeping = timekeeping
        self._tending = tending
        self._rearming = Rearming(probes, ledger, clock)
        self._planner = Planner()
        self._groups = Groups()
        self._declarers: Mapping[Target, tuple[ObjectRef, ...]] = {}
        self._targets: frozenset[Target] = frozenset()
        """What is declared now; the same values while that is the same."""
        self._tidied: Ledger | None = None
        """The ledger as it was left last, if nothing in it is about a target or a name."""
        self._read_all_at = clock.monotonic()
        """When nothing that was read before counted any more."""
        self._wake = asyncio.Event()
        renewals.changed = self._wake.set
        self._changes = self._changes_looked_at = 0
        self._looking = Looking(objects, installation, journal.failed)
        self._bulkheads = Bulkheads(
            clock, installation.gateway_namespaces, journal.failed, self._wake.set
        )
        self._timer: asyncio.TimerHandle | None = None
        self._defects: tuple[tuple[Defect, ...], frozenset[Defect], tuple[Defect, ...]]
        self._defects = ((), frozenset(), ())
        """The plan's Defects at the last look, all others, and both together."""
        self._unread: dict[Target, BaseException] = {}
        self._look_seconds = 0.0
        self._left_as_of: datetime | None = None
        """When an earlier life wrote its ledger last."""
        self._counted: set[Target] = set()
        self.last_pass_at = clock.monotonic()
        """When the loop came round last, whatever it could see: a store that is away is no
        reason to be started anew."""

    async def run(self) -> None:
        """Keep everything as declared, for ever. Raises Misconfigured, NotLeader."""
        term = await self._leadership.acquire()
        beside = [asyncio.ensure_future(self._follow_changes())]
        try:
            while not await self._loaded(term):
                self.last_pass_at = self._clock.monotonic()
                await self._clock.sleep(LOOK_FAILED_SECONDS)
            beside.append(asyncio.ensure_future(self._renewals.run()))
            while self._bulkheads.ended_by is None:
                await self._look_and_act(term)
                await self._wait_for_news()
            raise self._bulkheads.ended_by
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await self._rearming.close()
            await self._tending.close()
            await self._bulkheads.close()
            await self._leadership.release()

    async def _loaded(self, term: Term) -> bool:
        """Whether what an earlier life knew is known; before that nothing may be decided."""
        try:
            await self._load(term)
        except (Transient, Conflict, Permanent) as error:
            self._journal.failed("load", error)
            return False
        return True

    async def _load(self, term: Term) -> None:
        unreadable = await self._ledger.load()
        if unreadable:
            self._journal.failed(unreadable, ValueError(unreadable))
        self._left_as_of = self._ledger.ledger.as_of
        self._ledger.ledger = taken_up(self._ledger.ledger, self._clock.now())
        await self._keys.load()
        await self._retain_keys(term)

    async def _retain_keys(self, term: Term) -> None:
        """Drop the keys of orders that are over, however they ended."""
        urls = frozenset(order.url for order in self._ledger.ledger.orders.values())
        await self._keys.retain(urls, term)

    async def _look_and_act(self, term: Term) -> None:
        """One pass. What can't be looked at now is looked at again soon."""
        began, self._changes_looked_at = self._clock.monotonic(), self._changes
        self._bulkheads.look_begins()
        try:
            look = await self._look(term)
        except Transient as error:
            self._journal.failed("look", error)
            self._wake_after(LOOK_FAILED_SECONDS)
            return
        finally:
            self.last_pass_at = self._clock.monotonic()
        await asyncio.sleep(0)
        self._act(look.plan, look.held, term)
        if self._bulkheads.is_idle:
            self._tending.begin(self._installation.issuers.values(), term)
        for _ in self._journal.looked(look):
            await asyncio.sleep(0)
        self._look_seconds = self._clock.monotonic() - began
        waits = [LOOK_FAILED_SECONDS for e in self._unread.values() if isinstance(e, Transient)]
        if self._routes and self._routes.retry_seconds is not None:
            waits.append(self._routes.retry_seconds)
        rearming_at = self._rearming.look(look.plan.specs, term)
        instants, now = (look.plan.look_again_at, rearming_at), self._clock.now()
        waits += [(instant - now).total_seconds() for instant in instants if instant]
        if waits:
            self._wake_after(min(waits))

    async def _look(self, term: Term) -> Look:
        seen = await self._looking.look()
        # Each of the next may have thousands to go through: others have their turn in between.
        await asyncio.sleep(0)
        self._note_declared(seen.declarations)
        await asyncio.sleep(0)
        declarers = self._declarers
        held = await self._held(self._targets)
        await self._renewals.seen(held, self._targets)
        self._replay(held)
        await asyncio.sleep(0)
        world = World(
            declarations=seen.declarations,
            held=held,
            remembered=self._pursuit.remembered,
            ledger=self._ledger.ledger,
            installation=self._installation,
            now=self._clock.now(),
            unknown=seen.doubtful,
            unreachable=self._probes.unreachable,
            suggestions=dict(self._renewals.suggestions),
            awaited=self._renewals.awaited,
            doubted=self._probes.targets,
        )
        routed = await self._routed(seen, term)
        self._probes.seen(seen.manifests)
        current = await self._planned(world)
        if seen.complete:
            self._probes.retain(current.specs)
        unread = starmap(self._bulkheads.defect_of, self._unread.items())
        errors = [*self._bulkheads.defects, *unread]
        if seen.complete and len(held) == len(declarers):
            self._forget_undeclared(frozenset(current.verdicts))
            await self._tidy(current, term)
        others = (*seen.defects, *routed, *self._probed(current), *self._untimed(current))
        others = (*others, *filter(None, errors))
        await asyncio.sleep(0)
        return Look(current, held, declarers, self._all(current.defects, frozenset(others)))

    def _all(self, planned: tuple[Defect, ...], others: frozenset[Defect]) -> tuple[Defect, ...]:
        """All Defects; the same value where none has come or gone."""
        before, known, found = self._defects
        if before is not planned or known != others:
            found = in_order([*planned, *others])
            self._defects = (planned, others, found)
        return found

    def _untimed(self, current: Plan) -> Iterator[Defect]:
        """Whose orders wait until a CA has told the time."""
        if self._timekeeping.is_known or not self._timekeeping.problem:
            return
        retry_at = self._clock.now() + timedelta(seconds=self._timekeeping.wait_seconds)
        for verdict in current.unsettled.values():
            if isinstance(verdict.decision, AT_THE_CA):
                facts = {"problem": self._timekeeping.problem, "retry_at": text(retry_at)}
                for ref in verdict.spec.sources:
                    yield defect(Reason.OrderDelayed, ref, **facts)

    def _note_declared(self, declarations: tuple[Declaration, ...]) -> None:
        """Which objects want each target."""
        changed = self._groups.update(declarations)
        if not changed:
            return
        declarers, groups = {**self._declarers}, self._groups.by_target
        for target in changed:
            declarers.pop(target, None)
            if target in groups:
                declarers[target] = tuple(sorted({made.source for made in groups[target]}))
        self._declarers, self._targets = declarers, frozenset(declarers)

    async def _planned(self, world: World) -> Plan:
        """The plan; others have their turn while it is made."""
        for _ in self._planner.steps(world):
            await asyncio.sleep(0)
        return self._planner.plan

    async def _routed(self, seen: Seen, term: Term) -> tuple[Defect, ...]:
        """Keep the route objects as they must be; what stands in the way."""
        if self._routes is None:
            return ()
        written = self._routes.written
        defects = await self._routes.keep(seen, term)
        if self._routes.written != written:
            self._pursuit.routes_changed()
        return defects

    def _probed(self, current: Plan) -> Iterator[Defect]:
        """What the probes have found, as far as it is worth telling."""
        refused = {name for _, name in self._ledger.ledger.names}
        for target in self._probes.targets & current.specs.keys():
            yield from self._probes.defects(current.specs[target], refused)

    def _replay(self, held: Mapping[Target, Held]) -> None:
        """Count what certificates that are seen first in this life say of the CAs' limits."""
        new = set(held).difference(self._counted)
        self._counted |= new
        issuers = self._installation.issuers.values()
        self._ledger.ledger = replayed(
            self._ledger.ledger, [held[target] for target in new], issuers, self._left_as_of
        )

    async def _held(self, targets: frozenset[Target]) -> dict[Target, Held]:
        """What each target Secret holds.

        Unknown is not absent: what can't be read now is not in the world, nor in the plan.
        """
        self._trust_no_longer()
        known, self._unread = self._secrets.known, {}
        unread = sorted(targets.difference(known))
        is_all = not unread and len(known) == len(targets)
        held = {**known} if is_all else {t: known[t] for t in targets if t in known}
        for at in range(0, len(unread), READ_AT_ONCE):
            some = unread[at : at + READ_AT_ONCE]
            read = await asyncio.gather(*map(self._secrets.read, some), return_exceptions=True)
            held |= self._could_be_read(zip(some, read, strict=True))
        return held

    def _trust_no_longer(self) -> None:
        """Now and then all is read anew: a change that nobody told of heals by itself."""
        now = self._clock.monotonic()
        if now - self._read_all_at >= LONGEST_SLEEP_SECONDS:
            self._read_all_at = now
            self._secrets.forget(None)

    def _could_be_read(
        self, answers: Iterable[tuple[Target, Held | BaseException]]
    ) -> Iterator[tuple[Target, Held]]:
        for target, found in answers:
            if not isinstance(found, BaseException):
                yield target, found
                continue
            self._unread[target] = found
            if not isinstance(found, Forbidden):
                self._journal.failed(f"reading Secret {target}", found)

    def _forget_undeclared(self, targets: frozenset[Target]) -> None:
        """Keys and failures of targets that nobody declares are not kept in memory."""
        self._pursuit.retain(targets)
        self._bulkheads.retain(targets)
        self._secrets.retain(targets)

    async def _tidy(self, current: Plan, term: Term) -> None:
        """Have the ledger forget what is over; only what is in it is looked up."""
        ledger, verdicts = self._ledger.ledger, current.verdicts
        # A calendar that is ahead would take every budget for full, and every pause for past.
        if ledger is self._tidied or not self._timekeeping.is_known:
            return
        in_ledger = {*ledger.orders, *(target for target, _ in ledger.targets)}
        targets, now = frozenset(in_ledger & verdicts.keys()), self._clock.now()
        settled = frozenset(filter(lambda target: self._is_settled(target, current), targets))
        with contextlib.suppress(Transient, Conflict):
            await self._ledger.change(
                lambda ledger: ledger.tidied(current.names, targets, now, settled=settled), term
            )
            await self._retain_keys(term)
            ledger = self._ledger.ledger
            is_empty = not (ledger.orders or ledger.targets or ledger.names)
            self._tidied = ledger if is_empty else None

    def _is_settled(self, target: Target, current: Plan) -> bool:
        """Whether a target wants no order, and none was under way since that was looked at."""
        wants_none = isinstance(current.verdicts[target].decision, Keep)
        return wants_none and self._bulkheads.is_free(target)

    def _act(self, current: Plan, held: Mapping[Target, Held], term: Term) -> None:
        """Start what is to be done."""
        for target, verdict in current.unsettled.items():
            decision = verdict.decision
            if isinstance(decision, Defer):
                continue
            may_act = self._timekeeping.is_known or not isinstance(decision, AT_THE_CA)
            if may_act and self._bulkheads.is_free(target):
                work = self._pursuit.pursue(verdict.spec, decision, held[target], term)
                self._bulkheads.start(target, work)

    async def _follow_changes(self) -> None:
        while True:
            self._secrets.forget(await self._objects.changed())
            self._changes += 1
            self._wake.set()

    def _wake_after(self, seconds: float) -> None:
        if self._timer:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(seconds, 0.0), self._wake.set)

    async def _wait_for_news(self) -> None:
        """Return when something has changed and has been quiet since, or time is up."""
        seen, rests_since = self._changes_looked_at, self._clock.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_SLEEP_SECONDS):
                await self._wake.wait()
        pause = min(LOOKS_SHARE * self._look_seconds, LONGEST_BETWEEN_LOOKS_SECONDS)
        rested = self._clock.monotonic() - rests_since
        await self._clock.sleep(max(BETWEEN_LOOKS_SECONDS, pause - rested))
        gathered = 0.0
        while self._changes != seen and gathered < LONGEST_GATHER_SECONDS:
            seen = self._changes
            await self._clock.sleep(GATHER_SECONDS)
            gathered += GATHER_SECONDS
        self._wake.clear()
