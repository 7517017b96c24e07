"""A way to the CA on which an order can be stopped at one of its steps.

    with Turnstile(bed.ca, AT_FINALIZATION, folder) as turnstile:
        bed.start_acmeistio(**turnstile.settings)
        turnstile.wait_for_arrival()  # the CA has done it, and the program has not heard of it
        …
        turnstile.open()

An HTTPS server that hands requests on to Pebble as they are. Of ACME it knows only where Pebble
has its resources.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from threading import Event, Thread
from typing import Self
from urllib.parse import urlsplit

import urllib3

from pebble.backends import LoopbackServer, QuickHandler
from pebble.local_ca import LocalCa
from pebble.self_signed import self_signed

AT_ORDER, AT_CHALLENGE, AT_FINALIZATION = "/order-plz", "/chalZ/", "/finalize-order/"
ARRIVAL_SECONDS = 20.0
ANSWER_SECONDS = 10.0
_OF_ONE_CONNECTION = {"connection", "content-length", "transfer-encoding"}
"""Headers that are not handed on."""


class Turnstile:
    """In front of a CA from `with` to its end; answers to POSTs to `stop_at` wait for `open`."""

    def __init__(self, ca: LocalCa, stop_at: str, folder: Path) -> None:
        self._certificate = folder / "turnstile.pem"
        self._key = folder / "turnstile.key"
        self._server = _Server(ca, stop_at)
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def settings(self) -> dict[str, str | Path]:
        """Of a program that goes this way; Pebble names all its resources as it is asked for."""
        directory = f"https://localhost:{self._server.server_port}/dir"
        return {"directory": directory, "ca_bundle": self._certificate}

    def wait_for_arrival(self) -> None:
        """Return when an answer waits."""
        if not self._server.arrived.wait(ARRIVAL_SECONDS):
            raise TimeoutError(f"no POST to {self._server.stop_at} came")

    def open(self) -> None:
        """Let it through, and all that come."""
        self._server.opened.set()

    def close(self) -> None:
        """Have the next one wait."""
        self._server.opened.clear()
        self._server.arrived.clear()

    def __enter__(self) -> Self:
        certificate, key = self_signed("turnstile, local")
        self._certificate.write_bytes(certificate)
        self._key.write_bytes(key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate, self._key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.open()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Request(QuickHandler):
    server: _Server

    def reply(self) -> None:
        """Hand on; the answer may have to wait."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _OF_ONE_CONNECTION}
        answer = self.server.ca.request(self.command, self.path, body=body or None, headers=headers)
        if self.command == "POST" and self.path.startswith(self.server.stop_at):
            self.server.arrived.set()
            self.server.opened.wait()
        kept = [
            pair for pair in answer.headers.items() if pair[0].lower() not in _OF_ONE_CONNECTION
        ]
        self.answer(answer.status, answer.data, kept)


class _Server(LoopbackServer):
    def __init__(self, ca: LocalCa, stop_at: str) -> None:
        self.stop_at = stop_at
        self.arrived, self.opened = Event(), Event()
        self.ca = urllib3.HTTPSConnectionPool(
            "localhost",
            urlsplit(ca.directory_url).port,
            ca_certs=str(ca.ca_bundle),
            timeout=ANSWER_SECONDS,
            retries=False,
            maxsize=8,
        )
        super().__init__(_Request)

    def handle_error(self, *_: object) -> None:
        """Say nothing: a program that is killed leaves its connections behind."""
