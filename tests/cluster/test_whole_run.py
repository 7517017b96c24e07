"""What acmeistio asked for in all tests of this level, by the audit log of the API server.

The last file by its name. Run alone it judges the one life that it leads itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product

import pytest

from tests.cluster.api import objects_of
from tests.cluster.asked import Request, Right, requests
from tests.cluster.bed import INSTALL, NAMESPACE, SECRET_NAME, Bed
from tests.cluster.manifests import ingress, renewal, wish
from tests.cluster.spans import Spans
from tests.cluster.told import note, times_told

HOST = "www.mydomain.com"
_OWN = {
    "acmeistio-account-letsencrypt",
    "acmeistio-account-letsencrypt-staging",
    "acmeistio-ledger",
    "acmeistio-pending-keys",
}
EXPECTED = {
    **{("get", name, 404): "it is not there before the first order" for name in _OWN},
    ("create", "events", 409): "the Event was told before, and is counted on",
    ("update", SECRET_NAME, 409): "a user has changed it at this moment",
}


@pytest.fixture(scope="module")
def asked(bed: Bed, spans: Spans) -> Iterator[list[Request]]:
    """All requests of the run but those that a test kept from their end.

    Among them are two lives of acmeistio in which all happens that needs a right.
    """
    bed.service("shop", "www")
    bed.apply(ingress("shop", "www", HOST, service="www"))
    bed.apply(wish("shop", "mistaken", "10.0.0.1"))
    _live(bed, "letsencrypt-staging", reason="CertificateIssued", times=1)
    bed.api.patch("Secret", NAMESPACE, SECRET_NAME, renewal())
    _live(bed, "letsencrypt", reason="CertificateRenewed", times=2)
    yield [request for request in requests(bed) if not spans.have(request.event)]
    bed.clear()


def _live(bed: Bed, issuer: str, *, reason: str, times: int) -> None:
    """Issue a certificate with another account, and tell what is wrong with a declaration."""
    bed.start_acmeistio(issuer=issuer)
    note(bed, "shop", "www", reason)
    assert times_told(bed, "shop", "mistaken", "IPAddressUnsupported") == times
    bed.stop_acmeistio()


def test_nothing_was_refused(asked: list[Request], report: Callable[[str], None]) -> None:
    """Not a single 403; and no other refusal but those that are part of the protocol."""
    refused = Counter(
        (request.right.verb, request.right.name or request.right.resource, request.code)
        for request in asked
        if request.code >= 400
    )
    told = ", ".join(f"{n} × {code} {verb} {what}" for (verb, what, code), n in refused.items())
    report(f"audit log: {len(asked)} requests of acmeistio; refused: {told}")
    assert not [str(request) for request in asked if request.code == 403]
    assert refused.keys() <= EXPECTED.keys()


def test_every_right_was_used(asked: list[Request]) -> None:
    """What deploy/install.yaml grants is needed: each verb on each resource of each name."""
    used = {request.right for request in asked if request.code < 400}
    granted = set(_granted())
    assert granted - used == set()
    assert used - granted == set(), "granted elsewhere, which a user's cluster need not do"


def _granted() -> Iterator[Right]:
    for body in objects_of(INSTALL.read_text()):
        if body["kind"] in ("ClusterRole", "Role"):
            for rule in body["rules"]:
                for part in product(
                    rule["verbs"], rule["resources"], rule.get("resourceNames", [""])
                ):
                    yield Right(*part)


def test_secrets_were_asked_for_by_name(asked: list[Request]) -> None:
    """Never all of a namespace: in istio-system lies the key of the mesh's CA."""
    collective = [r for r in asked if r.right.resource == "secrets" and r.right.verb != "create"]
    assert collective
    assert not [str(request) for request in collective if not request.right.name]
