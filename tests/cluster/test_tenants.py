"""Several teams on one cluster: nobody gets a key, or a certificate, for what is another's.

Which domains a namespace may have is an administrator's word (an annotation on the Namespace); the
rights to write a Secret there come with deploy/tenant.yaml.
"""

from __future__ import annotations

import base64
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pebble.processes import CHECKOUT
from tests.cluster.api import Object
from tests.cluster.bed import NAMESPACE, SECRET_NAME, Bed
from tests.cluster.gateway import Gateway, Workload
from tests.cluster.manifests import ingress
from tests.cluster.seen import names, stored_names
from tests.cluster.spans import Spans

TENANT = CHECKOUT / "deploy" / "tenant.yaml"
ALLOWED = "acmeistio.io/allowed-domains"
A, B, PLATFORM = "tenant-a", "tenant-b", "platform"
HOST_A, HOST_B, HOST_C = "a.example.com", "b.example.com", "c.example.com"
OTHERS = "www.mydomain.com"
SECRET = "own-tls"
BACKEND = "web"
GATEWAY = "Gateway.gateway.networking.k8s.io"
NOTICED_SECONDS = 15.0
"""What is refused is tried every ten seconds at the latest."""
QUIET_SECONDS = 1.0
"""Much longer than one change is gathered: what it leads to has begun by then."""


@pytest.fixture
def tenants(clean_bed: Bed, spans: Spans) -> Iterator[Bed]:
    """Three namespaces, allowed nothing yet, and acmeistio; what they are given is taken back.

    Where a right is missing here, or given beside install.yaml, is the test's doing.
    """
    bed = clean_bed
    with spans.record():
        for namespace in (A, B, PLATFORM):
            bed.service(namespace, BACKEND)
        # The Service of a tenant's gateway is found by the cluster's DNS, which the bed has not: to
        # wait for what can be seen of it from inside would be to wait for ever.
        bed.start_acmeistio(probe="advise")
        try:
            yield bed
        finally:
            bed.stop_acmeistio()
            bed.ca.clear(HOST_A)
            for namespace in (A, B, PLATFORM):
                _take_back(bed, namespace)


def _allow(bed: Bed, namespace: str, *domains: str) -> None:
    """As the head of deploy/tenant.yaml says."""
    note = f"{ALLOWED}={', '.join(domains)}"
    bed.plane.kubectl("annotate", "--overwrite", "namespace", namespace, note)


def _give_rights(bed: Bed, namespace: str) -> None:
    bed.plane.kubectl("-n", namespace, "apply", "-f", TENANT)


def _take_back(bed: Bed, namespace: str) -> None:
    bed.plane.kubectl("annotate", "namespace", namespace, f"{ALLOWED}-")
    bed.plane.kubectl("-n", namespace, "delete", "--ignore-not-found", "-f", TENANT)


def _gateway(
    namespace: str, hosts: Iterable[str], *, service: str, secret_namespace: str | None = None
) -> Object:
    """A Gateway of the Gateway API that asks for certificates, served by a Service's pods."""
    secret = {"name": SECRET} | ({"namespace": secret_namespace} if secret_namespace else {})
    listeners: list[Object] = [{"name": "http", "port": 80, "protocol": "HTTP"}]
    listeners += [
        {
            "name": f"https-{number}",
            "port": 443,
            "protocol": "HTTPS",
            "hostname": host,
            "tls": {"mode": "Terminate", "certificateRefs": [secret]},
        }
        for number, host in enumerate(hosts)
    ]
    anywhere = {"allowedRoutes": {"namespaces": {"from": "All"}}}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {
            "namespace": namespace,
            "name": "own",
            "annotations": {"acmeistio.io/tls": "true"},
        },
        "spec": {
            "gatewayClassName": "istio",
            # Without one Istio would make pods for it.
            "addresses": [{"type": "Hostname", "value": f"{service}.svc.cluster.local"}],
            "listeners": [listener | anywhere for listener in listeners],
        },
    }


def _route(namespace: str, host: str, gateway_namespace: str) -> Object:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"namespace": namespace, "name": "own"},
        "spec": {
            "parentRefs": [{"name": "own", "namespace": gateway_namespace}],
            "hostnames": [host],
            "rules": [{"backendRefs": [{"name": BACKEND, "port": 80}]}],
        },
    }


