"""pki.py: what is parsed is proven, what is stored was checked."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from acmeistio.model import KeyType
from acmeistio.names import DnsName
from acmeistio.pki import (
    MAX_PEM_BYTES,
    PLACEHOLDER_ISSUER,
    Unfit,
    checked_bundle,
    csr_der,
    generate_key,
    key_type_of,
    leaf_der,
    parse_pair,
    placeholder,
    renewal_id,
)
from tests.core.builders import DAY, NOW, A, B, C

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Party:
    """A certificate with its key."""

    key: Key
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(PEM)

    @property
    def key_pem(self) -> bytes:
        """The key."""
        return pem_of(self.key)


def pem_of(key: Key) -> bytes:
    """A key as PKCS#8."""
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def general_name(text: str) -> x509.GeneralName:
    """What a CA writes into the SAN for a name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def certified(
    subject: str,
    issuer: Party | None = None,
    *,
    names: Sequence[str] | None = None,
    key: Key | None = None,
    not_before: datetime = NOW - DAY,
    not_after: datetime = NOW + 89 * DAY,
    serial: int = 1234,
    extension: x509.ExtensionType | None = None,
) -> Party:
    """A certificate of `issuer`, self-signed without one."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)] if subject else [])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    if names is not None:
        san = x509.SubjectAlternativeName(map(general_name, names))
        builder = builder.add_extension(san, critical=False)
    if extension is not None:
        builder = builder.add_extension(extension, critical=False)
    signer = issuer.key if issuer else key
    algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Party(key, builder.sign(signer, algorithm))


ROOT = certified("root")
INTERMEDIATE = certified("intermediate", ROOT)
LEAF = certified("", INTERMEDIATE, names=[A, B])
CHAIN = LEAF.pem + INTERMEDIATE.pem


def test_a_good_bundle() -> None:
    """Chain leaf first, exactly as delivered; the leaf's facts are those of its certificate."""
    bundle = checked_bundle(LEAF.key_pem, CHAIN, [B, A], NOW)
    assert bundle.chain_pem == CHAIN
    assert bundle.key_pem == LEAF.key_pem
    leaf = bundle.leaf
    assert leaf.names == {A, B}
    assert (leaf.not_before, leaf.not_after) == (NOW - DAY, NOW + 89 * DAY)
    assert leaf.serial == 1234
    assert leaf.sha256 == LEAF.certificate.fingerprint(hashes.SHA256()).hex()
    assert leaf.key_type is KeyType.ECDSA_P256
    assert parse_pair(bundle.chain_pem, bundle.key_pem) == leaf


def test_the_root_is_left_out() -> None:
    """A root that was sent along is not stored (RFC 8555 §7.4.2, DESIGN §5 Bundles)."""
    bundle = checked_bundle(LEAF.key_pem, CHAIN + ROOT.pem, [A, B], NOW)
    assert bundle.chain_pem == CHAIN


def test_a_chain_of_one() -> None:
    """A CA without intermediates delivers the leaf alone; a self-signed leaf is kept."""
    direct = certified("", ROOT, names=[A])
    assert checked_bundle(direct.key_pem, direct.pem, [A], NOW).chain_pem == direct.pem
    alone = certified("alone", names=[A])
    assert checked_bundle(alone.key_pem, alone.pem, [A], NOW).chain_pem == alone.pem


def test_text_around_the_certificates_is_dropped() -> None:
    """What some CAs write between the certificates does not reach the Secret."""
    chain = b"subject: leaf\n" + LEAF.pem + b"\r\n\r\nissuer:\n" + INTERMEDIATE.pem
    assert checked_bundle(LEAF.key_pem, chain, [A, B], NOW).chain_pem == CHAIN


STRANGER = certified("", INTERMEDIATE, names=[A, B])
NO_NAMES = certified("www.example.com", INTERMEDIATE, key=LEAF.key)
OTHER_ROOT = certified("root")
OTHER_INTERMEDIATE = certified("intermediate", OTHER_ROOT)


