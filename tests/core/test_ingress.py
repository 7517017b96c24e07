"""sources/ingress.py: which Ingresses Istio processes, and what they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmeistio.model import IngressMode, KeyType, Target
from acmeistio.reasons import Defect
from acmeistio.sources import Found, Surroundings, untrusted
from acmeistio.sources.ingress import declarations, not_processed_because, together
from tests.core.builders import INSTALLATION, NAMESPACE, REF, TARGET, ingress, names

ISTIO_CLASS = {"istio-class": "istio.io/ingress-controller"}
CLASSES = {**ISTIO_CLASS, "nginx": "k8s.io/ingress-nginx"}
TLS = {"acmeistio.io/tls": "true"}


def read(manifest: Mapping[str, Any], **changes: Any) -> Found:
    """What the Ingress gives, with every Defect's words made once."""
    found = declarations(manifest, (), Surroundings(replace(INSTALLATION, **changes), CLASSES))
    for made in found.defects:
        assert made.subject == REF
        assert made.sentence
        assert made.remedy
    return found


def codes(found: Found) -> list[str]:
    """The codes of the Defects."""
    return [made.code for made in found.defects]


def asked(found: Found) -> dict[str, tuple[str, ...]]:
    """Secret name → names, for declarations that go to the gateway's namespace."""
    assert {d.target.namespace for d in found.declarations} <= {NAMESPACE}
    return {d.target.name: d.names for d in found.declarations}


STRICT, DEFAULT, OFF = IngressMode.STRICT, IngressMode.DEFAULT, IngressMode.OFF


@pytest.mark.parametrize(
    ("mode", "annotation", "class_name", "processed"),
    [
        # 1. the annotation decides alone
        (STRICT, "istio", None, True),
        (DEFAULT, "istio", None, True),
        (STRICT, "nginx", None, False),
        (DEFAULT, "nginx", None, False),
        (DEFAULT, "", None, False),
        (STRICT, "istio", "nginx", True),
        (STRICT, "nginx", "istio-class", False),
        (DEFAULT, "nginx", "istio-class", False),
        # 2. else an IngressClass that exists, by its controller, whatever the mode
        (STRICT, None, "istio-class", True),
        (DEFAULT, None, "istio-class", True),
        (STRICT, None, "nginx", False),
        (DEFAULT, None, "nginx", False),
        # 3. else the mode
        (STRICT, None, None, False),
        (DEFAULT, None, None, True),
        (STRICT, None, "istio", False),
        (DEFAULT, None, "istio", True),
        (STRICT, None, "", False),
        (DEFAULT, None, "", True),
        # OFF: no Ingress at all
        (OFF, "istio", None, False),
        (OFF, None, "istio-class", False),
        (OFF, None, None, False),
    ],
)
def test_class_selection(
    mode: IngressMode, annotation: str | None, class_name: str | None, processed: bool
) -> None:
    """Istio's own table (shouldProcessIngressWithClass, facts/istio.md §1.2)."""
    manifest = ingress(
        TLS, hosts=["a.example.com"], class_annotation=annotation, class_name=class_name
    )
    installation = replace(INSTALLATION, ingress_mode=mode)
    why_not = not_processed_because(manifest, CLASSES, installation)
    assert (why_not is None) is processed
    found = read(manifest, ingress_mode=mode)
    assert bool(found.declarations) is processed
    assert ("IngressClassNotProcessed" in codes(found)) is not processed


def test_the_mesh_says_its_class() -> None:
    """The annotation is compared with the mesh's ingressClass, not with a word (§1.2)."""
    manifest = ingress(TLS, hosts=["a.example.com"], class_annotation="public")
    assert read(manifest, ingress_class="public").declarations
    unprocessed = read(manifest)
    assert not unprocessed.declarations
    assert "kubernetes.io/ingress.class: istio" in unprocessed.defects[0].remedy
    assert "public" in unprocessed.defects[0].sentence


@pytest.mark.parametrize("notes", [{}, {"acmeistio.io/tls": "false"}])
def test_no_wish_no_complaint(notes: dict[str, str]) -> None:
    """An Ingress of another class that asks for nothing is not our business (DESIGN §6)."""
    assert read(ingress(notes, hosts=["a.example.com"], class_annotation="nginx")) == Found()


