"""What must hold at every instant of a long run, judged by the CA's books and the store alone.

A Watch looks at each write of a Secret and at each step of time. What users declare goes through
it, so that it knows what should be; it believes nothing that the program says, and nothing of
acmeistio.planning is used here. test_invariants.py plants a bug for each rule, so that it is known
to notice.

Rules, each with the word that begins its complaint:

    limit     no limit of the CA is hit
    expired   a name that was served, and that the CA can validate, is served on
    waits     a name gets its certificate as soon as CA, program and limits have let it
    revoked   what the CA revoked is replaced as soon as it can have been known
    ledger    the ledger stays small
    account   there is one account
    protocol  the CA's rules are kept
    waste     no more certificates are made than lifetimes and changes ask for
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509

from acmeistio.ports import Manifest
from tests.simulated.ca import Certificate, Limit, Rule
from tests.simulation import check
from tests.simulation.world import DAY, HOUR, World, ingress

LEDGER_NAME, LEDGER_KEY = "acmeistio-ledger", "ledger.json"
LEDGER_BYTES, LEDGER_BYTES_PER_NAME = 4096, 1024
"""What the ledger may take by itself, and for each name that is declared."""

EARLIEST_DUE = 0.45
"""No certificate is due by itself before this part of its life."""

EXPLAINED = check.EXPLAINED_BY_A_CRASH | {Rule.RENEWAL_INFO_IN_USE}
"""Who died between download and Secret asks about the certificate that is stored."""

SLOWER = 1.1
"""So much longer than the CA's limits ask for may be waited: the client keeps a distance."""


@dataclass(slots=True)
class Wish:
    """The certificate that users want in one Secret.

    `wanted` says for each name when it could be had at the latest, in seconds of `Watch.available`;
    `served` are those that are had.
    """

    secret: str
    profile: str
    declared: set[str] = field(default_factory=set)
    wanted: dict[str, float] = field(default_factory=dict)
    healing: dict[str, float] = field(default_factory=dict)
    """Until when a name that works again may still be taken for one that fails."""
    served: set[str] = field(default_factory=set)
    held: Certificate | None = None
    excused: int = 0
    """So many certificates more than lifetimes ask for: changes, and what tests do to it."""
    replaced_by: float | None = None
    """When a revoked certificate must be replaced, in seconds of `Watch.available`."""


