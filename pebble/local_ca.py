"""A real ACME CA on loopback: Pebble, and the DNS server it asks (pebble-challtestsrv).

    with LocalCa(http_port=5002) as ca:
        ...  # ca.directory_url, ca.ca_bundle

Owns their configuration, their processes and what their management ports can do. Traps of
Pebble 2.10.1 that every user meets:

- Always name a profile ("default" or "shortlived"): without one Pebble picks one at random.
- At most 8 orders of one account at once: Pebble deadlocks beyond, so give tests a deadline.
- A second POST to a challenge whose authorization is final hangs the whole server.
- It asks http-01 with `Host: name:port`, three times at once, and tries no second address.
"""

from __future__ import annotations

import json
import re
import ssl
import tempfile
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal

from pebble.processes import CACHE, LOOPBACK, Child, FromStartToStop, free_ports
from pebble.self_signed import self_signed

DAY_SECONDS = 86_400
REQUEST_SECONDS = 10

Counted = Literal[
    "accounts", "orders", "challenges", "finalizations", "certificates", "replacements"
]

# What Pebble logs when it has accepted a request. Lines "POST … -> calling handler()" come for
# requests refused with badNonce too, so they count nothing.
_LOG_LINES: Mapping[Counted, re.Pattern[str]] = {
    "accounts": re.compile(r"There are now \d+ accounts in memory"),
    "orders": re.compile(r"Added order \S+ to the db"),
    "challenges": re.compile(r"Pulled a task from the Tasks queue"),
    "finalizations": re.compile(r"Order \S+ is fully authorized\. Processing finalization"),
    "certificates": re.compile(r"Issued certificate serial"),
    "replacements": re.compile(r"Order \S+ has been marked as replaced"),
}


@dataclass(frozen=True)
class CaOptions:
    """How the CA behaves. The defaults are the fast and friendly CA."""

    nonce_reject_percent: int = 0
    """Of good nonces, how many are refused with badNonce."""
    authz_reuse_percent: int = 0
    """How often a valid authorization is reused. Pebble throws dice; 100 is Let's Encrypt."""
    validation_delay: bool = False
    """Sleep 0 or 1 s, at random, before each of the three requests of a validation.

    PEBBLE_VA_SLEEPTIME=2, because Pebble sleeps less than that many *whole* seconds: 1 would
    mean no delay at all.
    """
    retry_after_seconds: tuple[int, int] = (0, 0)
    """Retry-After on authorizations and on orders; 0 sends none."""
    validity_seconds: int = 90 * DAY_SECONDS
    """Lifetime of certificates of the profile "default"."""
    short_validity_seconds: int = 6 * DAY_SECONDS
    """Lifetime of certificates of the profile "shortlived"."""
    chain_length: int = 1
    """Intermediates between leaf and root."""
    alternate_roots: int = 0
    """Further chains that the certificate's response offers."""
    strict: bool = True
    """Pebble's strict mode: refuses what RFC 8555 will not have, such as challenge bodies."""
    domain_blocklist: tuple[str, ...] = ()
    """Domains refused with rejectedIdentifier, subdomains too."""
    external_accounts: Mapping[str, str] = field(default_factory=dict)
    """Key ids and MAC keys (base64url) of customers; with any, accounts are for them alone."""

    def environment(self) -> dict[str, str]:
        """The part that Pebble reads from its environment."""
        delay = (
            {"PEBBLE_VA_SLEEPTIME": "2"} if self.validation_delay else {"PEBBLE_VA_NOSLEEP": "1"}
        )
        return {
            **delay,
            "PEBBLE_WFE_NONCEREJECT": str(self.nonce_reject_percent),
            "PEBBLE_AUTHZREUSE": str(self.authz_reuse_percent),
            "PEBBLE_CHAIN_LENGTH": str(self.chain_length),
            "PEBBLE_ALTERNATE_ROOTS": str(self.alternate_roots),
        }

    def configuration(self) -> dict[str, Any]:
        """The part that Pebble reads from its configuration file."""
        authz, order = self.retry_after_seconds
        return {
            "retryAfter": {"authz": authz, "order": order},
            "domainBlocklist": list(self.domain_blocklist),
            "externalAccountBindingRequired": bool(self.external_accounts),
            "externalAccountMACKeys": dict(self.external_accounts),
            "profiles": {
                "default": _profile("As long as is usual", self.validity_seconds),
                "shortlived": _profile("For quick renewals", self.short_validity_seconds),
            },
        }


