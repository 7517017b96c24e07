"""The servers of an Istio Gateway, and which hosts a VirtualService gets through them.

Owns what Istio makes of `hosts`, `tls` and `gateways` (networking.istio.io Gateway and
VirtualService; istio/istio pilot/pkg/model/gateway.go). Knows no annotations and no certificates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from acmeistio.model import ISTIO_GATEWAY, ObjectRef
from acmeistio.names import host_matches, is_wildcard_host
from acmeistio.sources import Manifest, untrusted

SIMPLE, MUTUAL, OPTIONAL_MUTUAL = "SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL"
TERMINATING = frozenset({SIMPLE, MUTUAL, OPTIONAL_MUTUAL})
"""The modes in which the gateway shows a certificate of its own; of the others ISTIO_MUTUAL shows
the mesh's, and the PASSTHROUGH ones leave it to the backend."""
NOT_TERMINATING = frozenset({"PASSTHROUGH", "AUTO_PASSTHROUGH"})

MESH = "mesh"
KUBERNETES = "kubernetes://"
_MOUNTS = PurePosixPath("/etc/istio")


@dataclass(frozen=True, slots=True)
class Host:
    """A host of a server, for VirtualServices of one `namespace`, or "*" of any."""

    namespace: str
    host: str


@dataclass(frozen=True, slots=True)
class Server:
    """One item of spec.servers; `mode` is "" without TLS, `file` "" without such a certificate."""

    hosts: tuple[Host, ...]
    port: int
    mode: str
    credential_names: tuple[str, ...]
    file: str
    redirects: bool

    @property
    def terminates(self) -> bool:
        """Whether it shows a certificate that somebody must provide."""
        return self.mode in TERMINATING

    @property
    def mounted_secret(self) -> str | None:
        """The Secret behind a file, where Istio's charts mount it; None for any other file."""
        folder = PurePosixPath(self.file).parent
        return f"istio-{folder.name}" if folder.parent == _MOUNTS else None

    def admits(self, namespace: str, host: str) -> tuple[str, ...]:
        """The hosts that a VirtualService with `host` gets here: of each two the narrower."""
        found = {
            _narrower(host, mine.host) for mine in self.hosts if mine.namespace in ("*", namespace)
        }
        return tuple(sorted(filter(None, found)))

    def covers(self, name: str) -> bool:
        """Whether it serves a name, for whichever namespace."""
        return any(host_matches(mine.host, name) for mine in self.hosts)


def servers_of(gateway: Mapping[str, Any]) -> tuple[Server, ...]:
    """The servers of a Gateway, in order."""
    namespace = untrusted.reference(gateway).namespace
    items = untrusted.sequence(untrusted.mapping(gateway, "spec").get("servers"))
    return tuple(_server(untrusted.mapping(item), namespace) for item in items)


def _server(item: Mapping[str, Any], namespace: str) -> Server:
    tls, port = untrusted.mapping(item, "tls"), untrusted.mapping(item, "port").get("number")
    redirects = tls.get("httpsRedirect") is True
    names = untrusted.texts([tls.get("credentialName")]) or untrusted.texts(
        tls.get("credentialNames")
    )
    return Server(
        hosts=tuple(_host(text, namespace) for text in untrusted.texts(item.get("hosts"))),
        port=port if isinstance(port, int) else 0,
        mode="" if redirects else _mode(tls),
        credential_names=tuple(dict.fromkeys(names)),
        file=_file(tls),
        redirects=redirects,
    )


def _mode(tls: Mapping[str, Any]) -> str:
    """PASSTHROUGH is what the API says of a `tls` without a mode (enum value 0)."""
    return (untrusted.text(tls.get("mode")) or "PASSTHROUGH") if tls else ""


def _file(tls: Mapping[str, Any]) -> str:
    several = untrusted.sequence(tls.get("tlsCertificates"))
    first = untrusted.mapping(several[0]) if several else tls
    return untrusted.text(first.get("serverCertificate"))


def _host(text: str, namespace: str) -> Host:
    admitted, slash, host = text.rpartition("/")
    if not slash:
        return Host("*", host.lower())
    return Host(namespace if admitted == "." else admitted, host.lower())


def _narrower(one: str, other: str) -> str | None:
    """The narrower of two hosts that overlap (Istio's host.Names.Intersection)."""
    if host_matches(other, one):
        return one
    return other if host_matches(one, other) else None


def secret_of(credential_name: str, namespace: str) -> str:
    """The Secret that a credentialName means to pods of a namespace.

    Istio takes `kubernetes://name`, and a namespace that is their own; another one stays in the
    name, which no Secret has (pilot/pkg/model/credentials/resource.go: ParseResourceName).
    """
    name = credential_name.removeprefix(KUBERNETES)
    return name.removeprefix(f"{namespace}/")


def hosts_of(virtual_service: Mapping[str, Any]) -> tuple[str, ...]:
    """The hosts of a VirtualService."""
    hosts = untrusted.texts(untrusted.mapping(virtual_service, "spec").get("hosts"))
    return tuple(host.lower() for host in hosts)


def gateways_of(virtual_service: Mapping[str, Any]) -> tuple[ObjectRef, ...]:
    """The Gateways that a VirtualService is bound to; the mesh's own proxies are none."""
    namespace = untrusted.reference(virtual_service).namespace
    texts = untrusted.texts(untrusted.mapping(virtual_service, "spec").get("gateways"))
    return tuple(
        ObjectRef(ISTIO_GATEWAY, namespace if place in ("", ".") else place, name)
        for place, _, name in (text.rpartition("/") for text in texts)
        if name != MESH
    )


def selector_of(gateway: Manifest) -> dict[str, str]:
    """The labels of the pods that a Gateway is for; none: all gateway pods."""
    return untrusted.labels(untrusted.mapping(gateway, "spec").get("selector"))


def exact(hosts: tuple[Host, ...] | tuple[str, ...]) -> tuple[str, ...]:
    """The hosts without wildcards."""
    texts = (host.host if isinstance(host, Host) else host for host in hosts)
    return tuple(text for text in texts if not is_wildcard_host(text))