class Watch:
    """Follows one World. `broken` has what must not be."""

    def __init__(self, world: World, *, crowded: str = "") -> None:
        """`crowded` is the one registered domain that several Secrets have names in."""
        self.world = world
        self.broken: list[str] = []
        self.wishes: dict[str, Wish] = {}
        self.available = 0.0
        """Seconds in which the program lived and the CA answered."""
        self.waited: list[float] = []
        """How long names waited, in available seconds."""
        self.largest_backlog = self.largest_ledger = 0
        self.is_disturbed = False
        """Whether the CA is not itself just now; set by who disturbs it."""
        self._crowded = crowded
        self._asked: dict[tuple[str, str], float] = {}
        self._sampled = world.clock.monotonic()
        self._by_serial: dict[int, Certificate] = {}
        self._counted: dict[str, list[datetime]] = {}
        world.store.watchers.append(self._written)

    # ── what users do ─────────────────────────────────────────────────────────────────────────

    def declare(self, secret: str, *names: str, profile: str) -> None:
        """Apply an Ingress that wants these names, and no others, in a Secret."""
        self.look()
        wish = self.wishes.setdefault(secret, Wish(secret, profile))
        new = set(names) - wish.declared
        wish.declared = set(names)
        wish.served &= wish.declared
        wish.wanted = {n: at for n, at in wish.wanted.items() if n in wish.declared}
        wish.excused += 1
        for name in sorted(new):
            self._asked[secret, name] = self.available
            wish.wanted[name] = self.available + self._patience(name)
        self._let_wait()
        self.world.apply(ingress(secret, *sorted(names), secret=secret, profile=profile))

    def withdraw(self, secret: str) -> None:
        """Delete the Ingress; its Secret stays."""
        self.look()
        del self.wishes[secret]
        self.world.store.delete("Ingress", "default", secret)

    def fail(self, name: str) -> None:
        """Let a name's DNS lead nowhere from now on."""
        self.look()
        self.world.nowhere.add(name)
        for wish in self._with(name):
            wish.excused += 2
            wish.served.discard(name)
            wish.wanted.pop(name, None)

    def heal(self, name: str) -> None:
        """Let a name work again; it is tried within a day."""
        self.look()
        self.world.nowhere.discard(name)
        for wish in self._with(name):
            wish.excused += 2
            self._asked[wish.secret, name] = self.available
            wish.wanted[name] = self.available + DAY + self._patience(name)
            wish.healing[name] = wish.wanted[name]
            if wish.replaced_by:
                wish.replaced_by = max(wish.replaced_by, wish.wanted[name])

    def revoke(self, *secrets: str) -> None:
        """An incident: the CA revokes certificates, and says so to who asks for their renewal."""
        self.look()
        found = [(wish, wish.held) for wish in map(self.wishes.__getitem__, secrets)]
        held = [(wish, certificate) for wish, certificate in found if certificate]
        self.world.ca.revoke_for_incident([certificate for _, certificate in held])
        retry = self.world.ca.options.renewal_info_retry_after_seconds
        for wish, certificate in held:
            wish.excused += 1
            if self._is_held_back(wish, certificate):
                continue
            patience = max(map(self._patience, wish.declared), default=HOUR)
            wish.replaced_by = self.available + 1.2 * retry + self._of_set() + patience

    def _is_held_back(self, wish: Wish, held: Certificate) -> bool:
        """Whether it is due and waits for a name: its window has passed without an incident."""
        life = held.not_after - held.not_before
        is_due = self.world.now - held.not_before > life * EARLIEST_DUE
        return is_due and not self.world.nowhere.isdisjoint(wish.declared)

    def lose_secret(self, secret: str) -> None:
        """Somebody deletes a Secret; what was in it is had again as soon as the limits let it."""
        self.look()
        wish = self.wishes[secret]
        wish.excused += 1
        wish.held = None
        for name in wish.served:
            self._asked[secret, name] = self.available
            wish.wanted[name] = self.available + self._of_set() + self._patience(name)
        wish.served.clear()
        self.world.store.delete("Secret", "istio-system", secret)

    def renew(self, secret: str, when: str) -> None:
        """A user asks for a renewal."""
        if self.world.secret(secret):
            self.wishes[secret].excused += 1
            self.world.annotate_secret(secret, renew_requested_at=when)

    # ── what is looked at ─────────────────────────────────────────────────────────────────────

    async def passes(self, hours: float, step_hours: float = 1.0) -> None:
        """Let time pass under watch."""
        end = self.world.clock.monotonic() + hours * HOUR
        while (left := end - self.world.clock.monotonic()) > 0:
            await self.world.sleep(min(step_hours * HOUR, left))
            self.look()

    def look(self) -> None:
        """Judge what there is now."""
        self._pass_time()
        for wish in self.wishes.values():
            self._judge(wish, self.world.now)
        backlog = sum(len(w.declared - w.served - self.world.nowhere) for w in self.wishes.values())
        self.largest_backlog = max(self.largest_backlog, backlog)

    def _pass_time(self) -> None:
        """Time since the last look counts if the program lived and the CA answered."""
        now, process = self.world.clock.monotonic(), self.world.process
        if process and not process.wire.dead and not self.is_disturbed:
            self.available += now - self._sampled
        self._sampled = now

    def holds(self) -> None:
        """Raise AssertionError where something was not as it must be, or is not now."""
        broken = self.complaints()
        assert not broken, "\n".join(broken[:8])

    def complaints(self) -> list[str]:
        """All that was not as it must be."""
        self.look()
        return [*self.broken, *self._of_the_ca()]

    @property
    def missing(self) -> list[str]:
        """The names that can be validated and are not served."""
        self.look()
        return sorted(
            n for w in self.wishes.values() for n in w.declared - w.served - self.world.nowhere
        )

    def _judge(self, wish: Wish, now: datetime) -> None:
        held = wish.held if wish.held and wish.held.not_after > now else None
        covered = held.names if held else frozenset()
        for name in sorted(wish.served - covered):
            wish.served.discard(name)
            if self.available <= wish.healing.get(name, 0.0):
                wish.wanted[name] = wish.healing[name]
            elif name in wish.declared:
                self.broken.append(f"expired: {name} of {wish.secret} is no longer served at {now}")
        wish.served |= (covered & wish.declared) - self.world.nowhere
        for name, until in sorted(wish.wanted.items()):
            if name in covered:
                self.waited.append(self.available - self._asked[wish.secret, name])
                del wish.wanted[name]
            elif self.available > until:
                self.broken.append(f"waits: {name} of {wish.secret} is not served at {now}")
                wish.wanted[name] = float("inf")
        if held and not held.revoked:
            wish.replaced_by = None
        elif wish.replaced_by and self.available > wish.replaced_by and self._may_be_had(wish):
            self.broken.append(f"revoked: {wish.secret} is not replaced at {now}")
            wish.replaced_by = None

    def _may_be_had(self, wish: Wish) -> bool:
        return bool(wish.declared - self.world.nowhere)

    def _written(self, manifest: Manifest) -> None:
        """A write to the store, whoever made it."""
        name = manifest["metadata"]["name"]
        if name == LEDGER_NAME:
            self._judge_ledger(len(manifest["data"][LEDGER_KEY].encode()))
        elif manifest["kind"] == "Secret" and name in self.wishes:
            self._pass_time()
            wish = self.wishes[name]
            self._judge(wish, self.world.now)
            wish.held = self._certificate(manifest)
            if wish.held:
                self._judge_waste(wish, wish.held)
            self._judge(wish, self.world.now)

    def _judge_ledger(self, size: int) -> None:
        names = sum(len(wish.declared) for wish in self.wishes.values())
        self.largest_ledger = max(self.largest_ledger, size)
        if size > LEDGER_BYTES + LEDGER_BYTES_PER_NAME * names:
            self.broken.append(f"ledger: {size} bytes for {names} names")

    def _judge_waste(self, wish: Wish, held: Certificate) -> None:
        """Half of a life is lived by each certificate but those that something else replaced."""
        made = self._counted.setdefault(wish.secret, [])
        if held.not_before in made:
            return
        made.append(held.not_before)
        life, lived = held.not_after - held.not_before, held.not_before - made[0]
        asked_for = 1 + lived / (life * EARLIEST_DUE) + wish.excused
        if len(made) > asked_for:
            self.broken.append(f"waste: {len(made)} certificates for {wish.secret} in {lived}")

    def _of_the_ca(self) -> Iterator[str]:
        ca = self.world.ca
        for hit in ca.limit_hits:
            yield f"limit: {hit.limit} of {hit.subject} at {hit.at}"
        if len(ca.accounts) > 1:
            yield f"account: there are {len(ca.accounts)}"
        for violation in ca.violations:
            if violation.rule not in EXPLAINED:
                yield f"protocol: {violation.rule} at {violation.at}: {violation.detail}"

    def _certificate(self, secret: Manifest) -> Certificate | None:
        """The CA's own record of what a Secret holds; None for a placeholder."""
        try:
            pem = base64.b64decode(secret["data"]["tls.crt"])
            serial = x509.load_pem_x509_certificate(pem).serial_number
        except (KeyError, TypeError, ValueError):
            return None
        if serial not in self._by_serial:
            self._by_serial |= {each.serial: each for each in self.world.ca.certificates[-200:]}
        return self._by_serial.get(serial)

    # ── what the limits ask for ───────────────────────────────────────────────────────────────

    def _patience(self, name: str) -> float:
        """How long a new name may wait while it can be had: an hour, and what the limits take."""
        return self._patiences()[self._is_crowded(name)]

    def _patiences(self) -> dict[bool, float]:
        """The same for names of the crowded domain, and for others."""
        limits = self.world.ca.options.limits
        if limits is None:
            return {False: HOUR, True: HOUR}
        waiting = 1 + sum(len(wish.wanted) for wish in self.wishes.values())
        alone = HOUR + waiting * _interval(limits.orders_per_account)
        crowd = [w for w in self.wishes.values() if any(map(self._is_crowded, w.wanted))]
        crowded = alone + (len(crowd) + 1) * _interval(limits.certificates_per_domain)
        return {False: alone, True: crowded}

    def _let_wait(self) -> None:
        """Nobody has promised who goes first: who waits may wait as long as a newcomer."""
        patiences = self._patiences()
        for wish in self.wishes.values():
            for name, until in wish.wanted.items():
                patience = patiences[self._is_crowded(name)]
                wish.wanted[name] = max(until, self._asked[wish.secret, name] + patience)

    def _is_crowded(self, name: str) -> bool:
        return bool(self._crowded) and name.endswith(f".{self._crowded}")

    def _of_set(self) -> float:
        """How long the next certificate for the same names may have to wait."""
        limits = self.world.ca.options.limits
        return _interval(limits.certificates_per_set) if limits else 0.0

    def _with(self, name: str) -> list[Wish]:
        return [wish for wish in self.wishes.values() if name in wish.declared]


def _interval(limit: Limit) -> float:
    """Seconds until another token, as slowly as a client may reckon."""
    return SLOWER * (limit.period / limit.capacity).total_seconds()
