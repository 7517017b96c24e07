"""Orders as the CA shows them, and waiting until one has left a state (RFC 8555 §7.1.3, §7.1.6).

Owns the pace of polling. What is done in which state is not its business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from acme import messages
from josepy import errors as jose_errors

from acmeistio.acme.authorization import name_of
from acmeistio.acme.problem import Problem, parse_problem
from acmeistio.acme.session import Post, ProblemResponse, Reply
from acmeistio.errors import AcmeistioError, Transient
from acmeistio.names import DnsName
from acmeistio.ports import Clock
from acmeistio.sources import untrusted

FIRST_POLL_SECONDS = 0.02
LONGEST_POLL_SECONDS = 10.0
"""Doubled from the first to the longest; a Retry-After is a floor."""

_GONE_STATUS = frozenset({401, 403, 404, 410})

News = Callable[[float], Awaitable[bool]]
"""Waits so many seconds, or less: until there may be news. Whether there may be."""


class OrderGone(AcmeistioError):
    """The CA has no such order for this account; another one has to be made."""


@dataclass(frozen=True, slots=True)
class OrderState:
    """An order as the CA showed it last.

    `replaces` is the certificate that it replaces, in the CA's words (RFC 9773 §5).
    """

    url: str
    body: messages.Order
    error: Problem | None
    retry_after_seconds: float | None
    replaces: str | None = None

    @property
    def status(self) -> str:
        """pending, ready, processing, valid or invalid."""
        return str(self.body.status.name)

    @property
    def names(self) -> tuple[DnsName, ...]:
        """What it is for."""
        return tuple(name_of(each.value) for each in self.body.identifiers or ())


def parse_order(url: str, reply: Reply) -> OrderState:
    """The order in an answer. Raises Transient where it is not understood."""
    document = dict(untrusted.mapping(reply.document))
    error, replaces = document.pop("error", None), untrusted.text(document.get("replaces"))
    try:
        body = messages.Order.from_json(document)
    except (jose_errors.Error, ValueError, TypeError, AttributeError) as problem:
        raise Transient("the CA's order is not understood") from problem
    if body.status is None or not body.finalize:
        raise Transient("the CA's order lacks its status or its finalize URL")
    parsed = parse_problem(error) if error else None
    return OrderState(url, body, parsed, reply.retry_after_seconds, replaces or None)


class Polling:
    """Looks at the orders of one account."""

    def __init__(self, post: Post, clock: Clock) -> None:
        self._post = post
        self._clock = clock

    async def fetch(self, url: str) -> OrderState:
        """An order by its URL. Raises OrderGone where the CA has none such."""
        try:
            return parse_order(url, await self._post(url, None))
        except ProblemResponse as error:
            if error.problem.status in _GONE_STATUS:
                raise OrderGone(str(error)) from error
            raise

    async def until_left(
        self,
        order: OrderState,
        leaving: str,
        seconds: float,
        pause: float = FIRST_POLL_SECONDS,
        news: News | None = None,
    ) -> OrderState:
        """The order as soon as it has left the state `leaving`.

        Asked for after `pause`, then ever less often; anew at the first pace when there may be
        news; never before a Retry-After is over. Raises Transient when `seconds` are over.
        """
        deadline = self._clock.monotonic() + seconds
        floor = order.retry_after_seconds if order.status == leaving == "processing" else None
        while True:
            if floor and self._clock.monotonic() + floor > deadline:
                raise Transient(
                    f"the CA wants to be asked in {floor:.0f} s", retry_after_seconds=floor
                )
            if await self._wait(pause, floor, news):
                pause = FIRST_POLL_SECONDS
            order = await self.fetch(order.url)
            if order.status != leaving:
                return order
            if self._clock.monotonic() > deadline:
                raise Transient(f"the CA left the order {leaving} for {seconds:.0f} s")
            pause, floor = min(pause * 2, LONGEST_POLL_SECONDS), order.retry_after_seconds

    async def _wait(self, pause: float, floor: float | None, news: News | None) -> bool:
        """Wait before the next poll; whether news cut it short."""
        if floor or news is None:
            await self._clock.sleep(max(pause, floor or 0.0))
            return False
        return await news(pause)
