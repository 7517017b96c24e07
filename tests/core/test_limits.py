"""planning/limits.py: the CA's limits as budgets (numbers: facts/acme.md §1)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmeistio.issuer import LETS_ENCRYPT_LIMITS, LETS_ENCRYPT_STAGING_LIMITS, Limit, Limits
from acmeistio.model import Held, Issue, IssueReason, Stored, Suggestion, Unusable
from acmeistio.names import parse_name
from acmeistio.planning import limits
from acmeistio.planning.limits import MARGIN, BudgetKey, Budgets, Exemption, Kind
from tests.core.builders import (
    CA,
    DAY,
    MINUTE,
    NOW,
    OTHER_CA,
    A,
    B,
    names,
    placeholder_of,
    stored,
)

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
LE = replace(CA, limits=LETS_ENCRYPT_LIMITS)
ORDERS = BudgetKey(CA.directory_url, Kind.ORDERS)
DOMAIN = BudgetKey(CA.directory_url, Kind.DOMAIN, "example.com")


def spend_all(key: BudgetKey, limit: Limit, now: datetime) -> tuple[int, Budgets]:
    """How often a budget can be spent at once, and what is left of it."""
    count, budgets = 0, dict[BudgetKey, datetime]()
    while limits.payable_at(budgets, {key: limit}, now) == now:
        budgets = limits.spent(budgets, {key: limit}, now)
        count += 1
    return count, budgets


# --- the arithmetic


@pytest.mark.parametrize(
    ("limit", "burst", "every"),
    [
        (LETS_ENCRYPT_LIMITS.orders, 300, timedelta(seconds=36)),
        (LETS_ENCRYPT_LIMITS.certificates_per_domain, 50, timedelta(minutes=201.6)),
        (LETS_ENCRYPT_LIMITS.certificates_per_set, 5, timedelta(hours=33.6)),
        (LETS_ENCRYPT_LIMITS.failures, 5, timedelta(minutes=12)),
        (LETS_ENCRYPT_LIMITS.failures_in_a_row, 1152, DAY),
        (LETS_ENCRYPT_STAGING_LIMITS.orders, 1500, timedelta(seconds=7.2)),
        (LETS_ENCRYPT_STAGING_LIMITS.failures, 200, timedelta(seconds=18)),
        (LETS_ENCRYPT_STAGING_LIMITS.failures_in_a_row, 3600, timedelta(seconds=6)),
    ],
)
def test_burst_then_refill(limit: Limit, burst: int, every: timedelta) -> None:
    """The whole burst at once, then one each 2 % later than the CA refills (acme.md §1)."""
    count, budgets = spend_all(ORDERS, limit, NOW)
    assert count == burst
    at = limits.payable_at(budgets, {ORDERS: limit}, NOW)
    assert at - NOW == pytest.approx(every * MARGIN, abs=SECOND / 1000)
    assert limits.payable_at(budgets, {ORDERS: limit}, at) == at
    assert limits.payable_at(budgets, {ORDERS: limit}, at - SECOND) == at


def test_an_unused_budget_is_full_and_no_fuller() -> None:
    """Time that nobody used gives no more than the burst (token bucket)."""
    limit = Limit(3, HOUR)
    _, budgets = spend_all(ORDERS, limit, NOW)
    much_later = NOW + 400 * DAY
    assert limits.without_full(budgets, much_later) == {}
    count, _ = spend_all(ORDERS, limit, much_later)
    assert count == 3


def test_the_scarcest_is_named() -> None:
    """Of several budgets the one that is payable last is what an order waits for."""
    costs = {ORDERS: Limit(1, MINUTE), DOMAIN: Limit(1, HOUR)}
    budgets = limits.spent({}, costs, NOW)
    at, scarce = limits.scarcest(budgets, costs, NOW)
    assert (at, scarce) == (NOW + HOUR * MARGIN, DOMAIN)
    assert limits.scarcest(budgets, costs, at) == (at, None)
    assert limits.scarcest({}, {}, NOW) == (NOW, None)


def test_a_refund_undoes_what_was_spent() -> None:
    """What the CA does not count after all can be spent again; what is unknown stays so."""
    costs = {ORDERS: Limit(2, HOUR)}
    _, empty = spend_all(ORDERS, costs[ORDERS], NOW)
    refunded = limits.refunded(empty, costs)
    assert limits.payable_at(refunded, costs, NOW) == NOW
    assert limits.spent(refunded, costs, NOW) == empty
    assert limits.refunded({}, costs) == {}


def test_postponed() -> None:
    """The CA counts at the end of an order, and refills from then (acme.md §1.4)."""
    costs = {ORDERS: Limit(1, HOUR)}
    budgets = limits.postponed(limits.spent({}, costs, NOW), costs, MINUTE)
    assert limits.payable_at(budgets, costs, NOW) == NOW + HOUR * MARGIN + MINUTE
    assert limits.postponed({}, costs, MINUTE) == {}


@pytest.mark.parametrize("burst", [1, 5, 300])
def test_exhausted_until(burst: int) -> None:
    """The CA's Retry-After holds whatever was counted here; a longer wait is not cut short."""
    limit = Limit(burst, HOUR)
    until = NOW + 3 * HOUR
    budgets = limits.exhausted({}, ORDERS, limit, until)
    assert limits.payable_at(budgets, {ORDERS: limit}, NOW) == until
    assert limits.exhausted(budgets, ORDERS, limit, NOW + HOUR) == budgets
    once = limits.spent(budgets, {ORDERS: limit}, until)
    assert limits.payable_at(once, {ORDERS: limit}, until) == until + HOUR * MARGIN


