"""The vocabulary of DESIGN.md §4 as frozen values; owns what things are, not what is done to them.

Instants are aware datetimes in UTC with whole seconds where they are stored; durations are
timedeltas. A plain number carries its unit in its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from acmeistio.names import DnsName


@dataclass(frozen=True, order=True, slots=True)
class ObjectRef:
    """One object of the cluster or of a folder, by what users call it."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else self.short

    @property
    def short(self) -> str:
        """Without the namespace, for objects that have none, such as a manifest file."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, order=True, slots=True)
class Target:
    """The Secret that a certificate is for."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def ref(self) -> ObjectRef:
        """The Secret as an object that a Defect can be about."""
        return ObjectRef("Secret", self.namespace, self.name)


class KeyType(StrEnum):
    """The kinds of certificate key that users may ask for, spelt as in the annotation."""

    ECDSA_P256 = "ecdsa-p256"
    ECDSA_P384 = "ecdsa-p384"
    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"


DEFAULT_KEY_TYPE = KeyType.ECDSA_P256


@dataclass(frozen=True, slots=True)
class Declaration:
    """What one object asks for. An absent parameter (None) is no opinion.

    `created_at` is the object's creationTimestamp; None for a manifest in a folder, where
    namespace and name decide who is older and never the file's time.
    """

    source: ObjectRef
    created_at: datetime | None
    names: tuple[DnsName, ...]
    target: Target
    issuer: str | None = None
    key_type: KeyType | None = None
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class CertificateSpec:
    """What one target Secret should hold, merged from its declarations.

    `names` is sorted; `declared_by` says for each name which objects declare it.
    `profile` None leaves the choice to the CA.
    """

    target: Target
    names: tuple[DnsName, ...]
    issuer: str
    key_type: KeyType
    profile: str | None
    declared_by: Mapping[DnsName, tuple[ObjectRef, ...]]

    @property
    def sources(self) -> tuple[ObjectRef, ...]:
        """All objects that contribute a name, sorted."""
        return tuple(sorted({ref for refs in self.declared_by.values() for ref in refs}))


@dataclass(frozen=True, slots=True)
class Issuer:
    """One CA directory and what is particular to it.

    `challenge_types` are those that this installation has a Solver for at this CA;
    `max_names` bounds the names of one certificate.
    """

    name: str
    directory_url: str
    ca_bundle: str | None = None
    email: str | None = None
    profile: str | None = None
    challenge_types: frozenset[str] = frozenset({"http-01"})
    max_names: int = 100


class IngressMode(StrEnum):
    """Which Ingresses Istio processes (`meshConfig.ingressControllerMode`)."""

    STRICT = "STRICT"
    DEFAULT = "DEFAULT"
    OFF = "OFF"


@dataclass(frozen=True, slots=True)
class Installation:
    """What this installation says and every source needs.

    Secrets of Ingresses lie in `gateway_namespace`, where the gateway pods read them; of these
    acmeistio may read and write `secrets_granted` (None: any). Names must lie within
    `domains_allowed` (None: any). `mesh_config` is the ConfigMap that
    has Istio's own word on mode and class (None: the values here are it).
    """

    issuers: Mapping[str, Issuer]
    default_issuer: str
    gateway_namespace: str = "istio-system"
    default_secret: str = "istio-ingress-certs"
    ingress_mode: IngressMode = IngressMode.STRICT
    ingress_class: str = "istio"
    mesh_config: ObjectRef | None = None
    secrets_granted: frozenset[str] | None = None
    domains_allowed: frozenset[DnsName] | None = None
    honours_tls_acme: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """Something that users should see at their object; `reason` is CamelCase, `note` for humans.

    `warns` is true where something is not as they want it.
    """

    regarding: ObjectRef
    reason: str
    note: str
    warns: bool = False


@dataclass(frozen=True, slots=True)
class Leaf:
    """Proven facts of a leaf certificate whose key was checked to be its own."""

    names: frozenset[DnsName]
    not_before: datetime
    not_after: datetime
    serial: int
    sha256: str
    key_type: KeyType | None


@dataclass(frozen=True, slots=True)
class Marks:
    """What the labels and annotations of a target Secret say about it."""

    managed: bool = False
    placeholder: bool = False
    written_sha256: str | None = None
    directory_url: str | None = None
    profile: str | None = None
    declared_by: tuple[ObjectRef, ...] = ()
    renew_requested_at: str | None = None
    renewed_for: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A target Secret that holds a usable pair."""

    leaf: Leaf
    marks: Marks


@dataclass(frozen=True, slots=True)
class Unusable:
    """A target Secret that exists and does not hold a usable pair; `why` is for humans."""

    why: str
    marks: Marks


Held = Stored | Unusable | None
"""What a target Secret holds; None where it does not exist."""


def is_by_hand(held: Held) -> bool:
    """Whether a usable pair is another than the one acmeistio wrote."""
    return isinstance(held, Stored) and held.marks.written_sha256 != held.leaf.sha256


class IssueReason(StrEnum):
    """Why a certificate is ordered; shown to users and used as a label."""

    NOT_ISSUED_YET = "NotIssuedYet"
    SECRET_UNUSABLE = "SecretUnusable"
    EXPIRED = "Expired"
    RENEWAL_DUE = "RenewalDue"
    RENEWAL_REQUESTED = "RenewalRequested"
    NAMES_ADDED = "NamesAdded"
    ISSUER_CHANGED = "IssuerChanged"
    PROFILE_CHANGED = "ProfileChanged"
    KEY_TYPE_CHANGED = "KeyTypeChanged"


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing to do before `look_again_at`; None: nothing to do until something changes."""

    look_again_at: datetime | None


@dataclass(frozen=True, slots=True)
class StorePlaceholder:
    """Write a self-signed pair, so that the gateway has something to serve."""


@dataclass(frozen=True, slots=True)
class StoreKnown:
    """Write again the bundle that this process wrote last: the Secret was lost or spoilt."""


@dataclass(frozen=True, slots=True)
class Issue:
    """Order a certificate for `names`."""

    names: tuple[DnsName, ...]
    reason: IssueReason


@dataclass(frozen=True, slots=True)
class Defer:
    """An order is wanted and must wait; `names` are those that wait."""

    until: datetime
    reason: IssueReason
    names: tuple[DnsName, ...]


Decision = Keep | StorePlaceholder | StoreKnown | Issue | Defer
