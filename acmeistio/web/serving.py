"""Listening on an address with aiohttp, hardened; knows no route."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from acmeistio.errors import Misconfigured
from acmeistio.names import url_host

KEEPALIVE_SECONDS = 75.0
SHUTDOWN_SECONDS = 2.0
MAX_LINE_BYTES = 4096
MAX_BODY_BYTES = 1024
BACKLOG = 256

_log = logging.getLogger("acmeistio.web")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; host "" is every address, IPv4 and IPv6."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{url_host(self.host)}:{self.port}"


def application() -> web.Application:
    """An application without routes that reads no bodies and does not say what it runs on."""
    return web.Application(client_max_size=MAX_BODY_BYTES)


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
        logger=_log,
    )
    await runner.setup()
    if runner.server:  # there is one after setup()
        factory = functools.partial(app._make_request, _cls=_Request)  # noqa: SLF001
        runner.server.request_factory = factory
    site = web.TCPSite(runner, address.host or None, address.port, backlog=BACKLOG)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise Misconfigured(f"can't listen on {address}: {error.strerror}") from error
    return runner


class _Request(web.Request):
    """One whose response does not say what made it, not even that to what is no HTTP."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        await super()._prepare_hook(response)
        response.headers.pop("Server", None)


def _worth_a_line(record: logging.LogRecord) -> bool:
    """What is no HTTP is told to who sent it; strangers shall not fill the log."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_log.addFilter(_worth_a_line)
