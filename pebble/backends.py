"""The helloworld of the demo: tiny HTTP servers that say who answered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from pebble.processes import LOOPBACK


class _Hello(BaseHTTPRequestHandler):
    """Answers every GET with the backend's name, the host and the path asked for."""

    protocol_version = "HTTP/1.1"
    # Without these, kept connections take 44 ms a request: headers and body go out in two packets.
    wbufsize = -1
    disable_nagle_algorithm = True

    server: _Server

    def do_GET(self) -> None:  # the library's name
        host = self.headers.get("Host", "")
        body = f"Hello from {self.server.called}\nhost {host}, path {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: the terminal is the demo's."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, called: str) -> None:
        self.called = called
        super().__init__((LOOPBACK, 0), _Hello)


@contextmanager
def backend(name: str) -> Iterator[int]:
    """A backend on a free loopback port, which is given."""
    with _Server(name) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,), name=name)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
