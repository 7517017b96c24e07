"""A simulated CA on a virtual clock, and names that answer for it: days pass in milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from tests.contract.raw_acme import Answer, RawClient, certificate_key, csr
from tests.contract.raw_flow import authorization_of, http_01, ready_order
from tests.simulated.ca import CaOptions, Certificate, Rule, SimulatedCa

START = datetime(2030, 1, 1, tzinfo=UTC)
NAME = "www.example.com"
PROFILE = "classic"
DAY_SECONDS = 86_400


def now() -> datetime:
    """The instant: START and what the virtual loop counts."""
    return START + timedelta(seconds=asyncio.get_running_loop().time())


@dataclass
class Scene:
    """A CA and what the names serve: the token's answer, but none of `unreachable`."""

    options: CaOptions = field(default_factory=CaOptions)
    seed: int = 7
    served: dict[str, str] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    unreachable: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Start the CA, on a loop that keeps time for years.

        Months after 0 a float has lost asyncio's nanosecond: a timer of now would never be due.
        """
        asyncio.get_running_loop()._clock_resolution = 1e-6  # type: ignore[attr-defined]
        self.ca = SimulatedCa(
            now=now,
            sleep=asyncio.sleep,
            random=Random(self.seed),
            fetch=self._fetch,
            options=self.options,
        )

    async def _fetch(self, host: str, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        self.fetched.append(host)
        self.hosts.append(headers["host"])
        if host in self.unreachable:
            raise OSError("no route to host")
        answer = self.served.get(path.rpartition("/")[2])
        return (404, b"") if answer is None else (200, answer.encode())

    async def client(self) -> RawClient:
        """A client with an account."""
        client = await RawClient.at(self.ca, self.ca.directory_url)
        await client.new_account()
        return client

    async def certified(
        self, client: RawClient, *names: str, profile: str = PROFILE, **order: Any
    ) -> Answer:
        """The answer to finalize, when all names are proved."""
        ready = await ready_order(self.served, client, profile, *names, **order)
        return await client.post(ready.json["finalize"], csr(certificate_key(), *names))

    def broken(self) -> list[Rule]:
        """The rules that the client broke."""
        return [violation.rule for violation in self.ca.violations]

    async def certificate(self, client: RawClient, *names: str, **order: Any) -> Certificate:
        """The CA's record of a new certificate."""
        assert (await self.certified(client, *names, **order)).status == 200
        return self.ca.certificates[-1]

    async def failed(self, client: RawClient, name: str = NAME, **order: Any) -> None:
        """An order that fails, for its name serves nothing."""
        made = await client.new_order(name, **order)
        assert made.status == 201, made.json
        authorization = await authorization_of(client, made.json)
        await client.post(http_01(authorization)["url"], {})
        await asyncio.sleep(0.001)
        assert (await client.post(made.location)).json["status"] == "invalid"
