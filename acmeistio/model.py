"""The vocabulary of DESIGN.md §4 as frozen values; owns what things are, not what is done to them.

Instants are aware datetimes in UTC with whole seconds where they are stored; durations are
timedeltas. A plain number carries its unit in its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from acmeistio.issuer import Issuer
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


MANAGED_BY = "app.kubernetes.io/managed-by"
ACMEISTIO = "acmeistio"
"""The label of everything that acmeistio keeps, and its value."""

ISTIO_GATEWAY = "Gateway.networking.istio.io"
K8S_GATEWAY = "Gateway.gateway.networking.k8s.io"
"""Two groups have a kind Gateway; they are told apart as kubectl does."""


def kind_of(manifest: Mapping[str, Any]) -> str:
    """The kind of an object as ObjectRef has it: of a Gateway with its group."""
    kind, version = manifest.get("kind"), manifest.get("apiVersion")
    if not isinstance(kind, str):
        return ""
    group, slash, _ = version.partition("/") if isinstance(version, str) else ("", "", "")
    return f"{kind}.{group}" if kind == "Gateway" and slash else kind


class Target(NamedTuple):
    """The Secret that a certificate is for. A tuple, since much is looked up by thousands."""

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

    @property
    def is_rsa(self) -> bool:
        """Whether it is for clients that know no ECDSA."""
        return self.startswith("rsa")


DEFAULT_KEY_TYPE = KeyType.ECDSA_P256


@dataclass(frozen=True, order=True, slots=True)
class GatewayAddress:
    """Where a gateway answers from inside the cluster: its Service's name, and its ports."""

    host: str
    http_port: int = 80
    https_port: int = 443

    def __str__(self) -> str:
        return f"{self.host}:{self.http_port}"


