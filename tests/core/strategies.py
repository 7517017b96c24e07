"""Worlds that hypothesis makes up: few names and Secrets, so that everything meets everything."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random

from hypothesis import strategies as st

from acmeistio.issuer import Issuer, Limit, Limits
from acmeistio.model import (
    CertificateSpec,
    Declaration,
    Installation,
    KeyType,
    Leaf,
    Marks,
    ObjectRef,
    Stored,
    Suggestion,
    Target,
    Unusable,
)
from acmeistio.planning.failing import PAUSED, REVOCATION, TERMS, armed_by
from acmeistio.planning.ledger import NEVER, Failure, Ledger, OpenOrder, Pause
from acmeistio.planning.limits import BudgetKey, Kind, set_digest
from acmeistio.planning.plan import World, plan
from tests.core.builders import CA, DAY, MINUTE, NAMESPACE, NOW, OTHER_CA, names

NAMES = names("a.example.com", "b.example.com", "c.example.com", "d.example.com", "*.example.com")
TARGETS = (Target(NAMESPACE, "istio-ingress-certs"), Target(NAMESPACE, "second"))
HOUR = timedelta(hours=1)
TINY = Limits(
    orders=Limit(2, HOUR),
    certificates_per_domain=Limit(2, DAY),
    certificates_per_set=Limit(1, 34 * HOUR),
    failures=Limit(2, 12 * MINUTE),
    failures_in_a_row=Limit(3, DAY),
)
STAGING = Issuer("staging", "https://staging.example/directory", max_names=3, trusted=False)
SMALL = Installation(
    issuers={
        "ca": replace(CA, max_names=3, fallback="other", limits=TINY),
        "other": replace(
            OTHER_CA,
            max_names=3,
            profile="p",
            limits=Limits(orders=Limit(1, HOUR), exempts_renewals=False),
        ),
        "staging": STAGING,
    },
    default_issuer="ca",
)
"""An installation in which three names are enough for an excess, and two orders for a shortage."""

URLS = (*[CA.directory_url] * 3, OTHER_CA.directory_url, STAGING.directory_url)
"""Most certificates are the default issuer's."""

REFS = tuple(
    ObjectRef(kind, namespace, name)
    for kind in ("Gateway", "Ingress")
    for namespace in ("bank", "shop")
    for name in ("one", "two")
)
KEY_TYPES = (KeyType.ECDSA_P256, KeyType.RSA_2048)
POOL_SIZE = 1000
_random = Random(0)
"""Worlds are put together from pools made once: drawing each field anew costs 40 ms a world."""


def _soon() -> datetime:
    return NOW + _random.randint(-3 * 24 * 60, 3 * 24 * 60) * MINUTE


def _object() -> tuple[Declaration, ...]:
    """What one object declares: it has one age and one wish, and one or two targets."""
    base = Declaration(
        source=_random.choice(REFS),
        created_at=_random.choice([None, NOW - 2 * DAY, NOW - DAY]),
        names=(),
        target=TARGETS[0],
        issuer=_random.choice([None, None, None, "ca", "ca", "other", "staging"]),
        key_type=_random.choice([None, *KEY_TYPES]),
        profile=_random.choice([None, None, "p", "q"]),
    )
    return tuple(
        replace(
            base,
            names=tuple(_random.sample(NAMES, _random.randint(1, 4))),
            target=_random.choice(TARGETS),
        )
        for _ in range(_random.randint(1, 2))
    )


def _certificate() -> Stored | Unusable:
    """What a Secret may hold: ours or not, fresh, due, expired, a placeholder, by hand, spoilt."""
    marks = Marks(
        managed=_random.random() < 0.9,
        placeholder=_random.random() < 0.2,
        written_sha256=_random.choice(["another", *["leaf"] * 4]),
        directory_url=_random.choice(URLS),
        profile=_random.choice([None, None, None, "p"]),
        declared_by=tuple(_random.sample(REFS, _random.randint(0, 2))),
        renew_requested_at=_random.choice([None, None, "now"]),
        renewed_for=_random.choice([None, "now"]),
        fallback_for=_random.choice([None] * 4 + [CA.directory_url]),
        allows_downgrade=_random.random() < 0.3,
        revoke_requested=_random.choice([None] * 8 + ["superseded", "please"]),
        revoked_sha256=_random.choice([None] * 9 + ["leaf"]),
    )
    if _random.random() < 0.15:
        return Unusable("tls.key is missing", marks)
    lifetime = _random.choice([MINUTE, 6 * DAY, 45 * DAY, 90 * DAY])
    made = NOW - lifetime * _random.randint(0, 120) / 100
    served = frozenset(_random.sample(NAMES[:4], _random.randint(1, 4)))
    key_type, renewal_id = _random.choice(KEY_TYPES), _random.choice([None, "id", "id"])
    leaf = Leaf(served, made, made + lifetime, 1, "leaf", key_type, renewal_id)
    return Stored(leaf, marks)


