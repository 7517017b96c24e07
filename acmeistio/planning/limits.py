"""The CA's rate limits as budgets: what an order costs, and when it can be paid. Pure.

Each budget is one instant, the theoretical arrival time of GCRA: until then what was spent is not
refilled. Owns what counts against which limit and the arithmetic; the instants live in the Ledger,
and they lie on the CA's clock. A budget refills a little slower here than at the CA, which counts
a moment later than the client that asks.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from publicsuffixlist import PublicSuffixList

from acmeistio.issuer import Issuer, Limit
from acmeistio.model import Held, Issue, Stored, is_by_hand
from acmeistio.names import DnsName

MARGIN = 1.02
"""So much slower a budget refills here."""

REMEMBERED = timedelta(days=119)
"""A certificate issued so long ago makes another for the same names a renewal (Let's Encrypt: 120
days)."""


REMEMBERED_DOMAINS = 1 << 15
"""Of so many names it is remembered what they are counted by: some MiB at most."""


class Kind(StrEnum):
    """What a budget is for, spelt as in the ledger."""

    ORDERS = "orders"
    DOMAIN = "domain"
    NAME_SET = "set"
    FAILURES = "failures"
    FAILURES_IN_A_ROW = "failuresInARow"

    # Budgets are looked up by thousands, and an Enum's own hash is some times slower.
    __hash__ = str.__hash__


FAILURES = frozenset({Kind.FAILURES, Kind.FAILURES_IN_A_ROW})


class Exemption(StrEnum):
    """What is not counted of an order, as Let's Encrypt has it.

    REPLACES: it replaces a certificate within the window that the CA suggested. SAME_NAMES: a
    certificate of exactly these names was issued not long ago.
    """

    NONE = "none"
    SAME_NAMES = "same names"
    REPLACES = "replaces"


class BudgetKey(NamedTuple):
    """One budget of this client at one CA; `subject` is the domain, set or name it is about."""

    directory_url: str
    kind: Kind
    subject: str = ""


Costs = Mapping[BudgetKey, Limit]
"""What is to be spent, once each."""

Budgets = Mapping[BudgetKey, datetime]
"""When each budget is full again; those that are full have no entry."""


def costs_of_order(
    issuer: Issuer, names: Iterable[DnsName], exemption: Exemption
) -> dict[BudgetKey, Limit]:
    """What an order costs whether or not its names can be validated."""
    names, limits = tuple(names), issuer.limits
    if exemption is Exemption.REPLACES:
        return {}
    found = {_key(issuer, Kind.NAME_SET, set_digest(names)): limits.certificates_per_set}
    if exemption is Exemption.NONE:
        found[_key(issuer, Kind.ORDERS)] = limits.orders
        domains = {registered_domain(name) for name in names}
        found |= {_key(issuer, Kind.DOMAIN, d): limits.certificates_per_domain for d in domains}
    return _known(found)


def exemption_of(issuer: Issuer, issue: Issue, held: Held, now: datetime) -> Exemption:
    """What the CA does not count of an order made now by the account that has the certificate."""
    if not issuer.limits.exempts_renewals or not isinstance(held, Stored):
        return Exemption.NONE
    marks, leaf = held.marks, held.leaf
    if issue.replaces and issue.replaces.includes(now):
        return Exemption.REPLACES
    made_here = marks.directory_url == issuer.directory_url and not is_by_hand(held)
    recent = now - leaf.not_before < REMEMBERED
    same = made_here and recent and leaf.names == frozenset(issue.names)
    return Exemption.SAME_NAMES if same and not marks.placeholder else Exemption.NONE


def costs_of_failures(issuer: Issuer, names: Iterable[DnsName]) -> dict[BudgetKey, Limit]:
    """What it costs if all of these names can't be validated."""
    limits = issuer.limits
    return _known(
        {
            _key(issuer, kind, name): limit
            for name in names
            for kind, limit in (
                (Kind.FAILURES, limits.failures),
                (Kind.FAILURES_IN_A_ROW, limits.failures_in_a_row),
            )
        }
    )


def has_failed(budgets: Budgets, issuer: Issuer, name: DnsName) -> bool:
    """Whether anything was spent that failures of a name cost; of most names nothing was."""
    return any(_key(issuer, kind, name) in budgets for kind in FAILURES)


def scarcest(budgets: Budgets, costs: Costs, now: datetime) -> tuple[datetime, BudgetKey | None]:
    """The instant from which all of it can be spent, and the budget that it waits for, if any."""
    latest, scarce = now, None
    for key, limit in costs.items():
        full_at = budgets.get(key)
        at = full_at - (limit.burst - 1) * _interval(limit) if full_at else now
        if at > latest:
            latest, scarce = at, key
    return latest, scarce