def _tenants_gateway(namespace: str, *hosts: str) -> Object:
    """Of pods in the tenant's own namespace."""
    return _gateway(namespace, hosts, service=f"own-istio.{namespace}")


def _start_pods(bed: Bed, namespace: str, host: str) -> Gateway:
    """The gateway's pods in the tenant's own namespace, as Istio deploys them for a Gateway."""
    labels = {
        "gateway.networking.k8s.io/gateway-name": "own",
        "gateway.networking.k8s.io/gateway-class-name": "istio",
    }
    pods = bed.another_gateway(Workload(namespace, "own-istio", labels))
    bed.ca.set_addresses(host, [pods.address])
    return pods


def _told(bed: Bed, body: Object, reason: str) -> list[str]:
    """What the Events of a reason on an object say."""
    metadata = body["metadata"]
    return [
        event["note"]
        for event in bed.api.list("Event.events.k8s.io", metadata["namespace"])
        if event["reason"] == reason
        and event["regarding"]["name"] == metadata["name"]
        and event["regarding"]["kind"] == body["kind"]
    ]


def _note(bed: Bed, body: Object, reason: str) -> str:
    """What the only Event of a reason on an object says; returns when it is there."""
    bed.wait_for(lambda: _told(bed, body, reason), f"{reason} is told")
    [note] = _told(bed, body, reason)
    return note


def _all_names(bed: Bed, namespace: str) -> set[str]:
    """The names that a tenant's Secret has, be it of a placeholder."""
    secret = bed.api.find("Secret", namespace, SECRET)
    return set() if secret is None else _names_of(secret)


def _names_of(secret: Object) -> set[str]:
    leaf = x509.load_pem_x509_certificate(base64.b64decode(secret["data"]["tls.crt"]))
    found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return set(found.value.get_values_for_type(x509.DNSName))


def _is_issued(bed: Bed, namespace: str, *hosts: str) -> Callable[[], bool]:
    """Whether a tenant's Secret has a certificate of the CA for exactly these."""

    def issued() -> bool:
        secret = bed.api.find("Secret", namespace, SECRET)
        if secret is None or "acmeistio.io/placeholder" in secret["metadata"]["annotations"]:
            return False
        return _names_of(secret) == set(hosts)

    return issued


def _others_go_on(bed: Bed) -> None:
    """Somebody else's new host is served meanwhile."""
    bed.apply(ingress(PLATFORM, "www", OTHERS, service=BACKEND))
    bed.wait_for(lambda: names(bed, OTHERS) == {OTHERS}, f"{OTHERS} is served")


def test_a_namespace_that_nobody_allowed(tenants: Bed) -> None:
    """Its Gateway is told so, with what to do, and there is no Secret; others go on."""
    tenants.apply(gateway := _tenants_gateway(A, HOST_A))
    note = _note(tenants, gateway, "NamespaceNotAllowed")
    assert f"Give Namespace {A} the annotation {ALLOWED}" in note
    _others_go_on(tenants)
    assert [s["metadata"]["name"] for s in tenants.api.list("Secret", A)] == []


def test_an_allowed_namespace(tenants: Bed) -> None:
    """With the annotation and deploy/tenant.yaml it is served, from a Secret of its own.

    When the administrator takes the word back, what is there stays, and the Gateway is told.
    """
    pods = _start_pods(tenants, A, HOST_A)
    tenants.apply(gateway := _tenants_gateway(A, HOST_A))
    tenants.apply(_route(A, HOST_A, A))
    _note(tenants, gateway, "NamespaceNotAllowed")
    _allow(tenants, A, HOST_A)
    _give_rights(tenants, A)
    tenants.wait_for(lambda: pods.names(HOST_A, tenants.root) == {HOST_A}, f"{HOST_A} is served")
    assert pods.get(f"https://{HOST_A}/").text.startswith(f"Hello from {BACKEND}")
    assert tenants.api.find("Secret", NAMESPACE, SECRET) is None
    secret = tenants.api.get("Secret", A, SECRET)
    tenants.plane.kubectl("annotate", "namespace", A, f"{ALLOWED}-")
    tenants.api.delete("Event.events.k8s.io", A, _event_name(tenants, gateway))
    _note(tenants, gateway, "NamespaceNotAllowed")
    assert tenants.api.get("Secret", A, SECRET) == secret
    assert pods.names(HOST_A, tenants.root) == {HOST_A}