@pytest.mark.parametrize(
    ("key_pem", "chain_pem", "why"),
    [
        (STRANGER.key_pem, CHAIN, "not that of the certificate"),
        (pem_of(rsa.generate_private_key(65537, 2048)), CHAIN, "not that of the certificate"),
        (pem_of(ed25519.Ed25519PrivateKey.generate()), CHAIN, "neither ECDSA nor RSA"),
        (LEAF.key_pem, INTERMEDIATE.pem + LEAF.pem, "not that of the certificate"),
        (LEAF.key_pem, LEAF.pem + OTHER_INTERMEDIATE.pem, "chain is broken"),
        (LEAF.key_pem, LEAF.pem + ROOT.pem + INTERMEDIATE.pem, "chain is broken"),
        (LEAF.key_pem, LEAF.pem + LEAF.pem, "chain is broken"),
        (LEAF.key_pem, CHAIN + OTHER_INTERMEDIATE.pem, "chain is broken"),
        (LEAF.key_pem, NO_NAMES.pem + INTERMEDIATE.pem, "names are not those"),
        (LEAF.key_pem, b"", "not PEM"),
        (LEAF.key_pem, b"\x00\xff garbage", "not PEM"),
        (LEAF.key_pem, CHAIN[:-200], "cut off"),
        (LEAF.key_pem, LEAF.pem[:-30], "not PEM"),
        (LEAF.key_pem, LEAF.key_pem, "not PEM"),
        (LEAF.key_pem, b"x" * (MAX_PEM_BYTES + 1), "larger than 1 MiB"),
        (b"", CHAIN, "not readable"),
        (b"garbage", CHAIN, "not readable"),
        (CHAIN, CHAIN, "not readable"),
        (b"x" * (MAX_PEM_BYTES + 1), CHAIN, "larger than 1 MiB"),
        (
            LEAF.key.private_bytes(
                PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            ),
            CHAIN,
            "not readable",
        ),
    ],
)
def test_unfit_bundles(key_pem: bytes, chain_pem: bytes, why: str) -> None:
    """Bundles are checked before they are written (DESIGN §5); the message holds no content."""
    with pytest.raises(Unfit, match=why) as caught:
        checked_bundle(key_pem, chain_pem, [A, B], NOW)
    assert "BEGIN" not in str(caught.value)


@pytest.mark.parametrize("ordered", [[A], [A, B, C], [B, C], []])
def test_other_names_than_ordered(ordered: list[DnsName]) -> None:
    """The leaf has exactly the names of the order, no fewer and no more (DESIGN §5)."""
    with pytest.raises(Unfit, match="names are not those"):
        checked_bundle(LEAF.key_pem, CHAIN, ordered, NOW)


def test_names_without_case() -> None:
    """A CA that spells a name in upper case certifies the same name (RFC 4343)."""
    shouting = certified("", INTERMEDIATE, names=["A.Example.COM"])
    chain = shouting.pem + INTERMEDIATE.pem
    assert checked_bundle(shouting.key_pem, chain, [A], NOW).leaf.names == {A}


@pytest.mark.parametrize(
    ("now", "good"),
    [
        (NOW - DAY, True),
        (NOW - DAY - timedelta(seconds=1), False),
        (NOW + 89 * DAY - timedelta(seconds=1), True),
        (NOW + 89 * DAY, False),
        (NOW + 999 * DAY, False),
    ],
)
def test_valid_now(now: datetime, good: bool) -> None:
    """Its notBefore ≤ now < notAfter (facts/acme.md §7, DESIGN §5 Bundles)."""
    if good:
        assert checked_bundle(LEAF.key_pem, CHAIN, [A, B], now)
        return
    with pytest.raises(Unfit, match="not now"):
        checked_bundle(LEAF.key_pem, CHAIN, [A, B], now)


def test_stored_pairs_are_parsed_even_if_expired() -> None:
    """An expired pair is still a pair: planning decides what follows from its facts (decide.py)."""
    old = certified("", INTERMEDIATE, names=[A], not_after=NOW - DAY / 2)
    assert parse_pair(old.pem, old.key_pem).not_after == NOW - DAY / 2
    with pytest.raises(Unfit, match="not that of the certificate"):
        parse_pair(old.pem, LEAF.key_pem)


def spoilt(party: Party, old: bytes, new: bytes) -> bytes:
    """A certificate in PEM with some of its DER replaced, as no library would make it."""
    der = party.certificate.public_bytes(serialization.Encoding.DER)
    assert old in der
    assert len(old) == len(new)
    spoiled = der.replace(old, new)
    label = b"CERTIFICATE"
    body = base64.encodebytes(spoiled)
    return b"-----BEGIN %s-----\n%s-----END %s-----\n" % (label, body, label)


