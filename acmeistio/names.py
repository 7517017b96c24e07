"""DNS names as certificates carry them; owns their syntax, knows nothing of who declared them.

A name is kept as an A-label string: lower case, no trailing dot, IDNA where the user wrote
Unicode (UTS #46), so that equal names are equal strings. Whether a CA issues for a wildcard is
not decided here: that depends on the challenge types an issuer can do (planning/merge.py).
"""

from __future__ import annotations

import ipaddress
import re
from typing import NewType

import idna

DnsName = NewType("DnsName", str)
"""An A-label name, perhaps with the leading label `*`, e.g. `www.xn--bcher-kva.example`."""

MAX_OCTETS = 253
"""RFC 1035 §2.3.4 less the two octets of the wire format; also what CAs accept."""

_ASCII_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class InvalidName(ValueError):
    """A text is no name that a certificate could carry; the message says why."""


class IpAddress(InvalidName):
    """The text is an IP address, which is another kind of identifier (RFC 8738)."""


def parse_name(text: str) -> DnsName:
    """The name that a user meant by `text`: `Bücher.Example.` is `xn--bcher-kva.example`.

    Raises IpAddress for an address in any spelling, InvalidName for everything else that is
    not a name of at least two labels, each valid under IDNA 2008 (RFC 5890).
    """
    stripped = text.strip()
    if not stripped:
        raise InvalidName("it is empty")
    if _is_ip_address(stripped):
        raise IpAddress("it is an IP address")
    wildcard = stripped.startswith("*.")
    base = _to_a_labels(stripped.removeprefix("*."))
    name = f"*.{base}" if wildcard else base
    if len(name) > MAX_OCTETS:
        raise InvalidName(f"it is longer than {MAX_OCTETS} characters")
    return DnsName(name)


def is_wildcard(name: DnsName) -> bool:
    """Whether `name` stands for all names one label below its parent."""
    return name.startswith("*.")


def covers(names: frozenset[DnsName], name: DnsName) -> bool:
    """Whether a certificate for `names` is accepted for `name` (RFC 9525 §6.3)."""
    return name in names or DnsName("*." + name.partition(".")[2]) in names


def is_wildcard_host(host: str) -> bool:
    """Whether a host of a route stands for several: `*` for all, `*.example.com`."""
    return host.startswith("*")


def host_matches(host: str, name: str) -> bool:
    """Whether a host of a route includes a name, or a host that may have a wildcard itself.

    Unlike in a certificate, `*.example.com` includes everything below, at any depth; that is so for
    Envoy's virtual hosts, Istio's and the Gateway API's hosts.
    """
    suffix = host.removeprefix("*")
    below = host.startswith("*.") and name.endswith(suffix) and name != suffix
    return below or host in (name, "*")


def is_within(name: DnsName, domains: frozenset[DnsName]) -> bool:
    """Whether `name` is one of `domains` or lies below one of them."""
    labels = name.removeprefix("*.").split(".")
    return any(DnsName(".".join(labels[start:])) in domains for start in range(len(labels)))


def _is_ip_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


def _to_a_labels(text: str) -> str:
    try:
        ascii_text = idna.encode(text, uts46=True, std3_rules=True).decode()
    except idna.IDNAError as error:
        raise InvalidName(f"it is not a DNS name ({error})") from error
    except UnicodeError as error:
        raise InvalidName("it is not a DNS name") from error
    labels = ascii_text.removesuffix(".").split(".")
    if len(labels) == 1:
        raise InvalidName("it has only one label; a CA needs a full domain name")
    if labels[-1].isdigit() or not all(_ASCII_LABEL.fullmatch(label) for label in labels):
        raise InvalidName("it is not a DNS host name")
    return ".".join(labels)
