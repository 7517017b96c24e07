"""The ports Clock, Entropy and Workers over this machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TypeVar

from acmeistio.model import KeyType
from acmeistio.pki import generate_key

T = TypeVar("T")

WORKER_THREADS = 4


class SystemClock:
    """The machine's clock and the event loop's sleep."""

    def now(self) -> datetime:
        """See Clock.now."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """See Clock.monotonic."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """See Clock.sleep."""
        await asyncio.sleep(seconds)


class SystemEntropy:
    """The operating system's randomness."""

    def private_key(self, key_type: KeyType) -> bytes:
        """See Entropy.private_key."""
        return generate_key(key_type)


class ThreadWorkers:
    """A few threads."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(WORKER_THREADS, "acmeistio-worker")

    async def run(self, work: Callable[[], T]) -> T:
        """See Workers.run."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """Wait for what runs and end."""
        self._threads.shutdown()
