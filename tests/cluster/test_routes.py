"""The permanent routes of deploy/install.yaml, by a real istiod and Envoy, of hosts of every kind.

The challenge port is the program's own, with a token that the tests know; nothing is ordered.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from threading import Thread
from typing import Any

import pytest

from acmeistio.model import (
    ISTIO_GATEWAY,
    GatewayWorkload,
    Installation,
    Routing,
)
from acmeistio.names import DnsName
from acmeistio.pki import placeholder
from acmeistio.routes.changes import wanted
from acmeistio.stores.secrets import encoded
from acmeistio.tokens import PASS_MARK, PATH_PREFIX, Tokens
from acmeistio.web.challenge import challenge_application
from acmeistio.web.serving import Address, serve
from pebble.processes import LOOPBACK
from tests.cluster.api import Object
from tests.cluster.bed import NAMESPACE, SECRET_NAME, Bed
from tests.cluster.gateway import Answer, ask
from tests.cluster.http2 import Http2

TOKEN, ANOTHER_TOKEN = "A" * 43, "B" * 43
OURS = PATH_PREFIX + TOKEN
ANOTHERS = PATH_PREFIX + ANOTHER_TOKEN
WWW, MOBILE, PLAIN = "www.mydomain.com", "mobile.mydomain.com", "plain.mydomain.com"
WILD, WILD_TOO = "a.wild.mydomain.com", "b.wild.mydomain.com"
SHORT, LONG = "mydomain.co", "mydomain.com"
REDIRECTED, NARROW, NOBODY = "redirected.mydomain.com", "narrow.mydomain.com", "nobody.mydomain.com"

HOSTS = f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: redirected, namespace: shop}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - hosts: [{REDIRECTED}]
    port: {{number: 80, name: http, protocol: HTTP}}
    tls: {{httpsRedirect: true}}
  # Any host, so that clients that name none in TLS get through as well.
  - hosts: ["*"]
    port: {{number: 443, name: https, protocol: HTTPS}}
    tls: {{mode: SIMPLE, credentialName: {SECRET_NAME}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: redirected, namespace: shop}}
spec:
  gateways: [redirected]
  hosts: [{REDIRECTED}]
  http:
  - route: [{{destination: {{host: www.shop.svc.cluster.local}}}}]
"""


def ingress(host: str, namespace: str, service: str, *, tls: bool = True, path: str = "/") -> Any:
    """An Ingress of one host; each is an object of its own, as those of different teams are."""
    backend = {"service": {"name": service, "port": {"number": 80}}}
    rule = {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "namespace": namespace,
            "name": host.replace("*", "any"),
            "annotations": {"kubernetes.io/ingress.class": "istio"},
        },
        "spec": {
            "rules": [{"host": host, "http": rule}],
            **({"tls": [{"hosts": [host], "secretName": SECRET_NAME}]} if tls else {}),
        },
    }


@contextmanager
def challenge_port(port: int) -> Iterator[None]:
    """The program's own, answering TOKEN."""
    tokens = Tokens()
    tokens.present(TOKEN, "key authorization")
    loop = asyncio.new_event_loop()
    served = serve(challenge_application(tokens), Address(LOOPBACK, port))
    runner = loop.run_until_complete(served)
    thread = Thread(target=loop.run_forever)
    thread.start()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def served(bed: Bed) -> Iterator[Bed]:
    """A bed whose gateway serves all hosts, with one certificate for all of them."""
    names = map(DnsName, (WWW, MOBILE, "*.wild.mydomain.com", SHORT, LONG, NARROW))
    pair = placeholder(names, datetime.now(UTC))
    bed.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"namespace": NAMESPACE, "name": SECRET_NAME},
            "type": "kubernetes.io/tls",
            "data": {"tls.crt": encoded(pair.chain_pem), "tls.key": encoded(pair.key_pem)},
        }
    )
    (bed.folder / "routes.pem").write_bytes(pair.chain_pem)
    bed.service("shop", "www")
    bed.service("app", "mobile")
    bed.apply(ingress(WWW, "shop", "www"))
    bed.apply(ingress(MOBILE, "app", "mobile"))
    bed.apply(ingress(PLAIN, "app", "mobile", tls=False))
    bed.apply(ingress("*.wild.mydomain.com", "app", "mobile"))
    bed.apply(ingress(SHORT, "shop", "www"))
    bed.apply(ingress(LONG, "app", "mobile"))
    bed.apply(ingress(NARROW, "shop", "www", path="/page"))
    bed.apply(HOSTS)
    with challenge_port(bed.challenge_port):
        hosts = (WWW, MOBILE, WILD, SHORT, LONG, REDIRECTED, NARROW)
        for url in (f"https://{host}/page" for host in hosts):
            bed.wait_for(lambda url=url: _status(bed, url) == 200, f"{url} is served")  # type: ignore[misc]
        bed.wait_for(lambda: _status(bed, f"http://{NOBODY}{OURS}") == 200, "tokens are answered")
        yield bed
    bed.clear()


