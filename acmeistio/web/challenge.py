"""The challenge port: HTTP in front of Tokens.answer, and nothing else."""

from __future__ import annotations

from aiohttp import web

from acmeistio.tokens import Request, Tokens
from acmeistio.web.serving import application


def challenge_application(tokens: Tokens) -> web.Application:
    """Answer every request by `tokens`; no body is read, no error tells anything."""

    async def answer(request: web.Request) -> web.Response:
        answered = tokens.answer(_request(request))
        response = web.Response(
            status=answered.status, headers=answered.headers, body=answered.body
        )
        if request.body_exists:
            response.force_close()
        return response

    app = application()
    app.router.add_route("*", "/{anything:.*}", answer)
    return app


def _request(request: web.Request) -> Request:
    """What Tokens look at; the path as it was sent, so that nothing is decoded on the way."""
    path, _, query = request.raw_path.partition("?")
    return Request(
        method=request.method,
        path=path,
        query=query,
        host=request.headers.get("Host", ""),
        scheme=request.headers.get("X-Forwarded-Proto", request.scheme),
    )