SAN_OID, KEY_ID_OID = bytes.fromhex("0603551d11"), bytes.fromhex("0603551d0e")
ECDSA_SHA256, ECDSA_UNKNOWN = bytes.fromhex("2a8648ce3d040302"), bytes.fromhex("2a8648ce3d04037f")
VERSION_3, VERSION_9 = bytes.fromhex("a003020102"), bytes.fromhex("a003020109")
P256, P_UNKNOWN = bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d03017f")
TWO_NAMES = certified(
    "", INTERMEDIATE, names=[A, B], key=LEAF.key, extension=x509.SubjectKeyIdentifier(b"12345678")
)


@pytest.mark.parametrize(
    "leaf_pem",
    [
        spoilt(TWO_NAMES, KEY_ID_OID, SAN_OID),
        spoilt(TWO_NAMES, VERSION_3, VERSION_9),
        spoilt(TWO_NAMES, P256, P_UNKNOWN),
        spoilt(TWO_NAMES, b"\x82\x0da.example.com", b"\x83\x0da.example.com"),
        spoilt(TWO_NAMES, b"\x82\x0da.example.com", b"\x82\x0d\xff.example.com"),
    ],
    ids=["extension twice", "version", "curve", "kind of name", "name not ASCII"],
)
def test_what_the_library_chokes_on_is_unfit(leaf_pem: bytes) -> None:
    """A Secret may hold anything: what no library reads is Unfit, never another exception."""
    with pytest.raises(Unfit):
        parse_pair(leaf_pem, LEAF.key_pem)
    with pytest.raises(Unfit):
        checked_bundle(LEAF.key_pem, leaf_pem + INTERMEDIATE.pem, [A, B], NOW)


def test_an_unknown_signature_is_a_broken_chain() -> None:
    """A signature that can't be checked proves nothing (DESIGN §5 Bundles)."""
    leaf_pem = spoilt(TWO_NAMES, ECDSA_SHA256, ECDSA_UNKNOWN)
    with pytest.raises(Unfit):
        checked_bundle(LEAF.key_pem, leaf_pem + INTERMEDIATE.pem, [A, B], NOW)


CERTIFICATE_DER = TWO_NAMES.certificate.public_bytes(serialization.Encoding.DER)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@given(
    st.integers(0, len(CERTIFICATE_DER) - 1),
    st.binary(min_size=1, max_size=3) | st.sampled_from([b"\x00", b"\xff", b"\x80\x00"]),
)
def test_any_spoilt_certificate(index: int, junk: bytes) -> None:
    """Whatever bytes of a certificate are wrong: Unfit or a Leaf (stores/secrets.py)."""
    der = CERTIFICATE_DER[:index] + junk + CERTIFICATE_DER[index + len(junk) :]
    body = base64.encodebytes(der)
    pem = b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"
    for read in (
        lambda: parse_pair(pem, LEAF.key_pem),
        lambda: checked_bundle(LEAF.key_pem, pem + INTERMEDIATE.pem, [A, B], NOW).leaf,
    ):
        try:
            leaf = read()
        except Unfit:
            continue
        assert leaf.sha256


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_garbage_is_unfit(chain_pem: bytes, key_pem: bytes) -> None:
    """The same for what is no PEM at all."""
    for chain, key in ((chain_pem, key_pem), (CHAIN, key_pem), (chain_pem, LEAF.key_pem)):
        with pytest.raises(Unfit):
            parse_pair(chain, key)


def test_content_is_hidden() -> None:
    """Keys and bundles hide their content from repr and logs (DESIGN §5, Secrets in memory)."""
    text = repr(checked_bundle(LEAF.key_pem, CHAIN, [A, B], NOW)) + repr(placeholder([A], NOW))
    assert "PRIVATE KEY" not in text
    assert "CERTIFICATE" not in text
    assert "BEGIN" not in text
    assert "a.example.com" in text


