"""Backends with contents of a test's own: pages, and tokens of another ACME client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from pebble.processes import LOOPBACK

Contents = Mapping[str, tuple[str, str]]
"""Path → media type and text."""


class _Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    server: _Server

    def do_GET(self) -> None:
        """Answer with what the contents have now, else 404."""
        path = self.path.partition("?")[0]
        kind, text = self.server.contents.get(path, ("text/plain", ""))
        self.send_response(200 if path in self.server.contents else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        super().__init__((LOOPBACK, 0), _Page)


@contextmanager
def pages(contents: Contents) -> Iterator[int]:
    """A backend on a free loopback port, which is given. `contents` may change meanwhile."""
    with _Server(contents) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
