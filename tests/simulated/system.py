"""The ports Clock, Entropy, Workers and Leadership without a machine: virtual, seeded, inline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TypeVar

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from acmeistio.model import KeyType
from acmeistio.pki import generate_key
from acmeistio.ports import Term

T = TypeVar("T")

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""When virtual time begins."""

_CURVES = {
    KeyType.ECDSA_P256: (ec.SECP256R1(), 256),
    KeyType.ECDSA_P384: (ec.SECP384R1(), 384),
}


class VirtualClock:
    """The time of the event loop that runs (virtual_time.py), and the calendar upon it."""

    def __init__(self, start: datetime = EPOCH) -> None:
        self._start = self._read = start
        self._read_at = 0.0

    def now(self) -> datetime:
        """See Clock.now; reckoned once for an instant, at which it is read a dozen times."""
        seconds = self.monotonic()
        if seconds != self._read_at:
            self._read_at, self._read = seconds, self._start + timedelta(seconds=seconds)
        return self._read

    def monotonic(self) -> float:
        """See Clock.monotonic."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """See Clock.sleep."""
        await asyncio.sleep(seconds)

    def jump(self, by: timedelta) -> None:
        """Set the calendar; what was slept is not changed by it."""
        self._start += by
        self._read += by


class SeededEntropy:
    """The same keys for the same seed. RSA keys can't be made so and are real ones."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def private_key(self, key_type: KeyType) -> bytes:
        """See Entropy.private_key."""
        if key_type not in _CURVES:
            return generate_key(key_type)
        curve, bits = _CURVES[key_type]
        key = ec.derive_private_key(self._random.getrandbits(bits - 1) | 1, curve)
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


class InlineWorkers:
    """No threads: the work is done at once, by whoever asks for it."""

    async def run(self, work: Callable[[], T]) -> T:
        """See Workers.run."""
        await asyncio.sleep(0)
        return work()


class ConstantLeadership:
    """One process leads, until a test ends its term."""

    def __init__(self, holder: str = "simulated") -> None:
        self._term = Term(holder, 1)
        self._over = False

    async def acquire(self) -> Term:
        """See Leadership.acquire."""
        return self._term

    def holds(self, term: Term) -> bool:
        """See Leadership.holds."""
        return term == self._term and not self._over

    async def release(self) -> None:
        """See Leadership.release."""
        self._over = True

    def end(self) -> None:
        """Let somebody else have taken over."""
        self._over = True
