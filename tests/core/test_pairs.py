"""sources/pairs.py: which of two Secrets of a server is for which kind of key."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from acmeistio.model import DEFAULT_KEY_TYPE, KeyType
from acmeistio.sources.pairs import DEFAULT_RSA, key_types

WISHES = st.none() | st.sampled_from(KeyType)
NAMES = st.sampled_from(["one", "two", "rsa", "web-rsa", "web-ecdsa"])


@given(st.lists(NAMES, min_size=2, max_size=2), WISHES)
def test_one_of_each(names: list[str], wished: KeyType | None) -> None:
    """Whatever is wished: Istio serves a pair only where the kinds differ (README, Key types)."""
    found = key_types(names, wished)
    assert sorted(key_type is not None and key_type.is_rsa for key_type in found) == [False, True]
    if wished:
        assert wished in found
    assert set(found) - {wished} <= {DEFAULT_KEY_TYPE, DEFAULT_RSA}


@given(st.lists(NAMES, min_size=2, max_size=2), st.sampled_from(KeyType), st.sampled_from(KeyType))
def test_each_as_wished(names: list[str], first: KeyType, second: KeyType) -> None:
    """One wish for each kind; a Secret called `rsa`, else the order, tells whose."""
    assume(first.is_rsa != second.is_rsa)
    found = key_types(names, first, second)
    assert {*found} == {first, second}
    if sum("rsa" in name for name in names) != 1:
        assert found == [first, second]


@given(st.lists(NAMES, max_size=1), WISHES)
def test_a_secret_alone_has_what_is_wished(names: list[str], wished: KeyType | None) -> None:
    """Its name says nothing: `web-rsa` alone is no pair. Of two wishes it has the first."""
    assert key_types(names, wished) == [wished] * len(names)
    assert key_types(names, wished, KeyType.RSA_4096) == [wished] * len(names)


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
