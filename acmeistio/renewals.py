"""Asks the CAs when they want certificates to be renewed (ARI, RFC 9773).

Owns when each certificate is asked about: at once after it was issued, then when the CA said;
after a restart, when its turn comes, so that a program that is started again and again asks no
more often than one that runs. What follows from the answers is planning's business.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from acmeistio.acme.ari import renewal_info
from acmeistio.acme.session import Session
from acmeistio.errors import AcmeistioError, Permanent, Transient
from acmeistio.issuer import Issuer
from acmeistio.model import Held, Stored, Suggestion, Target, is_by_hand
from acmeistio.planning.changed import differing
from acmeistio.ports import Clock
from acmeistio.timekeeping import Timekeeping

TURN_SECONDS = 6 * 3600
"""How often everything is asked about that nothing else is known of."""

FRESH = timedelta(minutes=10)
"""A certificate stored so short a time before was issued in this life."""

EARLIEST_PART = 0.4
"""A certificate that is past this part of its life may be due: it is asked about at once."""

FIRST_RETRY_SECONDS = 60.0
LONGEST_SLEEP_SECONDS = 300.0
AT_ONCE = 8
"""So many requests at once."""
NOTED_AT_ONCE = 200
"""So many certificates are noted between two breaths: some milliseconds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Asked:
    """One stored certificate, and what is known of it. `ask_at` None: it is asked no more."""

    held: Stored
    issuer: Issuer
    renewal_id: str
    ask_at: datetime | None
    failures: int = 0


