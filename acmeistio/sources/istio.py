"""Istio Gateways and VirtualServices (networking.istio.io) as sources.

A Gateway declares the exact hosts of its servers that terminate TLS. A VirtualService that opts in
itself declares its exact hosts on the Gateways that it is bound to: so the platform may own a
Gateway of `*.example.com`, and the teams, one by one, what is behind it, without a certificate for
the wildcard. Which pods a Gateway is for decides where its Secrets lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from acmeistio.model import (
    ISTIO_GATEWAY,
    GatewayWorkload,
    KeyType,
    ObjectRef,
    Target,
)
from acmeistio.names import DnsName, is_wildcard_host
from acmeistio.reasons import Defect, Reason, defect
from acmeistio.sources import Claim, Found, Manifest, Manifests, Surroundings, joined, untrusted
from acmeistio.sources.annotations import Wish, asks, parse_names, read_wish, refuses
from acmeistio.sources.pairs import key_types
from acmeistio.sources.permission import Asked, declared
from acmeistio.sources.servers import (
    MUTUAL,
    NOT_TERMINATING,
    Server,
    exact,
    gateways_of,
    hosts_of,
    selector_of,
    servers_of,
)

KINDS: tuple[str, ...] = (ISTIO_GATEWAY, "VirtualService")


@dataclass(frozen=True, slots=True)
class _Place:
    """A server of a Gateway, the names that are wanted there, and the pods that serve them."""

    gateway: ObjectRef
    server: Server
    texts: tuple[str, ...]
    workloads: tuple[GatewayWorkload, ...]


def subjects(manifests: Manifests) -> Iterator[tuple[Manifest, tuple[Manifest, ...]]]:
    """See Source.subjects: a Gateway with its VirtualServices, and the other way round."""
    gateways = {untrusted.reference(gateway): gateway for gateway in manifests[ISTIO_GATEWAY]}
    bound: dict[ObjectRef, list[Manifest]] = {}
    for virtual_service in manifests["VirtualService"]:
        refs = gateways_of(virtual_service)
        for ref in refs:
            bound.setdefault(ref, []).append(virtual_service)
        yield virtual_service, tuple(gateways[ref] for ref in refs if ref in gateways)
    for ref, gateway in gateways.items():
        yield gateway, tuple(bound.get(ref, ()))


def together(_claims: Iterable[Claim]) -> tuple[Defect, ...]:
    """See Source.together: nothing."""
    return ()


def declarations(
    manifest: Manifest, related: tuple[Manifest, ...], surroundings: Surroundings
) -> Found:
    """See Source.declarations."""
    ref, notes = untrusted.reference(manifest), untrusted.annotations_of(manifest)
    wish, defects = read_wish(ref, notes, surroundings.installation)
    if wish is None:
        return Found(defects=defects)
    read = _gateway if ref.kind == ISTIO_GATEWAY else _virtual_service
    found = read(manifest, ref, wish, related, surroundings)
    return Found(found.declarations, (*defects, *found.defects))


def _gateway(
    gateway: Manifest,
    ref: ObjectRef,
    wish: Wish,
    bound: tuple[Manifest, ...],
    surroundings: Surroundings,
) -> Found:
    """A Gateway asks for the hosts of its servers, or for names that they serve."""
    workloads = surroundings.installation.selected(selector_of(gateway))
    if not workloads:
        return Found(defects=(_unknown(gateway, ref),))
    servers = servers_of(gateway)
    places = [_Place(ref, s, exact(s.hosts), workloads) for s in servers if s.terminates]
    if not places:
        return Found(defects=(defect(Reason.NoTLSServer, ref), *_warnings(ref, servers)))
    found = _asked(gateway, ref, wish, places, surroundings)
    warnings = [*_warnings(ref, servers), *_wildcards_only(ref, wish, places, bound, surroundings)]
    return Found(found.declarations, (*found.defects, *warnings))


def _virtual_service(
    virtual_service: Manifest,
    ref: ObjectRef,
    wish: Wish,
    gateways: tuple[Manifest, ...],
    surroundings: Surroundings,
) -> Found:
    """A VirtualService asks for those of its hosts that its Gateways serve with TLS."""
    missing = _missing_gateways(virtual_service, ref, gateways)
    found = [_through(virtual_service, ref, wish, gateway, surroundings) for gateway in gateways]
    parts = joined(*(part for part in found if part))
    if not gateways or any(found):
        return Found(parts.declarations, (*missing, *parts.defects))
    names = ", ".join(str(untrusted.reference(gateway)) for gateway in gateways)
    return Found(defects=(*missing, defect(Reason.NotServedWithTLS, ref, gateways=names)))


def _missing_gateways(
    virtual_service: Manifest, ref: ObjectRef, gateways: tuple[Manifest, ...]
) -> tuple[Defect, ...]:
    known = {untrusted.reference(gateway) for gateway in gateways}
    wanted = gateways_of(virtual_service)
    if not wanted:
        return (defect(Reason.GatewayMissing, ref, gateway="any Gateway"),)
    return tuple(
        defect(Reason.GatewayMissing, ref, gateway=gateway)
        for gateway in wanted
        if gateway not in known
    )


def _through(
    virtual_service: Manifest,
    ref: ObjectRef,
    wish: Wish,
    gateway: Manifest,
    surroundings: Surroundings,
) -> Found | None:
    """What a VirtualService asks for through one Gateway, None where that serves it no TLS."""
    gateway_ref, notes = untrusted.reference(gateway), untrusted.annotations_of(gateway)
    hosts, servers = hosts_of(virtual_service), servers_of(gateway)
    workloads = surroundings.installation.selected(selector_of(gateway))
    admitted = {
        server: tuple(text for host in hosts for text in server.admits(ref.namespace, host))
        for server in servers
        if server.terminates
    }
    places = [
        _Place(gateway_ref, server, _wanted(texts), workloads)
        for server, texts in admitted.items()
        if texts
    ]
    if not places:
        return None
    if refuses(notes):
        return Found(defects=(defect(Reason.GatewayDeclines, ref, gateway=gateway_ref),))
    if not workloads:
        return Found(defects=(_unknown(gateway, ref),))
    owners_wish, _ = read_wish(gateway_ref, notes, surroundings.installation)
    return _asked(virtual_service, ref, _with_defaults(wish, owners_wish), places, surroundings)


def _wanted(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The hosts without wildcards, or, where there are only such, these: to be told of."""
    return exact(texts) or texts