def _event_name(bed: Bed, body: Object) -> str:
    """Of the Event that its namespace is not allowed."""
    found = bed.api.list("Event.events.k8s.io", body["metadata"]["namespace"])
    [name] = [e["metadata"]["name"] for e in found if e["reason"] == "NamespaceNotAllowed"]
    return str(name)


def test_two_certificates_of_one_listener(tenants: Bed) -> None:
    """Two certificateRefs: clients that know no ECDSA are served with RSA."""
    _allow(tenants, A, HOST_A)
    _give_rights(tenants, A)
    pods = _start_pods(tenants, A, HOST_A)
    gateway = _tenants_gateway(A, HOST_A)
    gateway["spec"]["listeners"][1]["tls"]["certificateRefs"] = [
        {"name": SECRET},
        {"name": "own-rsa"},
    ]
    tenants.apply(gateway)
    tenants.apply(_route(A, HOST_A, A))
    tenants.wait_for(lambda: pods.names(HOST_A, tenants.root) == {HOST_A}, f"{HOST_A} is served")
    for ciphers, kind in (
        ("ECDHE-ECDSA-AES128-GCM-SHA256", ec.EllipticCurvePublicKey),
        ("ECDHE-RSA-AES128-GCM-SHA256", rsa.RSAPublicKey),
    ):
        tenants.wait_for(
            lambda c=ciphers, k=kind: isinstance(_key_for(pods, tenants, c), k),  # type: ignore[misc]
            f"{kind.__name__} is served",
        )


def _key_for(pods: Gateway, bed: Bed, ciphers: str) -> object:
    """The public key that a host of tenant A shows, verified, to a client with these ciphers."""
    trust = ssl.create_default_context(cafile=str(bed.root))
    trust.maximum_version = ssl.TLSVersion.TLSv1_2
    trust.set_ciphers(ciphers)
    try:
        with (
            socket.create_connection((pods.address, pods.https_port), timeout=5) as plain,
            trust.wrap_socket(plain, server_hostname=HOST_A) as secure,
        ):
            der = secure.getpeercert(binary_form=True) or b""
    except OSError:
        return None
    return x509.load_der_x509_certificate(der).public_key()


def test_a_neighbours_host_is_not_to_be_had(tenants: Bed) -> None:
    """Its Gateway is told which name, and whose domains; its other host gets a certificate.

    No Secret of its namespace ever has the neighbour's name.
    """
    _allow(tenants, A, HOST_A)
    _allow(tenants, B, HOST_B)
    _give_rights(tenants, B)
    tenants.apply(gateway := _tenants_gateway(B, HOST_A, HOST_B))
    seen: set[str] = set()

    def issued() -> bool:
        seen.update(_all_names(tenants, B))
        return _is_issued(tenants, B, HOST_B)()

    tenants.wait_for(issued, f"{HOST_B} has its certificate")
    assert seen == {HOST_B}
    tenants.apply(_tenants_gateway(B, HOST_A))
    time.sleep(QUIET_SECONDS)
    assert _all_names(tenants, B) == {HOST_B}
    note = _note(tenants, gateway, "NameNotAllowed")
    assert f"{HOST_A} lies outside the domains of namespace {B}: {HOST_B}" in note


def test_allowed_and_without_rights(tenants: Bed, report: Callable[[str], None]) -> None:
    """The annotation alone gives no right: that is told, and others go on. Then with the Role."""
    _allow(tenants, A, HOST_A)
    tenants.apply(gateway := _tenants_gateway(A, HOST_A))
    tenants.wait_for(lambda: _told(tenants, gateway, "TenantSecretForbidden"), "it is told")
    told = _told(tenants, gateway, "TenantSecretForbidden")
    assert all("deploy/tenant.yaml" in note for note in told)
    _others_go_on(tenants)
    begin = time.monotonic()
    _give_rights(tenants, A)
    tenants.wait_for(_is_issued(tenants, A, HOST_A), f"{HOST_A} has its certificate")
    seconds = time.monotonic() - begin
    report(f"rights of tenant.yaml given: certificate in the Secret after {seconds:.1f} s")
    assert seconds < NOTICED_SECONDS


