"""Kubernetes Ingresses (networking.k8s.io/v1), read as Istio reads them.

Owns which Ingresses Istio processes and which names and Secrets they ask for
(istio/istio pilot/pkg/config/kube/ingress).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from acmeistio.model import (
    IngressMode,
    Installation,
    ObjectRef,
    Target,
)
from acmeistio.names import DnsName
from acmeistio.reasons import Defect, Reason, defect
from acmeistio.sources import Found, Manifest, Manifests, Surroundings, joined, untrusted
from acmeistio.sources.annotations import Wish, parse_names, read_wish
from acmeistio.sources.permission import Asked, declared

KINDS: tuple[str, ...] = ("Ingress",)

CLASS_ANNOTATION = "kubernetes.io/ingress.class"
ISTIO_CONTROLLER = "istio.io/ingress-controller"


@dataclass(frozen=True, slots=True)
class _Entry:
    """One item of spec.tls: its hosts as written and its secretName, "" where it has none."""

    index: int
    hosts: tuple[str, ...]
    secret_name: str


def subjects(manifests: Manifests) -> Iterable[tuple[Manifest, tuple[Manifest, ...]]]:
    """See Source.subjects: an Ingress depends on nothing else."""
    return ((manifest, ()) for manifest in manifests["Ingress"])


def together(_manifests: Manifests, _surroundings: Surroundings) -> tuple[Defect, ...]:
    """See Source.together."""
    return ()


def declarations(
    ingress: Mapping[str, Any], _related: tuple[Manifest, ...], surroundings: Surroundings
) -> Found:
    """What an Ingress declares."""
    installation = surroundings.installation
    ref = untrusted.reference(ingress)
    wish, defects = read_wish(ref, untrusted.annotations_of(ingress), installation)
    if wish is None:
        return Found(defects=defects)
    why_not = not_processed_because(ingress, surroundings.ingress_classes, installation)
    if why_not:
        processed = defect(
            Reason.IngressClassNotProcessed,
            ref,
            why=why_not,
            ingress_class=installation.ingress_class,
        )
        return Found(defects=(*defects, processed))
    if not installation.selected(installation.ingress_selector):
        return Found(defects=(*defects, unknown_gateway(ref, installation)))
    read = _listed if wish.domains else _own_hosts
    found = read(ingress, ref, wish, surroundings)
    return Found(found.declarations, (*defects, *found.defects))


def unknown_gateway(ref: ObjectRef, installation: Installation) -> Defect:
    """The pods that serve Ingresses are none of this installation's gateways."""
    selector = untrusted.spelt(installation.ingress_selector)
    return defect(Reason.GatewayUnknown, ref, selector=selector)


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
    ingress: Mapping[str, Any], ref: ObjectRef, wish: Wish, surroundings: Surroundings
) -> Found:
    """`acmeistio.io/domains`: exactly these names, in one Secret."""
    secrets = sorted({entry.secret_name for entry in _entries(ingress) if entry.secret_name})
    if not wish.secret_name and len(secrets) > 1:
        ambiguous = defect(Reason.AmbiguousSecretName, ref, secrets=", ".join(secrets))
        return Found(defects=(ambiguous,))
    default = surroundings.installation.default_secret
    name = wish.secret_name or (secrets[0] if secrets else default)
    return _asked(ingress, ref, wish, name, wish.domains or (), surroundings)


def _own_hosts(
    ingress: Mapping[str, Any], ref: ObjectRef, wish: Wish, surroundings: Surroundings
) -> Found:
    """`acmeistio.io/tls: "true"`: one declaration per entry of spec.tls."""
    entries = _entries(ingress) or (_Entry(-1, _rule_hosts(ingress), ""),)
    found = joined(*(_entry(ingress, ref, wish, entry, surroundings) for entry in entries))
    if not found.declarations and not found.defects:
        return Found(defects=(defect(Reason.NoNames, ref),))
    return found


def _entry(
    ingress: Mapping[str, Any],
    ref: ObjectRef,
    wish: Wish,
    entry: _Entry,
    surroundings: Surroundings,
) -> Found:
    default = surroundings.installation.default_secret
    name = wish.secret_name or entry.secret_name or default
    names, defects = parse_names(ref, entry.hosts or _rule_hosts(ingress))
    if not names:
        return Found(defects=defects)
    found = _asked(ingress, ref, wish, name, names, surroundings)
    warnings = [w for target in _targets(name, surroundings) for w in _warnings(ref, entry, target)]
    return Found(found.declarations, (*defects, *warnings, *found.defects))


def _targets(name: str, surroundings: Surroundings) -> tuple[Target, ...]:
    """The Secret of this name in each namespace where pods that serve Ingresses run."""
    installation = surroundings.installation
    selected = installation.selected(installation.ingress_selector)
    return tuple(dict.fromkeys(Target(workload.namespace, name) for workload in selected))


def _warnings(ref: ObjectRef, entry: _Entry, target: Target) -> tuple[Defect, ...]:
    """What Istio makes of an entry that it can't serve."""
    if entry.index < 0:
        return (defect(Reason.NoTLSEntry, ref, target=target, name=target.name),)
    if not entry.secret_name:
        facts = {"index": entry.index, "target": target, "name": target.name}
        return (defect(Reason.TLSEntryWithoutSecret, ref, **facts),)
    return ()


def _asked(
    ingress: Mapping[str, Any],
    ref: ObjectRef,
    wish: Wish,
    name: str,
    names: tuple[DnsName, ...],
    surroundings: Surroundings,
) -> Found:
    installation, created_at = surroundings.installation, untrusted.created_at(ingress)
    selected = installation.selected(installation.ingress_selector)
    reached_at = tuple(installation.address_of(workload) for workload in selected)
    return joined(
        *(
            declared(ref, created_at, wish, Asked(names, target, reached_at), surroundings)
            for target in _targets(name, surroundings)
        )
    )


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
