"""The account at each CA: made once, kept, found again, registered anew when the CA forgot it.

Owns the order of the steps in which a crash never loses an account nor makes a second one: a key is
stored before the CA hears of it, a new account's as well as the one that is to replace it. What a
user asks for by annotations on the account's Secret is done here (`tend`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from acmeistio.acme.account import (
    AccountKey,
    Binding,
    account_key,
    deactivate,
    look_up,
    register,
    roll_over,
)
from acmeistio.acme.session import ProblemResponse, Session, Signer
from acmeistio.errors import AcmeistioError, Misconfigured, Permanent, Transient
from acmeistio.issuer import Issuer
from acmeistio.model import KeyType
from acmeistio.ports import Entropy, Term, Workers
from acmeistio.stores.accounts import AccountStore, StoredAccount

TEND_AGAIN_SECONDS = 600.0
"""What the CA would not do is asked for again after this; what it wants to be waited is a floor."""

_ENDED = frozenset({"unauthorized", "accountDoesNotExist"})
"""What a CA answers to whom it takes for nobody's account any more (RFC 8555 §7.3.6)."""


class AccountChange(StrEnum):
    """What was done with an account because a user asked for it."""

    ROLLED_OVER = "rolled-over"
    DEACTIVATED = "deactivated"


@dataclass(frozen=True, slots=True)
class AccountEvent:
    """A change of an account that is done; `account_url` is "" where the CA had none."""

    issuer: str
    change: AccountChange
    account_url: str


@dataclass(frozen=True, slots=True)
class _Failure:
    """What came of `tend`, for what was asked then; not tried again before `until`."""

    account: StoredAccount
    error: AcmeistioError
    until: float


