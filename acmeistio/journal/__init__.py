"""Tells what happens, to those who want to know: the log, and Events on the users' objects.

They are told by the controller and tell nothing back.
"""

from __future__ import annotations

from collections.abc import Iterator

from acmeistio.accounts import AccountEvent
from acmeistio.controller import Journal, Look
from acmeistio.issuing import Issued, NotIssued
from acmeistio.model import CertificateSpec, Issue, StoreKnown, StorePlaceholder, Validate


class Journals:
    """Several Journals as one."""

    def __init__(self, *journals: Journal) -> None:
        self._journals = journals

    def looked(self, look: Look) -> Iterator[None]:
        """See Journal.looked."""
        for journal in self._journals:
            yield from journal.looked(look)

    def issued(self, spec: CertificateSpec, issue: Issue, issued: Issued) -> None:
        """See Journal.issued."""
        for journal in self._journals:
            journal.issued(spec, issue, issued)

    def not_issued(
        self, spec: CertificateSpec, decision: Issue | Validate, not_issued: NotIssued
    ) -> None:
        """See Journal.not_issued."""
        for journal in self._journals:
            journal.not_issued(spec, decision, not_issued)

    def stored(self, spec: CertificateSpec, decision: StoreKnown | StorePlaceholder) -> None:
        """See Journal.stored."""
        for journal in self._journals:
            journal.stored(spec, decision)

    def tended(self, event: AccountEvent) -> None:
        """See Journal.tended."""
        for journal in self._journals:
            journal.tended(event)

    def failed(self, what: str, error: BaseException) -> None:
        """See Journal.failed."""
        for journal in self._journals:
            journal.failed(what, error)
