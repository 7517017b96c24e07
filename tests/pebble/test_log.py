"""What must never be in a log, and that every line of it has the form that was asked for."""

from __future__ import annotations

import json
import re
import subprocess
import sys

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


LIBRARY = """
import logging
from acmeistio.journal.log import configure
from acmeistio.settings import LogFormat

configure(LogFormat({format!r}), {level!r})
log = logging.getLogger("some.module")
log.info("not worth a line")
log.warning("%s can't be\\nfollowed", "Secret edge/api-certs")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("a mistake")
log.log(35, "of a level in between")
"""


def lines_of_a_library(log_format: str, level: str = "info") -> list[str]:
    """What a child process has logged by Python's own logging; on standard output alone."""
    program = LIBRARY.format(format=log_format, level=level)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_lines_of_libraries_are_json_too() -> None:
    """With time and level, one line each; a traceback is a field."""
    lines = [json.loads(line) for line in lines_of_a_library("json")]
    assert all(line["event"] == "log" and line["logger"] == "some.module" for line in lines)
    assert all(re.fullmatch(r"20\d\d-.*Z", line["timestamp"]) for line in lines)
    assert [(line["level"], line["message"]) for line in lines] == [
        ("warning", "Secret edge/api-certs can't be followed"),
        ("error", "a mistake"),
        ("warning", "of a level in between"),
    ]
    assert "ZeroDivisionError" in lines[1]["exception"]
    assert "exception" not in lines[0]


def test_lines_of_libraries_are_text_too() -> None:
    """Time, level and event before what is said; the traceback follows."""
    first, second, *traceback, last = lines_of_a_library("text")
    for line, said in ((first, "can't be followed"), (second, "a mistake"), (last, "in between")):
        assert re.match(r"20\d\d-\S+Z \[(warning|error) *\] log  *\[some.module\] ", line)
        assert said in line
    assert "ZeroDivisionError" in traceback[-1]


def test_lines_of_libraries_keep_to_the_level() -> None:
    """Who wants errors alone gets no warning of a library."""
    levels = [json.loads(line)["level"] for line in lines_of_a_library("json", "error")]
    assert levels == ["error"]
