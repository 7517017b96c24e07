"""Carry out one Revoke: the CA revokes the stored certificate, and its Secret says so.

Owns the order of the steps: whoever crashes between them asks a CA that says it is done already.
That another certificate is then ordered is planning's business.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from acmeistio.accounts import Accounts
from acmeistio.acme.account import account_key
from acmeistio.acme.revocation import RevocationReason, revoke, revoke_by_key
from acmeistio.acme.session import Session
from acmeistio.errors import AcmeistioError, Conflict, NotLeader, Permanent, Transient
from acmeistio.issuer import Issuer
from acmeistio.model import CertificateSpec, Held, Revoke, Stored
from acmeistio.pki import leaf_der
from acmeistio.planning import setbacks
from acmeistio.planning.failing import REVOCATION
from acmeistio.planning.setbacks import Case, Setback
from acmeistio.ports import Clock, Term
from acmeistio.reasons import plain
from acmeistio.stores.memory import LedgerStore
from acmeistio.stores.secrets import REVOKED_SHA256, SecretStore


class Revoking:
    """Revokes certificates that this installation's accounts, or their own keys, may revoke."""

    def __init__(
        self,
        *,
        issuers: Mapping[str, Issuer],
        sessions: Mapping[str, Session],
        accounts: Accounts,
        secrets: SecretStore,
        ledger: LedgerStore,
        clock: Clock,
    ) -> None:
        self._issuers = issuers
        self._sessions = sessions
        self._accounts = accounts
        self._secrets = secrets
        self._ledger = ledger
        self._clock = clock

    async def carry_out(
        self, spec: CertificateSpec, decision: Revoke, held: Held, term: Term
    ) -> None:
        """Revoke what a Secret holds, or write down why not and when to try again."""
        if not isinstance(held, Stored):
            return
        try:
            await self._revoke(spec, decision, held, term)
        except NotLeader:
            raise
        except AcmeistioError as error:
            await self._failed(Case(spec, self._issuers[spec.issuer], held), error, term)

    async def _revoke(
        self, spec: CertificateSpec, decision: Revoke, held: Stored, term: Term
    ) -> None:
        """By the account that has it, else by the certificate's own key (RFC 8555 §7.6)."""
        issuer = self._made_by(held)
        session, reason = self._sessions[issuer.name], RevocationReason[decision.reason]
        pair = await self._secrets.pair(spec.target)
        certificate = leaf_der(pair.chain_pem)
        signer = await self._accounts.signer(issuer, term)
        if signer.account_url == held.marks.account_url:
            await revoke(session, certificate, reason, signer)
        else:
            await revoke_by_key(session, certificate, reason, account_key(pair.key_pem))
        await self._secrets.note(spec.target, {REVOKED_SHA256: held.leaf.sha256}, term)

    def _made_by(self, held: Stored) -> Issuer:
        """The issuer that the certificate is of. Raises Permanent where none of ours is it."""
        url = held.marks.directory_url
        found = next((i for i in self._issuers.values() if i.directory_url == url), None)
        if found is None:
            raise Permanent(f"no issuer of this installation has the directory {plain(url)}")
        return found

    async def _failed(self, case: Case, error: AcmeistioError, term: Term) -> None:
        setback, now = Setback(plain(error), REVOCATION), self._clock.now()
        with contextlib.suppress(Transient, Conflict):
            await self._ledger.change(
                lambda ledger: setbacks.refused(ledger, case, setback, now), term
            )
