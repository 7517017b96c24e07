"""planning/decide.py: one test per rule of what to do for one target."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from acmeistio.issuer import LETS_ENCRYPT_LIMITS
from acmeistio.model import (
    CertificateSpec,
    Defer,
    Issue,
    IssueReason,
    Keep,
    KeyType,
    Marks,
    ObjectRef,
    Revoke,
    Stored,
    StoreKnown,
    StorePlaceholder,
    Unreachable,
    Unusable,
    Validate,
)
from acmeistio.names import DnsName
from acmeistio.planning import limits, setbacks
from acmeistio.planning.decide import HOLD_BACK_FAILURES, Verdict, decide
from acmeistio.planning.failing import REVOCATION, name_failures
from acmeistio.planning.ledger import NEVER, Failure, Ledger, Pause
from acmeistio.planning.limits import Exemption
from acmeistio.planning.renewal import endangered_at, renew_at
from acmeistio.planning.setbacks import Case, Setback
from acmeistio.planning.situation import Situation
from tests.core.builders import (
    CA,
    DAY,
    MINUTE,
    NOW,
    OTHER_CA,
    REF,
    TARGET,
    A,
    B,
    C,
    digest_of,
    failed_name,
    failed_target,
    placeholder_of,
    situation,
    spec_of,
    stored,
)

MANAGED = Marks(managed=True)


def codes(verdict: Verdict) -> list[str]:
    """The codes of the Defects, each one's words made once."""
    assert all(made.sentence and made.remedy for made in verdict.defects)
    return [made.code for made in verdict.defects]


def quiet(asked: Situation) -> object:
    """The decision, where there is nothing to complain of."""
    verdict = decide(asked)
    assert codes(verdict) == []
    return verdict.decision


# --- is there a pair to serve?


def test_placeholder_first() -> None:
    """A target that does not exist gets a placeholder at once (DESIGN §5, Placeholder)."""
    assert quiet(situation(spec_of(A), None)) == StorePlaceholder()


def test_placeholder_whatever_the_ca_says() -> None:
    """It waits for no pause and no backoff: the CA is not asked for it (DESIGN §5)."""
    spec = spec_of(A)
    ledger = failed_target(spec).paused("ca", Pause(NOW + DAY, "slow down"))
    assert quiet(situation(spec, None, ledger=ledger)) == StorePlaceholder()


def test_a_deleted_secret_comes_back_from_memory() -> None:
    """A deleted Secret is put right at once from memory (DESIGN §5, Bundles)."""
    assert quiet(situation(spec_of(A), None, remembers=True)) == StoreKnown()


def test_an_unusable_pair_comes_back_from_memory() -> None:
    """An unusable pair under our label is put right from memory (DESIGN §5, Bundles)."""
    held = Unusable("tls.key is missing", MANAGED)
    assert quiet(situation(spec_of(A), held, remembers=True)) == StoreKnown()


def test_an_unusable_pair_is_ordered_anew() -> None:
    """… else by an order within the budget, and shown (DESIGN §5, Bundles)."""
    spec, held = spec_of(A, B), Unusable("tls.key is missing", MANAGED)
    verdict = decide(situation(spec, held))
    assert verdict.decision == Issue((A, B), IssueReason.SECRET_UNUSABLE)
    assert codes(verdict) == ["SecretUnusable"]
    assert "tls.key is missing" in verdict.defects[0].sentence
    waiting = decide(situation(spec, held, ledger=failed_target(spec)))
    assert waiting.decision == Defer(NOW + MINUTE, IssueReason.SECRET_UNUSABLE, (A, B))


@pytest.mark.parametrize("remembers", [True, False])
@pytest.mark.parametrize(
    "held",
    [
        stored(A, managed=False),
        stored(A, managed=False, made=NOW - 100 * DAY),
        stored(C, managed=False, renew_requested_at="now", placeholder=True),
        Unusable("tls.crt is missing", Marks(managed=False)),
    ],
)
def test_a_foreign_secret_is_never_touched(held: Stored | Unusable, remembers: bool) -> None:
    """A Secret that acmeistio does not manage is never overwritten (DESIGN §5, Bundles)."""
    verdict = decide(situation(spec_of(A, B), held, remembers=remembers))
    assert verdict.decision == Keep(None)
    assert codes(verdict) == ["SecretNotManaged"]
    assert verdict.defects[0].subject == TARGET.ref


