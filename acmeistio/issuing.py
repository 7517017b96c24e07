"""Carry out one Issue: account, order, checked bundle, Secret; and write down what came of it.

Owns the order of the steps in which a crash loses nothing: the account's key before the account,
the order's URL and the certificate's key before finalize, the Secret before both are forgotten.
Whether and when to issue is planning's business.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from acmeistio.accounts import Accounts
from acmeistio.acme.order import NamesFailed, OrderGone, Ordering, OrderState
from acmeistio.acme.session import ProblemResponse, Session, Signer
from acmeistio.acme.solver import Solver
from acmeistio.errors import Conflict, Forbidden, Misconfigured, Permanent, Transient
from acmeistio.model import CertificateSpec, Held, Issue, Issuer, KeyType, Marks
from acmeistio.pki import Bundle, Unfit, checked_bundle, csr_der
from acmeistio.planning import backoff
from acmeistio.planning.decide import armed_by
from acmeistio.planning.ledger import Failure, Ledger, OpenOrder, Pause
from acmeistio.ports import Clock, Entropy, Term, Workers
from acmeistio.reasons import plain
from acmeistio.stores.memory import LedgerStore, PendingKeys
from acmeistio.stores.secrets import SecretStore, issued_facts

STORE_RETRY_SECONDS = 1.0
"""A certificate that was got is kept in hand until its Secret can be written."""


@dataclass(frozen=True, slots=True)
class Issued:
    """The certificate is in its Secret; `facts` are the annotations it was stored with."""

    bundle: Bundle
    facts: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class NotIssued:
    """It is not, and the ledger says when to try again."""

    problem: str


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
        self, spec: CertificateSpec, issue: Issue, held: Held, term: Term
    ) -> Issued | NotIssued:
        """Get and store the certificate, or write down why not and when to try again.

        `held` is the Secret as the decision saw it. Raises NotLeader.
        """
        marks = held.marks if held else Marks()
        try:
            return await self._issue(spec, issue, held, term)
        except NamesFailed as error:
            await self._names_failed(spec, marks, error, term)
            return NotIssued(str(error))
        except (Transient, Conflict) as error:
            await self._delayed(spec, marks, error, term)
            return NotIssued(str(error))
        except (Permanent, Misconfigured, Unfit, OrderGone) as error:
            await self._refused(spec, marks, error, term)
            return NotIssued(str(error))

    async def _issue(self, spec: CertificateSpec, issue: Issue, held: Held, term: Term) -> Issued:
        issuer = self._issuers[spec.issuer]
        async with self._slots:
            self._require_unpaused(issuer)
            url, bundle = await self._obtain_known(spec, issue, issuer, term)
        renewed_for = held.marks.renew_requested_at if held else None
        facts = issued_facts(spec, bundle, issuer, renewed_for)
        await self._store(spec, bundle, facts, held, term)
        names = bundle.leaf.names
        await asyncio.gather(
            self._write_down(lambda ledger: ledger.issued(spec.target, issuer.name, names), term),
            self._forget(url, term),
        )
        return Issued(bundle, facts)

    def _require_unpaused(self, issuer: Issuer) -> None:
        """An order that waited for its slot must not reach a CA that asked to wait meanwhile."""
        pause = self._ledger.ledger.pauses.get(issuer.name)
        left = (pause.until - self._clock.now()).total_seconds() if pause else 0.0
        if pause and left > 0:
            raise Transient(pause.problem, retry_after_seconds=left, pauses_issuer=True)

    async def _obtain_known(
        self, spec: CertificateSpec, issue: Issue, issuer: Issuer, term: Term
    ) -> tuple[str, Bundle]:
        """Obtain; a CA that has forgotten the account meets it anew, once."""
        signer = await self._accounts.signer(issuer, term)
        try:
            return await self._obtain(spec, issue, issuer, signer, term)
        except ProblemResponse as error:
            if error.problem.type != "accountDoesNotExist":
                raise
        await self._accounts.renounce(issuer, signer, term)
        signer = await self._accounts.signer(issuer, term)
        return await self._obtain(spec, issue, issuer, signer, term)

    async def _obtain(
        self, spec: CertificateSpec, issue: Issue, issuer: Issuer, signer: Signer, term: Term
    ) -> tuple[str, Bundle]:
        """The URL of the finished order and the bundle it gave."""
        session = self._sessions[issuer.name]
        ordering = Ordering(session, signer, self._solver, self._clock)
        resumed = await self._resumed(ordering, spec, issue, term)
        order = resumed or await ordering.create(issue.names, spec.profile)
        preparing = asyncio.ensure_future(self._prepare(order, spec, issue, issuer, term))

        async def csr() -> bytes:
            return csr_der(await preparing, issue.names)

        try:
            chain_pem = await ordering.complete(order, csr)
            key_pem = await preparing
        except NamesFailed as error:
            if not resumed:
                raise
            # The CA may have asked while nobody answered, which is no failure of the names.
            await self._write_down(lambda ledger: ledger.order_closed(spec.target), term)
            raise Transient(f"the order was interrupted: {error}") from error
        finally:
            await _ended(preparing)
        return order.url, checked_bundle(key_pem, chain_pem, issue.names, self._clock.now())

    async def _resumed(
        self, ordering: Ordering, spec: CertificateSpec, issue: Issue, term: Term
    ) -> OrderState | None:
        """The order that was left open for the same names at the same CA, if it can be used.

        One that is finalized already can't be without its key.
        """
        opened = self._ledger.ledger.orders.get(spec.target)
        if opened is None:
            return None
        same_ca = opened.directory_url == self._issuers[spec.issuer].directory_url
        if same_ca and set(opened.names) == set(issue.names):
            try:
                order = await ordering.fetch(opened.url)
            except OrderGone:
                order = None
            if order and (order.status in ("pending", "ready") or self._keys.get(opened.url)):
                return order
        await self._write_down(lambda ledger: ledger.order_closed(spec.target), term)
        return None

    async def _prepare(
        self,
        order: OrderState,
        spec: CertificateSpec,
        issue: Issue,
        issuer: Issuer,
        term: Term,
    ) -> bytes:
        """The certificate's key; kept, and the order written down, when this returns."""
        opened = OpenOrder(order.url, issuer.directory_url, issue.names, self._clock.now())
        known = self._keys.get(order.url)
        key_pem = known or await self._new_key(spec.key_type)
        keeping = [] if known else [self._keys.keep(order.url, key_pem, term)]
        await asyncio.gather(
            self._ledger.change(lambda ledger: ledger.order_opened(spec.target, opened), term),
            *keeping,
        )
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

    async def _names_failed(
        self, spec: CertificateSpec, marks: Marks, error: NamesFailed, term: Term
    ) -> None:
        """Each name that failed waits by itself; the others go on without it."""
        now = self._clock.now()

        def transition(ledger: Ledger) -> Ledger:
            ledger = ledger.order_closed(spec.target)
            for failed in error.failures:
                if failed.name not in spec.declared_by:
                    continue
                digest = armed_by(spec, marks, failed.name)
                count = _count(ledger.names.get((spec.issuer, failed.name)), digest)
                failure = Failure(
                    count, backoff.after_failures(count, now), (digest,), str(failed.problem)
                )
                ledger = ledger.name_failed(spec.issuer, failed.name, failure)
            return ledger

        if not any(failed.name in spec.declared_by for failed in error.failures):
            return await self._refused(spec, marks, error, term)
        return await self._close(transition, term)

    async def _refused(
        self, spec: CertificateSpec, marks: Marks, error: Exception, term: Term
    ) -> None:
        """The order as a whole was refused; the same order again would be too."""
        now, digest = self._clock.now(), armed_by(spec, marks)

        def transition(ledger: Ledger) -> Ledger:
            count = _count(ledger.targets.get(spec.target), digest)
            retry_at = backoff.after_failures(count, now)
            failure = Failure(count, retry_at, (digest,), plain(error))
            return ledger.order_closed(spec.target).target_failed(spec.target, failure)

        await self._close(transition, term)

    async def _delayed(
        self, spec: CertificateSpec, marks: Marks, error: Exception, term: Term
    ) -> None:
        """Something that passes by itself; the order stays open and is resumed."""
        now, digest = self._clock.now(), armed_by(spec, marks)
        floor = error.retry_after_seconds if isinstance(error, Transient) else None

        def transition(ledger: Ledger) -> Ledger:
            if isinstance(error, Transient) and error.pauses_issuer:
                until = now + timedelta(seconds=floor or 0)
                return ledger.paused(spec.issuer, Pause(until, plain(error)))
            count = _count(ledger.targets.get(spec.target), digest, costly=False)
            retry_at = backoff.after_transients(count, now, floor)
            failure = Failure(count, retry_at, (digest,), plain(error), costly=False)
            return ledger.target_failed(spec.target, failure)

        await self._write_down(transition, term)

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


def _count(before: Failure | None, digest: str, *, costly: bool = True) -> int:
    """Failures in a row, this one included; another declaration or another kind starts anew."""
    same = before is not None and digest in before.armed_by and before.costly == costly
    return before.count + 1 if before and same else 1