class Accounts:
    """The signer of each issuer: created once, kept, found again, registered anew."""

    def __init__(
        self,
        store: AccountStore,
        sessions: Mapping[str, Session],
        entropy: Entropy,
        workers: Workers,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._entropy = entropy
        self._workers = workers
        self._signers: dict[str, Signer] = {}
        self._failures: dict[str, _Failure] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def signer(self, issuer: Issuer, term: Term) -> Signer:
        """The signer for an issuer, with its account's URL.

        Raises Permanent where the account was deactivated, or the CA will not make one.
        """
        async with self._lock(issuer):
            if issuer.name not in self._signers:
                self._signers[issuer.name] = await self._opened(issuer, term)
            return self._signers[issuer.name]

    async def renounce(self, issuer: Issuer, signer: Signer, term: Term) -> None:
        """The CA does not know the signer's account: register its key anew at the next call."""
        async with self._lock(issuer):
            if self._signers.get(issuer.name) is not signer:
                return
            stored = await self._store.read(issuer)
            if stored:
                await self._store.write(issuer, replace(stored, url=None), term)
            del self._signers[issuer.name]

    async def tend(self, issuer: Issuer, term: Term) -> tuple[AccountEvent, ...]:
        """Do what the annotations of the account's Secret ask for, and say what was done.

        Asks the CA nothing as long as nothing is asked for. Call it while no order of the issuer
        is under way: a new key makes its open challenges fail (RFC 8555 §7.3.5). Raises Transient,
        Permanent (for some minutes again and again, without asking the CA), Conflict,
        Misconfigured.
        """
        async with self._lock(issuer):
            stored = await self._store.read(issuer)
            if stored is None or stored.deactivated_at is not None:
                self._signers.pop(issuer.name, None)
                return ()
            if not stored.deactivate_requested and not stored.wants_rollover:
                return ()
            self._raise_again(issuer, stored)
            try:
                return await self._tended(issuer, stored, term)
            except (Transient, Permanent) as error:
                self._failures[issuer.name] = self._failed(issuer, stored, error)
                raise

    async def _tended(
        self, issuer: Issuer, stored: StoredAccount, term: Term
    ) -> tuple[AccountEvent, ...]:
        self._signers.pop(issuer.name, None)
        if stored.next_key_pem:
            settled = await self._settled(issuer, stored, term)
            if settled.key_pem != stored.key_pem and not settled.deactivate_requested:
                return (_event(issuer, AccountChange.ROLLED_OVER, settled.url),)
            stored = settled
        if stored.deactivate_requested:
            return (await self._deactivate(issuer, stored, term),)
        return (await self._roll_over(issuer, stored, term),)

    # ── opening ───────────────────────────────────────────────────────────────────────────────

    async def _opened(self, issuer: Issuer, term: Term) -> Signer:
        stored = await self._store.read(issuer)
        is_new = stored is None
        if stored is None:
            stored = StoredAccount(await self._new_key())
            await self._store.write(issuer, stored, term)
        if stored.deactivated_at is not None:
            raise Permanent(
                f"the account at {issuer.name} is deactivated; delete {self._store.place(issuer)} "
                "to register a new one",
                problem_type="unauthorized",
            )
        if stored.next_key_pem:
            stored = await self._settled(issuer, stored, term)
        key = self._key(issuer, stored.key_pem)
        if stored.url:
            return Signer(key, stored.url)
        signer = await self._registered(issuer, key, is_new=is_new)
        await self._store.write(issuer, replace(stored, url=signer.account_url), term)
        return signer

    async def _registered(self, issuer: Issuer, key: AccountKey, *, is_new: bool) -> Signer:
        """A new account, or that of a key the CA may know, which takes no external account."""
        session, external = self._sessions[issuer.name], issuer.external_account
        needs_external = external or (await session.meta()).external_account_required
        known = await look_up(session, key) if needs_external and not is_new else None
        if known:
            return known
        binding = None
        if external:
            binding = Binding(external.key_id, await self._store.external_key(external))
        return await register(session, key, issuer.email, binding)

    async def _settled(self, issuer: Issuer, stored: StoredAccount, term: Term) -> StoredAccount:
        """The account, once the CA has said which of the two keys it has.

        A next key that the CA has not taken, and that is still asked for, is kept: the request may
        be under way, and it is taken up again.
        """
        following = stored.next_key_pem or b""
        found = await look_up(self._sessions[issuer.name], self._key(issuer, following))
        if found and stored.url in (found.account_url, None):
            settled = _promoted(stored, found.account_url)
        elif stored.wants_rollover and not found:
            return stored
        else:
            settled = replace(stored, next_key_pem=None)
        await self._store.write(issuer, settled, term)
        return settled

    # ── what users ask for ────────────────────────────────────────────────────────────────────

    async def _roll_over(self, issuer: Issuer, stored: StoredAccount, term: Term) -> AccountEvent:
        """A new key for the account: stored, then told to the CA, then the only one."""
        session = self._sessions[issuer.name]
        old_key = self._key(issuer, stored.key_pem)
        signer = Signer(old_key, stored.url) if stored.url else await look_up(session, old_key)
        if not stored.next_key_pem:
            stored = replace(stored, next_key_pem=await self._new_key())
            await self._store.write(issuer, stored, term)
        if signer:  # else the CA has no account, and the next one gets the new key
            next_key = self._key(issuer, stored.next_key_pem or b"")
            await self._change_key(issuer, stored, signer, next_key, term)
        promoted = _promoted(stored, signer.account_url if signer else None)
        await self._store.write(issuer, promoted, term)
        return _event(issuer, AccountChange.ROLLED_OVER, promoted.url)

    async def _change_key(
        self,
        issuer: Issuer,
        stored: StoredAccount,
        signer: Signer,
        next_key: AccountKey,
        term: Term,
    ) -> None:
        """Return when the account has the next key. One that the CA refuses is forgotten."""
        session = self._sessions[issuer.name]
        try:
            await roll_over(session, signer, next_key)
        except Permanent:
            # Perhaps because it was done before, by a request whose answer was lost.
            found = await look_up(session, next_key)
            if found and found.account_url == signer.account_url:
                return
            await self._store.write(issuer, replace(stored, next_key_pem=None), term)
            raise

    async def _deactivate(self, issuer: Issuer, stored: StoredAccount, term: Term) -> AccountEvent:
        """The end of the account; whoever crashes before it is written down asks once more."""
        session, key = self._sessions[issuer.name], self._key(issuer, stored.key_pem)
        try:
            signer = Signer(key, stored.url) if stored.url else await look_up(session, key)
            if signer:
                await deactivate(session, signer)
        except ProblemResponse as error:
            if error.problem.type not in _ENDED:
                raise
        at = session.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        await self._store.write(issuer, replace(stored, deactivated_at=at), term)
        return _event(issuer, AccountChange.DEACTIVATED, stored.url)

    def _failed(self, issuer: Issuer, stored: StoredAccount, error: AcmeistioError) -> _Failure:
        floor = error.retry_after_seconds if isinstance(error, Transient) else None
        wait = max(TEND_AGAIN_SECONDS, floor or 0.0)
        now = self._sessions[issuer.name].clock.monotonic()
        return _Failure(_asked(stored), error, now + wait)

    def _raise_again(self, issuer: Issuer, stored: StoredAccount) -> None:
        failure = self._failures.pop(issuer.name, None)
        if failure is None or failure.account != _asked(stored):
            return
        if self._sessions[issuer.name].clock.monotonic() < failure.until:
            self._failures[issuer.name] = failure
            raise failure.error.with_traceback(None)

    def _lock(self, issuer: Issuer) -> asyncio.Lock:
        return self._locks.setdefault(issuer.name, asyncio.Lock())

    def _key(self, issuer: Issuer, key_pem: bytes) -> AccountKey:
        try:
            return account_key(key_pem)
        except ValueError as error:
            raise Misconfigured(f"the account key of issuer {issuer.name} is unreadable") from error

    async def _new_key(self) -> bytes:
        return await self._workers.run(lambda: self._entropy.private_key(KeyType.ECDSA_P256))


def _promoted(stored: StoredAccount, url: str | None) -> StoredAccount:
    """The account whose next key is its key now."""
    return replace(
        stored,
        key_pem=stored.next_key_pem or stored.key_pem,
        next_key_pem=None,
        url=url,
        rolled_over_for=stored.rollover_requested_at,
    )


def _asked(stored: StoredAccount) -> StoredAccount:
    """What is asked of an account, without how far it has come."""
    return replace(stored, next_key_pem=None)


def _event(issuer: Issuer, change: AccountChange, url: str | None) -> AccountEvent:
    return AccountEvent(issuer.name, change, url or "")
