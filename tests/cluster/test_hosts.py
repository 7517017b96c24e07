"""Hosts that are not declared by a plain Ingress: the CA's question reaches acmeistio all the same.

What serves the host is the user's own; the certificate goes into the Secret that it names.
"""

from __future__ import annotations

from tests.cluster.bed import Bed
from tests.cluster.manifests import gateway, virtual_service, wish
from tests.cluster.seen import names, stored_names

NAMESPACE = "shop"


def test_behind_https_redirect(bed_with_port_443: Bed) -> None:
    """The CA is sent to HTTPS, where the placeholder is, and is answered there."""
    bed, host = bed_with_port_443, "redirected.mydomain.com"
    bed.service(NAMESPACE, "web")
    bed.apply(gateway(NAMESPACE, "web", host, redirects=True))
    bed.apply(virtual_service(NAMESPACE, "web", host, service="web"))
    bed.wait_for(lambda: bed.gateway.get(f"http://{host}/").status == 301, "it redirects")
    bed.start_acmeistio()
    bed.apply(wish(NAMESPACE, "certificate", host))
    bed.wait_for(lambda: host in names(bed, host), f"{host} is served")
    assert "Hello from web" in bed.gateway.get(f"https://{host}/").text
    redirect = bed.gateway.get(f"http://{host}/page")
    assert (redirect.status, redirect.headers["location"]) == (301, f"https://{host}/page")


def test_of_a_wildcard_virtual_service(clean_bed: Bed) -> None:
    """The exact name gets its certificate; other paths and other names are the user's still."""
    host = "exact.wild.mydomain.com"
    clean_bed.service(NAMESPACE, "web")
    clean_bed.apply(gateway(NAMESPACE, "web", "*.wild.mydomain.com"))
    clean_bed.apply(virtual_service(NAMESPACE, "web", "*.wild.mydomain.com", service="web"))
    clean_bed.start_acmeistio()
    clean_bed.apply(wish(NAMESPACE, "certificate", host))
    clean_bed.wait_for(lambda: host in names(clean_bed, host), f"{host} is served")
    assert "Hello from web" in clean_bed.gateway.get(f"https://{host}/").text
    for other in (host, "another.wild.mydomain.com"):
        assert "Hello from web" in clean_bed.gateway.get(f"http://{other}/").text


def test_that_nobody_routes(clean_bed: Bed) -> None:
    """A certificate may be there before the host is; it is served as soon as the host is."""
    host = "early.mydomain.com"
    clean_bed.start_acmeistio()
    clean_bed.apply(wish(NAMESPACE, "certificate", host))
    clean_bed.wait_for(lambda: host in stored_names(clean_bed), "the certificate is in its Secret")
    clean_bed.service(NAMESPACE, "web")
    clean_bed.apply(gateway(NAMESPACE, "web", host))
    clean_bed.apply(virtual_service(NAMESPACE, "web", host, service="web"))
    clean_bed.wait_for(lambda: host in names(clean_bed, host), f"{host} is served")
    assert "Hello from web" in clean_bed.gateway.get(f"https://{host}/").text
