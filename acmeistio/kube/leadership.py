"""Leadership for an installation with one replica, whose Deployment never runs two (Recreate)."""

from __future__ import annotations

from acmeistio.ports import Term


class SoleReplica:
    """The pod leads from its start to its end."""

    def __init__(self, pod_name: str) -> None:
        self._term = Term(pod_name, 1)

    async def acquire(self) -> Term:
        """See Leadership.acquire."""
        return self._term

    def holds(self, term: Term) -> bool:
        """See Leadership.holds."""
        return term == self._term

    async def release(self) -> None:
        """See Leadership.release. There is nobody to take over."""
