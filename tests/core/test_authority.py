"""planning/authority.py: which CA is asked for a target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from acmeistio.issuer import Issuer, Limit, Limits, Profile
from acmeistio.model import CertificateSpec, Defer, Held, Issue, IssueReason, Keep, Stored
from acmeistio.planning import limits
from acmeistio.planning.decide import Verdict, decide
from acmeistio.planning.failing import armed_by
from acmeistio.planning.ledger import NEVER, Failure, Ledger, OpenOrder, Pause
from acmeistio.planning.limits import Exemption
from acmeistio.planning.plan import World, plan
from acmeistio.planning.renewal import endangered_at, last_resort_at, renew_at
from acmeistio.planning.situation import Situation
from tests.core.builders import (
    CA,
    DAY,
    INSTALLATION,
    MINUTE,
    NOW,
    TARGET,
    A,
    B,
    declaration,
    placeholder_of,
    situation,
    spec_of,
    stored,
)

HELPER = Issuer("helper", "https://helper.example/directory", profile="short")
HELPED = replace(CA, fallback="helper")
STAGING = Issuer("staging", "https://staging.example/directory", trusted=False)
ISSUERS: Mapping[str, Issuer] = {"ca": HELPED, "helper": HELPER, "staging": STAGING}


def asked(spec: CertificateSpec, held: Held, **changes: Any) -> Situation:
    """A situation with these issuers."""
    return situation(spec, held, issuers=ISSUERS, **changes)


def codes(verdict: Verdict) -> list[str]:
    """The codes of the Defects, each one's words made once."""
    assert all(made.sentence and made.remedy for made in verdict.defects)
    return [made.code for made in verdict.defects]


# --- downgrade

BY_CA = stored(A, made=NOW - DAY)


def test_a_downgrade_is_refused() -> None:
    """A certificate of a public CA is never replaced by one of a staging CA (DESIGN §5)."""
    verdict = decide(asked(spec_of(A, issuer="staging"), BY_CA))
    assert verdict.decision == Keep(renew_at(BY_CA.leaf))
    assert codes(verdict) == ["DowngradeRefused"]
    assert "renewed by ca" in verdict.defects[0].sentence


def test_what_is_kept_is_renewed_by_who_made_it() -> None:
    """Kept is not: let to expire (authority.py)."""
    held = stored(A, profile="tlsserver")
    verdict = decide(asked(spec_of(A, issuer="staging"), held, now=renew_at(held.leaf)))
    assert verdict.decision == Issue((A,), IssueReason.RENEWAL_DUE)
    assert (verdict.spec.issuer, verdict.spec.profile) == ("ca", "tlsserver")


def test_names_join_what_is_kept() -> None:
    """New names are got from its CA too: they must not be lost to the refusal (authority.py)."""
    verdict = decide(asked(spec_of(A, B, issuer="staging"), BY_CA))
    assert verdict.decision == Issue((A, B), IssueReason.NAMES_ADDED)
    assert verdict.spec.issuer == "ca"


@pytest.mark.parametrize(
    "held",
    [
        stored(A, allows_downgrade=True),
        stored(A, made=NOW - 90 * DAY),
        placeholder_of(A),
        stored(A, directory_url=STAGING.directory_url, made=NOW - 60 * DAY),
        stored(A, directory_url="https://unknown.example", made=NOW - DAY),
        stored(A, directory_url=None, written_sha256="by hand", made=NOW - 60 * DAY),
    ],
)
def test_no_downgrade(held: Stored) -> None:
    """The Secret says so, or nothing that browsers trust is served by a CA that is known."""
    verdict = decide(asked(spec_of(A, issuer="staging"), held))
    assert isinstance(verdict.decision, Issue)
    assert verdict.spec.issuer == "staging"
    assert "DowngradeRefused" not in codes(verdict)


def test_a_refusal_ends_with_what_it_keeps() -> None:
    """Whoever waits to renew it must not sleep through its end (plan.py, look_again_at)."""
    held, spec = stored(A, made=NOW - 89 * DAY), spec_of(A)
    digest = armed_by(spec, HELPED, held.marks)
    ledger = Ledger().target_failed(TARGET, "ca", Failure(4, NEVER, (digest,), "no"))
    verdict = decide(asked(spec_of(A, issuer="staging"), held, ledger=ledger))
    assert verdict.decision == Defer(held.leaf.not_after, IssueReason.RENEWAL_DUE, (A,))
    later = asked(spec_of(A, issuer="staging"), held, ledger=ledger, now=held.leaf.not_after)
    assert decide(later).spec.issuer == "staging"


