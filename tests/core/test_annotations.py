"""sources/annotations.py: the words that users write, exact values and nothing guessed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmeistio.model import KeyType
from acmeistio.reasons import Reason
from acmeistio.sources.annotations import (
    KNOWN,
    Wish,
    is_secret_name,
    parse_hosts,
    parse_names,
    read_wish,
)
from tests.core.builders import INSTALLATION, REF, names

HONOURING = replace(INSTALLATION, honours_tls_acme=True)


def read(**annotations: str) -> tuple[Wish | None, list[str]]:
    """The wish and the codes of the Defects; `_` stands for `-` and the prefix is added."""
    notes = {f"acmeistio.io/{key.replace('_', '-')}": text for key, text in annotations.items()}
    wish, defects = read_wish(REF, notes, INSTALLATION)
    for made in defects:
        assert made.subject == REF
        assert made.sentence
        assert made.remedy
    return wish, [made.code for made in defects]


def test_tls_true_asks_for_the_own_hosts() -> None:
    """`tls: "true"` is a certificate for the hosts that the object names (DESIGN §6)."""
    assert read(tls="true") == (Wish(domains=None), [])


def test_domains_suffices_alone() -> None:
    """`domains` is exactly these names and needs no `tls` beside it (DESIGN §6)."""
    wish, codes = read(domains="www.mydomain.com, mobile.mydomain.com")
    assert wish == Wish(domains=names("www.mydomain.com", "mobile.mydomain.com"))
    assert codes == []


@pytest.mark.parametrize(
    "text", ["a.example,b.example", " a.example  b.example ", "a.example,\n ,b.example,"]
)
def test_separators(text: str) -> None:
    """Names are separated by commas, blanks and line ends, any number of them (DESIGN §6)."""
    wish, codes = read(domains=text)
    assert wish
    assert wish.domains == names("a.example", "b.example")
    assert codes == []


def test_duplicates_are_one() -> None:
    """`Bücher.example` in three spellings is one name, in the order written (issue 3 §2)."""
    wish, codes = read(domains="Bücher.example, b.example., xn--bcher-kva.example, B.Example")
    assert wish
    assert wish.domains == names("xn--bcher-kva.example", "b.example")
    assert codes == []


def test_parameters() -> None:
    """Each parameter is taken as written (DESIGN §6)."""
    wish, codes = read(
        tls="true", secret_name="shop-tls", issuer="other", key_type="rsa-3072", profile="tlsserver"
    )
    assert codes == []
    assert wish == Wish(None, "shop-tls", "other", KeyType.RSA_3072, "tlsserver")


@pytest.mark.parametrize(
    "key_type", ["ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096"]
)
def test_key_types(key_type: str) -> None:
    """The five key types of DESIGN §6, spelt so."""
    wish, codes = read(tls="true", key_type=key_type)
    assert wish
    assert wish.key_type == key_type
    assert codes == []


@pytest.mark.parametrize("text", ["rsa-4096,ecdsa-p384", "rsa-4096, ecdsa-p384"])
def test_one_key_type_of_each_kind(text: str) -> None:
    """For the two Secrets of a pair; the first is that of a Secret by itself (README)."""
    wish, codes = read(tls="true", key_type=text)
    assert wish
    assert (wish.key_type, wish.second_key_type) == (KeyType.RSA_4096, KeyType.ECDSA_P384)
    assert codes == []


@pytest.mark.parametrize("beside", ["true", "yes", ""])
def test_tls_false_beats_everything(beside: str) -> None:
    """`"false"` beats everything: no wish, and nothing to complain of (DESIGN §6)."""
    notes = {
        "acmeistio.io/tls": "false",
        "acmeistio.io/domains": "www.example.com, 1.2.3.4",
        "acmeistio.io/key-type": beside,
        "kubernetes.io/tls-acme": "true",
    }
    assert read_wish(REF, notes, HONOURING) == (None, ())


@pytest.mark.parametrize(
    ("annotation", "value", "code"),
    [
        ("tls", "True", "InvalidAnnotation"),
        ("tls", "yes", "InvalidAnnotation"),
        ("tls", "", "InvalidAnnotation"),
        ("tls", " true", "InvalidAnnotation"),
        ("tls", "true (not a string)", "InvalidAnnotation"),
        ("key_type", "", "InvalidAnnotation"),
        ("key_type", "ECDSA-P256", "InvalidAnnotation"),
        ("key_type", "rsa-1024", "InvalidAnnotation"),
        ("key_type", "rsa-4096,", "InvalidAnnotation"),
        ("key_type", " rsa-4096", "InvalidAnnotation"),
        ("key_type", "rsa-4096,rsa-2048", "InvalidAnnotation"),
        ("key_type", "ecdsa-p256,ecdsa-p256", "InvalidAnnotation"),
        ("key_type", "rsa-4096 ecdsa-p384", "InvalidAnnotation"),
        ("key_type", "rsa-2048,rsa-4096,ecdsa-p256", "InvalidAnnotation"),
        ("profile", "", "InvalidAnnotation"),
        ("profile", "two words", "InvalidAnnotation"),
        ("profile", "x" * 65, "InvalidAnnotation"),
        ("secret_name", "", "InvalidSecretName"),
        ("secret_name", "Upper", "InvalidSecretName"),
        ("secret_name", "../../etc/passwd", "InvalidSecretName"),
        ("secret_name", "other-namespace/name", "InvalidSecretName"),
        ("issuer", "", "UnknownIssuer"),
        ("issuer", "letsencrpt", "UnknownIssuer"),
        ("issuer", "OTHER", "UnknownIssuer"),
    ],
)
def test_a_wrong_value_is_one_defect(annotation: str, value: str, code: str) -> None:
    """Values are exact, anything else is a Defect with a remedy (DESIGN §6).

    The object gets no certificate then: one with other parameters than asked for is no help.
    """
    wish, codes = read(domains="www.example.com", **{annotation: value})
    assert wish is None
    assert codes == [code]


def test_all_wrong_values_are_told_at_once() -> None:
    """A user with several mistakes sees them all, not one after another (issue 3 §2)."""
    wish, codes = read(
        tls="on", key_type="dsa", profile="?", secret_name="_", issuer="x", domains="127.0.0.1"
    )
    assert wish is None
    assert sorted(codes) == [
        "InvalidAnnotation",
        "InvalidAnnotation",
        "InvalidAnnotation",
        "InvalidName",
        "InvalidSecretName",
        "UnknownIssuer",
    ]


@pytest.mark.parametrize("text", ["", " ", ",", " , ,\n"])
def test_empty_domains(text: str) -> None:
    """An empty `domains` is a Defect, not a certificate for the object's own hosts (issue 3 §2)."""
    assert read(domains=text) == (None, ["NoNames"])
    assert read(tls="true", domains=text) == (None, ["NoNames"])


