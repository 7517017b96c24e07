"""The file of issuers: what it may say, and one clear sentence for each mistake."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from acmeistio.errors import Misconfigured
from acmeistio.issuer import BUILT_IN, ExternalAccount, Issuer, Limit, Limits, Profile
from acmeistio.settings import load_settings

URL = "https://ca.example/directory"
LETSENCRYPT_TO_OWN = "{name: letsencrypt, fallback: own}"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own settings."""
    for key in [key for key in os.environ if key.upper().startswith("ACMEISTIO_")]:
        monkeypatch.delenv(key)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the issuers are."""
    return tmp_path / "issuers.yaml"


def issuers(file: Path, text: str, **options: object) -> dict[str, Issuer]:
    """What an installation has that orders from Let's Encrypt, unless `options` say otherwise."""
    file.write_text(text)
    settings = load_settings({"issuer": "letsencrypt", "issuers": file, **options})
    return dict(settings.installation.issuers)


def mistake(file: Path, text: str, **options: object) -> str:
    """What is said about a file."""
    with pytest.raises(Misconfigured) as caught:
        issuers(file, text, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert "pydantic" not in message
    assert "Words" not in message
    return message.removeprefix(f"{file}: ")


def test_every_word(file: Path) -> None:
    """Each word of the file is a value of the Issuer (issuer.py)."""
    (file.parent / "roots.pem").touch()
    found = issuers(
        file,
        f"""
- name: own
  directory: {URL}
  email: me@example.com
  externalAccount: {{keyId: abc, secretName: acmeistio-mac}}
  caBundle: roots.pem
  preferredChain: Own Root
  profile: long
  profiles:
    long: {{maxNames: 7}}
    short: {{maxNames: 3, ipAddresses: true}}
  fallback: letsencrypt
  trusted: true
  maxNames: 50
  limits:
    orders: {{burst: 300, every: 36s}}
    certificatesPerDomain: {{burst: 50, every: 202m}}
    certificatesPerSet: {{burst: 5, every: 34h}}
    failures: {{burst: 5, every: 12m}}
    failuresInARow: {{burst: 1152, every: 1d}}
    requests: {{burst: 100, every: 5ms}}
    nonces: {{burst: 8, every: 62ms}}
    exemptsRenewals: false
""",
    )
    assert found["own"] == Issuer(
        name="own",
        directory_url=URL,
        ca_bundle=str(file.parent / "roots.pem"),
        email="me@example.com",
        external_account=ExternalAccount("abc", "acmeistio-mac"),
        profile="long",
        profiles={"long": Profile(7), "short": Profile(3, ip_addresses=True)},
        preferred_chain="Own Root",
        fallback="letsencrypt",
        limits=Limits(
            orders=Limit(300, timedelta(seconds=36)),
            certificates_per_domain=Limit(50, timedelta(minutes=202)),
            certificates_per_set=Limit(5, timedelta(hours=34)),
            failures=Limit(5, timedelta(minutes=12)),
            failures_in_a_row=Limit(1152, timedelta(days=1)),
            requests=Limit(100, timedelta(milliseconds=5)),
            nonces=Limit(8, timedelta(milliseconds=62)),
            exempts_renewals=False,
        ),
        max_names=50,
    )
    assert found.keys() == {"own", *BUILT_IN}


def test_the_least(file: Path) -> None:
    """A name and a directory; several at once, beside those built in."""
    found = issuers(file, f"[{{name: a, directory: {URL}}}, {{name: b, directory: {URL}/b}}]")
    assert found == {**BUILT_IN, "a": Issuer("a", URL), "b": Issuer("b", URL + "/b")}
    assert issuers(file, "[]") == dict(BUILT_IN)


def test_the_secret_of_an_external_account_has_a_name(file: Path) -> None:
    """Unless the file names one, it is called after the issuer."""
    found = issuers(file, f"[{{name: own, directory: {URL}, externalAccount: {{keyId: k}}}}]")
    assert found["own"].external_account == ExternalAccount("k", "acmeistio-eab-own")


def test_a_built_in_issuer_keeps_what_is_not_said(file: Path) -> None:
    """An entry of its name overrides word by word; null is the absence of a limit."""
    found = issuers(
        file,
        """
- name: letsencrypt
  profile: tlsserver
  profiles: {tlsserver: {maxNames: 20}}
  limits: {orders: {burst: 10, every: 1h}, failuresInARow: null}
""",
    )
    base = BUILT_IN["letsencrypt"]
    assert found["letsencrypt"] == replace(
        base,
        profile="tlsserver",
        profiles={**base.profiles, "tlsserver": Profile(20)},
        limits=replace(base.limits, orders=Limit(10, timedelta(hours=1)), failures_in_a_row=None),
    )
    assert found["letsencrypt-staging"] == BUILT_IN["letsencrypt-staging"]


def test_ip_addresses_without_profiles(file: Path) -> None:
    """A CA that has no profiles may have IP addresses all the same."""
    text = f"[{{name: own, directory: {URL}, maxNames: 9, ipAddresses: true}}]"
    own = issuers(file, text)["own"]
    assert (own.has_ip_addresses(None), own.names_in(None)) == (True, 9)
    assert own.has_ip_addresses("else") is False


def test_options_describe_the_default_issuer(file: Path) -> None:
    """What the file leaves out of it; saying the same twice is no mistake."""
    found = issuers(
        file,
        f"[{{name: own, directory: {URL}, profile: short, maxNames: 9}}]",
        issuer="own",
        directory=URL,
        email="me@example.com",
    )
    own = Issuer("own", URL, email="me@example.com", profile="short", max_names=9)
    assert found["own"] == own
    staging = issuers(
        file,
        "[{name: letsencrypt-staging, maxNames: 9}]",
        issuer="letsencrypt-staging",
        directory=URL,
    )["letsencrypt-staging"]
    assert staging == Issuer("letsencrypt-staging", URL, trusted=False, max_names=9)


def test_options_and_file_don_t_contradict(file: Path) -> None:
    """Both are named, and all at once."""
    message = mistake(
        file,
        f"[{{name: own, directory: {URL}, email: me@example.com}}]",
        issuer="own",
        directory="https://other.example/d",
        email="you@example.com",
    )
    assert message == (
        f"--directory https://other.example/d contradicts directory {URL} of issuer own in {file}; "
        "say it in one of the two; --email you@example.com contradicts email me@example.com of "
        f"issuer own in {file}; say it in one of the two"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("emial: x", "emial is an unknown word; did you mean email?"),
        ("zzz: x", "zzz is an unknown word; known are name, directory, email, externalAccount"),
        ("limits: {order: {burst: 1, every: 1s}}", "limits.order is an unknown word; did you mean"),
        (
            "limits: {orders: {bursts: 1, burst: 1, every: 1s}}",
            "limits.orders.bursts is an unknown word; did you mean burst?",
        ),
        (
            "profiles: {p: {max_names: 1, maxNames: 2}}",
            "profiles.p.max_names is an unknown word; did you mean maxNames?",
        ),
        (
            "externalAccount: {keyId: k, hmacKey: c2VjcmV0}",
            "externalAccount.hmacKey is an unknown word; known are keyId, secretName",
        ),
        ("externalAccount: {}", "externalAccount.keyId is missing"),
        (
            "externalAccount: {keyId: 12}",
            "externalAccount.keyId: 12 is not a text; put it in quotes",
        ),
        (
            "externalAccount: {keyId: k, secretName: mac}",
            "externalAccount.secretName: 'mac' must begin with acmeistio-",
        ),
        (
            "externalAccount: {keyId: k, secretName: acmeistio-account-own}",
            "externalAccount.secretName: 'acmeistio-account-own' must begin with acmeistio-",
        ),
        ("externalAccount: {keyId: k, secretName: A}", "externalAccount.secretName: 'A' is not a"),
        ("preferredChain: ''", "preferredChain: it is empty"),
        ("profile: two words", "profile: 'two words' is not the name of a profile"),
        ("profiles: [p]", "profiles: ['p'] is not a mapping of words to values"),
        ("limits: {orders: 300}", "limits.orders: 300 is not a mapping of words to values"),
        ("limits: {orders: {burst: 0, every: 1s}}", "limits.orders.burst: 0: "),
        ("limits: {orders: {burst: 1, every: 36}}", "limits.orders.every: 36 is no duration"),
        ("limits: {orders: {burst: 1, every: 0s}}", "limits.orders.every: '0s' is no duration"),
        ("limits: {orders: {burst: 1, every: 1w}}", "limits.orders.every: '1w' is no duration"),
        (
            "limits: {orders: {burst: 1000000, every: 999999999d}}",
            "limits.orders: burst times every is longer than ten years",
        ),
        ("trusted: perhaps", "trusted: 'perhaps': "),
        ("maxNames: 0", "maxNames: 0: "),
        ("caBundle: no.pem", "caBundle: there is no file "),
        ("fallback: Other", "fallback: 'Other' is not a name of lower-case letters"),
    ],
)
def test_each_mistake(file: Path, words: str, said: str) -> None:
    """It names the issuer, the place, and what is possible there."""
    message = mistake(file, f"- name: own\n  directory: {URL}\n  {words}\n")
    assert message.startswith(f"issuer own: {said}")
    assert "c2VjcmV0" not in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: own", "a list is expected, such as [{name: own, directory: https://…}]"),
        ("", "a list is expected"),
        ("[own]", "item 1: 'own' is not a mapping of words to values"),
        (f"[{{directory: {URL}}}]", "item 1: name is missing"),
        (f"[{{name: Own, directory: {URL}}}]", "issuer Own: name: 'Own' is not a name of lower-"),
        (f"[{{name: {'a' * 64}, directory: {URL}}}]", f"issuer {'a' * 64}: name: "),
        ("[{name: own}]", "issuer own: directory is missing: the URL of its ACME directory"),
        (
            "[{name: own, directory: 'http://ca.example/d'}]",
            "issuer own: directory: 'http://ca.example/d' is not a CA's directory, which is an ",
        ),
        (
            f"[{{name: own, directory: {URL}}}, {{name: own, directory: {URL}}}]",
            "issuer own stands there 2 times; give each a name of its own",
        ),
    ],
)
def test_each_mistake_in_the_whole(file: Path, text: str, said: str) -> None:
    """The same where an issuer can't be told by its name."""
    assert mistake(file, text).startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            f"[{{name: own, directory: {URL}, fallback: other}}]",
            "issuer own: fallback other is not configured; known: letsencrypt, letsencrypt-staging",
        ),
        (
            f"[{{name: own, directory: {URL}, fallback: own}}]",
            "issuer own: fallback own leads back to own",
        ),
        (
            f"[{{name: own, directory: {URL}, fallback: letsencrypt}}, {LETSENCRYPT_TO_OWN}]",
            "issuer letsencrypt: fallback own leads back to letsencrypt",
        ),
        (
            "[{name: letsencrypt, fallback: letsencrypt-staging}]",
            "issuer letsencrypt: fallback letsencrypt-staging is not trusted by browsers, and lets",
        ),
    ],
)
def test_wrong_fallbacks(file: Path, text: str, said: str) -> None:
    """Another issuer that exists, is no less trusted, and does not lead back."""
    assert mistake(file, text).startswith(said)


