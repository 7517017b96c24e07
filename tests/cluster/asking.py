"""A client of the gateway that never stops asking, as the browsers of a user's users do.

    with Asking(bed.gateway, bed.root, hosts) as asking:
        ...  # whatever must disturb nobody
    assert asking.failures == []

Each host over HTTPS and over HTTP, each request on a connection of its own: so a listener that is
closed for a moment, a certificate that is another's, or a route that is missing shows.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Self

from tests.cluster.gateway import TIMEOUT_SECONDS, Gateway, ask

PAUSE_SECONDS = 0.02
SCHEMES = ("https", "http")


@dataclass(frozen=True)
class Failure:
    """A request that was not answered as it must be."""

    url: str
    seconds: float
    """Since the first request of all."""
    what: str


class Asking:
    """Asks from the beginning of its block to the end, for each URL in a thread of its own.

    `root` is what certificates are verified by; without it any will do, such as a placeholder. An
    answer is right below 400, and with 200 only if it has the text `says`.
    """

    def __init__(
        self,
        gateway: Gateway,
        root: Path | None,
        hosts: Iterable[str],
        *,
        schemes: Iterable[str] = SCHEMES,
        says: str = "Hello from ",
    ) -> None:
        self._gateway = gateway
        self._trust = _trust(root)
        self._says = says
        self._ends = Event()
        self._lock = Lock()
        self._begin = time.monotonic()
        places = [(scheme, host) for scheme in schemes for host in hosts]
        self._threads = [Thread(target=self._ask_on, args=place) for place in places]
        self.failures: list[Failure] = []
        self.statuses: Counter[tuple[str, int]] = Counter()
        """Answers by URL and status."""
        self.longest_seconds = 0.0
        """That an answer took."""

    def __enter__(self) -> Self:
        self._begin = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()

    @property
    def answers(self) -> int:
        """How many there were."""
        return self.statuses.total()

    @property
    def fewest(self) -> int:
        """Answers of the URL that had the fewest."""
        by_url: Counter[str] = Counter()
        for (url, _), count in self.statuses.items():
            by_url[url] += count
        return min(by_url.values()) if len(by_url) == len(self._threads) else 0

    def __str__(self) -> str:
        """For the report of a run."""
        return (
            f"{self.answers} answers, {len(self.failures)} failures, "
            f"the longest took {self.longest_seconds * 1000:.0f} ms"
        )

    def _ask_on(self, scheme: str, host: str) -> None:
        while not self._ends.is_set():
            self._ask_once(scheme, host)
            self._ends.wait(PAUSE_SECONDS)

    def _ask_once(self, scheme: str, host: str) -> None:
        url = f"{scheme}://{host}/"
        begin = time.monotonic()
        status, what = None, None
        try:
            with closing(self._connection(scheme, host)) as connection:
                answer = ask(connection, host)
        except (OSError, http.client.HTTPException) as error:
            what = f"{type(error).__name__}: {error}"
        else:
            status = answer.status
            is_right = self._says in answer.text if status == HTTPStatus.OK else status < 400
            what = None if is_right else f"{status} {answer.text}"
        self._count(url, status, what, begin)

    def _count(self, url: str, status: int | None, what: str | None, begin: float) -> None:
        with self._lock:
            if status is not None:
                self.statuses[url, status] += 1
                self.longest_seconds = max(self.longest_seconds, time.monotonic() - begin)
            if what is not None:
                self.failures.append(Failure(url, begin - self._begin, what))

    def _connection(self, scheme: str, host: str) -> http.client.HTTPConnection:
        port = self._gateway.https_port if scheme == "https" else self._gateway.http_port
        sock = socket.create_connection((self._gateway.address, port), TIMEOUT_SECONDS)
        # Else a request waits 40 ms for the acknowledgement of the handshake's last message.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if scheme == "https":
            try:
                sock = self._trust.wrap_socket(sock, server_hostname=host)
            except BaseException:
                sock.close()
                raise
        connection = http.client.HTTPConnection(self._gateway.address)
        connection.sock = sock
        return connection


def _trust(root: Path | None) -> ssl.SSLContext:
    """Made once: to read a root for every connection would be most of the work."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if root is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(str(root))
    return context