def test_without_full() -> None:
    """Only what is not full is remembered; nothing is written where nothing changed."""
    budgets = {ORDERS: NOW, DOMAIN: NOW + SECOND}
    assert limits.without_full(budgets, NOW) == {DOMAIN: NOW + SECOND}
    only = {DOMAIN: NOW + SECOND}
    assert limits.without_full(only, NOW) is only


@dataclass
class TokenBucket:
    """A CA's limit, written as simply as can be."""

    limit: Limit
    tokens: float = field(init=False)
    seen_at: datetime = NOW

    def __post_init__(self) -> None:
        self.tokens = float(self.limit.burst)

    def take(self, now: datetime) -> None:
        """Count one. Fails where the CA would refuse."""
        refilled = (now - self.seen_at) / self.limit.every
        self.tokens = min(float(self.limit.burst), self.tokens + refilled)
        self.seen_at = now
        assert self.tokens >= 1 - 1e-6
        self.tokens -= 1


STEPS = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 90), st.booleans(), st.booleans()), max_size=60
)


@given(st.integers(1, 6), st.integers(1, 120), STEPS)
def test_a_client_never_exceeds_the_token_bucket(
    burst: int, every_seconds: int, steps: list[tuple[int, int, bool, bool]]
) -> None:
    """Whoever spends when it is payable is never refused, though the CA counts each later.

    Each step: some time passes, one is spent if it can be, and is counted after a delay that
    `postponed` is told of, in the order of counting; or it is refunded and never counted.
    """
    limit = Limit(burst, timedelta(seconds=every_seconds))
    costs = {ORDERS: limit}
    budgets: Budgets = {}
    now, counted = NOW, list[datetime]()
    for wait, delay, patient, is_refunded in steps:
        now += timedelta(seconds=wait)
        at = limits.payable_at(budgets, costs, now)
        if at > now and not patient:
            continue
        now = max(now, at)
        budgets = limits.spent(budgets, costs, now)
        if is_refunded:
            budgets = limits.refunded(budgets, costs)
            continue
        budgets = limits.postponed(budgets, costs, timedelta(seconds=delay))
        counted.append(now + timedelta(seconds=delay))
    bucket = TokenBucket(limit)
    for instant in sorted(counted):
        bucket.take(instant)


# --- what counts against what


def test_what_a_new_certificate_costs() -> None:
    """One order, one of the exact set, one of each registered domain (acme.md §1)."""
    asked = names("a.example.com", "*.b.example.com", "shop.example.co.uk")
    costs = limits.costs_of_order(LE, asked, Exemption.NONE)
    assert {(key.kind, key.subject) for key in costs} == {
        (Kind.ORDERS, ""),
        (Kind.NAME_SET, limits.set_digest(asked)),
        (Kind.DOMAIN, "example.com"),
        (Kind.DOMAIN, "example.co.uk"),
    }
    assert {key.directory_url for key in costs} == {LE.directory_url}


