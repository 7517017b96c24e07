"""How a simulated CA behaves: its settings as one value; owns no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType

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


LETS_ENCRYPT_PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        "classic": Profile("The profile you are used to", timedelta(days=90), 100),
        "tlsserver": Profile("Nothing but what TLS servers need", timedelta(days=45), 25),
        "shortlived": Profile("Six days and sixteen hours", timedelta(hours=160), 25),
    }
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
