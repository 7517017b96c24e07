"""What is done for one target: its Secret put right, the gateways asked, the certificate ordered.

Owns the order of these steps, and what this life has stored, to be stored again. Which targets
need it, and when, is found out by looking; what is to be done, by planning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Protocol

from acmeistio.issuing import Issued, Issuing, NotIssued
from acmeistio.model import (
    CertificateSpec,
    Decision,
    Held,
    Installation,
    Issue,
    Revoke,
    StoreKnown,
    StorePlaceholder,
    Target,
    Unreachable,
    Validate,
)
from acmeistio.names import DnsName
from acmeistio.pki import placeholder
from acmeistio.planning.decide import decide
from acmeistio.planning.shares import shared_out
from acmeistio.planning.situation import Situation
from acmeistio.ports import Clock, Term
from acmeistio.probing import Probes
from acmeistio.renewals import Renewals
from acmeistio.revoking import Revoking
from acmeistio.stores.memory import LedgerStore
from acmeistio.stores.secrets import SecretStore, placeholder_facts
from acmeistio.timekeeping import Timekeeping

AT_THE_CA = (Issue, Revoke, Validate)
"""The decisions for which a CA is asked."""

REPAIRS_AT_ONCE = 4
"""Placeholders for hundreds of new names must not keep the first of them from being ordered."""


class Outcomes(Protocol):
    """Who is told what came of it."""

    def issued(self, spec: CertificateSpec, issue: Issue, issued: Issued) -> None:
        """A certificate is in its Secret."""

    def not_issued(
        self, spec: CertificateSpec, decision: Issue | Validate, not_issued: NotIssued
    ) -> None:
        """An order failed."""

    def stored(self, spec: CertificateSpec, decision: StoreKnown | StorePlaceholder) -> None:
        """A Secret was put right without an order."""


class Pursuit:
    """The work on targets of one installation."""

    def __init__(
        self,
        *,
        installation: Installation,
        secrets: SecretStore,
        ledger: LedgerStore,
        issuing: Issuing,
        revoking: Revoking,
        renewals: Renewals,
        timekeeping: Timekeeping,
        probes: Probes,
        clock: Clock,
        outcomes: Outcomes,
        settle_seconds: float,
    ) -> None:
        """`settle_seconds` after a Secret or a route was written, gateways have it."""
        self._installation = installation
        self._secrets = secrets
        self._ledger = ledger
        self._issuing = issuing
        self._revoking = revoking
        self._renewals = renewals
        self._timekeeping = timekeeping
        self._probes = probes
        self._clock = clock
        self._outcomes = outcomes
        self._settle_seconds = settle_seconds
        self._settled_at = clock.monotonic()
        self._remembered: dict[Target, Issued] = {}
        self._repairs = asyncio.Semaphore(REPAIRS_AT_ONCE)

    @property
    def remembered(self) -> frozenset[Target]:
        """The targets whose certificate was made in this life."""
        return frozenset(self._remembered)

    def retain(self, targets: Collection[Target]) -> None:
        """Keys of other targets are not kept in memory."""
        self._remembered = {t: known for t, known in self._remembered.items() if t in targets}

    async def pursue(
        self,
        spec: CertificateSpec,
        decision: Decision,
        held: Held,
        term: Term,
    ) -> None:
        """Do what was decided for a target; after a repair, what is then to be done."""
        settled_at = self._settled_at
        if isinstance(decision, StoreKnown | StorePlaceholder):
            await self._put_right(spec, decision, held, term)
            if held is None:
                settled_at = self._clock.monotonic() + self._settle_seconds
            held = await self._secrets.read(spec.target)
            if not self._timekeeping.is_known:
                return
            decision = self._decided(spec, held)
        if isinstance(decision, Revoke):
            await self._revoking.carry_out(spec, decision, held, term)
        if isinstance(decision, Issue):
            decision = await self._asked(spec, decision, held, settled_at)
        if isinstance(decision, Issue | Validate):
            await self._order(spec, decision, held, term)

    async def _asked(
        self, spec: CertificateSpec, decision: Decision, held: Held, settled_at: float
    ) -> Decision:
        """What is to be done once the gateways were asked for every name of an order.

        Where it can't be seen whether they have what was written last, it waits for `settled_at`.
        """
        asked, are_reached = set[DnsName](), True
        while isinstance(decision, Issue) and not asked.issuperset(decision.names):
            # Others fall due while some are asked.
            names = [name for name in decision.names if name not in asked]
            are_reached &= await self._probes.ask(spec, names)
            asked.update(names)
            decision = self._decided(spec, held, self._probes.held_back(spec))
        if isinstance(decision, Issue) and not are_reached:
            left = max(settled_at, self._settled_at) - self._clock.monotonic()
            await self._clock.sleep(max(0.0, left))
        return decision

    def routes_changed(self) -> None:
        """Gateways have a new route after some time, whatever host is asked for."""
        self._settled_at = self._clock.monotonic() + self._settle_seconds

    def _decided(
        self,
        spec: CertificateSpec,
        held: Held,
        unreachable: Mapping[DnsName, Unreachable] | None = None,
    ) -> Decision:
        """For a target by itself; `unreachable` where that was found out for this decision."""
        if unreachable is None:
            unreachable = self._probes.unreachable(spec)
        situation = Situation(
            spec=spec,
            issuers=self._installation.issuers,
            held=held,
            remembers=spec.target in self._remembered,
            ledger=self._ledger.ledger,
            now=self._clock.now(),
            suggestion=self._renewals.suggestions.get(spec.target),
            awaits_suggestion=spec.target in self._renewals.awaited,
            unreachable=unreachable,
        )
        target, issuers, ledger = spec.target, situation.issuers, situation.ledger
        verdict = decide(situation)
        waiting = shared_out({target: verdict}, {target: held}, ledger, issuers, situation.now)
        return waiting.get(target, verdict).decision

    async def _put_right(
        self,
        spec: CertificateSpec,
        decision: StoreKnown | StorePlaceholder,
        held: Held,
        term: Term,
    ) -> None:
        async with self._repairs:
            if isinstance(decision, StoreKnown):
                known = self._remembered[spec.target]
                bundle, facts = known.bundle, known.facts
            else:
                bundle = placeholder(spec.names, self._clock.now())
                facts = placeholder_facts(spec, bundle)
            await self._secrets.write(spec, bundle, facts, term, instead_of=held)
        self._outcomes.stored(spec, decision)

    async def _order(
        self, spec: CertificateSpec, decision: Issue | Validate, held: Held, term: Term
    ) -> None:
        outcome = await self._issuing.carry_out(spec, decision, held, term)
        if isinstance(outcome, Issued) and isinstance(decision, Issue):
            self._remembered[spec.target] = outcome
            self._probes.issued(spec.target, outcome.bundle.leaf.names)
            self._outcomes.issued(spec, decision, outcome)
        elif isinstance(outcome, NotIssued):
            self._outcomes.not_issued(spec, decision, outcome)
