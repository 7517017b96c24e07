"""Nothing is taken from others: who has an ACME client of their own keeps it, on the same gateway.

A token that is not acmeistio's reaches whatever the user has at that path, while acmeistio issues
and renews.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from acmeistio.acme.transport import AiohttpTransport
from tests.cluster.api import Object
from tests.cluster.bed import PROFILE, SECRET_NAME, Bed
from tests.cluster.manifests import ingress
from tests.cluster.pages import pages
from tests.cluster.seen import names
from tests.contract.raw_acme import RawClient, certificate_key, csr
from tests.contract.raw_flow import authorization_of, finish, http_01, poll

OURS, THEIRS = "ours.mydomain.com", "theirs.mydomain.com"
PREFIX = "/.well-known/acme-challenge/"
ROUNDS = 5


@asynccontextmanager
async def _another_client(bed: Bed) -> AsyncIterator[RawClient]:
    """One with an account of its own."""
    http = AiohttpTransport(str(bed.ca.ca_bundle))
    try:
        client = await RawClient.at(http, bed.ca.directory_url)
        await client.new_account()
        yield client
    finally:
        await http.close()


def _start(bed: Bed) -> None:
    """Acmeistio has a certificate and is at home on this gateway."""
    bed.service("shop", "ours")
    bed.start_acmeistio()
    bed.apply(ingress("shop", "ours", OURS, service="ours"))
    bed.wait_for(lambda: OURS in names(bed, OURS), f"{OURS} is served")


async def _renewing(bed: Bed) -> int:
    """Renew ours again and again, until cancelled."""
    for number in itertools.count():
        before = bed.gateway.certificate(OURS).serial_number
        now = f"{datetime.now(UTC).isoformat()} {number}"
        change = {"metadata": {"annotations": {"acmeistio.io/renew-requested-at": now}}}
        bed.api.patch("Secret", "istio-system", SECRET_NAME, change)
        while bed.gateway.certificate(OURS).serial_number == before:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # the gateway tells nobody of a new certificate
    raise AssertionError


async def _certified(client: RawClient, host: str, served: MutableMapping[str, str]) -> None:
    """One order of the other client, to its certificate; `served` is what it lets be fetched."""
    order = await client.new_order(host, profile=PROFILE)
    authorization = await authorization_of(client, order.json)
    if authorization["status"] == "pending":
        challenge = http_01(authorization)
        served[challenge["token"]] = f"{challenge['token']}.{client.thumbprint()}"
        await client.post(challenge["url"], {})
    await poll(client, order.location, "pending")
    finalized = await client.post(order.json["finalize"], csr(certificate_key(), host))
    assert (await finish(client, order, finalized))["certificate"]


async def _beside_renewals(bed: Bed, orders: Callable[[RawClient], AsyncIterator[None]]) -> None:
    """Another client's orders while ours is renewed; it must have been, meanwhile."""
    before = bed.ca.count("certificates")
    renewing = asyncio.ensure_future(_renewing(bed))
    done = 0
    try:
        async with _another_client(bed) as client:
            async for _ in orders(client):
                done += 1
    finally:
        renewing.cancel()
        await asyncio.wait({renewing})
    assert bed.ca.count("certificates") - before > done, "nothing was renewed meanwhile"


class _OwnTokens(dict[str, str]):
    """Tokens that a backend of the user's answers."""

    def __init__(self, contents: MutableMapping[str, tuple[str, str]]) -> None:
        self._contents = contents

    def __setitem__(self, token: str, answer: str) -> None:
        self._contents[PREFIX + token] = ("text/plain", answer)


def test_a_backend_that_answers_its_own_tokens(clean_bed: Bed) -> None:
    """Its host validates at the CA, again and again, beside acmeistio's renewals."""
    contents: dict[str, tuple[str, str]] = {"/": ("text/plain", "theirs")}
    with pages(contents) as port:
        clean_bed.namespace("theirs")
        clean_bed.expose("theirs", "web", port)
        clean_bed.apply(_plain(ingress("theirs", "web", THEIRS, service="web")))
        _start(clean_bed)
        clean_bed.wait_for(
            lambda: clean_bed.gateway.get(f"http://{THEIRS}/").status == 200, "it is routed"
        )

        async def orders(client: RawClient) -> AsyncIterator[None]:
            for number in range(ROUNDS):
                host = THEIRS if number == 0 else f"n{number}.{THEIRS}"
                clean_bed.apply(_plain(ingress("theirs", f"web{number}", host, service="web")))
                clean_bed.wait_for(_is_routed(clean_bed, host), f"{host} is routed")
                await _certified(client, host, _OwnTokens(contents))
                yield

        asyncio.run(_beside_renewals(clean_bed, orders))


def test_a_route_such_as_cert_managers_solver_makes(clean_bed: Bed) -> None:
    """An Ingress for one token, exact, beside the host's own; gone again afterwards."""
    contents: dict[str, tuple[str, str]] = {}
    with pages(contents) as solver:
        clean_bed.service("theirs", "web")
        clean_bed.expose("theirs", "solver", solver)
        _start(clean_bed)

        async def orders(client: RawClient) -> AsyncIterator[None]:
            for number in range(ROUNDS):
                host = f"s{number}.{THEIRS}"
                clean_bed.apply(_plain(ingress("theirs", f"web{number}", host, service="web")))
                await _certified(client, host, _SolverRoutes(clean_bed, host, contents))
                clean_bed.api.delete("Ingress", "theirs", "solver")
                yield

        asyncio.run(_beside_renewals(clean_bed, orders))


class _SolverRoutes(dict[str, str]):
    """A solver's pod and its Ingress, as soon as a token is to be answered."""

    def __init__(self, bed: Bed, host: str, contents: MutableMapping[str, tuple[str, str]]) -> None:
        self._bed, self._host, self._contents = bed, host, contents

    def __setitem__(self, token: str, answer: str) -> None:
        self._contents[PREFIX + token] = ("text/plain", answer)
        solver = _plain(ingress("theirs", "solver", self._host, service="solver"))
        path = solver["spec"]["rules"][0]["http"]["paths"][0]
        path |= {"path": PREFIX + token, "pathType": "ImplementationSpecific"}
        self._bed.apply(solver)
        url = f"http://{self._host}{PREFIX}{token}"
        self._bed.wait_for(lambda: self._bed.gateway.get(url).text == answer, "it is answered")


def _plain(manifest: Object) -> Object:
    """The same without a word to acmeistio, and with no certificate of its."""
    del manifest["metadata"]["annotations"]["acmeistio.io/tls"]
    del manifest["spec"]["tls"]
    return manifest


def _is_routed(bed: Bed, host: str) -> Callable[[], bool]:
    return lambda: bed.gateway.get(f"http://{host}/").status == 200