def test_by_hand_is_kept_until_due() -> None:
    """A valid other pair placed by hand is kept until it is due, with a Defect (DESIGN §5).

    It was made with no parameters of ours, so none of them has changed.
    """
    held = stored(A, B, written_sha256="ours", directory_url=None, profile="x")
    held = replace(held, leaf=replace(held.leaf, key_type=None))
    due = renew_at(held.leaf)
    verdict = decide(situation(spec_of(A, B, profile="tlsserver"), held, remembers=True))
    assert verdict.decision == Keep(due)
    assert codes(verdict) == ["CertificateReplacedByHand"]
    verdict = decide(situation(spec_of(A, B), held, now=due))
    assert verdict.decision == Issue((A, B), IssueReason.RENEWAL_DUE)


def test_by_hand_over_a_placeholder_is_kept() -> None:
    """So is one that a user puts in the placeholder's stead: the mark is not about it."""
    placed = placeholder_of(A)
    held = replace(placed, leaf=replace(placed.leaf, sha256="by hand", not_after=NOW + 90 * DAY))
    verdict = decide(situation(spec_of(A), held))
    assert verdict.decision == Keep(renew_at(held.leaf))
    assert codes(verdict) == ["CertificateReplacedByHand"]


def test_by_hand_must_cover_the_names() -> None:
    """Kept is what covers the names; another one is replaced (DESIGN §5, Bundles)."""
    held = stored(A, written_sha256="ours")
    assert decide(situation(spec_of(A, B), held)).decision == Issue((A, B), IssueReason.NAMES_ADDED)
    wild = stored(DnsName("*.example.com"), written_sha256="ours")
    assert isinstance(decide(situation(spec_of(A, B), wild)).decision, Keep)


# --- is another certificate wanted?


def test_a_placeholder_is_replaced() -> None:
    """A placeholder serves until the CA's certificate comes (DESIGN §5, Placeholder)."""
    held = placeholder_of(A, B)
    assert quiet(situation(spec_of(A, B), held)) == Issue((A, B), IssueReason.NOT_ISSUED_YET)


def test_nothing_to_do() -> None:
    """A certificate that is as declared is kept until it is due (DESIGN §5, Renewal)."""
    held = stored(A, B)
    assert quiet(situation(spec_of(A, B), held)) == Keep(held.leaf.not_before + 60 * DAY)


def test_a_new_name_is_ordered() -> None:
    """Adding a name reissues for all names (issue 3, must show)."""
    assert quiet(situation(spec_of(A, B, C), stored(A, B))) == Issue(
        (A, B, C), IssueReason.NAMES_ADDED
    )


def test_a_removed_name_triggers_nothing() -> None:
    """A name that is no longer declared leaves with the next renewal (DESIGN §5, Growing)."""
    held = stored(A, B, C)
    due = renew_at(held.leaf)
    assert quiet(situation(spec_of(A), held)) == Keep(due)
    assert quiet(situation(spec_of(A), held, now=due)) == Issue((A,), IssueReason.RENEWAL_DUE)


@pytest.mark.parametrize(
    ("lifetime", "due"),
    [
        (90 * DAY, 60 * DAY),
        (45 * DAY, 30 * DAY),
        (6 * DAY, 3 * DAY),
        (timedelta(seconds=60), timedelta(seconds=30)),
    ],
)
def test_renewal(lifetime: timedelta, due: timedelta) -> None:
    """At two thirds of the lifetime, half where it is under 10 days (DESIGN §5, Renewal)."""
    held = stored(A, made=NOW, lifetime=lifetime)
    second = timedelta(seconds=1)
    assert quiet(situation(spec_of(A), held, now=NOW + due - second)) == Keep(NOW + due)
    issue = Issue((A,), IssueReason.RENEWAL_DUE)
    assert quiet(situation(spec_of(A), held, now=NOW + due)) == issue


def test_expired() -> None:
    """An expired certificate is replaced, from the very instant it ends."""
    held = stored(A, made=NOW - 90 * DAY)
    assert quiet(situation(spec_of(A), held)) == Issue((A,), IssueReason.EXPIRED)


def test_renewal_on_request() -> None:
    """`acmeistio.io/renew-requested-at` forces one renewal per value (issue 3 §5)."""
    asked = stored(A, renew_requested_at="2030-01-01")
    assert quiet(situation(spec_of(A), asked)) == Issue((A,), IssueReason.RENEWAL_REQUESTED)
    served = stored(A, renew_requested_at="2030-01-01", renewed_for="2030-01-01")
    assert isinstance(quiet(situation(spec_of(A), served)), Keep)
    again = stored(A, renew_requested_at="again", renewed_for="2030-01-01")
    assert quiet(situation(spec_of(A), again)) == Issue((A,), IssueReason.RENEWAL_REQUESTED)
    taken_back = stored(A, renewed_for="2030-01-01")
    assert isinstance(quiet(situation(spec_of(A), taken_back)), Keep)


