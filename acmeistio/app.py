"""The composition root: which implementation stands behind which port, and the life of all.

The only module that knows every adapter; it decides nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acmeistio.accounts import Accounts
from acmeistio.acme.clock import CaClock
from acmeistio.acme.session import Session
from acmeistio.acme.signing import Sign, sign_jws
from acmeistio.acme.solver import Http01Solver
from acmeistio.acme.transport import AiohttpTransport
from acmeistio.controller import LONGEST_SLEEP_SECONDS, Controller, Journal
from acmeistio.issuing import Issuing
from acmeistio.journal import Journals
from acmeistio.journal.events import EventJournal
from acmeistio.journal.log import LogJournal, configure, tell_unknown_variables
from acmeistio.kube.client import connect
from acmeistio.kube.events import Events
from acmeistio.kube.leadership import SoleReplica
from acmeistio.kube.objects import KubeObjects
from acmeistio.local.folder import FolderObjects
from acmeistio.local.lock import FolderLeadership
from acmeistio.looking import KINDS
from acmeistio.model import Installation, ObjectRef
from acmeistio.ports import Clock, Entropy, Http, Leadership, Objects, Workers
from acmeistio.probe.hops import Prober
from acmeistio.probing import Probes, Walker
from acmeistio.pursuing import Pursuit
from acmeistio.renewals import Renewals
from acmeistio.revoking import Revoking
from acmeistio.routes.permanent import DESTINATION_RULE
from acmeistio.routing import RouteKeeping
from acmeistio.settings import Settings, unknown_variables
from acmeistio.sources.annotations import is_reserved
from acmeistio.stores.accounts import AccountStore
from acmeistio.stores.memory import LedgerStore, PendingKeys
from acmeistio.stores.secrets import SecretStore
from acmeistio.system import Collecting, SystemClock, SystemEntropy, ThreadWorkers
from acmeistio.tending import Tending
from acmeistio.timekeeping import Timekeeping
from acmeistio.tokens import Tokens
from acmeistio.web.admin import admin_application
from acmeistio.web.challenge import challenge_application
from acmeistio.web.serving import Address, serve

TOKEN_BYTES = 32
"""As a CA's (RFC 8555 §8.1 wants 128 bits)."""

SETTLE_SECONDS = 1.0
"""Until a new Secret is served: istiod gathers changes for 0.1 s, a gateway that waited for the
Secret then opens its port; 0.5 s were seen at most."""


def assemble(
    *,
    installation: Installation,
    state_namespace: str,
    https: dict[str, Http],
    objects: Objects,
    leadership: Leadership,
    tokens: Tokens,
    clock: Clock,
    entropy: Entropy,
    workers: Workers,
    journal: Journal,
    concurrent_orders: int,
    probes: Probes,
    keeps_routes: bool = False,
    settle_seconds: float = 0.0,
    sign: Sign = sign_jws,
) -> Controller:
    """A controller over the given ports; `https` has the way to each issuer by its name.

    Where `clock` and that of the default issuer's CA disagree the CA's counts. Accounts, ledger and
    pending keys lie in `state_namespace`. `keeps_routes` where route objects are to be kept as they
    must be; `sign` signs what is said to the CAs.
    """
    clock = ca_clock = CaClock(clock)
    sessions = {
        name: Session(
            https[name],
            clock,
            issuer.directory_url,
            limits=issuer.limits,
            sign=sign,
            heard=ca_clock.heard if name == installation.default_issuer else None,
        )
        for name, issuer in installation.issuers.items()
    }
    accounts = Accounts(AccountStore(objects, state_namespace), sessions, entropy, workers)
    ledger = LedgerStore(objects, state_namespace, clock, workers)
    keys = PendingKeys(objects, state_namespace)
    timekeeping = Timekeeping(
        sessions[installation.default_issuer], ca_clock, has_others=len(sessions) > 1
    )
    renewals = Renewals(installation.issuers, sessions, clock, timekeeping)
    secrets = SecretStore(objects)
    issuing = Issuing(
        issuers=installation.issuers,
        sessions=sessions,
        accounts=accounts,
        solver=Http01Solver(tokens),
        secrets=secrets,
        ledger=ledger,
        keys=keys,
        clock=clock,
        entropy=entropy,
        workers=workers,
        concurrent_orders=concurrent_orders,
    )
    revoking = Revoking(
        issuers=installation.issuers,
        sessions=sessions,
        accounts=accounts,
        secrets=secrets,
        ledger=ledger,
        clock=clock,
    )
    pursuit = Pursuit(
        installation=installation,
        secrets=secrets,
        ledger=ledger,
        issuing=issuing,
        revoking=revoking,
        renewals=renewals,
        timekeeping=timekeeping,
        probes=probes,
        clock=clock,
        outcomes=journal,
        settle_seconds=settle_seconds,
    )
    return Controller(
        objects=objects,
        leadership=leadership,
        installation=installation,
        secrets=secrets,
        ledger=ledger,
        keys=keys,
        pursuit=pursuit,
        clock=clock,
        journal=journal,
        routes=RouteKeeping(objects, journal.failed) if keeps_routes else None,
        probes=probes,
        renewals=renewals,
        timekeeping=timekeeping,
        tending=Tending(accounts, journal.tended, journal.failed),
    )


