"""Carry out one Issue: account, order, checked bundle, Secret; and write down what came of it.

Owns the order of the steps in which a crash loses nothing: the account's key before the account,
the order's URL and the certificate's key before finalize, the Secret before both are forgotten.
Whether and when to issue is planning's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from acmeistio.accounts import Accounts
from acmeistio.acme.clock import TOLERANCE
from acmeistio.acme.order import NamesFailed, OrderGone, Ordering, OrderState
from acmeistio.acme.session import ProblemResponse, Session, Signer
from acmeistio.acme.solver import Solver
from acmeistio.attempt import Attempt, StillPaused
from acmeistio.errors import AcmeistioError, Conflict, Forbidden, NotLeader, Permanent, Transient
from acmeistio.issuer import Issuer
from acmeistio.model import CertificateSpec, Held, Issue, KeyType, Validate
from acmeistio.names import DnsName
from acmeistio.pki import Bundle, Unfit, checked_bundle, csr_der
from acmeistio.planning import limits
from acmeistio.planning.ledger import Ledger, OpenOrder
from acmeistio.planning.setbacks import Case
from acmeistio.planning.situation import text
from acmeistio.ports import Clock, Entropy, Term, Workers
from acmeistio.reasons import plain
from acmeistio.stores.memory import LedgerStore, PendingKeys
from acmeistio.stores.secrets import SecretStore, issued_facts

T = TypeVar("T")

STORE_RETRY_SECONDS = 1.0
"""A certificate that was got is kept in hand until its Secret can be written."""


@dataclass(frozen=True, slots=True)
class Issued:
    """The certificate is in its Secret; `facts` are the annotations it was stored with.

    `missing_chain` is the one that the settings prefer, where the CA does not offer it.
    """

    bundle: Bundle
    facts: Mapping[str, str | None]
    missing_chain: str | None = None


@dataclass(frozen=True, slots=True)
class Validated:
    """The CA has validated the names; nothing was issued."""

    names: tuple[DnsName, ...]


@dataclass(frozen=True, slots=True)
class NotIssued:
    """It is not, and the ledger says when to try again."""

    problem: str


class OutOfBudget(Transient):
    """Nothing is left: others have spent it meanwhile, or the order is not exempt after all."""


@dataclass(frozen=True, slots=True)
class _Obtained:
    """What an order gave, and whose it was."""

    order_url: str
    account_url: str | None
    bundle: Bundle
    missing_chain: str | None


class Issuing:
    """Orders certificates, a bounded number at once."""

    def __init__(
        self,
        *,
        issuers: Mapping[str, Issuer],
        sessions: Mapping[str, Session],
        accounts: Accounts,
        solver: Solver,
        secrets: SecretStore,
        ledger: LedgerStore,
        keys: PendingKeys,
        clock: Clock,
        entropy: Entropy,
        workers: Workers,
        concurrent_orders: int,
    ) -> None:
        self._issuers = issuers
        self._sessions = sessions
        self._accounts = accounts
        self._solver = solver
        self._secrets = secrets
        self._ledger = ledger
        self._keys = keys
        self._clock = clock
        self._entropy = entropy
        self._workers = workers
        self._slots = asyncio.Semaphore(concurrent_orders)

    async def carry_out(
        self, spec: CertificateSpec, decision: Issue | Validate, held: Held, term: Term
    ) -> Issued | Validated | NotIssued:
        """Get and store the certificate, or write down why not and when to try again.

        `held` is the Secret as the decision saw it. Raises NotLeader.
        """
        case = Case(spec, self._issuers[spec.issuer], held)
        attempt = Attempt(case, decision, self._clock.now(), self._zero_at())
        try:
            if isinstance(decision, Validate):
                return await self._validate(attempt, term)
            return await self._issue(attempt, term)
        except NotLeader:
            raise
        except (AcmeistioError, Unfit) as error:
            now = self._clock.now()
            await self._close(functools.partial(attempt.ended, error=error, now=now), term)
            return NotIssued(str(error))

    async def _validate(self, attempt: Attempt, term: Term) -> Validated:
        """Have the CA validate what failed before, by an order that nothing else depends on."""
        async with self._slots:
            self._require_unpaused(attempt.case.issuer)
            await self._known(attempt, self._validated, term)
        await self._write_down(attempt.validated, term)
        return Validated(attempt.names)

    async def _validated(self, attempt: Attempt, signer: Signer, term: Term) -> None:
        ordering = self._ordering(attempt.case.issuer, signer)
        await ordering.authorize(await self._made(ordering, attempt, signer, term))
        attempt.proved = ordering.asked_for

    async def _issue(self, attempt: Attempt, term: Term) -> Issued:
        spec, issuer, held = attempt.case.spec, attempt.case.issuer, attempt.case.held
        async with self._slots:
            self._require_unpaused(issuer)
            obtained = await self._known(attempt, self._obtain, term)
        bundle, now = obtained.bundle, self._clock.now()
        renewed_for = held.marks.renew_requested_at if held else None
        account_url = obtained.account_url
        facts = issued_facts(
            spec, bundle, issuer, account_url=account_url, renewed_for=renewed_for, now=now
        )
        await self._store(spec, bundle, facts, held, term)
        names = bundle.leaf.names
        await asyncio.gather(
            self._write_down(lambda ledger: attempt.issued(ledger, names, now), term),
            self._forget(obtained.order_url, term),
        )
        return Issued(bundle, facts, obtained.missing_chain)

    def _require_unpaused(self, issuer: Issuer) -> None:
        """An order that waited for its slot must not reach a CA that asked to wait meanwhile."""
        pause = self._ledger.ledger.pauses.get(issuer.name)
        if pause and pause.until > self._clock.now():
            raise StillPaused(pause.problem)

    async def _known(
        self,
        attempt: Attempt,
        work: Callable[[Attempt, Signer, Term], Awaitable[T]],
        term: Term,
    ) -> T:
        """The result of `work`; a CA that has forgotten the account meets it anew, once."""
        issuer = attempt.case.issuer
        signer = await self._accounts.signer(issuer, term)
        try:
            return await work(attempt, signer, term)
        except ProblemResponse as error:
            if error.problem.type != "accountDoesNotExist":
                raise
            await self._write_down(functools.partial(attempt.forgotten, error=error), term)
        attempt.begin_anew()
        await self._accounts.renounce(issuer, signer, term)
        return await work(attempt, await self._accounts.signer(issuer, term), term)

    async def _obtain(self, attempt: Attempt, signer: Signer, term: Term) -> _Obtained:
        """The bundle that an order gave, one that was left open or a new one."""
        names, issuer = attempt.names, attempt.case.issuer
        ordering = self._ordering(issuer, signer)
        order = await self._resumed(ordering, attempt, term)
        order = order or await self._made(ordering, attempt, signer, term)
        preparing = asyncio.ensure_future(self._prepare(order, attempt, term))

        async def csr() -> bytes:
            return csr_der(await preparing, names)

        try:
            chain = await ordering.complete(order, csr, issuer.preferred_chain)
            attempt.proved = ordering.asked_for
            key_pem = await preparing
        except NamesFailed as error:
            if not attempt.is_resumed:
                raise
            # The CA may have asked while nobody answered, which is no failure of the names.
            spec = attempt.case.spec
            await self._write_down(lambda ledger: ledger.order_closed(spec.target), term)
            raise Transient(f"the order was interrupted: {error}") from error
        finally:
            await _ended(preparing)
        bundle = checked_bundle(key_pem, chain.pem, names, self._clock.now())
        missing = None if chain.is_preferred else issuer.preferred_chain
        return _Obtained(order.url, signer.account_url, bundle, missing)

    def _ordering(self, issuer: Issuer, signer: Signer) -> Ordering:
        return Ordering(self._sessions[issuer.name], signer, self._solver, self._clock)

    async def _made(
        self, ordering: Ordering, attempt: Attempt, signer: Signer, term: Term
    ) -> OrderState:
        """A new order. What it costs is written down before the CA hears of it."""
        case = attempt.case
        await self._require_profile(case)
        self._require_calendar(attempt)
        if case.marks is None or case.marks.account_url != signer.account_url:
            attempt.replaces_nothing()
        await self._spend(attempt, term)
        replaced = attempt.replaced
        order = await ordering.create(attempt.names, case.spec.profile, replaced)
        attempt.is_made = True
        if replaced and order.replaces is None:
            await self._count_in_full(attempt, term)
        return order

    async def _count_in_full(self, attempt: Attempt, term: Term) -> None:
        """The CA took the order for none that replaces another, and so it has counted it."""
        spent, _ = attempt.costs()
        attempt.replaces_nothing()
        costs = {k: v for k, v in attempt.costs()[0].items() if k not in spent}
        await self._ledger.change(lambda ledger: ledger.spent(costs, attempt.begun_at), term)

    async def _require_profile(self, case: Case) -> None:
        """Raises Permanent where the CA has no such profile; its own words say less."""
        profile, known = case.spec.profile, (await self._sessions[case.issuer.name].meta()).profiles
        if profile and profile not in known:
            has = ", ".join(sorted(known)) or "none"
            raise Permanent(
                f"{case.issuer.name} has no profile {profile}; it has: {plain(has)}",
                problem_type="invalidProfile",
            )

    def _require_calendar(self, attempt: Attempt) -> None:
        """Raises Transient where the order was decided before it was known what time it is."""
        if abs(self._zero_at() - attempt.zero_at) > TOLERANCE:
            raise Transient(
                "the calendar of this machine is wrong; it was decided anew by the CA's"
            )

    def _zero_at(self) -> datetime:
        """The beginning of monotonic time on the calendar: another one once that is corrected."""
        return self._clock.now() - timedelta(seconds=self._clock.monotonic())

    async def _spend(self, attempt: Attempt, term: Term) -> None:
        """Return when what the order costs is written down. Raises OutOfBudget."""
        now = attempt.begun_at = self._clock.now()
        order, failures = attempt.costs()
        costs = {**order, **failures}
        until, scarce = limits.scarcest(self._ledger.ledger.budgets, costs, now)
        if scarce:
            limit, what = limits.words(scarce)
            problem = f"nothing is left of the limit on {limit} for {what} until {text(until)}"
            raise OutOfBudget(problem, retry_after_seconds=(until - now).total_seconds())
        attempt.is_spent = True
        await self._ledger.change(lambda ledger: ledger.spent(costs, now), term)

    async def _resumed(self, ordering: Ordering, attempt: Attempt, term: Term) -> OrderState | None:
        """The order that was left open for the same names at the same CA, if it can be used.

        One that is finalized already can't be without its key.
        """
        target = attempt.case.spec.target
        opened = self._ledger.ledger.orders.get(target)
        if opened is None:
            return None
        same_ca = opened.directory_url == attempt.case.issuer.directory_url
        if same_ca and set(opened.names) == set(attempt.names):
            try:
                order = await ordering.fetch(opened.url)
            except OrderGone:
                order = None
            if order and (order.status in ("pending", "ready") or self._keys.get(opened.url)):
                attempt.begun_at = opened.opened_at
                attempt.is_made = attempt.is_resumed = True
                return order
        await self._write_down(lambda ledger: ledger.order_closed(target), term)
        return None

    async def _prepare(self, order: OrderState, attempt: Attempt, term: Term) -> bytes:
        """The certificate's key; kept, and the order written down, when this returns."""
        spec, issuer = attempt.case.spec, attempt.case.issuer
        opened = OpenOrder(order.url, issuer.directory_url, attempt.names, self._clock.now())
        known = self._keys.get(order.url)
        key_pem = known or await self._new_key(spec.key_type)
        keeping = [] if known else [self._keys.keep(order.url, key_pem, term)]
        noting = (
            []
            if attempt.is_resumed
            else [self._ledger.change(lambda ledger: attempt.opened(ledger, opened), term)]
        )
        await asyncio.gather(*noting, *keeping)
        return key_pem

    async def _new_key(self, key_type: KeyType) -> bytes:
        if key_type.startswith("ecdsa"):
            return self._entropy.private_key(key_type)
        return await self._workers.run(lambda: self._entropy.private_key(key_type))

    async def _store(
        self,
        spec: CertificateSpec,
        bundle: Bundle,
        facts: Mapping[str, str | None],
        held: Held,
        term: Term,
    ) -> None:
        while True:
            try:
                return await self._secrets.write(spec, bundle, facts, term, instead_of=held)
            except Forbidden:
                raise  # a right is missing, which takes somebody's hand: the order stays open
            except Transient:
                await self._clock.sleep(STORE_RETRY_SECONDS)

    async def _forget(self, order_url: str, term: Term) -> None:
        """Drop a key that is stored; one that can't be dropped now goes at the next start."""
        with contextlib.suppress(Transient, Conflict):
            await self._keys.forget(order_url, term)

    async def _close(self, transition: Callable[[Ledger], Ledger], term: Term) -> None:
        """Write down the end of an order, and drop its key."""
        await self._write_down(transition, term)
        urls = frozenset(order.url for order in self._ledger.ledger.orders.values())
        with contextlib.suppress(Transient, Conflict):
            await self._keys.retain(urls, term)

    async def _write_down(self, transition: Callable[[Ledger], Ledger], term: Term) -> None:
        """Change the ledger; where it can't be written now, the next write brings it along."""
        with contextlib.suppress(Transient, Conflict):
            await self._ledger.change(transition, term)


async def _ended(task: asyncio.Task[bytes]) -> None:
    """Wait for a task that is no longer needed, whatever it ends with."""
    if not task.done():
        task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
