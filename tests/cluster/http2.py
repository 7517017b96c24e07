"""A client that uses the TLS connection of one host for others, as browsers do over HTTP/2.

    with Http2(address, 443, "www.mydomain.com", root) as connection:
        connection.get("www.mydomain.com", "/")
        connection.get("mobile.mydomain.com", "/")     # the same connection

Says what came; whether it should is the test's business.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h2.connection
import h2.events

TIMEOUT_SECONDS = 10.0
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Answer:
    """Status and body."""

    status: int
    body: bytes


class Http2:
    """One connection, opened for `host`; the names of its certificate are in `names`."""

    def __init__(self, address: str, port: int, host: str, root: Path) -> None:
        trust = ssl.create_default_context(cafile=str(root))
        trust.set_alpn_protocols(["h2"])
        plain = socket.create_connection((address, port), TIMEOUT_SECONDS)
        self._socket = trust.wrap_socket(plain, server_hostname=host)
        certificate: dict[str, Any] = self._socket.getpeercert() or {}
        self.names = {name for kind, name in certificate["subjectAltName"] if kind == "DNS"}
        self._connection = h2.connection.H2Connection()
        self._connection.initiate_connection()
        self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def get(self, host: str, path: str = "/") -> Answer:
        """Ask for a path of any host on this connection."""
        stream = self._connection.get_next_available_stream_id()
        headers = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", host),
            (":path", path),
        ]
        self._connection.send_headers(stream, headers, end_stream=True)
        self._flush()
        return self._answer(stream)

    def _answer(self, stream: int) -> Answer:
        status, body = 0, bytearray()
        while True:
            received = self._socket.recv(_CHUNK)
            if not received:
                raise ConnectionResetError("the connection was closed")
            for event in self._connection.receive_data(received):
                match event:
                    case h2.events.ResponseReceived(headers=found, stream_id=of) if of == stream:
                        status = int(dict(found or ())[b":status"])
                    case h2.events.DataReceived(data=data, stream_id=of) if of == stream:
                        body += data or b""
                    case h2.events.StreamEnded(stream_id=of) if of == stream:
                        self._flush()
                        return Answer(status, bytes(body))
                    case h2.events.StreamReset() | h2.events.ConnectionTerminated():
                        raise ConnectionResetError(str(event))
            self._flush()

    def _flush(self) -> None:
        self._socket.sendall(self._connection.data_to_send())
