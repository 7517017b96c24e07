"""The probe, by real faults in front of a real gateway: what users are told, and what is ordered.

Each fault has its sentence at the object that asks for the name, nothing is ordered that can't
work, and as soon as it is mended the certificate is served, without a restart. The odd ways of
healthy gateways are no faults: nothing waits, and nothing is told.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from acmeistio.kube.events import CONTROLLER
from tests.cluster import faults
from tests.cluster.api import Object
from tests.cluster.bed import NAMESPACE, SECRET_NAME, Bed
from tests.cluster.manifests import gateway, ingress, renewal, virtual_service, wish
from tests.cluster.seen import names
from tests.cluster.told import events, note

HOST, ANOTHER = "www.mydomain.com", "another.mydomain.com"
NOWHERE = "www.mydomain.invalid"
"""No DNS server of the world may know it (RFC 6761 §6.4); the CA's own one does here."""
CHALLENGE_OF_NOBODY = faults.PREFIX + "A" * 43


@pytest.fixture
def unrouted(clean_bed: Bed) -> Bed:
    """A cluster where acmeistio writes no routes, and nobody has written any yet."""
    clean_bed.unroute()
    clean_bed.wait_for(lambda: _answers(clean_bed) is None, "port 80 is closed")
    clean_bed.service("shop", "web")
    return clean_bed


def _answers(bed: Bed, host: str = HOST) -> int | None:
    """What a challenge of nobody's gets; None where nobody answers."""
    try:
        return bed.gateway.get(f"http://{host}{CHALLENGE_OF_NOBODY}").status
    except OSError:
        return None


def _at(bed: Bed) -> str:
    """Where the gateway is asked."""
    return f"{bed.gateway.address}:{bed.gateway.http_port}"


def _route_by_hand(bed: Bed) -> None:
    for route in faults.routes_by_hand():
        bed.apply(route)


@contextmanager
def _nothing_is_ordered(bed: Bed) -> Iterator[None]:
    before = bed.ca.count("orders")
    yield
    assert bed.ca.count("orders") == before


def _told(bed: Bed, reason: str, name: str = "web") -> str:
    """What the Ingress is told, while nothing is ordered."""
    with _nothing_is_ordered(bed):
        return note(bed, "shop", name, reason)


def _told_the_gateway(bed: Bed, reason: str) -> str:
    """The same of the Gateway shop/web."""

    def found() -> list[str]:
        told = bed.api.list("Event.events.k8s.io", "shop")
        wanted = ("Gateway", "web", reason)
        of = [(e["regarding"]["kind"], e["regarding"]["name"], e["reason"]) for e in told]
        return [e["note"] for e, at in zip(told, of, strict=True) if at == wanted]

    with _nothing_is_ordered(bed):
        bed.wait_for(found, f"{reason} is told")
    return found()[0]


def _is_served(bed: Bed, host: str = HOST) -> None:
    bed.wait_for(lambda: host in names(bed, host), f"{host} is served")


def _warnings(bed: Bed, name: str = "web") -> set[str]:
    """What acmeistio finds wrong anywhere, after all is right with an Ingress.

    The API server has warnings of its own, such as ClusterIPNotAllocated, which are not meant.
    """
    note(bed, "shop", name, "CertificateIssued")  # Events are told in their order
    found = bed.api.list("Event.events.k8s.io")
    ours = [event for event in found if event["reportingController"] == CONTROLLER]
    return {event["reason"] for event in ours if event["type"] == "Warning"}


def _web(host: str = HOST) -> Object:
    """The Ingress shop/web."""
    return ingress("shop", "web", host, service="web")


def test_no_gateway_answers(unrouted: Bed) -> None:
    """Port 80 is closed: no Gateway opens it. It is noticed at once that one does."""
    bed = unrouted
    only_https = faults.only_port(443, gateway("shop", "web", HOST))
    only_https["metadata"]["annotations"] = {"acmeistio.io/tls": "true"}
    bed.apply(only_https)
    bed.start_acmeistio(routing="off")
    assert _told_the_gateway(bed, "GatewayNotAnswering").startswith(
        f"No gateway answers at {_at(bed)}, so the CA's request for {HOST} would meet nothing: "
        "the connection is refused."
    )
    _route_by_hand(bed)
    _is_served(bed)


