"""Years of a thousand certificates, and a report of what each year brought.

    python -m tests.simulation.years            ten years, for which it takes a while
    python -m tests.simulation.years --years 1 --certificates 100

Two of a hundred certificates live 160 hours, the others 45 and 90 days. In each year the CA is away
for a day, revokes a tenth of all, and loses replies for some hours; certificates come and go,
names fail for weeks, the program crashes. What must hold is in invariants.py; exit code 1 where
it does not.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random

from acmeistio import controller
from acmeistio.issuer import LETS_ENCRYPT_PROFILES
from tests.simulated.ca import (
    LETS_ENCRYPT_DOOR,
    LETS_ENCRYPT_LIMITS,
    CaOptions,
    Limit,
    Weather,
)
from tests.simulated.virtual_time import run
from tests.simulation.invariants import Watch, Wish
from tests.simulation.story import known
from tests.simulation.world import DAY, HOUR, MINUTE, World

QUIET_STEP_HOURS = 6.0
"""How often all certificates are judged while nothing happens."""

HEADINGS = (
    "year", "certificates", "issued", "orders", "limit hits", "expired", "broken",
    "backlog", "took h", "least h", "waits", "CPU s",
)  # fmt: skip


def least_seconds(limit: Limit, orders: int) -> float:
    """How long so many orders take that are asked for at once, from a bucket that is full."""
    return max(0, orders - limit.capacity) * limit.period.total_seconds() / limit.capacity


@dataclass(slots=True)
class Year:
    """What one year brought; `backlog` were missing at once, for `took` seconds."""

    number: int
    certificates: int = 0
    issued: int = 0
    orders: int = 0
    limit_hits: int = 0
    expired: int = 0
    broken: int = 0
    backlog: int = 0
    took: float = 0.0
    least: float = 0.0
    longest_wait: float = 0.0
    cpu_seconds: float = 0.0

    def row(self) -> tuple[str, ...]:
        """As a line of the report."""
        hours = (f"{seconds / HOUR:.2f}" for seconds in (self.took, self.least))
        counts = (self.number, self.certificates, self.issued, self.orders, self.limit_hits)
        wait = f"{self.longest_wait / HOUR:.1f} h"
        rest = (self.expired, self.broken, self.backlog)
        return (*map(str, (*counts, *rest)), *hours, wait, f"{self.cpu_seconds:.0f}")


@dataclass(slots=True)
class Report:
    """All years, and what was broken in them."""

    years: list[Year] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


class Years:
    """One world through its years."""

    def __init__(self, certificates: int, seed: int, renewal_info_hours: float) -> None:
        options = CaOptions(
            cheap=True,
            remember=timedelta(days=7),
            limits=LETS_ENCRYPT_LIMITS,
            requests_per_second=LETS_ENCRYPT_DOOR,
            remote_perspectives=0,
            renewal_info_retry_after_seconds=int(renewal_info_hours * HOUR),
        )
        issuer = {"limits": known(options.limits), "profiles": LETS_ENCRYPT_PROFILES}
        self.world = World(options, seed=seed, issuer=issuer, concurrent_orders=32)
        self.watch = Watch(self.world)
        self._certificates = certificates
        self._random = Random(seed)
        self._made = 0
        self._year = Year(0)

    async def live(self, years: int, tell: Callable[[Year], None]) -> Report:
        """All years, each told at its end."""
        report = Report()
        async with self.world:
            self.world.start()
            for number in range(1, years + 1):
                self._year = Year(number)
                report.years.append(self._year)
                await self._counted(number)
                tell(self._year)
            report.complaints = self.watch.complaints()
        return report

    async def _counted(self, number: int) -> None:
        """A year with what it costs."""
        began, totals, broken = time.process_time(), self.world.ca.totals, len(self.watch.broken)
        issued, orders, hits = totals.certificates, totals.orders, len(self.world.ca.limit_hits)
        self.watch.waited.clear()
        await self._lived(number)
        year, found = self._year, self.watch.broken[broken:]
        year.certificates = len(self.watch.wishes)
        year.issued, year.orders = totals.certificates - issued, totals.orders - orders
        year.limit_hits = len(self.world.ca.limit_hits) - hits
        year.expired = sum(complaint.startswith("expired") for complaint in found)
        year.broken = len(found)
        year.longest_wait = max(self.watch.waited, default=0.0)
        year.cpu_seconds = time.process_time() - began

    async def _lived(self, number: int) -> None:
        end = number * 365 * DAY
        if number == 1:
            await self._declare(self._certificates)
        happenings = [self._outage, self._revoke, self._storm, self._exchange, self._fail]
        happenings += [self._crash] * 3
        self._random.shuffle(happenings)
        for index, happens in enumerate(happenings, 1):
            last = end - (len(happenings) + 1 - index) * 35 * DAY
            await self._quiet_until(last + self._random.uniform(0, 15) * DAY)
            await happens()
        await self._quiet_until(end)

    async def _quiet_until(self, instant: float) -> None:
        hours = (instant - self.world.clock.monotonic()) / HOUR
        await self.watch.passes(hours, QUIET_STEP_HOURS)

    # ── what happens ──────────────────────────────────────────────────────────────────────────

    async def _declare(self, count: int) -> None:
        """So many new certificates at once."""
        for _ in range(count):
            number, self._made = self._made, self._made + 1
            profile = "shortlived" if number % 50 == 0 else ("tlsserver", "classic")[number % 2]
            names = [f"{word}.site{number}.example" for word in ("www", "img")[: 1 + number % 2]]
            self.watch.declare(f"c{number}", *names, profile=profile)
        least = least_seconds(LETS_ENCRYPT_LIMITS.orders_per_account, count)
        await self._worked_off(least, lambda: sum(not wish.served for wish in self._wishes))

    async def _exchange(self) -> None:
        """Some are given up, as many are new."""
        count = max(1, self._certificates // 50)
        for secret in self._random.sample(sorted(self.watch.wishes), count):
            self.watch.withdraw(secret)
        await self._declare(count)

    async def _revoke(self) -> None:
        """A tenth is revoked; none knows before it asks."""
        some = [s for s in sorted(self.watch.wishes) if self._random.random() < 0.1]
        self.watch.revoke(*some)
        all_know = 1.2 * self.world.ca.options.renewal_info_retry_after_seconds
        await self._worked_off(all_know, self._revoked)

    async def _outage(self) -> None:
        self.watch.look()
        self.watch.is_disturbed = self.world.ca.outage = True
        await self.watch.passes(self._random.uniform(1, 48))
        self.watch.is_disturbed = self.world.ca.outage = False

    async def _storm(self) -> None:
        """Errors, refused nonces and lost replies for some hours."""
        self.watch.look()
        storm = Weather(errors_percent=20, bad_nonces_percent=20, lost_replies_percent=10)
        self.world.ca.weather, self.watch.is_disturbed = (lambda _: storm), True
        await self.watch.passes(self._random.uniform(1, 12))
        self.world.ca.weather, self.watch.is_disturbed = (lambda _: Weather()), False

    async def _fail(self) -> None:
        """One name in a hundred fails for two weeks."""
        names = sorted(name for wish in self._wishes for name in wish.declared)
        some = self._random.sample(names, max(1, len(names) // 100))
        for name in some:
            self.watch.fail(name)
        await self.watch.passes(14 * 24, QUIET_STEP_HOURS)
        for name in set(some) & self.world.nowhere:
            self.watch.heal(name)
        await self.watch.passes(3 * 24, QUIET_STEP_HOURS)

    async def _crash(self) -> None:
        self.watch.look()
        await self.world.crash()
        await self.watch.passes(self._random.uniform(0.01, 1))
        self.world.start()

    @property
    def _wishes(self) -> Iterable[Wish]:
        return self.watch.wishes.values()

    def _revoked(self) -> int:
        return sum(bool(wish.held and wish.held.revoked) for wish in self._wishes)

    async def _worked_off(self, least: float, missing: Callable[[], int]) -> None:
        """Return when nothing is missing, or after ten times what it has to take."""
        began, size = self.world.clock.monotonic(), missing()
        while missing() and self.world.clock.monotonic() < began + 10 * least + HOUR:
            await self.watch.passes(MINUTE / HOUR)
        took = self.world.clock.monotonic() - began
        if size > self._year.backlog:
            self._year.backlog, self._year.took, self._year.least = size, took, least


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.years",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--years", type=int, default=10)
    parser.add_argument("--certificates", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    hours = "how often the CA wants to be asked for renewals; Let's Encrypt: 6"
    parser.add_argument("--renewal-info-hours", type=float, default=24.0, help=hours)
    return parser.parse_args()


def main() -> int:
    """Tell each year as it ends, and what was broken."""
    asked = _arguments()
    controller.LONGEST_SLEEP_SECONDS = 6 * HOUR
    print(_line(HEADINGS), flush=True)
    report = run(_report(asked))
    print("\n".join(report.complaints[:20]))
    return 1 if report.complaints else 0


async def _report(asked: argparse.Namespace) -> Report:
    years = Years(asked.certificates, asked.seed, asked.renewal_info_hours)
    return await years.live(asked.years, lambda year: print(_line(year.row()), flush=True))


def _line(cells: Iterable[str]) -> str:
    return "  ".join(f"{cell:>{max(len(h), 6)}}" for cell, h in zip(cells, HEADINGS, strict=True))


if __name__ == "__main__":
    sys.exit(main())
