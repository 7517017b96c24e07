"""A right that is missing: it is told where it is missed, and everything else goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
import yaml

from acmeistio.names import DnsName
from acmeistio.pki import Bundle, placeholder
from acmeistio.stores.secrets import encoded
from pebble.program import Program
from tests.cluster.api import Object
from tests.cluster.asked import requests
from tests.cluster.bed import NAMESPACE, SECRET_NAME, Bed
from tests.cluster.manifests import ingress, renewal
from tests.cluster.seen import names, stored_names
from tests.cluster.spans import Spans
from tests.cluster.told import events, note

WWW, MOBILE, SHOP = "www.mydomain.com", "mobile.mydomain.com", "shop.mydomain.com"
OTHER = "shop-certs"
NOTICED_SECONDS = 15.0
"""What is refused is tried every ten seconds at the latest."""


@pytest.fixture
def altered_bed(clean_bed: Bed, spans: Spans) -> Iterator[Bed]:
    """A bed whose rights a test alters; in the end they are those of deploy/install.yaml again."""
    with spans.record():
        yield clean_bed
        clean_bed.stop_acmeistio()
        clean_bed.install()
        clean_bed.wait_for(lambda: _may_list_ingresses(clean_bed), "the rights are back")


def _may_list_ingresses(bed: Bed) -> bool:
    """What RBAC says of acmeistio now."""
    attributes = {"verb": "list", "group": "networking.k8s.io", "resource": "ingresses"}
    user = f"system:serviceaccount:{NAMESPACE}:acmeistio"
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    spec = {"user": user, "resourceAttributes": attributes}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    return bool(bed.api.request("POST", path, review)["status"]["allowed"])


def _serving(bed: Bed, *hosts: str, **settings: str) -> Program:
    """Acmeistio, once these hosts are served with a certificate of the CA."""
    bed.service("shop", "www")
    program = bed.start_acmeistio(**settings)
    for host in hosts:
        _declare(bed, host)
    bed.wait_for(lambda: all(host in names(bed, host) for host in hosts), "all are served")
    return program


def _declare(bed: Bed, host: str, secret: str = SECRET_NAME) -> None:
    """By an Ingress of the same name."""
    bed.apply(ingress("shop", host, host, service="www", secret=secret))


def test_a_kind_that_may_not_be_listed_loses_no_name(
    altered_bed: Bed, report: Callable[[str], None]
) -> None:
    """It is told, and what was declared stays in force, also when the certificate is renewed.

    Soon after the right is given back, what was declared meanwhile is served.
    """
    bed = altered_bed
    program = _serving(bed, WWW, MOBILE)
    before = bed.ca.count("orders")
    _take_away(bed, "ingresses")
    refusal = 'cannot list resource "ingresses"'
    bed.wait_for(lambda: refusal in _unlistable(program), "it is told")
    _declare(bed, SHOP)
    served = bed.gateway.certificate(WWW)
    bed.api.patch("Secret", NAMESPACE, SECRET_NAME, renewal())
    bed.wait_for(lambda: bed.gateway.certificate(WWW) != served, "it is renewed")
    assert names(bed, WWW) == names(bed, MOBILE) == {WWW, MOBILE}
    assert bed.ca.count("orders") - before == 1, "for the renewal that was asked for"
    begin = time.monotonic()
    bed.install()
    bed.wait_for(lambda: SHOP in names(bed, SHOP), f"{SHOP} is served")
    seconds = time.monotonic() - begin
    report(f"right to list Ingresses given back: noticed and served after {seconds:.1f} s")
    assert seconds < NOTICED_SECONDS
    assert names(bed, WWW) == {WWW, MOBILE, SHOP}
    assert _unlistable(program) == ""
    assert bed.ca.count("orders") - before == 2


def _take_away(bed: Bed, resource: str) -> None:
    """The right to list and watch a kind of networking.k8s.io, and the watch that is open."""
    rules = bed.api.get("ClusterRole", None, "acmeistio")["rules"]
    for rule in rules:
        rule["resources"] = [kind for kind in rule["resources"] if kind != resource]
    bed.api.patch("ClusterRole", None, "acmeistio", {"rules": rules})
    bed.plane.kill_api_server()
    bed.plane.start_api_server()
    bed.restart_istiod()


def _unlistable(program: Program) -> str:
    """Why Ingresses can't be listed, as the log tells last; empty when they can."""
    told = [event for event in program.events() if event.get("object") == "Kind Ingress"]
    return str(told[-1].get("sentence", "")) if told else ""


