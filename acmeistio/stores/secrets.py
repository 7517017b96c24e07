"""Target Secrets: what one says (Held) and how a Bundle becomes one.

Owns the labels and annotations on target Secrets. Key and chain are always written in one update;
a Secret is never deleted, its type never changes, and what others put on it is kept.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from acmeistio.errors import Conflict
from acmeistio.issuer import Issuer
from acmeistio.model import (
    ACMEISTIO,
    MANAGED_BY,
    CertificateSpec,
    Held,
    Leaf,
    Marks,
    ObjectRef,
    Stored,
    Target,
    Unusable,
    is_by_hand,
)
from acmeistio.pki import Bundle, Unfit, parse_pair
from acmeistio.ports import Manifest, Objects, Term
from acmeistio.sources import untrusted

PREFIX = "acmeistio.io/"
PLACEHOLDER = PREFIX + "placeholder"
LEAF_SHA256 = PREFIX + "leaf-sha256"
DIRECTORY_URL = PREFIX + "directory-url"
ACCOUNT_URL = PREFIX + "account-url"
ISSUER = PREFIX + "issuer"
PROFILE = PREFIX + "profile"
NAMES = PREFIX + "names"
NOT_AFTER = PREFIX + "not-after"
DECLARED_BY = PREFIX + "declared-by"
RENEW_REQUESTED_AT = PREFIX + "renew-requested-at"
"""Written by users: any change of its value forces a renewal."""
RENEWED_FOR = PREFIX + "renewed-for"
"""The last value of renew-requested-at that was served."""
ISSUED_AT = PREFIX + "issued-at"
FALLBACK_FOR = PREFIX + "fallback-for"
"""The directory of the issuer in whose place another made the certificate."""
ALLOW_DOWNGRADE = PREFIX + "allow-downgrade"
REVOKE_REQUESTED = PREFIX + "revoke-requested"
"""Written by users; the second is taken away once another certificate is stored."""
REVOKED_SHA256 = PREFIX + "revoked-leaf-sha256"
"""The leaf that was revoked at a user's request."""

TLS_TYPE = "kubernetes.io/tls"
TLS_CRT = "tls.crt"
TLS_KEY = "tls.key"


@dataclass(frozen=True, slots=True)
class Pair:
    """What a Secret holds, as PEM."""

    chain_pem: bytes = field(repr=False)
    key_pem: bytes = field(repr=False)


