"""Objects that users of a cluster write, as short as a test can have them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.cluster.api import Object

SECRET_NAME = "istio-ingress-certs"


def ingress(
    namespace: str,
    name: str,
    *hosts: str,
    service: str,
    secret: str = SECRET_NAME,
    **notes: str,
) -> Object:
    """An Ingress whose hosts get a certificate; `notes` are acmeistio.io/ annotations."""
    backend = {"service": {"name": service, "port": {"number": 80}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    annotations = {"kubernetes.io/ingress.class": "istio", "acmeistio.io/tls": "true"}
    annotations |= {f"acmeistio.io/{key.replace('_', '-')}": text for key, text in notes.items()}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"namespace": namespace, "name": name, "annotations": annotations},
        "spec": {
            "tls": [{"hosts": list(hosts), "secretName": secret}],
            "rules": [{"host": host, "http": {"paths": [path]}} for host in hosts],
        },
    }


def gateway(namespace: str, name: str, host: str, *, redirects: bool = False) -> Object:
    """A Gateway that serves a host with the Secret, over HTTP as well or by redirect."""
    port_80: dict[str, Any] = {
        "port": {"number": 80, "name": "http", "protocol": "HTTP"},
        "hosts": [host],
    }
    if redirects:
        port_80["tls"] = {"httpsRedirect": True}
    port_443 = {
        "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
        "hosts": [host],
        "tls": {"mode": "SIMPLE", "credentialName": SECRET_NAME},
    }
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": [port_80, port_443]},
    }


def virtual_service(namespace: str, name: str, host: str, *, service: str) -> Object:
    """A VirtualService of the same name as its Gateway."""
    destination = {"host": f"{service}.{namespace}.svc.cluster.local", "port": {"number": 80}}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "hosts": [host],
            "gateways": [name],
            "http": [{"route": [{"destination": destination}]}],
        },
    }


def wish(namespace: str, name: str, *domains: str) -> Object:
    """An Ingress that serves nothing and asks for a certificate for these names."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "namespace": namespace,
            "name": name,
            "annotations": {
                "kubernetes.io/ingress.class": "istio",
                "acmeistio.io/domains": ", ".join(domains),
            },
        },
        "spec": {"defaultBackend": {"service": {"name": "nothing", "port": {"number": 80}}}},
    }


def renewal() -> Object:
    """What is merged into a Secret to ask for a renewal."""
    now = datetime.now(UTC).isoformat()
    return {"metadata": {"annotations": {"acmeistio.io/renew-requested-at": now}}}
