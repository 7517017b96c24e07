"""A world for one controller: a CA, a store, time, and what outlives a crash of the process.

A test enters a World, applies manifests and starts the program; then time passes, users change
things, the program crashes (its memory is lost, store and CA stay) and is started anew. What
must hold in the end is in check.py.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from types import MappingProxyType
from typing import Any, Self

from acmeistio.accounts import AccountEvent
from acmeistio.acme.signing import sign_jws
from acmeistio.app import assemble, probes_of
from acmeistio.controller import Controller, Look
from acmeistio.issuer import Issuer
from acmeistio.issuing import Issued, NotIssued
from acmeistio.model import (
    CertificateSpec,
    Installation,
    Issue,
    StoreKnown,
    StorePlaceholder,
    Validate,
)
from acmeistio.planning.plan import Plan
from acmeistio.ports import Manifest
from acmeistio.reasons import Defect
from acmeistio.tokens import Request, Tokens
from tests.simulated.ca import CaOptions, SimulatedCa
from tests.simulated.gateway import SimulatedGateway
from tests.simulated.objects import ObjectStore, SimulatedObjects
from tests.simulated.signing import unsigned_jws
from tests.simulated.system import (
    ConstantLeadership,
    InlineWorkers,
    SeededEntropy,
    VirtualClock,
)
from tests.simulation.wire import (
    CountedEntropy,
    Wire,
    WiredClock,
    WiredHttp,
    WiredObjects,
    WiredWorkers,
)

NAMESPACE = "istio-system"
SECRET = "istio-ingress-certs"
ISSUER, SPARE = "simulated", "spare"
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

SLOW_CA = CaOptions(
    latency_seconds=(0.005, 0.05),
    validation_delay_seconds=(0.05, 0.5),
    issuance_delay_seconds=(0.5, 2.0),
    reuses_orders=False,
    retry_after_order_seconds=1,
    nonce_reject_percent=5,
    shows_processing_challenges=True,
)
"""Pebble's habits and a network's: everything takes its time."""

BARE_CA = CaOptions(reuses_orders=False)
"""No delays, and a new order is a new order: what is ordered twice shows."""

SILENT_CA = CaOptions(reuses_orders=False, renewal_info=False)
"""A CA that does not say when to renew: certificates go by their own lifetimes."""

_STEP_SECONDS = 0.05


@dataclass(slots=True)
class RecordingJournal:
    """The controller's Journal, kept."""

    looks: int = 0
    last_plan: Plan | None = None
    current_defects: tuple[Defect, ...] = ()
    issues: list[tuple[CertificateSpec, Issue, Issued]] = field(default_factory=list)
    failures: list[tuple[CertificateSpec, Issue | Validate, NotIssued]] = field(
        default_factory=list
    )
    restored: list[tuple[CertificateSpec, StoreKnown | StorePlaceholder]] = field(
        default_factory=list
    )
    tended_accounts: list[AccountEvent] = field(default_factory=list)
    failed_parts: list[tuple[str, BaseException]] = field(default_factory=list)

    def looked(self, look: Look) -> Iterator[None]:
        """See Journal.looked."""
        self.looks += 1
        self.last_plan = look.plan
        self.current_defects = look.defects
        yield from ()

    def issued(self, spec: CertificateSpec, issue: Issue, issued: Issued) -> None:
        """See Journal.issued."""
        self.issues.append((spec, issue, issued))

    def not_issued(
        self, spec: CertificateSpec, decision: Issue | Validate, not_issued: NotIssued
    ) -> None:
        """See Journal.not_issued."""
        self.failures.append((spec, decision, not_issued))

    def stored(self, spec: CertificateSpec, decision: StoreKnown | StorePlaceholder) -> None:
        """See Journal.stored."""
        self.restored.append((spec, decision))

    def tended(self, event: AccountEvent) -> None:
        """See Journal.tended."""
        self.tended_accounts.append(event)

    def failed(self, what: str, error: BaseException) -> None:
        """See Journal.failed."""
        self.failed_parts.append((what, error))

    @property
    def codes(self) -> set[str]:
        """The codes of all Defects now."""
        return {defect.code for defect in self.current_defects}


