"""Names as certificates have them: DNS names, wildcards among them, and IP addresses (RFC 8738)."""

from __future__ import annotations

import ipaddress

_RANGE_BITS = 64
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def address_of(name: str) -> Address | None:
    """The address that a name is; None for a DNS name."""
    if not (":" in name or name[-1:].isdigit()):
        return None
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def identifier(name: str) -> dict[str, str]:
    """A name as resources spell it (RFC 8555 §9.7.7, RFC 8738 §3)."""
    return {"type": "ip" if address_of(name) else "dns", "value": name}


def url_host(name: str) -> str:
    """A name as URLs and the header Host have it (RFC 3986 §3.2.2)."""
    return f"[{name}]" if ":" in name else name


def covers(pattern: str, name: str) -> bool:
    """Whether a certificate's name is, or its wildcard stands for, that name (RFC 6125)."""
    return pattern == name or (
        pattern.startswith("*.") and pattern[1:] == f".{name.partition('.')[2]}"
    )


def registered_domain(name: str, suffixes: frozenset[str]) -> str:
    """What a name is counted under: a domain below a public suffix, an IPv4, an IPv6 /64."""
    if address := address_of(name):
        if address.version == 4:
            return name
        return str(ipaddress.ip_network((address, _RANGE_BITS), strict=False))
    labels = name.removeprefix("*.").split(".")
    long = next((cut for cut in range(len(labels)) if ".".join(labels[cut:]) in suffixes), None)
    suffix = len(labels) - 1 if long is None else long
    return ".".join(labels[max(0, suffix - 1) :])
