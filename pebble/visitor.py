"""The eyes of the demo: what a host is served with, believed only when it verifies.

Two views of it: over HTTPS through Envoy, as a browser would, and from the files that acmeistio
writes, for machines without Envoy. Both trust Pebble's root and nothing else.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from pebble.processes import LOOPBACK

TIMEOUT_SECONDS = 5.0


class NotServed(Exception):
    """A host has no certificate that verifies, or did not answer with 200."""


@dataclass(frozen=True)
class Served:
    """A verified certificate, and the first line of what the host said."""

    serial: str
    names: frozenset[str]
    said: str


class View(Protocol):
    """A way to see what a host is served with."""

    def name(self, host: str) -> str:
        """What is looked at, for the terminal."""

    def look(self, host: str) -> Served:
        """What is served now; raises NotServed."""


@dataclass(frozen=True)
class HttpsView:
    """By a new HTTPS connection to a loopback port, verified for the host's name."""

    port: int
    root: Path
    address: str = LOOPBACK

    def name(self, host: str) -> str:
        """See View.name."""
        return f"https://{host}"

    def look(self, host: str) -> Served:
        """See View.look."""
        try:
            return self._look(host)
        except ssl.SSLCertVerificationError as error:
            raise NotServed(error.verify_message.partition(",")[0]) from error
        except (ConnectionResetError, ssl.SSLEOFError) as error:
            raise NotServed("connection reset") from error
        except (OSError, http.client.HTTPException) as error:
            raise NotServed(f"{type(error).__name__}: {error}") from error

    def _look(self, host: str) -> Served:
        trust = ssl.create_default_context(cafile=str(self.root))
        with (
            _connect(self.address, self.port) as plain,
            trust.wrap_socket(plain, server_hostname=host) as secure,
        ):
            certificate: dict[str, Any] = secure.getpeercert() or {}
            return Served(
                serial=_serial(int(certificate["serialNumber"], 16)),
                names=frozenset(name for _, name in certificate["subjectAltName"]),
                said=_get(secure, host),
            )


@dataclass(frozen=True)
class FileView:
    """From a PEM file, its chain verified for the host's name; nothing is asked of a server."""

    chain: Path
    root: Path

    def name(self, host: str) -> str:
        """See View.name."""
        return host

    def look(self, host: str) -> Served:
        """See View.look."""
        try:
            leaf, *others = x509.load_pem_x509_certificates(self.chain.read_bytes())
            verifier = (
                PolicyBuilder()
                .store(Store(x509.load_pem_x509_certificates(self.root.read_bytes())))
                .build_server_verifier(x509.DNSName(host))
            )
            verifier.verify(leaf, others)
        except (OSError, ValueError, VerificationError) as error:
            why = str(error).removeprefix("validation failed: ").partition(" (")[0]
            raise NotServed(why) from error
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return Served(
            serial=_serial(leaf.serial_number),
            names=frozenset(names.get_values_for_type(x509.DNSName)),
            said=f"in {self.chain.name}",
        )


def _connect(address: str, port: int) -> socket.socket:
    plain = socket.create_connection((address, port), TIMEOUT_SECONDS)
    # Else the request waits 40 ms for the acknowledgement of the handshake's last message.
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return plain


def _get(secure: ssl.SSLSocket, host: str) -> str:
    connection = http.client.HTTPConnection(host)
    connection.sock = secure
    connection.request("GET", "/")
    answer = connection.getresponse()
    text = answer.read().decode(errors="replace").strip()
    if answer.status != http.HTTPStatus.OK:
        raise NotServed(f"HTTP {answer.status}: {text}")
    return text.partition("\n")[0]


def _serial(number: int) -> str:
    """As acmeistio's log writes it."""
    return f"{number:x}"
