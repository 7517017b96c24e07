"""An API server that plays a script: each request gets the next answer, whatever it asks.

    async with scripted(page(INGRESS), watch(added(INGRESS), then="hang")) as server:
        client = await server.client()
    server.asked            # the requests, with path and query

It speaks HTTP on loopback, so that the real client is what is tested. After the last answer it
answers 503.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from acmeistio.kube.client import Client
from acmeistio.ports import Manifest

TOKEN = "Bearer very-secret-token"

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class ScriptedServer:
    """What was asked, and what is still to be answered."""

    def __init__(self, *answers: Answer) -> None:
        self.asked: list[web.BaseRequest] = []
        self.bodies: list[tuple[str, Any]] = []
        """Method and body of each."""
        self.answers = [*answers]
        self.url = ""
        self.is_ready = True
        """What /readyz says, which is no part of the script."""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The next answer."""
        if request.path == "/readyz":
            return web.Response(status=200 if self.is_ready else 500)
        self.asked.append(request)
        self.bodies.append((request.method, json.loads(await request.read() or "null")))
        answer = self.answers.pop(0) if self.answers else status(503)
        return await answer(request)

    async def until_asked(self, count: int, *, seconds: float = 10.0) -> None:
        """Return when there were so many requests."""
        async with asyncio.timeout(seconds):
            while len(self.asked) < count:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.005)

    async def client(self) -> Client:
        """A client that was told to come here."""

        async def dial() -> ApiClient:
            configuration = Configuration(host=self.url, api_key={"BearerToken": TOKEN})
            return ApiClient(configuration)

        client = Client(dial)
        await client.open()
        return client


@contextlib.asynccontextmanager
async def scripted(*answers: Answer) -> AsyncIterator[ScriptedServer]:
    """The server, listening."""
    server = ScriptedServer(*answers)
    runner = web.ServerRunner(web.Server(server.handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}"
    try:
        yield server
    finally:
        await runner.cleanup()


def document(body: Any, code: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """A whole answer."""

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(body, status=code, headers=headers)

    return answer


def status(code: int, message: str = "", headers: Mapping[str, str] | None = None) -> Answer:
    """A refusal."""
    return document({"kind": "Status", "code": code, "message": message}, code, headers)


def page(*manifests: Manifest, version: int = 10, rest: str = "") -> Answer:
    """A page of a list."""
    metadata = {"resourceVersion": str(version), "continue": rest}
    return document({"kind": "List", "metadata": metadata, "items": [*manifests]})


def watch(*chunks: bytes, then: str = "end") -> Answer:
    """A watch that tells this, and then ends, is cut off, or stays silent (hang)."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        if then == "cut":
            assert request.transport
            request.transport.abort()
        elif then == "hang":
            await asyncio.Event().wait()
        return response

    return answer


def event(what: str, manifest: Manifest) -> bytes:
    """A line of a watch."""
    return json.dumps({"type": what, "object": manifest}).encode() + b"\n"


def bookmark(version: int) -> bytes:
    """A line that tells that nothing else has changed."""
    return event("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})