class SecretStore:
    """Target Secrets by name. Parsing is remembered by resourceVersion.

    `known` is what was read and has not changed since, as far as anybody told (`forget`).
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.known: dict[Target, Held] = {}
        self._reading: dict[Target, object] = {}
        self._parsed: dict[Target, tuple[str, Stored | Unusable]] = {}

    async def read(self, target: Target) -> Held:
        """What a target Secret holds, None when it does not exist. Raises Transient."""
        reading = self._reading[target] = object()
        secret = await self._objects.get("Secret", target.namespace, target.name)
        if secret is None:
            self._parsed.pop(target, None)
        held = None if secret is None else self._held(target, secret)
        # What changed meanwhile is read again.
        if self._reading.get(target) is reading:
            del self._reading[target]
            self.known[target] = held
        return held

    def forget(self, changed: Collection[ObjectRef] | None) -> None:
        """These objects may have changed, None: any."""
        if changed is None:
            self.known, self._reading = {}, {}
            return
        for ref in changed:
            if ref.kind == "Secret":
                self._forget(Target(ref.namespace, ref.name))

    def _forget(self, target: Target) -> None:
        self.known.pop(target, None)
        self._reading.pop(target, None)

    def retain(self, targets: Collection[Target]) -> None:
        """Nobody asks for others any more."""
        for target in set(self.known).difference(targets):
            self._forget(target)
            self._parsed.pop(target, None)

    def _held(self, target: Target, secret: Manifest) -> Stored | Unusable:
        version = resource_version(secret)
        known = self._parsed.get(target)
        if known and known[0] == version:
            return known[1]
        held = held_by(secret)
        self._parsed[target] = (version, held)
        return held

    async def write(
        self,
        spec: CertificateSpec,
        bundle: Bundle,
        facts: Mapping[str, str | None],
        term: Term,
        *,
        instead_of: Held,
    ) -> None:
        """Store a bundle with what is to be remembered about it.

        `instead_of` is what the Secret held when that was decided. Raises Conflict when the Secret
        changes at this moment, is not acmeistio's, or has got another pair by hand since.
        """
        target = spec.target
        secret = await self._objects.get("Secret", target.namespace, target.name)
        if secret is None:
            await self._put(
                target, self._objects.create(_filled(_new(target), bundle, facts), term)
            )
            return
        held = self._held(target, secret)
        if not held.marks.managed:
            raise Conflict(f"Secret {target} is not acmeistio's")
        if is_by_hand(held) and _sha256(held) != _sha256(instead_of):
            raise Conflict(f"Secret {target} was given another pair by hand meanwhile")
        await self._put(target, self._objects.update(_filled(secret, bundle, facts), term))

    async def pair(self, target: Target) -> Pair:
        """Chain and key as they are stored. Raises Conflict where there is no such pair now."""
        secret = await self._objects.get("Secret", target.namespace, target.name)
        if secret is None or not isinstance(self._held(target, secret), Stored):
            raise Conflict(f"Secret {target} holds no pair any more")
        return Pair(_data(secret, TLS_CRT), _data(secret, TLS_KEY))

    async def note(self, target: Target, facts: Mapping[str, str | None], term: Term) -> None:
        """Remember facts about the pair that is stored. Raises Conflict."""
        secret = await self._objects.get("Secret", target.namespace, target.name)
        if secret is None:
            raise Conflict(f"Secret {target} is gone")
        await self._put(target, self._objects.update(_annotated(secret, facts), term))

    async def _put(self, target: Target, write: Coroutine[Any, Any, Manifest]) -> None:
        """Whatever comes of a write, what was known before it is so no more."""
        try:
            await write
        finally:
            self._forget(target)


def placeholder_facts(spec: CertificateSpec, bundle: Bundle) -> dict[str, str | None]:
    """The annotations of a placeholder."""
    return {**_common(spec, bundle.leaf), PLACEHOLDER: "true"}


def issued_facts(
    spec: CertificateSpec,
    bundle: Bundle,
    issuer: Issuer,
    *,
    account_url: str | None,
    renewed_for: str | None,
    now: datetime,
) -> dict[str, str | None]:
    """The annotations of a certificate from a CA; None takes an annotation away."""
    return {
        **_common(spec, bundle.leaf),
        PLACEHOLDER: None,
        ISSUER: issuer.name,
        DIRECTORY_URL: issuer.directory_url,
        ACCOUNT_URL: account_url,
        ISSUED_AT: _rfc3339(now),
        PROFILE: spec.profile,
        FALLBACK_FOR: spec.fallback_for,
        RENEWED_FOR: renewed_for,
        REVOKE_REQUESTED: None,
        REVOKED_SHA256: None,
    }


def held_by(secret: Manifest) -> Stored | Unusable:
    """What a Secret holds: a proven pair, or why not."""
    marks = marks_of(secret)
    try:
        leaf = parse_pair(_data(secret, TLS_CRT), _data(secret, TLS_KEY))
    except Unfit as error:
        return Unusable(str(error), marks)
    return Stored(leaf, marks)


def _sha256(held: Held) -> str | None:
    return held.leaf.sha256 if isinstance(held, Stored) else None


def marks_of(secret: Manifest) -> Marks:
    """What the labels and annotations of a Secret say."""
    labels, notes = _texts(secret, "labels"), _texts(secret, "annotations")
    return Marks(
        managed=labels.get(MANAGED_BY) == ACMEISTIO and secret.get("type") == TLS_TYPE,
        placeholder=notes.get(PLACEHOLDER) == "true",
        written_sha256=notes.get(LEAF_SHA256),
        directory_url=notes.get(DIRECTORY_URL),
        profile=notes.get(PROFILE),
        declared_by=_references(notes.get(DECLARED_BY)),
        renew_requested_at=notes.get(RENEW_REQUESTED_AT),
        renewed_for=notes.get(RENEWED_FOR),
        account_url=notes.get(ACCOUNT_URL),
        issued_at=_instant(notes.get(ISSUED_AT)),
        fallback_for=notes.get(FALLBACK_FOR),
        allows_downgrade=notes.get(ALLOW_DOWNGRADE) == "true",
        revoke_requested=notes.get(REVOKE_REQUESTED),
        revoked_sha256=notes.get(REVOKED_SHA256),
    )


def _texts(secret: Manifest, part: str) -> dict[str, str]:
    """Labels or annotations; in a file they may be anything, a bare timestamp to begin with."""
    found = untrusted.mapping(secret, "metadata", part)
    return {str(key): str(value) for key, value in found.items() if value is not None}


def resource_version(manifest: Manifest) -> str:
    """The version under which an object was read."""
    return str(manifest["metadata"].get("resourceVersion", ""))


def _common(spec: CertificateSpec, leaf: Leaf) -> dict[str, str | None]:
    references = [[ref.kind, ref.namespace, ref.name] for ref in spec.sources]
    return {
        LEAF_SHA256: leaf.sha256,
        NAMES: ",".join(sorted(leaf.names)),
        NOT_AFTER: _rfc3339(leaf.not_after),
        DECLARED_BY: json.dumps(references),
    }


def _new(target: Target) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": target.namespace, "name": target.name},
        "type": TLS_TYPE,
    }


def _filled(secret: Manifest, bundle: Bundle, facts: Mapping[str, str | None]) -> Manifest:
    """A copy of `secret` with the pair and the facts; everything else on it stays."""
    secret = _annotated(secret, facts)
    metadata = secret["metadata"]
    metadata["labels"] = {**untrusted.mapping(metadata, "labels"), MANAGED_BY: ACMEISTIO}
    pair = {TLS_CRT: encoded(bundle.chain_pem), TLS_KEY: encoded(bundle.key_pem)}
    return {**secret, "data": {**untrusted.mapping(secret, "data"), **pair}}


def _annotated(secret: Manifest, facts: Mapping[str, str | None]) -> Manifest:
    """A copy of `secret` with annotations; None takes one away."""
    metadata = dict(secret["metadata"])
    notes = {**untrusted.mapping(metadata, "annotations"), **facts}
    metadata["annotations"] = {key: value for key, value in notes.items() if value is not None}
    return {**secret, "metadata": metadata}


def encoded(content: bytes) -> str:
    """Bytes as a Secret's data holds them."""
    return base64.b64encode(content).decode()


def _data(secret: Manifest, key: str) -> bytes:
    return decoded(untrusted.mapping(secret, "data").get(key), key)


def decoded(value: Any, key: str) -> bytes:
    """The bytes of an item of a Secret's data. Raises Unfit."""
    if not isinstance(value, str) or not value:
        raise Unfit(f"{key} is missing")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unfit(f"{key} is not base64") from error


def _references(text: Any) -> tuple[ObjectRef, ...]:
    try:
        rows = json.loads(text) if isinstance(text, str) else []
        return tuple(ObjectRef(str(kind), str(ns), str(name)) for kind, ns, name in rows)
    except (ValueError, TypeError):
        return ()


def _instant(text: str | None) -> datetime | None:
    """The instant that an annotation says, None for one that says none."""
    try:
        instant = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return instant if instant.tzinfo else None


def _rfc3339(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")
