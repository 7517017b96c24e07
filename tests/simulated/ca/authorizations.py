"""How accounts prove that they control names: authorizations and challenges (RFC 8555 §7.5)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from tests.simulated.ca.jws import parse_object
from tests.simulated.ca.limits import Limits
from tests.simulated.ca.messages import Reply, Signed, Urls
from tests.simulated.ca.names import address_of, identifier
from tests.simulated.ca.options import CaOptions
from tests.simulated.ca.problems import (
    Problem,
    Refused,
    Rule,
    malformed,
    not_found,
    unauthorized,
)
from tests.simulated.ca.records import (
    Account,
    Authorization,
    Book,
    Challenge,
    History,
    Resource,
    Status,
    Validation,
)
from tests.simulated.ca.validation import Fetch, look
from tests.simulated.ca.world import World, rfc3339

_KINDS = ("http-01", "dns-01", "tls-alpn-01")
_WILDCARD_KINDS = ("dns-01",)
_ADDRESS_KINDS = ("http-01", "tls-alpn-01")
_TOKEN_BYTES = 32


@dataclass(eq=False, slots=True)
class Authorizations:
    """Gives out authorizations, shows them, validates the challenges that are answered."""

    world: World
    urls: Urls
    options: CaOptions
    book: Book
    history: History
    fetch: Fetch
    limits: Limits
    failing: dict[str, str] = field(default_factory=dict)

    def get(self, account: Account, name: str, profile: str) -> Authorization:
        """A valid one again, within the profile and as often as the options say, or a new one."""
        proof = self.book.latest_proofs.get((account.id, name, profile))
        if (
            proof
            and proof.status(self.world.now()) is Status.VALID
            and self.world.chance(self.options.authorization_reuse_percent)
        ):
            return proof
        return self._open(account, name, profile)

    def show(self, signed: Signed, name: str) -> Reply:
        """An authorization, or its end; one that expired is not found any more, as at Boulder."""
        authorization = self.book.authorizations.get(name)
        now = self.world.now()
        if not authorization or authorization.status(now) is Status.EXPIRED:
            raise not_found("authorization")
        if authorization.account is not signed.asker:
            raise unauthorized("Account does not own authorization")
        if signed.payload:
            return self._deactivate(authorization, signed.payload)
        under_way = authorization.status(now) is Status.PENDING and any(
            challenge.running for challenge in authorization.challenges
        )
        seconds = self.options.retry_after_authorization_seconds if under_way else 0
        headers = self.world.retry_after(seconds)
        return Reply(200, self._document(authorization), headers)

    def challenge(self, signed: Signed, name: str) -> Reply:
        """A challenge shown, or answered (RFC 8555 §7.5.1)."""
        challenge = self.book.challenges.get(name)
        if not challenge or challenge.authorization.status(self.world.now()) is Status.EXPIRED:
            raise not_found("challenge")
        if challenge.authorization.account is not signed.asker:
            raise unauthorized("Account does not own challenge")
        if signed.payload:
            return self._answered(challenge, signed.payload)
        return self._reply_with(challenge)

    def _deactivate(self, authorization: Authorization, payload: bytes) -> Reply:
        """Give it up (RFC 8555 §7.5.2); while it is pending, that is a failure (Boulder ra)."""
        if parse_object(payload) != {"status": "deactivated"}:
            raise malformed("POST-as-GET requests must have an empty payload")
        status = authorization.status(self.world.now())
        if status not in (Status.PENDING, Status.VALID):
            raise malformed(f"Authorization's status {status.value!r} cannot be changed")
        authorization.deactivated = True
        if status is Status.PENDING:
            self.limits.failed(authorization.account, authorization.name)
        return Reply(200, self._document(authorization))

    def _open(self, account: Account, name: str, profile: str) -> Authorization:
        """A new one; all its challenges have one token, as at Boulder."""
        expires = self.world.now() + self.options.pending_authorization_lifetime
        authorization = Authorization(self.world.new_id(), account, name, profile, expires)
        token = self.world.new_id(_TOKEN_BYTES)
        authorization.challenges = [
            Challenge(self.world.new_id(), kind, token, authorization) for kind in _kinds(name)
        ]
        self.book.authorizations[authorization.id] = authorization
        self.book.challenges |= {each.id: each for each in authorization.challenges}
        return authorization

    def _answered(self, challenge: Challenge, payload: bytes) -> Reply:
        """Validate, unless that is over: then a valid one is shown, an invalid one refused."""
        if payload != b"{}":
            raise malformed("A challenge is answered with the payload {}")
        challenge.posts += 1
        status = challenge.authorization.status(self.world.now())
        if status is Status.VALID:
            return self._reply_with(challenge, Rule.CHALLENGE_ONCE)
        if status is not Status.PENDING:
            problem = Problem("malformed", "authorization must be pending")
            raise Refused(problem, Rule.CHALLENGE_ONCE)
        challenge.running += 1
        self.world.spawn(self._validate(challenge))
        return self._reply_with(challenge)

    async def _validate(self, challenge: Challenge) -> None:
        """Look at the answer; of several validations under way the first that ends decides."""
        problem = await self._first_problem(challenge)
        challenge.running -= 1
        if not challenge.authorization.is_final:
            self._decide(challenge, problem)

    def _decide(self, challenge: Challenge, problem: Problem | None) -> None:
        authorization, now = challenge.authorization, self.world.now()
        account, name = authorization.account, authorization.name
        if problem:
            challenge.error = problem
            self.limits.failed(account, name)
        else:
            self.limits.succeeded(account, name)
            challenge.validated = now
            authorization.expires = now + self.options.valid_authorization_lifetime
            self.book.latest_proofs[account.id, name, authorization.profile] = authorization
        self.history.validated(Validation(now, account, name, problem))

    async def _first_problem(self, challenge: Challenge) -> Problem | None:
        """The first perspective alone, then the remote ones at once (Boulder va/va.go)."""
        problem = await self._look(challenge)
        if problem:
            return problem
        looks = [self._look(challenge) for _ in range(self.options.remote_perspectives)]
        return next(filter(None, await asyncio.gather(*looks)), None)

    async def _look(self, challenge: Challenge) -> Problem | None:
        await self.world.pause(self.options.validation_delay_seconds)
        name = challenge.authorization.name
        if kind := self.failing.get(name):
            return Problem(kind, f"{kind} problem looking at {name}")
        return await look(challenge, self.fetch)

    def _reply_with(self, challenge: Challenge, broken: Rule | None = None) -> Reply:
        up = self.urls.of(Resource.AUTHORIZATION, challenge.authorization.id)
        return Reply(200, self._challenge_document(challenge), {"link": f'<{up}>;rel="up"'}, broken)

    def _document(self, authorization: Authorization) -> dict[str, Any]:
        """Once it is decided, only the challenge that decided it is shown."""
        status = authorization.status(self.world.now())
        shown = [
            self._challenge_document(challenge)
            for challenge in authorization.challenges
            if status is Status.PENDING or challenge.error or challenge.validated
        ]
        document = {
            "status": status,
            "expires": rfc3339(authorization.expires),
            "identifier": identifier(authorization.name.removeprefix("*.")),
            "challenges": self.world.shuffled(shown),
        }
        return document | ({"wildcard": True} if authorization.name.startswith("*.") else {})

    def _challenge_document(self, challenge: Challenge) -> dict[str, Any]:
        status = challenge.status
        if status is Status.PROCESSING and not self.options.shows_processing_challenges:
            status = Status.PENDING
        document: dict[str, Any] = {
            "type": challenge.kind,
            "url": self.urls.of(Resource.CHALLENGE, challenge.id),
            "status": status,
            "token": challenge.token,
        }
        if challenge.validated:
            document["validated"] = rfc3339(challenge.validated)
        if challenge.error:
            document["error"] = challenge.error.document()
        return document


def _kinds(name: str) -> tuple[str, ...]:
    """How control of a name can be proved (RFC 8555 §8, RFC 8738 §7)."""
    if name.startswith("*."):
        return _WILDCARD_KINDS
    return _ADDRESS_KINDS if address_of(name) else _KINDS
