"""planning/merge.py: one spec per target, whatever the order of the input."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmeistio.issuer import BUILT_IN, Profile
from acmeistio.model import (
    DEFAULT_KEY_TYPE,
    CertificateSpec,
    Declaration,
    Installation,
    KeyType,
    ObjectRef,
    Target,
)
from acmeistio.names import DnsName
from acmeistio.planning.merge import Holder, merge
from acmeistio.reasons import Defect
from tests.core.builders import CA, INSTALLATION, NOW, OTHER_CA, TARGET, A, B, C, declaration
from tests.core.strategies import SMALL, object_declarations

OLD, NEW = NOW - timedelta(days=2), NOW - timedelta(days=1)


def merged(
    *declared: Declaration, holder: Holder | None = None, installation: Installation = INSTALLATION
) -> tuple[CertificateSpec, list[Defect]]:
    """The one spec of one target, and the Defects, their words made once."""
    specs, defects = merge(declared, {TARGET: holder} if holder else {}, installation)
    assert all(made.sentence and made.remedy for made in defects)
    (spec,) = specs
    return spec, list(defects)


def ref(name: str, namespace: str = "shop") -> ObjectRef:
    """The Ingress `name`."""
    return ObjectRef("Ingress", namespace, name)


def test_union() -> None:
    """Same target and same parameters: the union of the names (DESIGN §5, Merging)."""
    spec, defects = merged(
        declaration("one", A, B), declaration("two", B, C), declaration("three", A)
    )
    assert defects == []
    assert spec.target == TARGET
    assert spec.names == (A, B, C)
    assert spec.declared_by == {
        A: (ref("one"), ref("three")),
        B: (ref("one"), ref("two")),
        C: (ref("two"),),
    }
    assert spec.sources == (ref("one"), ref("three"), ref("two"))


def test_defaults() -> None:
    """Where nobody has an opinion: the installation's issuer and its profile, ECDSA P-256."""
    installation = replace(
        INSTALLATION, issuers={"ca": replace(CA, profile="classic")}, default_issuer="ca"
    )
    spec, _ = merged(declaration("one", A), installation=installation)
    assert (spec.issuer, spec.key_type, spec.profile) == ("ca", DEFAULT_KEY_TYPE, "classic")
    spec, _ = merged(declaration("one", A))
    assert (spec.issuer, spec.key_type, spec.profile) == ("ca", KeyType.ECDSA_P256, None)


def test_each_target_by_itself() -> None:
    """Targets don't meet: other parameters in another Secret are no contradiction (DESIGN §5)."""
    other = Target(TARGET.namespace, "other")
    elsewhere = Target("elsewhere", TARGET.name)
    specs, defects = merge(
        [
            declaration("one", A, issuer="ca"),
            declaration("two", A, issuer="other", target=other),
            declaration("three", A, key_type=KeyType.RSA_2048, target=elsewhere),
        ],
        {},
        INSTALLATION,
    )
    assert defects == ()
    assert [spec.target for spec in specs] == [elsewhere, TARGET, other]
    assert [spec.names for spec in specs] == [(A,)] * 3


def test_absent_is_no_opinion() -> None:
    """An absent annotation contradicts nothing, and adopts what others say (issue 3 §2)."""
    spec, defects = merged(
        declaration("one", A, created_at=OLD),
        declaration("two", B, created_at=NEW, issuer="other", profile="tlsserver"),
        declaration("three", C, created_at=NOW, key_type=KeyType.RSA_2048, issuer="other"),
    )
    assert defects == []
    assert spec.names == (A, B, C)
    assert (spec.issuer, spec.profile, spec.key_type) == ("other", "tlsserver", KeyType.RSA_2048)


