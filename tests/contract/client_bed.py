"""What tests of acmeistio's ACME client share: sessions, accounts in a store, what serves tokens.

`special_pebble` is a Pebble that wants external accounts and offers several chains.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, MutableMapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from acmeistio.accounts import Accounts
from acmeistio.acme.account import account_key, register
from acmeistio.acme.order import Chain, Ordering, OrderState
from acmeistio.acme.session import Session, Signer
from acmeistio.acme.solver import ChallengeResponse
from acmeistio.acme.transport import AiohttpTransport
from acmeistio.issuer import Issuer
from acmeistio.model import KeyType
from acmeistio.names import DnsName
from acmeistio.pki import csr_der, generate_key
from acmeistio.ports import Http, Manifest, Term
from acmeistio.stores.accounts import AccountStore
from acmeistio.system import SystemClock, SystemEntropy
from pebble.local_ca import CaOptions, LocalCa
from pebble.processes import free_ports
from tests.contract.ca_subjects import Subject
from tests.simulated.objects import ObjectStore, SimulatedObjects
from tests.simulated.system import ConstantLeadership, InlineWorkers
from tests.simulation.wire import Wire, WiredHttp, WiredObjects

NAMESPACE = "acmeistio"
ISSUER = "ca"
ACCOUNT_SECRET = f"acmeistio-account-{ISSUER}"
FETCH_SECONDS = 0.3
"""After finalize Pebble 2.10.1 must not be asked for less than that (its issue #554)."""

EXTERNAL_ID, EXTERNAL_KEY = (
    "customer-1",
    "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W",
)


@dataclass
class ServingSolver:
    """Serves tokens where the names of the suite are answered for."""

    served: MutableMapping[str, str]
    challenge_types: frozenset[str] = frozenset({"http-01"})
    presented: list[ChallengeResponse] = field(default_factory=list)

    async def present(self, responses: Sequence[ChallengeResponse]) -> None:
        """See Solver.present."""
        self.presented += responses
        self.served.update({each.token: each.key_authorization for each in responses})

    async def fetched(self, _: Sequence[ChallengeResponse]) -> None:
        """See Solver.fetched."""
        await asyncio.sleep(FETCH_SECONDS)

    async def fetched_again(self, _: Sequence[ChallengeResponse]) -> None:
        """See Solver.fetched_again."""
        await asyncio.sleep(FETCH_SECONDS)

    async def clean_up(self, responses: Sequence[ChallengeResponse]) -> None:
        """See Solver.clean_up."""
        for each in responses:
            del self.served[each.token]


def new_key() -> Any:
    """A new key of an account."""
    return account_key(generate_key(KeyType.ECDSA_P256))


@dataclass
class Client:
    """An account at a CA, and orders of it."""

    session: Session
    signer: Signer
    solver: ServingSolver

    @classmethod
    async def at(cls, ca: Subject) -> Client:
        """A client with a new account."""
        session = session_at(ca)
        return cls(session, await register(session, new_key(), None), ServingSolver(ca.served))

    @property
    def ordering(self) -> Ordering:
        """Orders of the account."""
        return Ordering(self.session, self.signer, self.solver, SystemClock())

    async def issued(
        self, profile: str, *names: str, key_pem: bytes | None = None, replaces: str | None = None
    ) -> x509.Certificate:
        """A new certificate."""
        order = await self.ordering.create(list(map(DnsName, names)), profile, replaces)
        return leaf_of(await self.finished(order, key_pem))

    async def finished(
        self, order: OrderState, key_pem: bytes | None = None, preferred: str | None = None
    ) -> Chain:
        """The chain that an order gives."""
        key_pem = key_pem or generate_key(KeyType.ECDSA_P256)

        async def csr() -> bytes:
            return csr_der(key_pem, order.names)

        return await self.ordering.complete(order, csr, preferred)


def session_at(ca: Subject) -> Session:
    """A session, without limits."""
    return Session(ca.http, SystemClock(), ca.directory_url)


def leaf_of(chain: Chain) -> x509.Certificate:
    """The certificate itself."""
    return x509.load_pem_x509_certificates(chain.pem)[0]


def der(certificate: x509.Certificate) -> bytes:
    """As revocation wants it."""
    return certificate.public_bytes(Encoding.DER)


class AccountBed:
    """Accounts over a store; each life is a new process, which may be cut off."""

    def __init__(self, http: Http, issuer: Issuer) -> None:
        self.http = http
        self.issuer = issuer
        self.store = ObjectStore()
        self.wire = Wire()
        self.leadership = ConstantLeadership()
        self.term = Term("simulated", 1)

    def live(self, *, cut_at: int = 0, after: bool = False) -> Accounts:
        """A new life."""
        self.wire = Wire(cut_at, after)
        self.session = Session(
            WiredHttp(self.wire, self.http), SystemClock(), self.issuer.directory_url
        )
        objects = WiredObjects(self.wire, SimulatedObjects(self.store, self.leadership))
        store = AccountStore(objects, NAMESPACE)
        return Accounts(store, {self.issuer.name: self.session}, SystemEntropy(), InlineWorkers())

    @property
    def secret(self) -> Manifest:
        """The account's Secret."""
        found = self.store.get("Secret", NAMESPACE, ACCOUNT_SECRET)
        assert found
        return found

    def note(self, name: str) -> str | None:
        """An annotation on it."""
        text: str | None = self.secret["metadata"]["annotations"].get(f"acmeistio.io/{name}")
        return text

    def annotate(self, **notes: str) -> None:
        """What a user asks for; `_` in a word stands for `-`."""
        words = {f"acmeistio.io/{key.replace('_', '-')}": text for key, text in notes.items()}
        self.store.edit(
            "Secret",
            NAMESPACE,
            ACCOUNT_SECRET,
            lambda secret: secret["metadata"]["annotations"].update(words),
        )


@dataclass(frozen=True)
class _SpecialOptions(CaOptions):
    def environment(self) -> dict[str, str]:
        return {**super().environment(), "PEBBLE_VA_ALWAYS_VALID": "1"}

    def configuration(self) -> dict[str, Any]:
        return {
            **super().configuration(),
            "externalAccountBindingRequired": True,
            "externalAccountMACKeys": {EXTERNAL_ID: EXTERNAL_KEY},
        }


@contextmanager
def special_pebble() -> Iterator[LocalCa]:
    """A Pebble that wants external accounts, offers several chains and validates nothing."""
    (http_port,) = free_ports(1)
    options = _SpecialOptions(chain_length=2, alternate_roots=2)
    with LocalCa(options, http_port=http_port) as ca:
        yield ca


@asynccontextmanager
async def transport_to(ca: LocalCa) -> AsyncIterator[AiohttpTransport]:
    """The way to it that acmeistio goes."""
    transport = AiohttpTransport(str(ca.ca_bundle))
    try:
        yield transport
    finally:
        await transport.close()