def test_another_trusted_ca_is_no_downgrade() -> None:
    """From one CA that browsers trust to another is what users asked for (issuer.py)."""
    verdict = decide(asked(spec_of(A, issuer="helper"), BY_CA))
    assert verdict.decision == Issue((A,), IssueReason.ISSUER_CHANGED)
    assert codes(verdict) == []


# --- fallback

HELD = stored(A, B, made=NOW)
SPEC = spec_of(A, B)
RUNNING_OUT = last_resort_at(HELD.leaf)
"""Day 82.5."""


def refused_by(issuer: str, until: datetime, ledger: Ledger | None = None) -> Ledger:
    """A ledger in which an issuer refuses the order as a whole."""
    spec = SPEC
    if issuer == "helper":
        spec = replace(SPEC, issuer="helper", profile="short", fallback_for=CA.directory_url)
    digest = armed_by(spec, ISSUERS[issuer], HELD.marks)
    failure = Failure(4, until, (digest,), "no")
    return (ledger or Ledger()).target_failed(TARGET, issuer, failure)


def all_names_fail(until: datetime) -> Ledger:
    """A ledger in which the CA can't validate any name."""
    ledger = Ledger()
    for name in SPEC.names:
        digest = armed_by(SPEC, HELPED, HELD.marks, name)
        ledger = ledger.name_failed("ca", name, Failure(4, until, (digest,), "no"))
    return ledger


UNTIL = RUNNING_OUT + DAY


@pytest.mark.parametrize(
    "blocked",
    [
        refused_by("ca", UNTIL),
        refused_by("ca", NEVER),
        Ledger().paused("ca", Pause(UNTIL, "slow down")),
        all_names_fail(UNTIL),
        all_names_fail(NEVER),
    ],
)
def test_the_fallback_helps_what_is_running_out(blocked: Ledger) -> None:
    """A twelfth of the life left, and its issuer does not deliver: another CA is asked."""
    verdict = decide(asked(SPEC, HELD, ledger=blocked, now=RUNNING_OUT))
    assert verdict.decision == Issue((A, B), IssueReason.RENEWAL_DUE)
    assert (verdict.spec.issuer, verdict.spec.profile) == ("helper", "short")
    assert verdict.spec.fallback_for == CA.directory_url


@pytest.mark.parametrize(
    ("held", "ledger", "now"),
    [
        (HELD, refused_by("ca", UNTIL), RUNNING_OUT - timedelta(seconds=1)),
        (HELD, Ledger(), RUNNING_OUT),
        (HELD, refused_by("ca", RUNNING_OUT), RUNNING_OUT),
        (placeholder_of(A, B), refused_by("ca", UNTIL), RUNNING_OUT),
    ],
)
def test_nobody_else_is_asked(held: Held, ledger: Ledger, now: datetime) -> None:
    """There is time left, or the issuer may deliver, or nothing ever served (authority.py)."""
    assert decide(asked(SPEC, held, ledger=ledger, now=now)).spec.issuer == "ca"


def test_one_name_that_works_is_no_reason() -> None:
    """The issuer delivers for the others; no CA is changed for a name that fails everywhere."""
    ledger = Ledger(names={("ca", A): all_names_fail(UNTIL).names["ca", A]})
    verdict = decide(asked(SPEC, HELD, ledger=ledger, now=RUNNING_OUT))
    assert verdict.decision == Issue((B,), IssueReason.RENEWAL_DUE)
    assert verdict.spec.issuer == "ca"


@pytest.mark.parametrize(
    "helper",
    [
        replace(HELPER, max_names=1),
        replace(HELPER, profiles={"short": Profile(max_names=1)}),
    ],
)
def test_a_fallback_without_room_is_not_asked(helper: Issuer) -> None:
    """What it must refuse would only use up its limits (Issuer.can_issue)."""
    issuers = {**ISSUERS, "helper": helper}
    ledger = refused_by("ca", UNTIL)
    asked_now = replace(asked(SPEC, HELD, ledger=ledger, now=RUNNING_OUT), issuers=issuers)
    assert decide(asked_now).spec.issuer == "ca"


@pytest.mark.parametrize(("opened", "asks"), [(False, "helper"), (True, "ca")])
def test_an_empty_budget_is_no_reason_to_expire(opened: bool, asks: str) -> None:
    """A CA whose limits leave no room does not deliver; an order that it has is paid for."""
    day = Limit(1, DAY)
    issuers = {**ISSUERS, "ca": replace(HELPED, limits=Limits(certificates_per_set=day))}
    costs = limits.costs_of_order(issuers["ca"], SPEC.names, Exemption.NONE)
    ledger = Ledger().spent(costs, RUNNING_OUT)
    if opened:
        order = OpenOrder("https://ca.example/order/1", CA.directory_url, SPEC.names, RUNNING_OUT)
        ledger = ledger.order_opened(TARGET, order)
    asked_now = replace(asked(SPEC, HELD, ledger=ledger, now=RUNNING_OUT), issuers=issuers)
    assert decide(asked_now).spec.issuer == asks


