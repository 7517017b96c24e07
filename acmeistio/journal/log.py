"""Tells in the log what happens: one line per change, with the sentence that a user needs.

Owns how events are named in the log. It hides no level of detail behind prose: each line has a
stable event name and its facts as fields.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import structlog

from acmeistio.accounts import AccountEvent
from acmeistio.controller import Look
from acmeistio.errors import AcmeistioError
from acmeistio.issuing import Issued, NotIssued
from acmeistio.model import (
    CertificateSpec,
    Defer,
    Issue,
    StoreKnown,
    StorePlaceholder,
    Validate,
)
from acmeistio.planning.changed import exchanged
from acmeistio.planning.plan import in_order
from acmeistio.reasons import Defect, Severity, plain
from acmeistio.settings import LogFormat

AT_ONCE = 25
"""So many lines are written between two breaths."""

TOLD_AGAIN_SECONDS = 300.0
"""The same failure of the same part is told again after this."""


def configure(log_format: LogFormat, level: str) -> None:
    """Log to standard output, as text or as JSON lines."""
    text = log_format is LogFormat.TEXT or (log_format is LogFormat.AUTO and sys.stdout.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        if text
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Handed()])


class _Handed(logging.Handler):
    """Lines of Python's own logging, which libraries and the adapters write, told as all others."""

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a record on, with its traceback; a line that can't be made is no failure."""
        try:
            structlog.get_logger().log(
                _level(record.levelno),
                "log",
                logger=record.name,
                message=plain(record.getMessage(), 1000),
                exc_info=record.exc_info,
            )
        except Exception:  # noqa: BLE001  # as every Handler does: whoever logs must go on
            self.handleError(record)


def _level(number: int) -> int:
    """The next lower level that has a name: structlog knows no other."""
    return next((n for n in (logging.CRITICAL, logging.ERROR) if number >= n), logging.WARNING)


def tell_unknown_variables(advice: Mapping[str, str]) -> None:
    """A line for each variable that looks like a setting and is none: a slip changes nothing."""
    for name, remedy in advice.items():
        structlog.get_logger().warning("unknown-setting", variable=name, remedy=remedy)


class LogJournal:
    """The controller's Journal as log lines."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()
        self._defects: tuple[Defect, ...] = ()
        self._looked: Mapping[str, int] = {}
        self._failing: dict[str, tuple[str, float]] = {}
        """The last problem of each part, and when it was told."""

    def looked(self, look: Look) -> Iterator[None]:
        """A line for each Defect that came or went, and one when what is to be done has changed."""
        yield from self._tell_defects(look.defects)
        unsettled = look.plan.unsettled.values()
        deferred = sum(isinstance(verdict.decision, Defer) for verdict in unsettled)
        counts = {
            "certificates": len(look.plan.verdicts),
            "to_do": len(unsettled) - deferred,
            "deferred": deferred,
            "defects": len(self._defects),
        }
        if counts != self._looked:
            self._looked = counts
            self._log.info("look-done", **counts)

    def _tell_defects(self, current: tuple[Defect, ...]) -> Iterator[None]:
        gone, come = map(in_order, exchanged(self._defects, current))
        self._defects = current
        yield
        # What came may be what went, made anew.
        for number, found in enumerate(_without(come, gone), 1):
            log = self._log.error if found.reason.severity is Severity.ERROR else self._log.warning
            log("defect", **_fields(found), sentence=found.sentence, remedy=found.remedy)
            if number % AT_ONCE == 0:
                yield
        gone = _without(gone, come)
        subjects = {(found.subject, found.code) for found in (current if gone else ())}
        for number, found in enumerate(gone, 1):
            if (found.subject, found.code) not in subjects:
                self._log.info("defect-gone", **_fields(found))
            if number % AT_ONCE == 0:
                yield

    def issued(self, spec: CertificateSpec, issue: Issue, issued: Issued) -> None:
        """The line that an operator waits for."""
        leaf = issued.bundle.leaf
        self._log.info(
            "certificate-issued",
            secret=str(spec.target),
            names=sorted(leaf.names),
            reason=issue.reason,
            issuer=spec.issuer,
            serial=f"{leaf.serial:x}",
            not_after=leaf.not_after.isoformat(),
        )

    def not_issued(
        self, spec: CertificateSpec, decision: Issue | Validate, not_issued: NotIssued
    ) -> None:
        """An order failed; the Defects say what to do."""
        self._log.warning(
            "certificate-not-issued",
            secret=str(spec.target),
            **_wanted(decision),
            issuer=spec.issuer,
            problem=plain(not_issued.problem, 1000),
        )

    def stored(self, spec: CertificateSpec, decision: StoreKnown | StorePlaceholder) -> None:
        """A Secret was put right."""
        known = isinstance(decision, StoreKnown)
        event = "certificate-restored" if known else "placeholder-stored"
        self._log.info(event, secret=str(spec.target))

    def tended(self, event: AccountEvent) -> None:
        """An account has another key, or is no more."""
        self._log.info(
            f"account-{event.change}", issuer=event.issuer, account=plain(event.account_url)
        )

    def failed(self, what: str, error: BaseException) -> None:
        """What was not expected comes with its traceback; what lasts is not told at each try."""
        expected = isinstance(error, AcmeistioError | ValueError)
        problem = plain(f"{type(error).__name__}: {error}")
        told, at = self._failing.get(what, ("", 0.0))
        if told == problem and time.monotonic() - at < TOLD_AGAIN_SECONDS:
            return
        self._failing[what] = (problem, time.monotonic())
        self._log.error("failed", what=what, problem=problem, exc_info=None if expected else error)


def _fields(found: Defect) -> dict[str, str]:
    return {"object": str(found.subject), "reason": found.code}


def _without(some: tuple[Defect, ...], others: tuple[Defect, ...]) -> tuple[Defect, ...]:
    left_out = frozenset(others)
    return tuple(found for found in some if found not in left_out) if others else some


def _wanted(decision: Issue | Validate) -> dict[str, Any]:
    """What an order was for."""
    if isinstance(decision, Validate):
        return {"names": [decision.name], "reason": "ValidatedAlone"}
    return {"names": list(decision.names), "reason": decision.reason}