def test_renewal_on_request_of_one_by_hand() -> None:
    """The remedy of CertificateReplacedByHand works: asked for, a new one is got (reasons.py)."""
    held = stored(A, written_sha256="ours", renew_requested_at="now")
    assert decide(situation(spec_of(A), held)).decision == Issue(
        (A,), IssueReason.RENEWAL_REQUESTED
    )


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (spec_of(A, issuer="other"), IssueReason.ISSUER_CHANGED),
        (spec_of(A, profile="tlsserver"), IssueReason.PROFILE_CHANGED),
        (spec_of(A, key_type=KeyType.RSA_2048), IssueReason.KEY_TYPE_CHANGED),
    ],
)
def test_changed_parameters(spec: CertificateSpec, reason: IssueReason) -> None:
    """Another issuer, profile or key type is another certificate (issue 3 §2)."""
    assert quiet(situation(spec, stored(A))) == Issue((A,), reason)


def test_an_issuer_is_its_directory() -> None:
    """An issuer that was only renamed is the same CA: nothing to order."""
    held = stored(A, directory_url=OTHER_CA.directory_url)
    assert isinstance(quiet(situation(spec_of(A, issuer="other"), held)), Keep)


# --- for which names, and may it be ordered now?


def test_a_failing_name_is_left_out() -> None:
    """A name that fails validation is left out of the next order (DESIGN §5, No name blocks)."""
    spec = spec_of(A, B, C)
    verdict = decide(situation(spec, placeholder_of(A, B, C), ledger=failed_name(spec, B)))
    assert verdict.decision == Issue((A, C), IssueReason.NOT_ISSUED_YET)
    assert codes(verdict) == ["ValidationFailed"]
    assert verdict.defects[0].subject == REF
    assert "b.example.com: NXDOMAIN" in verdict.defects[0].sentence


def test_a_failing_address_is_shown_as_in_a_url() -> None:
    """What the remedy has its reader look at can be pasted (RFC 3986 §3.2.2)."""
    address = DnsName("2001:db8::7")
    spec = spec_of(A, address)
    verdict = decide(situation(spec, placeholder_of(A), ledger=failed_name(spec, address)))
    assert "See that http://[2001:db8::7]/.well-known/" in verdict.defects[0].remedy


def test_a_failing_name_costs_one_order_not_one_per_pass() -> None:
    """With the others served nothing is ordered before its retry, which is for it alone."""
    spec, retry_at = spec_of(A, B), NOW + 10 * MINUTE
    ledger = failed_name(spec, B, retry_at=retry_at)
    verdict = decide(situation(spec, stored(A), ledger=ledger))
    assert verdict.decision == Keep(retry_at)
    assert codes(verdict) == ["ValidationFailed"]
    later = situation(spec, stored(A), ledger=ledger, now=retry_at)
    assert decide(later).decision == Validate(B)
    proved = replace(later, ledger=ledger.name_proved("ca", B))
    assert decide(proved).decision == Issue((A, B), IssueReason.NAMES_ADDED)


def test_every_declaring_object_is_told() -> None:
    """The Defect of a name is one of each object that declares it (DESIGN §4, Defect)."""
    spec = spec_of(A, B)
    other = ObjectRef("Ingress", "shop", "other")
    spec = replace(spec, declared_by={A: (REF, other), B: (other,)})
    verdict = decide(situation(spec, stored(B), ledger=failed_name(spec, A)))
    assert [made.subject for made in verdict.defects] == [REF, other]


def test_all_names_fail() -> None:
    """If no name is left the order waits for the first of them (issue 3 §2)."""
    spec = spec_of(A, B)
    ledger = failed_name(spec, A, retry_at=NOW + 10 * MINUTE)
    ledger = failed_name(spec, B, retry_at=NOW + 2 * MINUTE, ledger=ledger)
    verdict = decide(situation(spec, placeholder_of(A, B), ledger=ledger))
    assert verdict.decision == Defer(NOW + 2 * MINUTE, IssueReason.NOT_ISSUED_YET, (A, B))
    later = situation(spec, placeholder_of(A, B), ledger=ledger, now=NOW + 2 * MINUTE)
    assert decide(later).decision == Issue((B,), IssueReason.NOT_ISSUED_YET)