def test_a_renewal_of_the_same_names_counts_by_its_set_alone() -> None:
    """A non-ARI renewal is exempt from orders and domains, not from the set (acme.md §1)."""
    (key,) = limits.costs_of_order(LE, [A, B], Exemption.SAME_NAMES)
    assert key.kind is Kind.NAME_SET


def test_a_replacement_in_its_window_costs_nothing() -> None:
    """An ARI renewal is exempt from all of these (acme.md §1)."""
    assert limits.costs_of_order(LE, [A, B], Exemption.REPLACES) == {}


def test_the_set_is_one_whatever_the_order() -> None:
    """Exact sets are compared without order and repetition (acme.md §1.3)."""
    assert limits.set_digest([A, B]) == limits.set_digest([B, A, B])
    assert limits.set_digest([A, B]) != limits.set_digest([A])


def test_what_failures_cost() -> None:
    """Each failed name counts by itself, by the hour and in a row (acme.md §1)."""
    kinds = (Kind.FAILURES, Kind.FAILURES_IN_A_ROW)
    costs = limits.costs_of_failures(LE, [A, B])
    assert {(key.kind, key.subject) for key in costs} == {(k, n) for k in kinds for n in (A, B)}


def test_no_known_limit_costs_nothing() -> None:
    """A CA of which no limit is known is not held back by any (issuer.py, Limits)."""
    assert limits.costs_of_order(CA, [A], Exemption.NONE) == {}
    assert limits.costs_of_failures(CA, [A]) == {}


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("example.com", "example.com"),
        ("a.b.c.example.com", "example.com"),
        ("*.example.com", "example.com"),
        ("*.a.example.com", "example.com"),
        ("www.example.co.uk", "example.co.uk"),
        ("example.co.uk", "example.co.uk"),
        ("me.github.io", "me.github.io"),
        ("www.me.github.io", "me.github.io"),
        ("github.io", "github.io"),
        ("www.bücher.example", "xn--bcher-kva.example"),
        ("www.例え.jp", "xn--r8jz45g.jp"),
        ("a.b.internal", "b.internal"),
        ("198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
    ],
)
def test_registered_domain(name: str, domain: str) -> None:
    """Public suffix and one label; an IPv4 address itself, of IPv6 its /64 (acme.md §1)."""
    assert limits.registered_domain(parse_name(name)) == domain


# --- what the CA does not count


def window(start: timedelta, end: timedelta) -> Suggestion:
    """A suggestion for the certificate of `stored`, from now."""
    return Suggestion("renewal-id", NOW + start, NOW + end)


def issue(*asked: str, replaces: Suggestion | None = None) -> Issue:
    """A renewal."""
    return Issue(names(*asked), IssueReason.RENEWAL_DUE, replaces)


OPEN = window(-HOUR, HOUR)
OLD = stored(A, B, made=NOW - 60 * DAY, account_url="us")


@pytest.mark.parametrize(
    ("asked", "held", "exemption"),
    [
        (issue(A, B, replaces=OPEN), OLD, Exemption.REPLACES),
        (issue(A, replaces=OPEN), OLD, Exemption.REPLACES),
        (issue(A, replaces=window(timedelta(), HOUR)), OLD, Exemption.REPLACES),
        # `end` is outside (Boulder, IsWithin)
        (issue(A, replaces=window(-HOUR, timedelta())), OLD, Exemption.NONE),
        (issue(A, B, replaces=window(-HOUR, timedelta())), OLD, Exemption.SAME_NAMES),
        (issue(A, B, replaces=window(SECOND, HOUR)), OLD, Exemption.SAME_NAMES),
        (issue(A, B), OLD, Exemption.SAME_NAMES),
        (issue(B, A), OLD, Exemption.SAME_NAMES),
        (issue(A), OLD, Exemption.NONE),
        (issue(A, B, "c.example.com"), OLD, Exemption.NONE),
        (issue(A, B), stored(A, B, directory_url=OTHER_CA.directory_url), Exemption.NONE),
        (issue(A, B), stored(A, B, written_sha256="by hand"), Exemption.NONE),
        (issue(A, B), placeholder_of(A, B), Exemption.NONE),
        (issue(A, B), replace(OLD, marks=replace(OLD.marks, placeholder=True)), Exemption.NONE),
        (issue(A, B), Unusable("gone", OLD.marks), Exemption.NONE),
        (issue(A, B), None, Exemption.NONE),
    ],
)
def test_exemption(asked: Issue, held: Held, exemption: Exemption) -> None:
    """What Let's Encrypt does not count, and when it counts all the same (acme.md §1.2, §1.3)."""
    assert limits.exemption_of(LE, asked, held, NOW) is exemption


