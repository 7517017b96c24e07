"""Thousands of certificates that need nothing, or must all wait: Ingresses, Secrets, the ledger.

The pairs are real but for their keys, which are one: what a certificate costs to hold and to plan
does not depend on that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from acmeistio.issuer import BUILT_IN
from acmeistio.model import ACMEISTIO, MANAGED_BY
from acmeistio.names import DnsName
from acmeistio.planning import limits
from acmeistio.planning.ledger import Ledger
from acmeistio.planning.ledger_text import to_json
from acmeistio.planning.limits import Exemption
from acmeistio.stores.memory import LEDGER_KEY, LEDGER_NAME
from acmeistio.stores.secrets import (
    DECLARED_BY,
    DIRECTORY_URL,
    LEAF_SHA256,
    PLACEHOLDER,
    TLS_TYPE,
    encoded,
)
from tests.bench.stored import NAMESPACE, ingress, secret_name
from tests.simulated.objects import ObjectStore

ISSUER = BUILT_IN["letsencrypt"]
MADE_AGO = timedelta(days=10)
LIFETIME = timedelta(days=90)

_CA_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hoard")])


def names_of(number: int) -> tuple[DnsName, ...]:
    """One name or two, of a registered domain of their own."""
    domain = f"customer-{number:05}.example"
    return tuple(DnsName(name) for name in (domain, f"www.{domain}")[: 1 + number % 2])


def fill(store: ObjectStore, certificates: int) -> None:
    """Everything that so many certificates leave behind after they were issued."""
    pairs, now = Pairs(), datetime.now(UTC)
    for number in range(certificates):
        store.put(ingress(number, names_of(number)))
        pair = pairs.make(names_of(number), now - MADE_AGO)
        store.put(_secret(number, *pair, {DIRECTORY_URL: ISSUER.directory_url}))
    store.put(_ledger(ordered(certificates, now)))


def fill_waiting(store: ObjectStore, certificates: int) -> None:
    """As many that are new, and all of this account's orders are spent for the time being."""
    pairs, now = Pairs(), datetime.now(UTC)
    for number in range(certificates):
        store.put(ingress(number, names_of(number)))
        pair = pairs.make(names_of(number), now - timedelta(hours=1))
        store.put(_secret(number, *pair, {PLACEHOLDER: "true"}))
    orders = limits.BudgetKey(ISSUER.directory_url, limits.Kind.ORDERS)
    store.put(_ledger(Ledger(budgets={orders: now + LIFETIME}, as_of=now)))


def ledger_bytes(certificates: int) -> int:
    """The size of a ledger just after so many orders."""
    return len(to_json(ordered(certificates, datetime.now(UTC))).encode())


def ordered(certificates: int, now: datetime) -> Ledger:
    """The ledger after all of them were ordered within the last hour."""
    budgets: dict[limits.BudgetKey, datetime] = {}
    for number in range(certificates):
        costs = limits.costs_of_order(ISSUER, names_of(number), Exemption.NONE)
        budgets.update(limits.spending(budgets, costs, now))
    return replace(Ledger(budgets=budgets), as_of=now)


@dataclass
class Pairs:
    """Certificates of a CA of its own, all for one key."""

    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def make(self, names: tuple[DnsName, ...], made: datetime) -> tuple[x509.Certificate, bytes]:
        """A certificate, and its key as PEM."""
        public = self.key.public_key()
        san = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(_CA_NAME)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(made)
            .not_valid_after(made + LIFETIME)
            .add_extension(san, critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False)
            .sign(self.key, hashes.SHA256())
        )
        return certificate, self.key_pem

    @property
    def key_pem(self) -> bytes:
        """The key of all."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _secret(
    number: int, certificate: x509.Certificate, key_pem: bytes, facts: Mapping[str, str]
) -> dict[str, Any]:
    notes = {
        LEAF_SHA256: certificate.fingerprint(hashes.SHA256()).hex(),
        **facts,
        DECLARED_BY: f'[["Ingress","default","web-{number}"]]',
    }
    # Real chains have an intermediate, which is twice as long as a leaf.
    chain = certificate.public_bytes(Encoding.PEM) * 2
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "namespace": NAMESPACE,
            "name": secret_name(number),
            "labels": {MANAGED_BY: ACMEISTIO},
            "annotations": notes,
        },
        "type": TLS_TYPE,
        "data": {"tls.crt": encoded(chain), "tls.key": encoded(key_pem)},
    }


def _ledger(ledger: Ledger) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": NAMESPACE, "name": LEDGER_NAME},
        "data": {LEDGER_KEY: to_json(ledger)},
    }