def _with_defaults(wish: Wish, owners: Wish | None) -> Wish:
    """Where a VirtualService has no opinion, its Gateway's counts."""
    if owners is None:
        return wish
    return replace(
        wish,
        secret_name=wish.secret_name or owners.secret_name,
        issuer=wish.issuer or owners.issuer,
        key_type=wish.key_type or owners.key_type,
        profile=wish.profile or owners.profile,
    )


def _asked(
    manifest: Manifest,
    ref: ObjectRef,
    wish: Wish,
    places: list[_Place],
    surroundings: Surroundings,
) -> Found:
    """The names that are wanted, each in the Secrets of the servers that have it."""
    wanted: dict[tuple[Target, KeyType | None], dict[DnsName, None]] = {}
    defects: list[Defect] = []
    for place, names in _named(ref, wish, places, defects):
        for key in _targets(wish, place, surroundings):
            wanted.setdefault(key, {}).update(dict.fromkeys(names))
    created_at = untrusted.created_at(manifest)
    reached_at = tuple(
        dict.fromkeys(
            surroundings.installation.address_of(workload)
            for place in places
            for workload in place.workloads
        )
    )
    found = [
        declared(
            ref,
            created_at,
            replace(wish, key_type=key_type),
            Asked(names, target, reached_at),
            surroundings,
        )
        for (target, key_type), names in wanted.items()
        if names
    ]
    whole = joined(*found)
    return Found(whole.declarations, (*dict.fromkeys(defects), *whole.defects))


def _named(
    ref: ObjectRef, wish: Wish, places: list[_Place], defects: list[Defect]
) -> Iterator[tuple[_Place, tuple[DnsName, ...]]]:
    """The names for each place; what is wrong with one is added to `defects`."""
    if wish.domains is None:
        for place in places:
            names, wrong = parse_names(ref, place.texts)
            defects += wrong
            yield place, names
        return
    homeless = [n for n in wish.domains if not any(p.server.covers(n) for p in places)]
    if homeless and len({p.server.credential_names for p in places}) > 1 and not wish.secret_name:
        secrets = sorted({name for p in places for name in p.server.credential_names})
        defects.append(defect(Reason.AmbiguousSecretName, ref, secrets=", ".join(secrets)))
        homeless = []
    for place in places:
        mine = tuple(name for name in wish.domains if place.server.covers(name))
        yield place, (*mine, *homeless)


def _targets(
    wish: Wish, place: _Place, surroundings: Surroundings
) -> Iterable[tuple[Target, KeyType | None]]:
    """The Secrets of a server in each namespace where its pods run, and their key types."""
    server, default = place.server, surroundings.installation.default_secret
    named = server.credential_names or (server.mounted_secret or default,)
    names = (wish.secret_name,) if wish.secret_name else named
    wanted = key_types(names, wish.key_type)
    return [
        (Target(workload.namespace, name), key_type)
        for workload in place.workloads
        for name, key_type in zip(names, wanted, strict=True)
    ]


def _warnings(ref: ObjectRef, servers: Iterable[Server]) -> Iterator[Defect]:
    """What an owner should know of servers that don't do what they may expect."""
    servers = tuple(servers)
    redirected = {host.host for server in servers if server.redirects for host in server.hosts}
    for server in servers:
        hosts = ", ".join(host.host for host in server.hosts)
        if server.mode in NOT_TERMINATING:
            yield defect(Reason.TLSNotTerminated, ref, hosts=hosts)
        if server.mode == MUTUAL and redirected:
            yield defect(Reason.MutualTLSBehindRedirect, ref, hosts=hosts)
        if server.terminates and server.file:
            secret = server.mounted_secret or "that holds it"
            yield defect(Reason.CertificateFromFile, ref, file=server.file, secret=secret)


def _wildcards_only(
    ref: ObjectRef,
    wish: Wish,
    places: list[_Place],
    bound: tuple[Manifest, ...],
    surroundings: Surroundings,
) -> Iterator[Defect]:
    """A Gateway that names no exact host lives on VirtualServices that opt in."""
    if wish.domains is not None or any(place.texts for place in places):
        return
    installation = surroundings.installation
    if not any(asks(untrusted.annotations_of(v), installation) for v in bound):
        hosts = sorted({h.host for p in places for h in p.server.hosts if is_wildcard_host(h.host)})
        yield defect(Reason.OnlyWildcardHosts, ref, hosts=", ".join(hosts))


def _unknown(gateway: Mapping[str, object], ref: ObjectRef) -> Defect:
    selector = untrusted.spelt(selector_of(dict(gateway)))
    return defect(Reason.GatewayUnknown, ref, selector=selector)
