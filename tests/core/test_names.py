"""names.py: one string per name, however a user spells it."""

from __future__ import annotations

import ipaddress
import unicodedata

import idna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmeistio.names import (
    MAX_OCTETS,
    DnsName,
    InvalidName,
    covers,
    is_ip_address,
    is_wildcard,
    is_within,
    parse_name,
    url_host,
)
from acmeistio.names import _is_plain as is_plain

LABEL_63 = "a" * 63
NAME_253 = ".".join([LABEL_63, LABEL_63, LABEL_63, "b" * 61])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("www.example.com", "www.example.com"),
        ("WWW.Example.COM", "www.example.com"),
        ("www.example.com.", "www.example.com"),
        ("  www.example.com\n", "www.example.com"),
        ("Bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.Example.", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.EXAMPLE", "xn--bcher-kva.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("ｗｗｗ．example．com", "www.example.com"),
        ("straße.example", "xn--strae-oqa.example"),
        ("*.Example.com", "*.example.com"),
        ("*.Bücher.example", "*.xn--bcher-kva.example"),
        ("1.2.3.4.example", "1.2.3.4.example"),
        ("a-b.c-d.example", "a-b.c-d.example"),
        (f"{LABEL_63}.example", f"{LABEL_63}.example"),
        (NAME_253, NAME_253),
    ],
)
def test_spellings(text: str, expected: str) -> None:
    """Names are A-labels, lower case, without the trailing dot (issue 3 §2; RFC 5890, UTS #46)."""
    assert parse_name(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ".",
        "*",
        "*.",
        "localhost",
        "com.",
        "*.com",
        "a..example",
        ".example.com",
        "example.com..",
        "www.*.example.com",
        "*.*.example.com",
        "w*.example.com",
        "**.example.com",
        "a_b.example.com",
        "-a.example.com",
        "a-.example.com",
        "ab--cd.example.com",
        "xn--a.example",
        "xn--.example",
        "http://www.example.com",
        "www.example.com/",
        "www.example.com:443",
        "user@example.com",
        "two words.example.com",
        "www.example.123",
        "*.127.0.0.1",
        "a\x00b.example.com",
        "a\nb.example.com",
        "\ud800.example.com",
        f"a{LABEL_63}.example",
        f"{NAME_253}b",
        f"*.{NAME_253}",
        "a." * 50_000 + "example",
    ],
)
def test_what_is_no_name(text: str) -> None:
    """What no certificate could carry is an InvalidName (DESIGN §6: nothing is guessed)."""
    with pytest.raises(InvalidName) as caught:
        parse_name(text)
    assert str(caught.value).startswith("it ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (" [203.0.113.7] ", "203.0.113.7"),
        ("10.0.0.1", "10.0.0.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("[2001:0db8:0:0:0:0:0:0001]", "2001:db8::1"),
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("fd00::203.0.113.7", "fd00::cb00:7107"),
    ],
)
def test_addresses(text: str, expected: str) -> None:
    """An address is a name in one spelling (RFC 5952, which RFC 8738 §3 asks for).

    A private one too: a private CA may certify it.
    """
    name = parse_name(text)
    assert name == expected
    assert is_ip_address(name)
    assert not is_wildcard(name)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("127.0.0.1", "loopback"),
        ("[::1]", "loopback"),
        ("169.254.1.1", "link_local"),
        ("fe80::1", "link_local"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("::ffff:203.0.113.7", "another spelling of the IPv4 address 203.0.113.7"),
        ("2001:db8::1%eth0", "zone"),
        ("fe80::1%1", "zone"),
    ],
)
def test_addresses_that_are_no_machines_own(text: str, why: str) -> None:
    """What no CA could validate, or what is another address spelt otherwise (names.py)."""
    with pytest.raises(InvalidName, match=why):
        parse_name(text)


@pytest.mark.parametrize(
    "text",
    ["203.0.113", "203.0.113.07", "203.0.113.7:443", "203.0.113.0/24", "[203.0.113.7", "1:2"],
)
def test_what_is_no_address(text: str) -> None:
    """What only looks like one is no name either."""
    with pytest.raises(InvalidName):
        parse_name(text)


@given(st.ip_addresses(), st.sampled_from(["{}", "[{}]", " {} "]))
def test_any_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address, form: str) -> None:
    """Every address in any spelling is the same name, unless it is refused."""
    try:
        name = parse_name(form.format(address.exploded))
    except InvalidName:
        return
    assert name == str(address)
    assert parse_name(name) == name
    assert is_ip_address(name)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("www.example.com", "www.example.com"),
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8::7", "[2001:db8::7]"),
    ],
)
def test_a_host_in_a_url(host: str, expected: str) -> None:
    """An IPv6 address stands in brackets, in a Host header as well (RFC 3986 §3.2.2)."""
    assert url_host(host) == expected


