"""The yardstick: the least that an ACME client in this language must do, and nothing more.

Owns its own protocol code, so that no mistake or merit of acmeistio is in it: account, orders,
http-01 answered in the same process, finalize, download. It stores nothing, survives nothing and
knows one kind of key. The table of the bench sets acmeistio beside it.

    python -m tests.bench.bare_client --directory URL --ca-bundle FILE \
        --challenge-listen 127.0.0.1:PORT --certificates 50 --names 1

prints one line of JSON (see `report`).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import email.utils
import hashlib
import json
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

Json = dict[str, Any]
Result = TypeVar("Result")

# Pebble 2.10.1 deadlocks when one account has more orders under way than this.
AT_ONCE = 8
PROFILE = "default"
CHALLENGE_PATH = b"/.well-known/acme-challenge/"
JOSE = {"Content-Type": "application/jose+json"}
SHA_256 = ec.ECDSA(SHA256())

# The CA asks from several places at once: polled before the last of them was answered, the
# order is still pending and the request was wasted.
QUIET_SECONDS = 0.003
FIRST_POLL_SECONDS = 0.02
LAST_POLL_SECONDS = 1.0
NONCE_TRIES = 15


def b64(data: bytes) -> str:
    """URL-safe base64 without padding (RFC 8555 §6.1)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Failed(Exception):
    """The CA refused; there is no second try here."""


class Signer:
    """An account key: ES256 over flattened JWS (RFC 7515), and the key's thumbprint."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        point = self._key.public_key().public_numbers()
        x, y = (b64(number.to_bytes(32, "big")) for number in (point.x, point.y))
        self._jwk = f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'
        self.thumbprint = b64(hashlib.sha256(self._jwk.encode()).digest())
        self._who = f'"jwk":{self._jwk}'

    def is_account(self, url: str) -> None:
        """From now on name the account instead of showing the key."""
        self._who = f'"kid":"{url}"'

    def sign(self, url: str, nonce: str, payload: bytes) -> bytes:
        """One request's body. URLs and nonces come from the CA and hold no quotation marks."""
        protected = b64(f'{{"alg":"ES256",{self._who},"nonce":"{nonce}","url":"{url}"}}'.encode())
        body = b64(payload)
        r, s = decode_dss_signature(self._key.sign(f"{protected}.{body}".encode(), SHA_256))
        signature = b64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
        return (
            f'{{"protected":"{protected}","payload":"{body}","signature":"{signature}"}}'.encode()
        )


@dataclass(slots=True)
class Watch:
    """What one order knows about the CA's visits: which tokens were never asked for."""

    unseen: set[bytes]
    visited: asyncio.Event = field(default_factory=asyncio.Event)

    def see(self, token: bytes) -> None:
        """The CA has asked for this token; polling pays only once it asked for every one."""
        self.unseen.discard(token)
        if not self.unseen:
            self.visited.set()


class Responder:
    """Answers http-01 for the tokens of all orders, and tells their orders about it."""

    def __init__(self, thumbprint: str) -> None:
        self._suffix = f".{thumbprint}".encode()
        self._watches: dict[bytes, Watch] = {}

    def present(self, tokens: Sequence[bytes]) -> Watch:
        """Answer for these tokens, all of one order."""
        watch = Watch(set(tokens))
        self._watches.update(dict.fromkeys(tokens, watch))
        return watch

    def withdraw(self, tokens: Sequence[bytes]) -> None:
        """Answer no longer: their authorizations are final."""
        for token in tokens:
            del self._watches[token]

    def answer(self, request: bytes) -> bytes:
        """Only the request line counts; every connection serves one request."""
        target = request.split(b" ", 2)[1]
        token = target.removeprefix(CHALLENGE_PATH)
        watch = self._watches.get(token)
        if watch is None:
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        watch.see(token)
        body = token + self._suffix
        return (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
            b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )


class Visit(asyncio.Protocol):
    """One connection of the CA."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self._answer = answer
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer once the request's head is complete."""
        self._received += data
        if b"\r\n\r\n" in self._received:
            self._transport.write(self._answer(self._received))
            self._transport.close()


class Session:
    """Signed requests to one CA, with the nonces that its replies brought."""

    def __init__(self, http: aiohttp.ClientSession, signer: Signer, directory: Json) -> None:
        self._http = http
        self._signer = signer
        self._nonces: list[str] = []
        self.directory = directory

    async def post(self, url: str, payload: bytes = b"") -> tuple[Json, aiohttp.ClientResponse]:
        """POST, or POST-as-GET with the empty payload, of something that replies with JSON."""
        body, response = await self.fetch(url, payload)
        return json.loads(body), response

    async def fetch(self, url: str, payload: bytes = b"") -> tuple[bytes, aiohttp.ClientResponse]:
        """Sign, send, and send again under the nonce of a badNonce's own reply (§6.5)."""
        nonce = self._nonces.pop() if self._nonces else await self._new_nonce()
        for _ in range(NONCE_TRIES):
            signed = self._signer.sign(url, nonce, payload)
            async with self._http.post(url, data=signed, headers=JOSE) as response:
                body = await response.read()
            nonce = response.headers.get("Replay-Nonce", "")
            if response.status < 400:
                if nonce:
                    self._nonces.append(nonce)
                return body, response
            if b":badNonce" not in body:
                break
        raise Failed(f"{response.status} for {url}: {body[:300].decode(errors='replace')}")

    async def _new_nonce(self) -> str:
        async with self._http.head(self.directory["newNonce"]) as response:
            return response.headers["Replay-Nonce"]

    async def register(self) -> None:
        """Make the account that signs from now on."""
        _, response = await self.post(
            self.directory["newAccount"], b'{"termsOfServiceAgreed":true}'
        )
        self._signer.is_account(response.headers["Location"])


