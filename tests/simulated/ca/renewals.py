"""When certificates had better be renewed, and by which order they are (RFC 9773; Boulder)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.simulated.ca.jws import b64url
from tests.simulated.ca.messages import Reply
from tests.simulated.ca.options import CaOptions
from tests.simulated.ca.policy import Wish
from tests.simulated.ca.problems import Problem, Refused, Rule, not_found
from tests.simulated.ca.records import Account, Book, Certificate, Status, Window
from tests.simulated.ca.world import World, rfc3339

_SECOND = timedelta(seconds=1)
_SHORT_LIFE = timedelta(days=10)
_LATE = timedelta(hours=1)
_LATE_WIDTH = timedelta(minutes=30)
_SPREAD = 0.2


@dataclass(eq=False, slots=True)
class Renewals:
    """Suggests windows, and decides whether an order replaces a certificate."""

    world: World
    options: CaOptions
    book: Book
    issuer_id: bytes

    def show(self, name: str) -> Reply:
        """Renewal information, for anyone who asks (RFC 9773 §4.2)."""
        certificate = self.book.renewable.get(name)
        if certificate is None:
            raise not_found("certificate")
        seconds = self.options.renewal_info_retry_after_seconds
        spread = self.world.random.uniform(1 - _SPREAD, 1 + _SPREAD)
        headers = {"content-type": "application/json", "retry-after": str(int(seconds * spread))}
        body = certificate.shown or self._document(certificate)
        return Reply(200, body, headers, self._broken_by_asking(certificate))

    def predecessor(self, account: Account, wish: Wish) -> Certificate | None:
        """What an order of that wish replaces (RFC 9773 §5; Boulder validateReplacementOrder)."""
        if not wish.replaces:
            return None
        old = self.book.renewable.get(wish.replaces)
        if old and self._has_replacement(old):
            raise _bad_replaces("alreadyReplaced", "already has a replacement order", 409)
        if not wish.replaces.startswith(f"{b64url(self.issuer_id)}."):
            raise _bad_replaces("malformed", "the certificate is of another issuer", 400)
        if not old:
            raise _bad_replaces("malformed", "no current certificate with that serial exists", 404)
        if old.account is not account:
            detail = "requester account did not request the certificate being replaced"
            raise _bad_replaces("unauthorized", detail, 403)
        if not any(map(old.covers, wish.names)):
            raise _bad_replaces("malformed", "identifiers in this order do not match any", 400)
        return old

    def is_open(self, certificate: Certificate | None) -> bool:
        """Whether its window is open now: only then its renewal is exempt from limits."""
        now = self.world.now()
        return certificate is not None and window(certificate, now).holds(now)

    def _has_replacement(self, old: Certificate) -> bool:
        """An open or finished replacement order; an invalid or expired one frees it (Boulder)."""
        order = old.replacement
        return order is not None and order.status(self.world.now()) is not Status.INVALID

    def _broken_by_asking(self, certificate: Certificate) -> Rule | None:
        order = certificate.replacement
        replaced = order and order.certificate and order.certificate.fetched
        over = self.world.now() > certificate.not_after
        return Rule.RENEWAL_INFO_IN_USE if replaced or over else None

    def _document(self, certificate: Certificate) -> bytes:
        shown = window(certificate, self.world.now())
        document: dict[str, object] = {
            "suggestedWindow": {"start": rfc3339(shown.start), "end": rfc3339(shown.end)}
        }
        if certificate.explanation_url:
            document["explanationURL"] = certificate.explanation_url
        body = json.dumps(document).encode()
        if not certificate.revoked:
            certificate.shown = body
        return body


def renewal_id(key_id: bytes, serial: int) -> str:
    """The name of a certificate: its issuer's key and its own serial number (RFC 9773 §4.1)."""
    octets = serial.to_bytes(serial.bit_length() // 8 + 1)
    return f"{b64url(key_id)}.{b64url(octets)}"


def window(certificate: Certificate, now: datetime) -> Window:
    """The window to show: at once for revoked ones, a test's, else Boulder's own."""
    if certificate.revoked:
        return Window(now - _LATE, now - _LATE + _LATE_WIDTH)
    return certificate.suggestion or _usual_window(certificate)


def _usual_window(certificate: Certificate) -> Window:
    """At two thirds of its life, half of a short one, ± 1 % (Boulder RenewalInfoSimple)."""
    validity = certificate.not_after + _SECOND - certificate.not_before
    left = validity / (2 if validity < _SHORT_LIFE else 3)
    ideal, margin = certificate.not_after - left, validity / 100
    return Window(_whole(ideal - margin), _whole(ideal + margin))


def _whole(instant: datetime) -> datetime:
    return instant.replace(microsecond=0)


def _bad_replaces(kind: str, detail: str, status: int) -> Refused:
    return Refused(Problem(kind, f"Could not validate ARI 'replaces' field :: {detail}", status))
