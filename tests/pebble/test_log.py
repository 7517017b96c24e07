"""What must never be in a log."""

from __future__ import annotations

import re

from josepy.json_util import encode_b64jose

from acmeistio.acme.account import account_key
from pebble.local_ca import CaOptions
from tests.pebble.conftest import MakeSite
from tests.pebble.program import HOSTS, SHOP, Site

PIECE = 24
"""So many characters of a secret in a row are no coincidence."""


def test_no_secret_is_logged(make_site: MakeSite) -> None:
    """At level debug, through successes, failures and repairs: no key, no token.

    Looked for are all pieces of PEM bodies and of their base64 in Secrets, the account key's
    thumbprint (the second half of every key authorization), and every token that the CA asked for.
    """
    site = make_site(CaOptions(nonce_reject_percent=20))
    site.ca.set_addresses(SHOP, ["127.0.0.9"])
    site.declare(*HOSTS, SHOP)
    program = site.start(log_level="debug")
    held = site.wait_for_certificate(HOSTS)
    secrets = pieces(site)
    site.secret.write_text("{")
    site.wait_for_event(program, "certificate-restored")
    site.ca.restart()
    site.edit_secret(lambda s: s["metadata"]["annotations"].update({RENEW: "now"}))
    site.wait_for_certificate(HOSTS, after=held)
    secrets |= pieces(site)
    assert program.end() == 0
    output = site.log.read_text()
    assert len(tokens(site)) >= 5
    assert not [token for token in tokens(site) if token in output]
    assert not [piece for piece in secrets if piece in output]
    assert "-----BEGIN" not in output


RENEW = "acmeistio.io/renew-requested-at"


def tokens(site: Site) -> set[str]:
    """All tokens that the CA asked for."""
    return set(re.findall(r"/\.well-known/acme-challenge/([\w-]+)", site.ca.log_text()))


def pieces(site: Site) -> set[str]:
    """Of all that is secret now, every piece that would give it away."""
    names = ("acmeistio-account-pebble", "istio-ingress-certs")
    pems = [content for name in names for content in site.secret_data(name).values()]
    bodies = [re.sub(r"-----.*?-----|\s", "", pem.decode()) for pem in pems]
    encoded = [text for name in names for text in site.secret_texts(name).values()]
    key = account_key(site.secret_data("acmeistio-account-pebble")["tls.key"])
    whole = [*bodies, *encoded, str(encode_b64jose(key.thumbprint()))]
    return {text[at : at + PIECE] for text in whole for at in range(0, len(text) - PIECE, PIECE)}