def _status(bed: Bed, url: str) -> int | None:
    try:
        return bed.gateway.get(url).status
    except OSError:
        return None


@pytest.mark.parametrize(
    "origin",
    [
        *(f"http://{host}" for host in (WWW, PLAIN, WILD, NARROW, NOBODY)),
        *(f"https://{host}" for host in (WWW, WILD, REDIRECTED, NARROW)),
    ],
)
def test_the_challenge_of_every_host_arrives(served: Bed, origin: str) -> None:
    """Whatever declares the host, over HTTP, and over HTTPS, to which a redirect leads."""
    answer = served.gateway.get(origin + OURS)
    assert (answer.status, answer.text) == (200, "key authorization")


def test_a_redirect_to_https_leads_to_the_answer(served: Bed) -> None:
    """The gateway redirects before any route counts; the CA follows."""
    answer = served.gateway.get(f"http://{REDIRECTED}{OURS}")
    assert answer.status == 301
    assert answer.headers["location"] == f"https://{REDIRECTED}{OURS}"


@pytest.mark.parametrize(
    "origin",
    [
        *(f"http://{host}" for host in (WWW, PLAIN, WILD)),
        *(f"https://{host}" for host in (WWW, WILD, REDIRECTED)),
    ],
)
def test_the_token_of_another_client_is_handed_over(served: Bed, origin: str) -> None:
    """It takes nothing from anybody: who answered that path without acmeistio answers it with."""
    answer = served.gateway.get(origin + ANOTHERS)
    assert answer.status == 200
    assert f"path {ANOTHERS}?{PASS_MARK}" in answer.text


def test_a_token_of_nobody_is_not_found(served: Bed) -> None:
    """Also where the user's routes have no such path: the redirect reaches the client, and ends."""
    assert served.gateway.get(f"http://{NOBODY}{ANOTHERS}").status == 404
    handed_back = served.gateway.get(f"http://{NARROW}{ANOTHERS}")
    assert handed_back.status == 302
    assert served.gateway.get(handed_back.headers["location"]).status == 404


@pytest.mark.parametrize("path", ["/", "/page", "/.well-known/", "/.well-known/security.txt"])
def test_other_paths_are_as_before(served: Bed, path: str) -> None:
    """Only the CA's path is touched."""
    for origin in (f"http://{WWW}", f"https://{WWW}"):
        answer = served.gateway.get(origin + path)
        assert answer.status == 200
        assert f"path {path}\n" in answer.text


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (WWW, MOBILE),
        (MOBILE, WWW),
        (WILD, WWW),
        (SHORT, LONG),
        (LONG, SHORT),
    ],
)
def test_a_request_on_the_connection_of_another_host_is_misdirected(
    served: Bed, first: str, second: str
) -> None:
    """421 has a client ask again on a connection of its own; this one goes on for its own host."""
    with closing(served.gateway.connect(first)) as connection:
        assert ask(connection, first).status == 200
        assert ask(connection, second).status == 421
        assert ask(connection, first).status == 200
    assert served.gateway.get(f"https://{second}/").status == 200


def test_http2_is_misdirected_as_well(served: Bed) -> None:
    """What browsers speak when they use a connection for another host of the certificate."""
    root = served.folder / "routes.pem"
    with Http2(served.gateway.address, served.gateway.https_port, WWW, root) as connection:
        assert MOBILE in connection.names
        assert [connection.get(host).status for host in (WWW, MOBILE, WWW)] == [200, 421, 200]


def test_hosts_of_one_wildcard_share_a_connection(served: Bed) -> None:
    """There is a route for both, so there is nothing to ask again for."""
    with closing(served.gateway.connect(WILD)) as connection:
        assert [ask(connection, host).status for host in (WILD, WILD_TOO)] == [200, 200]