@pytest.mark.parametrize(
    "changed",
    [
        spec_of(A, B, issuer="other"),
        spec_of(A, B, key_type=KeyType.RSA_2048),
        spec_of(A, B, profile="tlsserver"),
        spec_of(A, B, source=ObjectRef("Ingress", "shop", "another")),
    ],
)
def test_a_changed_declaration_is_tried_at_once(changed: CertificateSpec) -> None:
    """A name joins again when its declaration changes, without waiting (issue 3 §2)."""
    spec = spec_of(A, B)
    failure = Failure(4, NOW + DAY, (digest_of(spec, MANAGED, B),), "NXDOMAIN")
    ledger = Ledger().name_failed(changed.issuer, B, failure)
    asked = situation(spec, Unusable("gone", MANAGED), ledger=ledger)
    assert list(name_failures(asked)) == ([B] if changed.issuer == "ca" else [])
    verdict = decide(situation(changed, placeholder_of(A, B), ledger=ledger))
    assert verdict.decision == Issue((A, B), IssueReason.NOT_ISSUED_YET)
    assert codes(verdict) == []


def test_a_change_elsewhere_arms_nothing() -> None:
    """A name that joins or leaves beside it does not make a failing name be tried again."""
    spec = spec_of(A, B)
    ledger = failed_name(spec, B)
    verdict = decide(situation(spec_of(A, B, C), stored(A), ledger=ledger))
    assert verdict.decision == Issue((A, C), IssueReason.NAMES_ADDED)


def test_a_request_arms_again() -> None:
    """Who asks for a renewal is not made to wait for what was (armed_by; issue 3 §5)."""
    spec = spec_of(A, B)
    ledger = failed_name(spec, B, marks=stored(A).marks)
    held = stored(A, renew_requested_at="now")
    decision = decide(situation(spec, held, ledger=ledger)).decision
    assert decision == Issue((A, B), IssueReason.RENEWAL_REQUESTED)


def test_another_ca_knows_nothing_of_it() -> None:
    """Another CA may well be able to validate what one can't (ledger.py, NameKey)."""
    spec = spec_of(A, B, issuer="other")
    ledger = Ledger().name_failed("ca", B, Failure(1, NOW + DAY, (digest_of(spec, None, B),), "no"))
    decision = decide(situation(spec, placeholder_of(A, B), ledger=ledger)).decision
    assert decision == Issue((A, B), IssueReason.NOT_ISSUED_YET)


def test_a_pause_of_the_issuer() -> None:
    """429 and 503 pause that issuer and no other (issue 3 §3)."""
    ledger = Ledger().paused("ca", Pause(NOW + MINUTE, "too many requests"))
    verdict = decide(situation(spec_of(A), placeholder_of(A), ledger=ledger))
    assert verdict.decision == Defer(NOW + MINUTE, IssueReason.NOT_ISSUED_YET, (A,))
    assert codes(verdict) == ["IssuerPaused"]
    over = situation(spec_of(A), placeholder_of(A), ledger=ledger, now=NOW + MINUTE)
    assert quiet(over) == Issue((A,), IssueReason.NOT_ISSUED_YET)
    other = situation(spec_of(A, issuer="other"), placeholder_of(A), ledger=ledger)
    assert quiet(other) == Issue((A,), IssueReason.NOT_ISSUED_YET)
    assert isinstance(quiet(situation(spec_of(A), stored(A), ledger=ledger)), Keep)


def test_a_ca_that_cant_be_reached() -> None:
    """Its orders wait, and say so to who declared them, also while it is tried once more."""
    ledger = Ledger().paused("ca", Pause(NOW + MINUTE, "refused", attempts=2))
    for at, decision in (
        (NOW, Defer(NOW + MINUTE, IssueReason.NOT_ISSUED_YET, (A,))),
        (NOW + MINUTE, Issue((A,), IssueReason.NOT_ISSUED_YET)),
    ):
        verdict = decide(situation(spec_of(A), placeholder_of(A), ledger=ledger, now=at))
        assert verdict.decision == decision
        [found] = verdict.defects
        assert (found.code, found.subject) == ("OrderDelayed", REF)
    assert isinstance(quiet(situation(spec_of(A), stored(A), ledger=ledger)), Keep)


@pytest.mark.parametrize(("costly", "code"), [(True, "OrderRefused"), (False, "OrderDelayed")])
def test_a_failed_order_waits(costly: bool, code: str) -> None:
    """An order that failed as a whole waits for its backoff and is shown (DESIGN §5, Errors)."""
    spec = spec_of(A)
    ledger = failed_target(spec, costly=costly)
    verdict = decide(situation(spec, placeholder_of(A), ledger=ledger))
    assert verdict.decision == Defer(NOW + MINUTE, IssueReason.NOT_ISSUED_YET, (A,))
    assert codes(verdict) == [code]
    assert "no, thank you" in verdict.defects[0].sentence
    later = situation(spec, placeholder_of(A), ledger=ledger, now=NOW + MINUTE)
    assert decide(later).decision == Issue((A,), IssueReason.NOT_ISSUED_YET)


