"""probe/owners.py: whose host a name is."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from acmeistio.model import ObjectRef
from acmeistio.names import DnsName
from acmeistio.probe.owners import owner_of

NAME = DnsName("www.shop.example.com")


def manifest(kind: str, name: str, spec: Any, **metadata: Any) -> dict[str, Any]:
    """An object of the namespace `shop`."""
    return {
        "kind": kind,
        "metadata": {"namespace": "shop", "name": name, **metadata},
        "spec": spec,
    }


def ingress(name: str, *hosts: str | None, **metadata: Any) -> dict[str, Any]:
    """An Ingress; None is a rule without host."""
    rules: list[Any] = [{"host": host} if host else {"http": {}} for host in hosts]
    return manifest("Ingress", name, {"rules": rules}, **metadata)


def virtual_service(name: str, *hosts: str, gateways: Any = ("a",), **metadata: Any) -> Any:
    """A VirtualService at a gateway."""
    spec = {"hosts": [*hosts], "gateways": [*gateways]}
    return manifest("VirtualService", name, spec, **metadata)


def http_route(name: str, *hosts: str, parent: str = "Gateway", **metadata: Any) -> Any:
    """An HTTPRoute; without hosts one for those of its listener."""
    spec: dict[str, Any] = {"parentRefs": [{"kind": parent, "name": "a"}]}
    if hosts:
        spec["hostnames"] = [*hosts]
    return manifest("HTTPRoute", name, spec, **metadata)


def owner(*manifests: Any) -> str:
    """Kind and name of the owner, the same in whatever order the objects come."""
    found = set()
    for order in permutations(manifests):
        kinds = {made["kind"] for made in order}
        by_kind = {kind: tuple(m for m in order if m["kind"] == kind) for kind in kinds}
        found.add(owner_of(NAME, by_kind))
    (one,) = found
    return f"{one.kind} {one.name}" if one else ""


EXACT, NEAR, FAR, OTHER = NAME, "*.shop.example.com", "*.example.com", "www.example.com"


@pytest.mark.parametrize("make", [ingress, virtual_service, http_route])
@pytest.mark.parametrize("host", [EXACT, EXACT.upper(), NEAR, FAR, "*.com", "*"])
def test_a_host_is_the_names(make: Any, host: str) -> None:
    """The name itself, or a suffix of it of any depth, in any kind of object."""
    made = make("a", OTHER, host)
    assert owner_of(NAME, {made["kind"]: (made,)}) == ObjectRef(made["kind"], "shop", "a")


@pytest.mark.parametrize("make", [ingress, virtual_service, http_route])
@pytest.mark.parametrize(
    "host", [OTHER, "*.www.shop.example.com", "*p.example.com", "shop.example.com", "*.", ""]
)
def test_another_host_is_not(make: Any, host: str) -> None:
    """Neither beside nor below nor above it."""
    made = make("a", OTHER, host or OTHER)
    assert owner_of(NAME, {made["kind"]: (made,)}) is None


def test_the_most_specific_host_owns_the_name() -> None:
    """However old the others are: Envoy never falls back to another virtual host."""
    old = {"creationTimestamp": "2020-01-01T00:00:00Z"}
    everything = ingress("all", None, **old)
    far = virtual_service("far", FAR, **old)
    near = http_route("near", NEAR, **old)
    exact = ingress("exact", EXACT)
    assert owner(everything) == "Ingress all"
    assert owner(everything, far) == "VirtualService far"
    assert owner(everything, far, near) == "HTTPRoute near"
    assert owner(everything, far, near, exact) == "Ingress exact"


def test_an_exact_host_is_more_than_a_suffix_of_its_length() -> None:
    """`*.b.example` is as long as `a.b.example`."""
    routes = (http_route("wild", "*.b.example"), http_route("exact", "a.b.example"))
    assert owner_of(DnsName("a.b.example"), {"HTTPRoute": routes}) == ObjectRef(
        "HTTPRoute", "shop", "exact"
    )


def test_among_equals_the_oldest_owns_it() -> None:
    """A file's object, which has no age, comes last and then by name."""
    old = virtual_service("z-old", EXACT, creationTimestamp="2024-01-01T00:00:00Z")
    new = ingress("new", EXACT, creationTimestamp="2025-01-01T00:00:00Z")
    ageless, other = http_route("b", EXACT), http_route("c", EXACT)
    assert owner(old, new, ageless) == "VirtualService z-old"
    assert owner(new, ageless) == "Ingress new"
    assert owner(ageless, other) == "HTTPRoute b"


def test_an_http_route_without_hosts_is_for_all() -> None:
    """As are a rule without host and `*`."""
    assert owner(http_route("a")) == "HTTPRoute a"


@pytest.mark.parametrize("gateways", [["mesh"], []])
def test_a_virtual_service_for_sidecars_owns_nothing(gateways: list[str]) -> None:
    """It is at no gateway; one for both is."""
    assert owner(virtual_service("a", EXACT, gateways=gateways)) == ""
    assert owner(virtual_service("a", EXACT, gateways=[*gateways, "ns/b"])) == "VirtualService a"


def test_a_route_between_services_owns_nothing() -> None:
    """Gateway API uses the same kind in a mesh."""
    assert owner(http_route("a", EXACT, parent="Service")) == ""


def test_our_own_routes_own_nothing() -> None:
    """They are there for every host, whoever owns it."""
    ours = {"labels": {"app.kubernetes.io/managed-by": "acmeistio"}}
    theirs = {"labels": {"app.kubernetes.io/managed-by": "Helm"}}
    assert owner(virtual_service("a", "*", **ours)) == ""
    assert owner(virtual_service("a", "*", **theirs)) == "VirtualService a"


@pytest.mark.parametrize("spec", [None, [], "x", {"rules": 1, "hosts": 1, "hostnames": {}}])
@pytest.mark.parametrize("kind", ["Ingress", "VirtualService", "HTTPRoute"])
def test_what_nobody_has_validated_is_survived(kind: str, spec: Any) -> None:
    """A folder holds anything."""
    made = manifest(kind, "a", spec, creationTimestamp="yesterday", labels=[1])
    assert owner_of(NAME, {kind: (made,)}) in (None, ObjectRef(kind, "shop", "a"))


def test_without_objects_nobody_owns_it() -> None:
    """Kinds may be missing."""
    assert owner_of(NAME, {}) is None
    assert owner_of(NAME, {"Ingress": ()}) is None