def _profile(description: str, seconds: int) -> dict[str, Any]:
    # Pebble counts the last second in, as RFC 5280 does: notAfter is one second less.
    return {"description": description, "validityPeriod": seconds}


@dataclass(frozen=True)
class _Ports:
    directory: int
    management: int
    dns: int
    dns_management: int


class LocalCa(FromStartToStop):
    """Pebble with its DNS server, from `start` to `stop` or as a context manager.

    Every name resolves to `address`, and to no IPv6 address, unless `set_addresses` says
    otherwise. `http_port` is where http-01 is asked. Files and logs lie in `directory`, or in a
    temporary folder that `stop` removes. The directory URL is always on the one host name
    localhost: account URLs contain the name used, so a second name would be a second account.
    """

    def __init__(
        self,
        options: CaOptions = CaOptions(),
        *,
        http_port: int,
        address: str = LOOPBACK,
        directory: Path | None = None,
        directory_port: int | None = None,
    ) -> None:
        self.options = options
        self.http_port = http_port
        self.address = address
        self._directory_port = directory_port
        self._wanted_folder = directory
        self._closing = ExitStack()
        self._dns: Child
        self._pebble: Child

    def start(self) -> None:
        """Start both processes; return when they answer."""
        self._folder = self._make_folder()
        directory, *others = free_ports(4)
        self._ports = _Ports(self._directory_port or directory, *others)
        self._write_files()
        self._trust = ssl.create_default_context(cafile=str(self.ca_bundle))
        try:
            self._start_dns()
            self._start_pebble()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End both processes and remove a temporary folder. Harmless when repeated."""
        self._closing.close()

    def restart(self) -> None:
        """End Pebble and start it anew: the same ports, but a new root, and all is forgotten."""
        self.kill()
        self._start_pebble()

    def kill(self) -> None:
        """End Pebble as a crash would. `restart` brings it back."""
        self._pebble.kill()

    @property
    def alive(self) -> bool:
        """Whether both processes run."""
        return self._dns.alive and self._pebble.alive

    @property
    def directory_url(self) -> str:
        """The ACME directory."""
        return f"https://localhost:{self._ports.directory}/dir"

    @property
    def ca_bundle(self) -> Path:
        """PEM file by which to trust Pebble's own HTTPS; not the root of what it issues."""
        return self._folder / "api.pem"

    @property
    def log(self) -> Path:
        """Pebble's log, of this start and all restarts."""
        return self._folder / "pebble.log"

    def root_pem(self, chain: int = 0) -> bytes:
        """The root of issued certificates; a higher number is an alternate one."""
        return self._pebble_management(f"roots/{chain}")

    def intermediate_pem(self, chain: int = 0) -> bytes:
        """The certificate that signs leaves."""
        return self._pebble_management(f"intermediates/{chain}")

    def is_revoked(self, serial: int) -> bool:
        """Whether the CA has revoked a certificate."""
        status = json.loads(self._pebble_management(f"cert-status-by-serial/{serial:x}"))
        return bool(status["Status"] == "Revoked")

    def log_text(self) -> str:
        """All that Pebble has logged, over all restarts."""
        return self.log.read_text(errors="replace")

    def count(self, what: Counted) -> int:
        """How many Pebble has accepted since `start`, over all restarts.

        "challenges" are validations begun, three requests each. Only accounts newly made count.
        """
        return len(_LOG_LINES[what].findall(self.log_text()))

    def set_addresses(self, host: str, addresses: list[str]) -> None:
        """Make a name resolve to these IPv4 and IPv6 addresses, and to no others.

        Pebble asks the first one only, IPv6 before IPv4. Without an IPv4 address among them
        `address` remains; a name without any address is what `servfail` comes closest to.
        """
        self.clear(host)
        for kind, version in (("a", 4), ("aaaa", 6)):
            chosen = [text for text in addresses if ip_address(text).version == version]
            if chosen:
                self._dns_management(f"add-{kind}", {"host": host, "addresses": chosen})

    def servfail(self, host: str) -> None:
        """Make every DNS query for a name fail."""
        self._dns_management("set-servfail", {"host": host})

    def clear(self, host: str) -> None:
        """Make a name resolve to `address` again."""
        for record in ("a", "aaaa", "servfail"):
            self._dns_management(f"clear-{record}", {"host": host})

    def set_renewal_info(self, certificate_pem: bytes, answer: str) -> None:
        """Give this text as ARI's answer for a certificate; it need not even be JSON.

        `renewal_info` makes a proper one. Pebble adds a Retry-After of six hours.
        """
        body = {"certificate": certificate_pem.decode(), "ariResponse": answer}
        self._pebble_management("set-renewal-info/", body)

    def _make_folder(self) -> Path:
        if self._wanted_folder is None:
            return Path(self._closing.enter_context(tempfile.TemporaryDirectory(prefix="pebble-")))
        self._wanted_folder.mkdir(parents=True, exist_ok=True)
        return self._wanted_folder

    def _write_files(self) -> None:
        certificate, key = self_signed("Pebble's API, local")
        self.ca_bundle.write_bytes(certificate)
        (self._folder / "api.key").write_bytes(key)
        configuration = {
            "listenAddress": f"{LOOPBACK}:{self._ports.directory}",
            "managementListenAddress": f"{LOOPBACK}:{self._ports.management}",
            "certificate": str(self.ca_bundle),
            "privateKey": str(self._folder / "api.key"),
            "httpPort": self.http_port,
            "keyAlgorithm": "ecdsa",
            **self.options.configuration(),
        }
        (self._folder / "pebble.json").write_text(json.dumps({"pebble": configuration}, indent=1))
        self.log.write_bytes(b"")

    def _start_dns(self) -> None:
        unused = [
            word for name in ("http01", "https01", "tlsalpn01", "doh") for word in (f"-{name}", "")
        ]
        self._dns = Child(
            "pebble-challtestsrv",
            [
                CACHE / "bin" / "pebble-challtestsrv",
                *unused,
                *("-dnsserver", f"{LOOPBACK}:{self._ports.dns}"),
                *("-management", f"{LOOPBACK}:{self._ports.dns_management}"),
                *("-defaultIPv4", self.address),
                # Pebble tries IPv6 first and then nothing else.
                *("-defaultIPv6", ""),
            ],
            log=self._folder / "dns.log",
        )
        self._closing.callback(self._dns.stop)
        self._dns.wait_for_ports(self._ports.dns, self._ports.dns_management)

    def _start_pebble(self) -> None:
        self._pebble = Child(
            "pebble",
            [
                CACHE / "bin" / "pebble",
                *("-config", self._folder / "pebble.json"),
                *("-dnsserver", f"{LOOPBACK}:{self._ports.dns}"),
                f"-strict={str(self.options.strict).lower()}",
            ],
            log=self.log,
            environment=self.options.environment(),
        )
        self._closing.callback(self._pebble.stop)
        self._pebble.wait_for_ports(self._ports.directory, self._ports.management)

    def _pebble_management(self, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        url = f"https://localhost:{self._ports.management}/{path}"
        return _request(url, body, self._trust)

    def _dns_management(self, path: str, body: Mapping[str, Any]) -> None:
        _request(f"http://{LOOPBACK}:{self._ports.dns_management}/{path}", body)


def renewal_info(start: datetime, end: datetime, explanation_url: str | None = None) -> str:
    """An ARI answer (RFC 9773 §4.2) with this suggested window."""
    window = {"start": start.isoformat(), "end": end.isoformat()}
    explanation = {"explanationURL": explanation_url} if explanation_url else {}
    return json.dumps({"suggestedWindow": window, **explanation})


def _request(
    url: str, body: Mapping[str, Any] | None, trust: ssl.SSLContext | None = None
) -> bytes:
    """GET, or POST of JSON."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(url, data, REQUEST_SECONDS, context=trust) as response:
        content: bytes = response.read()
        return content
