"""Worlds that hypothesis makes up: few names and Secrets, so that everything meets everything."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from hypothesis import strategies as st

from acmeistio.model import (
    Declaration,
    Installation,
    KeyType,
    Leaf,
    Marks,
    ObjectRef,
    Stored,
    Target,
    Unusable,
)
from acmeistio.names import DnsName
from acmeistio.planning.decide import armed_by
from acmeistio.planning.ledger import Failure, Ledger, OpenOrder, Pause
from acmeistio.planning.merge import Holder, merge
from acmeistio.planning.plan import World
from tests.core.builders import CA, DAY, MINUTE, NAMESPACE, NOW, OTHER_CA, names

NAMES = names("a.example.com", "b.example.com", "c.example.com", "d.example.com", "*.example.com")
TARGETS = (Target(NAMESPACE, "istio-ingress-certs"), Target(NAMESPACE, "second"))
SMALL = Installation(
    issuers={"ca": replace(CA, max_names=3), "other": replace(OTHER_CA, max_names=3, profile="p")},
    default_issuer="ca",
)
"""An installation in which three names are enough for an excess."""

REFS = tuple(
    ObjectRef(kind, namespace, name)
    for kind in ("Gateway", "Ingress")
    for namespace in ("bank", "shop")
    for name in ("one", "two")
)
KEY_TYPES = st.sampled_from([KeyType.ECDSA_P256, KeyType.RSA_2048])
INSTANTS = st.integers(-100 * 24 * 60, 100 * 24 * 60).map(lambda m: NOW + m * MINUTE)
SOON = st.integers(-3 * 24 * 60, 3 * 24 * 60).map(lambda m: NOW + m * MINUTE)


@st.composite
def object_declarations(draw: st.DrawFn) -> list[Declaration]:
    """What some objects declare: each has one age and one wish, and one or more targets."""
    declared = []
    for source in draw(st.lists(st.sampled_from(REFS), unique=True, max_size=5)):
        base = Declaration(
            source=source,
            created_at=draw(st.sampled_from([None, NOW - 2 * DAY, NOW - DAY])),
            names=(),
            target=TARGETS[0],
            issuer=draw(st.sampled_from([None, None, "ca", "other"])),
            key_type=draw(st.none() | KEY_TYPES),
            profile=draw(st.sampled_from([None, None, "p", "q"])),
        )
        for _ in range(draw(st.integers(1, 2))):
            wanted = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
            target = draw(st.sampled_from(TARGETS))
            declared.append(replace(base, names=tuple(wanted), target=target))
    return declared


@st.composite
def certificates(draw: st.DrawFn) -> Stored | Unusable:
    """What a Secret may hold: ours or not, fresh, due, expired, a placeholder, by hand, spoilt."""
    managed = draw(st.integers(0, 9)) > 0
    by_hand = draw(st.integers(0, 4)) == 0
    marks = Marks(
        managed=managed,
        placeholder=draw(st.integers(0, 4)) == 0,
        written_sha256="another" if by_hand else "leaf",
        directory_url=draw(st.sampled_from([CA.directory_url] * 3 + [OTHER_CA.directory_url])),
        profile=draw(st.sampled_from([None, None, None, "p"])),
        declared_by=tuple(draw(st.lists(st.sampled_from(REFS), max_size=2))),
        renew_requested_at=draw(st.sampled_from([None, None, "now"])),
        renewed_for=draw(st.sampled_from([None, "now"])),
    )
    if draw(st.integers(0, 5)) == 0:
        return Unusable("tls.key is missing", marks)
    lifetime = draw(st.sampled_from([MINUTE, 6 * DAY, 45 * DAY, 90 * DAY]))
    age = draw(st.integers(0, 120))
    served = draw(st.frozensets(st.sampled_from(NAMES[:4]), min_size=1))
    made = NOW - lifetime * age / 100
    leaf = Leaf(served, made, made + lifetime, 1, "leaf", draw(KEY_TYPES))
    return Stored(leaf, marks)


@dataclass(frozen=True)
class Drawn:
    """A world, and what its process wrote last into the targets it remembers."""

    world: World
    known: dict[Target, Stored]


@st.composite
def worlds(draw: st.DrawFn) -> Drawn:
    """A world in which anything may have gone wrong before."""
    declared = draw(object_declarations())
    held: dict[Target, Stored | Unusable | None] = {
        target: draw(st.none() | certificates())
        for target in TARGETS
        if draw(st.integers(0, 9)) > 0
    }
    holders = {
        target: Holder(
            item.marks.declared_by if item else (),
            item.leaf.names if isinstance(item, Stored) else frozenset(),
        )
        for target, item in held.items()
    }
    specs, _ = merge([d for d in declared if d.target in held], holders, SMALL)
    ledger = Ledger()
    for spec in specs:
        item = held[spec.target]
        marks = item.marks if item else None
        for name in draw(st.lists(st.sampled_from(spec.names), unique=True)):
            digest = draw(st.sampled_from([armed_by(spec, marks, name)] * 3 + ["stale"]))
            failure = Failure(draw(st.integers(1, 5)), draw(SOON), digest, "NXDOMAIN")
            ledger = ledger.name_failed(spec.issuer, name, failure)
        if draw(st.integers(0, 3)) == 0:
            digest = draw(st.sampled_from([armed_by(spec, marks), "stale"]))
            failure = Failure(
                draw(st.integers(1, 5)), draw(SOON), digest, "no", draw(st.booleans())
            )
            ledger = ledger.target_failed(spec.target, failure)
        if draw(st.booleans()):
            order = OpenOrder("https://ca.example/1", CA.directory_url, spec.names, NOW)
            ledger = ledger.order_opened(spec.target, order)
    if draw(st.integers(0, 4)) == 0:
        ledger = ledger.paused(draw(st.sampled_from(["ca", "other"])), Pause(draw(SOON), "slow"))
    known = {}
    for target in held:
        item = draw(st.none() | certificates())
        if isinstance(item, Stored):
            marks = replace(item.marks, managed=True, written_sha256=item.leaf.sha256)
            known[target] = Stored(item.leaf, marks)
    world = World(
        declarations=tuple(declared),
        held=held,
        remembered=frozenset(known),
        ledger=ledger,
        installation=SMALL,
        now=NOW,
    )
    return Drawn(world, known)


FAILURES = st.builds(
    Failure,
    count=st.integers(1, 1000),
    retry_at=st.datetimes(timezones=st.sampled_from([NOW.tzinfo])),
    armed_by=st.text(max_size=16),
    problem=st.text(max_size=30),
    costly=st.booleans(),
)
DNS_NAMES = st.from_regex(r"[a-z]{1,5}(\.[a-z]{1,5}){1,3}", fullmatch=True).map(DnsName)
KUBERNETES_NAMES = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,10}[a-z0-9])?", fullmatch=True)
ANY_TARGETS = st.builds(Target, namespace=KUBERNETES_NAMES, name=KUBERNETES_NAMES)
AWARE = st.datetimes(timezones=st.sampled_from([NOW.tzinfo]))
LEDGERS = st.builds(
    Ledger,
    names=st.dictionaries(st.tuples(st.text(max_size=8), DNS_NAMES), FAILURES, max_size=3),
    targets=st.dictionaries(ANY_TARGETS, FAILURES, max_size=3),
    orders=st.dictionaries(
        ANY_TARGETS,
        st.builds(
            OpenOrder,
            url=st.text(max_size=20),
            directory_url=st.text(max_size=20),
            names=st.lists(DNS_NAMES, max_size=3).map(tuple),
            opened_at=AWARE,
        ),
        max_size=3,
    ),
    pauses=st.dictionaries(st.text(max_size=8), st.builds(Pause, AWARE, st.text(max_size=20))),
)
LIFETIMES = st.integers(1, 400 * 24 * 3600).map(lambda seconds: timedelta(seconds=seconds))
