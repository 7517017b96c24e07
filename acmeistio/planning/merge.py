"""One CertificateSpec per target out of all declarations; the order of the input never matters.

Who holds the certificate now keeps it, else the older object decides: a parameter that it has an
opinion on binds the later ones, and a later one that contradicts contributes no name. Who says
nothing has no opinion; but nobody decides for the silent of another namespace, whose parameters are
the installation's: else whoever joins a shared certificate could have it made anew for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from acmeistio.issuer import Issuer
from acmeistio.model import (
    DEFAULT_KEY_TYPE,
    CertificateSpec,
    Declaration,
    GatewayAddress,
    Installation,
    ObjectRef,
    Target,
)
from acmeistio.names import DnsName, is_ip_address, is_wildcard
from acmeistio.reasons import Defect, Reason, defect

PARAMETERS = ("issuer", "key_type", "profile")
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Holder:
    """What a target's Secret says of its past: who declared it and the names it serves."""

    declared_by: tuple[ObjectRef, ...] = ()
    names: frozenset[DnsName] = frozenset()


@dataclass(slots=True)
class _Merged:
    """The opinions that bind so far, and who had them; the names in order of precedence.

    `sources` are the objects that contribute, `reached_at` the gateways of each name.
    """

    opinions: dict[str, tuple[str, ObjectRef]] = field(default_factory=dict)
    sources: list[ObjectRef] = field(default_factory=list)
    names: dict[DnsName, list[ObjectRef]] = field(default_factory=dict)
    reached_at: dict[DnsName, set[GatewayAddress]] = field(default_factory=dict)


def merge(
    declarations: Iterable[Declaration],
    holders: Mapping[Target, Holder],
    installation: Installation,
) -> tuple[tuple[CertificateSpec, ...], tuple[Defect, ...]]:
    """The specs, sorted by target, and the Defects of declarations that don't fit."""
    by_target: dict[Target, list[Declaration]] = {}
    for declaration in declarations:
        by_target.setdefault(declaration.target, []).append(declaration)
    specs: list[CertificateSpec] = []
    defects: list[Defect] = []
    for target, group in sorted(by_target.items()):
        holder = holders.get(target, Holder())
        spec, found = _merge_target(target, group, holder, installation)
        specs += [spec] if spec else []
        defects += found
    return tuple(specs), tuple(sorted(set(defects)))


def _merge_target(
    target: Target, group: list[Declaration], holder: Holder, installation: Installation
) -> tuple[CertificateSpec | None, list[Defect]]:
    merged, defects = _Merged(), list[Defect]()
    for declaration in sorted(group, key=lambda d: _precedence(d, holder)):
        conflict = _contradiction(declaration, merged, installation)
        if conflict:
            defects.append(conflict)
        else:
            _add(declaration, merged)
    issuer = installation.issuers[_opinion(merged, "issuer") or installation.default_issuer]
    profile = _opinion(merged, "profile") or issuer.profile
    defects += _leave_out_wildcards(merged, issuer)
    defects += _leave_out_addresses(merged, issuer, profile)
    defects += _leave_out_excess(merged, holder, target, issuer.names_in(profile))
    if not merged.names:
        return None, defects
    return _spec(target, merged, issuer), defects


def _precedence(declaration: Declaration, holder: Holder) -> tuple[object, ...]:
    source = declaration.source
    return (
        source not in holder.declared_by,
        declaration.created_at or _NEVER,
        source.namespace,
        source.name,
        source.kind,
        declaration.names,
    )


def _contradiction(
    declaration: Declaration, merged: _Merged, installation: Installation
) -> Defect | None:
    """The first parameter in which a declaration contradicts what binds already."""
    for parameter in PARAMETERS:
        value = getattr(declaration, parameter)
        binding = _binding(parameter, declaration, merged, installation)
        if value is not None and binding and value != binding[0]:
            other, winner = binding
            return defect(
                Reason.ConflictingDeclaration,
                declaration.source,
                parameter=parameter.replace("_", "-"),
                value=value,
                other=other or "the CA's default",
                winner=winner,
                target=declaration.target,
            )
    return None