@pytest.mark.parametrize(
    ("parameter", "older", "newer"),
    [
        ("issuer", "ca", "other"),
        ("key_type", KeyType.RSA_2048, KeyType.ECDSA_P256),
        ("profile", "classic", "tlsserver"),
    ],
)
def test_the_older_object_wins(parameter: str, older: str, newer: str) -> None:
    """Contradicting parameters: the older decides, the other gets a Defect (DESIGN §5).

    The losing object contributes no names (issue 3 §2).
    """
    first = replace(declaration("z", A, created_at=OLD), **{parameter: older})
    second = replace(declaration("a", B, created_at=NEW), **{parameter: newer})
    third = declaration("b", C, created_at=NOW)
    spec, defects = merged(first, second, third)
    assert spec.names == (A, C)
    assert getattr(spec, parameter) == older
    (made,) = defects
    assert (made.code, made.subject) == ("ConflictingDeclaration", ref("a"))
    assert str(newer) in made.sentence
    assert str(older) in made.sentence
    assert "Ingress shop/z" in made.sentence
    assert parameter.replace("_", "-") in made.sentence


def wanted_by(name: str) -> DnsName:
    """A name that sorts the other way round, so that it can't stand in for the object's."""
    return DnsName(f"{chr(ord('a') + ord('z') - ord(name))}.example.com")


@pytest.mark.parametrize(
    ("first", "second", "winner"),
    [
        (("b", "shop", OLD), ("a", "shop", NEW), "b"),
        (("b", "shop", None), ("a", "shop", None), "a"),
        (("a", "shop", None), ("z", "bank", None), "z"),
        (("b", "shop", OLD), ("a", "shop", OLD), "a"),
        (("a", "shop", None), ("b", "shop", NEW), "b"),
    ],
)
def test_precedence(
    first: tuple[str, str, datetime | None], second: tuple[str, str, datetime | None], winner: str
) -> None:
    """Creation time, then namespace and name; without a time the latter alone (issue 3 §2)."""
    declared = [
        declaration(name, wanted_by(name), namespace=space, created_at=at, issuer=ca)
        for (name, space, at), ca in ((first, "ca"), (second, "other"))
    ]
    spec, defects = merged(*declared)
    assert spec.names == (wanted_by(winner),)
    assert len(defects) == 1


def test_the_holder_keeps_it() -> None:
    """Who holds the certificate now keeps it, even from an older object (DESIGN §5, Merging)."""
    holder = Holder(declared_by=(ref("new"),), names=frozenset({B}))
    spec, defects = merged(
        declaration("old", A, created_at=OLD, issuer="ca"),
        declaration("new", B, created_at=NEW, issuer="other"),
        holder=holder,
    )
    assert (spec.issuer, spec.names) == ("other", (B,))
    assert [made.subject for made in defects] == [ref("old")]


@pytest.mark.parametrize(
    "opinion",
    [{"issuer": "other"}, {"key_type": KeyType.RSA_2048}, {"profile": "shortlived"}],
)
def test_nobody_decides_for_the_silent_of_another_namespace(opinion: dict[str, Any]) -> None:
    """Whoever joins a shared certificate could have it made anew, untrusted, for everybody."""
    spec, defects = merged(
        declaration("one", A, created_at=OLD),
        declaration("two", B, namespace="tenant", created_at=NEW, **opinion),
    )
    assert spec.names == (A,)
    assert (spec.issuer, spec.key_type, spec.profile) == ("ca", KeyType.ECDSA_P256, None)
    assert [(made.code, made.subject.namespace) for made in defects] == [
        ("ConflictingDeclaration", "tenant")
    ]


def test_who_says_what_is_so_anyway_contradicts_nobody() -> None:
    """The default by its name."""
    spec, defects = merged(
        declaration("one", A, created_at=OLD),
        declaration("two", B, namespace="tenant", created_at=NEW, issuer="ca"),
    )
    assert (spec.names, defects) == ((A, B), [])


def test_a_loser_binds_nobody() -> None:
    """An object that lost has no say in other parameters either (issue 3 §2)."""
    spec, defects = merged(
        declaration("one", A, created_at=OLD, issuer="ca"),
        declaration("two", B, created_at=NEW, issuer="other", profile="x"),
        declaration("three", C, created_at=NOW, profile="y"),
    )
    assert (spec.names, spec.profile) == ((A, C), "y")
    assert [made.subject for made in defects] == [ref("two")]


def test_wildcards_over_http() -> None:
    """A wildcard is a Defect of each object that wants it, and the rest goes on (issue 3 §2)."""
    wild = DnsName("*.example.com")
    spec, defects = merged(declaration("one", wild, A), declaration("two", B, wild))
    assert spec.names == (A, B)
    assert [(made.code, made.subject) for made in defects] == [
        ("WildcardNeedsDNS01", ref("one")),
        ("WildcardNeedsDNS01", ref("two")),
    ]
    assert "http-01" in defects[0].sentence