def _failure() -> Failure:
    """One failure, for a while or for good, armed by nothing yet or by a declaration of old."""
    armed = _random.choice([(), (), (), ("stale",)])
    retry_at = NEVER if _random.random() < 0.15 else _soon()
    kind = _random.choice(["", "", "unauthorized", PAUSED, TERMS, REVOCATION])
    costly = _random.random() < 0.5
    return Failure(_random.randint(1, 5), retry_at, armed, "no", costly, kind, "https://ca.example")


def _suggestion() -> Suggestion:
    """What a CA may say: long past, now, later, too late; of this certificate or another."""
    start = NOW + _random.randint(-20 * 24, 20 * 24) * HOUR
    end = start + _random.choice([MINUTE, HOUR, DAY, 10 * DAY])
    why = _random.choice([None, "https://ca.example/why"])
    return Suggestion(_random.choice(["id", "id", "id", "another"]), start, end, why)


def _budgets() -> dict[BudgetKey, datetime]:
    """What may have been spent: something, nearly all, or more than there is."""
    subjects = {
        Kind.ORDERS: [""],
        Kind.DOMAIN: ["example.com"],
        Kind.NAME_SET: [set_digest(NAMES[:size]) for size in (1, 2, 3)],
        Kind.FAILURES: NAMES[:4],
        Kind.FAILURES_IN_A_ROW: NAMES[:4],
    }
    keys = [
        BudgetKey(url, kind, _random.choice(subjects[kind]))
        for url in (CA.directory_url, OTHER_CA.directory_url)
        for kind in Kind
    ]
    spent = _random.sample(keys, _random.randint(0, 6))
    return {key: NOW + _random.randint(-60, 72 * 60) * MINUTE for key in spent}


