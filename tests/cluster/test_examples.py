"""deploy/examples: each file, applied as it stands, ends in hosts that are served over HTTPS."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from pebble.processes import CHECKOUT
from tests.cluster.api import objects_of
from tests.cluster.bed import Bed
from tests.cluster.gateway import Gateway, Workload

DEPLOY = CHECKOUT / "deploy"
EXAMPLES = sorted((DEPLOY / "examples").glob("*.yaml"))

HOSTS = {
    "first-domain": ["www.mydomain.com"],
    "gateway-api": ["api.mydomain.com"],
    "gateway-api-listenerset": ["team.mydomain.com"],
    "gateway-api-routes": ["blog.mydomain.com", "news.mydomain.com"],
    "helloworld": ["www.mydomain.com", "mobile.mydomain.com"],
    "issuers": [],
    "istio-gateway": ["shop.mydomain.com"],
    "istio-wildcard-gateway": ["red.apps.mydomain.com"],
}
"""What each file promises."""

BACKENDS = {"gateway-api": "edge", "gateway-api-listenerset": "team"}
"""Where the Service `www` of an example is, if not in the namespace `default`."""

TENANTS = {"gateway-api": "edge", "gateway-api-listenerset": "team"}
"""Namespaces that get the rights of tenant.yaml, as the files say."""

OF_ISTIO = Workload(
    namespace="edge",
    name="api-istio",
    labels={
        "gateway.networking.k8s.io/gateway-name": "api",
        "gateway.networking.k8s.io/gateway-class-name": "istio",
    },
)
"""The pods that Istio deploys for the Gateway `api`, with their labels (kube-gateway.yaml)."""


def test_every_example_is_tried() -> None:
    """A new file says here what it promises."""
    assert {path.stem for path in EXAMPLES} == set(HOSTS)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_serves_its_hosts(bed_with_port_443: Bed, example: Path) -> None:
    """With a certificate of the CA for exactly its hosts, and with the page behind them."""
    bed, hosts = bed_with_port_443, HOSTS[example.stem]
    _prepare(bed, example.stem)
    gateway = bed.another_gateway(OF_ISTIO) if example.stem == "gateway-api" else bed.gateway
    for host in hosts:
        bed.ca.set_addresses(host, [gateway.address])
    bed.start_acmeistio()
    bed.apply(example.read_text())
    for host in hosts:
        bed.wait_for(lambda host=host: _is_served(bed, gateway, host, hosts), f"{host} is served")  # type: ignore[misc]
        answer = gateway.get(f"https://{host}/page")
        assert (answer.status, "path /page" in answer.text) == (200, True)
    assert gateway.rejections() == {}


def _prepare(bed: Bed, name: str) -> None:
    """The Services behind an example's hosts, and the rights that its file speaks of."""
    if name == "helloworld":
        for version in ("v1", "v2"):
            bed.pod("default", f"hello-{version}", {"app": "helloworld", "version": version})
    else:
        bed.service(BACKENDS.get(name, "default"), "www")
    if name in TENANTS:
        bed.plane.kubectl("-n", TENANTS[name], "apply", "-f", DEPLOY / "tenant.yaml")


def _is_served(bed: Bed, gateway: Gateway, host: str, hosts: Iterable[str]) -> bool:
    return gateway.names(host, bed.root) == set(hosts)


def test_examples_say_only_what_is_theirs() -> None:
    """No Secret, no rights: what an example needs beside it is said in its first lines."""
    kinds = {body["kind"] for path in EXAMPLES for body in objects_of(path.read_text())}
    assert kinds.isdisjoint({"Secret", "Role", "RoleBinding", "ClusterRole"})
