"""Gateways and ListenerSets of the Kubernetes Gateway API (v1), read as Istio reads them.

Owns which Secrets their listeners ask to be filled, with which names (istio/istio
pilot/pkg/config/kube/gateway). What a listener is, and which HTTPRoutes it serves, is known to
listeners; whether a Gateway serves at all, to admission; where its pods answer, to addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from acmeistio.model import (
    K8S_GATEWAY,
    KeyType,
    ObjectRef,
    Routing,
    Target,
)
from acmeistio.names import DnsName
from acmeistio.reasons import Defect, Reason, defect
from acmeistio.sources import Claim, Found, Manifest, Manifests, Surroundings, joined, untrusted
from acmeistio.sources.addresses import (
    HTTP_PORT,
    http_port_of,
    reached_at,
    workloads_of,
)
from acmeistio.sources.admission import (
    GATEWAY_CLASS,
    gateway_above,
    refusal,
    takes_listeners_of,
)
from acmeistio.sources.annotations import PREFIX, TLS_ACME, Wish, read_wish
from acmeistio.sources.listeners import (
    HTTP,
    HTTP_ROUTE,
    LISTENER_SET,
    PASSTHROUGH,
    TERMINATE,
    CertificateRef,
    Listener,
    allows,
    attachments_of,
    by_beneficiary,
    by_parent,
    covers,
    listeners_of,
    names_of,
    parent_of,
    route_of,
)
from acmeistio.sources.pairs import MOST, key_types
from acmeistio.sources.permission import Asked, declared

REFERENCE_GRANT = "ReferenceGrant"
KINDS: tuple[str, ...] = (K8S_GATEWAY, HTTP_ROUTE, REFERENCE_GRANT, LISTENER_SET, GATEWAY_CLASS)


@dataclass(frozen=True, slots=True)
class _Asker:
    """An object that asks, with all that its listeners depend on; `related` is by kind."""

    ref: ObjectRef
    created_at: datetime | None
    wish: Wish
    listeners: tuple[Listener, ...]
    gateway: Manifest
    http_port: int
    related: Mapping[str, list[Manifest]]
    surroundings: Surroundings

    @property
    def terminating(self) -> list[Listener]:
        """The listeners that serve certificates."""
        return [listener for listener in self.listeners if listener.tls_mode == TERMINATE]


@dataclass(frozen=True, slots=True)
class _Claim:
    """A Secret that a listener serves, and the key type that it is to have."""

    target: Target
    key_type: KeyType | None


# Which objects belong together


def subjects(manifests: Manifests) -> Iterable[tuple[Manifest, tuple[Manifest, ...]]]:
    """See Source.subjects: each Gateway, and what else has a word for acmeistio.

    Everything is put under its parent once, so that the work grows with the number of objects.
    """
    sets, routes = (by_parent(manifests.get(kind, ())) for kind in (LISTENER_SET, HTTP_ROUTE))
    grants = by_beneficiary(manifests.get(REFERENCE_GRANT, ()))
    gateways = {untrusted.reference(m): m for m in manifests.get(K8S_GATEWAY, ())}
    classes = manifests.get(GATEWAY_CLASS, ())
    for ref, gateway in gateways.items():
        granted = grants.get((ref.kind, ref.namespace), ())
        yield gateway, (*sets.get(ref, ()), *routes.get(ref, ()), *granted, *classes)
    for manifest in manifests.get(LISTENER_SET, ()):
        if _is_annotated(manifest):
            ref, parent = untrusted.reference(manifest), parent_of(manifest)
            above = (gateways[parent],) if parent in gateways else ()
            granted = grants.get((ref.kind, ref.namespace), ())
            yield manifest, (*above, *routes.get(ref, ()), *granted, *classes)
    for manifest in manifests.get(HTTP_ROUTE, ()):
        if _ours_on(manifest):
            yield manifest, ()


def together(_claims: Iterable[Claim]) -> tuple[Defect, ...]:
    """See Source.together."""
    return ()


def _is_annotated(manifest: Manifest) -> bool:
    return bool(_ours_on(manifest)) or TLS_ACME in untrusted.annotations_of(manifest)


def _ours_on(manifest: Manifest) -> list[str]:
    """The annotations of acmeistio that an object has."""
    return sorted(key for key in untrusted.annotations_of(manifest) if key.startswith(PREFIX))


# What one object declares


def declarations(
    manifest: Manifest, related: tuple[Manifest, ...], surroundings: Surroundings
) -> Found:
    """What a Gateway declares, or a ListenerSet that asks for itself; a route asks for nothing.

    The listeners of a ListenerSet are another team's: they are its own subject, never part of
    its Gateway's.
    """
    ref = untrusted.reference(manifest)
    if ref.kind == HTTP_ROUTE:
        return Found(defects=(_not_read(ref, manifest),))
    annotations = untrusted.annotations_of(manifest)
    wish, defects = read_wish(ref, annotations, surroundings.installation)
    if wish is None:
        return Found(defects=defects)
    gateway = manifest if ref.kind == K8S_GATEWAY else gateway_above(manifest, related)
    refused = refusal(manifest, gateway, related, surroundings)
    if refused:
        return Found(defects=(*defects, refused))
    asker = _asker(manifest, wish, gateway, related, surroundings)
    found = _listed(asker) if wish.domains else _own_hosts(asker)
    return Found(found.declarations, (*defects, *_unhelped(asker), *found.defects))


def _not_read(ref: ObjectRef, route: Manifest) -> Defect:
    """What is said of a route that has annotations."""
    named = dict.fromkeys(str(attachment.parent) for attachment in attachments_of(route))
    parents = ", ".join(named) or "the Gateway that serves its hosts"
    annotations = ", ".join(_ours_on(route))
    return defect(Reason.AnnotationNotRead, ref, annotations=annotations, parents=parents)


def _asker(
    manifest: Manifest,
    wish: Wish,
    gateway: Manifest,
    related: tuple[Manifest, ...],
    surroundings: Surroundings,
) -> _Asker:
    listeners = listeners_of(manifest)
    by_kind: dict[str, list[Manifest]] = {kind: [] for kind in KINDS}
    for other in related:
        by_kind.setdefault(untrusted.reference(other).kind, []).append(other)
    return _Asker(
        ref=untrusted.reference(manifest),
        created_at=untrusted.created_at(manifest),
        wish=wish,
        listeners=listeners,
        gateway=gateway,
        http_port=http_port_of((*listeners_of(gateway), *listeners)),
        related=by_kind,
        surroundings=surroundings,
    )


def _own_hosts(asker: _Asker) -> Found:
    """`acmeistio.io/tls: "true"`: the names of each listener for the Secrets that it names."""
    routes = [route_of(manifest) for manifest in asker.related[HTTP_ROUTE]]
    defects: list[Defect] = []
    parts: list[Found] = []
    for listener in asker.terminating:
        names, wrong = names_of(listener, asker.ref, routes, asker.surroundings)
        defects += wrong
        if names:
            parts.append(_asked(asker, listener, names))
    if not parts and all(made.subject != asker.ref for made in defects):
        defects.append(defect(Reason.NoNames, asker.ref))
    return joined(Found(defects=tuple(defects)), *parts)


def _listed(asker: _Asker) -> Found:
    """`acmeistio.io/domains`: exactly these names, each where the listener is that takes it."""
    domains = asker.wish.domains or ()
    if not asker.terminating:
        return _without_listener(asker, domains)
    names_at: dict[int, list[DnsName]] = {}
    homeless: list[DnsName] = []
    for name in domains:
        takers = _takers(asker.terminating, name)
        homeless += () if takers else (name,)
        for index in takers:
            names_at.setdefault(index, []).append(name)
    parts = [
        _asked(asker, asker.terminating[index], tuple(names))
        for index, names in sorted(names_at.items())
    ]
    return joined(*parts, _homed(asker, tuple(homeless)) if homeless else Found())


def _takers(listeners: list[Listener], name: DnsName) -> list[int]:
    """Which listeners a name belongs to: those of the most specific hostname that covers it."""
    ranks = {
        index: (listener.hostname[:1] not in ("", "*"), len(listener.hostname))
        for index, listener in enumerate(listeners)
        if covers(listener.hostname, name)
    }
    return [index for index, rank in ranks.items() if rank == max(ranks.values())]


def _homed(asker: _Asker, homeless: tuple[DnsName, ...]) -> Found:
    """Names that no listener takes, in the Secrets that all listeners share, if there are such."""
    targets = [
        (listener, frozenset(claim.target for claim in _claims(asker, listener)[0]))
        for listener in asker.terminating
    ]
    filled = [(listener, secrets) for listener, secrets in targets if secrets] or targets[:1]
    if len({secrets for _, secrets in filled}) == 1:
        return _asked(asker, filled[0][0], homeless)
    every = sorted({str(target) for _, secrets in filled for target in secrets})
    return Found(defects=(defect(Reason.AmbiguousSecretName, asker.ref, secrets=", ".join(every)),))


def _without_listener(asker: _Asker, names: tuple[DnsName, ...]) -> Found:
    """Names that were listed although nothing terminates TLS; the listener may follow."""
    default = asker.surroundings.installation.default_secret
    target = Target(asker.ref.namespace, asker.wish.secret_name or default)
    asked = Asked(
        names, target, reached_at(asker.gateway, asker.surroundings.installation, asker.http_port)
    )
    found = declared(asker.ref, asker.created_at, asker.wish, asked, asker.surroundings)
    warning = defect(Reason.NoTLSListener, asker.ref, target=target, name=target.name)
    return joined(Found(defects=(warning,)), found)


def _unhelped(asker: _Asker) -> tuple[Defect, ...]:
    """What keeps listeners from being served, or the CA from asking."""
    passed = [
        defect(Reason.TLSNotTerminated, asker.ref, hosts=_hosts_of(listener))
        for listener in asker.listeners
        if listener.tls_mode == PASSTHROUGH
    ]
    deaf = [defect(Reason.NoPort80, asker.ref)] if _is_deaf(asker) else []
    return (*passed, *deaf)


def _hosts_of(listener: Listener) -> str:
    return f"{listener.hostname or 'every host'} (listener {listener.name})"


def _is_deaf(asker: _Asker) -> bool:
    """Whether nothing listens where the CA asks first.

    Not said of a ListenerSet, which does not see its siblings; nor of pods of this installation,
    whose port 80 its own objects open.
    """
    if asker.ref.kind != K8S_GATEWAY:
        return False
    workloads = workloads_of(asker.gateway, asker.surroundings.installation)
    if any(workload and workload.routing is not Routing.OFF for _, workload in workloads):
        return False
    labels_of = asker.surroundings.labels_of
    sets = (
        listener
        for manifest in asker.related[LISTENER_SET]
        if takes_listeners_of(asker.gateway, untrusted.reference(manifest).namespace, labels_of)
        for listener in listeners_of(manifest)
    )
    return all((one.protocol, one.port) != (HTTP, HTTP_PORT) for one in (*asker.listeners, *sets))


# Which Secrets a listener serves


def _asked(asker: _Asker, listener: Listener, names: tuple[DnsName, ...]) -> Found:
    claims, defects = _claims(asker, listener)
    at = reached_at(asker.gateway, asker.surroundings.installation, asker.http_port, listener.port)
    parts = (
        declared(
            asker.ref,
            asker.created_at,
            replace(asker.wish, key_type=claim.key_type),
            Asked(names, claim.target, at),
            asker.surroundings,
        )
        for claim in claims
    )
    return joined(Found(defects=defects), *parts)


def _claims(asker: _Asker, listener: Listener) -> tuple[tuple[_Claim, ...], tuple[Defect, ...]]:
    """The Secrets that a listener's certificate goes to, and what is wrong with its references."""
    if asker.wish.secret_name or not listener.certificate_refs:
        default = asker.surroundings.installation.default_secret
        target = Target(asker.ref.namespace, asker.wish.secret_name or default)
        return (_Claim(target, asker.wish.key_type),), _not_named(asker.ref, listener, target)
    refs = listener.certificate_refs[:MOST]
    names, wish = [ref.name for ref in refs], asker.wish
    wanted = key_types(names, wish.key_type, wish.second_key_type)
    defects = [_refusal(asker, listener, ref) for ref in refs]
    claims = tuple(
        _Claim(ref.target_of(asker.ref), key_type)
        for ref, key_type, refused in zip(refs, wanted, defects, strict=True)
        if refused is None
    )
    return claims, (*filter(None, defects), *_too_many(asker.ref, listener))


