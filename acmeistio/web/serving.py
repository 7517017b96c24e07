"""Listening on an address with aiohttp, hardened; knows no route."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from acmeistio.errors import Misconfigured

KEEPALIVE_SECONDS = 75.0
SHUTDOWN_SECONDS = 2.0
MAX_LINE_BYTES = 4096
MAX_BODY_BYTES = 1024
BACKLOG = 256


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; host "" is every address, IPv4 and IPv6."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def application() -> web.Application:
    """An application without routes that reads no bodies and does not say what it runs on."""
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.on_response_prepare.append(_hide_server)
    return app


async def serve(app: web.Application, address: Address) -> web.AppRunner:
    """Listen; `cleanup` of the answer ends it. Raises Misconfigured for a taken address."""
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        keepalive_timeout=KEEPALIVE_SECONDS,
        shutdown_timeout=SHUTDOWN_SECONDS,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_LINE_BYTES,
    )
    await runner.setup()
    site = web.TCPSite(runner, address.host or None, address.port, backlog=BACKLOG)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise Misconfigured(f"can't listen on {address}: {error.strerror}") from error
    return runner


async def _hide_server(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.pop("Server", None)