def _redirect(bed: Bed) -> None:
    """HOST is sent to HTTPS, and has no server for it."""
    bed.service("shop", "web")
    bed.apply(faults.only_port(80, gateway("shop", "web", HOST, redirects=True)))
    bed.apply(virtual_service("shop", "web", HOST, service="web"))
    bed.wait_for(lambda: bed.gateway.get(f"http://{HOST}/").status == 301, "it redirects")


def test_redirected_to_a_closed_port(bed_with_port_443: Bed) -> None:
    """Nobody has HTTPS here."""
    bed = bed_with_port_443
    _redirect(bed)
    bed.start_acmeistio()
    bed.apply(wish("shop", "web", HOST))
    told = _told(bed, "RedirectedToClosedPort")
    at = f"{bed.gateway.address}:443"
    assert f"{HOST} is redirected to HTTPS, where nothing listens, seen through {at}." in told
    bed.apply(gateway("shop", "web", HOST, redirects=True))
    _is_served(bed)


def test_redirected_to_broken_tls(bed_with_port_443: Bed) -> None:
    """Another host has HTTPS here, so that the port is open, and this one has none."""
    bed = bed_with_port_443
    _redirect(bed)
    bed.apply(gateway("shop", "another", ANOTHER))
    bed.start_acmeistio()
    bed.apply(wish("shop", "web", HOST))
    sentence = (
        f"{HOST} is redirected to HTTPS, where the TLS handshake for it fails, seen through "
        f"{bed.gateway.address}:443: the connection is closed during the handshake."
    )
    assert sentence in _told(bed, "RedirectedToBrokenTLS")
    bed.apply(gateway("shop", "web", HOST, redirects=True))
    _is_served(bed)


def test_redirected_to_a_server_that_demands_a_certificate(bed_with_port_443: Bed) -> None:
    """No CA has one to show."""
    bed = bed_with_port_443
    _redirect(bed)
    demanding = gateway("shop", "web", HOST, redirects=True)
    demanding["spec"]["servers"][1]["tls"]["mode"] = "MUTUAL"
    bed.apply(demanding)
    bed.apply(faults.client_root(f"{SECRET_NAME}-cacert", bed.root.read_bytes()))
    bed.start_acmeistio()
    bed.apply(wish("shop", "web", HOST))
    told = _told(bed, "RedirectedToBrokenTLS")
    assert f" through {bed.gateway.address}:443: it demands a client certificate." in told
    bed.apply(gateway("shop", "web", HOST, redirects=True))
    _is_served(bed)


def test_what_answers_instead(unrouted: Bed) -> None:
    """A host's own backend, or nobody, where a host has no such path; whose host it is, is said."""
    bed = unrouted
    bed.start_acmeistio(routing="off")
    page = ingress("shop", "page", ANOTHER, service="web")
    page["spec"]["rules"][0]["http"]["paths"][0]["path"] = "/page"
    bed.apply(page)
    bed.apply(_web())
    assert _told(bed, "AnotherBackend").startswith(
        f"Another backend than acmeistio answers the challenge path of {HOST} with 200 over "
        f"http, seen through {_at(bed)}; the host is routed by Ingress shop/web."
    )
    assert _told(bed, "ChallengeNotRouted", "page").startswith(
        f"The challenge path of {ANOTHER} is answered 404 over http, seen through {_at(bed)}: "
        "nothing there leads to acmeistio; the host is routed by Ingress shop/page."
    )
    _route_by_hand(bed)
    bed.wait_for(lambda: {HOST, ANOTHER} == names(bed, HOST), "both are served")


