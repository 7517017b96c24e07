"""One order from newOrder to the certificate (RFC 8555 §7.4), resumable by its URL.

Owns the order's states and what is done in each:

    pending ──present, respond, wait──► ready ──finalize──► processing ──wait──► valid ──► chain
       └────────────────────────────► invalid ◄───────────────┘

A fresh order is never assumed to be pending: CAs hand out an existing one with old
authorizations. Each challenge is responded to once; the order is polled, not its authorizations.
It knows nothing of where the key of the certificate is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from acme import challenges, messages
from josepy import errors as jose_errors
from josepy.json_util import encode_b64jose

from acmeistio.acme.problem import Problem, parse_problem
from acmeistio.acme.session import ProblemResponse, Reply, Session, Signer
from acmeistio.acme.solver import ChallengeResponse, Solver
from acmeistio.errors import AcmeistioError, Permanent, Transient
from acmeistio.names import DnsName
from acmeistio.ports import Clock

FIRST_POLL_SECONDS = 0.02
LONGEST_POLL_SECONDS = 10.0
"""Doubled from the first to the longest; a Retry-After is a floor."""

FETCH_WAIT_SECONDS = 1.0
"""Polling starts when the CA has fetched every token, or after this, then at this pace: a name
whose DNS points elsewhere is never fetched here."""

HURRIED_POLLS_PER_TOKEN = 10
"""CAs fetch a token about six times; whoever fetches it more often does not speed up polling."""

FETCH_TO_NEWS_SECONDS = 0.005
"""From a fetch to what the CA makes of it: the answer has to reach it first."""

VALIDATION_SECONDS = 180.0
ISSUANCE_SECONDS = 180.0
"""How long an order is watched in one go; then it is left open and resumed later."""

SETTLE_SECONDS = 30.0
"""How long the other names of an invalid order are still answered for."""

LINGER_SECONDS = 10.0
"""How long is still answered for after something that passes went wrong in between."""

CLEAN_UP_SECONDS = 10.0

_GONE_STATUS = frozenset({401, 403, 404, 410})


class OrderGone(AcmeistioError):
    """The CA has no such order for this account; another one has to be made."""


@dataclass(frozen=True, slots=True)
class NameFailure:
    """One name that the CA did not validate, or refuses to."""

    name: DnsName
    problem: Problem


class NamesFailed(AcmeistioError):
    """The order is invalid because of some of its names."""

    def __init__(self, failures: Sequence[NameFailure]) -> None:
        super().__init__("; ".join(f"{f.name}: {f.problem}" for f in failures))
        self.failures = tuple(failures)


@dataclass(frozen=True, slots=True)
class OrderState:
    """An order as the CA showed it last."""

    url: str
    body: messages.Order
    error: Problem | None
    retry_after_seconds: float | None

    @property
    def status(self) -> str:
        """pending, ready, processing, valid or invalid."""
        return str(self.body.status.name)


CsrForOrder = Callable[[], Awaitable[bytes]]
"""The DER CSR of an order; its key is kept before this returns."""


class Ordering:
    """Orders of one account at one CA."""

    def __init__(self, session: Session, signer: Signer, solver: Solver, clock: Clock) -> None:
        self._session = session
        self._signer = signer
        self._solver = solver
        self._clock = clock

    async def create(self, names: Iterable[DnsName], profile: str | None) -> OrderState:
        """A new order (RFC 8555 §7.4). Raises NamesFailed where the CA refuses some names."""
        names = tuple(names)
        identifiers = [
            messages.Identifier(typ=messages.IDENTIFIER_FQDN, value=name) for name in names
        ]
        body = messages.NewOrder(identifiers=identifiers, profile=profile).to_json()
        directory = await self._session.directory()
        try:
            reply = await self._post(directory["newOrder"], body)
        except ProblemResponse as error:
            raise _refused(error, names) from error
        return _order(reply.location, reply)

    async def fetch(self, url: str) -> OrderState:
        """An order by its URL. Raises OrderGone where the CA has none such."""
        try:
            return _order(url, await self._post(url, None))
        except ProblemResponse as error:
            if error.problem.status in _GONE_STATUS:
                raise OrderGone(str(error)) from error
            raise

    async def complete(self, order: OrderState, csr_for: CsrForOrder) -> bytes:
        """The certificate chain (PEM) of an order in whatever state it is.

        Raises NamesFailed, OrderGone, Permanent, Transient. After a Transient the order goes on
        by its URL.
        """
        if order.status == "pending":
            order = await self._validate(order)
        if order.status == "ready":
            order = await self._finalize(order, csr_for)
        if order.status == "processing":
            order = await self._poll(order, "processing", ISSUANCE_SECONDS)
        if order.status != "valid":
            raise await self._why_invalid(order)
        return await self._download(order)

    async def _validate(self, order: OrderState) -> OrderState:
        authorizations = await self._authorizations(order)
        pending = [a for a in authorizations if a.status == messages.STATUS_PENDING]
        found = [_challenge(a, self._solver.challenge_types) for a in pending]
        responses = [self._response(a, c) for a, c in zip(pending, found, strict=True)]
        try:
            await self._solver.present(responses)
            try:
                await self._respond_to_all(found)
                fetched = await self._wait_for_fetches(responses)
                pause = FIRST_POLL_SECONDS if fetched else FETCH_WAIT_SECONDS
                order = await self._poll(order, "pending", VALIDATION_SECONDS, pause, responses)
            except Transient:
                # The CA looks at what it was told of; a name that it can't validate because the
                # answering stopped is no failure of that name.
                await self._clock.sleep(LINGER_SECONDS)
                raise
            if order.status == "invalid":
                await self._settle(order)
            return order
        finally:
            await self._clean_up(responses)

    async def _settle(self, order: OrderState) -> None:
        """Go on answering until every authorization of an invalid order is final.

        One name has failed; the CA still looks at the others, whose authorizations it will
        reuse. Names that would fail because the answering stopped are no failures of theirs.
        """
        pause, deadline = FIRST_POLL_SECONDS, self._clock.monotonic() + SETTLE_SECONDS
        while self._clock.monotonic() < deadline:
            authorizations = await self._authorizations(order)
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

    async def _wait_for_fetches(self, responses: Sequence[ChallengeResponse]) -> bool:
        """Whether all tokens were fetched in the time that is given for it."""
        return await self._first(self._solver.fetched(responses), FETCH_WAIT_SECONDS)

    async def _first(self, news: Coroutine[Any, Any, None], seconds: float) -> bool:
        """Whether `news` came within so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await news
                return True
        return False

    async def _clean_up(self, responses: Sequence[ChallengeResponse]) -> None:
        """Whatever happened, but not for ever."""
        async with asyncio.timeout(CLEAN_UP_SECONDS):
            await self._solver.clean_up(responses)

    async def _finalize(self, order: OrderState, csr_for: CsrForOrder) -> OrderState:
        csr = await csr_for()
        try:
            reply = await self._post(order.body.finalize, {"csr": encode_b64jose(csr)})
        except ProblemResponse as error:
            if error.problem.type != "orderNotReady":
                raise
            return await self.fetch(order.url)
        return _order(order.url, reply)

    async def _poll(
        self,
        order: OrderState,
        leaving: str,
        seconds: float,
        pause: float = FIRST_POLL_SECONDS,
        responses: Sequence[ChallengeResponse] = (),
    ) -> OrderState:
        """The order as soon as it has left the state `leaving`.

        Asked for after `pause`, then ever less often; at once when the CA fetches one of
        `responses` again; never before a Retry-After is over.
        """
        deadline = self._clock.monotonic() + seconds
        floor = order.retry_after_seconds if order.status == leaving == "processing" else None
        hurried = 0
        while True:
            if floor and self._clock.monotonic() + floor > deadline:
                raise Transient(
                    f"the CA wants to be asked in {floor:.0f} s", retry_after_seconds=floor
                )
            awaited = responses if hurried < HURRIED_POLLS_PER_TOKEN * len(responses) else ()
            if await self._pause(pause, floor, awaited):
                pause, hurried = FIRST_POLL_SECONDS, hurried + 1
            order = await self.fetch(order.url)
            if order.status != leaving:
                return order
            if self._clock.monotonic() > deadline:
                raise Transient(f"the CA left the order {leaving} for {seconds:.0f} s")
            pause, floor = min(pause * 2, LONGEST_POLL_SECONDS), order.retry_after_seconds

    async def _pause(
        self, seconds: float, floor: float | None, responses: Sequence[ChallengeResponse]
    ) -> bool:
        """Wait before the next poll; whether a fetch cut it short."""
        if floor or not responses:
            await self._clock.sleep(max(seconds, floor or 0.0))
            return False
        if not await self._first(self._solver.fetched_again(responses), seconds):
            return False
        await self._clock.sleep(FETCH_TO_NEWS_SECONDS)
        return True

    async def _download(self, order: OrderState) -> bytes:
        if not order.body.certificate:
            raise Transient("the CA's valid order has no certificate URL")
        return (await self._post(order.body.certificate, None)).body

    async def _why_invalid(self, order: OrderState) -> AcmeistioError:
        """The failures of an invalid order's names, else the problem of the order itself."""
        try:
            authorizations = await self._authorizations(order)
        except ProblemResponse:
            authorizations = []
        failures = [failure for a in authorizations for failure in _failures(a)]
        if failures:
            return NamesFailed(failures)
        if order.error is None:
            return OrderGone(f"the order is {order.status}, and no name of it has failed")
        return Permanent(str(order.error), problem_type=order.error.type)

    async def _authorizations(self, order: OrderState) -> list[messages.Authorization]:
        urls = order.body.authorizations or ()
        replies = await asyncio.gather(*(self._post(url, None) for url in urls))
        return [_authorization(reply) for reply in replies]

    def _response(
        self, authorization: messages.Authorization, challenge: messages.ChallengeBody
    ) -> ChallengeResponse:
        chall = challenge.chall
        return ChallengeResponse(
            name=authorization.identifier.value,
            token=chall.encode("token"),
            key_authorization=chall.key_authorization(self._signer.key),
        )

    async def _post(self, url: str, payload: dict[str, Any] | None) -> Reply:
        return await self._session.post(url, payload, self._signer)


