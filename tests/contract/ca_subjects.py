"""The CAs that the contract suite runs on, and the table of where they legitimately differ."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from types import MappingProxyType

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from josepy.json_util import encode_b64jose

from acmeistio.ports import Http, HttpResponse
from pebble.local_ca import CaOptions as PebbleOptions
from pebble.local_ca import LocalCa, renewal_info
from pebble.processes import free_ports
from tests.simulated.ca import CaOptions, Profile, SimulatedCa

PROFILE = "default"
RETRY_AFTER_SECONDS = 1
BLOCKED = "blocked-domain.example"


@dataclass(frozen=True)
class Habits:
    """What a CA does in its own way where RFC 8555 leaves it free, or is not followed."""

    status_while_validated: str
    """Of a challenge that was answered (§7.1.6 names both)."""

    order_has_error_of_authorization: bool
    """Whether an order that failed by its authorization has the problem too (§7.1.3)."""

    subproblems_for_one_name: int
    """How many subproblems a rejection has where one name was rejected (§6.7.1)."""

    subproblems_for_two_names: int
    """And where two were."""

    gives_open_order_again: bool
    """Whether newOrder with the same names answers the pending order there is."""

    one_token_per_authorization: bool
    """Whether all challenges of an authorization have the same token."""

    unreadable_csr: str
    """The problem for a CSR that is no CSR."""

    order_lasts_days: int
    """How long a new order may take."""

    window_width_percent: float
    """How wide the window for renewal is, of 90 days (RFC 9773 leaves it to the CA)."""

    open_order_replaces: bool
    """Whether a certificate is replaced once the order is there (else once it is finalized)."""

    takes_key_of_another_account: bool
    """Whether a key that has an account already may become another one's, too (§7.3.5 forbids)."""

    status_of_deactivated: int
    """The HTTP status for an account that was deactivated (§7.3.6 has 401)."""

    replaces_unknown: tuple[int, str]
    """Status and problem of an order that replaces a certificate nobody knows."""

    replaces_stranger: tuple[int, str]
    """And of one that replaces a certificate of other names."""


SIMULATED_AS_BOULDER = Habits(
    status_while_validated="pending",
    order_has_error_of_authorization=False,
    subproblems_for_one_name=0,
    subproblems_for_two_names=2,
    gives_open_order_again=True,
    one_token_per_authorization=True,
    unreadable_csr="badCSR",
    order_lasts_days=7,
    window_width_percent=2,
    open_order_replaces=True,
    takes_key_of_another_account=False,
    status_of_deactivated=401,
    replaces_unknown=(404, "malformed"),
    replaces_stranger=(400, "malformed"),
)
PEBBLE_2_10_1 = Habits(
    status_while_validated="processing",
    order_has_error_of_authorization=True,
    subproblems_for_one_name=1,
    subproblems_for_two_names=1,
    gives_open_order_again=False,
    one_token_per_authorization=False,
    unreadable_csr="malformed",
    order_lasts_days=1,
    window_width_percent=100 * 48 / (90 * 24),
    open_order_replaces=False,
    takes_key_of_another_account=True,
    status_of_deactivated=403,
    replaces_unknown=(500, "serverInternal"),
    replaces_stranger=(500, "serverInternal"),
)


_TIMEOUT = aiohttp.ClientTimeout(total=10)
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})

_PEBBLE_OPTIONS = PebbleOptions(
    authz_reuse_percent=100,
    retry_after_seconds=(RETRY_AFTER_SECONDS, RETRY_AFTER_SECONDS),
    domain_blocklist=(BLOCKED,),
)
_OPTIONS = CaOptions(
    validation_delay_seconds=(0.01, 0.05),
    issuance_delay_seconds=(0.05, 0.2),
    retry_after_authorization_seconds=RETRY_AFTER_SECONDS,
    retry_after_order_seconds=RETRY_AFTER_SECONDS,
    profiles={
        PROFILE: Profile("what the suite asks for", timedelta(days=90), 100, ip_addresses=True)
    },
    default_profile=PROFILE,
)