def test_placeholder() -> None:
    """A self-signed pair for the names, usable at once and for a year (DESIGN §5)."""
    bundle = placeholder([A, DnsName("*.example.com")], NOW)
    leaf = parse_pair(bundle.chain_pem, bundle.key_pem)
    assert leaf == bundle.leaf
    assert leaf.names == {A, "*.example.com"}
    assert leaf.not_before < NOW - timedelta(minutes=30)
    assert leaf.not_after >= NOW + 365 * DAY
    certificate = x509.load_pem_x509_certificate(bundle.chain_pem)
    certificate.verify_directly_issued_by(certificate)
    (common_name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert common_name.value == PLACEHOLDER_ISSUER


def test_placeholders_differ() -> None:
    """Each has its own key and serial: two are never taken for one."""
    one, other = placeholder([A], NOW), placeholder([A], NOW)
    assert one.key_pem != other.key_pem
    assert one.leaf.serial != other.leaf.serial


@pytest.mark.parametrize("count", [0, 100, 1000])
def test_placeholder_of_many_names(count: int) -> None:
    """However many names are declared, a listener gets its pair; 100 of them are shown."""
    many = [DnsName(f"n{index}.example.com") for index in range(count)]
    assert placeholder(many, NOW).leaf.names == frozenset(many[:100])


@pytest.mark.parametrize(
    ("key_type", "expected"),
    [
        (KeyType.ECDSA_P256, ("secp256r1", 256)),
        (KeyType.ECDSA_P384, ("secp384r1", 384)),
        (KeyType.RSA_2048, (None, 2048)),
    ],
)
def test_keys(key_type: KeyType, expected: tuple[str | None, int]) -> None:
    """A key of each type is what it says, as PKCS#8 (facts/acme.md §7); larger RSA is slow."""
    key_pem = generate_key(key_type)
    assert key_pem.startswith(b"-----BEGIN PRIVATE KEY-----")
    key = serialization.load_pem_private_key(key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    curve = key.curve.name if isinstance(key, ec.EllipticCurvePrivateKey) else None
    assert (curve, key.key_size) == expected
    assert key_type_of(key) is key_type
    assert key_type_of(key.public_key()) is key_type


@pytest.mark.parametrize("key_type", KeyType)
def test_each_key_type_from_csr_to_pair(key_type: KeyType) -> None:
    """The CA is asked for a certificate of the very key, and the stored pair says its type."""
    key_pem = generate_key(key_type)
    csr = x509.load_der_x509_csr(csr_der(key_pem, [A]))
    assert csr.is_signature_valid
    assert key_type_of(csr.public_key()) is key_type
    key = serialization.load_pem_private_key(key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    assert csr.public_key() == key.public_key()
    leaf = certified("", INTERMEDIATE, names=[A], key=key)
    bundle = checked_bundle(key_pem, leaf.pem + INTERMEDIATE.pem, [A], NOW)
    assert bundle.leaf.key_type is key_type
    assert parse_pair(bundle.chain_pem, bundle.key_pem) == bundle.leaf


def test_other_keys_have_no_type() -> None:
    """Kinds that can't be asked for are none (model.KeyType)."""
    assert key_type_of(ed25519.Ed25519PrivateKey.generate()) is None
    assert key_type_of(ec.generate_private_key(ec.SECP521R1())) is None
    assert key_type_of(rsa.generate_private_key(65537, 1024)) is None
    assert key_type_of("key") is None


@pytest.mark.parametrize("names", [[A], [B, A], [DnsName(f"{'x' * 63}.{'y' * 60}.example.com")]])
def test_csr(names: list[DnsName]) -> None:
    """All names in the SAN, in order, and an empty subject: a CN over 64 can't be (§4)."""
    key_pem = generate_key(KeyType.ECDSA_P256)
    csr = x509.load_der_x509_csr(csr_der(key_pem, names))
    san = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.DNSName) == names
    assert len(csr.extensions) == 1
    assert csr.subject == x509.Name([])
    assert csr.is_signature_valid
    key = serialization.load_pem_private_key(key_pem, None)
    assert csr.public_key() == key.public_key()  # type: ignore[union-attr]


V4, V6 = DnsName("203.0.113.7"), DnsName("2001:db8::1")


def test_csr_for_addresses() -> None:
    """Addresses are iPAddress entries of the SAN (RFC 8738 §3), in the order asked."""
    csr = x509.load_der_x509_csr(csr_der(generate_key(KeyType.ECDSA_P256), [V4, A, V6]))
    san = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(san) == [
        x509.IPAddress(ipaddress.ip_address(V4)),
        x509.DNSName(A),
        x509.IPAddress(ipaddress.ip_address(V6)),
    ]
    assert csr.subject == x509.Name([])


def test_a_bundle_for_addresses() -> None:
    """They are read back as they were asked for, and count as names of the order."""
    leaf = certified("", INTERMEDIATE, names=[V4, V6, A])
    chain = leaf.pem + INTERMEDIATE.pem
    assert checked_bundle(leaf.key_pem, chain, [A, V6, V4], NOW).leaf.names == {A, V4, V6}
    for ordered in ([A, V4], [A, V6, DnsName("203.0.113.8")]):
        with pytest.raises(Unfit, match="names are not those"):
            checked_bundle(leaf.key_pem, chain, ordered, NOW)
    assert placeholder([V4, A, V6], NOW).leaf.names == {A, V4, V6}


def test_an_address_of_another_length_is_unfit() -> None:
    """An address has 4 octets or 16 (RFC 5280 §4.2.1.6)."""
    octets = b"\x87\x04" + ipaddress.ip_address(V4).packed
    leaf = certified("", INTERMEDIATE, names=[V4, "1.2.3.4"], key=LEAF.key)
    pem = spoilt(leaf, octets + b"\x87\x04\x01\x02\x03\x04", b"\x87\x0a" + bytes(10))
    with pytest.raises(Unfit):
        parse_pair(pem, leaf.key_pem)


RFC_9773_KEY_ID = bytes.fromhex("69885B6B87464041E1B37B847BA0AE2CDE01C8D4")


@pytest.mark.parametrize(
    ("serial", "octets"),
    [
        (0x87654321, "AIdlQyE"),
        (0x7FFF, "f_8"),
        (0x8000, "AIAA"),
        (0x80, "AIA"),
        (0x7F, "fw"),
        (1, "AQ"),
        (0, "AA"),
        (-1, "_w"),
        (-128, "gA"),
        (-129, "_38"),
    ],
)
def test_renewal_id(serial: int, octets: str) -> None:
    """The first is RFC 9773's own; a serial with its top bit set gets a zero octet, as in DER."""
    assert renewal_id(RFC_9773_KEY_ID, serial) == f"aYhba4dGQEHhs3uEe6CuLN4ByNQ.{octets}"


@given(st.integers(-(1 << 160), 1 << 160))
def test_renewal_id_is_der(serial: int) -> None:
    """The shortest octets in two's complement (X.690 §8.3), without padding."""
    _, _, text = renewal_id(b"\x00", serial).partition(".")
    assert "=" not in text
    octets = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    assert int.from_bytes(octets, "big", signed=True) == serial
    assert len(octets) == 1 or octets[:2] not in (b"\x00\x00", b"\xff\xff")
    if len(octets) > 1:
        assert not (octets[0] == 0 and octets[1] < 0x80)
        assert not (octets[0] == 0xFF and octets[1] >= 0x80)


def test_the_renewal_id_of_a_certificate() -> None:
    """From its Authority Key Identifier and serial; without the former there is none."""
    authority = x509.AuthorityKeyIdentifier(RFC_9773_KEY_ID, None, None)
    leaf = certified("", INTERMEDIATE, names=[A], serial=0x87654321, extension=authority)
    parsed = parse_pair(leaf.pem, leaf.key_pem)
    assert parsed.renewal_id == "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"
    der = leaf.certificate.public_bytes(serialization.Encoding.DER)
    assert bytes.fromhex("02050087654321") in der
    assert parse_pair(LEAF.pem, LEAF.key_pem).renewal_id is None
    by_name = x509.AuthorityKeyIdentifier(
        None, [x509.DirectoryName(ROOT.certificate.subject)], 1234
    )
    other = certified("", INTERMEDIATE, names=[A], extension=by_name)
    assert parse_pair(other.pem, other.key_pem).renewal_id is None


def test_the_leaf_for_revocation() -> None:
    """The first certificate of the chain, as DER (RFC 8555 §7.6)."""
    assert leaf_der(CHAIN) == LEAF.certificate.public_bytes(serialization.Encoding.DER)
    with pytest.raises(Unfit, match="not PEM"):
        leaf_der(b"garbage")


def test_csr_of_an_unusable_key() -> None:
    """A pending key that was spoilt in its Secret is Unfit (stores/memory.py)."""
    with pytest.raises(Unfit, match="not readable"):
        csr_der(b"garbage", [A])
