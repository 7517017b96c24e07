"""The cluster of these tests is what it claims to be, so that what passes in it means something."""

from __future__ import annotations

import base64
import socket
import time
from datetime import UTC, datetime

import pytest

from acmeistio.names import DnsName
from acmeistio.pki import placeholder
from pebble.processes import LOOPBACK
from tests.cluster.api import Api, Refused
from tests.cluster.bed import NAMESPACE, SECRET_NAME, USER, Bed
from tests.cluster.manifests import gateway, ingress, virtual_service

HOST = "www.mydomain.com"


@pytest.fixture
def acmeistio(bed: Bed) -> Api:
    """The API server as acmeistio sees it, by a token of its ServiceAccount."""
    return bed.plane.api_as(bed.plane.token_of(NAMESPACE, "acmeistio"))


def secret(host: str) -> dict[str, object]:
    """The gateway's Secret with a pair of nobody."""
    pair = placeholder([DnsName(host)], datetime.now(UTC))
    texts = {"tls.crt": pair.chain_pem, "tls.key": pair.key_pem}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": NAMESPACE, "name": SECRET_NAME},
        "type": "kubernetes.io/tls",
        "data": {key: base64.b64encode(text).decode() for key, text in texts.items()},
    }


def test_what_istio_refuses_is_refused(clean_bed: Bed) -> None:
    """Istio's validation is asked: the API server alone would take overlapping hosts."""
    overlapping = virtual_service("default", "web", "*", service="web")
    overlapping["spec"]["hosts"] = ["*", HOST]
    with pytest.raises(Refused, match=r"validation\.istio\.io.*duplicate hosts"):
        clean_bed.apply(overlapping)


def test_a_token_says_whose_it_is(acmeistio: Api) -> None:
    """Requests with it are acmeistio's, and nobody's who administers the cluster."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {}}
    user = acmeistio.create(review)["status"]["userInfo"]
    assert user["username"] == USER
    assert "system:masters" not in user["groups"]


def test_rbac_decides_and_the_audit_log_tells(bed: Bed, acmeistio: Api) -> None:
    """What is not granted is refused, and each request is found in the audit log with its end."""
    path = f"/api/v1/namespaces/{NAMESPACE}/secrets?limit={time.time_ns()}"
    with pytest.raises(Refused) as refused:
        acmeistio.request("GET", path)
    assert refused.value.status == 403
    [event] = [event for event in bed.audit() if event["requestURI"] == path]
    assert (event["verb"], event["responseStatus"]["code"]) == ("list", 403)


def test_the_gateway_serves_what_istiod_says(clean_bed: Bed) -> None:
    """Hosts of an Ingress and of a Gateway, backends, the Secret; Envoy refuses nothing of it."""
    clean_bed.service("shop", "web")
    clean_bed.apply(secret(HOST))
    clean_bed.apply(ingress("shop", "web", HOST, service="web"))
    other = "app.mydomain.com"
    clean_bed.apply(gateway("shop", "app", other))
    clean_bed.apply(virtual_service("shop", "app", other, service="web"))

    def pages() -> list[str]:
        try:
            return [
                clean_bed.gateway.get(f"{scheme}://{host}/").text.partition("\n")[0]
                for scheme in ("http", "https")
                for host in (HOST, other)
            ]
        except OSError:
            return []

    clean_bed.wait_for(lambda: pages() == ["Hello from web"] * 4, "both hosts have their pages")
    assert clean_bed.gateway.rejections() == {}


def test_clearing_leaves_nothing_of_the_test_before(clean_bed: Bed) -> None:
    """Neither object nor page nor certificate."""
    clean_bed.service("shop", "web")
    clean_bed.apply(secret(HOST))
    clean_bed.apply(ingress("shop", "web", HOST, service="web"))
    port = clean_bed.gateway.https_port
    address = clean_bed.gateway.address
    clean_bed.wait_for(lambda: _listens(address, port), "HTTPS is served")
    clean_bed.clear()
    assert clean_bed.api.find("Secret", NAMESPACE, SECRET_NAME) is None
    assert clean_bed.api.list("Ingress") == []
    assert clean_bed.gateway.get(f"http://{HOST}/").status == 404
    assert not _listens(address, port)


def test_nothing_listens_but_on_loopback(clean_bed: Bed) -> None:
    """The gateway is reached by its own address only, and not by that of the backends."""
    gateway = clean_bed.gateway
    assert gateway.address.startswith("127.")
    assert gateway.address != LOOPBACK
    assert _listens(gateway.address, gateway.http_port)
    listener = gateway.configuration()[f"listener 0.0.0.0_{gateway.http_port}"]
    assert listener["address"]["socket_address"]["address"] == gateway.address


def test_the_api_server_comes_back_with_all_that_it_had(clean_bed: Bed, acmeistio: Api) -> None:
    """Stopped, it is gone; started again, objects and tokens are as before, and istiod goes on."""
    clean_bed.service("shop", "web")
    clean_bed.plane.stop_api_server()
    assert not clean_bed.api.ready()
    clean_bed.plane.start_api_server()
    acmeistio.list("Ingress")
    assert clean_bed.api.get("Service", "shop", "web")
    clean_bed.apply(ingress("shop", "web", HOST, service="web"))
    clean_bed.wait_for(
        lambda: clean_bed.gateway.get(f"http://{HOST}/").status == 200, "istiod has seen it"
    )


def test_istiod_comes_back(clean_bed: Bed) -> None:
    """The gateway keeps what it had meanwhile, and then hears of what is new."""
    clean_bed.service("shop", "web")
    clean_bed.restart_istiod()
    clean_bed.apply(ingress("shop", "web", HOST, service="web"))
    clean_bed.wait_for(
        lambda: clean_bed.gateway.get(f"http://{HOST}/").status == 200,
        "the gateway has found istiod again",
        seconds=60,  # Envoy waits longer and longer, by chance
    )


def _listens(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), 1).close()
    except OSError:
        return False
    return True
