"""Values of the vocabulary with sensible defaults, so that a test says only what it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from acmeistio.issuer import Issuer
from acmeistio.model import (
    DEFAULT_KEY_TYPE,
    CertificateSpec,
    Declaration,
    Installation,
    KeyType,
    Leaf,
    Marks,
    ObjectRef,
    Stored,
    Target,
)
from acmeistio.names import DnsName
from acmeistio.planning.failing import armed_by
from acmeistio.planning.ledger import Failure, Ledger
from acmeistio.planning.situation import Situation

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)

NAMESPACE = "istio-system"
TARGET = Target(NAMESPACE, "istio-ingress-certs")
REF = ObjectRef("Ingress", "shop", "web")

CA = Issuer("ca", "https://ca.example/directory")
OTHER_CA = Issuer("other", "https://other.example/directory")
INSTALLATION = Installation(issuers={"ca": CA, "other": OTHER_CA}, default_issuer="ca")

A, B, C, D = (DnsName(f"{letter}.example.com") for letter in "abcd")


def names(*texts: str) -> tuple[DnsName, ...]:
    """Names that need no parsing."""
    return tuple(DnsName(text) for text in texts)


def ingress(
    annotations: Mapping[str, object] | None = None,
    *,
    tls: object = None,
    hosts: Sequence[str] = (),
    class_annotation: str | None = "istio",
    class_name: str | None = None,
    created: object = None,
) -> dict[str, Any]:
    """An Ingress as the API server returns one; of Istio's class unless said otherwise."""
    notes: dict[str, object] = dict(annotations or {})
    if class_annotation is not None:
        notes["kubernetes.io/ingress.class"] = class_annotation
    metadata: dict[str, Any] = {"namespace": REF.namespace, "name": REF.name, "annotations": notes}
    if created is not None:
        metadata["creationTimestamp"] = created
    spec: dict[str, Any] = {"rules": [{"host": host} for host in hosts]}
    if tls is not None:
        spec["tls"] = tls
    if class_name is not None:
        spec["ingressClassName"] = class_name
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": REF.kind,
        "metadata": metadata,
        "spec": spec,
    }


def declaration(
    source: str = "web",
    *declared: str,
    namespace: str = "shop",
    created_at: datetime | None = None,
    target: Target = TARGET,
    issuer: str | None = None,
    key_type: KeyType | None = None,
    profile: str | None = None,
) -> Declaration:
    """What the Ingress `source` declares."""
    return Declaration(
        source=ObjectRef("Ingress", namespace, source),
        created_at=created_at,
        names=names(*declared),
        target=target,
        issuer=issuer,
        key_type=key_type,
        profile=profile,
    )


def spec_of(
    *wanted: DnsName,
    issuer: str = "ca",
    key_type: KeyType = DEFAULT_KEY_TYPE,
    profile: str | None = None,
    source: ObjectRef = REF,
) -> CertificateSpec:
    """A spec for `wanted` that one object declares."""
    return CertificateSpec(
        target=TARGET,
        names=tuple(sorted(wanted)),
        issuer=issuer,
        key_type=key_type,
        profile=profile,
        declared_by=dict.fromkeys(sorted(wanted), (source,)),
    )


def stored(
    *served: DnsName,
    made: datetime = NOW - DAY,
    lifetime: timedelta = 90 * DAY,
    key_type: KeyType | None = DEFAULT_KEY_TYPE,
    serial: int = 1,
    **marks: Any,
) -> Stored:
    """A Secret with a certificate that acmeistio wrote; `marks` are changes to what it says."""
    sha256 = f"{serial:064x}"
    leaf = Leaf(frozenset(served), made, made + lifetime, serial, sha256, key_type)
    written = Marks(
        managed=True,
        written_sha256=sha256,
        directory_url=CA.directory_url,
        declared_by=(REF,),
    )
    return Stored(leaf, replace(written, **marks))


def placeholder_of(*served: DnsName, made: datetime = NOW) -> Stored:
    """A Secret with the placeholder that acmeistio made."""
    return stored(*served, made=made, lifetime=365 * DAY, placeholder=True, directory_url=None)


def situation(wanted: CertificateSpec, held: object, **changes: Any) -> Situation:
    """All that a decision depends on; nothing remembered and nothing gone wrong so far."""
    base = Situation(
        spec=wanted,
        issuers=INSTALLATION.issuers,
        held=None,
        remembers=False,
        ledger=Ledger(),
        now=NOW,
    )
    return replace(base, held=held, **changes)


def digest_of(wanted: CertificateSpec, marks: Marks | None, name: DnsName | None = None) -> str:
    """What arms a failure of today's declaration."""
    return armed_by(wanted, INSTALLATION.issuers[wanted.issuer], marks, name)


def failed_name(
    wanted: CertificateSpec,
    name: DnsName,
    *,
    count: int = 1,
    retry_at: datetime = NOW + MINUTE,
    marks: Marks | None = None,
    ledger: Ledger | None = None,
) -> Ledger:
    """A ledger in which `name` failed as it is declared now."""
    failure = Failure(count, retry_at, (digest_of(wanted, marks, name),), "NXDOMAIN")
    return (ledger or Ledger()).name_failed(wanted.issuer, name, failure)


def failed_target(
    wanted: CertificateSpec,
    *,
    retry_at: datetime = NOW + MINUTE,
    marks: Marks | None = None,
    costly: bool = True,
) -> Ledger:
    """A ledger in which the order of `wanted` as a whole failed."""
    failure = Failure(1, retry_at, (digest_of(wanted, marks),), "no, thank you", costly=costly)
    return Ledger().target_failed(wanted.target, wanted.issuer, failure)
