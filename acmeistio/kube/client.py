"""Requests to the API server as plain data; every failure comes out as one of our errors.

Owns time limits, bounds, and that credentials which are refused are read anew. Knows no kind.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from acmeistio.errors import AcmeistioError, Misconfigured, Transient
from acmeistio.kube.connection import api_client
from acmeistio.kube.refusals import refusal

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

ANSWER_SECONDS = 30.0
CONNECT_SECONDS = 5.0
_REQUEST = aiohttp.ClientTimeout(total=ANSWER_SECONDS, sock_connect=CONNECT_SECONDS)

MAX_ANSWER_BYTES = 64 << 20
"""A page of a list; the API server takes objects of up to 1.5 MB."""
MAX_REFUSAL_BYTES = 1 << 16

RENEW_SECONDS = 5.0
"""Credentials are not read anew more often than this."""

_MERGE_PATCH = {"PATCH": "application/merge-patch+json"}


async def connect(kubeconfig: Path | None, context: str | None = None) -> Client:
    """The API server of this pod, or of a kubeconfig. Raises Misconfigured."""
    client = Client(lambda: api_client(kubeconfig, context))
    await client.open()
    return client


class Client:
    """One API server under one identity."""

    def __init__(self, dial: Callable[[], Awaitable[ApiClient]]) -> None:
        self._dial = dial
        self._api: ApiClient
        self._renewing = asyncio.Lock()
        self._dialled_at = 0.0

    async def open(self) -> None:
        """Read the credentials, as they are now."""
        self._api = await self._dial()
        self._dialled_at = time.monotonic()

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()  # type: ignore[no-untyped-call]

    async def request(
        self, method: str, path: str, body: Any = None, *, query: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """One request and its whole answer. Raises AcmeistioError."""
        async with self._answer(method, path, query, body, _REQUEST) as response:
            return _document(await _bounded(response, MAX_ANSWER_BYTES))

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, query: Mapping[str, str], *, silence_seconds: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A GET whose answer has no end: its bytes as they come. Raises AcmeistioError.

        Transient also when nothing comes for `silence_seconds`.
        """
        patience = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=silence_seconds
        )
        async with self._answer("GET", path, query, None, patience) as response:
            yield response.content.iter_any()

    @contextlib.asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Any,
        patience: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a request that succeeded."""
        try:
            api = self._api
            response = await _sent(api, method, path, query, body, patience)
            if response.status == HTTPStatus.UNAUTHORIZED and await self._renewed(api):
                _cut_off(response)
                response = await _sent(self._api, method, path, query, body, patience)
            try:
                if response.status >= HTTPStatus.BAD_REQUEST:
                    raise await self._refusal(response)
                yield response
            finally:
                _cut_off(response)
        except aiohttp.ClientConnectorCertificateError as error:
            # A CA that was replaced is read anew, as credentials are.
            await self._renewed(api)
            raise Transient(f"the API server's certificate is not trusted: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Transient(f"the API server can't be reached: {_why(error)}") from error

    async def _refusal(self, response: aiohttp.ClientResponse) -> AcmeistioError:
        """What a refusal means. An API server that starts forbids until it has read all roles."""
        said = await _bounded(response, MAX_REFUSAL_BYTES)
        error = refusal(response.status, said, response.headers.get("Retry-After", ""))
        if response.status == HTTPStatus.FORBIDDEN and await self._is_starting():
            return Transient(f"the API server is not ready yet ({error})")
        return error

    async def _is_starting(self) -> bool:
        """Whether the API server says that it is not ready, which it says to everybody."""
        response = await _sent(self._api, "GET", "/readyz", None, None, _REQUEST)
        _cut_off(response)
        return response.status == HTTPStatus.INTERNAL_SERVER_ERROR

    async def _renewed(self, refused: ApiClient) -> bool:
        """Whether there are other credentials than the refused ones, which may be the same.

        A kubelet replaces a pod's token long before it expires; a kubeconfig's may have changed.
        """
        async with self._renewing:
            if self._api is not refused:
                return True
            if time.monotonic() - self._dialled_at < RENEW_SECONDS:
                return False
            with contextlib.suppress(Misconfigured):
                await self.open()
                await refused.close()  # type: ignore[no-untyped-call]
            return self._api is not refused


async def _sent(
    api: ApiClient,
    method: str,
    path: str,
    query: Mapping[str, str] | None,
    body: Any,
    patience: aiohttp.ClientTimeout,
) -> aiohttp.ClientResponse:
    """The answer's head; it comes soon, however long the rest may take."""
    headers = {"Accept": "application/json"}
    if method in _MERGE_PATCH:
        headers["Content-Type"] = _MERGE_PATCH[method]
    async with asyncio.timeout(ANSWER_SECONDS):
        verb, url, headers, body, _ = await api.param_serialize(
            method,
            path,
            query_params=[*(query or {}).items()],
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = await api.call_api(verb, url, headers, body, _request_timeout=patience)
    response: aiohttp.ClientResponse = answer.response
    return response


def _cut_off(response: aiohttp.ClientResponse) -> None:
    """Drop the connection of an answer that was not read to its end, as a watch never is.

    To close it politely is to wait for a word of the other side that may not come.
    """
    if response.connection and (transport := response.connection.transport):
        transport.abort()
    response.release()


async def _bounded(response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > most_bytes:
            raise Transient(f"the API server answered with more than {most_bytes} bytes")
    return bytes(body)


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise Transient("what answered is no API server: its answer is not a JSON object")
    return document


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"{error.host}:{error.port}: {error.os_error}"
    return str(error) or type(error).__name__