@dataclass(slots=True)
class Process:
    """One life of the program: all that a crash takes away."""

    wire: Wire
    tokens: Tokens
    objects: SimulatedObjects
    leadership: ConstantLeadership
    entropy: CountedEntropy
    journal: RecordingJournal
    controller: Controller
    task: asyncio.Task[None]


class World:
    """What is there besides the program; enter it in virtual time."""

    def __init__(
        self,
        options: CaOptions = BARE_CA,
        *,
        seed: int = 1,
        concurrent_orders: int = 8,
        settle_seconds: float = 0.0,
        keeps_routes: bool = False,
        issuer: Mapping[str, Any] = MappingProxyType({}),
        spare: CaOptions | None = None,
        neighbour: World | None = None,
        **installation: Any,
    ) -> None:
        """`issuer` are settings of the issuer, `installation` those of the installation.

        `spare` is another CA, its fallback. A `neighbour` is another cluster at the same CA.
        """
        self.random = Random(seed)
        self.clock = VirtualClock()
        """The CA's time, and that of all who look."""
        self.wall = self.clock
        """The program's calendar; another clock where a test lets that go wrong."""
        self.store = ObjectStore()
        self.nowhere: set[str] = set()
        """Names whose DNS points elsewhere: nobody answers there."""
        self.reached: list[World] = [self]
        """The clusters that DNS leads to, in turn by chance."""
        self._neighbour = neighbour
        self.ca = neighbour.ca if neighbour else self._ca(options, seed + 1)
        self.spare = self._ca(spare, seed + 2, "https://spare.simulated") if spare else None
        self.cas = {ISSUER: self.ca} | ({SPARE: self.spare} if self.spare else {})
        settings = {"email": "admin@example.org", **issuer}
        issuers = {
            name: Issuer(name, ca.directory_url, **settings) for name, ca in self.cas.items()
        }
        if spare:
            issuers[ISSUER] = replace(issuers[ISSUER], fallback=SPARE)
        self.installation = Installation(issuers, ISSUER, **installation)
        self.gateway = SimulatedGateway(lambda: self.living.tokens)
        self.process: Process | None = None
        self.concurrent_orders = concurrent_orders
        self.settle_seconds = settle_seconds
        self.keeps_routes = keeps_routes

    def _ca(
        self, options: CaOptions, seed: int, base_url: str = "https://ca.simulated"
    ) -> SimulatedCa:
        return SimulatedCa(
            now=self.clock.now,
            sleep=asyncio.sleep,
            random=Random(seed),
            fetch=self._fetch,
            options=options,
            base_url=base_url,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.crash()
        for ca in self.cas.values() if self._neighbour is None else ():
            await ca.aclose()

    # ── the program ───────────────────────────────────────────────────────────────────────────

    def start(self, *, cut_at: int = 0, after: bool = False) -> Process:
        """Begin a life; at its port call number `cut_at` it ends, before or after the call."""
        assert self.process is None, "it lives already"
        wire, tokens, leadership = Wire(cut_at, after), Tokens(), ConstantLeadership()
        objects = SimulatedObjects(self.store, leadership)
        entropy = CountedEntropy(SeededEntropy(Random(self.random.random())))
        journal, clock = RecordingJournal(), WiredClock(wire, self.wall)
        controller = assemble(
            installation=self.installation,
            state_namespace=NAMESPACE,
            https={name: WiredHttp(wire, ca) for name, ca in self.cas.items()},
            objects=WiredObjects(wire, objects),
            leadership=leadership,
            tokens=tokens,
            clock=clock,
            entropy=entropy,
            workers=WiredWorkers(wire, InlineWorkers()),
            journal=journal,
            concurrent_orders=self.concurrent_orders,
            probes=probes_of(self.installation, tokens, self.gateway, clock),
            keeps_routes=self.keeps_routes,
            settle_seconds=self.settle_seconds,
            sign=unsigned_jws if self.ca.options.cheap else sign_jws,
        )
        task = asyncio.ensure_future(controller.run())
        wire.on_cut = task.cancel
        self.process = Process(
            wire, tokens, objects, leadership, entropy, journal, controller, task
        )
        return self.process

    @property
    def living(self) -> Process:
        """The process of this life."""
        assert self.process
        return self.process

    async def crash(self) -> None:
        """Take the program away in the middle of whatever it does."""
        if self.process:
            self.process.wire.cut()
            await self.dead()

    async def dead(self) -> None:
        """Return when the program has died by itself; what it raised is raised."""
        process, self.process = self.process, None
        assert process
        with contextlib.suppress(asyncio.CancelledError):
            await process.task

    @property
    def journal(self) -> RecordingJournal:
        """The journal of this life."""
        return self.living.journal

    # ── users ─────────────────────────────────────────────────────────────────────────────────

    def apply(self, *manifests: Manifest) -> None:
        """What kubectl apply does."""
        for manifest in manifests:
            self.store.put(manifest)

    def annotate_secret(self, name: str = SECRET, **notes: str) -> None:
        """Put acmeistio.io/ annotations on a Secret; `_` in a word stands for `-`."""
        words = {f"acmeistio.io/{key.replace('_', '-')}": text for key, text in notes.items()}

        def change(secret: Manifest) -> None:
            secret["metadata"].setdefault("annotations", {}).update(words)

        self.store.edit("Secret", NAMESPACE, name, change)

    def secret(self, name: str = SECRET) -> Manifest | None:
        """A Secret beside the gateway."""
        return self.store.get("Secret", NAMESPACE, name)

    # ── time ──────────────────────────────────────────────────────────────────────────────────

    @property
    def now(self) -> datetime:
        """The instant."""
        return self.clock.now()

    async def sleep(self, seconds: float) -> None:
        """Let time pass; a program that dies of itself meanwhile is a failure."""
        await asyncio.sleep(seconds)
        self._require_life()

    async def until(
        self, holds: Callable[[], object], *, within: float = 10 * MINUTE, step: float = 0.0
    ) -> float:
        """Return when it holds, with the seconds that took. Raises TimeoutError."""
        began = self.clock.monotonic()
        while not holds():
            self._require_life()
            waited = self.clock.monotonic() - began
            if waited > within:
                raise TimeoutError(f"not within {within:.0f} s of virtual time")
            await asyncio.sleep(step or max(_STEP_SECONDS, waited / 100))
        return self.clock.monotonic() - began

    def _require_life(self) -> None:
        process = self.process
        if process and process.task.done() and not process.wire.dead:
            process.task.result()
            raise AssertionError("the program ended")

    # ── what validates names ──────────────────────────────────────────────────────────────────

    async def _fetch(self, host: str, path: str, _: Mapping[str, str]) -> tuple[int, bytes]:
        """The way of a CA to the challenge port, if anybody is there."""
        cluster = self.random.choice(self.reached) if len(self.reached) > 1 else self.reached[0]
        process = cluster.process
        if host in self.nowhere or process is None or process.wire.dead:
            raise ConnectionRefusedError(host)
        answer = process.tokens.answer(Request("GET", path, "", host, "http"))
        return answer.status, answer.body


def ingress(
    name: str,
    *hosts: str,
    secret: str | None = SECRET,
    namespace: str = "default",
    **notes: str,
) -> Manifest:
    """An Ingress whose hosts get a certificate; `notes` are acmeistio.io/ annotations."""
    annotations = {"kubernetes.io/ingress.class": "istio", "acmeistio.io/tls": "true"}
    annotations |= {f"acmeistio.io/{key.replace('_', '-')}": text for key, text in notes.items()}
    entry: dict[str, Any] = {"hosts": list(hosts)} | ({"secretName": secret} if secret else {})
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        "spec": {"tls": [entry], "rules": [{"host": host} for host in hosts]},
    }


@contextlib.asynccontextmanager
async def served(
    *hosts: str, options: CaOptions = BARE_CA, issuer: Mapping[str, Any] = MappingProxyType({})
) -> AsyncIterator[World]:
    """A world in which one Ingress has its certificate already."""
    from tests.simulation import check  # noqa: PLC0415  # check looks at worlds

    async with World(options, issuer=issuer) as world:
        world.apply(ingress("site", *hosts))
        world.start()
        await world.until(lambda: check.is_served(world, *hosts))
        yield world


def days(number: float) -> timedelta:
    """So many days."""
    return timedelta(days=number)
