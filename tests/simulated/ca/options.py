"""How a simulated CA behaves: its settings as one value; owns no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType

from tests.simulated.ca.external import ExternalAccounts
from tests.simulated.ca.records import Resource

Seconds = tuple[float, float]
"""The shortest and the longest duration, in seconds; each one is drawn evenly between."""

INSTANTLY: Seconds = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Profile:
    """A certificate profile, as the directory's meta lists them (draft-ietf-acme-profiles).

    `validity` counts from notBefore to notAfter, both included (RFC 5280 §4.1.2.5).
    """

    description: str
    validity: timedelta
    max_names: int
    ip_addresses: bool = False
    """Whether it takes IP addresses (RFC 8738)."""


LETS_ENCRYPT_PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        "classic": Profile("The profile you are used to", timedelta(days=90), 100),
        "tlsserver": Profile("Nothing but what TLS servers need", timedelta(days=45), 25),
        "shortlived": Profile("Six days and sixteen hours", timedelta(hours=160), 25, True),
    }
)


@dataclass(frozen=True, slots=True)
class Limit:
    """A bucket of `capacity` tokens; an empty one is full again after `period`."""

    capacity: int
    period: timedelta


@dataclass(frozen=True, slots=True)
class RateLimits:
    """How much a CA allows (Let's Encrypt's docs/rate-limits, of 2026-08-05).

    A client is one IP address here; its range (/48 of IPv6) never allows less than that.
    """

    accounts_per_client: Limit
    orders_per_account: Limit
    certificates_per_domain: Limit
    """Per registered domain, IPv4 address or IPv6 /64; all accounts together."""
    certificates_per_set: Limit
    """Per exact set of names; all accounts together."""
    failures_per_name: Limit
    """Failed authorizations per name and account."""
    failures_until_pause: Limit
    """Per name and account; one success fills it again, none left is a pause."""


_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)

LETS_ENCRYPT_LIMITS = RateLimits(
    accounts_per_client=Limit(10, 3 * _HOUR),
    orders_per_account=Limit(300, 3 * _HOUR),
    certificates_per_domain=Limit(50, 7 * _DAY),
    certificates_per_set=Limit(5, 7 * _DAY),
    failures_per_name=Limit(5, _HOUR),
    failures_until_pause=Limit(1152, 1152 * _DAY),
)
LETS_ENCRYPT_STAGING_LIMITS = RateLimits(
    accounts_per_client=Limit(50, 3 * _HOUR),
    orders_per_account=Limit(1500, 3 * _HOUR),
    certificates_per_domain=Limit(30_000, timedelta(seconds=1)),
    certificates_per_set=Limit(30_000, 7 * _DAY),
    failures_per_name=Limit(200, _HOUR),
    failures_until_pause=Limit(3600, 6 * _HOUR),
)

DoorLimits = Mapping[Resource | None, tuple[float, int]]
"""Requests per second and burst of an endpoint at the load balancer; None for all others."""

LETS_ENCRYPT_DOOR: DoorLimits = MappingProxyType(
    {
        Resource.NEW_NONCE: (20, 10),
        Resource.NEW_ACCOUNT: (5, 15),
        Resource.NEW_ORDER: (300, 200),
        Resource.REVOKE_CERT: (10, 100),
        Resource.RENEWAL_INFO: (1000, 100),
        Resource.DIRECTORY: (40, 40),
        None: (250, 125),
    }
)
LETS_ENCRYPT_STAGING_DOOR: DoorLimits = MappingProxyType(
    {**LETS_ENCRYPT_DOOR, Resource.NEW_ORDER: (20, 40), None: (20, 20)}
)


@dataclass(frozen=True, slots=True)
class CaOptions:
    """What a simulated CA does by itself; what it does on demand are its methods and fields.

    The defaults are Let's Encrypt's rules without its delays.
    """

    latency_seconds: Seconds = INSTANTLY
    """How long a request, and then its reply, is on the way."""

    validation_delay_seconds: Seconds = INSTANTLY
    """From the answer to a challenge to each look at it, drawn anew for every perspective."""

    remote_perspectives: int = 2
    """How many more places look once the first one was content (Let's Encrypt: four or more)."""

    issuance_delay_seconds: Seconds = INSTANTLY
    """How long an order is `processing`; instantly means that finalize answers `valid`."""

    nonce_reject_percent: float = 0
    """How many good nonces are refused as badNonce (Pebble's default: 5)."""

    authorization_reuse_percent: float = 100
    """How often a valid authorization serves a new order too (Let's Encrypt: always)."""

    reuses_orders: bool = True
    """Whether a pending or ready order of the same names is given out again, as Boulder does."""

    retry_after_authorization_seconds: int = 0
    """Retry-After on an authorization that is being validated; 0 sends none (Let's Encrypt)."""

    retry_after_order_seconds: int = 0
    """Retry-After on an order that is processing; 0 sends none (Let's Encrypt: 3)."""

    shows_processing_challenges: bool = False
    """Whether a challenge being validated shows `processing` (Pebble), else `pending` (Boulder)."""

    profiles: Mapping[str, Profile] = field(default_factory=lambda: LETS_ENCRYPT_PROFILES)
    default_profile: str = "classic"

    order_lifetime: timedelta = timedelta(days=7)
    pending_authorization_lifetime: timedelta = timedelta(days=7)
    valid_authorization_lifetime: timedelta = timedelta(days=30)

    backdating: timedelta = timedelta(0)
    """How long before the issuance notBefore lies (Let's Encrypt: an hour)."""

    renewal_info: bool = True
    """Whether the directory offers renewal information (RFC 9773)."""

    renewal_info_retry_after_seconds: int = 21_600
    """Retry-After of renewal information, give or take a fifth by chance (Boulder)."""

    limits: RateLimits | None = None
    """The rate limits; None for none."""

    exempts_renewals: bool = True
    """Whether limits spare renewals, as Let's Encrypt's do; else neither `replaces` inside its
    window nor the same names exempt an order from any of them."""

    requests_per_second: DoorLimits | None = None
    """The limits of the load balancer in front (503); None for none."""

    external_accounts: ExternalAccounts | None = None
    """The external accounts, one of which every new account must be bound to; None for none."""

    alternate_chains: int = 0
    """How many more roots the leaves lead to, each by a certificate of the intermediate's key."""

    cheap: bool = False
    """Whether signatures of requests and CSRs are believed unseen: years in minutes.

    A World does not even sign then (signing.py)."""

    remember: timedelta | None = None
    """How long what is over stays in the public lists and under its URL; None: for ever."""

    public_suffixes: frozenset[str] = frozenset({"co.uk"})
    """Suffixes of more than one label under which domains are registered."""
