"""Whether a Gateway of the Gateway API serves anybody from outside, and whose listeners it admits.

Owns what Istio makes of gatewayClassName, spec.addresses and spec.allowedListeners (istio/istio
pilot/pkg/config/kube/gateway). It knows no names and no Secrets.
"""

from __future__ import annotations

from collections.abc import Mapping

from acmeistio.model import K8S_GATEWAY, Installation, ObjectRef
from acmeistio.reasons import Defect, Reason, defect
from acmeistio.sources import Manifest, Surroundings, untrusted
from acmeistio.sources.addresses import class_of, elsewhere
from acmeistio.sources.annotations import TLS, refuses
from acmeistio.sources.listeners import Labels, admits, parent_of

GATEWAY_CLASS = "GatewayClass"

INNER_CLASSES = ("istio-waypoint", "istio-agentgateway-waypoint", "istio-east-west", "istio-remote")
"""Istio's classes of Gateways that take requests from the mesh only (pkg/config/constants)."""
INNER_CONTROLLERS = (
    "istio.io/mesh-controller",
    "istio.io/eastwest-controller",
    "istio.io/unmanaged-gateway",
)
"""What such classes have for a controller, by whatever name (gatewaycommon/classinfo.go)."""
ISTIO_CONTROLLERS = "istio.io/"
"""What the names of Istio's controllers begin with."""
DEFAULT_CLASS = "istio"
CLASSES_WITHOUT_OBJECT = (DEFAULT_CLASS, "istio-agentgateway")
"""Istio serves these also where there is no GatewayClass of the name (FetchGatewayClass)."""


def refusal(
    manifest: Manifest,
    gateway: Manifest,
    related: tuple[Manifest, ...],
    surroundings: Surroundings,
) -> Defect | None:
    """Why nothing of a Gateway or ListenerSet is served, None if it may be.

    `gateway` is the one above, or the same; `related` has the GatewayClasses.
    """
    ref = untrusted.reference(manifest)
    return _not_admitted(ref, manifest, gateway, surroundings.labels_of) or _not_serving(
        ref, gateway, related, surroundings.installation
    )


def gateway_above(listener_set: Manifest, related: tuple[Manifest, ...]) -> Manifest:
    """The Gateway of a ListenerSet, an empty one where there is none."""
    parent = parent_of(listener_set)
    return next((m for m in related if untrusted.reference(m) == parent), {})


def _not_admitted(
    ref: ObjectRef, manifest: Manifest, gateway: Manifest, labels_of: Labels
) -> Defect | None:
    """Why nothing of a ListenerSet is served, None for one that is and for a Gateway."""
    if ref.kind == K8S_GATEWAY:
        return None
    above = parent_of(manifest) or "a Gateway"
    if not gateway:
        why = f"there is no {above}"
    elif refuses(untrusted.annotations_of(gateway)):
        why = f'{above} has the annotation {TLS}: "false"'
    elif not takes_listeners_of(gateway, ref.namespace, labels_of):
        why = f"spec.allowedListeners of {above} does not admit namespace {ref.namespace}"
    else:
        return None
    return defect(
        Reason.ListenerSetNotAdmitted, ref, why=why, gateway=above, namespace=ref.namespace
    )


def takes_listeners_of(gateway: Manifest, namespace: str, labels_of: Labels) -> bool:
    """Whether a Gateway admits the ListenerSets of a namespace."""
    allowed = untrusted.mapping(gateway, "spec", "allowedListeners", "namespaces")
    return admits(allowed, untrusted.reference(gateway).namespace, namespace, "None", labels_of)


def _not_serving(
    ref: ObjectRef, gateway: Manifest, related: tuple[Manifest, ...], installation: Installation
) -> Defect | None:
    """Why nobody from outside is served by a Gateway, None if it may be."""
    unserved = _class_defect(ref, class_of(gateway), _controllers_of(related), installation)
    if unserved:
        return unserved
    unusable = elsewhere(gateway, installation)
    if unusable is None:
        return None
    host, place = unusable
    namespace = untrusted.reference(gateway).namespace
    facts = {"host": host, "elsewhere": place, "namespace": namespace}
    return defect(Reason.GatewayAddressUnusable, ref, **facts)


def _controllers_of(related: tuple[Manifest, ...]) -> dict[str, str]:
    """The GatewayClasses by name, each with its controller."""
    classes = (m for m in related if untrusted.reference(m).kind == GATEWAY_CLASS)
    return {
        untrusted.reference(each).name: untrusted.text(
            untrusted.mapping(each, "spec").get("controllerName")
        )
        for each in classes
    }


def _class_defect(
    ref: ObjectRef, name: str, controllers: Mapping[str, str], installation: Installation
) -> Defect | None:
    """Why a Gateway of this class serves nobody from outside, None if it may.

    Where no GatewayClass is known, as in a folder, its name is all that counts; and of the class
    that the installation names, its administrator has said that it is Istio's.
    """
    controller = controllers.get(name, "")
    if _is_inner(name, controller):
        return defect(Reason.GatewayNotServing, ref, gateway_class=name)
    if not controllers or name == installation.gateway_class:
        return None
    if name in controllers:
        if controller.startswith(ISTIO_CONTROLLERS):
            return None
        facts = {"gateway_class": f'"{name}"', "controller": f'"{controller}"'}
        return defect(Reason.GatewayClassNotServed, ref, **facts)
    if name in CLASSES_WITHOUT_OBJECT:
        return None
    outer = sorted(
        known
        for known, theirs in controllers.items()
        if theirs.startswith(ISTIO_CONTROLLERS) and not _is_inner(known, theirs)
    )
    classes = ", ".join(outer) or installation.gateway_class or DEFAULT_CLASS
    return defect(Reason.GatewayClassMissing, ref, gateway_class=f'"{name}"', classes=classes)


def _is_inner(name: str, controller: str) -> bool:
    """Whether Gateways of a class take requests from the mesh only."""
    return name in INNER_CLASSES or controller in INNER_CONTROLLERS
