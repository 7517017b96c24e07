"""Envoy as the ingress gateway of local work, with the routes that Istio would give it.

Owns its static configuration. Permanent, for every host: the challenge path goes to acmeistio,
which hands a token that is not its own back (302 to the same URL with the mark acmeistio-pass;
Envoy follows that itself and so reaches whatever the user has there). HTTPS takes its certificate
from acmeistio's SDS file, which Envoy watches and reads again when it is replaced by a rename.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pebble.processes import CACHE, LOOPBACK, Child

BINARY = CACHE / "venv" / "bin" / "envoy"
CHALLENGE_PREFIX = "/.well-known/acme-challenge/"
CHALLENGE_CLUSTER = "acmeistio"

_EXTENSION = "type.googleapis.com/envoy.extensions"
_HTTP_MANAGER = f"{_EXTENSION}.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = f"{_EXTENSION}.filters.http.router.v3.Router"
_TLS = f"{_EXTENSION}.transport_sockets.tls.v3.DownstreamTlsContext"

Config = dict[str, Any]


@dataclass(frozen=True)
class Ingress:
    """What the gateway listens on, and where it sends what. All ports are on loopback."""

    http_port: int
    https_port: int
    admin_port: int
    challenge_port: int
    """Of acmeistio."""
    backends: Mapping[str, int]
    """Host → port of its backend."""
    sds_file: Path
    secret_name: str
    """The resource in that file; acmeistio calls it after the Secret."""


def available() -> bool:
    """Whether there is an Envoy for this machine."""
    return BINARY.exists()


def start(ingress: Ingress, folder: Path) -> Child:
    """Start Envoy; configuration and log go to `folder`. Returns when it listens.

    A gateway is there before its first certificate: until then HTTPS connections are reset.
    """
    _ensure_sds_file(ingress.sds_file)
    path = folder / "envoy.json"
    path.write_text(json.dumps(configuration(ingress), indent=1))
    command: list[str | Path] = [
        BINARY,
        *("--config-path", path),
        *("--concurrency", "1"),
        *("--log-level", "warning"),
        # Hot restart shares memory by number between the Envoys of a machine.
        "--disable-hot-restart",
    ]
    child = Child("envoy", command, log=folder / "envoy.log")
    try:
        child.wait_for_ports(ingress.http_port, ingress.https_port)
    except BaseException:
        child.stop()
        raise
    return child


def _ensure_sds_file(path: Path) -> None:
    """Envoy does not start without the file; one without a Secret in it will do."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"resources": []}))


def configuration(ingress: Ingress) -> Config:
    """Envoy's static configuration."""
    clusters = {CHALLENGE_CLUSTER: ingress.challenge_port, **ingress.backends}
    return {
        # Without a node Envoy reads no SDS file.
        "node": {"id": "ingress", "cluster": "local"},
        "admin": {"address": _address(ingress.admin_port)},
        "static_resources": {
            "listeners": [
                _listener("http", ingress.http_port, ingress),
                _listener("https", ingress.https_port, ingress, tls=_tls(ingress)),
            ],
            "clusters": [_cluster(name, port) for name, port in clusters.items()],
        },
    }


def _listener(name: str, port: int, ingress: Ingress, tls: Config | None = None) -> Config:
    manager = {
        "@type": _HTTP_MANAGER,
        "stat_prefix": name,
        "use_remote_address": True,  # so that X-Forwarded-Proto is Envoy's own word
        # Pebble asks with "Host: name:port", which no CA on the internet does.
        "strip_any_host_port": True,
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}}],
        "route_config": {"name": name, "virtual_hosts": _virtual_hosts(ingress)},
    }
    chain: Config = {
        "filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
        ]
    }
    if tls is not None:
        chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": tls}
    return {"name": name, "address": _address(port), "filter_chains": [chain]}


def _virtual_hosts(ingress: Ingress) -> list[Config]:
    """As scheme S makes them in Istio: the challenge first on every host, known or not."""
    known = [
        {"name": host, "domains": [host], "routes": [_challenge(), _route("/", host)]}
        for host in ingress.backends
    ]
    # A marked request for a host nobody routes comes back to acmeistio, which answers 404.
    nobody = {
        "name": "nobody",
        "domains": ["*"],
        "routes": [_challenge(), _route(CHALLENGE_PREFIX, CHALLENGE_CLUSTER)],
    }
    return [*known, nobody]


def _challenge() -> Config:
    return {
        "match": {
            "prefix": CHALLENGE_PREFIX,
            "query_parameters": [{"name": "acmeistio-pass", "present_match": False}],
        },
        "route": {
            "cluster": CHALLENGE_CLUSTER,
            "internal_redirect_policy": {
                "max_internal_redirects": 1,
                "redirect_response_codes": [302],
            },
        },
    }


def _route(prefix: str, cluster: str) -> Config:
    return {"match": {"prefix": prefix}, "route": {"cluster": cluster}}


def _tls(ingress: Ingress) -> Config:
    secret = {
        "name": ingress.secret_name,
        "sds_config": {
            "path_config_source": {"path": str(ingress.sds_file)},
            "resource_api_version": "V3",
        },
    }
    return {
        "@type": _TLS,
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificate_sds_secret_configs": [secret],
        },
    }


def _cluster(name: str, port: int) -> Config:
    endpoint = {"endpoint": {"address": _address(port)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _address(port: int) -> Config:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}