def test_the_platforms_pods_for_a_tenants_gateway(tenants: Bed) -> None:
    """Istio serves no Gateway by a Service of another namespace, and acmeistio says so too."""
    _allow(tenants, A, HOST_A)
    _give_rights(tenants, A)
    tenants.apply(gateway := _gateway(A, [HOST_A], service=f"istio-ingressgateway.{NAMESPACE}"))
    assert f"namespace {A}" in _note(tenants, gateway, "GatewayAddressUnusable")
    tenants.wait_for(lambda: _reason_not_programmed(tenants) == "AddressNotUsable", "Istio says so")
    _others_go_on(tenants)
    assert tenants.api.find("Secret", A, SECRET) is None


def _reason_not_programmed(bed: Bed) -> str | None:
    """Why Istio does not serve the Gateway of the first tenant."""
    conditions = bed.api.get(GATEWAY, A, "own")["status"]["conditions"]
    said = {c["type"]: c["reason"] for c in conditions if c["status"] == "False"}
    return said.get("Programmed")


GRANT = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "ReferenceGrant",
    "metadata": {"namespace": A, "name": "platform"},
    "spec": {
        "from": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": NAMESPACE}],
        "to": [{"group": "", "kind": "Secret", "name": SECRET}],
    },
}


def test_the_platforms_gateway_and_a_tenants_secret(tenants: Bed) -> None:
    """A Secret of another namespace takes that namespace's ReferenceGrant; then it is served."""
    service = f"istio-ingressgateway.{NAMESPACE}"
    gateway = _gateway(NAMESPACE, [HOST_A], service=service, secret_namespace=A)
    _allow(tenants, A, HOST_A)
    _give_rights(tenants, A)
    tenants.apply(gateway)
    tenants.apply(_route(A, HOST_A, NAMESPACE))
    note = _note(tenants, gateway, "ReferenceNotGranted")
    assert f"Create a ReferenceGrant in namespace {A}" in note
    _others_go_on(tenants)
    assert tenants.api.find("Secret", A, SECRET) is None
    tenants.apply(GRANT)
    tenants.wait_for(lambda: names(tenants, HOST_A) == {HOST_A}, f"{HOST_A} is served")
    assert "Hello from" in tenants.gateway.get(f"https://{HOST_A}/").text


def _wildcard_gateway() -> Object:
    port_80 = {"number": 80, "name": "http", "protocol": "HTTP"}
    port_443 = {"number": 443, "name": "https", "protocol": "HTTPS"}
    tls = {"mode": "SIMPLE", "credentialName": SECRET_NAME}
    hosts = ["*.example.com"]
    servers = [{"port": port_80, "hosts": hosts}, {"port": port_443, "hosts": hosts, "tls": tls}]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"namespace": PLATFORM, "name": "own"},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": servers},
    }


def _virtual_service(namespace: str, *hosts: str) -> Object:
    """Of a team, which asks for a certificate for its hosts."""
    destination = {"host": f"{BACKEND}.{namespace}.svc.cluster.local", "port": {"number": 80}}
    metadata: dict[str, Any] = {"namespace": namespace, "name": "own"}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": metadata | {"annotations": {"acmeistio.io/tls": "true"}},
        "spec": {
            "hosts": list(hosts),
            "gateways": [f"{PLATFORM}/own"],
            "http": [{"route": [{"destination": destination}]}],
        },
    }


def test_teams_behind_the_platforms_gateway(tenants: Bed) -> None:
    """Each has its own hosts in the certificate, and none that belongs to another team.

    A namespace that nobody has bounded may have all that reaches the gateway.
    """
    _allow(tenants, A, HOST_A)
    _allow(tenants, B, HOST_B)
    tenants.apply(_wildcard_gateway())
    tenants.apply(greedy := _virtual_service(B, HOST_A, HOST_B))
    tenants.wait_for(lambda: names(tenants, HOST_B) == {HOST_B}, f"{HOST_B} is served")
    assert f"the domains of namespace {B}" in _note(tenants, greedy, "NameNotAllowed")
    time.sleep(QUIET_SECONDS)
    assert stored_names(tenants) == {HOST_B}
    tenants.apply(_virtual_service(B, HOST_B))
    tenants.apply(_virtual_service(A, HOST_A))
    tenants.apply(_virtual_service(PLATFORM, HOST_C))
    every = {HOST_A, HOST_B, HOST_C}
    tenants.wait_for(lambda: all(names(tenants, h) == every for h in every), "all are served")
