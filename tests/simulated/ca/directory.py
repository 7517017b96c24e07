"""Where everything is, the resource that all clients begin with (RFC 8555 §7.1.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.simulated.ca.messages import Reply, Urls
from tests.simulated.ca.options import CaOptions
from tests.simulated.ca.records import Resource
from tests.simulated.ca.terms import Terms

_ENTRIES = {
    "newNonce": Resource.NEW_NONCE,
    "newAccount": Resource.NEW_ACCOUNT,
    "newOrder": Resource.NEW_ORDER,
    "revokeCert": Resource.REVOKE_CERT,
    "keyChange": Resource.KEY_CHANGE,
}


@dataclass(eq=False, slots=True)
class Directory:
    """Says what the CA offers."""

    urls: Urls
    options: CaOptions
    terms: Terms

    def show(self, _: str) -> Reply:
        """The directory; renewal information is in it where it is offered (RFC 9773 §3)."""
        content: dict[str, Any] = {name: self.urls.of(each) for name, each in _ENTRIES.items()}
        if self.options.renewal_info:
            content["renewalInfo"] = self.urls.of(Resource.RENEWAL_INFO)
        content["meta"] = {
            "termsOfService": self.terms.url,
            "externalAccountRequired": self.options.external_accounts is not None,
            "profiles": {name: p.description for name, p in self.options.profiles.items()},
        }
        return Reply(200, content)
