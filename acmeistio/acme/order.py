"""One order from newOrder to the certificate (RFC 8555 §7.4), resumable by its URL.

Owns the order's states and what is done in each:

    pending ──validate──► ready ──finalize──► processing ──wait──► valid ──► chain
       └─────────────────► invalid ◄──────────────┘

A fresh order is never assumed to be pending: CAs hand out an existing one with old
authorizations. It knows nothing of where the key of the certificate is kept.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable

from acme import messages
from josepy.json_util import encode_b64jose

from acmeistio.acme.authorization import (
    NameFailure,
    NamesFailed,
    failures_in,
    failures_of,
    identifier_of,
)
from acmeistio.acme.chain import Chain, download
from acmeistio.acme.polling import OrderGone, OrderState, Polling, parse_order
from acmeistio.acme.session import (
    HTTP_SERVER_ERROR,
    ProblemResponse,
    ServerError,
    Session,
    Signer,
)
from acmeistio.acme.solver import Solver
from acmeistio.acme.validation import Validation
from acmeistio.errors import AcmeistioError, Permanent, Transient
from acmeistio.names import DnsName
from acmeistio.ports import Clock

__all__ = ["Chain", "NameFailure", "NamesFailed", "OrderGone", "OrderState", "Ordering"]

ISSUANCE_SECONDS = 180.0
"""How long an order is watched in one go; then it is left open and resumed later."""

HTTP_CONFLICT = 409

_NOT_REPLACED = frozenset({"malformed", "unauthorized", "conflict", "alreadyReplaced", ""})
"""What is said of `replaces` by CAs: RFC 9773 §5 names only the last but one."""

CsrForOrder = Callable[[], Awaitable[bytes]]
"""The DER CSR of an order; its key is kept before this returns."""


class Ordering:
    """Orders of one account at one CA."""

    def __init__(self, session: Session, signer: Signer, solver: Solver, clock: Clock) -> None:
        self._session = session
        self._post = functools.partial(session.post, signer=signer)
        self._polling = Polling(self._post, clock)
        self._validation = Validation(self._post, signer.key, solver, self._polling, clock)

    @property
    def asked_for(self) -> frozenset[DnsName]:
        """The names that the CA was asked to validate, for whatever order."""
        return self._validation.asked_for

    async def create(
        self, names: Iterable[DnsName], profile: str | None, replaces: str | None = None
    ) -> OrderState:
        """A new order (RFC 8555 §7.4). Raises NamesFailed where the CA refuses some names.

        `replaces` is the certificate that it is to replace (RFC 9773 §5). Where the CA will not
        have that, the order is made without it: OrderState.replaces is what it took.
        """
        names = tuple(names)
        if replaces is not None:
            try:
                return await self._create(names, profile, {"replaces": replaces})
            except (ProblemResponse, ServerError) as error:
                if not _is_about_replaces(error):
                    raise _named(error, names) from error
        try:
            return await self._create(names, profile, {})
        except ProblemResponse as error:
            raise _named(error, names) from error

    async def _create(
        self, names: Iterable[DnsName], profile: str | None, more: dict[str, str]
    ) -> OrderState:
        # acme.messages.NewOrder has no member replaces.
        order = messages.NewOrder(identifiers=list(map(identifier_of, names)), profile=profile)
        url = await self._session.resource("newOrder")
        reply = await self._post(url, {**order.to_json(), **more})
        return parse_order(reply.location, reply)

    async def fetch(self, url: str) -> OrderState:
        """An order by its URL. Raises OrderGone where the CA has none such."""
        return await self._polling.fetch(url)

    async def authorize(self, order: OrderState) -> OrderState:
        """The order when all its names are proved; nothing is finalized.

        Raises NamesFailed, OrderGone, Permanent, Transient.
        """
        if order.status == "pending":
            order = await self._validation.validate(order)
        if order.status == "invalid":
            raise await self._why_invalid(order)
        return order

    async def complete(
        self, order: OrderState, csr_for: CsrForOrder, preferred_chain: str | None = None
    ) -> Chain:
        """The certificate chain of an order in whatever state it is.

        The one that leads to the common name `preferred_chain`, where the CA offers it. Raises
        NamesFailed, OrderGone, Permanent, Transient. After a Transient the order goes on by its
        URL.
        """
        order = await self.authorize(order)
        if order.status == "ready":
            order = await self._finalize(order, csr_for)
        if order.status == "processing":
            order = await self._polling.until_left(order, "processing", ISSUANCE_SECONDS)
        if order.status != "valid":
            raise await self._why_invalid(order)
        if not order.body.certificate:
            raise Transient("the CA's valid order has no certificate URL")
        return await download(self._post, order.body.certificate, preferred_chain)

    async def _finalize(self, order: OrderState, csr_for: CsrForOrder) -> OrderState:
        csr = await csr_for()
        try:
            reply = await self._post(order.body.finalize, {"csr": encode_b64jose(csr)})
        except ProblemResponse as error:
            if error.problem.type != "orderNotReady":
                raise _named(error, order.names) from error
            return await self.fetch(order.url)
        return parse_order(order.url, reply)

    async def _why_invalid(self, order: OrderState) -> AcmeistioError:
        """The failures of an invalid order's names, else the problem of the order itself."""
        try:
            authorizations = await self._validation.authorizations(order)
        except ProblemResponse:
            authorizations = []
        failures = [failure for a in authorizations for failure in failures_of(a)]
        if not failures and order.error:
            failures = failures_in(order.error, order.names)
        if failures:
            return NamesFailed(failures)
        if order.error is None:
            return OrderGone(f"the order is {order.status}, and no name of it has failed")
        return Permanent(str(order.error), problem_type=order.error.type)


def _named(error: AcmeistioError, names: Iterable[DnsName]) -> AcmeistioError:
    """A refusal as a failure of the names that it is about, where it says so."""
    if not isinstance(error, ProblemResponse):
        return error
    failures = failures_in(error.problem, names)
    return NamesFailed(failures) if failures else error


def _is_about_replaces(error: ProblemResponse | ServerError) -> bool:
    """Whether an order may succeed without `replaces`.

    Boulder answers 409, or 400, 403, 404 of a general type; Pebble 500, without Retry-After.
    """
    problem = error.problem
    if isinstance(error, ServerError):
        return problem.status == HTTP_SERVER_ERROR and error.retry_after_seconds is None
    general = problem.status in (400, 403, 404) and problem.type in _NOT_REPLACED
    return (general and not problem.subproblems) or problem.status == HTTP_CONFLICT
