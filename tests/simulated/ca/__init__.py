"""A certificate authority in memory: an RFC 8555 server that behaves, and misbehaves on purpose.

`SimulatedCa` is the port Http of acmeistio; it imports nothing else of it, so that what it says
about the client is not said by the client itself. It passes the suite that real Pebble passes
(tests/contract/test_ca.py), which also lists where the two differ.

    ca = SimulatedCa(now=…, sleep=…, random=Random(7), fetch=…, options=CaOptions(…))
    … a client works with `ca` as its Http and `ca.directory_url` …
    assert not ca.violations
"""

from tests.simulated.ca.ca import SimulatedCa
from tests.simulated.ca.options import (
    LETS_ENCRYPT_DOOR,
    LETS_ENCRYPT_LIMITS,
    LETS_ENCRYPT_PROFILES,
    LETS_ENCRYPT_STAGING_DOOR,
    LETS_ENCRYPT_STAGING_LIMITS,
    CaOptions,
    Limit,
    Profile,
    RateLimits,
)
from tests.simulated.ca.problems import Problem, Rule
from tests.simulated.ca.records import (
    Account,
    Authorization,
    Certificate,
    Challenge,
    Limited,
    LimitHit,
    Order,
    Request,
    Resource,
    Status,
    Validation,
    Violation,
    Window,
)
from tests.simulated.ca.world import Weather

__all__ = [
    "LETS_ENCRYPT_DOOR",
    "LETS_ENCRYPT_LIMITS",
    "LETS_ENCRYPT_PROFILES",
    "LETS_ENCRYPT_STAGING_DOOR",
    "LETS_ENCRYPT_STAGING_LIMITS",
    "Account",
    "Authorization",
    "CaOptions",
    "Certificate",
    "Challenge",
    "Limit",
    "LimitHit",
    "Limited",
    "Order",
    "Problem",
    "Profile",
    "RateLimits",
    "Request",
    "Resource",
    "Rule",
    "SimulatedCa",
    "Status",
    "Validation",
    "Violation",
    "Weather",
    "Window",
]