def test_good_names_go_on_without_the_bad() -> None:
    """A name that can't be is a Defect, and everything else goes on (issue 3 §2)."""
    wish, codes = read(domains="www.example.com, 127.0.0.1, localhost, *.example.com, b_d.example")
    assert wish
    assert wish.domains == names("www.example.com", "*.example.com")
    assert codes == ["InvalidName", "InvalidName", "InvalidName"]


def test_only_bad_names() -> None:
    """If no name is left the Defects of the names say why; no second one about it."""
    assert read(domains="0.0.0.0") == (None, ["InvalidName"])


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("acmeistio.io/domain", "Did you mean acmeistio.io/domains?"),
        ("acmeistio.io/keytype", "Did you mean acmeistio.io/key-type?"),
        ("acmeistio.io/zzz", "Known are: " + ", ".join(KNOWN) + "."),
    ],
)
def test_unknown_annotation(key: str, advice: str) -> None:
    """A misspelt word is a warning with the nearest one; the rest is done (DESIGN §6)."""
    wish, defects = read_wish(REF, {"acmeistio.io/tls": "true", key: "x"}, INSTALLATION)
    assert wish
    assert [(made.reason, made.remedy) for made in defects] == [(Reason.UnknownAnnotation, advice)]


@pytest.mark.parametrize("key", ["acmeistio.io/tsl", "acmeistio.io/TLS", "acmeistio.io/domain"])
def test_a_misspelt_word_alone_is_not_silent(key: str) -> None:
    """Who misspells the one word that asks for a certificate is told (DESIGN §6)."""
    wish, defects = read_wish(REF, {key: "true"}, INSTALLATION)
    assert wish is None
    assert [made.reason for made in defects] == [Reason.UnknownAnnotation]