def _not_named(ref: ObjectRef, listener: Listener, target: Target) -> tuple[Defect, ...]:
    """What is said where a certificate goes to a Secret that the listener does not name."""
    named = (named.target_of(ref) for named in listener.certificate_refs if named.is_secret)
    if target in named:
        return ()
    facts = {"listener": listener.name, "target": target, "name": target.name}
    return (defect(Reason.ListenerWithoutCertificate, ref, **facts),)


def _too_many(ref: ObjectRef, listener: Listener) -> tuple[Defect, ...]:
    excess = listener.certificate_refs[MOST:]
    if not excess:
        return ()
    count, left_out = len(listener.certificate_refs), ", ".join(map(str, excess))
    facts = {"listener": listener.name, "count": count, "left_out": left_out}
    return (defect(Reason.TooManyCertificateRefs, ref, **facts),)


def _refusal(asker: _Asker, listener: Listener, named: CertificateRef) -> Defect | None:
    """Why Istio does not take a reference of a listener, None if it does."""
    if not named.is_secret:
        facts = {"listener": listener.name, "reference": named}
        return defect(Reason.CertificateRefUnsupported, asker.ref, **facts)
    target, ref = named.target_of(asker.ref), asker.ref
    if target.namespace == ref.namespace:
        return None
    if any(allows(grant, ref, target) for grant in asker.related[REFERENCE_GRANT]):
        return None
    return defect(
        Reason.ReferenceNotGranted,
        ref,
        listener=listener.name,
        target=target,
        namespace=target.namespace,
        kind=ref.kind.partition(".")[0],
        whose=ref.namespace,
        name=target.name,
    )
