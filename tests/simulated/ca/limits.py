"""The rate limits of a CA: what is counted, who is exempt, what is answered (Boulder ratelimits/).

Facts: Let's Encrypt's docs/rate-limits and Boulder's ratelimits/transaction.go, limiter.go,
wfe2 NewOrder, ra countCertificateIssued and countFailedValidations.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.simulated.ca.buckets import Buckets
from tests.simulated.ca.names import registered_domain
from tests.simulated.ca.options import CaOptions, Limit
from tests.simulated.ca.problems import Problem, Refused
from tests.simulated.ca.records import Account, Book, History, Limited, LimitHit
from tests.simulated.ca.world import World

_DOCUMENTATION = "https://letsencrypt.org/docs/rate-limits"
_SAME_NAMES_WITHIN = timedelta(days=120)
_GRACE = timedelta(days=14)
_JITTER = 0.03

_ANCHORS = {
    Limited.ACCOUNTS: "new-registrations-per-ip-address",
    Limited.ORDERS: "new-orders-per-account",
    Limited.DOMAIN: "new-certificates-per-registered-domain",
    Limited.SET: "new-certificates-per-exact-set-of-hostnames",
    Limited.FAILURES: "authorization-failures-per-hostname-per-account",
}
_SENTENCES = {
    Limited.ACCOUNTS: "too many new registrations ({limit}) from this IP address",
    Limited.ORDERS: "too many new orders ({limit}) from this account",
    Limited.DOMAIN: 'too many certificates ({limit}) already issued for "{subject}"',
    Limited.SET: "too many certificates ({limit}) already issued for this exact set of domains",
    Limited.FAILURES: 'too many failed authorizations ({limit}) for "{subject}"',
}

Paused = tuple[str, str]
"""Account id and name."""


@dataclass(frozen=True, slots=True)
class Check:
    """A bucket that a request needs a token of."""

    limited: Limited
    key: Hashable
    subject: str


@dataclass(eq=False, slots=True)
class Limits:
    """Counts what is done, and refuses what would be too much; without limits, nothing."""

    world: World
    options: CaOptions
    book: Book
    history: History
    help_url: str
    paused: set[Paused] = field(default_factory=set)
    _unpaused: dict[Paused, datetime] = field(default_factory=dict)
    _buckets: dict[Limited, Buckets] = field(init=False)

    def __post_init__(self) -> None:
        """Fill all buckets."""
        self.forget()

    def forget(self) -> None:
        """Count as if nothing had ever been done."""
        self.paused.clear()
        self._unpaused.clear()
        limits = self.options.limits
        self._buckets = (
            {
                Limited.ACCOUNTS: Buckets(limits.accounts_per_client),
                Limited.ORDERS: Buckets(limits.orders_per_account),
                Limited.DOMAIN: Buckets(limits.certificates_per_domain),
                Limited.SET: Buckets(limits.certificates_per_set),
                Limited.FAILURES: Buckets(limits.failures_per_name),
                Limited.PAUSED: Buckets(limits.failures_until_pause),
            }
            if limits
            else {}
        )

    # ── what is asked for ─────────────────────────────────────────────────────────────────────

    def new_account(self) -> None:
        """Spend an account of the client's."""
        checks = [Check(Limited.ACCOUNTS, "the client", "the client")]
        self._refuse_excess(checks, None)
        self._take(checks)

    def refuse_paused(self, account: Account, names: frozenset[str]) -> None:
        """A pause ends by a human's hand only: 429 with a link for him, without Retry-After."""
        paused = sorted(name for name in names if (account.id, name) in self.paused)
        if not paused:
            return
        self._hit(Limited.PAUSED, paused[0], account, None)
        detail = (
            "Your account is temporarily prevented from requesting certificates for "
            f"{', '.join(paused)} and possibly others. Please visit: "
            f"{self.help_url}/sfe/v1/unpause?jwt={account.id}"
        )
        raise Refused(Problem("rateLimited", detail, 429))

    @contextmanager
    def new_order(self, account: Account, names: frozenset[str], *, exempt: bool) -> Iterator[None]:
        """Spend an order of the account's, which is refunded where none is made after all.

        Certificates and failures are only looked at: they are spent once they have happened.
        A renewal that was suggested is `exempt`; one of the same names is from the limits of
        orders and domains; at a CA that exempts no renewals neither is from any.
        """
        if not self._buckets or (exempt and self.options.exempts_renewals):
            yield
            return
        checks = [*self._failures(account, names), _set(names)]
        spent: list[Check] = []
        if not self._renews(names):
            spent = [Check(Limited.ORDERS, account.id, account.id)]
            checks += spent + self._domains(names)
        self._refuse_excess(checks, account)
        self._take(spent)
        try:
            yield
        except Refused:
            for each in spent:
                self._buckets[each.limited].give_back(each.key, self.world.now())
            raise

    # ── what has happened ─────────────────────────────────────────────────────────────────────

    def issued(self, names: frozenset[str]) -> None:
        """Count a certificate: for its set of names always, for its domains unless it renews."""
        checks = [_set(names)] if self._renews(names) else [_set(names), *self._domains(names)]
        self._take(checks)
        self.book.latest_issued[names] = self.world.now()

    def failed(self, account: Account, name: str) -> None:
        """Count a failed authorization; one too many of them in a row is a pause."""
        if not self._buckets:
            return
        key, now = (account.id, name), self.world.now()
        self._buckets[Limited.FAILURES].take_if_there(key, now)
        if not self._buckets[Limited.PAUSED].take_if_there(key, now) and not self._in_grace(key):
            self.paused.add(key)

    def succeeded(self, account: Account, name: str) -> None:
        """The failures before it do not lead to a pause any more."""
        if self._buckets:
            self._buckets[Limited.PAUSED].fill((account.id, name))

    def unpause(self, account: Account, name: str) -> None:
        """What the human does at the link; for two weeks the name is not paused again."""
        self.paused.discard((account.id, name))
        self._unpaused[account.id, name] = self.world.now()

    def spend_by_others(self, domain: str, certificates: int) -> None:
        """Somebody else got so many certificates in this domain."""
        registered = registered_domain(domain, self.options.public_suffixes)
        self._buckets[Limited.DOMAIN].take(registered, self.world.now(), certificates)

    def at_the_door(self, subject: str, wait: timedelta) -> Refused:
        """What a load balancer answers, unread, to one request too many."""
        seconds = math.ceil(wait.total_seconds())
        self._hit(Limited.REQUESTS, subject, None, seconds)
        headers = {"retry-after": str(seconds)}
        return Refused(Problem("rateLimited", "Service busy; retry later.", 503), headers=headers)

    # ── reckoning ─────────────────────────────────────────────────────────────────────────────

    def _renews(self, names: frozenset[str]) -> bool:
        """Whether one for these names is spared: someone got such a one of late (Boulder)."""
        latest = self.book.latest_issued.get(names)
        if latest is None or not self.options.exempts_renewals:
            return False
        return self.world.now() - latest < _SAME_NAMES_WITHIN

    def _domains(self, names: frozenset[str]) -> list[Check]:
        """One for each registered domain, however many of the names are in it."""
        suffixes = self.options.public_suffixes
        domains = sorted({registered_domain(name, suffixes) for name in names})
        return [Check(Limited.DOMAIN, domain, domain) for domain in domains]

    def _failures(self, account: Account, names: frozenset[str]) -> list[Check]:
        return [Check(Limited.FAILURES, (account.id, name), name) for name in sorted(names)]

    def _refuse_excess(self, checks: list[Check], account: Account | None) -> None:
        """Refuse where a bucket is empty; of several, the one that is so for longest."""
        if not self._buckets:
            return
        now = self.world.now()
        waits = [(self._buckets[each.limited].wait(each.key, now), each) for each in checks]
        wait, worst = max(waits, key=lambda pair: pair[0])
        if wait:
            wait *= 1 + _JITTER * self.world.random.random()
            seconds = math.ceil(wait.total_seconds())
            self._hit(worst.limited, worst.subject, account, seconds)
            raise _rate_limited(worst, self._buckets[worst.limited].limit, now, seconds)

    def _take(self, checks: list[Check]) -> None:
        for each in checks if self._buckets else ():
            self._buckets[each.limited].take_if_there(each.key, self.world.now())

    def _in_grace(self, key: Paused) -> bool:
        unpaused = self._unpaused.get(key)
        return unpaused is not None and self.world.now() - unpaused < _GRACE

    def _hit(
        self, limited: Limited, subject: str, account: Account | None, retry_after: float | None
    ) -> None:
        account_id = account.id if account else None
        hit = LimitHit(self.world.now(), limited, subject, account_id, retry_after)
        self.history.limit_hits.append(hit)


def _set(names: frozenset[str]) -> Check:
    return Check(Limited.SET, names, ", ".join(sorted(names)))


def _rate_limited(check: Check, limit: Limit, now: datetime, seconds: int) -> Refused:
    """In Boulder's words (ratelimits/limiter.go, errors/errors.go)."""
    sentence = _SENTENCES[check.limited].format(limit=limit.capacity, subject=check.subject)
    instant = now + timedelta(seconds=seconds)
    detail = (
        f"{sentence} in the last {_go_duration(limit.period)}, "
        f"retry after {instant:%Y-%m-%d %H:%M:%S} UTC: "
        f"see {_DOCUMENTATION}/#{_ANCHORS[check.limited]}"
    )
    headers = {"retry-after": str(seconds), "link": f'<{_DOCUMENTATION}>;rel="help"'}
    return Refused(Problem("rateLimited", detail, 429), headers=headers)


def _go_duration(period: timedelta) -> str:
    """A duration as Go prints it: 3h0m0s."""
    minutes, seconds = divmod(int(period.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}s" if hours else f"{minutes}m{seconds}s"
