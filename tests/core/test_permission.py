"""sources/permission.py: what administrators allow namespaces, and how often that is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from acmeistio import looking
from acmeistio.looking import Looking
from acmeistio.model import Declaration, ObjectRef
from acmeistio.ports import Listing, Manifest
from acmeistio.reasons import Severity
from acmeistio.sources import Surroundings, permission
from acmeistio.sources.permission import ALLOWED_DOMAINS
from tests.core.builders import INSTALLATION, TARGET, names


def namespace(
    name: str, allowed: str | None = None, labels: Mapping[str, str] | None = None
) -> Manifest:
    """A Namespace, with the annotation unless it is None."""
    notes = {} if allowed is None else {ALLOWED_DOMAINS: allowed}
    metadata = {"name": name, "annotations": notes, "labels": dict(labels or {})}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


# The annotation


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("example.com", ["example.com"]),
        ("a.example.com, example.org", ["a.example.com", "example.org"]),
        ("a.example.com example.org\n,, a.example.com", ["a.example.com", "example.org"]),
        ("*.example.com", ["example.com"]),
        ("*.Example.com., example.com", ["example.com"]),
        ("*.b\u00fccher.example", ["xn--bcher-kva.example"]),
        ("192.0.2.1, [2001:DB8::1]", ["192.0.2.1", "2001:db8::1"]),
        ("", []),
    ],
)
def test_domains(text: str, allowed: list[str]) -> None:
    """Each with all below it; one written with a wildcard means the same."""
    assert permission.domains_of([namespace("shop", text), namespace("other")]) == (
        {"shop": frozenset(names(*allowed))},
        (),
    )


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("b.example.com; c", {"b.example.com;": "not a DNS", "c": "only one label"}),
        ("*", {"*": "not a DNS"}),
        ("*.*.example.com", {"*.*.example.com": "not a DNS"}),
        ("*.com", {"*.com": "only one label"}),
        ("127.0.0.1", {"127.0.0.1": "loopback"}),
        ("*.192.0.2.1", {"*.192.0.2.1": "not a DNS"}),
        ("192.0.2.0/24", {"192.0.2.0/24": "not a DNS"}),
        ("c, c", {"c": "only one label"}),
    ],
)
def test_what_is_no_domain(text: str, wrong: dict[str, str]) -> None:
    """It is told what is wrong with which part; the namespace has only the others."""
    found, defects = permission.domains_of([namespace("shop", f"example.org, {text}")])
    assert found == {"shop": frozenset(names("example.org"))}
    assert {defect.code for defect in defects} == {"InvalidAllowedDomain"}
    assert {defect.subject for defect in defects} == {ObjectRef("Namespace", "", "shop")}
    assert {defect.reason.severity for defect in defects} == {Severity.ERROR}
    assert len(defects) == len(wrong)
    for defect, (part, why) in zip(defects, wrong.items(), strict=True):
        assert f'"{part}"' in defect.sentence
        assert why in defect.sentence
        assert ALLOWED_DOMAINS in defect.sentence
        assert "commas between them" in defect.remedy


@pytest.mark.parametrize(
    ("allowed", "had"),
    [
        ("example.com, 192.0.2.1", ["192.0.2.1"]),
        ("2001:db8::1", ["2001:db8::1"]),
        ("example.com, 192.0.2.2, 2001:db8::", []),
    ],
)
def test_a_tenant_has_the_addresses_that_are_listed(allowed: str, had: list[str]) -> None:
    """Nothing lies below an address: it is allowed by itself or not at all."""
    domains, _ = permission.domains_of([namespace("shop", allowed)])
    surroundings = Surroundings(INSTALLATION, domains_of=domains)
    ref, asked = ObjectRef("Ingress", "shop", "web"), names("192.0.2.1", "2001:db8::1")
    found, defects = permission.allowed_names(ref, asked, TARGET, surroundings)
    assert found == names(*had)
    assert {defect.code for defect in defects} == {"NameNotAllowed"}


# How often Namespaces are read


class Shelf:
    """Objects by kind; a listing is the same tuple until somebody puts another."""

    def __init__(self, **manifests: tuple[Manifest, ...]) -> None:
        self.manifests = manifests

    async def listing(self, kind: str) -> Listing:
        """All of a kind."""
        return Listing(self.manifests.get(kind, ()))

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """Nothing is asked for alone here."""
        raise NotImplementedError(kind, namespace, name)


def of_gateway_api(kind: str, at: str, spec: object, **annotations: str) -> Manifest:
    """An object of the Gateway API."""
    place, _, name = at.partition("/")
    notes = {f"acmeistio.io/{key}": value for key, value in annotations.items()}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": kind,
        "metadata": {"namespace": place, "name": name, "annotations": notes},
        "spec": spec,
    }


async def test_labels_and_domains_are_those_of_the_last_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Thousands of Namespaces are gone over only where one is another than before."""
    reads = []

    def counted(namespaces: Iterable[Manifest]) -> dict[str, Mapping[str, str]]:
        reads.append(True)
        return labels_of(namespaces)

    labels_of = looking.listeners.labels_of
    monkeypatch.setattr(looking.listeners, "labels_of", counted)
    allowed = {"from": "Selector", "selector": {"matchLabels": {"tier": "web"}}}
    listener = {
        "name": "https",
        "port": 443,
        "protocol": "HTTPS",
        "tls": {"certificateRefs": [{"name": "s"}]},
        "allowedRoutes": {"namespaces": allowed},
    }
    gateway = of_gateway_api(
        "Gateway", "shop/web", {"gatewayClassName": "istio", "listeners": [listener]}, tls="true"
    )
    parent = {"parentRefs": [{"name": "web", "namespace": "shop"}]}
    routes = [
        of_gateway_api("HTTPRoute", f"{each}/r", parent | {"hostnames": [f"{each}.example.com"]})
        for each in ("a", "b")
    ]
    shop, b = namespace("shop", "example.com"), namespace("b")
    a = namespace("a", labels={"tier": "web"})
    shelf = Shelf(
        **{"Gateway.gateway.networking.k8s.io": (gateway,), "HTTPRoute": tuple(routes)},
        Namespace=(shop, a, b),
    )
    look = Looking(shelf, INSTALLATION, lambda what, error: pytest.fail(f"{what}: {error}")).look

    def asked(declarations: tuple[Declaration, ...]) -> list[str]:
        return [name for declared in declarations for name in declared.names]

    assert asked((await look()).declarations) == ["a.example.com"]
    assert asked((await look()).declarations) == ["a.example.com"]
    assert len(reads) == 1
    shelf.manifests["Namespace"] = (shop, a, namespace("b", labels={"tier": "web"}))
    assert asked((await look()).declarations) == ["a.example.com", "b.example.com"]
    shelf.manifests["Namespace"] = (namespace("shop", "a.example.com, c"), a, b)
    seen = await look()
    assert asked(seen.declarations) == ["a.example.com"]
    assert "InvalidAllowedDomain" in {defect.code for defect in seen.defects}
    assert "InvalidAllowedDomain" in {defect.code for defect in (await look()).defects}
    assert len(reads) == 3