@pytest.mark.parametrize(
    ("days", "is_exempt"), [(1, True), (118, True), (119, False), (121, False)]
)
def test_the_same_names_are_remembered_120_days(days: int, is_exempt: bool) -> None:
    """Issued in the last 120 days; a day less here, for what is between us (acme.md §1.3)."""
    held = stored(A, made=NOW - days * DAY, lifetime=200 * DAY)
    found = limits.exemption_of(LE, issue(A), held, NOW)
    assert (found is Exemption.SAME_NAMES) is is_exempt


def test_a_ca_that_exempts_nothing() -> None:
    """Exemptions are Let's Encrypt's; elsewhere settings may say that there are none."""
    strict = replace(LE, limits=replace(LETS_ENCRYPT_LIMITS, exempts_renewals=False))
    assert limits.exemption_of(strict, issue(A, B, replaces=OPEN), OLD, NOW) is Exemption.NONE


# --- whose limit is it?

HELP = ": see https://letsencrypt.org/docs/rate-limits/#"
RETRY = "retry after 2030-01-01 13:00:00 UTC"


@pytest.mark.parametrize(
    ("detail", "found"),
    [
        (
            f"too many new orders (300) from this account in the last 3h0m0s, {RETRY}{HELP}x",
            {(Kind.ORDERS, "")},
        ),
        (
            (
                'too many certificates (50) already issued for "example.com" in the last 168h0m0s, '
                f"{RETRY}{HELP}x"
            ),
            {(Kind.DOMAIN, "example.com")},
        ),
        (
            (
                "too many certificates (5) already issued for this exact set of identifiers in the "
                f"last 168h0m0s, {RETRY}{HELP}x"
            ),
            {(Kind.NAME_SET, limits.set_digest([A, B, *names("www.example.org")]))},
        ),
        (
            f'too many failed authorizations (5) for "{B}" in the last 1h0m0s, {RETRY}{HELP}x',
            {(Kind.FAILURES, B)},
        ),
        (f"too many new registrations (10) from this IP address, {RETRY}{HELP}x", set()),
        ("Your account is temporarily prevented from requesting certificates", set()),
        ('too many certificates (50) already issued for "example.net"', set()),
        (f'too many failed authorizations (5) for "x{B}" in the last 1h0m0s', set()),
        ("", set()),
    ],
)
def test_boulders_words(detail: str, found: set[tuple[Kind, str]]) -> None:
    """Boulder's sentences name a budget of the order, or none (ratelimits/transaction.go)."""
    costs = limits.named_by(LE, [A, B, *names("www.example.org")], f"{detail} (rateLimited)")
    assert {(key.kind, key.subject) for key in costs} == found


def test_words_of_a_limit_that_is_not_known() -> None:
    """Where no such limit is known there is no budget for it (issuer.py, Limits)."""
    no_orders = replace(LE, limits=Limits(failures=Limit(5, MINUTE)))
    assert limits.named_by(no_orders, [A], "too many new orders (300) from this account") == {}


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_words(kind: Kind) -> None:
    """Users read what the limit is on, and what reaches it."""
    limit, what = limits.words(BudgetKey("https://ca.example", kind, "example.com"))
    assert limit
    assert what


def test_the_window_is_half_open() -> None:
    """[start, end) as Boulder has it (acme.md §1.2)."""
    suggested = window(timedelta(), HOUR)
    assert suggested.includes(NOW)
    assert not suggested.includes(NOW + HOUR)
    assert isinstance(OLD, Stored)
