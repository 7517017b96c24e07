"""sources/pairs.py: which of two Secrets of a server is for which kind of key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmeistio.model import DEFAULT_KEY_TYPE, KeyType
from acmeistio.sources.pairs import DEFAULT_RSA, key_types

WISHES = st.none() | st.sampled_from(KeyType)
NAMES = st.sampled_from(["one", "two", "rsa", "web-rsa", "web-ecdsa"])


def is_rsa(key_type: KeyType | None) -> bool:
    """Whether a key is for clients that know no other."""
    return key_type is not None and key_type.startswith("rsa")


@given(st.lists(NAMES, min_size=2, max_size=2), WISHES)
def test_one_of_each(names: list[str], wished: KeyType | None) -> None:
    """Whatever is wished: Istio serves a pair only where the kinds differ (README, Key types)."""
    found = key_types(names, wished)
    assert sorted(map(is_rsa, found)) == [False, True]
    if wished:
        assert wished in found
    assert set(found) - {wished} <= {DEFAULT_KEY_TYPE, DEFAULT_RSA}


@given(st.lists(NAMES, max_size=1), WISHES)
def test_a_secret_alone_has_what_is_wished(names: list[str], wished: KeyType | None) -> None:
    """Its name says nothing: `web-rsa` alone is no pair."""
    assert key_types(names, wished) == [wished] * len(names)


@pytest.mark.parametrize(
    ("names", "wished", "expected"),
    [
        (("one", "two"), None, ["ecdsa-p256", "rsa-2048"]),
        (("one", "two"), "ecdsa-p384", ["ecdsa-p384", "rsa-2048"]),
        (("one", "two"), "rsa-3072", ["rsa-3072", "ecdsa-p256"]),
        (("web", "web-rsa"), "ecdsa-p384", ["ecdsa-p384", "rsa-2048"]),
        (("web-rsa", "web"), "ecdsa-p384", ["rsa-2048", "ecdsa-p384"]),
        (("web-rsa", "web"), "rsa-4096", ["rsa-4096", "ecdsa-p256"]),
        (("web", "web-rsa"), "rsa-4096", ["ecdsa-p256", "rsa-4096"]),
    ],
)
def test_a_wish_counts_within_its_kind(
    names: tuple[str, str], wished: str | None, expected: list[str]
) -> None:
    """The other Secret of the pair has the default of its kind; the name `rsa` says which it is."""
    assert key_types(names, KeyType(wished) if wished else None) == expected
