"""What users are told at their Ingress: Events, as the API server keeps them and kubectl shows."""

from __future__ import annotations

from tests.cluster.api import Object
from tests.cluster.bed import Bed


def events(bed: Bed, namespace: str, name: str, reason: str) -> list[Object]:
    """The Events of a reason on an Ingress."""
    found = bed.api.list("Event.events.k8s.io", namespace)
    return [e for e in found if e["reason"] == reason and _is_on(e["regarding"], name)]


def _is_on(regarding: Object, name: str) -> bool:
    return (regarding["kind"], regarding["name"]) == ("Ingress", name)


def note(bed: Bed, namespace: str, name: str, reason: str) -> str:
    """What the only Event of a reason on an Ingress says; returns when it is there."""
    bed.wait_for(lambda: events(bed, namespace, name, reason), f"{reason} is told at {name}")
    [event] = events(bed, namespace, name, reason)
    return str(event["note"])


def times_told(bed: Bed, namespace: str, name: str, reason: str) -> int:
    """How often the only Event of a reason on an Ingress was told, as its series counts."""
    found = events(bed, namespace, name, reason)
    assert len(found) <= 1, f"{reason} is told by {len(found)} Events"
    return sum(event.get("series", {}).get("count", 1) for event in found)


def described(bed: Bed, namespace: str, name: str) -> str:
    """The part about Events of `kubectl describe ingress`."""
    whole = bed.plane.kubectl("--namespace", namespace, "describe", "ingress", name)
    return whole.partition("\nEvents:")[2]