def test_nothing_lies_below_an_address() -> None:
    """Within domains is an address only if it is one of them (sources/permission.py)."""
    address = DnsName("203.0.113.7")
    assert is_within(address, frozenset({address}))
    for domains in ({"113.7"}, {"0.113.7"}, {"7"}, {"example.com"}, {"203.0.113.8"}, set()):
        assert not is_within(address, frozenset(map(DnsName, domains)))
    assert not is_within(DnsName("2001:db8::1"), frozenset({DnsName("2001:db8::")}))
    assert not is_within(DnsName("a.203.0.113.7.example"), frozenset({address}))


def test_limits() -> None:
    """A name has at most 253 octets, the wildcard's two included (RFC 1035 §2.3.4)."""
    longest = parse_name(f"*.{NAME_253[2:]}")
    assert len(longest) == MAX_OCTETS
    with pytest.raises(InvalidName, match="longer than 253"):
        parse_name(f"*.{NAME_253[1:]}")


LABELS = [
    "www",
    "a1",
    "x-y",
    "bücher",
    "éclair",
    "naïve",
    "ñandú",
    "пример",
    "例え",
    "xn--bcher-kva",
]
LOOKALIKES = st.text(alphabet="aB1-._*xn éß例。．·\u200d\u0301\u202e\U000e0001", max_size=40)


@st.composite
def two_spellings(draw: st.DrawFn) -> tuple[str, str]:
    """A name in two spellings that mean the same."""
    labels = [*draw(st.lists(st.sampled_from(LABELS), min_size=1, max_size=3)), "example"]
    star = draw(st.sampled_from(["", "*."]))

    def spelt() -> str:
        text = draw(st.sampled_from([".", "。", "．"])).join(labels)
        text = draw(st.sampled_from([str, str.upper, str.title]))(text)
        text = unicodedata.normalize(draw(st.sampled_from(["NFC", "NFD"])), text)
        return star + text + draw(st.sampled_from(["", ".", " ", ". "]))

    return spelt(), spelt()


@given(two_spellings())
def test_spellings_that_mean_the_same_are_equal(spellings: tuple[str, str]) -> None:
    """Case, trailing dot, Unicode normal form: duplicates are one name (issue 3 §2)."""
    one, other = map(parse_name, spellings)
    assert one == other
    assert parse_name(one) == one


@given(st.text() | LOOKALIKES)
def test_any_text_is_a_name_or_invalid(text: str) -> None:
    """Whatever a user writes is a name or InvalidName, and parsing a name again changes nothing."""
    try:
        name = parse_name(text)
    except InvalidName:
        return
    assert parse_name(name) == name
    assert name.isascii()
    assert name == name.lower()
    assert not name.endswith(".")
    assert len(name) <= MAX_OCTETS


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("www.example.com", True),
        ("a.wild.example", True),
        ("*.wild.example", True),
        ("wild.example", False),
        ("a.b.wild.example", False),
        ("*.a.wild.example", False),
        ("example.com", False),
        ("*.example.com", False),
    ],
)
def test_covers(name: str, accepted: bool) -> None:
    """A wildcard stands for exactly one label, and for itself (RFC 9525 §6.3)."""
    certified = frozenset({DnsName("www.example.com"), DnsName("*.wild.example")})
    assert covers(certified, DnsName(name)) is accepted


def test_is_wildcard() -> None:
    """Only the whole leading label makes a wildcard (RFC 9525 §6.3)."""
    assert is_wildcard(DnsName("*.example.com"))
    assert not is_wildcard(DnsName("www.example.com"))


@given(st.from_regex(r"([a-z0-9-]{1,6}\.){1,3}[a-z0-9-]{1,6}", fullmatch=True))
def test_what_is_not_shown_to_idna_is_what_idna_would_leave(text: str) -> None:
    """The short way for plain names is no other way (issue 6: 10,000 of them)."""
    try:
        encoded = idna.encode(text, uts46=True, std3_rules=True).decode()
    except idna.IDNAError:
        encoded = None
    if is_plain(text):
        assert encoded == text


@given(st.text("0123456789abcdef:.[]%/x \u0661", max_size=12))
def test_what_is_seen_to_be_no_address_is_none(text: str) -> None:
    """An address is never taken for a name."""
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return
    assert is_ip_address(DnsName(text.strip("[]")))