EXTERNAL_ID, EXTERNAL_KEY = "customer-1", b"a MAC key, known to customer and CA"
ALTERNATES = 2
SPECIAL_PEBBLE_OPTIONS = replace(
    _PEBBLE_OPTIONS,
    external_accounts={EXTERNAL_ID: encode_b64jose(EXTERNAL_KEY)},
    alternate_roots=ALTERNATES,
)
SPECIAL_OPTIONS = replace(
    _OPTIONS, external_accounts={EXTERNAL_ID: EXTERNAL_KEY}, alternate_chains=ALTERNATES
)
"""A CA that wants external accounts, and has several chains to offer."""


Suggest = Callable[[x509.Certificate, datetime, datetime, str], None]
"""Override the renewal information of a certificate: its window and its explanation."""


@dataclass(frozen=True)
class Subject:
    """A CA under test; `served` is what every name answers, by token, `statuses` how if not 200."""

    habits: Habits
    http: Http
    directory_url: str
    root: x509.Certificate
    served: dict[str, str]
    statuses: dict[str, int]
    suggest: Suggest
    simulated: SimulatedCa | None = None


@asynccontextmanager
async def simulated(options: CaOptions = _OPTIONS) -> AsyncIterator[Subject]:
    """The simulated CA, in real time, so that both are judged by the same clock."""
    served: dict[str, str] = {}
    statuses: dict[str, int] = {}

    async def fetch(_host: str, path: str, _headers: Mapping[str, str]) -> tuple[int, bytes]:
        token = path.rpartition("/")[2]
        if token not in served:
            return 404, b""
        return statuses.get(token, 200), served[token].encode()

    ca = SimulatedCa(
        now=lambda: datetime.now(UTC),
        sleep=asyncio.sleep,
        random=Random(8555),
        fetch=fetch,
        options=options,
    )
    ca.blocked_names.add(BLOCKED)
    root = x509.load_pem_x509_certificate(ca.root_pem)

    def suggest(leaf: x509.Certificate, start: datetime, end: datetime, url: str) -> None:
        certificate = next(each for each in ca.certificates if each.leaf == leaf)
        ca.suggest(certificate, start, end, url)

    try:
        yield Subject(
            SIMULATED_AS_BOULDER, ca, ca.directory_url, root, served, statuses, suggest, ca
        )
    finally:
        await ca.aclose()


@asynccontextmanager
async def pebble(options: PebbleOptions = _PEBBLE_OPTIONS) -> AsyncIterator[Subject]:
    """Real Pebble on loopback, and a web server that all names resolve to."""
    served: dict[str, str] = {}
    statuses: dict[str, int] = {}
    (http_port,) = free_ports(1)
    async with _web_server(served, statuses, http_port):
        with LocalCa(options, http_port=http_port) as ca:
            trust = ssl.create_default_context(cafile=str(ca.ca_bundle))
            connector = aiohttp.TCPConnector(ssl=trust)
            async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session:
                root = x509.load_pem_x509_certificate(ca.root_pem())
                http = _Aiohttp(session)
                suggest = partial(_suggest_to_pebble, ca)
                yield Subject(
                    PEBBLE_2_10_1, http, ca.directory_url, root, served, statuses, suggest
                )


def _suggest_to_pebble(
    ca: LocalCa, leaf: x509.Certificate, start: datetime, end: datetime, url: str
) -> None:
    ca.set_renewal_info(leaf.public_bytes(Encoding.PEM), renewal_info(start, end, url))


@asynccontextmanager
async def _web_server(
    served: Mapping[str, str], statuses: Mapping[str, int], port: int
) -> AsyncIterator[None]:
    """Answers http-01 for every name, from `served` and `statuses`."""

    async def answer(request: web.Request) -> web.Response:
        token = request.match_info["token"]
        if token not in served:
            return web.Response(status=404)
        return web.Response(status=statuses.get(token, 200), body=served[token].encode())

    app = web.Application()
    app.router.add_get("/.well-known/acme-challenge/{token}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield
    finally:
        await runner.cleanup()


class _Aiohttp:
    """The port Http, without anything that a client of acmeistio's does to be good."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] = _NO_HEADERS, body: bytes = b""
    ) -> HttpResponse:
        """One request, within the session's timeout: a wedged Pebble fails the test."""
        async with self._session.request(
            method, url, headers=headers, data=body or None, allow_redirects=False
        ) as response:
            names = {name.lower() for name in response.headers}
            joined = {name: ", ".join(response.headers.getall(name)) for name in names}
            return HttpResponse(response.status, joined, await response.read())
