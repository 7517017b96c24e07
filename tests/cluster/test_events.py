"""Events at users' objects, as `kubectl describe` shows them."""

from __future__ import annotations

from tests.cluster.bed import NAMESPACE, SECRET_NAME, Bed
from tests.cluster.manifests import ingress, renewal, wish
from tests.cluster.seen import names
from tests.cluster.told import described, note, times_told

WWW, MOBILE = "www.mydomain.com", "mobile.mydomain.com"


def _declare(bed: Bed, name: str, host: str) -> None:
    bed.apply(ingress("shop", name, host, service="www"))
    bed.wait_for(lambda: host in names(bed, host), f"{host} is served")


def test_kubectl_describe_shows_what_happened(clean_bed: Bed) -> None:
    """Issued and renewed, with names, end and serial number; each once."""
    bed = clean_bed
    bed.service("shop", "www")
    bed.start_acmeistio()
    _declare(bed, "www", WWW)
    issued = note(bed, "shop", "www", "CertificateIssued")
    first = bed.gateway.certificate(WWW)
    assert f"for {WWW}; valid until {first.not_valid_after_utc:%Y-%m-%d %H:%M} UTC" in issued
    assert f"serial {first.serial_number:x}" in issued
    bed.api.patch("Secret", NAMESPACE, SECRET_NAME, renewal())
    renewed = note(bed, "shop", "www", "CertificateRenewed")
    bed.wait_for(lambda: bed.gateway.certificate(WWW) != first, "it is renewed")
    assert f"serial {bed.gateway.certificate(WWW).serial_number:x}" in renewed
    shown = described(bed, "shop", "www").splitlines()
    for reason, text in (("CertificateIssued", issued), ("CertificateRenewed", renewed)):
        [line] = [line for line in shown if reason in line]
        assert line.split()[:2] == ["Normal", reason]
        assert line.endswith(text)


def test_each_object_of_a_certificate_is_told(clean_bed: Bed) -> None:
    """Who declares one of its names hears of it in their own namespace."""
    bed = clean_bed
    bed.service("shop", "www")
    bed.service("app", "mobile")
    bed.apply(ingress("shop", "www", WWW, service="www"))
    bed.apply(ingress("app", "mobile", MOBILE, service="mobile"))
    bed.start_acmeistio()
    assert f"for {MOBILE}, {WWW};" in note(bed, "shop", "www", "CertificateIssued")
    assert f"for {MOBILE}, {WWW};" in note(bed, "app", "mobile", "CertificateIssued")


def test_a_defect_is_told_once_and_counted_on(clean_bed: Bed) -> None:
    """Not with each look; a restart tells it again, as the same Event."""
    bed = clean_bed
    bed.service("shop", "www")
    bed.apply(wish("shop", "all", "*.mydomain.com"))
    for life in (1, 2, 3):
        bed.start_acmeistio()
        for look in (1, 2):
            host = f"life-{life}-look-{look}.mydomain.com"
            bed.apply(ingress("shop", host, host, service="www"))
            note(bed, "shop", host, "CertificateIssued")  # Events are told in their order
        assert times_told(bed, "shop", "all", "WildcardNeedsDNS01") == life
        bed.stop_acmeistio()
    [line] = described(bed, "shop", "all").strip().splitlines()[2:]
    assert line.split()[:2] == ["Warning", "WildcardNeedsDNS01"]
    assert "Declare the host names one by one" in line