class Renewals:
    """What the CAs say of the certificates of one installation."""

    def __init__(
        self,
        issuers: Mapping[str, Issuer],
        sessions: Mapping[str, Session],
        clock: Clock,
        timekeeping: Timekeeping,
    ) -> None:
        """Until `timekeeping` knows the time nobody is asked."""
        self._issuers = {issuer.directory_url: issuer for issuer in issuers.values()}
        self._sessions = sessions
        self._clock = clock
        self._timekeeping = timekeeping
        self.changed: Callable[[], None] = lambda: None
        """Told when another answer was given."""
        self._asked: dict[Target, _Asked] = {}
        self._due: list[tuple[datetime, Target]] = []
        self._news = asyncio.Event()
        self._began = clock.monotonic()
        self._held: Mapping[Target, Held] = {}
        self._declared: frozenset[Target] = frozenset()
        self.suggestions: dict[Target, Suggestion] = {}
        self._awaited: set[Target] = set()

    @property
    def awaited(self) -> frozenset[Target]:
        """Targets that may be due, and that no CA has answered for yet in this life."""
        return frozenset(self._awaited)

    async def seen(self, held: Mapping[Target, Held], declared: frozenset[Target]) -> None:
        """These are the certificates that are stored now, as far as they could be read.

        Neither is changed afterwards: what is the same as the last time is not looked at again.
        Others have their turn while it is.
        """
        if declared is not self._declared:
            self._declared = declared
            for target in self._asked.keys() - declared:
                self._forget(target)
        before, self._held = self._held, held
        for number, target in enumerate(sorted(differing(before, held) & held.keys()), 1):
            self._note(target, held[target], self._asked.get(target))
            if number % NOTED_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _note(self, target: Target, held: Held, known: _Asked | None) -> None:
        if isinstance(held, Stored) and known and known.renewal_id == held.leaf.renewal_id:
            known.held = held
            return
        self._forget(target)
        issuer = self._issuers.get(_directory_of(held) or "")
        if isinstance(held, Stored) and issuer and held.leaf.renewal_id:
            at, is_awaited = self._first(held)
            asked = _Asked(held, issuer, held.leaf.renewal_id, at)
            self._asked[target] = asked
            self._awaited |= {target} if is_awaited else set()
            self._schedule(target, asked, at)

    def _first(self, held: Stored) -> tuple[datetime, bool]:
        """When a certificate is asked about first, and whether its renewal waits for that."""
        now, leaf = self._clock.now(), held.leaf
        early = leaf.not_before + (leaf.not_after - leaf.not_before) * EARLIEST_PART
        if early <= now:
            return now, True
        if self._clock.monotonic() - self._began > LONGEST_SLEEP_SECONDS:
            return now, False
        return min(_turn_after(now, leaf.renewal_id or ""), early), False

    def _schedule(self, target: Target, asked: _Asked, at: datetime) -> None:
        asked.ask_at = at
        heapq.heappush(self._due, (at, target))
        self._news.set()

    def _forget(self, target: Target) -> None:
        self._asked.pop(target, None)
        self._awaited.discard(target)
        self.suggestions.pop(target, None)

    async def run(self) -> None:
        """Ask, for ever."""
        while True:
            was_known = self._timekeeping.is_known
            if await self._timekeeping.keep():
                self._plan_anew() if not was_known else self.changed()
            due = self._take_due() if self._timekeeping.is_known else []
            if len(due) > 1:
                await asyncio.gather(*(self._ask(target) for target in due))
            elif due:
                await self._ask(due[0])
            else:
                await self._wait()

    def _plan_anew(self) -> None:
        """Ask about everything by a calendar that has come to be known."""
        for target, asked in self._asked.items():
            at, is_awaited = self._first(asked.held)
            self._awaited |= {target} if is_awaited else set()
            self._schedule(target, asked, at)
        self.changed()

    def _take_due(self) -> list[Target]:
        """The next that are to be asked about now."""
        now, due = self._clock.now(), list[Target]()
        while self._due and self._due[0][0] <= now and len(due) < AT_ONCE:
            at, target = heapq.heappop(self._due)
            asked = self._asked.get(target)
            if asked and asked.ask_at == at:
                asked.ask_at = None
                due.append(target)
        return due

    async def _wait(self) -> None:
        """Return when somebody is due, or somebody new has come."""
        self._news.clear()
        left = LONGEST_SLEEP_SECONDS
        if not self._timekeeping.is_known:
            left = self._timekeeping.wait_seconds
        elif self._due:
            left = min(left, (self._due[0][0] - self._clock.now()).total_seconds())
        timer = asyncio.get_running_loop().call_later(max(left, 0.01), self._news.set)
        try:
            await self._news.wait()
        finally:
            timer.cancel()

    async def _ask(self, target: Target) -> None:
        """One question, its answer, and when the next one is put."""
        asked = self._asked.get(target)
        if asked is None or asked.held.leaf.not_after <= self._clock.now():
            return
        suggestion: Suggestion | None = self.suggestions.get(target)
        try:
            info = await renewal_info(self._sessions[asked.issuer.name], asked.renewal_id)
        except Permanent:
            suggestion, seconds = None, float(TURN_SECONDS)
        except (Transient, AcmeistioError) as error:
            asked.failures += 1
            seconds = _retry_seconds(asked.failures, error)
        else:
            asked.failures, seconds = 0, info.retry_after_seconds
            suggestion = Suggestion(asked.renewal_id, info.start, info.end, info.explanation_url)
        if self._asked.get(target) is asked:
            self._answered(target, suggestion)
            self._schedule(target, asked, self._clock.now() + timedelta(seconds=seconds))

    def _answered(self, target: Target, suggestion: Suggestion | None) -> None:
        before, was_awaited = self.suggestions.get(target), target in self._awaited
        self._awaited.discard(target)
        if suggestion:
            self.suggestions[target] = suggestion
        else:
            self.suggestions.pop(target, None)
        if suggestion != before or was_awaited:
            self.changed()


def _directory_of(held: Held) -> str | None:
    """The CA that has issued what is stored, None for what none of ours did."""
    if not isinstance(held, Stored) or held.marks.placeholder or is_by_hand(held):
        return None
    return held.marks.directory_url


def _turn_after(now: datetime, renewal_id: str) -> datetime:
    """The next turn of a certificate; the turns are spread, and the same in every life."""
    seconds = (now - _EPOCH).total_seconds()
    offset = int.from_bytes(hashlib.sha256(renewal_id.encode()).digest()[:4]) % TURN_SECONDS
    wait = (offset - seconds) % TURN_SECONDS
    return now + timedelta(seconds=wait)


def _retry_seconds(failures: int, error: AcmeistioError) -> float:
    """Doubled each time, up to a turn; what the CA asks for is a floor."""
    floor = error.retry_after_seconds if isinstance(error, Transient) else None
    return min(max(FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 16), floor or 0.0), TURN_SECONDS)