def test_acmeistio_unreachable(clean_bed: Bed) -> None:
    """The gateway knows no pod of the Service; nothing that is followed says when there is one."""
    bed = clean_bed
    bed.service("shop", "web")
    with faults.without(bed, "WorkloadEntry.networking.istio.io", NAMESPACE, "acmeistio"):
        bed.start_acmeistio()
        bed.apply(_web())
        assert _told(bed, "AcmeistioUnreachable").startswith(
            f"The gateway routes the challenge path of {HOST} and can't reach what is behind it "
            f"(503 over http, seen through {_at(bed)})."
        )
    _is_served(bed)


def test_gateway_forbids(clean_bed: Bed) -> None:
    """It may forbid acmeistio only, so the CA is asked; it is told when that has failed too."""
    bed = clean_bed
    bed.service("shop", "web")
    bed.apply(faults.denial({"to": [{"operation": {"hosts": [HOST]}}]}))
    bed.wait_for(lambda: _answers(bed) == 403, "it is forbidden")
    bed.start_acmeistio()
    bed.apply(_web())
    assert f"The CA could not validate {HOST}: " in note(bed, "shop", "web", "ValidationFailed")
    assert note(bed, "shop", "web", "GatewayForbids").startswith(
        f"The challenge path of {HOST} is answered 403 over http, seen through {_at(bed)}; if "
        "the CA is answered the same, there will be no certificate."
    )
    bed.api.delete("AuthorizationPolicy", NAMESPACE, "denial")
    bed.wait_for(lambda: _answers(bed) != 403, "it is allowed")
    bed.api.patch("Secret", NAMESPACE, SECRET_NAME, renewal())
    _is_served(bed)


def _redirect_path(bed: Bed, to: str) -> None:
    """HOST sends the challenge path to some host."""
    for body in faults.redirecting_path(HOST, to):
        bed.apply(body)
    bed.wait_for(lambda: _answers(bed) == 301, "it redirects")


def _lead_back(bed: Bed) -> None:
    """The challenge path of ANOTHER leads to acmeistio."""
    bed.apply(faults.only_port(80, gateway(NAMESPACE, "another", ANOTHER)))
    bed.apply(faults.to_acmeistio("another", ANOTHER))
    # 503 before acmeistio is there, and by it 302: it hands back what is not its own.
    bed.wait_for(lambda: _answers(bed, ANOTHER) in (302, 503), "it is routed")


def test_redirected_elsewhere(unrouted: Bed) -> None:
    """Only the CA sees what is there; when it has failed, the redirect is told as well."""
    bed = unrouted
    _redirect_path(bed, ANOTHER)
    bed.start_acmeistio(routing="off")
    bed.apply(wish("shop", "certificate", HOST))
    note(bed, "shop", "certificate", "ValidationFailed")
    assert note(bed, "shop", "certificate", "RedirectedElsewhere").startswith(
        f"The challenge path of {HOST} is redirected to http://{ANOTHER}, seen through "
        f"{_at(bed)}; the CA follows it to where acmeistio can't see; the host is routed by "
        "VirtualService shop/web."
    )
    _lead_back(bed)
    bed.api.patch("Secret", NAMESPACE, SECRET_NAME, renewal())
    _is_served(bed)


def test_redirect_loop(unrouted: Bed) -> None:
    """The path is redirected to itself, again and again."""
    bed = unrouted
    _redirect_path(bed, HOST)
    bed.start_acmeistio(routing="off")
    bed.apply(wish("shop", "certificate", HOST))
    assert _told(bed, "RedirectLoop", "certificate").startswith(
        f"The challenge path of {HOST} is redirected again and again, at last to http://{HOST}, "
        f"seen through {_at(bed)}; the host is routed by VirtualService shop/web."
    )
    _route_by_hand(bed)
    _is_served(bed)


@contextmanager
def _load_balancer(bed: Bed) -> Iterator[None]:
    """One that speaks the PROXY protocol to the gateway, and is what DNS says of HOST."""
    port = bed.gateway.http_port
    address = f"{bed.gateway.address.rpartition('.')[0]}.1"  # no gateway of this machine has it
    to = (bed.gateway.address, port)
    with faults.relay((address, port), to, header=faults.PROXY_HEADER):
        bed.ca.set_addresses(HOST, [address])
        try:
            yield
        finally:
            bed.ca.clear(HOST)