def test_an_expired_certificate_is_helped_too() -> None:
    """What has run out already needs it most (authority.py)."""
    ledger = refused_by("ca", HELD.leaf.not_after + DAY)
    verdict = decide(asked(SPEC, HELD, ledger=ledger, now=HELD.leaf.not_after))
    assert verdict.decision == Issue((A, B), IssueReason.EXPIRED)
    assert verdict.spec.issuer == "helper"


def test_it_is_looked_at_again_when_it_runs_out() -> None:
    """Whoever waits longer than that must not sleep through it (plan.py, look_again_at)."""
    ledger = refused_by("ca", NEVER)
    verdict = decide(asked(SPEC, HELD, ledger=ledger, now=endangered_at(HELD.leaf)))
    assert verdict.decision == Defer(RUNNING_OUT, IssueReason.RENEWAL_DUE, SPEC.names)


def test_both_are_blocked() -> None:
    """Then the issuer is the one that counts, until the first of both may be asked."""
    ledger = refused_by("helper", RUNNING_OUT + MINUTE, refused_by("ca", NEVER))
    verdict = decide(asked(SPEC, HELD, ledger=ledger, now=RUNNING_OUT))
    assert verdict.spec.issuer == "ca"
    assert verdict.decision == Defer(RUNNING_OUT + MINUTE, IssueReason.RENEWAL_DUE, SPEC.names)
    later = asked(SPEC, HELD, ledger=ledger, now=RUNNING_OUT + MINUTE)
    assert decide(later).spec.issuer == "helper"


def world(ledger: Ledger, held: Held, now: datetime) -> World:
    """The same as a whole world."""
    installation = replace(INSTALLATION, issuers=ISSUERS)
    declarations = (declaration("web", A, B),)
    return World(declarations, {TARGET: held}, frozenset(), ledger, installation, now)


@pytest.mark.parametrize("ledger", [Ledger(), all_names_fail(UNTIL)])
def test_what_failed_at_either_is_remembered(ledger: Ledger) -> None:
    """Else both would be asked in turn, each for the first time (plan.py, names)."""
    made = plan(world(ledger, HELD, RUNNING_OUT))
    assert {("ca", A), ("helper", A), ("ca", B), ("helper", B)} <= made.names
    assert len(made.names) == 4


HELPED_OUT = stored(
    A,
    B,
    made=NOW,
    directory_url=HELPER.directory_url,
    profile="short",
    fallback_for=CA.directory_url,
)


def test_what_the_fallback_made_is_kept() -> None:
    """No ping-pong: it stays until it is due, though its issuer can be asked again."""
    verdict = decide(asked(SPEC, HELPED_OUT))
    assert verdict.decision == Keep(renew_at(HELPED_OUT.leaf))
    assert codes(verdict) == ["FallbackUsed"]
    assert "made by helper, since ca did not deliver" in verdict.defects[0].sentence


def test_the_next_renewal_asks_the_issuer_again() -> None:
    """The fallback helps once (reasons.py, FallbackUsed)."""
    verdict = decide(asked(SPEC, HELPED_OUT, now=renew_at(HELPED_OUT.leaf)))
    assert verdict.decision == Issue((A, B), IssueReason.RENEWAL_DUE)
    assert (verdict.spec.issuer, verdict.spec.fallback_for) == ("ca", None)


def test_the_fallback_renews_its_own() -> None:
    """Where the issuer still does not deliver when that one runs out (authority.py)."""
    spec = replace(SPEC)
    digest = armed_by(spec, HELPED, HELPED_OUT.marks)
    ledger = Ledger().target_failed(TARGET, "ca", Failure(9, UNTIL, (digest,), "no"))
    verdict = decide(asked(SPEC, HELPED_OUT, ledger=ledger, now=RUNNING_OUT))
    assert verdict.decision == Issue((A, B), IssueReason.RENEWAL_DUE)
    assert (verdict.spec.issuer, verdict.spec.profile) == ("helper", "short")


def test_a_change_of_the_issuer_is_no_fallback() -> None:
    """Who declares a third CA gets it, whoever made the certificate for whom."""
    verdict = decide(asked(spec_of(A, B, issuer="helper"), stored(A, B, made=NOW)))
    assert verdict.decision == Issue((A, B), IssueReason.ISSUER_CHANGED)
