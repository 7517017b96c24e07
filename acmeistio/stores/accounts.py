"""Accounts at CAs as Secrets `acmeistio-account-<issuer>`: keys, directory, the account's URL.

Owns the items and annotations of these Secrets, those that a user asks by too, and reads the keys
of external accounts beside them. It knows nothing of the protocol.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from acmeistio.errors import Conflict, KeyMissing, Misconfigured
from acmeistio.issuer import ExternalAccount, Issuer
from acmeistio.model import ACMEISTIO, MANAGED_BY
from acmeistio.pki import Unfit
from acmeistio.ports import Manifest, Objects, Term
from acmeistio.sources import untrusted
from acmeistio.stores.secrets import TLS_KEY, decoded, encoded

PREFIX = "acmeistio.io/"
ACCOUNT_URL = PREFIX + "account-url"
DIRECTORY_URL = PREFIX + "directory-url"
ROLLOVER_REQUESTED_AT = PREFIX + "rollover-requested-at"
"""Written by users: any change of its value asks for a new key."""
ROLLED_OVER_FOR = PREFIX + "rolled-over-for"
"""The last value of rollover-requested-at that was served."""
DEACTIVATE_REQUESTED = PREFIX + "deactivate-requested"
"""Written by users: "true" ends the account for ever."""
DEACTIVATED_AT = PREFIX + "deactivated-at"

NEXT_KEY = "next.key"
"""The key that the CA was asked to take for the account, as long as its answer is not known."""
HMAC_KEY = "hmac-key"

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class StoredAccount:
    """An account's key, and its URL once the CA has given one; what is asked of it and was done.

    `next_key_pem` is there while nobody knows whether the CA has taken it for the key.
    """

    key_pem: bytes = field(repr=False)
    url: str | None = None
    next_key_pem: bytes | None = field(default=None, repr=False)
    rollover_requested_at: str | None = None
    rolled_over_for: str | None = None
    deactivate_requested: bool = False
    deactivated_at: str | None = None

    @property
    def wants_rollover(self) -> bool:
        """Whether a new key is asked for."""
        asked = self.rollover_requested_at
        return asked is not None and asked != self.rolled_over_for


class AccountStore:
    """One account per issuer."""

    def __init__(self, objects: Objects, namespace: str) -> None:
        self._objects = objects
        self._namespace = namespace

    async def read(self, issuer: Issuer) -> StoredAccount | None:
        """The account for an issuer, None where there is none yet.

        The URL counts only for the directory it was given by. Raises Misconfigured when the
        Secret has no usable key: making a new account silently would lose the old one.
        """
        secret = await self._get(issuer)
        if secret is None:
            return None
        try:
            key_pem, next_key_pem = _keys(secret)
        except Unfit as error:
            raise Misconfigured(
                f"{self.place(issuer)} holds no account key ({error}); "
                "restore it, or delete it to register a new account"
            ) from error
        notes = _notes(secret)
        same_ca = notes.get(DIRECTORY_URL) == issuer.directory_url
        return StoredAccount(
            key_pem,
            notes.get(ACCOUNT_URL) if same_ca else None,
            next_key_pem,
            rollover_requested_at=notes.get(ROLLOVER_REQUESTED_AT),
            rolled_over_for=notes.get(ROLLED_OVER_FOR),
            deactivate_requested=notes.get(DEACTIVATE_REQUESTED) == "true",
            deactivated_at=notes.get(DEACTIVATED_AT),
        )

    async def write(self, issuer: Issuer, account: StoredAccount, term: Term) -> None:
        """Keep an account; what users wrote on it stays.

        Raises Conflict where the Secret holds another account's key: somebody has put it there.
        """
        secret = await self._get(issuer)
        if secret is None:
            await self._objects.create(_filled(self._new(issuer), issuer, account), term)
            return
        try:
            is_own = account.key_pem in _keys(secret)
        except Unfit:
            is_own = False
        if not is_own:
            raise Conflict(f"{self.place(issuer)} was given another key meanwhile")
        await self._objects.update(_filled(secret, issuer, account), term)

    async def external_key(self, external: ExternalAccount) -> str:
        """The MAC key (base64url) of an external account. Raises KeyMissing."""
        name = external.secret_name
        secret = await self._objects.get("Secret", self._namespace, name)
        try:
            key = decoded(untrusted.mapping(secret, "data").get(HMAC_KEY), HMAC_KEY)
        except Unfit as error:
            raise _no_external_key(self._namespace, name, str(error)) from error
        text = key.decode(errors="replace").strip().rstrip("=")
        if not _BASE64URL.fullmatch(text):
            raise _no_external_key(self._namespace, name, f"{HMAC_KEY} is not base64url")
        return text

    def place(self, issuer: Issuer) -> str:
        """Where an account lies, for humans."""
        return f"Secret {self._namespace}/{_name(issuer)}"

    async def _get(self, issuer: Issuer) -> Manifest | None:
        return await self._objects.get("Secret", self._namespace, _name(issuer))

    def _new(self, issuer: Issuer) -> Manifest:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "namespace": self._namespace,
                "name": _name(issuer),
                "labels": {MANAGED_BY: ACMEISTIO},
            },
            "type": "Opaque",
        }


def _filled(secret: Manifest, issuer: Issuer, account: StoredAccount) -> Manifest:
    own = {
        DIRECTORY_URL: issuer.directory_url,
        ACCOUNT_URL: account.url,
        ROLLED_OVER_FOR: account.rolled_over_for,
        DEACTIVATED_AT: account.deactivated_at,
    }
    notes = {**untrusted.mapping(secret, "metadata", "annotations"), **own}
    metadata = {
        **secret["metadata"],
        "annotations": {key: value for key, value in notes.items() if value is not None},
    }
    keys = {TLS_KEY: account.key_pem, NEXT_KEY: account.next_key_pem}
    data = {item: encoded(key) for item, key in keys.items() if key is not None}
    return {**secret, "metadata": metadata, "data": data}


def _keys(secret: Manifest) -> tuple[bytes, bytes | None]:
    """The account's key, and the next one. Raises Unfit."""
    data = untrusted.mapping(secret, "data")
    following = decoded(data[NEXT_KEY], NEXT_KEY) if NEXT_KEY in data else None
    return decoded(data.get(TLS_KEY), TLS_KEY), following


def _notes(secret: Manifest) -> dict[str, str]:
    notes = untrusted.mapping(secret, "metadata", "annotations")
    return {key: value for key, value in notes.items() if isinstance(value, str)}


def _no_external_key(namespace: str, name: str, why: str) -> KeyMissing:
    return KeyMissing(f"Secret {namespace}/{name} holds no key of the external account ({why})")


def _name(issuer: Issuer) -> str:
    return f"acmeistio-account-{issuer.name}"