@pytest.mark.parametrize(
    "changed", [spec_of(A, B), spec_of(A, profile="x"), spec_of(A, key_type=KeyType.RSA_2048)]
)
def test_a_failed_order_is_armed_by_a_change(changed: CertificateSpec) -> None:
    """Not retried until spec or settings change — then at once (DESIGN §5, Errors)."""
    ledger = failed_target(spec_of(A), retry_at=NOW + DAY)
    decision = quiet(situation(changed, placeholder_of(A), ledger=ledger))
    assert decision == Issue(changed.names, IssueReason.NOT_ISSUED_YET)


# --- names that are served and fail


def due_with_failing_b(count: int = 1, retry_in: timedelta = MINUTE) -> Situation:
    """A due renewal of A and B, of which B can't be validated now."""
    spec, held = spec_of(A, B), stored(A, B)
    now = renew_at(held.leaf)
    ledger = failed_name(spec, B, count=count, retry_at=now + retry_in)
    return situation(spec, held, now=now, ledger=ledger)


@pytest.mark.parametrize("count", [1, 2, HOLD_BACK_FAILURES, 9])
def test_a_due_renewal_waits_for_served_names(count: int) -> None:
    """Names that work are never dropped because another fails, nor this one (DESIGN §5)."""
    asked = due_with_failing_b(count)
    verdict = decide(asked)
    assert verdict.decision == Defer(asked.now + MINUTE, IssueReason.RENEWAL_DUE, (A, B))
    assert codes(verdict) == ["ValidationFailed", "RenewalHeldBack"]


def test_until_the_others_are_endangered() -> None:
    """Halfway between due and expiry the others no longer wait (renewal.py)."""
    asked = due_with_failing_b(retry_in=80 * DAY)
    assert isinstance(asked.held, Stored)
    endangered = endangered_at(asked.held.leaf)
    assert decide(asked).decision == Defer(endangered, IssueReason.RENEWAL_DUE, (A, B))
    decision = decide(replace(asked, now=endangered)).decision
    assert decision == Issue((A,), IssueReason.RENEWAL_DUE)


def test_a_failing_name_that_is_not_served_holds_nothing_back() -> None:
    """Waiting is for names that would be lost; one that never worked is left out (DESIGN §5)."""
    spec, held = spec_of(A, B), stored(A)
    now = renew_at(held.leaf)
    ledger = failed_name(spec, B, retry_at=now + MINUTE)
    decision = decide(situation(spec, held, now=now, ledger=ledger)).decision
    assert decision == Issue((A,), IssueReason.RENEWAL_DUE)


@pytest.mark.parametrize("count", [1, 2])
def test_a_new_name_waits_a_little_for_served_names(count: int) -> None:
    """A served name that stumbles is not dropped when another one joins (DESIGN §5)."""
    spec = spec_of(A, B, C)
    ledger = failed_name(spec, B, count=count, retry_at=NOW + 10 * MINUTE)
    verdict = decide(situation(spec, stored(A, B), ledger=ledger))
    assert verdict.decision == Defer(NOW + 10 * MINUTE, IssueReason.NAMES_ADDED, spec.names)
    assert codes(verdict) == ["ValidationFailed", "RenewalHeldBack"]


def test_a_new_name_does_not_wait_for_ever() -> None:
    """After HOLD_BACK_FAILURES in a row the new name goes on without it (DESIGN §5)."""
    spec = spec_of(A, B, C)
    ledger = failed_name(spec, B, count=HOLD_BACK_FAILURES)
    decision = decide(situation(spec, stored(A, B), ledger=ledger)).decision
    assert decision == Issue((A, C), IssueReason.NAMES_ADDED)


def test_expired_waits_for_nobody() -> None:
    """What is expired serves nobody: the names that work are got at once (DESIGN §5)."""
    spec = spec_of(A, B)
    held = stored(A, B, made=NOW - 91 * DAY)
    decision = decide(situation(spec, held, ledger=failed_name(spec, B))).decision
    assert decision == Issue((A,), IssueReason.EXPIRED)


def test_a_placeholder_waits_for_nobody() -> None:
    """A placeholder's names are not served by anything that counts (DESIGN §5, Placeholder)."""
    spec = spec_of(A, B)
    verdict = decide(situation(spec, placeholder_of(A, B), ledger=failed_name(spec, B)))
    assert verdict.decision == Issue((A,), IssueReason.NOT_ISSUED_YET)


def test_held_back_looks_again_when_anything_changes() -> None:
    """A wait ends when the first name that was left out may be tried, served or not (plan.py)."""
    spec, held = spec_of(A, B, C), stored(A, B)
    now = renew_at(held.leaf)
    ledger = failed_name(spec, B, retry_at=now + DAY)
    ledger = failed_name(spec, C, retry_at=now + MINUTE, ledger=ledger)
    decision = decide(situation(spec, held, now=now, ledger=ledger)).decision
    assert decision == Defer(now + MINUTE, IssueReason.RENEWAL_DUE, spec.names)