def test_wildcards_over_dns() -> None:
    """It is a Defect because of the issuer's challenge types, not of its syntax (DESIGN §3)."""
    issuer = replace(CA, challenge_types=frozenset({"http-01", "dns-01"}))
    installation = replace(INSTALLATION, issuers={"ca": issuer})
    wild = DnsName("*.example.com")
    spec, defects = merged(declaration("one", wild), installation=installation)
    assert spec.names == (wild,)
    assert defects == []


def test_no_names_no_spec() -> None:
    """If nothing that was asked for can be, there is no spec and only the Defects."""
    specs, defects = merge([declaration("one", "*.example.com")], {}, INSTALLATION)
    assert specs == ()
    assert len(defects) == 1


def many(count: int, letter: str = "n") -> list[DnsName]:
    """So many names."""
    return [DnsName(f"{letter}{index:03}.example.com") for index in range(count)]


def test_101_names() -> None:
    """The newest excess is left out, the first 100 are issued (issue 3 §2)."""
    old, new = many(99), many(2, "a")
    spec, defects = merged(
        declaration("new", *new, created_at=NEW), declaration("old", *old, created_at=OLD)
    )
    assert len(spec.names) == 100
    assert set(old) < set(spec.names)
    (made,) = defects
    assert (made.code, made.subject) == ("TooManyNames", ref("new"))
    assert new[1] in made.sentence
    assert "101 names" in made.sentence
    assert "room for 100" in made.sentence


def test_served_names_stay() -> None:
    """A name that is served is never pushed out by the excess of others (DESIGN §5)."""
    served = many(1, "z")
    holder = Holder(declared_by=(), names=frozenset(served))
    spec, defects = merged(
        declaration("old", *many(100), created_at=OLD),
        declaration("new", *served, created_at=NEW),
        holder=holder,
    )
    assert set(served) < set(spec.names)
    assert [made.subject for made in defects] == [ref("old")]
    assert many(100)[-1] in defects[0].sentence


def test_exactly_100_names() -> None:
    """100 names fit, in one object or several that share some (issue 3 §2)."""
    spec, defects = merged(declaration("one", *many(100)), declaration("two", *many(50)))
    assert len(spec.names) == 100
    assert defects == []


CLASSIC, SHORT = Profile(max_names=100), Profile(max_names=3, ip_addresses=True)
PROFILED = replace(
    INSTALLATION,
    issuers={
        "ca": replace(CA, profiles={"classic": CLASSIC, "short": SHORT, "shorter": SHORT}),
        "other": OTHER_CA,
        "private": replace(CA, name="private", profiles={"": SHORT}),
    },
)
"""Issuers with profiles: some with IP addresses, none, and a CA that needs no profile for them."""


@pytest.mark.parametrize(
    ("profile", "default", "room"),
    [
        (None, None, 100),
        ("classic", None, 100),
        ("short", None, 3),
        (None, "short", 3),
        ("classic", "short", 100),
        ("unheard-of", "short", 100),
    ],
)
def test_room_is_the_profiles(profile: str | None, default: str | None, room: int) -> None:
    """How many names fit depends on the profile that the merged spec has (issuer.py)."""
    issuer = replace(PROFILED.issuers["ca"], profile=default)
    installation = replace(PROFILED, issuers={"ca": issuer})
    declared = declaration("one", *many(101), profile=profile)
    spec, defects = merged(declared, installation=installation)
    assert len(spec.names) == room
    assert [made.code for made in defects] == ["TooManyNames"]
    assert f"room for {room}" in defects[0].sentence


IP = DnsName("203.0.113.7")


@pytest.mark.parametrize(
    ("issuer", "profile"), [(None, "short"), ("private", None), ("ca", "shorter")]
)
def test_addresses_where_the_profile_has_them(issuer: str | None, profile: str | None) -> None:
    """An IP address is a name as any other (RFC 8738)."""
    spec, defects = merged(
        declaration("one", A, IP, "2001:db8::1", issuer=issuer, profile=profile),
        installation=PROFILED,
    )
    assert set(spec.names) == {A, IP, "2001:db8::1"}
    assert defects == []


