"""When acmeistio could not have what it asked for because a test kept it from it.

Whoever takes a right away, grants too little or ends the API server records it here. What the
audit log has of acmeistio at other times is its own doing: test_whole_run.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any


class Spans:
    """The spans of one run of the tests."""

    def __init__(self) -> None:
        self._spans: list[tuple[datetime, datetime]] = []

    @contextmanager
    def record(self) -> Iterator[None]:
        """From now to the end of the block."""
        begin = datetime.now(UTC)
        try:
            yield
        finally:
            self._spans.append((begin, datetime.now(UTC)))

    def have(self, request: dict[str, Any]) -> bool:
        """Whether a request of the audit log falls into one of them, be it in part."""
        came = datetime.fromisoformat(request["requestReceivedTimestamp"])
        answered = datetime.fromisoformat(request["stageTimestamp"])
        return any(came <= end and begin <= answered for begin, end in self._spans)