def test_one_declaration_per_tls_entry() -> None:
    """Each `tls` entry is a target of its own, with its hosts and secretName (issue 3 §2)."""
    found = read(
        ingress(
            TLS,
            tls=[
                {"hosts": ["a.example.com", "A.example.com."], "secretName": "one"},
                {"hosts": ["b.example.com"], "secretName": "two"},
            ],
            hosts=["rule.example.com"],
        )
    )
    assert asked(found) == {"one": names("a.example.com"), "two": names("b.example.com")}
    assert codes(found) == []


def test_entry_without_secret() -> None:
    """It goes to the default target, with a warning: Istio skips it (issue 3 §2, §1.4)."""
    found = read(
        ingress(
            TLS,
            tls=[
                {"hosts": ["a.example.com"], "secretName": "one"},
                {"hosts": ["b.example.com"]},
                {"hosts": ["c.example.com"], "secretName": ""},
            ],
        )
    )
    assert codes(found) == ["TLSEntryWithoutSecret", "TLSEntryWithoutSecret"]
    assert "spec.tls[1]" in found.defects[0].sentence
    assert "spec.tls[2]" in found.defects[1].sentence
    assert [(d.target.name, d.names) for d in found.declarations] == [
        ("one", names("a.example.com")),
        ("istio-ingress-certs", names("b.example.com")),
        ("istio-ingress-certs", names("c.example.com")),
    ]


@pytest.mark.parametrize("tls", [None, []])
def test_no_tls_at_all(tls: object) -> None:
    """The rules' hosts go to the default target, with a warning: no port 443 (issue 3 §2)."""
    found = read(ingress(TLS, tls=tls, hosts=["a.example.com", "b.example.com"]))
    assert asked(found) == {TARGET.name: names("a.example.com", "b.example.com")}
    assert codes(found) == ["NoTLSEntry"]


def test_entry_without_hosts() -> None:
    """Istio serves such an entry for every host, so its names are the rules' (§1.4)."""
    found = read(ingress(TLS, tls=[{"secretName": "one"}], hosts=["a.example.com"]))
    assert asked(found) == {"one": names("a.example.com")}
    assert codes(found) == []


def test_secret_name_wins() -> None:
    """`secret-name` is the target, whatever the entries say (DESIGN §6)."""
    notes = {**TLS, "acmeistio.io/secret-name": "mine"}
    found = read(ingress(notes, tls=[{"hosts": ["a.example.com"], "secretName": "one"}]))
    assert asked(found) == {"mine": names("a.example.com")}
    assert codes(found) == ["SecretNotServed"]


@pytest.mark.parametrize(
    ("tls", "secret_name", "expected"),
    [
        (None, None, "istio-ingress-certs"),
        ([{"hosts": ["x.example.com"]}], None, "istio-ingress-certs"),
        ([{"hosts": ["x.example.com"], "secretName": "one"}], None, "one"),
        ([{"secretName": "one"}, {"secretName": "one"}], None, "one"),
        ([{"secretName": "one"}, {"secretName": "two"}], "two", "two"),
        ([{"secretName": "one"}], "mine", "mine"),
    ],
)
def test_domains_go_to_one_secret(tls: object, secret_name: str | None, expected: str) -> None:
    """`domains` is exactly these names, in the object's own Secret or the default (DESIGN §6)."""
    notes = {"acmeistio.io/domains": "www.example.com"}
    if secret_name:
        notes["acmeistio.io/secret-name"] = secret_name
    found = read(ingress(notes, tls=tls, hosts=["rule.example.com"]))
    assert asked(found) == {expected: names("www.example.com")}
    assert codes(found) == []


def test_domains_with_several_secrets() -> None:
    """With several secretNames and no `secret-name` it is a Defect (issue 3 §2)."""
    manifest = ingress(
        {"acmeistio.io/domains": "www.example.com"},
        tls=[{"secretName": "two"}, {"secretName": "one"}],
    )
    found = read(manifest)
    assert found.declarations == ()
    assert codes(found) == ["AmbiguousSecretName"]
    assert "one, two" in found.defects[0].sentence


@pytest.mark.parametrize("hosts", [[], [""], ["   "], ["*"]])
def test_nothing_named(hosts: list[str]) -> None:
    """A wish without a host is a Defect, whatever stands for the host (issue 3 §2)."""
    found = read(ingress(TLS, hosts=hosts))
    assert found.declarations == ()
    assert codes(found) in (["NoNames"], ["InvalidName"])


