"""The ledger as text: JSON with a schema version, the same text for the same ledger. Pure.

What is read may be older, newer or broken; nothing but a ledger comes out of it, or an error that
says what it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from acmeistio.model import Target
from acmeistio.names import DnsName
from acmeistio.planning.ledger import Failure, Ledger, OpenOrder, Pause
from acmeistio.planning.limits import BudgetKey, Budgets, Kind

SCHEMA_VERSION = 2
"""Version 1 had no budgets, and knew failures by digests that are none of ours any more."""

_SPOILT = (LookupError, ArithmeticError, AttributeError, ValueError, TypeError, RecursionError)


class UnreadableLedger(ValueError):
    """The text is no ledger of a version that this program reads; the message says why."""


class NewerLedger(UnreadableLedger):
    """The ledger was written by a newer acmeistio."""


def to_json(ledger: Ledger) -> str:
    """The ledger as text, the same text for the same ledger."""
    document = {
        "schemaVersion": SCHEMA_VERSION,
        "names": [
            {"issuer": issuer, "name": name, **_failure_to_json(failure)}
            for (issuer, name), failure in sorted(ledger.names.items())
        ],
        "targets": [
            {"target": str(target), "issuer": issuer, **_failure_to_json(failure)}
            for (target, issuer), failure in sorted(ledger.targets.items())
        ],
        "orders": [
            {"target": str(target), **_order_to_json(order)}
            for target, order in sorted(ledger.orders.items())
        ],
        "pauses": [
            {"issuer": issuer, **_pause_to_json(pause)}
            for issuer, pause in sorted(ledger.pauses.items())
        ],
        "budgets": _budgets_to_json(ledger.budgets),
        "asOf": ledger.as_of.isoformat() if ledger.as_of else None,
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


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
        document = document if version == SCHEMA_VERSION else _of_version_1(document)
        return Ledger(
            names={
                (str(row["issuer"]), _name(row["name"])): _failure(row) for row in document["names"]
            },
            targets={
                (_target(row), str(row["issuer"])): _failure(row) for row in document["targets"]
            },
            orders={_target(row): _order(row) for row in document["orders"]},
            pauses={str(row["issuer"]): _pause(row) for row in document["pauses"]},
            budgets=_budgets(document["budgets"]),
            as_of=_instant(document["asOf"]) if document["asOf"] else None,
        )
    except UnreadableLedger:
        raise
    except _SPOILT as error:
        raise UnreadableLedger(f"the ledger is not readable ({type(error).__name__})") from error


def _of_version_1(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an older acmeistio knew and is still of use: open orders and pauses."""
    return {**document, "names": (), "targets": (), "budgets": {}, "asOf": None}


def _failure_to_json(failure: Failure) -> dict[str, Any]:
    return {
        "count": failure.count,
        "retryAt": failure.retry_at.isoformat(),
        "armedBy": list(failure.armed_by),
        "problem": failure.problem,
        "costly": failure.costly,
        "kind": failure.kind,
        "link": failure.link,
    }


def _failure(row: Mapping[str, Any]) -> Failure:
    return Failure(
        count=int(row["count"]),
        retry_at=_instant(row["retryAt"]),
        armed_by=tuple(str(digest) for digest in row["armedBy"]),
        problem=str(row["problem"]),
        costly=bool(row["costly"]),
        kind=str(row["kind"]),
        link=str(row["link"]),
    )


def _pause_to_json(pause: Pause) -> dict[str, Any]:
    return {
        "until": pause.until.isoformat(),
        "problem": pause.problem,
        "attempts": pause.attempts,
    }


def _pause(row: Mapping[str, Any]) -> Pause:
    attempts = int(row.get("attempts", 0))  # unknown to version 1
    return Pause(_instant(row["until"]), str(row["problem"]), attempts)


def _budgets_to_json(budgets: Budgets) -> dict[str, dict[str, dict[str, int]]]:
    """By directory, kind and subject, in whole seconds: there may be thousands."""
    document: dict[str, dict[str, dict[str, int]]] = {}
    for key, instant in sorted(budgets.items()):
        of_kind = document.setdefault(key.directory_url, {}).setdefault(key.kind, {})
        of_kind[key.subject] = -int(-instant.timestamp() // 1)
    return document


def _budgets(document: Mapping[str, Any]) -> dict[BudgetKey, datetime]:
    return {
        BudgetKey(url, Kind(kind), subject): datetime.fromtimestamp(int(seconds), UTC)
        for url, kinds in document.items()
        for kind, subjects in kinds.items()
        for subject, seconds in subjects.items()
    }


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
