"""The account at each CA: made once, kept, found again, registered anew when the CA forgot it.

Owns the order of the steps in which a crash never makes a second account: its key is stored
before the CA hears of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from acmeistio.acme.account import account_key, register
from acmeistio.acme.session import Session, Signer
from acmeistio.errors import Misconfigured
from acmeistio.model import Issuer, KeyType
from acmeistio.ports import Entropy, Term, Workers
from acmeistio.stores.accounts import AccountStore, StoredAccount


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
        self._locks: dict[str, asyncio.Lock] = {}

    async def signer(self, issuer: Issuer, term: Term) -> Signer:
        """The signer for an issuer, with its account's URL."""
        async with self._locks.setdefault(issuer.name, asyncio.Lock()):
            if issuer.name not in self._signers:
                self._signers[issuer.name] = await self._opened(issuer, term)
            return self._signers[issuer.name]

    async def renounce(self, issuer: Issuer, signer: Signer, term: Term) -> None:
        """The CA does not know the signer's account: register its key anew at the next call."""
        async with self._locks.setdefault(issuer.name, asyncio.Lock()):
            if self._signers.get(issuer.name) is not signer:
                return
            stored = await self._store.read(issuer)
            if stored:
                await self._store.write(issuer, StoredAccount(stored.key_pem), term)
            del self._signers[issuer.name]

    async def _opened(self, issuer: Issuer, term: Term) -> Signer:
        stored = await self._store.read(issuer)
        if stored is None:
            key_pem = await self._workers.run(lambda: self._entropy.private_key(KeyType.ECDSA_P256))
            stored = StoredAccount(key_pem)
            await self._store.write(issuer, stored, term)
        try:
            key = account_key(stored.key_pem)
        except ValueError as error:
            raise Misconfigured(f"the account key of issuer {issuer.name} is unreadable") from error
        if stored.url:
            return Signer(key, stored.url)
        signer = await register(self._sessions[issuer.name], key, issuer.email)
        await self._store.write(issuer, StoredAccount(stored.key_pem, signer.account_url), term)
        return signer
