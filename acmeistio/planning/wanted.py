"""Why another certificate is wanted than the one that is stored. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from acmeistio.model import IssueReason, Stored, is_by_hand
from acmeistio.names import DnsName, covers
from acmeistio.planning.renewal import pressing_at, renew_at
from acmeistio.planning.situation import Situation, is_placeholder


def wanted(situation: Situation, orderable: tuple[DnsName, ...]) -> IssueReason | None:
    """The first reason for another certificate, None if the one stored will do for now."""
    held = situation.held
    if not isinstance(held, Stored):
        return IssueReason.SECRET_UNUSABLE
    if is_placeholder(held):
        return IssueReason.NOT_ISSUED_YET
    return next(_reasons(situation, held, orderable), None)


def _reasons(
    situation: Situation, held: Stored, orderable: tuple[DnsName, ...]
) -> Iterator[IssueReason]:
    leaf, now = held.leaf, situation.now
    if leaf.not_after <= now:
        yield IssueReason.EXPIRED
    if held.marks.revoked_sha256 == leaf.sha256:
        yield IssueReason.REVOKED
    yield from _changed(situation, held)
    if not all(covers(leaf.names, name) for name in orderable):
        yield IssueReason.NAMES_ADDED
    if due_at(situation, held) <= now:
        yield IssueReason.RENEWAL_DUE


def due_at(situation: Situation, held: Stored) -> datetime:
    """When the stored certificate is due; while the CA is asked, only what presses counts."""
    if situation.awaits_suggestion:
        return pressing_at(held.leaf)
    return renew_at(held.leaf, situation.suggestion)


def _changed(situation: Situation, held: Stored) -> Iterator[IssueReason]:
    """What was asked for, or changed in the spec, since the certificate was made.

    One that was placed by hand was made with no parameters of ours. Who asks a fallback renews.
    """
    leaf, marks, spec = held.leaf, held.marks, situation.spec
    if marks.renew_requested_at not in (None, marks.renewed_for):
        yield IssueReason.RENEWAL_REQUESTED
    if is_by_hand(held):
        return
    url = situation.issuer.directory_url
    made_for = (marks.directory_url, marks.fallback_for)
    if url not in made_for and not spec.fallback_for:
        yield IssueReason.ISSUER_CHANGED
    if marks.profile != spec.profile and marks.directory_url == url:
        yield IssueReason.PROFILE_CHANGED
    if leaf.key_type != spec.key_type:
        yield IssueReason.KEY_TYPE_CHANGED
