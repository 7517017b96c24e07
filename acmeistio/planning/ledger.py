"""What must survive a restart: failures with their retry instants, budgets, pauses, open orders.

The Ledger is a value; every transition gives a new one. It knows nothing of where it is kept
(stores/memory.py) nor how it is written (ledger_text.py), and decides nothing (decide.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from acmeistio.model import Target
from acmeistio.names import DnsName
from acmeistio.planning import limits
from acmeistio.planning.limits import Budgets, Costs, Kind

NEVER = datetime(9999, 1, 1, tzinfo=UTC)
"""The retry instant of what only a change of the declaration or the settings can cure."""

ATTEMPTS_REMEMBERED = timedelta(minutes=10)
"""So long after a pause another attempt in vain is one more in a row."""

MAX_DIGESTS = 100
"""So many declarations of one failing name are remembered; every edit of one adds another."""

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Failure:
    """Failures in a row of one name or one target.

    `armed_by` are digests of the declarations that failed: another declaration is tried at once.
    A name has several where several targets want it; each tried it, and all wait together.
    `costly` is false for failures that pass by themselves and cost the CA nothing. `kind` is the
    last part of the CA's problem type (RFC 8555 §6.7), a word of failing.py, or "" for neither;
    `link` is a page of the CA on which a human can do something about it.
    """

    count: int
    retry_at: datetime
    armed_by: tuple[str, ...]
    problem: str
    costly: bool = True
    kind: str = ""
    link: str = ""

    @property
    def is_permanent(self) -> bool:
        """Whether time alone won't cure it."""
        return self.retry_at >= NEVER


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """An order at the CA that is not finished; resumed by its URL after a restart."""

    url: str
    directory_url: str
    names: tuple[DnsName, ...]
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class Pause:
    """An issuer is not asked until then: it wants this client to wait, or can't be reached.

    `attempts` are those in a row that did not reach it, 0 where it asked to wait itself.
    """

    until: datetime
    problem: str
    attempts: int = 0

    @property
    def forgotten_at(self) -> datetime:
        """When it is past, and no further attempt may follow on it."""
        return self.until + (ATTEMPTS_REMEMBERED if self.attempts else timedelta())


NameKey = tuple[str, DnsName]
"""(issuer's name, domain name): another CA may well be able to validate what one can't."""

