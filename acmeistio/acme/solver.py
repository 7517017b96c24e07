"""The seam between an order and what makes its challenges answerable, and HTTP-01 behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from acmeistio.tokens import Tokens


@dataclass(frozen=True, slots=True)
class ChallengeResponse:
    """What has to be answerable for one name."""

    name: str
    token: str = field(repr=False)
    key_authorization: str = field(repr=False)


class Solver(Protocol):
    """Makes one kind of challenge answerable.

    All challenges of an order are presented before the CA is told of the first, so that slow
    ways overlap; `clean_up` is called whatever happened, also if `present` failed.
    """

    challenge_types: frozenset[str]

    async def present(self, responses: Sequence[ChallengeResponse]) -> None:
        """Return when each of an order's challenges is answerable."""

    async def fetched(self, responses: Sequence[ChallengeResponse]) -> None:
        """Return when the CA has looked at each of them: until then there is no news."""

    async def fetched_again(self, responses: Sequence[ChallengeResponse]) -> None:
        """Return when the CA looks at any of them next: then there may be news soon."""

    async def clean_up(self, responses: Sequence[ChallengeResponse]) -> None:
        """Forget them. Quick, and safe to repeat."""


class Http01Solver:
    """HTTP-01 by the map of tokens that the challenge port answers from."""

    challenge_types = frozenset({"http-01"})

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def present(self, responses: Sequence[ChallengeResponse]) -> None:
        """See Solver.present."""
        for response in responses:
            self._tokens.present(response.token, response.key_authorization)

    async def fetched(self, responses: Sequence[ChallengeResponse]) -> None:
        """See Solver.fetched."""
        for response in responses:
            await self._tokens.fetched(response.token)

    async def fetched_again(self, responses: Sequence[ChallengeResponse]) -> None:
        """See Solver.fetched_again."""
        await self._tokens.fetched_again([response.token for response in responses])

    async def clean_up(self, responses: Sequence[ChallengeResponse]) -> None:
        """See Solver.clean_up."""
        for response in responses:
            self._tokens.clean_up(response.token)
