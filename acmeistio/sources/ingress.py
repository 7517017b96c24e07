"""Kubernetes Ingresses (networking.k8s.io/v1), read as Istio reads them.

Owns which Ingresses Istio processes and which names and Secrets they ask for
(istio/istio pilot/pkg/config/kube/ingress).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from acmeistio.model import Declaration, IngressMode, Installation, ObjectRef, Target
from acmeistio.names import DnsName
from acmeistio.reasons import Defect, Reason, defect
from acmeistio.sources import Found, untrusted
from acmeistio.sources.annotations import (
    Wish,
    allowed_names,
    parse_names,
    read_wish,
    target_defect,
)

CLASS_ANNOTATION = "kubernetes.io/ingress.class"
ISTIO_CONTROLLER = "istio.io/ingress-controller"


@dataclass(frozen=True, slots=True)
class _Entry:
    """One item of spec.tls: its hosts as written and its secretName, "" where it has none."""

    index: int
    hosts: tuple[str, ...]
    secret_name: str


def declarations(
    ingress: Mapping[str, Any],
    ingress_classes: Mapping[str, str],
    installation: Installation,
) -> Found:
    """What an Ingress declares. `ingress_classes`: name of each IngressClass → its controller."""
    ref = untrusted.reference(ingress)
    wish, defects = read_wish(ref, untrusted.annotations_of(ingress), installation)
    if wish is None:
        return Found(defects=defects)
    why_not = not_processed_because(ingress, ingress_classes, installation)
    if why_not:
        processed = defect(
            Reason.IngressClassNotProcessed,
            ref,
            why=why_not,
            ingress_class=installation.ingress_class,
        )
        return Found(defects=(*defects, processed))
    read = _listed if wish.domains else _own_hosts
    found = read(ingress, ref, wish, installation)
    return Found(found.declarations, (*defects, *found.defects))


def not_processed_because(
    ingress: Mapping[str, Any], ingress_classes: Mapping[str, str], installation: Installation
) -> str | None:
    """Why Istio does not process an Ingress, None if it does.

    The order of the questions is Istio's (shouldProcessIngressWithClass in
    pilot/pkg/config/kube/ingress/virtualservices.go): the annotation beats ingressClassName; a
    class that exists decides by its controller; else the mode decides.
    """
    if installation.ingress_mode is IngressMode.OFF:
        return "the mesh's ingressControllerMode is OFF"
    annotated = untrusted.annotations_of(ingress).get(CLASS_ANNOTATION)
    if annotated is not None:
        return None if annotated == installation.ingress_class else f"its class is {annotated}"
    named = untrusted.text(untrusted.mapping(ingress, "spec").get("ingressClassName"))
    if named in ingress_classes:
        controller = ingress_classes[named]
        return None if controller == ISTIO_CONTROLLER else f"its class belongs to {controller}"
    if installation.ingress_mode is IngressMode.DEFAULT:
        return None
    return f"there is no IngressClass {named}" if named else "it has no class"


def _listed(
    ingress: Mapping[str, Any], ref: ObjectRef, wish: Wish, installation: Installation
) -> Found:
    """`acmeistio.io/domains`: exactly these names, in one Secret."""
    secrets = sorted({entry.secret_name for entry in _entries(ingress) if entry.secret_name})
    if not wish.secret_name and len(secrets) > 1:
        ambiguous = defect(Reason.AmbiguousSecretName, ref, secrets=", ".join(secrets))
        return Found(defects=(ambiguous,))
    name = wish.secret_name or (secrets[0] if secrets else installation.default_secret)
    target = Target(installation.gateway_namespace, name)
    return _declared(ingress, ref, wish, target, wish.domains, installation)


def _own_hosts(
    ingress: Mapping[str, Any], ref: ObjectRef, wish: Wish, installation: Installation
) -> Found:
    """`acmeistio.io/tls: "true"`: one declaration per entry of spec.tls."""
    entries = _entries(ingress) or (_Entry(-1, _rule_hosts(ingress), ""),)
    parts = [_entry(ingress, ref, wish, entry, installation) for entry in entries]
    declared = tuple(d for part in parts for d in part.declarations)
    defects = tuple(d for part in parts for d in part.defects)
    if not declared and not defects:
        defects = (defect(Reason.NoNames, ref),)
    return Found(declared, defects)


def _entry(
    ingress: Mapping[str, Any],
    ref: ObjectRef,
    wish: Wish,
    entry: _Entry,
    installation: Installation,
) -> Found:
    target = Target(
        installation.gateway_namespace,
        wish.secret_name or entry.secret_name or installation.default_secret,
    )
    names, defects = parse_names(ref, entry.hosts or _rule_hosts(ingress))
    if not names:
        return Found(defects=defects)
    found = _declared(ingress, ref, wish, target, names, installation)
    return Found(found.declarations, (*defects, *_warnings(ref, entry, target), *found.defects))


def _warnings(ref: ObjectRef, entry: _Entry, target: Target) -> tuple[Defect, ...]:
    """What Istio makes of an entry that it can't serve."""
    if entry.index < 0:
        return (defect(Reason.NoTLSEntry, ref, target=target, name=target.name),)
    if not entry.secret_name:
        facts = {"index": entry.index, "target": target, "name": target.name}
        return (defect(Reason.TLSEntryWithoutSecret, ref, **facts),)
    return ()


def _declared(
    ingress: Mapping[str, Any],
    ref: ObjectRef,
    wish: Wish,
    target: Target,
    names: tuple[DnsName, ...] | None,
    installation: Installation,
) -> Found:
    refused = target_defect(ref, target, installation)
    if refused:
        return Found(defects=(refused,))
    allowed, defects = allowed_names(ref, names or (), installation)
    if not allowed:
        return Found(defects=defects)
    declared = Declaration(
        source=ref,
        created_at=untrusted.created_at(ingress),
        names=allowed,
        target=target,
        issuer=wish.issuer,
        key_type=wish.key_type,
        profile=wish.profile,
    )
    return Found((declared,), defects)


def _entries(ingress: Mapping[str, Any]) -> tuple[_Entry, ...]:
    items = untrusted.sequence(untrusted.mapping(ingress, "spec").get("tls"))
    return tuple(
        _Entry(index, untrusted.texts(item.get("hosts")), untrusted.text(item.get("secretName")))
        for index, item in enumerate(items)
        if isinstance(item, Mapping)
    )


def _rule_hosts(ingress: Mapping[str, Any]) -> tuple[str, ...]:
    rules = untrusted.sequence(untrusted.mapping(ingress, "spec").get("rules"))
    hosts: Iterable[str] = (untrusted.text(untrusted.mapping(rule).get("host")) for rule in rules)
    return tuple(host for host in hosts if host)