TargetKey = tuple[Target, str]
"""(target, issuer's name): what one CA refuses another may issue."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The whole memory. The mappings are never changed in place.

    `as_of` is when it was written last, None for one that never was: what was ordered since then
    is missing in its budgets.
    """

    names: Mapping[NameKey, Failure] = field(default_factory=dict)
    targets: Mapping[TargetKey, Failure] = field(default_factory=dict)
    orders: Mapping[Target, OpenOrder] = field(default_factory=dict)
    pauses: Mapping[str, Pause] = field(default_factory=dict)
    budgets: Budgets = field(default_factory=dict)
    as_of: datetime | None = None

    def name_failed(self, issuer: str, name: DnsName, failure: Failure) -> Ledger:
        """`name` could not be validated by `issuer`, neither for this target nor those before."""
        before = self.names.get((issuer, name))
        if before:
            others = [digest for digest in before.armed_by if digest not in failure.armed_by]
            armed_by = (*others, *failure.armed_by)[-MAX_DIGESTS:]
            failure = replace(failure, armed_by=armed_by)
        return replace(self, names={**self.names, (issuer, name): failure})

    def name_proved(self, issuer: str, name: DnsName) -> Ledger:
        """`name` could be validated by `issuer`."""
        return replace(self, names=_without(self.names, lambda key: key == (issuer, name)))

    def name_rearmed(self, issuer: str, name: DnsName, now: datetime) -> Ledger:
        """What kept `name` from being validated seems to be over: it is tried as soon as may be."""
        failure = self.names.get((issuer, name))
        if failure is None or failure.is_permanent or failure.retry_at <= now:
            return self
        return replace(self, names={**self.names, (issuer, name): replace(failure, retry_at=now)})

    def target_failed(self, target: Target, issuer: str, failure: Failure) -> Ledger:
        """The order for `target` failed as a whole, for no reason of a single name."""
        return replace(self, targets={**self.targets, (target, issuer): failure})

    def order_opened(self, target: Target, order: OpenOrder) -> Ledger:
        """The CA has an order for `target`."""
        return replace(self, orders={**self.orders, target: order})

    def order_closed(self, target: Target) -> Ledger:
        """The order for `target` is finished, whatever came of it."""
        return replace(self, orders=_without(self.orders, lambda key: key == target))

    def issued(self, target: Target, issuer: str, names: frozenset[DnsName]) -> Ledger:
        """A certificate for `names` is stored: they work, and nothing is open."""
        return replace(
            self.order_closed(target),
            names=_without(self.names, lambda key: key[0] == issuer and key[1] in names),
            targets=_without(self.targets, lambda key: key[0] == target),
        )

    def spent(self, costs: Costs, now: datetime) -> Ledger:
        """Something is about to be ordered, or was, which costs so much."""
        return self._with(limits.spent(self.budgets, costs, now), costs)

    def refunded(self, costs: Costs) -> Ledger:
        """The CA does not count what was spent."""
        return self._with(limits.refunded(self.budgets, costs), costs)

    def absolved(self, costs: Costs, proved: Collection[DnsName]) -> Ledger:
        """Names that might have failed have not; for those that were validated a row ends.

        A certificate by an earlier validation ends none: the CA has looked at nothing.
        """
        budgets = limits.refunded(self.budgets, costs)
        kind = Kind.FAILURES_IN_A_ROW
        in_a_row = {key for key in costs if key.kind is kind and key.subject in proved}
        return self._with(_without(budgets, lambda key: key in in_a_row), costs)

    def postponed(self, costs: Costs, delay: timedelta) -> Ledger:
        """The CA has counted what was spent so much later."""
        return self._with(limits.postponed(self.budgets, costs, delay), costs)

    def delayed(self, delay: timedelta) -> Ledger:
        """All that was spent may have been counted so much later."""
        return replace(self, budgets={key: at + delay for key, at in self.budgets.items()})

    def exhausted(self, costs: Costs, until: datetime) -> Ledger:
        """The CA says that nothing is left of these budgets until then."""
        budgets = self.budgets
        for key, limit in costs.items():
            budgets = limits.exhausted(budgets, key, limit, until)
        return self._with(budgets, costs)

    def _with(self, budgets: Budgets, costs: Costs) -> Ledger:
        return replace(self, budgets=budgets) if costs else self

    def paused(self, issuer: str, pause: Pause) -> Ledger:
        """`issuer` is to be left alone; of two pauses the longer counts."""
        before = self.pauses.get(issuer)
        if before and before.until > pause.until:
            return self
        return replace(self, pauses={**self.pauses, issuer: pause})

    def reached(self, issuer: str) -> Ledger:
        """`issuer` has answered: a next time that it can't be reached is the first one."""
        before = self.pauses.get(issuer)
        if before is None or not before.attempts:
            return self
        return replace(self, pauses=_without(self.pauses, lambda key: key == issuer))

    def tidied(
        self,
        declared: frozenset[NameKey],
        targets: frozenset[Target],
        now: datetime,
        *,
        settled: frozenset[Target] = frozenset(),
    ) -> Ledger:
        """Without what concerns names and targets that nobody declares, past pauses, full budgets.

        Thus a name that is removed and declared again is tried at once. A target that is
        settled wants no order: its failures are past, and one that is open was left by a crash
        after its bundle was stored, or was overtaken by a pair placed by hand; taken up later
        it would pass the old certificate off as a new one.
        """
        tidy = replace(
            self,
            names=_without(self.names, lambda key: key not in declared),
            targets=_without(self.targets, lambda key: key[0] not in targets or key[0] in settled),
            orders=_without(self.orders, lambda key: key not in targets or key in settled),
            pauses=_without(self.pauses, lambda key: self.pauses[key].forgotten_at <= now),
            budgets=limits.without_full(self.budgets, now),
        )
        return self if tidy == self else tidy


def _without(mapping: Mapping[K, V], drop: Callable[[K], bool]) -> dict[K, V]:
    return {key: value for key, value in mapping.items() if not drop(key)}
