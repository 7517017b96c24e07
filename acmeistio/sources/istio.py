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
    GatewayAddress,
    GatewayWorkload,
    ObjectRef,
    Target,
)
from acmeistio.names import DnsName, is_wildcard_host
from acmeistio.reasons import Defect, Reason, defect
from acmeistio.sources import Claim, Found, Manifest, Manifests, Surroundings, joined, untrusted
from acmeistio.sources.annotations import Wish, asks, parse_hosts, read_wish, refuses
from acmeistio.sources.pairs import key_types
from acmeistio.sources.permission import Asked, declared
from acmeistio.sources.servers import (
    MUTUAL,
    NOT_TERMINATING,
    Server,
    exact,
    gateways_of,
    hosts_of,
    secret_of,
    selector_of,
    servers_of,
)

KINDS: tuple[str, ...] = (ISTIO_GATEWAY, "VirtualService")


@dataclass(frozen=True, slots=True)
class _Place:
    """A server of a Gateway, the names that are wanted there, and the pods that serve them.

    `wish` has what is wished there: where a VirtualService has no opinion, its Gateway's counts.
    """

    server: Server
    texts: tuple[str, ...]
    workloads: tuple[GatewayWorkload, ...]
    wish: Wish


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
    places = [_Place(s, exact(s.hosts), workloads, wish) for s in servers if s.terminates]
    if not places:
        return Found(defects=(defect(Reason.NoTLSServer, ref), *_warnings(ref, servers)))
    found = _asked(gateway, ref, places, surroundings)
    warnings = [
        *_warnings(ref, servers),
        *_not_served(ref, wish, places),
        *_wildcards_only(ref, wish, places, bound, surroundings),
    ]
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
    served = [g for g in gateways if _admitted(virtual_service, g)]
    if gateways and not served:
        names = ", ".join(str(untrusted.reference(gateway)) for gateway in gateways)
        return Found(defects=(*missing, defect(Reason.NotServedWithTLS, ref, gateways=names)))
    refused = [r for r in (_refusal(ref, gateway, surroundings) for gateway in served) if r]
    places = [
        place
        for gateway in served
        if _refusal(ref, gateway, surroundings) is None
        for place in _places(virtual_service, wish, gateway, surroundings)
    ]
    found = _asked(virtual_service, ref, places, surroundings) if places else Found()
    return Found(found.declarations, (*missing, *refused, *found.defects))


def _missing_gateways(
    virtual_service: Manifest, ref: ObjectRef, gateways: tuple[Manifest, ...]
) -> tuple[Defect, ...]:
    known = {untrusted.reference(gateway) for gateway in gateways}
    wanted = gateways_of(virtual_service)
    if not wanted:
        return (defect(Reason.NoGateway, ref),)
    return tuple(
        defect(Reason.GatewayMissing, ref, gateway=gateway)
        for gateway in wanted
        if gateway not in known
    )


def _refusal(ref: ObjectRef, gateway: Manifest, surroundings: Surroundings) -> Defect | None:
    """Why a VirtualService gets no certificate through a Gateway, None if it may."""
    if refuses(untrusted.annotations_of(gateway)):
        gateway_ref = untrusted.reference(gateway)
        return defect(Reason.GatewayDeclines, ref, gateway=gateway_ref)
    if not surroundings.installation.selected(selector_of(gateway)):
        return _unknown(gateway, ref)
    return None


def _admitted(virtual_service: Manifest, gateway: Manifest) -> dict[Server, tuple[str, ...]]:
    """The hosts that a VirtualService gets at each server of a Gateway that terminates TLS."""
    namespace = untrusted.reference(virtual_service).namespace
    hosts = hosts_of(virtual_service)
    found = {
        server: tuple(text for host in hosts for text in server.admits(namespace, host))
        for server in servers_of(gateway)
        if server.terminates
    }
    return {server: texts for server, texts in found.items() if texts}


def _places(
    virtual_service: Manifest, wish: Wish, gateway: Manifest, surroundings: Surroundings
) -> list[_Place]:
    installation, ref = surroundings.installation, untrusted.reference(gateway)
    owners, _ = read_wish(ref, untrusted.annotations_of(gateway), installation)
    return [
        _Place(
            server,
            _wanted(texts),
            installation.selected(selector_of(gateway)),
            _with_defaults(wish, owners),
        )
        for server, texts in _admitted(virtual_service, gateway).items()
    ]


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
        second_key_type=(wish if wish.key_type else owners).second_key_type,
        profile=wish.profile or owners.profile,
    )


def _asked(
    manifest: Manifest, ref: ObjectRef, places: list[_Place], surroundings: Surroundings
) -> Found:
    """The names that are wanted, each in the Secrets of the servers that have it."""
    wanted: dict[tuple[Target, Wish], dict[DnsName, None]] = {}
    reached: dict[tuple[Target, Wish], dict[GatewayAddress, None]] = {}
    defects: list[Defect] = []
    for place, names in _named(ref, places, defects):
        for workload, key in _targets(place, surroundings) if names else ():
            wanted.setdefault(key, {}).update(dict.fromkeys(names))
            address = surroundings.installation.address_of(workload)
            reached.setdefault(key, {})[address] = None
    created_at = untrusted.created_at(manifest)
    found = joined(
        *(
            declared(
                ref,
                created_at,
                wish,
                Asked(names, target, tuple(reached[target, wish])),
                surroundings,
            )
            for (target, wish), names in wanted.items()
        )
    )
    return Found(found.declarations, (*dict.fromkeys(defects), *found.defects))


def _named(
    ref: ObjectRef, places: list[_Place], defects: list[Defect]
) -> Iterator[tuple[_Place, tuple[DnsName, ...]]]:
    """The names for each place; what is wrong with one is added to `defects`.

    Names that no server has go to the only Secret, if there is one.
    """
    domains = places[0].wish.domains
    if domains is None:
        for place in places:
            names, wrong = parse_hosts(ref, place.texts)
            defects += wrong
            yield place, names
        return
    homeless = tuple(n for n in domains if not any(p.server.covers(n) for p in places))
    if homeless and len({(p.wish.secret_name, p.server.credential_names) for p in places}) > 1:
        secrets = sorted({name for p in places for name in p.server.credential_names})
        defects.append(defect(Reason.AmbiguousSecretName, ref, secrets=", ".join(secrets)))
        homeless = ()
    for place in places:
        yield place, (*(name for name in domains if place.server.covers(name)), *homeless)


def _targets(
    place: _Place, surroundings: Surroundings
) -> Iterator[tuple[GatewayWorkload, tuple[Target, Wish]]]:
    """The Secrets of a server in each namespace where its pods run, and what is wished of them."""
    server, wish = place.server, place.wish
    default = surroundings.installation.default_secret
    named = server.credential_names or (server.mounted_secret or default,)
    names = (wish.secret_name,) if wish.secret_name else named
    for workload in place.workloads:
        wanted = key_types(names, wish.key_type, wish.second_key_type)
        for name, key_type in zip(names, wanted, strict=True):
            target = Target(workload.namespace, secret_of(name, workload.namespace))
            yield workload, (target, replace(wish, key_type=key_type, second_key_type=None))


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


def _not_served(ref: ObjectRef, wish: Wish, places: list[_Place]) -> Iterator[Defect]:
    """Servers that name another Secret than the annotation."""
    for place in places:
        served = place.server.credential_names
        if wish.secret_name and served and wish.secret_name not in served:
            yield defect(
                Reason.SecretNotServed,
                ref,
                place=f"the server of port {place.server.port}",
                served=", ".join(served),
                target=wish.secret_name,
                name=wish.secret_name,
            )


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
