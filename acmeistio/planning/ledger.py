"""What must survive a restart: failures with their retry instants, pauses, open orders.

The Ledger is a value; every transition gives a new one. It knows nothing of where it is kept
(stores/memory.py) and decides nothing (decide.py). As JSON it carries a schema version.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

from acmeistio.model import Target
from acmeistio.names import DnsName

SCHEMA_VERSION = 1

MAX_DIGESTS = 100
"""So many declarations of one failing name are remembered; every edit of one adds another."""

K = TypeVar("K")
V = TypeVar("V")


class UnreadableLedger(ValueError):
    """The text is no ledger of a version that this program reads; the message says why."""


class NewerLedger(UnreadableLedger):
    """The ledger was written by a newer acmeistio."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Failures in a row of one name or one target.

    `armed_by` are digests of the declarations that failed: another declaration is tried at once.
    A name has several where several targets want it; each tried it, and all wait together.
    `costly` is false for failures that pass by themselves and cost the CA nothing.
    """

    count: int
    retry_at: datetime
    armed_by: tuple[str, ...]
    problem: str
    costly: bool = True


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """An order at the CA that is not finished; resumed by its URL after a restart."""

    url: str
    directory_url: str
    names: tuple[DnsName, ...]
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class Pause:
    """An issuer asked this client to wait."""

    until: datetime
    problem: str


NameKey = tuple[str, DnsName]
"""(issuer's name, domain name): another CA may well be able to validate what one can't."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The whole memory. The mappings are never changed in place."""

    names: Mapping[NameKey, Failure] = field(default_factory=dict)
    targets: Mapping[Target, Failure] = field(default_factory=dict)
    orders: Mapping[Target, OpenOrder] = field(default_factory=dict)
    pauses: Mapping[str, Pause] = field(default_factory=dict)

    def name_failed(self, issuer: str, name: DnsName, failure: Failure) -> Ledger:
        """`name` could not be validated by `issuer`, neither for this target nor those before."""
        before = self.names.get((issuer, name))
        if before:
            others = [digest for digest in before.armed_by if digest not in failure.armed_by]
            armed_by = (*others, *failure.armed_by)[-MAX_DIGESTS:]
            failure = replace(failure, armed_by=armed_by)
        return replace(self, names={**self.names, (issuer, name): failure})

    def target_failed(self, target: Target, failure: Failure) -> Ledger:
        """The order for `target` failed as a whole, for no reason of a single name."""
        return replace(self, targets={**self.targets, target: failure})

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
            targets=_without(self.targets, lambda key: key == target),
        )

    def paused(self, issuer: str, pause: Pause) -> Ledger:
        """`issuer` asked to wait; of two requests the longer counts."""
        before = self.pauses.get(issuer)
        if before and before.until > pause.until:
            return self
        return replace(self, pauses={**self.pauses, issuer: pause})

    def tidied(
        self,
        declared: frozenset[NameKey],
        targets: frozenset[Target],
        now: datetime,
        *,
        settled: frozenset[Target] = frozenset(),
    ) -> Ledger:
        """Without what concerns names and targets that nobody declares, and past pauses.

        Thus a name that is removed and declared again is tried at once. A target that is
        settled wants no order: its failures are past, and one that is open was left by a crash
        after its bundle was stored, or was overtaken by a pair placed by hand; taken up later
        it would pass the old certificate off as a new one.
        """
        tidy = Ledger(
            names=_without(self.names, lambda key: key not in declared),
            targets=_without(self.targets, lambda key: key not in targets or key in settled),
            orders=_without(self.orders, lambda key: key not in targets or key in settled),
            pauses=_without(self.pauses, lambda key: self.pauses[key].until <= now),
        )
        return self if tidy == self else tidy


def to_json(ledger: Ledger) -> str:
    """The ledger as text, the same text for the same ledger."""
    document = {
        "schemaVersion": SCHEMA_VERSION,
        "names": [
            {"issuer": issuer, "name": name, **_failure_to_json(failure)}
            for (issuer, name), failure in sorted(ledger.names.items())
        ],
        "targets": [
            {"target": str(target), **_failure_to_json(failure)}
            for target, failure in sorted(ledger.targets.items())
        ],
        "orders": [
            {"target": str(target), **_order_to_json(order)}
            for target, order in sorted(ledger.orders.items())
        ],
        "pauses": [
            {"issuer": issuer, "until": pause.until.isoformat(), "problem": pause.problem}
            for issuer, pause in sorted(ledger.pauses.items())
        ],
    }
    return json.dumps(document, ensure_ascii=False)


def from_json(text: str) -> Ledger:
    """The ledger that `text` holds. Raises UnreadableLedger, NewerLedger."""
    try:
        document = json.loads(text)
        version = int(document["schemaVersion"])
        if version > SCHEMA_VERSION:
            raise NewerLedger(
                f"the ledger has schema version {version}, this acmeistio reads up to "
                f"{SCHEMA_VERSION}; run the newer acmeistio again"
            )
        return Ledger(
            names={
                (str(row["issuer"]), _name(row["name"])): _failure(row) for row in document["names"]
            },
            targets={_target(row): _failure(row) for row in document["targets"]},
            orders={_target(row): _order(row) for row in document["orders"]},
            pauses={
                str(row["issuer"]): Pause(_instant(row["until"]), str(row["problem"]))
                for row in document["pauses"]
            },
        )
    except UnreadableLedger:
        raise
    except (LookupError, ArithmeticError, ValueError, TypeError, RecursionError) as error:
        raise UnreadableLedger(f"the ledger is not readable ({type(error).__name__})") from error


def _without(mapping: Mapping[K, V], drop: Callable[[K], bool]) -> dict[K, V]:
    return {key: value for key, value in mapping.items() if not drop(key)}


def _failure_to_json(failure: Failure) -> dict[str, Any]:
    return {
        "count": failure.count,
        "retryAt": failure.retry_at.isoformat(),
        "armedBy": list(failure.armed_by),
        "problem": failure.problem,
        "costly": failure.costly,
    }


def _failure(row: Mapping[str, Any]) -> Failure:
    return Failure(
        count=int(row["count"]),
        retry_at=_instant(row["retryAt"]),
        armed_by=tuple(str(digest) for digest in row["armedBy"]),
        problem=str(row["problem"]),
        costly=bool(row["costly"]),
    )


def _order_to_json(order: OpenOrder) -> dict[str, Any]:
    return {
        "url": order.url,
        "directoryUrl": order.directory_url,
        "names": list(order.names),
        "openedAt": order.opened_at.isoformat(),
    }


def _order(row: Mapping[str, Any]) -> OpenOrder:
    return OpenOrder(
        url=str(row["url"]),
        directory_url=str(row["directoryUrl"]),
        names=tuple(_name(name) for name in row["names"]),
        opened_at=_instant(row["openedAt"]),
    )


def _name(value: object) -> DnsName:
    if not isinstance(value, str):
        raise ValueError("a name that is no text")
    return DnsName(value)


def _target(row: Mapping[str, Any]) -> Target:
    namespace, _, name = str(row["target"]).partition("/")
    return Target(namespace, name)


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError("an instant without its zone")
    return instant
