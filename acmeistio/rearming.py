"""Names that the CA could not validate are tried at once when the gateways lead to us again.

Owns which of them are asked about. What asking is, is probing's business; when a name is tried
without that, planning's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from datetime import datetime

from acmeistio.errors import Conflict, Transient
from acmeistio.model import CertificateSpec, Target
from acmeistio.names import DnsName
from acmeistio.ports import Clock, Term
from acmeistio.probing import Probes
from acmeistio.stores.memory import LedgerStore


class Rearming:
    """Asks beside the loop, one round at a time."""

    def __init__(self, probes: Probes, ledger: LedgerStore, clock: Clock) -> None:
        self._probes = probes
        self._ledger = ledger
        self._clock = clock
        self._round: asyncio.Task[None] | None = None

    def look(self, specs: Mapping[Target, CertificateSpec], term: Term) -> datetime | None:
        """Begin to ask about those that are due; when the next one is, if any waits."""
        failures, now = self._ledger.ledger.names, self._clock.now()
        waiting = [
            (spec, name, at)
            for spec in map(specs.get, self._probes.targets if failures else ())
            if spec
            for name, at in self._probes.failed(spec)
            if (spec.issuer, name) in failures and failures[spec.issuer, name].retry_at > now
        ]
        due = [(spec, name) for spec, name, at in waiting if at <= now]
        if due and (self._round is None or self._round.done()):
            self._round = asyncio.ensure_future(self._ask(due, term))
        return min((at for *_, at in waiting if at > now), default=None)

    async def close(self) -> None:
        """Ask no more."""
        if self._round:
            self._round.cancel()
            await asyncio.gather(self._round, return_exceptions=True)

    async def _ask(self, due: list[tuple[CertificateSpec, DnsName]], term: Term) -> None:
        for spec, name in due:
            if await self._probes.ask(spec, [name]):
                await self._rearm(spec.issuer, name, term)

    async def _rearm(self, issuer: str, name: DnsName, term: Term) -> None:
        now = self._clock.now()
        with contextlib.suppress(Transient, Conflict):
            await self._ledger.change(lambda ledger: ledger.name_rearmed(issuer, name, now), term)