# --- names that are tried alone, and those that are not


def test_a_failing_name_is_tried_alone_before_a_renewal() -> None:
    """An order with all names would fail with it (failing.py, is_tried_alone)."""
    asked = due_with_failing_b(retry_in=MINUTE)
    later = replace(asked, now=asked.now + MINUTE)
    assert decide(later).decision == Validate(B)
    proved = replace(later, ledger=later.ledger.name_proved("ca", B))
    assert decide(proved).decision == Issue((A, B), IssueReason.RENEWAL_DUE)


def test_several_failing_names_are_tried_one_by_one() -> None:
    """Each alone: the failure of one says nothing of another."""
    spec = spec_of(A, B, C)
    ledger = failed_name(spec, B, retry_at=NOW)
    ledger = failed_name(spec, C, retry_at=NOW, ledger=ledger)
    asked = situation(spec, stored(A), ledger=ledger)
    assert decide(asked).decision == Validate(B)
    failed_again = failed_name(spec, B, count=2, ledger=ledger)
    assert decide(replace(asked, ledger=failed_again)).decision == Validate(C)


@pytest.mark.parametrize("held", [placeholder_of(A, B), stored(A, B, made=NOW - 91 * DAY)])
def test_where_nothing_serves_all_are_ordered_together(held: Stored) -> None:
    """There is no certificate to be risked, and time matters (failing.py, is_tried_alone)."""
    spec = spec_of(A, B)
    decision = decide(situation(spec, held, ledger=failed_name(spec, B, retry_at=NOW))).decision
    assert isinstance(decision, Issue)
    assert decision.names == (A, B)


def test_the_only_name_is_ordered() -> None:
    """Alone it is anyway (failing.py, is_tried_alone)."""
    spec, held = spec_of(A), stored(A, made=NOW - 60 * DAY)
    decision = decide(situation(spec, held, ledger=failed_name(spec, A, retry_at=NOW))).decision
    assert decision == Issue((A,), IssueReason.RENEWAL_DUE)


def test_a_name_refused_for_good_waits_for_a_change() -> None:
    """Time does not cure it; the others go on, and nothing is looked at again for it."""
    spec, held = spec_of(A, B), stored(A)
    ledger = failed_name(spec, B, retry_at=NEVER)
    verdict = decide(situation(spec, held, ledger=ledger))
    assert verdict.decision == Keep(renew_at(held.leaf))
    assert codes(verdict) == ["NameRefused"]
    changed = spec_of(A, B, source=ObjectRef("Ingress", "shop", "another"))
    decision = decide(situation(changed, held, ledger=ledger)).decision
    assert decision == Issue((A, B), IssueReason.NAMES_ADDED)


def test_an_order_refused_for_good_waits_for_a_change() -> None:
    """Nothing is ordered until declaration or settings change (reasons.py, OrderRejected)."""
    spec = spec_of(A)
    ledger = failed_target(spec, retry_at=NEVER)
    verdict = decide(situation(spec, placeholder_of(A), ledger=ledger))
    assert verdict.decision == Defer(NEVER, IssueReason.NOT_ISSUED_YET, (A,))
    assert codes(verdict) == ["OrderRejected"]


def test_a_new_name_does_not_wait_for_one_refused_for_good() -> None:
    """It would never be less refused; a renewal waits, as there is time to repair it."""
    spec, held = spec_of(A, B, C), stored(A, B)
    ledger = failed_name(spec, B, retry_at=NEVER)
    decision = decide(situation(spec, held, ledger=ledger)).decision
    assert decision == Issue((A, C), IssueReason.NAMES_ADDED)
    without_c, due = spec_of(A, B), renew_at(held.leaf)
    waits = decide(situation(without_c, held, ledger=ledger, now=due)).decision
    assert waits == Defer(endangered_at(held.leaf), IssueReason.RENEWAL_DUE, (A, B))


@pytest.mark.parametrize(
    ("reason", "changed"),
    [
        (IssueReason.NAMES_ADDED, spec_of(A, B, C)),
        (IssueReason.KEY_TYPE_CHANGED, spec_of(A, B, key_type=KeyType.RSA_2048)),
    ],
)
def test_no_order_waits_until_the_certificate_expires(
    reason: IssueReason, changed: CertificateSpec
) -> None:
    """Whatever an order is for: with the others endangered it waits for no name (DESIGN §5)."""
    held = stored(A, B)
    endangered = endangered_at(held.leaf)
    ledger = failed_name(changed, B, retry_at=endangered + DAY)
    asked = situation(changed, held, ledger=ledger)
    assert decide(asked).decision == Defer(endangered, reason, changed.names)
    decision = decide(replace(asked, now=endangered)).decision
    assert isinstance(decision, Issue)
    assert (decision.reason, B in decision.names) == (reason, False)


