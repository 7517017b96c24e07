"""A gateway in memory: what a probe meets on its way, healthy unless a fault is planted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from acmeistio.model import GatewayAddress
from acmeistio.names import DnsName
from acmeistio.probe.verdict import Answered, Asked, Broken, Hop
from acmeistio.tokens import Request, Tokens


class SimulatedGateway:
    """Routes every host to the challenge port of the process that lives."""

    def __init__(self, tokens: Callable[[], Tokens]) -> None:
        self._tokens = tokens
        self.faults: dict[str, Answered | Broken] = {}
        """What comes instead, by host."""
        self.seconds = 0.0
        """How long an answer takes."""
        self.slow: set[str] = set()
        """Hosts that answer after a minute."""
        self.asked: list[str] = []

    async def walk(self, name: DnsName, address: GatewayAddress, path: str) -> tuple[Hop, ...]:
        """See Walker.walk."""
        self.asked.append(name)
        asked = Asked("http", address.http_port, path)
        await asyncio.sleep(60.0 if name in self.slow else self.seconds)
        came = self.faults.get(name) or self._answer(name, path)
        return (Hop(asked, came),)

    def _answer(self, name: str, path: str) -> Answered:
        answer = self._tokens().answer(Request("GET", path, "", name, "http"))
        return Answered(answer.status, answer.headers.get("Location"), answer.body)