def test_a_secret_that_is_not_granted_is_not_asked_for(clean_bed: Bed) -> None:
    """The setting that would grant it is told at the Ingress; other hosts are served."""
    bed, theirs = clean_bed, placeholder([DnsName(SHOP)], datetime.now(UTC))
    bed.api.create(_secret(OTHER, theirs))
    _serving(bed, WWW)
    _declare(bed, SHOP, secret=OTHER)
    told = note(bed, "shop", SHOP, "SecretNotGranted")
    assert f"add {OTHER} to ACMEISTIO_SECRETS_GRANTED" in told
    _declare(bed, MOBILE)
    bed.wait_for(lambda: MOBILE in names(bed, MOBILE), f"{MOBILE} is served")
    assert bed.gateway.certificate(SHOP).serial_number == theirs.leaf.serial
    assert not [request for request in requests(bed) if request.subject == OTHER]


def _secret(name: str, pair: Bundle) -> Object:
    data = {"tls.crt": encoded(pair.chain_pem), "tls.key": encoded(pair.key_pem)}
    metadata = {"namespace": NAMESPACE, "name": name}
    kind = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls"}
    return {**kind, "metadata": metadata, "data": data}


def test_each_place_that_grants_a_secret_is_named_when_it_does_not(
    altered_bed: Bed, report: Callable[[str], None]
) -> None:
    """Role and policy, when the setting does: what is missing is told at the Ingress.

    With the last of them it works. All the time other hosts get their certificates; that Envoy
    serves new ones 15 s late while an Ingress names a Secret that does not exist is Istio's.
    """
    bed = altered_bed
    _serving(bed, WWW, secrets_granted=f"{SECRET_NAME},{OTHER}")
    _declare(bed, SHOP, secret=OTHER)
    told = note(bed, "shop", SHOP, "SecretForbidden")
    assert 'cannot list resource "secrets"' in told
    assert f"Add {OTHER} to the Role and the policy of acmeistio" in told
    _grant_in_role(bed, OTHER)
    refusal = f"acmeistio may not create the Secret {OTHER}"
    bed.wait_for(lambda: _told(bed, refusal), "the policy is told")
    _declare(bed, MOBILE)
    bed.wait_for(lambda: stored_names(bed) == {WWW, MOBILE}, f"{MOBILE} has its certificate")
    begin = time.monotonic()
    _grant_in_policy(bed, OTHER)
    bed.wait_for(lambda: stored_names(bed, OTHER) == {SHOP}, f"{SHOP} has its certificate")
    report(f"Secret granted in the policy as well: stored after {time.monotonic() - begin:.1f} s")


def _told(bed: Bed, words: str) -> bool:
    return any(words in e["note"] for e in events(bed, "shop", SHOP, "SecretForbidden"))


def _grant_in_role(bed: Bed, secret: str) -> None:
    rules: list[Object] = bed.api.get("Role", NAMESPACE, "acmeistio")["rules"]
    for rule in rules:
        if SECRET_NAME in rule.get("resourceNames", ()):
            rule["resourceNames"].append(secret)
    bed.api.patch("Role", NAMESPACE, "acmeistio", {"rules": rules})


def _grant_in_policy(bed: Bed, secret: str) -> None:
    policy = bed.api.get("ValidatingAdmissionPolicy", None, "acmeistio")
    for variable in policy["spec"]["variables"]:
        if variable["name"] == "granted":
            variable["expression"] = f'["{SECRET_NAME}", "{secret}"]'
    bed.api.update(policy)


def test_the_mac_key_of_an_issuer_takes_the_one_right_that_the_role_shows(
    altered_bed: Bed,
) -> None:
    """Without it the Ingress is told which; with it the CA is shown the key, and `get` was all.

    This CA has no customers, so it takes none for one of them; tests/pebble has one that does.
    """
    bed, issuer = altered_bed, "letsencrypt-staging"
    name, external = f"acmeistio-eab-{issuer}", {"keyId": "customer-1"}
    file = bed.folder / "issuers.yaml"
    file.write_text(yaml.safe_dump([{"name": issuer, "externalAccount": external}]))
    _mac_key(bed, name)
    bed.service("shop", "www")
    bed.start_acmeistio(issuers=file, issuer=issuer)
    _declare(bed, WWW)
    told = note(bed, "shop", WWW, "OrderForbidden")
    assert f'secrets "{name}" is forbidden' in told
    assert "Role of acmeistio (deploy/install.yaml" in told
    rules: list[Object] = bed.api.get("Role", NAMESPACE, "acmeistio")["rules"]
    right = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": [name]}
    bed.api.patch("Role", NAMESPACE, "acmeistio", {"rules": [*rules, right]})
    assert "unauthorized" in note(bed, "shop", WWW, "OrderRefused")
    asked = [request for request in requests(bed) if request.subject == name]
    assert {(request.right.verb, request.code) for request in asked} == {("get", 403), ("get", 200)}


def _mac_key(bed: Bed, name: str) -> None:
    """What the README has its reader create."""
    metadata = {"namespace": NAMESPACE, "name": name}
    data = {"hmac-key": encoded(b"a2V5IG9mIHRoZSBjdXN0b21lciBvZiB0aGUgQ0E")}
    bed.api.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