def test_unreachable_names_wait_without_a_failure() -> None:
    """The CA has not been asked: nothing failed, and none is dropped for it (probing.py)."""
    spec, until = spec_of(A, B), NOW + MINUTE
    asked = situation(spec, placeholder_of(A, B), unreachable={B: Unreachable(until)})
    assert decide(asked).decision == Issue((A,), IssueReason.NOT_ISSUED_YET)
    asked = situation(spec, stored(A), unreachable={B: Unreachable(until)})
    assert quiet(asked) == Keep(until)


# --- what a name may cost


TIGHT = replace(CA, limits=LETS_ENCRYPT_LIMITS)
TIGHT_ISSUERS = {"ca": TIGHT}


def failed_five_times(name: DnsName) -> Ledger:
    """A ledger in which nothing is left of the failures of a name (acme.md §1: 5 an hour)."""
    ledger = Ledger()
    for _ in range(5):
        ledger = ledger.spent(limits.costs_of_failures(TIGHT, [name]), NOW)
    return ledger


def test_a_name_that_failed_too_often_waits() -> None:
    """Another failure would be one too many; the others go on, and users are told (acme.md §1)."""
    until = NOW + 12 * MINUTE * limits.MARGIN
    asked = situation(spec_of(A, B), stored(A), ledger=failed_five_times(B), issuers=TIGHT_ISSUERS)
    verdict = decide(asked)
    assert verdict.decision == Keep(until)
    assert codes(verdict) == ["RateLimited"]
    assert "b.example.com reaches the limit of ca on failed validations" in (
        verdict.defects[0].sentence
    )
    decision = decide(replace(asked, now=until)).decision
    assert decision == Issue((A, B), IssueReason.NAMES_ADDED)


def test_all_names_failed_too_often() -> None:
    """Then the order waits until one may fail again."""
    asked = situation(
        spec_of(A), placeholder_of(A), ledger=failed_five_times(A), issuers=TIGHT_ISSUERS
    )
    until = NOW + 12 * MINUTE * limits.MARGIN
    assert decide(asked).decision == Defer(until, IssueReason.NOT_ISSUED_YET, (A,))


def test_a_renewal_does_not_wait_for_the_trial_of_a_name() -> None:
    """A trial costs an order like a new certificate, a renewal none (acme.md §1.3).

    Where the domain has nothing left, a name that failed is left out until it has.
    """
    spec, held = spec_of(A, B), stored(A)
    due = renew_at(held.leaf)
    costs = limits.costs_of_order(TIGHT, [B], Exemption.NONE)
    ledger = failed_name(spec, B, retry_at=due)
    for _ in range(60):
        ledger = ledger.spent(costs, due)
    asked = situation(spec, held, ledger=ledger, issuers=TIGHT_ISSUERS, now=due)
    assert decide(asked).decision == Issue((A,), IssueReason.RENEWAL_DUE)


# --- what users are told of the CA's words


def told(failure: Failure, of_name: DnsName | None = None) -> tuple[str, str]:
    """Code and remedy of a failure of one name, or of the whole order."""
    spec = spec_of(A)
    armed = replace(failure, armed_by=(digest_of(spec, placeholder_of(A).marks, of_name),))
    ledger = Ledger().target_failed(TARGET, "ca", armed)
    if of_name:
        ledger = Ledger().name_failed("ca", of_name, armed)
    (found,) = decide(situation(spec, placeholder_of(A), ledger=ledger)).defects
    assert found.sentence
    return found.code, found.remedy


def test_a_paused_name_is_told_with_its_page() -> None:
    """Only a human can end the pause, on the CA's page (acme.md §1.1)."""
    page = "https://portal.letsencrypt.org/sfe/v1/unpause?jwt=x"
    failure = Failure(1, NOW + DAY, (), "paused", kind="rateLimited", link=page)
    code, remedy = told(failure, A)
    assert code == "NamePaused"
    assert page in remedy


def test_new_terms_are_told_with_their_page() -> None:
    """No retry; show the URL for a human (acme.md §4, ToS)."""
    page = "https://ca.example/terms"
    failure = Failure(1, NEVER, (), "agree", kind="userActionRequired", link=page)
    code, remedy = told(failure)
    assert code == "TermsChanged"
    assert page in remedy


# --- revocation


