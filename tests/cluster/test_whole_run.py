"""What acmeistio asked for in all tests of this level, by the audit log of the API server.

The last file by its name. Run alone it judges the one life that it leads itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from tests.cluster.api import Object, objects_of
from tests.cluster.asked import Request, Right, requests
from tests.cluster.bed import INSTALL, NAMESPACE, SECRET_NAME, Bed
from tests.cluster.manifests import gateway, ingress, renewal, wish
from tests.cluster.spans import Spans
from tests.cluster.told import note, times_told

HOST = "www.mydomain.com"
_OWN = {
    "acmeistio-account-letsencrypt",
    "acmeistio-account-letsencrypt-staging",
    "acmeistio-ledger",
    "acmeistio-pending-keys",
}
ROUTE_KINDS = [
    f"{kind}.networking.istio.io"
    for kind in ("Gateway", "VirtualService", "EnvoyFilter", "DestinationRule")
]
BESIDE = [INSTALL.with_name(f"{name}.yaml") for name in ("gateway", "tenant", "mirrors")]
"""Rights that some tests grant on top of install.yaml, as those files say."""

EXPECTED = {
    **{("get", name, 404): "it is not there before the first order" for name in _OWN},
    ("create", "events", 409): "the Event was told before, and is counted on",
    ("update", SECRET_NAME, 409): "a user has changed it at this moment",
}


@pytest.fixture(scope="module")
def asked(bed: Bed, spans: Spans) -> Iterator[list[Request]]:
    """All requests of the run but those that a test kept from their end.

    Among them are three lives of acmeistio in which all happens that needs a right.
    """
    bed.service("shop", "www")
    bed.apply(ingress("shop", "www", HOST, service="www"))
    bed.apply(wish("shop", "mistaken", "localhost"))
    bed.apply(gateway("shop", "all", "*", redirects=True))
    bed.unroute()  # as on the first day
    _live(bed, "letsencrypt-staging", reason="CertificateIssued", times=1)
    for route in _routes(bed):
        _spoil(bed, route)
    bed.api.patch("Secret", NAMESPACE, SECRET_NAME, renewal())
    _live(bed, "letsencrypt", reason="CertificateRenewed", times=2)
    bed.start_acmeistio(routing="off", gateways=bed.gateways(routing="off"))
    bed.wait_for(lambda: not _routes(bed), "no route object is left")
    bed.stop_acmeistio()
    yield [request for request in requests(bed) if not spans.have(request.event)]
    bed.clear()


def _live(bed: Bed, issuer: str, *, reason: str, times: int) -> None:
    """Issue a certificate with another account, and tell what is wrong with a declaration."""
    bed.start_acmeistio(issuer=issuer)
    note(bed, "shop", "www", reason)
    assert times_told(bed, "shop", "mistaken", "InvalidName") == times
    bed.stop_acmeistio()


def _routes(bed: Bed) -> list[Object]:
    """All route objects of acmeistio."""
    query = "labelSelector=app.kubernetes.io/managed-by%3Dacmeistio"
    return [{**r, "kind": kind} for kind in ROUTE_KINDS for r in bed.api.list(kind, query=query)]


def _spoil(bed: Bed, route: Object) -> None:
    """Change a route object in a way that Istio takes, so that it must be mended."""
    spoilt = {"metadata": {"labels": {"app.kubernetes.io/name": "spoilt"}}}
    metadata = route["metadata"]
    bed.api.patch(route["kind"], metadata["namespace"], metadata["name"], spoilt)


def test_nothing_was_refused(asked: list[Request], report: Callable[[str], None]) -> None:
    """Not a single 403; and no other refusal but those that are part of the protocol."""
    refused = Counter(
        (request.right.verb, request.right.name or request.right.resource, request.code)
        for request in asked
        if 400 <= request.code < 500  # 5xx: the API server's own trouble when it stops
    )
    told = ", ".join(f"{n} × {code} {verb} {what}" for (verb, what, code), n in refused.items())
    report(f"audit log: {len(asked)} requests of acmeistio; refused: {told}")
    assert not [str(request) for request in asked if request.code == 403]
    assert refused.keys() <= EXPECTED.keys()


def test_every_right_was_used(asked: list[Request]) -> None:
    """What deploy/install.yaml grants is needed: each verb on each resource of each name."""
    used = {request.right for request in asked if request.code < 400}
    granted = {*_granted(INSTALL)}
    assert granted - used == set()
    anywhere = granted.union(*map(_granted, BESIDE))
    beyond = {right for right in used - anywhere if replace(right, name="") not in anywhere}
    assert beyond == set(), "granted elsewhere, which a user's cluster need not do"


def _granted(path: Path) -> Iterator[Right]:
    for body in objects_of(path.read_text()):
        if body["kind"] in ("ClusterRole", "Role"):
            for rule in body["rules"]:
                for part in product(
                    rule["verbs"], rule["resources"], rule.get("resourceNames", [""])
                ):
                    yield Right(*part)


def test_secrets_were_asked_for_by_name(asked: list[Request]) -> None:
    """Never all of istio-system, where the key of the mesh's CA lies."""
    collective = [r for r in asked if r.right.resource == "secrets" and r.right.verb != "create"]
    assert collective
    assert not [str(request) for request in collective if not request.right.name]
