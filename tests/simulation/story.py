"""A story of users, accidents and a CA, drawn from a seed: thirty certificates over sixty days.

Equal seeds tell equal stories. What must hold meanwhile is in invariants.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from random import Random

from acmeistio.issuer import LETS_ENCRYPT_PROFILES, Limits
from acmeistio.issuer import Limit as KnownLimit
from tests.simulated.ca import LETS_ENCRYPT_DOOR, CaOptions, Limit, RateLimits, Weather
from tests.simulated.system import VirtualClock
from tests.simulation.invariants import Watch
from tests.simulation.world import World

CERTIFICATES, DAYS = 30, 60
CROWD = "crowd.example"

LONGEST_OUTAGE_HOURS = 72.0
"""A certificate of 160 hours is due for 80."""
PEACE_HOURS = (4.0, 72.0)
"""Between two accidents: what fell due meanwhile is renewed in it."""
END_HOURS = 5 * 24.0
"""After the last accident, until nothing may be wanting any more."""

START_SECONDS = 1.5
"""A process takes so long to come up, at the least."""

WEEK, HOURS = timedelta(days=7), timedelta(hours=1)
LIMITS = RateLimits(
    accounts_per_client=Limit(10, 3 * HOURS),
    orders_per_account=Limit(30, 3 * HOURS),
    certificates_per_domain=Limit(8, WEEK),
    certificates_per_set=Limit(5, WEEK),
    failures_per_name=Limit(5, HOURS),
    failures_until_pause=Limit(100, timedelta(days=100)),
)
"""Let's Encrypt's rules with numbers that thirty certificates reach."""


def known(limits: RateLimits | None) -> Limits:
    """The limits as an issuer's settings say them."""
    if limits is None:
        return Limits()
    return Limits(
        orders=_known(limits.orders_per_account),
        certificates_per_domain=_known(limits.certificates_per_domain),
        certificates_per_set=_known(limits.certificates_per_set),
        failures=_known(limits.failures_per_name),
        failures_in_a_row=_known(limits.failures_until_pause),
        requests=KnownLimit(100, timedelta(seconds=1) / 200),
        nonces=KnownLimit(8, timedelta(seconds=1) / 16),
    )


def _known(limit: Limit) -> KnownLimit:
    return KnownLimit(limit.capacity, limit.period / limit.capacity)


def world_of(seed: int, limits: RateLimits = LIMITS) -> World:
    """A world of a CA with limits, and a program that knows them."""
    random = Random(seed)
    options = CaOptions(
        latency_seconds=random.choice([(0.0, 0.0), (0.005, 0.2)]),
        validation_delay_seconds=random.choice([(0.0, 0.0), (0.1, 3.0)]),
        issuance_delay_seconds=random.choice([(0.0, 0.0), (0.5, 5.0)]),
        backdating=random.choice([timedelta(0), HOURS]),
        retry_after_order_seconds=random.choice([0, 3]),
        reuses_orders=random.random() < 0.5,
        authorization_reuse_percent=random.choice([0, 50, 100]),
        limits=limits,
        requests_per_second=LETS_ENCRYPT_DOOR,
        remote_perspectives=0,
        cheap=True,
    )
    issuer = {"limits": known(limits), "profiles": LETS_ENCRYPT_PROFILES}
    world = World(options, seed=seed, issuer=issuer)
    world.wall = VirtualClock()
    return world