def test_a_revocation_that_is_asked_for() -> None:
    """Done once, then another certificate is got (reasons.py; decide.py)."""
    spec, held = spec_of(A), stored(A, revoke_requested="keyCompromise")
    assert quiet(situation(spec, held)) == Revoke("keyCompromise")
    done = stored(A, revoke_requested="keyCompromise", revoked_sha256=held.leaf.sha256)
    assert quiet(situation(spec, done)) == Issue((A,), IssueReason.REVOKED)


def test_what_is_revoked_waits_for_no_failing_name() -> None:
    """Nobody accepts it any more: the names that work are got at once (decide.py)."""
    spec = spec_of(A, B)
    held = stored(A, B, revoked_sha256=stored(A, B).leaf.sha256)
    decision = decide(situation(spec, held, ledger=failed_name(spec, B))).decision
    assert decision == Issue((A,), IssueReason.REVOKED)


@pytest.mark.parametrize(
    "held",
    [
        placeholder_of(A),
        stored(A, made=NOW - 90 * DAY, revoke_requested="superseded"),
        stored(A, written_sha256="by hand", revoke_requested="superseded"),
        replace(
            placeholder_of(A), marks=replace(placeholder_of(A).marks, revoke_requested="superseded")
        ),
    ],
)
def test_nothing_to_revoke(held: Stored) -> None:
    """Placeholder, expired, by hand: no certificate of ours is in anybody's way."""
    assert not isinstance(decide(situation(spec_of(A), held)).decision, Revoke)


def test_a_reason_that_is_none() -> None:
    """Values are exact, anything else is a Defect (DESIGN §6)."""
    verdict = decide(situation(spec_of(A), stored(A, revoke_requested="please")))
    assert isinstance(verdict.decision, Keep)
    assert codes(verdict) == ["RevocationReasonUnknown"]


def revocation_failed(held: Stored, now: datetime) -> Ledger:
    """A ledger in which the revocation of A's certificate failed."""
    case = Case(spec_of(A), CA, held)
    return setbacks.refused(Ledger(), case, Setback("no", REVOCATION), now)


def test_a_revocation_that_failed_is_tried_again() -> None:
    """It waits and is told; meanwhile the target is not settled, which would forget it."""
    held = stored(A, revoke_requested="superseded")
    asked = situation(spec_of(A), held, ledger=revocation_failed(held, NOW))
    verdict = decide(asked)
    assert verdict.decision == Defer(NOW + MINUTE, IssueReason.REVOKED, (A,))
    assert codes(verdict) == ["RevocationFailed"]
    assert decide(replace(asked, now=NOW + MINUTE)).decision == Revoke("superseded")


def test_a_revocation_that_fails_lets_nothing_expire() -> None:
    """A due renewal does not wait for it (failing.py, revocation_failure)."""
    held = stored(A, revoke_requested="superseded")
    due = renew_at(held.leaf)
    asked = situation(spec_of(A), held, ledger=revocation_failed(held, due), now=due)
    assert decide(asked).decision == Issue((A,), IssueReason.RENEWAL_DUE)


def test_whoever_takes_the_wish_back_has_no_failure() -> None:
    """The annotation is part of what the failure depends on (armed_by)."""
    ledger = revocation_failed(stored(A, revoke_requested="superseded"), NOW)
    assert isinstance(quiet(situation(spec_of(A), stored(A), ledger=ledger)), Keep)


# --- the digest


def test_what_arms() -> None:
    """The digest holds what a user can change, and is the same after a restart (decide.py)."""
    spec, marks = spec_of(A, B), Marks()
    same: list[tuple[CertificateSpec, Marks | None]] = [
        (spec_of(B, A), None),
        (spec, marks),
        (spec, stored(A).marks),
    ]
    assert len({digest_of(s, m, A) for s, m in same}) == 1
    assert len({digest_of(s, m) for s, m in same}) == 1
    different = {
        digest_of(spec, marks),
        digest_of(spec, marks, A),
        digest_of(spec, marks, B),
        digest_of(spec, Marks(renew_requested_at="now"), A),
        digest_of(replace(spec, profile="x"), marks, A),
        digest_of(replace(spec, issuer="other"), marks, A),
        digest_of(replace(spec, key_type=KeyType.RSA_2048), marks, A),
    }
    assert len(different) == 7
    assert digest_of(spec_of(A), None, A) == "9fc6b8b5ef5e3384"


@pytest.mark.parametrize("now", [NOW, NOW + 59 * DAY + timedelta(microseconds=1)])
def test_look_again_is_ahead(now: datetime) -> None:
    """What is kept is looked at again later, never now: no busy loop (issue 3 §2)."""
    decision = decide(situation(spec_of(A), stored(A), now=now)).decision
    assert isinstance(decision, Keep | Issue)
    if isinstance(decision, Keep):
        assert decision.look_again_at
        assert decision.look_again_at > now
