"""A pending order's way to ready: its challenges are presented, responded to and waited for.

Owns the order of these steps and what is cleaned up when one fails (RFC 8555 §7.5). Each challenge
is responded to once; the order is polled, not its authorizations. How a challenge is made
answerable is the Solver's business.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from typing import Any

from acme import messages
from josepy.jwk import JWK

from acmeistio.acme.authorization import challenge_of, parse_authorization
from acmeistio.acme.polling import FIRST_POLL_SECONDS, OrderState, Polling
from acmeistio.acme.session import Post
from acmeistio.acme.solver import ChallengeResponse, Solver
from acmeistio.errors import Transient
from acmeistio.names import DnsName
from acmeistio.ports import Clock

FETCH_WAIT_SECONDS = 1.0
"""Polling starts when the CA has fetched every token, or after this, then at this pace: a name
whose DNS points elsewhere is never fetched here."""

HURRIED_POLLS_PER_TOKEN = 10
"""CAs fetch a token about six times; whoever fetches it more often does not speed up polling."""

FETCH_TO_NEWS_SECONDS = 0.005
"""From a fetch to what the CA makes of it: the answer has to reach it first."""

VALIDATION_SECONDS = 180.0
"""How long an order is watched in one go; then it is left open and resumed later."""

SETTLE_SECONDS = 30.0
"""How long the other names of an invalid order are still answered for."""

LINGER_SECONDS = 10.0
"""How long is still answered for after something that passes went wrong in between."""

CLEAN_UP_SECONDS = 10.0


class Validation:
    """Validates the orders of one account, whose key is `key`."""

    def __init__(
        self, post: Post, key: JWK, solver: Solver, polling: Polling, clock: Clock
    ) -> None:
        self._post = post
        self._key = key
        self._solver = solver
        self._polling = polling
        self._clock = clock
        self.asked_for: frozenset[DnsName] = frozenset()
        """The names that the CA was asked to validate; the others it had validated before."""

    async def validate(self, order: OrderState) -> OrderState:
        """The order when it is pending no more. Raises NamesFailed, OrderGone, Transient."""
        authorizations = await self.authorizations(order)
        pending = [a for a in authorizations if a.status == messages.STATUS_PENDING]
        self.asked_for = frozenset(DnsName(a.identifier.value) for a in pending)
        found = [challenge_of(a, self._solver.challenge_types) for a in pending]
        responses = [self._response(a, c) for a, c in zip(pending, found, strict=True)]
        try:
            await self._solver.present(responses)
            order = await self._answered(order, found, responses)
            if order.status == "invalid":
                await self._settle(order)
            return order
        finally:
            await self._clean_up(responses)

    async def authorizations(self, order: OrderState) -> list[messages.Authorization]:
        """What the CA says of each name of an order."""
        urls = order.body.authorizations or ()
        replies = await asyncio.gather(*(self._post(url, None) for url in urls))
        return [parse_authorization(reply) for reply in replies]

    async def _answered(
        self,
        order: OrderState,
        found: Sequence[messages.ChallengeBody],
        responses: Sequence[ChallengeResponse],
    ) -> OrderState:
        """The order after all challenges were responded to and looked at."""
        try:
            await self._respond_to_all(found)
            fetched = await _came(self._solver.fetched(responses), FETCH_WAIT_SECONDS)
            pause = FIRST_POLL_SECONDS if fetched else FETCH_WAIT_SECONDS
            news = _Fetches(self._solver, responses, self._clock).wait
            return await self._polling.until_left(order, "pending", VALIDATION_SECONDS, pause, news)
        except Transient:
            # The CA looks at what it was told of; a name that it can't validate because the
            # answering stopped is no failure of that name.
            await self._clock.sleep(LINGER_SECONDS)
            raise

    async def _settle(self, order: OrderState) -> None:
        """Go on answering until every authorization of an invalid order is final.

        One name has failed; the CA still looks at the others, whose authorizations it will
        reuse. Names that would fail because the answering stopped are no failures of theirs.
        """
        pause, deadline = FIRST_POLL_SECONDS, self._clock.monotonic() + SETTLE_SECONDS
        while self._clock.monotonic() < deadline:
            authorizations = await self.authorizations(order)
            if all(a.status != messages.STATUS_PENDING for a in authorizations):
                return
            await self._clock.sleep(pause)
            pause = min(pause * 2, 1.0)

    async def _respond_to_all(self, found: Sequence[messages.ChallengeBody]) -> None:
        """Every challenge is responded to, then the first failure counts."""
        outcomes = await asyncio.gather(*map(self._respond, found), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _respond(self, challenge: messages.ChallengeBody) -> None:
        """Tell the CA that a challenge is answerable: once, and not if it knows already."""
        if challenge.status == messages.STATUS_PENDING:
            await self._post(challenge.uri, {})

    def _response(
        self, authorization: messages.Authorization, challenge: messages.ChallengeBody
    ) -> ChallengeResponse:
        chall = challenge.chall
        return ChallengeResponse(
            name=authorization.identifier.value,
            token=chall.encode("token"),
            key_authorization=chall.key_authorization(self._key),
        )

    async def _clean_up(self, responses: Sequence[ChallengeResponse]) -> None:
        """Whatever happened, but not for ever."""
        async with asyncio.timeout(CLEAN_UP_SECONDS):
            await self._solver.clean_up(responses)


class _Fetches:
    """The CA's looks at the tokens of one order, as signs of news."""

    def __init__(
        self, solver: Solver, responses: Sequence[ChallengeResponse], clock: Clock
    ) -> None:
        self._solver = solver
        self._responses = responses
        self._clock = clock
        self._left = HURRIED_POLLS_PER_TOKEN * len(responses)

    async def wait(self, seconds: float) -> bool:
        """See polling.News."""
        if not self._left:
            await self._clock.sleep(seconds)
            return False
        if not await _came(self._solver.fetched_again(self._responses), seconds):
            return False
        self._left -= 1
        await self._clock.sleep(FETCH_TO_NEWS_SECONDS)
        return True


async def _came(news: Coroutine[Any, Any, None], seconds: float) -> bool:
    """Whether `news` came within so many seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await news
            return True
    return False