class Story:
    """What happens in one world, one accident after the other."""

    def __init__(self, seed: int, *, certificates: int = CERTIFICATES, days: float = DAYS) -> None:
        self.world = world_of(seed)
        self.watch = Watch(self.world, crowded=CROWD)
        self.told: list[str] = []
        """What happened, for who must find out why something broke."""
        self._random = Random(seed)
        self._certificates = certificates
        self._hours = days * 24
        self._made = 0
        self._downs: list[Callable[[float], Awaitable[None]]] = [
            self._outage, self._outage, self._storm, self._crash, self._crash_in_the_middle,
            self._crash_loop,
        ]  # fmt: skip
        self._deeds: list[Callable[[], None]] = [
            self._add_name, self._add_name, self._remove_name, self._new, self._withdraw,
            self._fail, self._fail, self._heal, self._revoke, self._lose, self._renew, self._jump,
        ]  # fmt: skip

    async def tell(self) -> None:
        """All of it. Raises AssertionError where an invariant is broken."""
        async with self.world:
            for _ in range(self._certificates):
                self._new()
            self.world.start()
            await self.watch.passes(self._random.uniform(1, 48))
            while self.world.clock.monotonic() < (self._hours - END_HOURS) * 3600:
                await self._accident()
                await self.watch.passes(self._random.uniform(*PEACE_HOURS))
            for name in sorted(self.world.nowhere):
                self.watch.heal(name)
            await self.watch.passes(END_HOURS)
            missing = self.watch.missing
            assert not missing, f"not served in the end: {missing}"
            self.watch.holds()

    async def _accident(self) -> None:
        for _ in range(self._random.randint(0, 3)):
            deed = self._random.choice(self._deeds)
            deed()
        if self._random.random() < 0.5:
            (hours,) = self._random.choices([0.05, 0.5, 4.0, LONGEST_OUTAGE_HOURS], [4, 4, 3, 1])
            down = self._random.choice(self._downs)
            await down(self._random.uniform(0.01, hours))

    def _note(self, what: str) -> None:
        self.told.append(f"{self.world.now:%m-%d %H:%M:%S} {what}")

    # ── accidents ─────────────────────────────────────────────────────────────────────────────

    async def _outage(self, hours: float) -> None:
        """The CA can't be reached."""
        self._note(f"outage for {hours:.2f} h")
        self.watch.look()
        self.watch.is_disturbed = self.world.ca.outage = True
        await self.watch.passes(hours)
        self.watch.is_disturbed = self.world.ca.outage = False

    async def _storm(self, hours: float) -> None:
        """Errors, nonces that are refused, replies that are lost."""
        self._note(f"storm for {hours:.2f} h")
        self.watch.look()
        storm = Weather(errors_percent=30, bad_nonces_percent=20, lost_replies_percent=20)
        self.world.ca.weather, self.watch.is_disturbed = (lambda _: storm), True
        await self.watch.passes(hours)
        self.world.ca.weather, self.watch.is_disturbed = (lambda _: Weather()), False

    async def _crash(self, hours: float) -> None:
        """The program is away for a while."""
        self._note(f"crash, back after {hours:.2f} h")
        self.watch.look()
        await self.world.crash()
        await self.watch.passes(hours)
        self.world.start()

    async def _crash_in_the_middle(self, hours: float) -> None:
        """The next life ends at one of its calls."""
        call = self._random.randint(1, 400)
        self._note(f"crash at call {call} of the next life")
        self.watch.look()
        await self.world.crash()
        after = self._random.random() < 0.5
        process = self.world.start(cut_at=call, after=after)
        await asyncio.wait({process.task}, timeout=hours * 3600)
        if not process.wire.dead:
            await self.world.crash()
        else:
            await self.world.dead()
        await asyncio.sleep(START_SECONDS)
        self.watch.look()
        self.world.start()

    async def _crash_loop(self, hours: float) -> None:
        """Short lives, one after the other."""
        self._note(f"crash loop for {min(hours, 3.0):.2f} h")
        self.watch.look()
        self.watch.is_disturbed = True
        end = self.world.clock.monotonic() + min(hours, 3.0) * 3600
        while self.world.clock.monotonic() < end:
            await self.world.crash()
            await asyncio.sleep(self._random.uniform(START_SECONDS, 120))
            self.world.start()
            await self.world.sleep(self._random.uniform(0.5, 60))
        self.watch.look()
        self.watch.is_disturbed = False

    # ── deeds ─────────────────────────────────────────────────────────────────────────────────

    def _new(self) -> None:
        """Another certificate is declared."""
        secret, self._made = f"c{self._made}", self._made + 1
        domain = CROWD if self._random.random() < 0.25 else f"{secret}.example"
        names = [f"{word}-{secret}.{domain}" for word in _words(self._random)]
        profile = self._random.choice(["shortlived", "shortlived", "tlsserver", "classic"])
        self._note(f"declare {secret} {profile}: {' '.join(names)}")
        self.watch.declare(secret, *names, profile=profile)

    def _any(self) -> str | None:
        return self._random.choice(sorted(self.watch.wishes)) if self.watch.wishes else None

    def _any_name(self) -> str | None:
        names = sorted(n for wish in self.watch.wishes.values() for n in wish.declared)
        return self._random.choice(names) if names else None

    def _add_name(self) -> None:
        secret = self._any()
        if secret:
            wish = self.watch.wishes[secret]
            domain = next(iter(sorted(wish.declared))).partition(".")[2]
            self._made += 1
            name = f"more{self._made}-{secret}.{domain}"
            self._note(f"add {name} to {secret}")
            self.watch.declare(secret, *wish.declared, name, profile=wish.profile)

    def _remove_name(self) -> None:
        secret = self._any()
        if secret and len(self.watch.wishes[secret].declared) > 1:
            wish = self.watch.wishes[secret]
            name = self._random.choice(sorted(wish.declared))
            self._note(f"remove {name} from {secret}")
            self.watch.declare(secret, *(wish.declared - {name}), profile=wish.profile)

    def _withdraw(self) -> None:
        secret = self._any()
        if secret and len(self.watch.wishes) > 10:
            self._note(f"withdraw {secret}")
            self.watch.withdraw(secret)

    def _fail(self) -> None:
        name = self._any_name()
        if name and len(self.world.nowhere) < 10:
            self._note(f"fail {name}")
            self.watch.fail(name)

    def _heal(self) -> None:
        if self.world.nowhere:
            name = self._random.choice(sorted(self.world.nowhere))
            self._note(f"heal {name}")
            self.watch.heal(name)

    def _revoke(self) -> None:
        """A mass revocation."""
        secrets = [s for s in sorted(self.watch.wishes) if self._random.random() < 0.5]
        self._note(f"revoke {' '.join(secrets)}")
        self.watch.revoke(*secrets)

    def _lose(self) -> None:
        secret = self._any()
        if secret and self.world.secret(secret):
            self._note(f"delete Secret {secret}")
            self.watch.lose_secret(secret)

    def _renew(self) -> None:
        secret = self._any()
        if secret:
            self._note(f"renew {secret}")
            self.watch.renew(secret, f"at {self.world.now:%Y-%m-%d %H:%M:%S}")

    def _jump(self) -> None:
        """The machine's calendar is wrong from now on."""
        by = timedelta(hours=self._random.choice([-9000, -24, -1, 1, 24, 9000]))
        self._note(f"the calendar jumps by {by}")
        self.world.wall.jump(by)


def _words(random: Random) -> Iterator[str]:
    """The first labels of one to four names."""
    yield from ["www", "img", "api", "shop"][: random.randint(1, 4)]
