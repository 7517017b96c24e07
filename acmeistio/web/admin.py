"""The admin port: is the loop alive, are tokens answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from acmeistio.web.serving import application

Handler = Callable[[web.Request], Awaitable[web.Response]]


def admin_application(alive: Callable[[], bool], ready: Callable[[], bool]) -> web.Application:
    """`/livez`: restart me if not; `/readyz`: this process answers tokens.

    Readiness never means "has certificates": a gateway must reach the challenge port first.
    """

    def probe(holds: Callable[[], bool]) -> Handler:
        async def handler(_request: web.Request) -> web.Response:
            return web.Response(status=200 if holds() else 503, text="ok" if holds() else "no")

        return handler

    app = application()
    app.router.add_get("/livez", probe(alive))
    app.router.add_get("/readyz", probe(ready))
    return app
