"""Tiny HTTP servers on loopback, among them the helloworld of the demo, which says who answered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from pebble.processes import LOOPBACK


class QuickHandler(BaseHTTPRequestHandler):
    """Answers at once, on connections that are kept, and says nothing on the terminal."""

    protocol_version = "HTTP/1.1"
    # Without these, kept connections take 44 ms a request: headers and body go out in two packets.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:  # the library's name
        """The same for all methods: `reply`."""
        self.reply()

    do_HEAD = do_POST = do_GET  # noqa: N815  # the library's names

    def reply(self) -> None:
        """Answer one request, by `answer`."""
        raise NotImplementedError

    def answer(self, status: int, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Send a whole answer."""
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class LoopbackServer(ThreadingHTTPServer):
    """On a free loopback port."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__((LOOPBACK, 0), handler)


class _Hello(QuickHandler):
    """Answers with the backend's name, the host and the path asked for."""

    server: _HelloServer

    def reply(self) -> None:
        host = self.headers.get("Host", "")
        body = f"Hello from {self.server.called}\nhost {host}, path {self.path}\n".encode()
        self.answer(200, body, [("Content-Type", "text/plain; charset=utf-8")])


class _HelloServer(LoopbackServer):
    def __init__(self, called: str) -> None:
        self.called = called
        super().__init__(_Hello)


@contextmanager
def backend(name: str) -> Iterator[int]:
    """A backend on a free loopback port, which is given."""
    with serving(_HelloServer(name)) as port:
        yield port


@contextmanager
def serving(server: LoopbackServer) -> Iterator[int]:
    """Have a server answer, from a thread of its own; its port is given."""
    with server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
