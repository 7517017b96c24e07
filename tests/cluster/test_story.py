"""The founding story: two hosts on two Ingresses, one certificate, every client gets its page.

Istio makes a server of its own of each Ingress. A client that has a connection to one host and a
certificate that covers the other uses that connection for both, as HTTP/2 allows (RFC 9113
§9.1.1), and would meet 404.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.cluster.bed import Bed
from tests.cluster.http2 import Http2
from tests.cluster.manifests import ingress
from tests.cluster.pages import pages
from tests.cluster.seen import names

WWW, MOBILE = "www.mydomain.com", "mobile.mydomain.com"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
BROWSER_SECONDS = 60


def _declare_both(bed: Bed) -> None:
    """Each on an Ingress of its own, in a namespace of its own; returns when both are served."""
    bed.start_acmeistio()
    bed.apply(ingress("shop", "www", WWW, service="www"))
    bed.apply(ingress("app", "mobile", MOBILE, service="mobile"))
    bed.wait_for(lambda: all({WWW, MOBILE} <= names(bed, h) for h in (WWW, MOBILE)), "both served")


def test_one_certificate_serves_both(clean_bed: Bed) -> None:
    """Declared apart, one Secret beside the gateway has a certificate for both."""
    clean_bed.service("shop", "www")
    clean_bed.service("app", "mobile")
    _declare_both(clean_bed)
    assert clean_bed.gateway.certificate(WWW) == clean_bed.gateway.certificate(MOBILE)
    for host, name in ((WWW, "www"), (MOBILE, "mobile")):
        assert f"Hello from {name}" in clean_bed.gateway.get(f"https://{host}/").text
    assert not clean_bed.gateway.rejections()


def test_a_connection_of_the_other_host_is_misdirected_and_never_404(clean_bed: Bed) -> None:
    """421 (RFC 9110 §15.5.20): the client asks again on a connection of its own, and gets it."""
    clean_bed.service("shop", "www")
    clean_bed.service("app", "mobile")
    _declare_both(clean_bed)
    with Http2(
        clean_bed.gateway.address, clean_bed.gateway.https_port, WWW, clean_bed.root
    ) as connection:
        assert MOBILE in connection.names
        assert connection.get(WWW).status == 200
        assert connection.get(MOBILE).status == 421
        assert connection.get(WWW, "/again").status == 200
    with Http2(
        clean_bed.gateway.address, clean_bed.gateway.https_port, MOBILE, clean_bed.root
    ) as connection:
        assert b"Hello from mobile" in connection.get(MOBILE).body


def test_a_browser_gets_both_pages(clean_bed: Bed, tmp_path: Path) -> None:
    """Chromium loads a page of one host that needs a script of the other."""
    if CHROMIUM is None:
        pytest.skip("not run: there is no chromium among the system's packages")
    script = f'<html><body>WWW<script src="https://{MOBILE}/told.js"></script></body></html>'
    told = "document.body.append(' and MOBILE')"
    clean_bed.namespace("shop")
    clean_bed.namespace("app")
    with (
        pages({"/": ("text/html", script), "/favicon.ico": ("image/x-icon", "")}) as www,
        pages({"/told.js": ("text/javascript", told)}) as mobile,
    ):
        clean_bed.expose("shop", "www", www)
        clean_bed.expose("app", "mobile", mobile)
        _declare_both(clean_bed)
        document, log = _browse(clean_bed, f"https://{WWW}/", tmp_path)
    assert "WWW" in document
    assert " and MOBILE" in document
    assert ":status: 421" in log, "it did not reuse the connection: the test shows nothing"
    assert ":status: 404" not in log


def _connection(bed: Bed, host: str) -> Http2:
    return Http2(bed.gateway.address, bed.gateway.https_port, host, bed.root)


def _browse(bed: Bed, url: str, folder: Path) -> tuple[str, str]:
    """The document as Chromium has it in the end, and its log of the network."""
    assert CHROMIUM
    log = folder / "net.json"
    place = f"{bed.gateway.address}:{bed.gateway.https_port}"
    words = [
        *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu"),
        f"--user-data-dir={folder / 'profile'}",
        f"--host-resolver-rules=MAP *.mydomain.com {place}",
        f"--ignore-certificate-errors-spki-list={_spki_digest(bed.gateway.certificate(WWW))}",
        f"--log-net-log={log}",
        *("--dump-dom", url),
    ]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, timeout=BROWSER_SECONDS
    )
    return done.stdout, log.read_text()


def _spki_digest(leaf: x509.Certificate) -> str:
    key = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()
