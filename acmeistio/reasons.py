"""Every reason why something is not as its user wants it: sentence, remedy, severity.

The one list that feeds logs, Events, metrics and docs. It owns the words; it does not know who
finds a Defect or who shows it. A sentence says what is wrong and seen from where, a remedy what
to do; both are filled from the Defect's facts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, StrEnum

from acmeistio.model import ObjectRef


class Severity(StrEnum):
    """ERROR: something asked for is not done. WARNING: it is done, and will surprise."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Wording:
    """The words of one reason, with `{fact}` where a Defect's facts go."""

    severity: Severity
    sentence: str
    remedy: str


def _error(sentence: str, remedy: str) -> Wording:
    return Wording(Severity.ERROR, sentence, remedy)


def _warning(sentence: str, remedy: str) -> Wording:
    return Wording(Severity.WARNING, sentence, remedy)


class Reason(Enum):
    """The codes, spelt as Kubernetes spells states; the name of a member is its code."""

    # What users write
    InvalidAnnotation = _error(
        "{annotation} is {value}; possible: {possible}",
        "Write one of the possible values; nothing else is guessed.",
    )
    UnknownAnnotation = _warning(
        "{annotation} is not an annotation of acmeistio and has no effect",
        "{advice}",
    )
    NoNames = _error(
        "it asks for a certificate and names no host",
        "Name hosts in spec.tls[].hosts or spec.rules[].host, or in acmeistio.io/domains.",
    )
    InvalidName = _error(
        "{name} can't be in a certificate: {why}",
        "Write a full domain name such as www.example.com; the other names go on without it.",
    )
    NameNotAllowed = _error(
        "this installation orders no certificate for {name}; it does for {allowed}, and all below",
        "Declare a name within those, or add its domain to ACMEISTIO_DOMAINS_ALLOWED; the other "
        "names go on without it.",
    )
    IPAddressUnsupported = _error(
        "{name} is an IP address, and this installation has certificates for names only",
        "Declare a domain name that resolves to the address.",
    )
    WildcardNeedsDNS01 = _error(
        "{name} is a wildcard, which a CA validates by DNS only; {issuer} is used with {types}",
        "Declare the host names one by one; each of them gets its certificate over HTTP.",
    )
    TooManyNames = _error(
        "Secret {target} is asked for {count} names and a certificate has room for {limit}; "
        "left out, the newest: {left_out}",
        "Give some of the names another Secret (acmeistio.io/secret-name).",
    )
    ConflictingDeclaration = _error(
        "its {parameter} {value} contradicts {other}, which {winner} asks for in the same "
        "Secret {target}; the names of this object are not added",
        "Use the same value in both, or another Secret (acmeistio.io/secret-name).",
    )
    AmbiguousSecretName = _error(
        "acmeistio.io/domains can't tell which of its Secrets is meant: {secrets}",
        "Add acmeistio.io/secret-name with one of them.",
    )
    InvalidSecretName = _error(
        "{name} is no name that a Secret can have",
        "Use lower-case letters, digits, '-' and '.', at most 253 characters.",
    )
    SecretNameReserved = _error(
        "Secret name {name} is kept for acmeistio's own objects and files",
        "Use a name that does not begin with acmeistio- nor end in .yaml or .json.",
    )
    SecretNotGranted = _error(
        "this installation may not write Secret {target}; it may write {granted}",
        "Name one of those, or grant this one: add {name} to ACMEISTIO_SECRETS_GRANTED and to "
        "the Role and the policy beside it (deploy/install.yaml).",
    )
    TLSEntryWithoutSecret = _warning(
        "spec.tls[{index}] names no secretName; Istio skips such an entry, so port 443 stays "
        "closed for its hosts although the certificate goes to Secret {target}",
        "Add secretName: {name} to the entry.",
    )
    NoTLSEntry = _warning(
        "it has no spec.tls, so Istio opens no port 443 for it; the certificate goes to Secret "
        "{target} and is served only where a Gateway names that Secret",
        "Add spec.tls with the hosts and secretName: {name}.",
    )
    IngressClassNotProcessed = _error(
        "Istio does not process this Ingress ({why}), so its hosts can't be served",
        "Set the annotation kubernetes.io/ingress.class: {ingress_class}.",
    )
    UnknownIssuer = _error(
        "acmeistio.io/issuer {issuer} is not configured; known: {known}",
        "Use one of the known issuers, or configure this one.",
    )
    ManifestUnreadable = _error(
        "the file can't be read as Kubernetes manifests: {why}; what it declared before stays "
        "in force",
        "Correct the file.",
    )
    DuplicateManifest = _error(
        "{object} stands in another file too, and {winner} is used",
        "Remove it from one of the files.",
    )
    # What the cluster lets be read
    KindUnlistable = _error(
        "objects of kind {kind} can't be listed: {why}; what they declared before stays in force",
        "Give the ServiceAccount of acmeistio the rights of deploy/install.yaml.",
    )
    MeshConfigMissing = _warning(
        "there is no such ConfigMap, so Istio's defaults are taken for its Ingress class and mode",
        "Name the mesh's ConfigMap in ACMEISTIO_MESH_CONFIG, or set ACMEISTIO_INGRESS_CLASS "
        "and ACMEISTIO_INGRESS_MODE.",
    )
    MeshConfigUnreadable = _error(
        "the mesh configuration can't be read: {why}; what it said before stays in force",
        "Correct the ConfigMap, or set ACMEISTIO_INGRESS_CLASS and ACMEISTIO_INGRESS_MODE.",
    )
    SecretForbidden = _error(
        "the API server keeps the Secret from acmeistio: {why}",
        "Add {name} to the Role and the policy of acmeistio for namespace {namespace} "
        "(deploy/install.yaml), or take it out of ACMEISTIO_SECRETS_GRANTED.",
    )
    # What is found in the target Secret
    SecretNotManaged = _error(
        "the Secret exists and is not acmeistio's, so it is not touched",
        "Name another Secret, or remove this one, or give it the label "
        "app.kubernetes.io/managed-by: acmeistio to hand it over.",
    )
    SecretUnusable = _warning(
        "the Secret holds no usable pair: {why}",
        "Nothing: it is put right as soon as the CA allows.",
    )
    CertificateReplacedByHand = _warning(
        "the Secret holds a valid certificate that acmeistio did not write; it is kept until "
        "it is due for renewal ({renew_at})",
        "Nothing, or ask for a new one with the annotation acmeistio.io/renew-requested-at.",
    )
    # What the CA answers
    ValidationFailed = _error(
        "the CA could not validate {name}: {problem}",
        "See that http://{name}/.well-known/acme-challenge/ reaches the gateway's port 80 from "
        "the internet. The other names go on without it; tried again at {retry_at}, or at once "
        "when its declaration changes.",
    )
    OrderRefused = _error(
        "the CA refused the order: {problem}",
        "Correct what it complains of; tried again at {retry_at}, or at once when the "
        "declaration changes.",
    )
    OrderDelayed = _warning(
        "the order could not be completed: {problem}",
        "Nothing: it goes on at {retry_at}.",
    )
    IssuerPaused = _warning(
        "issuer {issuer} asked to wait: {problem}",
        "Nothing: orders go on at {retry_at}.",
    )
    RenewalHeldBack = _warning(
        "the renewal waits for {names}, which the certificate serves and the CA can't validate "
        "now; without them it goes on at {until}",
        "Repair the names, or remove them from their declarations.",
    )
    InternalError = _error(
        "acmeistio met an error of its own: {problem}",
        "Please report it with the log line beside it; everything else goes on.",
    )

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return self.value.severity

    @property
    def code(self) -> str:
        """The name under which users, logs and metrics know it."""
        return self.name


MAX_FACT_CHARACTERS = 300
_CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+"
)
"""Control and direction characters, and the lone surrogates that JSON and YAML let in and no
file takes."""


def plain(text: object, limit: int = MAX_FACT_CHARACTERS) -> str:
    """Text from outside made fit to be shown: writable in UTF-8, one line, not long."""
    cleaned = _CONTROL.sub(" ", str(text))
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1] + "…"


@dataclass(frozen=True, order=True, slots=True)
class Defect:
    """What is wrong with a user's object: a value, never an exception."""

    subject: ObjectRef
    code: str
    facts: tuple[tuple[str, str], ...]

    @property
    def reason(self) -> Reason:
        """The reason behind the code."""
        return Reason[self.code]

    @property
    def sentence(self) -> str:
        """What is wrong, seen from where."""
        return self.reason.value.sentence.format_map(dict(self.facts))

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return self.reason.value.remedy.format_map(dict(self.facts))


def defect(reason: Reason, subject: ObjectRef, **facts: object) -> Defect:
    """A Defect of `subject`; facts come from outside and are made plain here."""
    return Defect(subject, reason.code, tuple((key, plain(facts[key])) for key in sorted(facts)))