def test_a_fallback_may_be_the_default_issuer_or_trusted_better(file: Path) -> None:
    """Those that options describe and those built in are issuers as well."""
    found = issuers(
        file,
        f"""
- {{name: own, directory: {URL}, fallback: corp}}
- {{name: letsencrypt-staging, fallback: letsencrypt}}
""",
        issuer="corp",
        directory="https://corp.example/d",
    )
    assert found["own"].fallback == "corp"
    assert found["letsencrypt-staging"].fallback == "letsencrypt"


def test_all_mistakes_at_once(file: Path) -> None:
    """Whoever made several sees them all, wherever they are."""
    message = mistake(file, f"[{{name: own, directory: x, emial: y}}, {{directory: {URL}}}]")
    for said in ("issuer own: directory", "emial", "item 2: name is missing"):
        assert said in message


@pytest.mark.parametrize("text", ["[{", "a: b: c", "[2026-13-45]", "\x00", "[" * 5000])
def test_what_is_no_yaml(file: Path, text: str) -> None:
    """Whatever stands there: one line that names the file."""
    assert mistake(file, text).startswith(f"--issuers {file} is not YAML")


def test_a_file_that_can_t_be_read(tmp_path: Path) -> None:
    """The reason is the system's."""
    with pytest.raises(Misconfigured) as caught:
        load_settings({"issuer": "letsencrypt", "issuers": tmp_path / "none.yaml"})
    assert str(caught.value) == (
        f"--issuers {tmp_path / 'none.yaml'} can't be read: No such file or directory"
    )


def test_bytes_that_are_no_text(file: Path) -> None:
    """A file of another encoding."""
    file.write_bytes(b"\xff\xfe[]")
    with pytest.raises(Misconfigured, match="is not YAML"):
        load_settings({"issuer": "letsencrypt", "issuers": file})
