"""Names as certificates carry them; owns their syntax, knows nothing of who declared them.

A name is kept as an A-label string: lower case, no trailing dot, IDNA where the user wrote
Unicode (UTS #46), so that equal names are equal strings. An IP address, another kind of identifier
(RFC 8738), is kept in the same way as its one canonical text. Whether a CA issues for a wildcard or
an address is not decided here: that depends on the issuer (planning/merge.py).
"""

from __future__ import annotations

import ipaddress
import re
from typing import NewType

import idna

DnsName = NewType("DnsName", str)
"""An A-label name, perhaps with the leading label `*`, e.g. `www.xn--bcher-kva.example`; or an
address, e.g. `2001:db8::1` (RFC 5952)."""

MAX_OCTETS = 253
"""RFC 1035 §2.3.4 less the two octets of the wire format; also what CAs accept."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_ASCII_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PLAIN_LABEL = re.compile(r"(?!..--)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""An ASCII label that IDNA leaves as it is; `--` in the third place is kept for A-labels."""


class InvalidName(ValueError):
    """A text is no name that a certificate could carry; the message says why."""


def parse_name(text: str) -> DnsName:
    """The name that a user meant by `text`: `Bücher.Example.` is `xn--bcher-kva.example`.

    An address, perhaps in brackets, is one too: `[2001:DB8:0::1]` is `2001:db8::1`. Raises
    InvalidName for everything else that is not a name of at least two labels, each valid under IDNA
    2008 (RFC 5890), and for addresses that are no machine's own.
    """
    stripped = text.strip()
    if not stripped:
        raise InvalidName("it is empty")
    address = _address(stripped)
    if address:
        return _to_canonical(address)
    wildcard = stripped.startswith("*.")
    base = _to_a_labels(stripped.removeprefix("*."))
    name = f"*.{base}" if wildcard else base
    if len(name) > MAX_OCTETS:
        raise InvalidName(f"it is longer than {MAX_OCTETS} characters")
    return DnsName(name)


def is_ip_address(name: DnsName) -> bool:
    """Whether `name` is an address (RFC 8738)."""
    return _address(name) is not None


def url_host(host: str) -> str:
    """A name or another host as a URL has it: an IPv6 address in brackets (RFC 3986 §3.2.2)."""
    return f"[{host}]" if ":" in host else host


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
    """Whether `name` is one of `domains` or lies below one of them; nothing is below an address."""
    if is_ip_address(name):
        return name in domains
    labels = name.removeprefix("*.").split(".")
    return any(DnsName(".".join(labels[start:])) in domains for start in range(len(labels)))


def _address(text: str) -> Address | None:
    inside = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    # Asked of every name again and again, and what it can't be is seen at once.
    if ":" not in inside and not inside[-1:].isdigit():
        return None
    try:
        return ipaddress.ip_address(inside)
    except ValueError:
        return None


def _to_canonical(address: Address) -> DnsName:
    """The text of an address (RFC 5952). Raises InvalidName for one that is no machine's own.

    A private one is some machine's, and a private CA may certify it.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            raise InvalidName(f"it is another spelling of the IPv4 address {address.ipv4_mapped}")
        if address.scope_id:
            raise InvalidName("it is an address with a zone, which counts on one machine only")
    for kind in ("unspecified", "loopback", "link_local", "multicast"):
        if getattr(address, f"is_{kind}"):
            raise InvalidName(f"it is an address that is no machine's own ({kind})")
    return DnsName(str(address))


def _to_a_labels(text: str) -> str:
    if _is_plain(text):
        return text
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


def _is_plain(text: str) -> bool:
    """Whether a text is a name as it stands: most are, and IDNA takes its time to find that out."""
    labels = text.split(".")
    return (
        len(labels) > 1
        and len(text) <= MAX_OCTETS
        and not labels[-1].isdigit()
        and all(map(_PLAIN_LABEL.fullmatch, labels))
    )