def test_silent_where_nothing_is_asked() -> None:
    """An object without a word of ours is none of our business (DESIGN §6)."""
    assert read_wish(REF, {"team": "shop", "cert-manager.io/issuer": "x"}, INSTALLATION) == (
        None,
        (),
    )


@pytest.mark.parametrize(
    ("notes", "honoured", "asked"),
    [
        ({"kubernetes.io/tls-acme": "true"}, True, True),
        ({"kubernetes.io/tls-acme": "true"}, False, False),
        ({"kubernetes.io/tls-acme": "false"}, True, False),
        ({"kubernetes.io/tls-acme": "True"}, True, False),
        ({"kubernetes.io/tls-acme": "true", "cert-manager.io/issuer": "x"}, True, False),
        ({"kubernetes.io/tls-acme": "true", "cert-manager.io/cluster-issuer": ""}, True, False),
        (
            {
                "kubernetes.io/tls-acme": "true",
                "acmeistio.io/tls": "true",
                "cert-manager.io/issuer": "x",
            },
            True,
            True,
        ),
    ],
)
def test_the_older_word(notes: dict[str, str], honoured: bool, asked: bool) -> None:
    """`kubernetes.io/tls-acme: "true"` counts only if the installation turns it on (DESIGN §6).

    And never beside a `cert-manager.io/` annotation: two writers.
    """
    installation = replace(INSTALLATION, honours_tls_acme=honoured)
    wish, defects = read_wish(REF, notes, installation)
    assert (wish == Wish()) is asked
    assert defects == ()


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("istio-ingress-certs", True),
        ("a", True),
        ("a.b-c.d", True),
        ("a" * 253, True),
        ("a" * 254, False),
        ("", False),
        ("-a", False),
        ("a-", False),
        ("a..b", False),
        ("a.-b", False),
        ("A", False),
        ("a/b", False),
        ("a\n", False),
        ("ä", False),
    ],
)
def test_secret_names(text: str, good: bool) -> None:
    """A Secret's name is a DNS subdomain, as Kubernetes takes it (RFC 1123)."""
    assert is_secret_name(text) is good


def test_one_defect_per_wrong_text() -> None:
    """A wrong name that is written twice is told once."""
    found, defects = parse_names(REF, ["127.0.0.1", "127.0.0.1", ""])
    assert found == ()
    assert [made.code for made in defects] == ["InvalidName", "InvalidName"]


def test_addresses_are_domains_and_no_hosts() -> None:
    """acmeistio.io/domains may have an IP address; a host of an object is a DNS name."""
    texts = ["203.0.113.7", "A.example", "[2001:DB8::1]", "[203.0.113.7]"]
    assert parse_names(REF, texts) == (names("203.0.113.7", "a.example", "2001:db8::1"), ())
    found, defects = parse_hosts(REF, texts)
    assert found == names("a.example")
    assert [made.code for made in defects] == ["IPAddressUnsupported"] * 2
    assert "203.0.113.7 is an IP address" in defects[0].sentence
    assert "acmeistio.io/domains" in defects[0].remedy
    wish, codes = read(domains=", ".join(texts))
    assert wish
    assert wish.domains == names("203.0.113.7", "a.example", "2001:db8::1")
    assert codes == []


@given(
    st.dictionaries(
        st.sampled_from([*KNOWN, "acmeistio.io/x", "kubernetes.io/tls-acme"]),
        st.text(max_size=12) | st.sampled_from(["true", "false", "a.example", "rsa-2048", "ca"]),
    )
)
def test_any_annotations_are_read(notes: dict[str, str]) -> None:
    """Whatever stands there gives a wish or Defects; a Defect of a value means no wish."""
    wish, defects = read_wish(REF, notes, HONOURING)
    wrong = {"InvalidAnnotation", "InvalidSecretName", "UnknownIssuer", "NoNames"}
    assert not (wish and wrong & {made.code for made in defects})
    assert all(made.sentence and made.remedy for made in defects)
    if notes.get("acmeistio.io/tls") == "true" and not wish:
        assert defects
