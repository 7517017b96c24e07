"""The ports Clock, Entropy and Workers over this machine."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, TypeVar

from acmeistio.model import KeyType
from acmeistio.pki import generate_key

T = TypeVar("T")

WORKER_THREADS = 4

WHOLE_COLLECTION_SECONDS = 24 * 3600.0
"""So seldom garbage is looked for among everything, at once."""


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


class Collecting:
    """Python's collection of cyclic garbage, without its stalls.

    A full collection looks at every object, which holds up the loop for some tenths of a second
    where thousands of certificates are known. Nearly all that survives one is there to stay, so
    the next looks only at what came after it; what has become garbage since waits for the one in
    a day that looks at all. Without cycles objects are freed at once, as ever.
    """

    def __init__(self) -> None:
        self._whole_at = time.monotonic()

    def begin(self) -> None:
        """From now on, in this process; what is there already is there to stay."""
        gc.callbacks.append(self._collecting)
        gc.collect()

    def end(self) -> None:
        """As it was before."""
        gc.callbacks.remove(self._collecting)
        gc.unfreeze()

    def _collecting(self, phase: str, info: dict[str, Any]) -> None:
        if info["generation"] != len(gc.get_threshold()) - 1:
            return
        now = time.monotonic()
        if phase == "stop":
            gc.freeze()
        elif now - self._whole_at >= WHOLE_COLLECTION_SECONDS:
            self._whole_at = now
            gc.unfreeze()