def test_proxy_protocol(clean_bed: Bed) -> None:
    """The gateway resets what does not begin with it; the CA's load balancer begins with it."""
    bed = clean_bed
    bed.service("shop", "web")
    bed.apply(faults.proxy_protocol(bed.gateway.http_port))
    bed.wait_for(lambda: _answers(bed) is None, "it wants the PROXY protocol")
    with _load_balancer(bed):
        bed.start_acmeistio()
        bed.apply(_web())
        _is_served(bed)
    assert _warnings(bed) == set()


def test_allow_list(clean_bed: Bed) -> None:
    """The gateway forbids acmeistio's own requests only."""
    bed = clean_bed
    bed.service("shop", "web")
    key, forbidden = "request.headers[user-agent]", "acmeistio/0 probe"
    bed.apply(faults.denial({"when": [{"key": key, "values": ["acmeistio*"]}]}))
    url, headers = f"http://{HOST}/", {"User-Agent": forbidden}
    bed.wait_for(lambda: bed.gateway.get(url, headers).status == 403, "it is forbidden")
    bed.start_acmeistio()
    bed.apply(_web())
    _is_served(bed)
    assert _warnings(bed) == set()


def test_a_redirect_that_leads_back(unrouted: Bed) -> None:
    """The path comes to acmeistio by the name of another host, where only the CA goes."""
    bed = unrouted
    _redirect_path(bed, ANOTHER)
    _lead_back(bed)
    bed.start_acmeistio(routing="off")
    bed.apply(wish("shop", "certificate", HOST))
    _is_served(bed)
    assert _warnings(bed, "certificate") == set()


_WITNESS = """
import os, sys

def tell(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        place = arguments[1] if event == "socket.connect" else arguments[:2]
        os.write(place_of, f"{event} {place[0]} {place[1]}\\n".encode())

place_of = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
sys.addaudithook(tell)
"""
"""Python runs it before the program: each name that is looked up, each address that is called."""


def test_names_that_resolve_nowhere(
    clean_bed: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a cluster DNS may say anything of a host: acmeistio does not ask it."""
    bed = clean_bed
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo(NOWHERE, 80)
    (tmp_path / "sitecustomize.py").write_text(_WITNESS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("WITNESS", str(tmp_path / "witness"))
    bed.service("shop", "web")
    bed.start_acmeistio()
    bed.apply(_web(NOWHERE))
    _is_served(bed, NOWHERE)
    assert _warnings(bed) == set()
    seen = {tuple(line.split()[1:]) for line in (tmp_path / "witness").read_text().splitlines()}
    assert (bed.gateway.address, str(bed.gateway.http_port)) in seen
    assert {host for host, _ in seen} <= {bed.gateway.address, "127.0.0.1", "::1", "localhost"}


def test_ipv6(clean_bed: Bed) -> None:
    """A gateway whose address is of IPv6 is asked there."""
    bed = clean_bed
    bed.service("shop", "web")
    with faults.relay(("::1", 0), (bed.gateway.address, bed.gateway.http_port)) as way:
        address = {"host": "::1", "httpPort": way.port}
        bed.start_acmeistio(gateways=bed.gateways(address=address))
        bed.apply(_web())
        _is_served(bed)
        assert way.connections
    assert _warnings(bed) == set()


def test_advise(unrouted: Bed) -> None:
    """The order goes whatever the probe says, and both are told."""
    bed = unrouted
    bed.start_acmeistio(routing="off", probe="advise")
    bed.apply(_web())
    note(bed, "shop", "web", "ValidationFailed")
    note(bed, "shop", "web", "AnotherBackend")


def test_off(unrouted: Bed) -> None:
    """Only the CA says that it does not work."""
    bed = unrouted
    bed.start_acmeistio(routing="off", probe="off")
    bed.apply(_web())
    note(bed, "shop", "web", "ValidationFailed")
    assert events(bed, "shop", "web", "AnotherBackend") == []
