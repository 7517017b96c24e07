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
from acmeistio.probe.verdict import Hop, Outcome, Verdict, judge
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

PROBES_AT_ONCE = 16

Key = tuple[Target, DnsName]


class Walker(Protocol):
    """Goes the way of a request through a gateway (probe/hops.py)."""

    async def walk(self, name: DnsName, address: GatewayAddress, path: str) -> tuple[Hop, ...]:
        """The hops from `http://NAME{path}` to where they end."""


@dataclass(frozen=True, slots=True)
class _Found:
    """The last verdict on a name; since when, and when it is asked again.

    `count` is how often it was the same since objects have changed.
    """

    verdict: Verdict
    since: datetime
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
        self._slots = asyncio.Semaphore(PROBES_AT_ONCE)
        self._found: dict[Key, _Found] = {}
        self._manifests: Mapping[str, tuple[Manifest, ...]] = {}

    def seen(self, manifests: Mapping[str, tuple[Manifest, ...]]) -> None:
        """Objects as they are now. If any has changed, what failed is asked again at once."""
        if any(self._manifests.get(kind) is not found for kind, found in manifests.items()):
            now = self._clock.now()
            self._found = {
                key: replace(found, retry_at=now, count=0) for key, found in self._found.items()
            }
        self._manifests = manifests

    def retain(self, specs: Mapping[Target, CertificateSpec]) -> None:
        """Forget what is no longer declared."""
        self._found = {
            (target, name): found
            for (target, name), found in self._found.items()
            if target in specs and name in specs[target].names
        }

    async def ask(self, spec: CertificateSpec, names: Collection[DnsName]) -> bool:
        """Find out about names that are to be ordered; whether each was reached."""
        if self._mode is Probing.OFF:
            return False
        return all(await asyncio.gather(*(self._ask(spec, name) for name in names)))

    async def _ask(self, spec: CertificateSpec, name: DnsName) -> bool:
        key, addresses = (spec.target, name), spec.reached_at.get(name, ())
        if not addresses:
            return False
        before = self._found.get(key)
        is_news = before is None or before.count == 0
        verdict = await self._verdict(name, addresses, PATIENCE_SECONDS if is_news else 0.0)
        if verdict.outcome is Outcome.REACHED:
            self._found.pop(key, None)
        else:
            self._found[key] = self._noted(verdict, before)
        return verdict.outcome is Outcome.REACHED

    def _noted(self, verdict: Verdict, before: _Found | None) -> _Found:
        now = self._clock.now()
        if before is None or before.verdict.outcome is not verdict.outcome:
            return _Found(verdict, now, now + timedelta(seconds=FIRST_RETRY_SECONDS))
        seconds = min(FIRST_RETRY_SECONDS * 2.0 ** min(before.count, 16), LONGEST_RETRY_SECONDS)
        retry_at = now + timedelta(seconds=seconds)
        return _Found(verdict, before.since, retry_at, before.count + 1)

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
        async with self._slots:
            hops = await self._walker.walk(name, address, self._path)
        verdict = judge(name, address, hops, self._expected)
        if verdict.outcome is Outcome.REACHED:
            return verdict
        return judge(name, address, hops, self._expected, owner_of(name, self._manifests))

    def unreachable(self, spec: CertificateSpec) -> dict[DnsName, Unreachable]:
        """The names of a spec that wait because no way was found."""
        if self._mode is not Probing.GATE:
            return {}
        now = self._clock.now()
        return {
            name: Unreachable(found.retry_at)
            for name, found in self._of(spec)
            if found.verdict.outcome is Outcome.FAILED and now < found.since + LONGEST_DELAY
        }

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


def _best(verdicts: Iterable[Verdict]) -> Verdict:
    """Of several gateways one is the one that the CA meets; the others may be for inside."""
    order = (Outcome.REACHED, Outcome.UNKNOWN, Outcome.FAILED)
    return min(verdicts, key=lambda verdict: order.index(verdict.outcome))