@dataclass(frozen=True, slots=True)
class Declaration:
    """What one object asks for. An absent parameter (None) is no opinion.

    `created_at` is the object's creationTimestamp; None for a manifest in a folder, where
    namespace and name decide who is older and never the file's time. `reached_at` are the
    gateways through which the names are served; none where that is not known.
    """

    source: ObjectRef
    created_at: datetime | None
    names: tuple[DnsName, ...]
    target: Target
    issuer: str | None = None
    key_type: KeyType | None = None
    profile: str | None = None
    reached_at: tuple[GatewayAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class CertificateSpec:
    """What one target Secret should hold, merged from its declarations.

    `names` is sorted; `declared_by` says for each name which objects declare it, `reached_at`
    through which gateways it is served. `profile` None leaves the choice to the CA. `fallback_for`
    is the directory of the issuer in whose place `issuer` is asked.
    """

    target: Target
    names: tuple[DnsName, ...]
    issuer: str
    key_type: KeyType
    profile: str | None
    declared_by: Mapping[DnsName, tuple[ObjectRef, ...]]
    reached_at: Mapping[DnsName, tuple[GatewayAddress, ...]] = field(default_factory=dict)
    fallback_for: str | None = None

    @property
    def sources(self) -> tuple[ObjectRef, ...]:
        """All objects that contribute a name, sorted."""
        return tuple(sorted({ref for refs in self.declared_by.values() for ref in refs}))


class IngressMode(StrEnum):
    """Which Ingresses Istio processes (`meshConfig.ingressControllerMode`)."""

    STRICT = "STRICT"
    DEFAULT = "DEFAULT"
    OFF = "OFF"


class Routing(StrEnum):
    """How the CA's requests are brought from a gateway to acmeistio.

    FILTER: before every route of every host, by an EnvoyFilter. MIRROR: by a route beside each
    route of a user, where a mesh allows no EnvoyFilters. OFF: somebody else sees to it.
    """

    FILTER = "filter"
    MIRROR = "mirror"
    OFF = "off"


class Probing(StrEnum):
    """What is done with a name that can't be reached through the gateway.

    GATE: it waits, for an hour at most. ADVISE: it is told and ordered. OFF: nobody looks.
    """

    GATE = "gate"
    ADVISE = "advise"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class GatewayWorkload:
    """Gateway pods that Istio Gateways and Ingresses are served by, all of one namespace.

    `selector` are labels of the pods; `service` is what they are reached by from inside, with the
    ports that Gateways name; `address` is another way to them, where that is none.
    """

    namespace: str = "istio-system"
    selector: Mapping[str, str] = field(default_factory=lambda: {"istio": "ingressgateway"})
    service: str = "istio-ingressgateway"
    routing: Routing = Routing.FILTER
    http_port: int = 80
    https_port: int = 443
    address: GatewayAddress | None = None

    def is_selected_by(self, labels: Mapping[str, str]) -> bool:
        """Whether a Gateway with this selector is served by these pods; {} selects all pods."""
        return labels.items() <= self.selector.items()

    def may_be_selected_by(self, labels: Mapping[str, str]) -> bool:
        """The same where the pods may have labels beside those that are known.

        One that is known must be named, and none contradict: Istio's charts give two labels, and
        users select by either or both.
        """
        known = labels.keys() & self.selector.keys()
        return bool(known) and all(labels[key] == self.selector[key] for key in known)


@dataclass(frozen=True, slots=True)
class Installation:
    """What this installation says and every source needs.

    acmeistio itself is in `namespace`. Secrets of Ingresses and Istio Gateways lie in the
    namespace of the gateway pods that serve them; of these acmeistio may read and write
    `secrets_granted` (None: any). Names must lie within `domains_allowed` (None: any).
    `mesh_config` is the ConfigMap that has Istio's own word on mode, class and selector of
    Ingresses (None: the values here are it). EnvoyFilters in `root_namespace` count for the whole
    mesh; there one serves the gateways that Istio deploys for Gateways of `gateway_class` (None:
    none), for which `routing` counts.
    """

    issuers: Mapping[str, Issuer]
    default_issuer: str
    namespace: str = "istio-system"
    gateways: tuple[GatewayWorkload, ...] = (GatewayWorkload(),)
    root_namespace: str = "istio-system"
    gateway_class: str | None = "istio"
    cluster_domain: str = "cluster.local"
    routing: Routing = Routing.FILTER
    probing: Probing = Probing.GATE
    default_secret: str = "istio-ingress-certs"
    ingress_mode: IngressMode = IngressMode.STRICT
    ingress_class: str = "istio"
    ingress_selector: Mapping[str, str] = field(default_factory=lambda: {"istio": "ingressgateway"})
    mesh_config: ObjectRef | None = None
    secrets_granted: frozenset[str] | None = None
    domains_allowed: frozenset[DnsName] | None = None
    honours_tls_acme: bool = False

    @property
    def gateway_namespaces(self) -> frozenset[str]:
        """Where gateway pods read Secrets."""
        return frozenset(workload.namespace for workload in self.gateways)

    def selected(self, labels: Mapping[str, str]) -> tuple[GatewayWorkload, ...]:
        """The gateway pods that a selector selects, else those that it may select."""
        sure = tuple(workload for workload in self.gateways if workload.is_selected_by(labels))
        return sure or tuple(w for w in self.gateways if w.may_be_selected_by(labels))

    def address_of(self, workload: GatewayWorkload) -> GatewayAddress:
        """Where gateway pods answer from inside the cluster."""
        host = self.service_host(workload.namespace, workload.service)
        ports = workload.http_port, workload.https_port
        return workload.address or GatewayAddress(host, *ports)

    def service_host(self, namespace: str, service: str) -> str:
        """The name of a Service in the cluster's DNS."""
        return f"{service}.{namespace}.svc.{self.cluster_domain}"


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
    """Proven facts of a leaf certificate whose key was checked to be its own.

    `renewal_id` is by which the CA is asked about its renewal (RFC 9773 §4.1), None for one that
    does not say which key of the CA signed it.
    """

    names: frozenset[DnsName]
    not_before: datetime
    not_after: datetime
    serial: int
    sha256: str
    key_type: KeyType | None
    renewal_id: str | None = None


@dataclass(frozen=True, slots=True)
class Marks:
    """What the labels and annotations of a target Secret say about it.

    `fallback_for` is the directory of the issuer in whose place another CA made the certificate,
    `revoked_sha256` the leaf that was revoked at a user's request.
    """

    managed: bool = False
    placeholder: bool = False
    written_sha256: str | None = None
    directory_url: str | None = None
    profile: str | None = None
    declared_by: tuple[ObjectRef, ...] = ()
    renew_requested_at: str | None = None
    renewed_for: str | None = None
    account_url: str | None = None
    issued_at: datetime | None = None
    fallback_for: str | None = None
    allows_downgrade: bool = False
    revoke_requested: str | None = None
    revoked_sha256: str | None = None


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


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A name that the CA's requests would not arrive for; looked at again at `retry_at`."""

    retry_at: datetime


@dataclass(frozen=True, slots=True)
class Suggestion:
    """When the CA wants a certificate to be renewed (RFC 9773 §4.2).

    `renewal_id` is the certificate that it is about; `explanation_url` may say why.
    """

    renewal_id: str
    start: datetime
    end: datetime
    explanation_url: str | None = None

    def includes(self, now: datetime) -> bool:
        """Whether an order made now is within the window (Boulder: without its end)."""
        return self.start <= now < self.end


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
    REVOKED = "Revoked"


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
    """Order a certificate for `names`.

    `replaces` is the suggestion for the certificate that it comes instead of, where the CA is to
    be told so (RFC 9773 §5).
    """

    names: tuple[DnsName, ...]
    reason: IssueReason
    replaces: Suggestion | None = None


@dataclass(frozen=True, slots=True)
class Validate:
    """Have the CA validate a name that failed before, alone: no certificate is risked for it."""

    name: DnsName


@dataclass(frozen=True, slots=True)
class Revoke:
    """Have the CA revoke the stored certificate; `reason` is spelt as RFC 5280 §5.3.1 does."""

    reason: str


@dataclass(frozen=True, slots=True)
class Defer:
    """An order is wanted and must wait; `names` are those that wait."""

    until: datetime
    reason: IssueReason
    names: tuple[DnsName, ...]


Decision = Keep | StorePlaceholder | StoreKnown | Issue | Validate | Revoke | Defer
