"""Asks through the gateway itself, before an order is sent, whether the CA's requests would arrive.

Owns what was found for each name, how long a name waits for it, and when it is asked again. How a
probe goes and what it means is in probe/; what is ordered is decided in planning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from acmeistio.model import CertificateSpec, GatewayAddress, Probing, Target, Unreachable
from acmeistio.names import DnsName
from acmeistio.ports import Clock, Manifest
from acmeistio.probe.owners import owner_of
from acmeistio.probe.verdict import Asked, Broken, Hop, How, Outcome, Verdict, judge
from acmeistio.reasons import Defect
from acmeistio.routes import PATH_PREFIX

LONGEST_DELAY = timedelta(hours=1)
"""A name that fails for so long goes to the CA all the same: the probe may be wrong."""

PATIENCE_SECONDS = 3.0
FIRST_PAUSE_SECONDS = 0.05
"""What was just applied reaches the gateway within some tenths of a second: a first failure is
looked at again for so long, first after this and then after twice as much each time."""

FIRST_RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 60.0

QUIET_SECONDS = 10.0
"""Objects that change for the first time since so long have a name asked at once and patiently."""
RESTLESS_SHARE = 4.0
"""Where they change all the time, its pauses are that much shorter, and no more."""

FORGOTTEN_SECONDS = 120.0
"""A failure that nobody has asked about since then: no order waits for the name any more."""

WALK_SECONDS = 10.0
"""For all hops together."""
PROBES_AT_ONCE = 8
"""For one certificate: the slow names of one do not keep the next from being asked."""

Key = tuple[Target, DnsName]


class Walker(Protocol):
    """Goes the way of a request through a gateway (probe/hops.py)."""

    async def walk(self, name: DnsName, address: GatewayAddress, path: str) -> tuple[Hop, ...]:
        """The hops from `http://NAME{path}` to where they end."""


@dataclass(frozen=True, slots=True)
class _Found:
    """The last verdict on a name: since when, when it was found, and when it is asked again.

    `count` is how often it was the same, 0 where objects have changed after a quiet time.
    """

    verdict: Verdict
    since: datetime
    asked_at: datetime
    retry_at: datetime
    count: int = 1


class Probes:
    """The probes of one installation; `token` is answered with `expected` as long as it lives."""

    def __init__(
        self, walker: Walker, clock: Clock, mode: Probing, *, token: str, expected: bytes
    ) -> None:
        self._mode = mode
        self._walker = walker
        self._clock = clock
        self._path = PATH_PREFIX + token
        self._expected = expected
        self._found: dict[Key, _Found] = {}
        self._manifests: Mapping[str, tuple[Manifest, ...]] = {}
        self._changed_at = clock.now()

    @property
    def targets(self) -> frozenset[Target]:
        """Those of which anything was found that is not as it must be."""
        return frozenset(target for target, _ in self._found)

    def seen(self, manifests: Mapping[str, tuple[Manifest, ...]]) -> None:
        """Objects as they are now. If any has changed, what failed is asked again soon."""
        if any(self._manifests.get(kind) is not found for kind, found in manifests.items()):
            now = self._clock.now()
            quiet = now - self._changed_at >= timedelta(seconds=QUIET_SECONDS)
            self._changed_at = now
            self._found = {k: _hurried(found, now, quiet) for k, found in self._found.items()}
        self._manifests = manifests

    def retain(self, specs: Mapping[Target, CertificateSpec]) -> None:
        """Forget what is no longer declared, and what no order has waited for in a while."""
        oldest = self._clock.now() - timedelta(seconds=FORGOTTEN_SECONDS)
        self._found = {
            (target, name): found
            for (target, name), found in self._found.items()
            if target in specs and name in specs[target].names
            if found.retry_at > oldest or found.verdict.outcome is not Outcome.FAILED
        }

    async def ask(self, spec: CertificateSpec, names: Collection[DnsName]) -> bool:
        """Find out about names that are to be ordered; whether each was reached."""
        if self._mode is Probing.OFF:
            return False
        slots = asyncio.Semaphore(PROBES_AT_ONCE)
        return all(await asyncio.gather(*(self._ask(spec, name, slots) for name in names)))

    async def _ask(self, spec: CertificateSpec, name: DnsName, slots: asyncio.Semaphore) -> bool:
        key, addresses = (spec.target, name), spec.reached_at.get(name, ())
        if not addresses:
            return False
        before, changed_at = self._found.get(key), self._changed_at
        patience_seconds = PATIENCE_SECONDS if before is None or before.count == 0 else 0.0
        async with slots:
            verdict = await self._verdict(name, addresses, patience_seconds)
        if verdict.outcome is Outcome.REACHED:
            self._found.pop(key, None)
            return True
        found = self._noted(verdict, before)
        # What changed while it was asked may have mended it.
        missed = self._changed_at != changed_at
        self._found[key] = _hurried(found, found.asked_at, quiet=False) if missed else found
        return False

    def _noted(self, verdict: Verdict, before: _Found | None) -> _Found:
        now = self._clock.now()
        same = before is not None and before.verdict.outcome is verdict.outcome
        since, count = (before.since, before.count + 1) if before and same else (now, 1)
        return _Found(verdict, since, now, now + _pause_after(count), count)

    async def _verdict(
        self, name: DnsName, addresses: tuple[GatewayAddress, ...], patience_seconds: float
    ) -> Verdict:
        """The verdict on a name, after a failure as late as there is patience."""
        until, pause = self._clock.monotonic() + patience_seconds, FIRST_PAUSE_SECONDS
        while True:
            verdict = _best(
                await asyncio.gather(*(self._through(name, address) for address in addresses))
            )
            if verdict.outcome is not Outcome.FAILED or self._clock.monotonic() + pause > until:
                return verdict
            await self._clock.sleep(pause)
            pause *= 2

    async def _through(self, name: DnsName, address: GatewayAddress) -> Verdict:
        hops = await self._walked(name, address)
        verdict = judge(name, address, hops, self._expected)
        if verdict.outcome is Outcome.REACHED:
            return verdict
        return judge(name, address, hops, self._expected, owner_of(name, self._manifests))

    async def _walked(self, name: DnsName, address: GatewayAddress) -> tuple[Hop, ...]:
        try:
            async with asyncio.timeout(WALK_SECONDS):
                return await self._walker.walk(name, address, self._path)
        except TimeoutError:
            asked = Asked("http", address.http_port, self._path)
            return (Hop(asked, Broken(How.TIMEOUT, "no answer in time")),)

    def unreachable(self, spec: CertificateSpec) -> dict[DnsName, Unreachable]:
        """The names of a spec that no way was found for; those due are to be asked again."""
        if self._mode is not Probing.GATE:
            return {}
        now = self._clock.now()
        return {
            name: Unreachable(found.retry_at)
            for name, found in self._of(spec)
            if found.verdict.outcome is Outcome.FAILED and now < found.since + LONGEST_DELAY
        }

    def held_back(self, spec: CertificateSpec) -> dict[DnsName, Unreachable]:
        """The same where all were asked just now: none of them is ordered, due again or not."""
        soon = self._clock.now() + timedelta(seconds=1)
        return {
            name: Unreachable(max(found.retry_at, soon))
            for name, found in self.unreachable(spec).items()
        }

    def failed(self, spec: CertificateSpec) -> Iterator[tuple[DnsName, datetime]]:
        """The names of a spec that no way was found for last, and when each may be asked again."""
        for name, found in self._of(spec):
            if found.verdict.outcome is Outcome.FAILED:
                yield name, found.retry_at

    def issued(self, target: Target, names: Iterable[DnsName]) -> None:
        """The CA has validated them, whatever was found."""
        for name in names:
            self._found.pop((target, name), None)

    def defects(self, spec: CertificateSpec, refused: Collection[DnsName]) -> Iterator[Defect]:
        """What was found, for those who declare the names.

        What can't be judged is told only of names that were `refused` by the CA: before, it is as
        likely that all is well.
        """
        for name, found in self._of(spec):
            if found.verdict.outcome is Outcome.FAILED or name in refused:
                for ref in spec.declared_by[name]:
                    if told := found.verdict.defect(ref):
                        yield told

    def _of(self, spec: CertificateSpec) -> Iterator[tuple[DnsName, _Found]]:
        for name in spec.names:
            if found := self._found.get((spec.target, name)):
                yield name, found


def _pause_after(count: int) -> timedelta:
    """How long a name is not asked after so many failures in a row."""
    seconds = FIRST_RETRY_SECONDS * 2.0 ** min(max(count, 1) - 1, 16)
    return timedelta(seconds=min(seconds, LONGEST_RETRY_SECONDS))


def _hurried(found: _Found, now: datetime, quiet: bool) -> _Found:
    """What was found, to be asked again because objects have changed.

    After a quiet time at once, and with patience; where they change all the time, only somewhat
    sooner than otherwise: most changes are none of this name's business.
    """
    if quiet:
        return replace(found, retry_at=now, count=0)
    pause = max(_pause_after(found.count) / RESTLESS_SHARE, timedelta(seconds=1))
    return replace(found, retry_at=min(found.retry_at, found.asked_at + pause))


def _best(verdicts: Iterable[Verdict]) -> Verdict:
    """Of several gateways one is the one that the CA meets; the others may be for inside."""
    order = (Outcome.REACHED, Outcome.UNKNOWN, Outcome.FAILED)
    return min(verdicts, key=lambda verdict: order.index(verdict.outcome))