def test_bad_entries_stop_no_other() -> None:
    """What is wrong with one host or entry leaves the others alone (issue 3 §2)."""
    found = read(
        ingress(
            TLS,
            tls=[
                {"hosts": ["10.1.2.3", "a.example.com", "local"], "secretName": "one"},
                {"hosts": ["b.example.com"], "secretName": "Not A Secret"},
                "absurd",
                None,
                {"hosts": "no list", "secretName": 5},
                {"hosts": ["c.example.com", 7, None], "secretName": "three"},
            ],
        )
    )
    assert asked(found) == {"one": names("a.example.com"), "three": names("c.example.com")}
    assert sorted(codes(found)) == [
        "IPAddressUnsupported",
        "InvalidName",
        "InvalidSecretName",
    ]


def test_names_outside_the_allowed_domains_are_left_out() -> None:
    """Each with a Defect that names the setting; the object's other names go on."""
    installation = replace(INSTALLATION, domains_allowed=frozenset(names("example.com")))
    hosts = ["example.com", "a.b.example.com", "notexample.com", "example.org", "*.example.com"]
    manifest = ingress({"acmeistio.io/tls": "true"}, tls=[{"hosts": hosts, "secretName": "s"}])
    found = declarations(manifest, (), Surroundings(installation))
    assert [declared.names for declared in found.declarations] == [
        names("example.com", "a.b.example.com", "*.example.com")
    ]
    assert [dict(made.facts)["name"] for made in found.defects] == ["notexample.com", "example.org"]
    assert {made.code for made in found.defects} == {"NameNotAllowed"}
    assert "ACMEISTIO_DOMAINS_ALLOWED" in found.defects[0].remedy


def test_without_an_allowed_name_nothing_is_declared() -> None:
    """The Defects say why; there is no certificate without names."""
    installation = replace(INSTALLATION, domains_allowed=frozenset(names("example.com")))
    found = declarations(ingress({"acmeistio.io/domains": "a.org"}), (), Surroundings(installation))
    assert found.declarations == ()
    assert [made.code for made in found.defects] == ["NameNotAllowed"]


def test_parameters_are_declared() -> None:
    """Issuer, key type, profile and age reach each declaration; absent is None (DESIGN §4)."""
    notes = {
        **TLS,
        "acmeistio.io/issuer": "other",
        "acmeistio.io/key-type": "ecdsa-p384",
        "acmeistio.io/profile": "tlsserver",
    }
    entry = {"hosts": ["a.example.com"], "secretName": "one"}
    (declared,) = read(ingress(notes, tls=[entry], created="2026-01-02T03:04:05Z")).declarations
    assert declared.source == REF
    assert declared.target == Target(NAMESPACE, "one")
    assert declared.created_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert (declared.issuer, declared.key_type, declared.profile) == (
        "other",
        KeyType.ECDSA_P384,
        "tlsserver",
    )
    (silent,) = read(ingress(TLS, tls=[entry])).declarations
    assert (silent.issuer, silent.key_type, silent.profile) == (None, None, None)
    assert silent.created_at is None


def test_yaml_truth_is_no_string() -> None:
    """`tls: true` without quotes is shown as the mistake it is; a folder has no API server."""
    found = read(ingress({"acmeistio.io/tls": True}, hosts=["a.example.com"]))
    assert found.declarations == ()
    assert codes(found) == ["InvalidAnnotation"]
    assert "true (not a string)" in found.defects[0].sentence


def test_an_absurd_value_is_one_defect() -> None:
    """A value that Python can't even spell (YAML has endless numbers) is a Defect like others."""
    found = read(ingress({"acmeistio.io/tls": 10**5000}, hosts=["a.example.com"]))
    assert codes(found) == ["InvalidAnnotation"]
    unread = read(ingress({**TLS, 10**5000: "x"}, hosts=["a.example.com"]))  # type: ignore[dict-item]
    assert unread.declarations


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05+01:00", datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)),
        (datetime(2026, 1, 2, 3, 4, 5), datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),  # noqa: DTZ001
        (
            datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1))),
            datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC),
        ),
        ("yesterday", None),
        ("0001-01-01T00:00:00+23:00", None),
        ("9999-12-31T23:59:59-23:00", None),
        (20260102, None),
        (None, None),
    ],
)
def test_created_at(value: object, expected: datetime | None) -> None:
    """The creationTimestamp in UTC as JSON and as YAML give it; anything else is no age."""
    assert untrusted.created_at({"metadata": {"creationTimestamp": value}}) == expected


