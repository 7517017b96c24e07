"""What is particular to a CA, said in a file: external accounts, chains, profiles; and accounts."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID

from pebble.local_ca import CaOptions
from tests.pebble.conftest import MakeSite
from tests.pebble.program import HOSTS, NAMESPACE, SECRET_NAME, Held, Site

ACCOUNT = "acmeistio-account-pebble"
KEY_ID, MAC_KEY = "customer-1", base64.urlsafe_b64encode(b"k" * 32).decode().rstrip("=")
OF_THE_FILE = {"issuer": "pebble", "directory": None, "ca_bundle": None, "profile": None}
"""Options that leave everything to the file."""


def issuers(site: Site, **words: Any) -> Path:
    """A file with one issuer, the site's Pebble."""
    entry = {
        "name": "pebble",
        "directory": site.ca.directory_url,
        "caBundle": str(site.ca.ca_bundle),
        "profile": "default",
        **words,
    }
    file = site.folder / "issuers.yaml"
    file.write_text(yaml.safe_dump([entry]))
    return file


def topmost(held: Held) -> str:
    """The common name that a chain leads to."""
    (name,) = held.chain[-1].issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name.value)


def test_an_external_account(make_site: MakeSite) -> None:
    """A CA for its customers: the account is bound to theirs, by a key that lies in a Secret."""
    site = make_site(CaOptions(external_accounts={KEY_ID: MAC_KEY}))
    secret = site.state("acmeistio-eab-pebble.secret.yaml")
    secret.parent.mkdir(parents=True)
    data = {"hmac-key": base64.b64encode(MAC_KEY.encode()).decode()}
    metadata = {"name": "acmeistio-eab-pebble", "namespace": NAMESPACE}
    secret.write_text(
        yaml.safe_dump({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
    )
    site.start(**OF_THE_FILE, issuers=issuers(site, externalAccount={"keyId": KEY_ID}))
    site.wait_for_certificate()
    assert site.ca.count("accounts") == 1


def test_an_external_account_that_nobody_has_named(make_site: MakeSite) -> None:
    """The owner of the object is told what is missing, and the CA is not asked again and again."""
    site = make_site(CaOptions(external_accounts={KEY_ID: MAC_KEY}))
    program = site.start()
    site.wait_for_event(program, "defect")
    (defect,) = program.events("defect")
    assert defect["reason"] == "OrderRejected"
    assert "external" in defect["sentence"]
    assert site.ca.count("orders") == 0


@pytest.mark.parametrize("number", [0, 1])
def test_a_preferred_chain(make_site: MakeSite, number: int) -> None:
    """Of the chains on offer the one that leads to the root which the settings name is stored."""
    site = make_site(CaOptions(alternate_roots=2))
    root = x509.load_pem_x509_certificate(site.ca.root_pem(number))
    (wanted,) = root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    file = issuers(site, preferredChain=str(wanted.value))
    site.start(**OF_THE_FILE, issuers=file)
    site.wait_for(site.held, "a certificate")
    held = site.held()
    assert held is not None
    assert topmost(held) == wanted.value
    held.check(site.ca.root_pem(number))


def test_a_profile_that_the_ca_has_not(make_site: MakeSite) -> None:
    """It is told which there are; no order is spent, and nothing is asked again by itself."""
    site = make_site()
    program = site.start(profile="gold")
    site.wait_for_event(program, "defect")
    (defect,) = program.events("defect")
    assert defect["reason"] == "OrderRejected"
    assert "it has: default, shortlived" in defect["sentence"]
    assert site.ca.count("orders") == 0


def test_short_lives_renew_with_the_same_calm(make_site: MakeSite) -> None:
    """The profile for short lives, quickened: three certificates in a row, each renewed once."""
    site = make_site(CaOptions(short_validity_seconds=12))
    program = site.start(profile="shortlived")
    site.wait_for_event(program, "certificate-issued", count=4, within=60)
    assert [e["reason"] for e in program.events("certificate-issued")][1:] == ["RenewalDue"] * 3
    assert not program.events("certificate-not-issued")
    assert site.ca.count("orders") == 4


def test_a_blocked_domain_among_ten(make_site: MakeSite) -> None:
    """What the CA does not issue for is left out; it is not asked for again, the others serve."""
    names = [f"n{number}.mydomain.com" for number in range(9)]
    site = make_site(CaOptions(domain_blocklist=("blocked.example",)))
    site.declare(*names, "www.blocked.example")
    program = site.start()
    site.wait_for_certificate(names)
    (defect,) = program.events("defect")
    assert defect["reason"] == "NameRefused"
    assert "www.blocked.example" in defect["sentence"]
    assert "9999-01-01" in site.ledger.read_text(), "time alone brings no other attempt"
    assert site.ca.count("orders") == 1


def test_a_new_account_key_and_then_a_renewal(site: Site) -> None:
    """The account stays the same one; its key is another, and orders by it."""
    program = site.start()
    first = site.wait_for_certificate()
    before = site.secret_data(ACCOUNT)["tls.key"]
    site.annotate(ACCOUNT, rollover_requested_at="2026-01-01")
    site.wait_for(
        lambda: site.note(ACCOUNT, "rolled-over-for") == "2026-01-01", "the key is rolled over"
    )
    assert site.secret_data(ACCOUNT)["tls.key"] != before
    site.annotate(SECRET_NAME, renew_requested_at="now")
    site.wait_for_certificate(after=first)
    assert site.ca.count("accounts") == 1
    assert program.alive


def test_a_revoked_certificate_is_replaced(site: Site) -> None:
    """Asked for on the Secret: the CA revokes the certificate, and another key serves at once."""
    program = site.start()
    first = site.wait_for_certificate(HOSTS)
    site.annotate(SECRET_NAME, revoke_requested="keyCompromise")
    second = site.wait_for_certificate(HOSTS, after=first)
    assert second.leaf.public_key() != first.leaf.public_key()
    assert site.ca.is_revoked(first.serial)
    assert not site.ca.is_revoked(second.serial)
    assert site.note(SECRET_NAME, "revoke-requested") is None
    assert [e["reason"] for e in program.events("certificate-issued")][1:] == ["Revoked"]
