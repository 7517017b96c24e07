"""Which groups of the API are served: asked by one for all kinds of a group.

A cluster without the Gateway API is asked for it for ever; one request in a while must do for all
of its kinds in all their versions.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict

from acmeistio.errors import AcmeistioError
from acmeistio.kube.client import Client
from acmeistio.kube.refusals import Missing

REMEMBERED_SECONDS = 5.0
"""Those who ask at about the same time are told the same."""


class Groups:
    """The groups of one API server."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._missing_at: dict[str, float] = {}

    async def is_missing(self, group: str) -> bool:
        """Whether nothing of a group is served. A group that can't be asked for may be there."""
        async with self._asking[group]:
            asked_at = self._missing_at.get(group)
            if asked_at is not None and time.monotonic() - asked_at < REMEMBERED_SECONDS:
                return True
            try:
                await self._client.request("GET", f"/apis/{group}")
            except Missing:
                self._missing_at[group] = time.monotonic()
                return True
            except AcmeistioError:
                pass
            return False