_OBJECTS = st.lists(
    st.sampled_from([_object() for _ in range(POOL_SIZE)]),
    unique_by=lambda declared: declared[0].source,
    max_size=5,
)
_CERTIFICATES = [_certificate() for _ in range(POOL_SIZE)]
_HELD = st.sampled_from([None, None, "unknown", *_CERTIFICATES[:20]]) | st.sampled_from(
    _CERTIFICATES
)
_KNOWN = st.none() | st.sampled_from(
    [
        Stored(item.leaf, replace(item.marks, managed=True, written_sha256=item.leaf.sha256))
        for item in _CERTIFICATES
        if isinstance(item, Stored)
    ]
)
_AWAITED = st.sampled_from([frozenset[Target]()] * 4 + [frozenset({t}) for t in TARGETS])
_PAUSES = st.sampled_from([None] * 8 + [Pause(_soon(), "slow down", n % 2) for n in range(4)])
_SUGGESTED = st.none() | st.sampled_from([_suggestion() for _ in range(POOL_SIZE)])
_SPENT = st.just(dict[BudgetKey, datetime]()) | st.sampled_from(
    [_budgets() for _ in range(POOL_SIZE)]
)
_FAILED = st.lists(
    st.sampled_from([None] * (POOL_SIZE // 2) + [_failure() for _ in range(POOL_SIZE // 2)]),
    max_size=4,
)


def object_declarations() -> st.SearchStrategy[list[Declaration]]:
    """What some objects declare."""
    return _OBJECTS.map(lambda objects: [d for declared in objects for d in declared])


@dataclass(frozen=True)
class Drawn:
    """A world, and what its process wrote last into the targets it remembers."""

    world: World
    known: dict[Target, Stored]


@st.composite
def worlds(draw: st.DrawFn) -> Drawn:
    """A world in which anything may have gone wrong before."""
    declared = [d for objects in draw(_OBJECTS) for d in objects]
    drawn = {target: draw(_HELD) for target in TARGETS}
    held = {target: item for target, item in drawn.items() if not isinstance(item, str)}
    known = {target: item for target in held if (item := draw(_KNOWN))}
    world = World(
        declarations=tuple(declared),
        held=held,
        remembered=frozenset(known),
        ledger=Ledger(),
        installation=SMALL,
        now=NOW,
        suggestions={target: said for target in held if (said := draw(_SUGGESTED))},
        awaited=draw(_AWAITED),
    )
    ledger = Ledger(budgets=draw(_SPENT))
    for spec in plan(world).specs.values():
        ledger = _with_failures(ledger, spec, held[spec.target], draw(_FAILED))
        other = _at_fallback(spec)
        if other:
            ledger = _with_failures(ledger, other, held[spec.target], draw(_FAILED))
    pause = draw(_PAUSES)
    if pause:
        ledger = ledger.paused("ca", pause)
    return Drawn(replace(world, ledger=ledger), known)


def _at_fallback(spec: CertificateSpec) -> CertificateSpec | None:
    """The same spec where the issuer's fallback is asked."""
    issuer = SMALL.issuers[spec.issuer]
    if issuer.fallback is None:
        return None
    other = SMALL.issuers[issuer.fallback]
    url = issuer.directory_url
    return replace(spec, issuer=other.name, profile=other.profile, fallback_for=url)


def _with_failures(
    ledger: Ledger,
    spec: CertificateSpec,
    held: Stored | Unusable | None,
    failures: list[Failure | None],
) -> Ledger:
    """The ledger with failures of a spec's names, the fourth being of the target as a whole."""
    marks, issuer = held.marks if held else None, SMALL.issuers[spec.issuer]
    for index, failure in enumerate(failures):
        if failure is None:
            continue
        if index < len(spec.names):
            name = spec.names[index]
            digest = failure.armed_by or (armed_by(spec, issuer, marks, name),)
            ledger = ledger.name_failed(spec.issuer, name, replace(failure, armed_by=digest))
        elif index == SMALL.issuers["ca"].max_names:
            digest = failure.armed_by or (armed_by(spec, issuer, marks),)
            armed = replace(failure, armed_by=digest)
            ledger = ledger.target_failed(spec.target, spec.issuer, armed)
            order = OpenOrder("https://ca.example/1", CA.directory_url, spec.names, NOW)
            ledger = ledger.order_opened(spec.target, order)
    return ledger


TEXTS = st.sampled_from(["", "ca", "other", "é", "two\nlines", '"', "\u2028"]) | st.text(max_size=5)
AWARE = st.integers(-(10**15), 10**15).map(lambda us: NOW + timedelta(microseconds=us))
DIGESTS = st.lists(st.sampled_from(["", "a", "b"]), max_size=2).map(tuple)
FAILURES = st.builds(Failure, st.integers(1, 9), AWARE, DIGESTS, TEXTS, st.booleans())
ORDERS = st.builds(OpenOrder, TEXTS, TEXTS, st.sampled_from([(), NAMES[:1], NAMES]), AWARE)
KEYS = st.sampled_from([(issuer, name) for issuer in ("ca", "é") for name in NAMES[:3]])
ANY_TARGETS = st.sampled_from([*TARGETS, Target("a", "z.y"), Target("a-b", "x")])
BUDGET_KEYS = st.builds(BudgetKey, TEXTS, st.sampled_from(Kind), TEXTS)
WHOLE_SECONDS = st.integers(-(10**8), 10**8).map(lambda seconds: NOW + timedelta(seconds=seconds))
LEDGERS = st.builds(
    Ledger,
    names=st.dictionaries(KEYS, FAILURES, max_size=3),
    targets=st.dictionaries(st.tuples(ANY_TARGETS, TEXTS), FAILURES, max_size=3),
    orders=st.dictionaries(ANY_TARGETS, ORDERS, max_size=3),
    pauses=st.dictionaries(TEXTS, st.builds(Pause, AWARE, TEXTS, st.integers(0, 9)), max_size=3),
    budgets=st.dictionaries(BUDGET_KEYS, WHOLE_SECONDS, max_size=3),
    as_of=st.none() | AWARE,
)
LIFETIMES = st.integers(1, 400 * 24 * 3600).map(lambda seconds: timedelta(seconds=seconds))
