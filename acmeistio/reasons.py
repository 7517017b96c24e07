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
    AnnotationNotRead = _warning(
        "it has {annotations}; acmeistio reads its annotations on the Gateway or ListenerSet that "
        "the route attaches to, not here",
        "Annotate {parents}, and take them off the route.",
    )
    NoNames = _error(
        "it asks for a certificate and names no host",
        "Name hosts in the object (Ingress: spec.tls[].hosts or spec.rules[].host; Gateway API: "
        "hostname of a listener, or hostnames of its HTTPRoutes), or in acmeistio.io/domains.",
    )
    InvalidName = _error(
        "{name} can't be in a certificate: {why}",
        "Write a full domain name such as www.example.com; the other names go on without it.",
    )
    NameNotAllowed = _error(
        "{name} lies outside the domains of {whose}: {allowed}",
        "Declare a name within those, or add its domain to {place}; the other names go on "
        "without it.",
    )
    NamespaceNotAllowed = _error(
        "its Secret {target} would take a private key into a namespace that no administrator "
        "has allowed",
        "Give Namespace {namespace} the annotation {annotation} with the domains that it may "
        "have, and acmeistio its rights there (deploy/tenant.yaml).",
    )
    InvalidAllowedDomain = _error(
        "{domain} in {annotation} is no domain: {why}",
        "Write domains with commas between them, such as shop.example.com, example.org; until then "
        "the namespace has only the others.",
    )
    IPAddressUnsupported = _error(
        "{name} is an IP address, {why}",
        "{advice}",
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
        "its {parameter} {value} contradicts {other}, which Secret {target} has by {winner}, the "
        "first that asked for it; the names of this object are not added",
        "Leave the parameter out, or say it there, or use another Secret "
        "(acmeistio.io/secret-name).",
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
        "the Role and the policy beside it (deploy/install.yaml), and restart acmeistio.",
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
    DuplicateTLSHost = _warning(
        "Istio serves {host} over HTTPS by {serves} and routes it by the older {routes}, so that "
        "HTTPS answers 404",
        "Give {routes} the tls entry for {host} with the same secretName and take it out of the "
        "other, or put all rules of the host into one Ingress.",
    )
    SecretNamespaceNotRead = _error(
        "it names Secret {name} with a namespace, and the gateway reads Secrets of {namespace} "
        "only",
        "Write the name alone: {short}. The Secret is made in {namespace}.",
    )
    GatewayUnknown = _error(
        "it is served by pods with the labels {selector}, which are of no gateway that this "
        "installation knows",
        "Add that gateway to ACMEISTIO_GATEWAYS (namespace, selector, service), apply "
        "deploy/gateway.yaml in its namespace and restart acmeistio; or correct the selector.",
    )
    NoGateway = _error(
        "it names no Gateway, so it is for requests inside the mesh only",
        "Add spec.gateways with the Gateway through which browsers come, as NAMESPACE/NAME.",
    )
    SecretNotServed = _warning(
        "{place} serves Secret {served}, and the certificate for its hosts goes to Secret {target} "
        "(acmeistio.io/secret-name), so they are served without it",
        "Name {name} there, or leave the annotation out.",
    )
    GatewayMissing = _error(
        "it is to be served through {gateway}, and there is no such Gateway",
        "Name one that exists in spec.gateways; one of another namespace is NAMESPACE/NAME.",
    )
    GatewayDeclines = _error(
        '{gateway} serves its hosts and says acmeistio.io/tls: "false"',
        "Ask the owner of the Gateway; until then it gets no certificate through it.",
    )
    NotServedWithTLS = _error(
        "none of its Gateways ({gateways}) has a server that terminates TLS for its hosts",
        "Bind it to a Gateway with a server of port 443 for its hosts, with tls.mode: SIMPLE and "
        "a credentialName.",
    )
    NoTLSServer = _error(
        "it has no server that terminates TLS, so there is nothing to have a certificate for",
        "Add a server of port 443, protocol HTTPS, with the hosts, tls.mode: SIMPLE and a "
        "credentialName.",
    )
    OnlyWildcardHosts = _error(
        "its servers name only wildcard hosts ({hosts}), for which no CA issues without DNS, and "
        "no VirtualService that is bound to it asks for its own hosts",
        'Give VirtualServices that are bound to it the annotation acmeistio.io/tls: "true", or '
        "name the hosts one by one in acmeistio.io/domains on the Gateway.",
    )
    TLSNotTerminated = _warning(
        "for {hosts} the gateway passes TLS through to the backend, so it has no use for a "
        "certificate",
        "Nothing, if the backend has one; else use the mode that terminates TLS at the gateway "
        "(SIMPLE, Terminate).",
    )
    MutualTLSBehindRedirect = _error(
        "HTTP is redirected to HTTPS, where {hosts} demand a certificate of the client, which "
        "the CA has not, so it can't validate them",
        "Use OPTIONAL_MUTUAL, or serve the hosts on port 80 without httpsRedirect.",
    )
    CertificateFromFile = _warning(
        "the gateway's pods read {file}; a new certificate gets there only if that is a mount of "
        "Secret {secret}, after about a minute, and with Istio 1.29.0 to 1.29.2 and 1.30.0 to "
        "1.30.2 only once",
        "Use credentialName in place of the files.",
    )
    NoPort80 = _warning(
        "it has no HTTP listener on port 80, where the CA asks first",
        "Add a listener with protocol: HTTP and port: 80, or admit a ListenerSet that has one.",
    )
    NoTLSListener = _warning(
        "no listener of it terminates TLS, so the certificate goes to Secret {target} and is "
        "not served",
        "Add a listener with protocol: HTTPS and certificateRefs with name: {name}.",
    )
    ListenerWithoutCertificate = _warning(
        "listener {listener} does not name Secret {target} in tls.certificateRefs, so it does "
        "not serve the certificate that goes there",
        "Add name: {name} to the certificateRefs of the listener.",
    )
    CertificateRefUnsupported = _error(
        "listener {listener} names {reference} in tls.certificateRefs, which is no Secret",
        "Name a Secret (kind: Secret, and no group).",
    )
    TooManyCertificateRefs = _error(
        "listener {listener} has {count} certificateRefs; Istio serves no listener with more than "
        "two, and nothing is asked for {left_out}",
        "Leave two: one for an ECDSA certificate and one for an RSA certificate.",
    )
    ReferenceNotGranted = _error(
        "listener {listener} names Secret {target} of another namespace, which no ReferenceGrant "
        "there allows",
        "Create a ReferenceGrant in namespace {namespace}: from group "
        "gateway.networking.k8s.io, kind {kind}, namespace {whose}; to kind Secret, name {name}, "
        "with an empty group.",
    )
    GatewayNotServing = _error(
        "a Gateway of class {gateway_class} takes no requests from outside, so no certificate "
        "is made for it",
        "Declare the hosts at the Gateway through which browsers come.",
    )
    GatewayClassNotServed = _error(
        "its GatewayClass {gateway_class} is served by the controller {controller}, which is not "
        "Istio's, so no certificate is made for it",
        "Use a GatewayClass of Istio, or take the annotations of acmeistio away. If Istio serves "
        "the class under this name, set ACMEISTIO_GATEWAY_CLASS.",
    )
    GatewayClassMissing = _error(
        "there is no GatewayClass {gateway_class}, so nothing serves it and no certificate is made "
        "for it",
        "Name a GatewayClass of Istio in gatewayClassName: {classes}.",
    )
    GatewayAddressUnusable = _error(
        "its address {host} is a Service of namespace {elsewhere}, and Istio serves a Gateway only "
        "by Services of its own namespace {namespace}",
        "Leave spec.addresses out, so that Istio deploys pods for it, or move the Gateway to "
        "{elsewhere}; routes and ListenerSets of other namespaces may attach to it there.",
    )
    ListenerSetNotAdmitted = _error(
        "its listeners are not served: {why}",
        "Correct spec.parentRef, or have {gateway} admit namespace {namespace} in "
        "spec.allowedListeners.",
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
    RouteNotManaged = _error(
        "an object of this name stands where acmeistio needs one of its own, and is not touched",
        "Rename or delete it, or give it the label app.kubernetes.io/managed-by: acmeistio to hand "
        "it over.",
    )
    RouteForbidden = _error(
        "acmeistio can't keep this route object as it must be: {why}",
        "Give the ServiceAccount of acmeistio the rights of deploy/install.yaml (for mirrors also "
        "deploy/mirrors.yaml), or set ACMEISTIO_ROUTING to what it may do.",
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
        "Add {name} to the Role and the policy of acmeistio (deploy/install.yaml; the Role of a "
        "further gateway is in deploy/gateway.yaml), or take it out of ACMEISTIO_SECRETS_GRANTED.",
    )
    TenantSecretForbidden = _error(
        "the API server keeps the Secret from acmeistio: {why}",
        "Give acmeistio its rights in this namespace: "
        "kubectl -n {namespace} apply -f deploy/tenant.yaml",
    )
    # What the gateway answers to acmeistio's own request
    GatewayNotAnswering = _error(
        "no gateway answers at {address}, so the CA's request for {name} would meet nothing: "
        "{problem}",
        "Let a Gateway open port 80 for those pods (acmeistio's own does, unless "
        "ACMEISTIO_ROUTING is off), or correct the service "
        "and the port of the gateway in ACMEISTIO_GATEWAYS.",
    )
    ChallengeNotRouted = _error(
        "the challenge path of {name} is answered {status} over {scheme}, seen through "
        "{address}: nothing there leads to acmeistio; the host is routed by {owner}",
        "See that ACMEISTIO_ROUTING is not off and that acmeistio's route objects are there; where "
        "they are, look for a Gateway or a host that takes {name} out of their reach.",
    )
    AnotherBackend = _error(
        "another backend than acmeistio answers the challenge path of {name} with {status} over "
        "{scheme}, seen through {address}; the host is routed by {owner}",
        "Let /.well-known/acme-challenge/ of this host reach the Service of acmeistio before "
        "any other route; ACMEISTIO_ROUTING: filter does it for all hosts.",
    )
    AcmeistioUnreachable = _error(
        "the gateway routes the challenge path of {name} and can't reach what is behind it "
        "({status} over {scheme}, seen through {address})",
        "Let the gateway's pods reach the pods of acmeistio: a NetworkPolicy, or a "
        "DestinationRule that demands mutual TLS of them, is in the way, or none of them is "
        "ready.",
    )
    RedirectedToClosedPort = _error(
        "{name} is redirected to HTTPS, where nothing listens, seen through {address}",
        "Give the gateway a server with TLS for {name} (spec.tls of an Ingress, or a Gateway "
        "with port 443), or take the redirect away.",
    )
    RedirectedToBrokenTLS = _error(
        "{name} is redirected to HTTPS, where the TLS handshake for it fails, seen through "
        "{address}: {problem}",
        "See that a server of the gateway has this host for TLS, that the Secret which it names "
        "exists, and that it demands no client certificate.",
    )
    RedirectLoop = _error(
        "the challenge path of {name} is redirected again and again, at last to {location}, "
        "seen through {address}; the host is routed by {owner}",
        "Take /.well-known/acme-challenge/ out of that redirect; a CA follows ten of them.",
    )
    GatewayForbids = _warning(
        "the challenge path of {name} is answered {status} over {scheme}, seen through "
        "{address}; if the CA is answered the same, there will be no certificate",
        "Let the AuthorizationPolicy, allow-list or rate limit that answers so leave out the "
        "path /.well-known/acme-challenge/*.",
    )
    GatewayNotFound = _warning(
        "acmeistio can't see whether the CA would reach {name}: {address}, where it would ask the "
        "gateway itself, does not resolve",
        "Correct the service and the namespace of the gateway in ACMEISTIO_GATEWAYS.",
    )
    ProbeNotUnderstood = _warning(
        "acmeistio can't see whether the CA would reach {name}: what listens at {address} does "
        "not talk to it as to a client from the internet ({problem})",
        "Nothing, if the gateway expects the PROXY protocol or other words before a request; "
        "otherwise see that {address} is the gateway's port (ACMEISTIO_GATEWAYS).",
    )
    ProbeTimedOut = _warning(
        "acmeistio can't see whether the CA would reach {name}: {address} did not answer its "
        "own request over {scheme} in time",
        "Nothing, if the pods of acmeistio are kept from the gateway on purpose; otherwise let "
        "them reach it (NetworkPolicy), or correct ACMEISTIO_GATEWAYS.",
    )
    RedirectedElsewhere = _warning(
        "the challenge path of {name} is redirected to {location}, seen through {address}; the "
        "CA follows it to where acmeistio can't see; the host is routed by {owner}",
        "Nothing, if the path leads back to acmeistio from there; otherwise take "
        "/.well-known/acme-challenge/ out of the redirect.",
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
        "See that http://{host}/.well-known/acme-challenge/ reaches the gateway's port 80 from "
        "the internet. The other names go on without it; tried again at {retry_at}, or at once "
        "when its declaration changes.",
    )
    NameRefused = _error(
        "the CA does not issue for {name}: {problem}",
        "Declare another name, or settle it with the CA; the other names go on without it. It is "
        "ordered again when its declaration or the issuer's settings change.",
    )
    NamePaused = _error(
        "the CA has paused {name} after too many failures in a row: {problem}",
        "See that http://{host}/.well-known/acme-challenge/ reaches the gateway's port 80 from "
        "the internet, then end the pause on the CA's page ({link}); asked again at {retry_at}.",
    )
    OrderRefused = _error(
        "the CA refused the order: {problem}",
        "Correct what it complains of; tried again at {retry_at}, or at once when the "
        "declaration changes.",
    )
    OrderRejected = _error(
        "the CA refused the order, and would refuse it again: {problem}",
        "Correct what it complains of; nothing is ordered until the declaration or the issuer's "
        "settings change.",
    )
    TermsChanged = _error(
        "the CA wants something agreed to before it issues again: {problem}",
        "Read {link} and do what it says; then ask again with a new value of the annotation "
        "acmeistio.io/renew-requested-at on the Secret.",
    )
    RateLimited = _warning(
        "{what} reaches the limit of {issuer} on {limit}",
        "Nothing: it goes on at {retry_at}. Renewals come before new certificates.",
    )
    OrderDelayed = _warning(
        "the order could not be completed: {problem}",
        "It goes on by itself at {retry_at}. If it lasts, let acmeistio's pod reach that address "
        "(DNS, NetworkPolicy, proxy).",
    )
    OrderForbidden = _error(
        "the API server keeps from acmeistio what the order needs: {problem}",
        "Name it in the Role of acmeistio (deploy/install.yaml shows where: the gateway's Secrets, "
        "account and MAC key of each issuer); the order goes on by itself at {retry_at}.",
    )
    MACKeyMissing = _error(
        "the CA has accounts for its customers only, and there is no key to prove that you are "
        "one: {problem}",
        "Put the MAC key that the CA shows you into that Secret, under hmac-key (README, Issuers); "
        "the order goes on by itself at {retry_at}.",
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
    RenewalSuggested = _warning(
        "the CA wants the certificate to be renewed early, and says why at {url}",
        "Nothing: it is renewed at {renew_at}.",
    )
    FallbackUsed = _warning(
        "the certificate was made by {fallback}, since {issuer} did not deliver and the last one "
        "was running out",
        "See why {issuer} did not deliver; the next renewal asks it again.",
    )
    PreferredChainMissing = _warning(
        "the CA offers no chain that leads to {chain}; its own default is stored",
        "Correct or remove preferredChain of issuer {issuer}.",
    )
    DowngradeRefused = _warning(
        "the Secret holds a certificate that browsers trust, and {issuer} makes none; it is kept, "
        "and renewed by {kept}",
        "Name an issuer that browsers trust, or let the Secret be replaced with its annotation "
        'acmeistio.io/allow-downgrade: "true".',
    )
    RevocationReasonUnknown = _error(
        "acmeistio.io/revoke-requested is {value}, which is no reason; possible: {possible}",
        "Write one of the possible reasons; until then nothing is revoked.",
    )
    RevocationFailed = _error(
        "the certificate could not be revoked: {problem}",
        "Tried again at {retry_at}; or take the annotation acmeistio.io/revoke-requested away.",
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
