"""Renewal by itself, seen by a client that never stops opening connections."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Self

from pebble.local_ca import CaOptions
from pebble.processes import LOOPBACK
from tests.pebble.conftest import FULL, MakeSite
from tests.pebble.program import HOSTS, WWW

VALIDITY_SECONDS = 60 if FULL else 16
RENEWALS = 3
CONNECTIONS_PER_SECOND = 100
THREADS = 10
TIMEOUT_SECONDS = 5.0


def test_three_renewals_unprompted_and_unnoticed(
    make_site: MakeSite, report: Callable[[str], None]
) -> None:
    """Certificates renew at half of their short lifetime; of 100 connections a second none fails.

    Each connection is new, verified against the CA's root, and asks for a page. One order per
    renewal; every certificate is served before the one before it is two thirds through.
    """
    site = make_site(CaOptions(validity_seconds=VALIDITY_SECONDS), through_envoy=True)
    program = site.start()
    site.wait_for_certificate(HOSTS)
    with Client(site.https_port, WWW, site.root) as client:
        site.wait_for_event(program, "certificate-issued", count=1 + RENEWALS, within=client.span)
        time.sleep(1)
    issued = program.events("certificate-issued")
    report(
        f"{RENEWALS} renewals of certificates valid for {VALIDITY_SECONDS} s: {client.made}"
        f" connections in {client.seconds:.0f} s, {len(client.failures)} failed,"
        f" {len(client.serials)} serials seen"
    )
    assert not client.failures
    assert client.made >= 0.9 * CONNECTIONS_PER_SECOND * client.seconds
    assert [event["reason"] for event in issued[1:]] == ["RenewalDue"] * RENEWALS
    assert [f"{serial:x}" for serial in client.serials] == [event["serial"] for event in issued]
    assert site.ca.count("orders") == 1 + RENEWALS
    assert not program.events("certificate-not-issued")
    for before, after in pairwise(client.seen_at):
        assert after - before < VALIDITY_SECONDS * 2 / 3


@dataclass
class Client:
    """Opens connections at a steady rate from a few threads, from `with` to its end."""

    port: int
    host: str
    root: Path
    made: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    serials: list[int] = field(default_factory=list)
    """In the order of their first sight."""
    seen_at: list[float] = field(default_factory=list)
    """When each was seen first."""

    span = RENEWALS * VALIDITY_SECONDS
    """Within so many seconds all renewals are due, and half as much to spare."""

    def __post_init__(self) -> None:
        self._trust = ssl.create_default_context(cafile=str(self.root))
        self._leaving, self._lock = threading.Event(), threading.Lock()
        self._threads = [
            threading.Thread(target=self._visit, args=(number,)) for number in range(THREADS)
        ]

    def __enter__(self) -> Self:
        self._begin = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        for thread in self._threads:
            thread.join()
        self.seconds = time.monotonic() - self._begin

    def _visit(self, number: int) -> None:
        """Every THREADS-th connection; one that is late does not delay the instants of others."""
        due = self._begin + number / CONNECTIONS_PER_SECOND
        while not self._leaving.wait(max(0.0, due - time.monotonic())):
            serial, failure = self._connect()
            self._count(serial, failure)
            due += THREADS / CONNECTIONS_PER_SECOND

    def _connect(self) -> tuple[int | None, str | None]:
        try:
            with (
                socket.create_connection((LOOPBACK, self.port), TIMEOUT_SECONDS) as plain,
                self._trust.wrap_socket(plain, server_hostname=self.host) as secure,
            ):
                secure.sendall(
                    f"GET / HTTP/1.1\r\nHost: {self.host}\r\nConnection: close\r\n\r\n".encode()
                )
                answer = secure.recv(1000)
                certificate = secure.getpeercert() or {}
                serial = int(str(certificate["serialNumber"]), 16)
        except OSError as error:
            return None, f"{type(error).__name__}: {error}"
        good = answer.startswith(b"HTTP/1.1 200 ")
        return serial, None if good else f"answered {answer[:80]!r}"

    def _count(self, serial: int | None, failure: str | None) -> None:
        with self._lock:
            self.made += 1
            if failure:
                self.failures.append(failure)
            if serial is not None and serial not in self.serials:
                self.serials.append(serial)
                self.seen_at.append(time.monotonic())