def test_not_found_stays_not_found(served: Bed) -> None:
    """Of the right host, with its port or without; it is nobody's business to ask again."""
    with closing(served.gateway.connect(NARROW)) as connection:
        for host in (NARROW, f"{NARROW}:443"):
            assert ask(connection, host, "/no-such-page").status == 404


def test_plain_http_is_never_misdirected(served: Bed) -> None:
    """A connection without TLS belongs to no host."""
    with closing(served.gateway.connect()) as connection:
        hosts = (NARROW, NOBODY, WWW)
        statuses = [ask(connection, host, "/no-such-page").status for host in hosts]
        assert statuses == [404, 404, 200]


def test_clients_that_name_no_host_in_tls_are_never_misdirected(served: Bed) -> None:
    """They can't do better on another connection."""
    with closing(_connection_without_server_name(served)) as connection:
        assert _asked(connection, REDIRECTED).status == 200
        assert _asked(connection, NOBODY).status == 404


def _asked(connection: http.client.HTTPConnection, host: str) -> Answer:
    return ask(connection, host)


def _connection_without_server_name(bed: Bed) -> http.client.HTTPConnection:
    trust = ssl.create_default_context()
    trust.check_hostname = False
    trust.verify_mode = ssl.CERT_NONE
    address = bed.gateway.address, bed.gateway.https_port
    connection = http.client.HTTPConnection(bed.gateway.address)
    connection.sock = trust.wrap_socket(socket.create_connection(address))
    return connection


def test_mutual_tls_for_all_hosts_spares_acmeistio(served: Bed) -> None:
    """It has no sidecar to speak it; the gateway would wait for ever to reach it."""
    everything = {"tls": {"mode": "ISTIO_MUTUAL"}}
    served.apply(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "DestinationRule",
            "metadata": {"namespace": NAMESPACE, "name": "everything"},
            "spec": {"host": "*.local", "trafficPolicy": everything},
        }
    )
    try:
        served.wait_for(lambda: any("www.shop" in name for name in _warming(served)), "it counts")
        assert not any("acmeistio" in name for name in _warming(served))
        assert served.gateway.get(f"http://{WWW}{OURS}").status == 200
    finally:
        served.api.delete("DestinationRule.networking.istio.io", NAMESPACE, "everything")
    served.wait_for(lambda: not _warming(served), "it counts no longer")


def _warming(bed: Bed) -> list[str]:
    """The clusters that Envoy can't use yet: for mutual TLS they lack a certificate here."""
    return [
        entry["cluster"]["name"]
        for part in bed.gateway.config_dump()["configs"]
        for entry in part.get("dynamic_warming_clusters", ())
    ]


def test_envoy_takes_all_of_it(served: Bed) -> None:
    """Istio's webhook takes filters that Envoy refuses, with all later changes of a listener."""
    assert served.gateway.rejections() == {}


@pytest.mark.parametrize("routing", [Routing.FILTER, Routing.MIRROR])
def test_nobody_remarks_on_our_routes(served: Bed, routing: Routing) -> None:
    """Not the API server, nor Istio's webhook with its checks; of each EnvoyFilter it says one."""
    workload = GatewayWorkload(routing=routing)
    installation = Installation({}, "ca", routing=routing, gateways=(workload,))
    manifests = {
        kind: tuple(_whole(kind, body) for body in served.api.list(kind))
        for kind in ("Ingress", ISTIO_GATEWAY, "VirtualService")
    }
    routes = wanted(installation, manifests, [DnsName(host) for host in (WWW, REDIRECTED)])
    assert len(routes) >= 5
    for ref, route in routes.items():
        said = [text for text in served.api.warnings(route) if "EnvoyFilter exposes" not in text]
        assert said == [], str(ref)


def _whole(kind: str, body: Object) -> Object:
    """With its kind, which lists leave out."""
    group = "networking.k8s.io" if kind == "Ingress" else "networking.istio.io"
    return {**body, "kind": kind.partition(".")[0], "apiVersion": f"{group}/v1"}


def test_remarks_are_heard(served: Bed) -> None:
    """A VirtualService that can't work as written has Istio's webhook say so."""
    twice = {"match": [{"uri": {"prefix": "/"}}], "route": [{"destination": {"host": "a"}}]}
    body = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"namespace": "shop", "name": "twice"},
        "spec": {"hosts": ["a.example.com"], "http": [twice, twice]},
    }
    assert served.api.warnings(body)
