"""What a CA's directory says (RFC 8555 §7.1.1): its resources, and what is particular to it. Pure.

`acme.messages.Directory` drops the members of meta that it does not know, and refuses the whole
for one of them that is malformed, so meta is read here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from acme import messages

from acmeistio.acme.headers import web_url
from acmeistio.reasons import plain
from acmeistio.sources import untrusted

REQUIRED = ("newNonce", "newAccount", "newOrder")

MAX_PROFILES = 100


@dataclass(frozen=True, slots=True)
class Meta:
    """What a CA says of itself; what it does not say is None, False or empty.

    `profiles` are descriptions by name (draft-ietf-acme-profiles §3), `renewal_info_url` is where
    renewal information is asked for (RFC 9773 §4.1).
    """

    profiles: Mapping[str, str]
    external_account_required: bool
    terms_of_service: str | None
    renewal_info_url: str | None


def parse_directory(body: bytes) -> tuple[messages.Directory, Meta]:
    """The resources by name, and the rest. Raises ValueError for what is no directory."""
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("it is no JSON object")
    if not all(isinstance(document.get(name), str) for name in REQUIRED):
        raise ValueError(f"it lacks one of {', '.join(REQUIRED)}")
    resources = {name: url for name, url in document.items() if isinstance(url, str)}
    return messages.Directory(resources), _meta(document)


def _meta(document: Mapping[str, object]) -> Meta:
    meta = untrusted.mapping(document, "meta")
    profiles = untrusted.mapping(meta, "profiles")
    return Meta(
        profiles={plain(k): plain(profiles[k]) for k in list(profiles)[:MAX_PROFILES]},
        external_account_required=meta.get("externalAccountRequired") is True,
        terms_of_service=web_url(meta.get("termsOfService")),
        renewal_info_url=web_url(document.get("renewalInfo")),
    )
