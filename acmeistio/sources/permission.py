"""Who may ask for what: the one gate between a wish and a Declaration.

A private key is worth stealing: whoever may write an object could have a certificate for a
neighbour's host put where they can read it. So a key leaves the namespaces of the gateways only
for namespaces that an administrator allowed, with the domains that they allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from acmeistio.model import (
    Declaration,
    GatewayAddress,
    Installation,
    ObjectRef,
    Target,
)
from acmeistio.names import DnsName, InvalidName, is_within, parse_name
from acmeistio.reasons import Defect, Reason, defect
from acmeistio.sources import Found, Surroundings, untrusted
from acmeistio.sources.annotations import Wish, is_reserved, is_secret_name

ALLOWED_DOMAINS = "acmeistio.io/allowed-domains"
"""On a Namespace: `shop.example.com, example.org`, which its objects may have certificates for."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Names for a target, before anybody has said whether they may be had."""

    names: Iterable[DnsName]
    target: Target
    reached_at: tuple[GatewayAddress, ...] = ()


def declared(
    ref: ObjectRef,
    created_at: datetime | None,
    wish: Wish,
    asked: Asked,
    surroundings: Surroundings,
) -> Found:
    """The Declaration of the names that may be had, and a Defect for each other one."""
    refused = target_defect(ref, asked.target, surroundings)
    if refused:
        return Found(defects=(refused,))
    allowed, defects = allowed_names(ref, asked.names, asked.target, surroundings)
    if not allowed:
        return Found(defects=defects)
    declaration = Declaration(
        source=ref,
        created_at=created_at,
        names=allowed,
        target=asked.target,
        issuer=wish.issuer,
        key_type=wish.key_type,
        profile=wish.profile,
        reached_at=asked.reached_at,
    )
    return Found((declaration,), defects)


def allowed_names(
    ref: ObjectRef, names: Iterable[DnsName], target: Target, surroundings: Surroundings
) -> tuple[tuple[DnsName, ...], tuple[Defect, ...]]:
    """The names within every bound that counts for this object, and a Defect for each other one.

    The bounds are the installation's, that of the object's namespace, and that of the Secret's.
    """
    bounds = _bounds(ref, target, surroundings)
    allowed: list[DnsName] = []
    defects: list[Defect] = []
    for name in names:
        crossed = next((b for b in bounds if not is_within(name, b.domains)), None)
        if crossed is None:
            allowed.append(name)
        else:
            said = ", ".join(sorted(crossed.domains)) or "nothing"
            facts = {"name": name, "whose": crossed.whose, "allowed": said, "place": crossed.place}
            defects.append(defect(Reason.NameNotAllowed, ref, **facts))
    return tuple(allowed), tuple(defects)


@dataclass(frozen=True, slots=True)
class _Bound:
    """Domains that someone allowed: `whose` they are, and the `place` that says so."""

    domains: frozenset[DnsName]
    whose: str
    place: str


def _bounds(ref: ObjectRef, target: Target, surroundings: Surroundings) -> list[_Bound]:
    found = []
    domains = surroundings.installation.domains_allowed
    if domains is not None:
        found.append(_Bound(domains, "this installation", "ACMEISTIO_DOMAINS_ALLOWED"))
    for namespace in sorted({ref.namespace, target.namespace}):
        if namespace in surroundings.domains_of:
            place = f"the annotation {ALLOWED_DOMAINS} of Namespace {namespace}"
            domains = surroundings.domains_of[namespace]
            found.append(_Bound(domains, f"namespace {namespace}", place))
    return found


def target_defect(ref: ObjectRef, target: Target, surroundings: Surroundings) -> Defect | None:
    """Why a certificate can't be written into the Secret that an object names, None if it can."""
    if "/" in target.name:
        return defect(
            Reason.SecretNamespaceNotRead,
            ref,
            name=target.name,
            namespace=target.namespace,
            short=target.name.rpartition("/")[2],
        )
    if not is_secret_name(target.name):
        return defect(Reason.InvalidSecretName, ref, name=f'"{target.name}"')
    if is_reserved(target.name):
        return defect(Reason.SecretNameReserved, ref, name=f'"{target.name}"')
    if target.namespace in surroundings.installation.gateway_namespaces:
        return _not_granted(ref, target, surroundings.installation)
    if target.namespace not in surroundings.domains_of:
        facts = {"target": target, "namespace": target.namespace, "annotation": ALLOWED_DOMAINS}
        return defect(Reason.NamespaceNotAllowed, ref, **facts)
    return None


def _not_granted(ref: ObjectRef, target: Target, installation: Installation) -> Defect | None:
    granted = installation.secrets_granted
    if granted is None or target.name in granted:
        return None
    facts = {"target": target, "name": target.name, "granted": ", ".join(sorted(granted))}
    return defect(Reason.SecretNotGranted, ref, **facts)


def domains_of(
    namespaces: Iterable[Mapping[str, Any]],
) -> tuple[dict[str, frozenset[DnsName]], tuple[Defect, ...]]:
    """What the Namespaces that have the annotation allow; what is no domain allows nothing."""
    found: dict[str, frozenset[DnsName]] = {}
    defects: list[Defect] = []
    for manifest in namespaces:
        text = untrusted.annotations_of(manifest).get(ALLOWED_DOMAINS)
        if text is None:
            continue
        name = untrusted.text(untrusted.mapping(manifest, "metadata").get("name"))
        ref = ObjectRef("Namespace", "", name)
        found[name], wrong = _domains(ref, text)
        defects += wrong
    return found, tuple(defects)


def _domains(ref: ObjectRef, text: str) -> tuple[frozenset[DnsName], tuple[Defect, ...]]:
    """The domains in a text; `*.example.com` is example.com, whose wildcard is below it too."""
    domains: set[DnsName] = set()
    defects: dict[Defect, None] = {}
    for part in text.replace(",", " ").split():
        try:
            domains.add(DnsName(parse_name(part).removeprefix("*.")))
        except InvalidName as error:
            facts = {"annotation": ALLOWED_DOMAINS, "domain": f'"{part}"', "why": error}
            defects[defect(Reason.InvalidAllowedDomain, ref, **facts)] = None
    return frozenset(domains), tuple(defects)