def _order(url: str, reply: Reply) -> OrderState:
    document = dict(reply.document) if isinstance(reply.document, dict) else {}
    error = document.pop("error", None)
    try:
        body = messages.Order.from_json(document)
    except (jose_errors.Error, ValueError, TypeError, AttributeError) as problem:
        raise Transient("the CA's order is not understood") from problem
    if body.status is None or not body.finalize:
        raise Transient("the CA's order lacks its status or its finalize URL")
    parsed = parse_problem(error) if error else None
    return OrderState(url, body, parsed, reply.retry_after_seconds)


def _authorization(reply: Reply) -> messages.Authorization:
    document = dict(reply.document) if isinstance(reply.document, dict) else {}
    if document.get("status") == "expired":
        # RFC 8555 §7.1.6 has it, acme.messages does not; like revoked, it is no failure.
        document["status"] = "revoked"
    try:
        authorization: messages.Authorization = messages.Authorization.from_json(document)
    except (jose_errors.Error, ValueError, TypeError, AttributeError, KeyError) as problem:
        raise Transient("the CA's authorization is not understood") from problem
    return authorization


def _challenge(
    authorization: messages.Authorization, types: frozenset[str]
) -> messages.ChallengeBody:
    for challenge in authorization.challenges or ():
        chall = challenge.chall
        if isinstance(chall, challenges.KeyAuthorizationChallenge) and chall.typ in types:
            return challenge
    name = DnsName(authorization.identifier.value)
    problem = Problem("", f"the CA offers no challenge of the types {', '.join(sorted(types))}")
    raise NamesFailed([NameFailure(name, problem)])


def _failures(authorization: messages.Authorization) -> list[NameFailure]:
    """What the CA says of a name whose authorization it did not grant."""
    if authorization.status != messages.STATUS_INVALID:
        return []
    name = DnsName(authorization.identifier.value)
    errors = [challenge.error for challenge in authorization.challenges or () if challenge.error]
    problem = Problem("", "the authorization is invalid and no reason is given")
    if errors:
        problem = parse_problem(errors[0].to_json())
    return [NameFailure(name, problem)]


def _refused(error: ProblemResponse, names: Sequence[DnsName]) -> AcmeistioError:
    """A refused newOrder; subproblems say which names it is about (RFC 8555 §6.7.1).

    Let's Encrypt gives none where a single name is refused: its detail quotes the name.
    """
    failures = [
        NameFailure(DnsName(problem.identifier), problem)
        for problem in error.problem.subproblems
        if problem.identifier
    ]
    if not failures and error.problem.type == "rejectedIdentifier":
        quoted = [name for name in names if f'"{name}"' in error.problem.detail]
        blamed = quoted or (names if len(names) == 1 else ())
        failures = [NameFailure(name, error.problem) for name in blamed]
    return NamesFailed(failures) if failures else error