def test_addresses_where_the_profile_has_none() -> None:
    """Each object that wants one is told which profiles have them, and the rest goes on."""
    spec, defects = merged(
        declaration("one", A, IP, profile="classic"), declaration("two", IP), installation=PROFILED
    )
    assert spec.names == (A,)
    assert [(made.code, made.subject) for made in defects] == [
        ("IPAddressUnsupported", ref("one")),
        ("IPAddressUnsupported", ref("two")),
    ]
    assert defects[0].sentence == (
        "203.0.113.7 is an IP address, for which issuer ca has no certificates with profile "
        "classic; profiles that have IP addresses: short, shorter"
    )
    assert defects[0].remedy.startswith("Add acmeistio.io/profile: short;")


@pytest.mark.parametrize(
    ("issuer", "profile", "used"),
    [
        ("other", None, "the CA's default profile"),
        ("other", "short", "profile short"),
        ("private", "short", "profile short"),
    ],
)
def test_addresses_of_a_ca_that_has_none(issuer: str, profile: str | None, used: str) -> None:
    """Where no profile has them the remedy is another issuer."""
    _, defects = merged(
        declaration("one", A, IP, issuer=issuer, profile=profile), installation=PROFILED
    )
    assert f"issuer {issuer} has no certificates with {used}" in defects[0].sentence
    assert defects[0].sentence.endswith("profiles that have IP addresses: none")
    assert "acmeistio.io/issuer" in defects[0].remedy


def test_lets_encrypt_has_addresses_in_one_profile() -> None:
    """Profile shortlived only (letsencrypt.org, 2026-01-15)."""
    installation = Installation(issuers=BUILT_IN, default_issuer="letsencrypt")
    spec, defects = merged(declaration("one", A, IP), installation=installation)
    assert spec.names == (A,)
    assert "Add acmeistio.io/profile: shortlived;" in defects[0].remedy
    spec, defects = merged(
        declaration("one", A, IP, profile="shortlived"), installation=installation
    )
    assert (set(spec.names), defects) == ({A, IP}, [])


def test_an_object_against_itself() -> None:
    """Entries of one Ingress with one secretName come together (issue 3 §2)."""
    spec, defects = merged(
        declaration("one", B, issuer="other"), declaration("one", A, B, issuer="other")
    )
    assert spec.declared_by == {A: (ref("one"),), B: (ref("one"),)}
    assert defects == []


def outcome(declared: Iterable[Declaration], holder: Holder) -> object:
    """All that merging gives, comparable: the order of mappings included."""
    specs, defects = merge(declared, {TARGET: holder}, SMALL)
    return [(spec, list(spec.declared_by)) for spec in specs], defects


@given(st.data(), object_declarations())
def test_the_order_never_matters(data: st.DataObject, declared: list[Declaration]) -> None:
    """Any permutation of the declarations gives the same specs and Defects (DESIGN §5)."""
    refs = tuple(sorted({d.source for d in declared}))
    holder = Holder(
        data.draw(st.lists(st.sampled_from(refs)).map(tuple) if refs else st.just(())),
        data.draw(st.frozensets(st.sampled_from([A, B, C]))),
    )
    assert outcome(data.draw(st.permutations(declared)), holder) == outcome(declared, holder)


@given(object_declarations())
def test_what_a_spec_holds(declared: list[Declaration]) -> None:
    """A spec has only declared names, each with those who declare it; within the CA's limit."""
    specs, defects = merge(declared, {}, SMALL)
    for spec in specs:
        assert spec.names == tuple(sorted(spec.declared_by))
        assert 0 < len(spec.names) <= SMALL.issuers[spec.issuer].max_names
        for name, sources in spec.declared_by.items():
            for source in sources:
                assert any(
                    d.source == source and name in d.names and d.target == spec.target
                    for d in declared
                )
    complained = {made.subject for made in defects}
    included = {(s.target, n, r) for s in specs for n, refs in s.declared_by.items() for r in refs}
    for d in declared:
        for name in d.names:
            assert (d.target, name, d.source) in included or d.source in complained
