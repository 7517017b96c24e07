"""Hosts come and go, in each kind of object: a new one is served, and nobody else notices.

While it happens all other hosts are asked for, on and on, by HTTPS and by HTTP (asking.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.cluster.api import Object
from tests.cluster.asking import Asking
from tests.cluster.bed import NAMESPACE, SECRET_NAME, Bed
from tests.cluster.manifests import ingress, renewal
from tests.cluster.seen import names, stored_names

SHOP, BACKEND = "shop", "web"
DOMAIN = "changes.example"
FIRST, SECOND, THIRD, FOURTH = (f"host{number}.{DOMAIN}" for number in range(4))
QUIET_SECONDS = 1.0
"""Much longer than one change is gathered: an order that it triggers has begun by then."""
ENOUGH_ANSWERS = 10
"""Of each URL; the machine may be busy."""
RENEWALS = 2
PLATFORM = "platform"
LOST = f"lost.{DOMAIN}"
"""The CA does not find it."""
GATEWAY_HOST = "istio-ingressgateway.istio-system.svc.cluster.local"

Write = Callable[[str, Sequence[str]], list[Object]]
"""The objects, named by a word, that declare some hosts and route them to the backend."""


def _tls(body: Object) -> Object:
    body["metadata"].setdefault("annotations", {})["acmeistio.io/tls"] = "true"
    return body


def _object(version: str, kind: str, namespace: str, name: str, spec: Object) -> Object:
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _ingress(name: str, hosts: Sequence[str]) -> list[Object]:
    return [ingress(SHOP, name, *hosts, service=BACKEND)]


def _istio_gateway(name: str, hosts: Sequence[str]) -> Object:
    port_80 = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}}
    port_443 = {
        "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
        "tls": {"mode": "SIMPLE", "credentialName": SECRET_NAME},
    }
    servers = [{**port, "hosts": list(hosts)} for port in (port_80, port_443)]
    spec = {"selector": {"istio": "ingressgateway"}, "servers": servers}
    return _object("networking.istio.io/v1", "Gateway", SHOP, name, spec)


def _virtual_service(name: str, hosts: Sequence[str], gateway: str) -> Object:
    destination = {"host": f"{BACKEND}.{SHOP}.svc.cluster.local", "port": {"number": 80}}
    rule = {"route": [{"destination": destination}]}
    spec = {"hosts": list(hosts), "gateways": [gateway], "http": [rule]}
    return _object("networking.istio.io/v1", "VirtualService", SHOP, name, spec)


def _exact_hosts(name: str, hosts: Sequence[str]) -> list[Object]:
    return [_tls(_istio_gateway(name, hosts)), _virtual_service(name, hosts, name)]


def _behind_a_wildcard(name: str, hosts: Sequence[str]) -> list[Object]:
    platforms = _istio_gateway(PLATFORM, [f"*.{DOMAIN}"])
    return [platforms, _tls(_virtual_service(name, hosts, PLATFORM))]


def _gateway_api(name: str, hosts: Sequence[str]) -> list[Object]:
    """A listener for each host, and one for plain HTTP, which keep their names when others go.

    A listener that takes over another's name is another to Istio: it has no route for a moment.
    """
    anywhere = {"allowedRoutes": {"namespaces": {"from": "All"}}}
    tls = {"mode": "Terminate", "certificateRefs": [{"name": SECRET_NAME}]}
    http = [
        {"name": f"http.{host}", "port": 80, "protocol": "HTTP", "hostname": host, **anywhere}
        for host in hosts
    ]
    https = [
        {
            "name": f"https.{host}",
            "port": 443,
            "protocol": "HTTPS",
            "hostname": host,
            "tls": tls,
            **anywhere,
        }
        for host in hosts
    ]
    gateway = {
        "gatewayClassName": "istio",
        # Without it Istio would make pods for this Gateway.
        "addresses": [{"type": "Hostname", "value": GATEWAY_HOST}],
        "listeners": [*http, *https],
    }
    route = {
        "parentRefs": [{"name": name, "namespace": NAMESPACE}],
        "hostnames": list(hosts),
        "rules": [{"backendRefs": [{"name": BACKEND, "port": 80}]}],
    }
    version = "gateway.networking.k8s.io/v1"
    return [
        _tls(_object(version, "Gateway", NAMESPACE, name, gateway)),
        _object(version, "HTTPRoute", SHOP, name, route),
    ]


KINDS: dict[str, Write] = {
    "Ingress": _ingress,
    "Istio Gateway": _exact_hosts,
    "VirtualService behind a wildcard": _behind_a_wildcard,
    "Gateway API": _gateway_api,
}


class Site:
    """The hosts of a user, in objects of one kind, and what must be so while they change."""

    def __init__(self, bed: Bed, kind: str, report: Callable[[str], None]) -> None:
        self._bed = bed
        self._kind = kind
        self._write = KINDS[kind]
        self._report = report
        self._hosts: dict[str, list[str]] = {}
        """By the word that names their objects."""

    def begins(self, name: str, *hosts: str) -> None:
        """The first hosts get a certificate."""
        self._declare(name, hosts)
        self._all_are_served()

    def grows(self, name: str, host: str) -> None:
        """A host comes, into the objects of this name: one order, and all are served."""
        orders = self._bed.ca.count("orders")
        with self._undisturbed(f"{host} comes", self._all()):
            self._declare(name, [*self._hosts.get(name, ()), host])
            self._all_are_served()
        assert self._bed.ca.count("orders") - orders == 1

    def shrinks(self, name: str, host: str) -> None:
        """A host goes, with its objects if it was their only one: there is no order."""
        others = [other for other in self._all() if other != host]
        before = self._bed.gateway.certificate(others[0]), self._bed.ca.count("orders")
        with self._undisturbed(f"{host} goes", others):
            self._declare(name, [kept for kept in self._hosts[name] if kept != host])
            self._bed.wait_for(lambda: not _has_page(self._bed, host), f"{host} is gone")
            time.sleep(QUIET_SECONDS)
        after = self._bed.gateway.certificate(others[0]), self._bed.ca.count("orders")
        assert after == before

    def renews(self) -> None:
        """The certificate is renewed, for the hosts that are left."""
        with self._undisturbed("renewal", self._all()):
            self._bed.api.patch("Secret", NAMESPACE, SECRET_NAME, renewal())
            self._all_are_served()

    @contextmanager
    def _undisturbed(self, what: str, hosts: Sequence[str]) -> Iterator[None]:
        """No request for these hosts fails meanwhile, and the gateway refuses nothing."""
        bed = self._bed
        with Asking(bed.gateway, bed.root, hosts, says=f"Hello from {BACKEND}") as asking:
            yield
            bed.wait_for(lambda: asking.fewest >= ENOUGH_ANSWERS, "all were asked for")
        self._report(f"{self._kind}, {what}: {asking}")
        assert asking.failures == []
        assert bed.gateway.rejections() == {}

    def _declare(self, name: str, hosts: Sequence[str]) -> None:
        if hosts:
            _apply(self._bed, self._write(name, hosts))
        else:
            _delete(self._bed, self._write(name, self._hosts[name]))
        self._hosts[name] = list(hosts)

    def _all(self) -> list[str]:
        return [host for hosts in self._hosts.values() for host in hosts]

    def _all_are_served(self) -> None:
        hosts = self._all()
        self._bed.wait_for(_all_served(self._bed, *hosts), f"{hosts} are served")


@pytest.fixture
def running(clean_bed: Bed) -> Bed:
    """A cluster with a backend in which acmeistio runs."""
    clean_bed.service(SHOP, BACKEND)
    clean_bed.start_acmeistio()
    return clean_bed


def _apply(bed: Bed, bodies: Iterable[Object]) -> None:
    for body in bodies:
        bed.apply(body)


def _delete(bed: Bed, bodies: Iterable[Object]) -> None:
    """All but the Gateway that others need as well."""
    for body in bodies:
        if body["metadata"]["name"] != PLATFORM:
            group = body["apiVersion"].partition("/")[0]
            kind, metadata = f"{body['kind']}.{group}", body["metadata"]
            bed.api.delete(kind, metadata["namespace"], metadata["name"])


def _all_served(bed: Bed, *hosts: str) -> Callable[[], bool]:
    """Whether each has its page, and a certificate for all of them."""
    return lambda: all(names(bed, host) == set(hosts) and _has_page(bed, host) for host in hosts)


def _has_page(bed: Bed, host: str) -> bool:
    return all(_status(bed, f"{scheme}://{host}/") == 200 for scheme in ("http", "https"))


def _status(bed: Bed, url: str) -> int | None:
    try:
        return bed.gateway.get(url).status
    except OSError:
        return None


@pytest.mark.parametrize("kind", KINDS)
def test_hosts_come_and_go(running: Bed, report: Callable[[str], None], kind: str) -> None:
    """A new host gets into the certificate by one order; one that goes triggers none.

    Be it in an object that is there, or with one of its own. Meanwhile, and while the certificate
    is renewed, no request for the other hosts fails.
    """
    site = Site(running, kind, report)
    site.begins("old", FIRST, SECOND)
    site.grows("old", THIRD)
    site.grows("new", FOURTH)
    site.shrinks("old", SECOND)
    site.shrinks("new", FOURTH)
    site.renews()


def test_a_listener_is_never_closed(running: Bed, report: Callable[[str], None]) -> None:
    """From its placeholder on, through issue, reissue and renewals, its port answers.

    Istio closes the port of a listener of the Gateway API as soon as its Secret is none.
    """
    bed = running
    bed.ca.servfail(LOST)  # so that there is nothing but the placeholder for a while
    try:
        _apply(bed, _gateway_api("old", [LOST]))
        bed.wait_for(lambda: _status(bed, f"https://{LOST}/") == 200, "its listener is open")
        with Asking(bed.gateway, None, [LOST]) as asking:
            bed.wait_for(lambda: asking.fewest >= ENOUGH_ANSWERS, "it was asked for")
            assert stored_names(bed) == set(), "it has the placeholder"
            for hosts in ([FIRST], [FIRST, SECOND]):
                _apply(bed, _gateway_api("old", [LOST, *hosts]))
                bed.wait_for(_all_served(bed, *hosts), f"{hosts} are served")
            for _ in range(RENEWALS):
                _renew(bed, FIRST)
    finally:
        bed.ca.clear(LOST)
    report(f"listeners, from the placeholder on: {asking}")
    assert asking.failures == []
    assert bed.gateway.rejections() == {}


def _renew(bed: Bed, host: str) -> None:
    before = bed.gateway.certificate(host)
    bed.api.patch("Secret", NAMESPACE, SECRET_NAME, renewal())
    bed.wait_for(lambda: bed.gateway.certificate(host) != before, "it is renewed")


def test_failures_are_seen(running: Bed) -> None:
    """Who asks notices a page that is gone or another's, a closed port, a strange certificate."""
    bed = running
    _apply(bed, _ingress("first", [FIRST]))
    bed.wait_for(_all_served(bed, FIRST), "it is served")
    with Asking(bed.gateway, bed.root, [FIRST]) as asking:
        bed.wait_for(lambda: asking.fewest, "it was asked")
        assert asking.failures == []
        _delete(bed, _ingress("first", [FIRST]))
        bed.wait_for(lambda: _failed(asking) == {"http", "https"}, "it is gone")
        _apply(bed, _ingress("first", [FIRST]))
        bed.wait_for(_all_served(bed, FIRST), "it is back")
    with Asking(bed.gateway, bed.root, [FIRST], says="another page") as asking:
        bed.wait_for(lambda: _failed(asking) == {"http", "https"}, "it is another page")
    with Asking(bed.gateway, bed.ca.ca_bundle, [FIRST]) as asking:
        bed.wait_for(lambda: _failed(asking) == {"https"}, "it is a strange certificate")


def _failed(asking: Asking) -> set[str]:
    """The schemes over which a request has failed."""
    return {failure.url.partition(":")[0] for failure in asking.failures}