def _binding(
    parameter: str, declaration: Declaration, merged: _Merged, installation: Installation
) -> tuple[str | None, ObjectRef] | None:
    """What a parameter must be for a declaration, and by whom; None where it may decide itself."""
    if parameter in merged.opinions:
        return merged.opinions[parameter]
    own = declaration.source.namespace
    silent = next((ref for ref in merged.sources if ref.namespace != own), None)
    if silent is None:
        return None
    issuer = installation.issuers[_opinion(merged, "issuer") or installation.default_issuer]
    defaults = {
        "issuer": installation.default_issuer,
        "key_type": DEFAULT_KEY_TYPE,
        "profile": issuer.profile,
    }
    return defaults[parameter], silent


def _add(declaration: Declaration, merged: _Merged) -> None:
    merged.sources.append(declaration.source)
    for parameter in PARAMETERS:
        value = getattr(declaration, parameter)
        if value is not None:
            merged.opinions.setdefault(parameter, (value, declaration.source))
    for name in declaration.names:
        refs = merged.names.setdefault(name, [])
        if declaration.source not in refs:
            refs.append(declaration.source)
        merged.reached_at.setdefault(name, set()).update(declaration.reached_at)


def _opinion(merged: _Merged, parameter: str) -> str | None:
    return merged.opinions[parameter][0] if parameter in merged.opinions else None


def _leave_out_wildcards(merged: _Merged, issuer: Issuer) -> list[Defect]:
    """A wildcard can be validated by DNS only (RFC 8555 §8.3: not by http-01)."""
    if issuer.has_wildcards:
        return []
    types = ", ".join(sorted(issuer.challenge_types))
    return [
        defect(Reason.WildcardNeedsDNS01, ref, name=name, issuer=issuer.name, types=types)
        for name in [name for name in merged.names if is_wildcard(name)]
        for ref in merged.names.pop(name)
    ]


def _leave_out_addresses(merged: _Merged, issuer: Issuer, profile: str | None) -> list[Defect]:
    """Only some profiles of some CAs have IP addresses (RFC 8738)."""
    if issuer.has_ip_addresses(profile):
        return []
    having = sorted(name for name in issuer.profiles if name and issuer.has_ip_addresses(name))
    used = f"profile {profile}" if profile else "the CA's default profile"
    facts = {
        "why": f"for which issuer {issuer.name} has no certificates with {used}; profiles that "
        f"have IP addresses: {', '.join(having) or 'none'}",
        "advice": f"Add acmeistio.io/profile: {having[0]}; where the Secret is shared with objects "
        "that can't have that, another one by acmeistio.io/secret-name."
        if having
        else "Use another issuer (acmeistio.io/issuer), or a domain name that resolves to it.",
    }
    return [
        defect(Reason.IPAddressUnsupported, ref, name=name, **facts)
        for name in [name for name in merged.names if is_ip_address(name)]
        for ref in merged.names.pop(name)
    ]


def _leave_out_excess(merged: _Merged, holder: Holder, target: Target, limit: int) -> list[Defect]:
    """Names beyond the CA's limit: those served stay, then older declarations go first."""
    ordered = sorted(merged.names, key=lambda name: name not in holder.names)
    excess = ordered[limit:]
    losers: dict[ObjectRef, list[DnsName]] = {}
    for name in excess:
        for ref in merged.names.pop(name):
            losers.setdefault(ref, []).append(name)
    return [
        defect(
            Reason.TooManyNames,
            ref,
            target=target,
            count=len(ordered),
            limit=limit,
            left_out=", ".join(names),
        )
        for ref, names in losers.items()
    ]


def _spec(target: Target, merged: _Merged, issuer: Issuer) -> CertificateSpec:
    key_type = merged.opinions.get("key_type", (DEFAULT_KEY_TYPE, None))[0]
    return CertificateSpec(
        target=target,
        names=tuple(sorted(merged.names)),
        issuer=issuer.name,
        key_type=type(DEFAULT_KEY_TYPE)(key_type),
        profile=_opinion(merged, "profile") or issuer.profile,
        declared_by={name: tuple(sorted(refs)) for name, refs in sorted(merged.names.items())},
        reached_at={name: tuple(sorted(merged.reached_at[name])) for name in sorted(merged.names)},
    )