def probes_of(installation: Installation, tokens: Tokens, walker: Walker, clock: Clock) -> Probes:
    """The probes, with a token of this process."""
    token, answer = secrets.token_urlsafe(TOKEN_BYTES), secrets.token_urlsafe(TOKEN_BYTES)
    tokens.present(token, answer)
    return Probes(walker, clock, installation.probing, token=token, expected=answer.encode())


@dataclass(frozen=True, slots=True)
class Place:
    """Where the program works: a pair of folders, or a cluster. `beside` runs with it."""

    objects: Objects
    leadership: Leadership
    journal: Journal
    settle_seconds: float
    beside: tuple[Callable[[], Coroutine[Any, Any, None]], ...]


async def run(settings: Settings) -> None:
    """The whole service, until SIGTERM or SIGINT. Raises Misconfigured."""
    configure(settings.log_format, settings.log_level)
    tell_unknown_variables(unknown_variables(os.environ))
    installation, tokens, workers = settings.installation, Tokens(), ThreadWorkers()
    collecting = Collecting()
    collecting.begin()
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(collecting.end)
        stack.callback(workers.close)
        place = await _place(settings, workers, stack)
        prober = Prober()
        stack.push_async_callback(prober.close)
        https = await stack.enter_async_context(_transports(installation))
        controller = assemble(
            installation=installation,
            state_namespace=settings.state_namespace,
            https=dict(https),
            objects=place.objects,
            leadership=place.leadership,
            tokens=tokens,
            clock=SystemClock(),
            entropy=SystemEntropy(),
            workers=workers,
            journal=place.journal,
            concurrent_orders=settings.concurrent_orders,
            probes=probes_of(installation, tokens, prober, SystemClock()),
            keeps_routes=not settings.embedded,
            settle_seconds=place.settle_seconds,
        )
        challenge = await serve(challenge_application(tokens), _address(settings.challenge_listen))
        stack.push_async_callback(challenge.cleanup)
        admin = admin_application(lambda: _alive(controller), lambda: True)
        stack.push_async_callback((await serve(admin, _address(settings.admin_listen))).cleanup)
        await _until_stopped(controller.run(), *(work() for work in place.beside))


async def _place(
    settings: Settings, workers: ThreadWorkers, stack: contextlib.AsyncExitStack
) -> Place:
    if settings.manifests and settings.secrets:
        return _folders(settings.manifests, settings.secrets, workers)
    return await _cluster(settings, stack)


def _folders(manifests: Path, secrets: Path, workers: Workers) -> Place:
    leadership = FolderLeadership(secrets)
    objects = FolderObjects(manifests, secrets, workers, leadership)
    return Place(objects, leadership, LogJournal(), 0.0, (objects.watch,))


async def _cluster(settings: Settings, stack: contextlib.AsyncExitStack) -> Place:
    client = await connect(settings.kubeconfig, settings.context)
    stack.push_async_callback(client.close)
    pod_name, installation = socket.gethostname(), settings.installation
    leadership = SoleReplica(pod_name)
    together = installation.secrets_granted is None
    objects = KubeObjects(
        client,
        leadership,
        kinds=KINDS,
        is_shared=lambda ref: _is_shared(ref, installation),
        whole=[("Secret", place) for place in installation.gateway_namespaces] if together else [],
    )
    events = Events(client, objects.find, pod_name)
    journal = Journals(LogJournal(), EventJournal(events, SystemClock()))
    return Place(objects, leadership, journal, SETTLE_SECONDS, (objects.watch, events.run))


def _is_shared(ref: ObjectRef, installation: Installation) -> bool:
    """Whether an object that acmeistio asks for by name is written by others as well."""
    target = ref.kind == "Secret" and not is_reserved(ref.name)
    return ref == installation.mesh_config or target or ref.kind == DESTINATION_RULE


async def _until_stopped(*works: Coroutine[Any, Any, None]) -> None:
    """Run until a signal comes or one of the works ends; its error is raised."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    tasks = [asyncio.ensure_future(work) for work in works]
    waiting = asyncio.ensure_future(stopped.wait())
    await asyncio.wait({*tasks, waiting}, return_when=asyncio.FIRST_COMPLETED)
    failed = [task for task in tasks if task.done()]
    for task in (*tasks, waiting):
        task.cancel()
    await asyncio.gather(*tasks, waiting, return_exceptions=True)
    for task in failed:
        task.result()


@contextlib.asynccontextmanager
async def _transports(installation: Installation) -> AsyncIterator[dict[str, AiohttpTransport]]:
    """The way to each issuer; issuers with the same trust share one."""
    shared: dict[str | None, AiohttpTransport] = {}
    for issuer in installation.issuers.values():
        if issuer.ca_bundle not in shared:
            shared[issuer.ca_bundle] = AiohttpTransport(issuer.ca_bundle)
    try:
        yield {name: shared[i.ca_bundle] for name, i in installation.issuers.items()}
    finally:
        closing: list[Awaitable[None]] = [transport.close() for transport in shared.values()]
        await asyncio.gather(*closing)


def _alive(controller: Controller) -> bool:
    """The loop has looked at the world not long ago."""
    return SystemClock().monotonic() - controller.last_pass_at < 3 * LONGEST_SLEEP_SECONDS


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return Address(host, int(port))