def test_reference() -> None:
    """An object without a namespace is in `default`, as for kubectl."""
    assert str(untrusted.reference({"kind": "Ingress", "metadata": {"name": "web"}})) == (
        "Ingress default/web"
    )


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.datetimes()
    | st.dates()
    | st.just(date(1, 1, 1))
    | st.just(datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))))
    | st.sampled_from(["true", "a.example.com", "istio", "1.2.3.4", "0001-01-01T00:00:00+01:00"])
)
KEYS = st.sampled_from(["hosts", "secretName", "host", "name", "namespace", "rules"]) | st.text(
    max_size=3
)
GARBAGE = st.recursive(
    SCALARS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=3),
    max_leaves=8,
)
ENTRY = st.fixed_dictionaries({}, optional={"hosts": GARBAGE, "secretName": GARBAGE})
INGRESS_LIKE = st.fixed_dictionaries(
    {},
    optional={
        "kind": GARBAGE,
        "metadata": GARBAGE
        | st.fixed_dictionaries(
            {"annotations": st.just(TLS) | GARBAGE},
            optional={"name": GARBAGE, "namespace": GARBAGE, "creationTimestamp": SCALARS},
        )
        | st.fixed_dictionaries(
            {
                "annotations": st.dictionaries(
                    st.sampled_from(["acmeistio.io/tls", "acmeistio.io/domains"]) | SCALARS,
                    GARBAGE,
                )
            }
        ),
        "spec": GARBAGE
        | st.fixed_dictionaries(
            {},
            optional={
                "tls": GARBAGE | st.lists(ENTRY | GARBAGE, max_size=3),
                "rules": GARBAGE | st.lists(st.fixed_dictionaries({"host": GARBAGE})),
                "ingressClassName": GARBAGE,
            },
        ),
    },
)


@given(INGRESS_LIKE)
def test_any_object_is_read(manifest: dict[str, Any]) -> None:
    """Whatever an object is made of, a source gives values and never raises (DESIGN §4, Defect).

    A folder has no API server that validates; one object must not stop the others.
    """
    installation = replace(INSTALLATION, ingress_mode=IngressMode.DEFAULT)
    found = declarations(manifest, (), Surroundings(installation, CLASSES))
    assert all(made.sentence and made.remedy for made in found.defects)
    assert all(declared.names for declared in found.declarations)


OLD, NEW = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"


def _of(name: str, created: str, *, tls: bool, asks: bool = True) -> dict[str, Any]:
    """An Ingress of www.example.com."""
    entry = [{"hosts": ["www.example.com"], "secretName": "s"}] if tls else None
    made = ingress(TLS if asks else {}, tls=entry, hosts=["www.example.com"], created=created)
    made["metadata"]["name"] = name
    return made


def told_together(*ingresses: dict[str, Any]) -> tuple[Defect, ...]:
    """What is wrong with these together."""
    surroundings = Surroundings(INSTALLATION, CLASSES)
    return together(c for i in ingresses for c in declarations(i, (), surroundings).claims)


@pytest.mark.parametrize(
    ("ingresses", "told"),
    [
        ([_of("a", OLD, tls=False), _of("b", NEW, tls=True)], ["a", "b"]),
        ([_of("a", OLD, tls=False, asks=False), _of("b", NEW, tls=True)], ["b"]),
        ([_of("b", OLD, tls=True), _of("a", NEW, tls=True)], ["a", "b"]),
        ([_of("a", OLD, tls=True), _of("b", NEW, tls=True)], []),
        ([_of("a", OLD, tls=True), _of("b", NEW, tls=False)], []),
        ([_of("a", OLD, tls=True)], []),
        ([_of("a", OLD, tls=False), _of("b", NEW, tls=False)], []),
    ],
)
def test_two_ingresses_of_one_host_can_make_https_404(
    ingresses: list[dict[str, Any]], told: list[str]
) -> None:
    """Where Istio routes the host by one and has the TLS of the other; told to those who ask."""
    found = told_together(*ingresses)
    assert [made.subject.name for made in found] == told
    assert {made.code for made in found} <= {"DuplicateTLSHost"}
    assert all("404" in made.sentence and made.remedy for made in found)


def test_ingresses_of_another_controller_are_no_rivals() -> None:
    """Istio does not see them."""
    other = _of("a", OLD, tls=False)
    other["metadata"]["annotations"]["kubernetes.io/ingress.class"] = "nginx"
    assert told_together(other, _of("b", NEW, tls=True)) == ()