def retry_after(response: aiohttp.ClientResponse) -> float:
    """Seconds that the CA asked to wait, as a number or as a date; 0 without a word."""
    value = response.headers.get("Retry-After", "")
    if not value or value.isdigit():
        return float(value or 0)
    return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())


class Client:
    """One account that issues; as many orders under way as the caller starts."""

    def __init__(self, session: Session, responder: Responder) -> None:
        self._session = session
        self._responder = responder

    async def issue(self, names: Sequence[str]) -> bytes:
        """The chain as PEM, from newOrder to the download."""
        wish = {"identifiers": [{"type": "dns", "value": name} for name in names]}
        order, response = await self._session.post(
            self._session.directory["newOrder"],
            json.dumps(wish | {"profile": PROFILE}).encode(),
        )
        url = response.headers["Location"]
        order = await self._authorize(url, order)
        order, response = await self._session.post(
            order["finalize"], json.dumps({"csr": b64(certificate_request(names))}).encode()
        )
        if order["status"] != "valid":
            order = await self._poll(url, "valid", retry_after(response) or QUIET_SECONDS)
        chain, _ = await self._session.fetch(order["certificate"])
        return chain

    async def _authorize(self, url: str, order: Json) -> Json:
        """Every challenge is answerable before the CA hears of the first (§7.5.1)."""
        if order["status"] == "ready":
            return order
        replies = await together(self._session.post(link) for link in order["authorizations"])
        challenges = [
            challenge
            for authorization, _ in replies
            if authorization["status"] == "pending"
            for challenge in authorization["challenges"]
            if challenge["type"] == "http-01"
        ]
        tokens = [challenge["token"].encode() for challenge in challenges]
        watch = self._responder.present(tokens)
        try:
            await together(self._session.post(each["url"], b"{}") for each in challenges)
            return await self._poll(url, "ready", 0, watch)
        finally:
            self._responder.withdraw(tokens)

    async def _poll(self, url: str, want: str, wait: float, watch: Watch | None = None) -> Json:
        """Ask for the order until it is as wanted; a visit of the CA makes asking worthwhile."""
        backoff = FIRST_POLL_SECONDS
        while True:
            await asyncio.sleep(wait)
            if watch is not None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(watch.visited.wait(), backoff)
                    watch.visited.clear()
                    await asyncio.sleep(QUIET_SECONDS)
            order, response = await self._session.post(url)
            if order["status"] == want:
                return order
            if order["status"] == "invalid":
                raise Failed(f"order {url} is invalid: {order.get('error')}")
            wait = retry_after(response) or (0 if watch is not None else backoff)
            backoff = min(2 * backoff, LAST_POLL_SECONDS)


def certificate_request(names: Sequence[str]) -> bytes:
    """A new key and its CSR with every name in the SAN and an empty subject, as DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    builder = x509.CertificateSigningRequestBuilder(x509.Name([]))
    return builder.add_extension(alternatives, False).sign(key, SHA256()).public_bytes(Encoding.DER)


async def together(work: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """All at once; the connection pool is the bound. One alone needs no task."""
    items = list(work)
    return [await items[0]] if len(items) == 1 else list(await asyncio.gather(*items))


@contextlib.asynccontextmanager
async def client(directory: str, ca_bundle: str, host: str, port: int) -> AsyncIterator[Client]:
    """A registered account, and the challenge port open."""
    signer = Signer()
    responder = Responder(signer.thumbprint)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Visit(responder.answer), host, port, backlog=512)
    connector = aiohttp.TCPConnector(
        ssl=ssl.create_default_context(cafile=ca_bundle), limit=2 * AT_ONCE
    )
    async with (
        server,
        aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
        ) as http,
    ):
        async with http.get(directory) as response:
            session = Session(http, signer, await response.json())
        await session.register()
        yield Client(session, responder)


async def issue_all(issuer: Client, orders: Sequence[Sequence[str]], at_once: int) -> list[bytes]:
    """Every order's chain; workers take the next order from one queue."""
    queue = iter(orders)

    async def worker() -> list[bytes]:
        return [await issuer.issue(names) for names in queue]

    shares = await together(worker() for _ in range(min(at_once, len(orders))))
    return [chain for share in shares for chain in share]


def report(started: float, ready: float, chains: Sequence[bytes]) -> Json:
    """What the harness reads: both clocks, and how many chains really came."""
    done = time.time()
    return {
        "certificates": len({chain for chain in chains if b"BEGIN CERTIFICATE" in chain}),
        "seconds_from_start": done - started,
        "seconds_from_ready": done - ready,
        "cpu_seconds": time.process_time(),
    }


async def run(options: argparse.Namespace) -> Json:
    """One measured run."""
    ready = time.time()
    host, _, port = options.challenge_listen.rpartition(":")
    number = count()
    orders = [
        [f"name-{next(number)}.bench.example" for _ in range(options.names)]
        for _ in range(options.certificates)
    ]
    async with client(options.directory, options.ca_bundle, host, int(port)) as issuer:
        chains = await issue_all(issuer, orders, options.at_once)
        return report(options.started or ready, ready, chains)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run once, as told by the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", required=True)
    parser.add_argument("--ca-bundle", required=True)
    parser.add_argument("--challenge-listen", required=True, metavar="HOST:PORT")
    parser.add_argument("--certificates", type=int, default=1)
    parser.add_argument("--names", type=int, default=1, help="names in each certificate")
    parser.add_argument("--at-once", type=int, default=AT_ONCE)
    parser.add_argument("--started", type=float, help="when the process was started (epoch)")
    options = parser.parse_args(arguments)
    print(json.dumps(asyncio.run(run(options))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
