"""Two Secrets for one server: an ECDSA certificate, and an RSA one for clients that know no other.

Owns which of the two is which; both APIs have it (credentialNames, two certificateRefs).
"""

from __future__ import annotations

from collections.abc import Sequence

from acmeistio.model import DEFAULT_KEY_TYPE, KeyType

MOST = 2
"""Istio serves no more certificates for a server or listener."""

DEFAULT_RSA = KeyType.RSA_2048


def key_types(
    secret_names: Sequence[str], wished: KeyType | None, second: KeyType | None = None
) -> list[KeyType | None]:
    """The key type for each Secret of a server; what is wished first, where it has but one.

    The one that is called so is for RSA, else the second, or the first where RSA is wished first.
    What is wished counts within its family.
    """
    if len(secret_names) < MOST:
        return [wished] * len(secret_names)
    wishes = {wish.is_rsa: wish for wish in (second, wished) if wish}
    of_rsa, of_ecdsa = wishes.get(True, DEFAULT_RSA), wishes.get(False, DEFAULT_KEY_TYPE)
    called = [index for index, name in enumerate(secret_names) if "rsa" in name]
    rsa_index = called[0] if len(called) == 1 else int(wished != of_rsa)
    return [of_rsa if index == rsa_index else of_ecdsa for index in range(len(secret_names))]
