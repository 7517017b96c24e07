"""How a client of the bare protocol goes about it, step by step, with deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.contract.raw_acme import Answer, RawClient, certificate_key, csr

DEADLINE_SECONDS = 20
POLL_SECONDS = 0.05
PEBBLE_NEEDS_SECONDS = 0.3
"""After finalize; an order that is polled while its certificate is stored may wedge Pebble
2.10.1 (its issue #554)."""

Resource = dict[str, Any]


async def authorizations_of(client: RawClient, order: Resource) -> dict[str, Resource]:
    """The authorizations of an order, by name."""
    found = [(await client.post(url)).json for url in order["authorizations"]]
    return {each["identifier"]["value"]: each for each in found}


async def authorization_of(client: RawClient, order: Resource) -> Resource:
    """The authorization of an order for one name."""
    (authorization,) = (await authorizations_of(client, order)).values()
    return authorization


def http_01(authorization: Resource) -> Resource:
    """The HTTP-01 challenge of an authorization."""
    offered: dict[str, Resource] = {each["type"]: each for each in authorization["challenges"]}
    return offered["http-01"]


def serve(served: MutableMapping[str, str], client: RawClient, authorization: Resource) -> Resource:
    """The HTTP-01 challenge, once its answer is there to be fetched."""
    challenge = http_01(authorization)
    served[challenge["token"]] = f"{challenge['token']}.{client.thumbprint()}"
    return challenge


async def ready_order(
    served: MutableMapping[str, str], client: RawClient, profile: str, *names: str, **members: Any
) -> Answer:
    """A new order whose names are proved; each challenge is answered once."""
    order = await client.new_order(*names, profile=profile, **members)
    assert order.status == 201, order.json
    for authorization in (await authorizations_of(client, order.json)).values():
        if authorization["status"] == "pending":
            await client.post(serve(served, client, authorization)["url"], {})
    assert (await poll(client, order.location, "pending"))["status"] == "ready"
    return order


async def finish(client: RawClient, order: Answer, finalized: Answer) -> Resource:
    """The order once it is valid; not asked before Retry-After, nor before Pebble can bear it."""
    await asyncio.sleep(max(wait_seconds(finalized), PEBBLE_NEEDS_SECONDS))
    final = await poll(client, order.location, "processing")
    assert final["status"] == "valid"
    return final


async def certificate(
    served: MutableMapping[str, str],
    client: RawClient,
    profile: str,
    *names: str,
    key: ec.EllipticCurvePrivateKey | None = None,
    **members: Any,
) -> x509.Certificate:
    """A new certificate."""
    order = await ready_order(served, client, profile, *names, **members)
    request = csr(key or certificate_key(), *names)
    finalized = await client.post(order.json["finalize"], request)
    final = await finish(client, order, finalized)
    chain = (await client.post(final["certificate"])).response.body
    return x509.load_pem_x509_certificates(chain)[0]


async def poll(client: RawClient, url: str, while_it_is: str) -> Resource:
    """The resource once its status is another."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            answer = await client.post(url)
            if answer.json["status"] != while_it_is:
                resource: Resource = answer.json
                return resource
            await asyncio.sleep(max(wait_seconds(answer), POLL_SECONDS))


def wait_seconds(answer: Answer) -> float:
    """Retry-After in seconds, 0 where there is none (RFC 9110 §10.2.3)."""
    value = answer.header("retry-after")
    if not value:
        return 0
    if value.isdigit():
        return int(value)
    return (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
