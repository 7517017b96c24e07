"""Accounts at CAs as Secrets `acmeistio-account-<issuer>`: key, directory, the account's URL.

The key is stored before the CA hears of it, so that a crash never makes a second account. It
knows nothing of the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from acmeistio.errors import Misconfigured
from acmeistio.model import ACMEISTIO, MANAGED_BY, Issuer
from acmeistio.pki import Unfit
from acmeistio.ports import Manifest, Objects, Term
from acmeistio.stores.secrets import TLS_KEY, decoded, encoded

ACCOUNT_URL = "acmeistio.io/account-url"
DIRECTORY_URL = "acmeistio.io/directory-url"


@dataclass(frozen=True, slots=True)
class StoredAccount:
    """An account's key, and its URL once the CA has given one."""

    key_pem: bytes = field(repr=False)
    url: str | None = None


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
            key_pem = decoded((secret.get("data") or {}).get(TLS_KEY), TLS_KEY)
        except Unfit as error:
            raise Misconfigured(
                f"Secret {self._namespace}/{_name(issuer)} holds no account key ({error}); "
                "restore it, or delete it to register a new account"
            ) from error
        notes = secret["metadata"].get("annotations") or {}
        same_ca = notes.get(DIRECTORY_URL) == issuer.directory_url
        return StoredAccount(key_pem, notes.get(ACCOUNT_URL) if same_ca else None)

    async def write(self, issuer: Issuer, account: StoredAccount, term: Term) -> None:
        """Keep an account."""
        secret = await self._get(issuer)
        if secret is None:
            await self._objects.create(self._filled(self._new(issuer), issuer, account), term)
        else:
            await self._objects.update(self._filled(secret, issuer, account), term)

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

    def _filled(self, secret: Manifest, issuer: Issuer, account: StoredAccount) -> Manifest:
        metadata: dict[str, Any] = dict(secret["metadata"])
        notes = {**(metadata.get("annotations") or {}), DIRECTORY_URL: issuer.directory_url}
        notes.pop(ACCOUNT_URL, None)
        metadata["annotations"] = {**notes, **({ACCOUNT_URL: account.url} if account.url else {})}
        return {**secret, "metadata": metadata, "data": {TLS_KEY: encoded(account.key_pem)}}


def _name(issuer: Issuer) -> str:
    return f"acmeistio-account-{issuer.name}"