def payable_at(budgets: Budgets, costs: Costs, now: datetime) -> datetime:
    """The instant from which all of it can be spent; `now` where that is at once."""
    return scarcest(budgets, costs, now)[0]


def spending(budgets: Budgets, costs: Costs, now: datetime) -> dict[BudgetKey, datetime]:
    """Those budgets that change, as they are after all of it is spent."""
    return {key: max(budgets.get(key, now), now) + _interval(limit) for key, limit in costs.items()}


def spent(budgets: Budgets, costs: Costs, now: datetime) -> dict[BudgetKey, datetime]:
    """All budgets after all of it is spent."""
    return {**budgets, **spending(budgets, costs, now)}


def refunded(budgets: Budgets, costs: Costs) -> dict[BudgetKey, datetime]:
    """The budgets with what was spent and is not counted by the CA after all."""
    after = {key: budgets[key] - _interval(limit) for key, limit in costs.items() if key in budgets}
    return {**budgets, **after}


def postponed(budgets: Budgets, costs: Costs, delay: timedelta) -> dict[BudgetKey, datetime]:
    """The budgets where the CA has counted what was spent so much later than it was spent."""
    after = {key: budgets[key] + delay for key in costs if key in budgets}
    return {**budgets, **after}


def exhausted(budgets: Budgets, key: BudgetKey, limit: Limit, until: datetime) -> Budgets:
    """The budgets where the CA says that one of them has nothing left until then."""
    empty = until + (limit.burst - 1) * _interval(limit)
    return {**budgets, key: max(budgets.get(key, empty), empty)}


def without_full(budgets: Budgets, now: datetime) -> Budgets:
    """The budgets that are not full; the same value where all are."""
    kept = {key: instant for key, instant in budgets.items() if instant > now}
    return budgets if len(kept) == len(budgets) else kept


def words(key: BudgetKey) -> tuple[str, str]:
    """What a limit is on, and what reaches it, as users read it."""
    return {
        Kind.ORDERS: ("new orders", "the account"),
        Kind.DOMAIN: ("certificates of one domain", key.subject),
        Kind.NAME_SET: ("certificates for the same names", "this certificate"),
        Kind.FAILURES: ("failed validations of one name", key.subject),
        Kind.FAILURES_IN_A_ROW: ("failed validations in a row", key.subject),
    }[key.kind]


def named_by(issuer: Issuer, names: Iterable[DnsName], detail: str) -> Costs:
    """The budgets that a refusal by rate limit is about, as far as its words tell; else none.

    Let's Encrypt says "too many new orders (300) from this account", "too many certificates (50)
    already issued for "example.com"", "… for this exact set of identifiers", "too many failed
    authorizations (5) for "www.example.com"" (Boulder ratelimits/transaction.go).
    """
    names, limits = tuple(names), issuer.limits
    if "exact set" in detail:
        return _known({_key(issuer, Kind.NAME_SET, set_digest(names)): limits.certificates_per_set})
    if "failed authorizations" in detail:
        about = [name for name in names if f'"{name}"' in detail]
        return _known({_key(issuer, Kind.FAILURES, name): limits.failures for name in about})
    if "already issued" in detail:
        domains = {registered_domain(name) for name in names}
        limit = limits.certificates_per_domain
        return _known({_key(issuer, Kind.DOMAIN, d): limit for d in domains if f'"{d}"' in detail})
    if "new orders" in detail:
        return _known({_key(issuer, Kind.ORDERS): limits.orders})
    return {}


def set_digest(names: Iterable[DnsName]) -> str:
    """An exact set of names in few letters."""
    return hashlib.sha256(",".join(sorted(set(names))).encode()).hexdigest()[:12]


@functools.lru_cache(maxsize=REMEMBERED_DOMAINS)
def registered_domain(name: DnsName) -> str:
    """What certificates per domain are counted by: one label more than the public suffix.

    For an IPv4 address itself, for an IPv6 address its /64.
    """
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        base = name.removeprefix("*.")
        return _suffixes().privatesuffix(base) or base
    if address.version == 4:  # noqa: PLR2004
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))


@functools.cache
def _suffixes() -> PublicSuffixList:
    """The list that comes with the library; reading it takes some hundredths of a second."""
    return PublicSuffixList()


def _interval(limit: Limit) -> timedelta:
    return limit.every * MARGIN


def _key(issuer: Issuer, kind: Kind, subject: str = "") -> BudgetKey:
    return BudgetKey(issuer.directory_url, kind, subject)


def _known(found: Mapping[BudgetKey, Limit | None]) -> dict[BudgetKey, Limit]:
    return {key: limit for key, limit in found.items() if limit is not None}
