"""Does with the accounts at the CAs what users ask for by annotations on their Secrets.

Owns when: beside the loop, one round at a time, and while nothing is ordered, since open orders
hold on to the key that they began with. What is done is the business of accounts.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from acmeistio.accounts import AccountEvent, Accounts
from acmeistio.errors import AcmeistioError, NotLeader
from acmeistio.issuer import Issuer
from acmeistio.ports import Term


class Tending:
    """The accounts of one installation. `done` is told of changes, `failed` of what went wrong."""

    def __init__(
        self,
        accounts: Accounts,
        done: Callable[[AccountEvent], None],
        failed: Callable[[str, BaseException], None],
    ) -> None:
        self._accounts = accounts
        self._done = done
        self._failed = failed
        self._round: asyncio.Task[None] | None = None

    def begin(self, issuers: Collection[Issuer], term: Term) -> None:
        """Begin a round over these issuers, unless one is under way."""
        if self._round is None or self._round.done():
            self._round = asyncio.ensure_future(self._tend(issuers, term))

    async def close(self) -> None:
        """End; what is half done is taken up at the next start."""
        if self._round:
            self._round.cancel()
            await asyncio.gather(self._round, return_exceptions=True)

    async def _tend(self, issuers: Collection[Issuer], term: Term) -> None:
        for issuer in issuers:
            try:
                for event in await self._accounts.tend(issuer, term):
                    self._done(event)
            except NotLeader:
                return
            except AcmeistioError as error:
                self._failed(f"account of {issuer.name}", error)
