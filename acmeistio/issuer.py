"""What there is to know of a CA before it is asked: where it is, its limits, its profiles.

Owns the values that describe an issuer and the two that are built in; knows nothing of files and
options that they come from (settings/) nor of what is spent already (planning/limits.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from acmeistio.names import DnsName, is_ip_address, is_wildcard

DNS_CHALLENGE_TYPES = frozenset({"dns-01", "dns-account-01", "dns-persist-01"})


@dataclass(frozen=True, slots=True)
class Limit:
    """So many at once, then another one each time that `every` has passed: a token bucket."""

    burst: int
    every: timedelta


@dataclass(frozen=True, slots=True)
class Limits:
    """What a CA lets one client do; None where no limit is known.

    `orders` are newOrder requests of an account. `certificates_per_domain` counts registered
    domains, `certificates_per_set` exact sets of names, `failures` failed authorizations of a name,
    `failures_in_a_row` those until the CA pauses the name. `requests` and `nonces` are of this
    client. With `exempts_renewals` a certificate of the same names, or one that replaces another
    as the CA suggested, costs what Let's Encrypt lets it cost.
    """

    orders: Limit | None = None
    certificates_per_domain: Limit | None = None
    certificates_per_set: Limit | None = None
    failures: Limit | None = None
    failures_in_a_row: Limit | None = None
    requests: Limit | None = None
    nonces: Limit | None = None
    exempts_renewals: bool = True


@dataclass(frozen=True, slots=True)
class Profile:
    """A certificate profile of a CA: how many names fit, and whether IP addresses may be there."""

    max_names: int
    ip_addresses: bool = False


@dataclass(frozen=True, slots=True)
class ExternalAccount:
    """An account that the CA's customer has elsewhere (RFC 8555 §7.3.4).

    Its MAC key lies in the Secret `secret_name`, beside acmeistio's own, under `hmac-key`.
    """

    key_id: str
    secret_name: str


@dataclass(frozen=True, slots=True)
class Issuer:
    """One CA directory and what is particular to it.

    `challenge_types` are those that this installation has a Solver for at this CA; `max_names`
    bounds the names of one certificate, where its profile is none of `profiles`. `trusted` is false
    for a CA that no browser knows: it never replaces a certificate of one that is. `fallback` names
    another issuer for certificates that would otherwise run out.
    """

    name: str
    directory_url: str
    ca_bundle: str | None = None
    email: str | None = None
    external_account: ExternalAccount | None = None
    profile: str | None = None
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    preferred_chain: str | None = None
    fallback: str | None = None
    trusted: bool = True
    limits: Limits = Limits()
    challenge_types: frozenset[str] = frozenset({"http-01"})
    max_names: int = 100

    def can_issue(self, names: Collection[DnsName], profile: str | None) -> bool:
        """Whether one certificate of a profile may be for all these names."""
        return (
            len(names) <= self.names_in(profile)
            and (self.has_ip_addresses(profile) or not any(map(is_ip_address, names)))
            and (self.has_wildcards or not any(map(is_wildcard, names)))
        )

    @property
    def has_wildcards(self) -> bool:
        """Whether it can validate a wildcard: by DNS only (RFC 8555 §8.3: not by http-01)."""
        return not self.challenge_types.isdisjoint(DNS_CHALLENGE_TYPES)

    def names_in(self, profile: str | None) -> int:
        """How many names a certificate of a profile has room for."""
        known = self.profiles.get(profile or "")
        return known.max_names if known else self.max_names

    def has_ip_addresses(self, profile: str | None) -> bool:
        """Whether a certificate of a profile may be for an IP address (RFC 8738)."""
        known = self.profiles.get(profile or "")
        return known is not None and known.ip_addresses


SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)

LETS_ENCRYPT_PROFILES: Mapping[str, Profile] = {
    "classic": Profile(max_names=100),
    "tlsserver": Profile(max_names=25),
    "shortlived": Profile(max_names=25, ip_addresses=True),
}
"""letsencrypt.org/docs/profiles, 2026-07."""

LETS_ENCRYPT_LIMITS = Limits(
    orders=Limit(300, 3 * HOUR / 300),
    certificates_per_domain=Limit(50, 7 * DAY / 50),
    certificates_per_set=Limit(5, 7 * DAY / 5),
    failures=Limit(5, HOUR / 5),
    failures_in_a_row=Limit(1152, DAY),
    requests=Limit(100, SECOND / 200),
    nonces=Limit(8, SECOND / 16),
)
"""letsencrypt.org/docs/rate-limits, 2026-08; requests a fifth below what the CA allows."""

LETS_ENCRYPT_STAGING_LIMITS = Limits(
    orders=Limit(1500, 3 * HOUR / 1500),
    certificates_per_set=Limit(30_000, 7 * DAY / 30_000),
    failures=Limit(200, HOUR / 200),
    failures_in_a_row=Limit(3600, 6 * HOUR / 3600),
    requests=Limit(15, SECOND / 16),
    nonces=Limit(8, SECOND / 16),
)
"""letsencrypt.org/docs/staging-environment, 2026-04."""

BUILT_IN: Mapping[str, Issuer] = {
    "letsencrypt": Issuer(
        name="letsencrypt",
        directory_url="https://acme-v02.api.letsencrypt.org/directory",
        profiles=LETS_ENCRYPT_PROFILES,
        limits=LETS_ENCRYPT_LIMITS,
    ),
    "letsencrypt-staging": Issuer(
        name="letsencrypt-staging",
        directory_url="https://acme-staging-v02.api.letsencrypt.org/directory",
        profiles=LETS_ENCRYPT_PROFILES,
        limits=LETS_ENCRYPT_STAGING_LIMITS,
        trusted=False,
    ),
}
"""The issuers that need no configuration."""
