"""planning/shares.py: who may order now where a CA's limits don't leave room for everybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from acmeistio.issuer import Issuer, Limit, Limits
from acmeistio.model import (
    CertificateSpec,
    Decision,
    Defer,
    Held,
    Issue,
    IssueReason,
    Keep,
    Suggestion,
    Target,
    Validate,
)
from acmeistio.names import DnsName
from acmeistio.planning import limits
from acmeistio.planning.decide import Verdict
from acmeistio.planning.ledger import Ledger, OpenOrder
from acmeistio.planning.limits import MARGIN, BudgetKey, Exemption, Kind
from acmeistio.planning.shares import shared_out
from tests.core.builders import CA, DAY, NAMESPACE, NOW, OTHER_CA, placeholder_of, spec_of, stored

HOUR = timedelta(hours=1)
REFILL = HOUR * MARGIN
ONE_BY_ONE = Limits(orders=Limit(1, HOUR), exempts_renewals=False)
TIGHT = replace(CA, limits=ONE_BY_ONE)
OTHER = replace(OTHER_CA, limits=ONE_BY_ONE)
ISSUERS = {"ca": TIGHT, "other": OTHER}


def target(name: str) -> Target:
    """A Secret."""
    return Target(NAMESPACE, name)


def spec(name: str, *declared: str, issuer: str = "ca") -> CertificateSpec:
    """What one Secret should hold."""
    wanted = [DnsName(text) for text in declared or (f"{name}.example.com",)]
    return replace(spec_of(*wanted, issuer=issuer), target=target(name))


def wants(asked: CertificateSpec, reason: IssueReason = IssueReason.NOT_ISSUED_YET) -> Verdict:
    """An order for all names."""
    return Verdict(Issue(asked.names, reason), asked)


def share(
    verdicts: Sequence[Verdict],
    held: Mapping[str, Held] | None = None,
    ledger: Ledger | None = None,
    issuers: Mapping[str, Issuer] = ISSUERS,
) -> dict[str, Decision]:
    """The decisions by the names of the Secrets."""
    by_target = {verdict.spec.target: verdict for verdict in verdicts}
    stored_there = {target(name): item for name, item in (held or {}).items()}
    waiting = shared_out(by_target, stored_there, ledger or Ledger(), issuers, NOW)
    return {t.name: waiting.get(t, verdict).decision for t, verdict in by_target.items()}


def test_position_k_waits_k_refills() -> None:
    """The first orders now; each of the others is told when its turn comes (shares.py)."""
    found = share([wants(spec(name)) for name in "dbca"])
    reason = IssueReason.NOT_ISSUED_YET
    assert isinstance(found["a"], Issue)
    for position, name in enumerate("bcd", start=1):
        assert found[name] == Defer(NOW + position * REFILL, reason, spec(name).names)


def test_what_runs_out_soonest_goes_first() -> None:
    """Renewals by expiry, then changes, then new certificates (shares.py)."""
    held = {
        "a": placeholder_of(),
        "b": stored(made=NOW - 80 * DAY),
        "c": stored(made=NOW - 85 * DAY),
        "d": stored(made=NOW - 89 * DAY),
    }
    due = IssueReason.RENEWAL_DUE
    verdicts = [
        wants(spec("a")),
        wants(spec("b"), due),
        wants(spec("c"), due),
        wants(spec("d"), IssueReason.NAMES_ADDED),
    ]
    found = share(verdicts, held)
    assert isinstance(found["c"], Issue)
    until = {name: d.until for name, d in found.items() if isinstance(d, Defer)}
    assert sorted(until, key=lambda name: until[name]) == ["b", "d", "a"]


@pytest.mark.parametrize(
    "reason",
    [
        IssueReason.EXPIRED,
        IssueReason.REVOKED,
        IssueReason.RENEWAL_DUE,
        IssueReason.RENEWAL_REQUESTED,
    ],
)
def test_what_must_serve_on_comes_before_what_changes(reason: IssueReason) -> None:
    """Whatever is not new but must be replaced goes before names that join (shares.py)."""
    held = {"a": stored(made=NOW - 89 * DAY), "z": stored()}
    found = share([wants(spec("a"), IssueReason.NAMES_ADDED), wants(spec("z"), reason)], held)
    assert isinstance(found["z"], Issue)
    assert isinstance(found["a"], Defer)


def test_a_name_tried_alone_comes_last() -> None:
    """A name that failed before must not take the order of one that may work (shares.py)."""
    held = {"a": stored(), "z": placeholder_of()}
    trial = Verdict(Validate(DnsName("a.example.com")), spec("a"))
    found = share([trial, wants(spec("z"))], held)
    assert isinstance(found["a"], Validate)  # both are last, then by name
    found = share([trial, wants(spec("z"), IssueReason.RENEWAL_DUE)], {**held, "z": stored()})
    assert found["a"] == Defer(NOW + REFILL, IssueReason.NAMES_ADDED, spec("a").names)


def test_who_waits_is_told() -> None:
    """A Defect says which limit, of whom, and when it goes on (DESIGN §5, Rate limits)."""
    verdicts = {target(name): wants(spec(name)) for name in "ab"}
    (waiting,) = shared_out(verdicts, {}, Ledger(), ISSUERS, NOW).values()
    (told,) = waiting.defects
    assert told.code == "RateLimited"
    assert told.subject == target("b").ref
    assert "limit of ca on new orders" in told.sentence
    assert "2030-01-01 13:01:12 UTC" in told.remedy


def test_an_open_order_costs_nothing_more() -> None:
    """It was counted when it was made (acme.md §1.4)."""
    opened = OpenOrder("https://ca.example/1", CA.directory_url, spec("b").names, NOW)
    ledger = Ledger().order_opened(target("b"), opened)
    found = share([wants(spec("a")), wants(spec("b"))], ledger=ledger)
    assert all(isinstance(decision, Issue) for decision in found.values())


@pytest.mark.parametrize(
    "opened",
    [
        OpenOrder("https://ca.example/1", CA.directory_url, spec("a").names, NOW),
        OpenOrder("https://ca.example/1", OTHER_CA.directory_url, spec("b").names, NOW),
    ],
)
def test_an_open_order_for_something_else_is_no_help(opened: OpenOrder) -> None:
    """Other names, or another CA: that order is not gone on with (issuing.py)."""
    ledger = Ledger().order_opened(target("b"), opened)
    found = share([wants(spec("a")), wants(spec("b"))], ledger=ledger)
    assert isinstance(found["b"], Defer)


def test_one_issuers_shortage_is_not_anothers() -> None:
    """Each CA has its own budgets (limits.py, BudgetKey)."""
    ledger = Ledger().spent({BudgetKey(CA.directory_url, Kind.ORDERS): Limit(1, HOUR)}, NOW)
    found = share([wants(spec("a")), wants(spec("b", issuer="other"))], ledger=ledger)
    assert isinstance(found["a"], Defer)
    assert isinstance(found["b"], Issue)


def test_one_domains_shortage_is_not_anothers() -> None:
    """Who waits long for one domain reserves no order meanwhile (shares.py)."""
    per_domain = Limit(1, 7 * DAY)
    issuer = replace(CA, limits=Limits(orders=Limit(2, HOUR), certificates_per_domain=per_domain))
    key = BudgetKey(CA.directory_url, Kind.DOMAIN, "example.com")
    ledger = Ledger().spent({key: per_domain}, NOW)
    verdicts = [
        wants(spec("a", "a.example.com")),
        wants(spec("b", "b.example.com")),
        wants(spec("c", "c.example.org")),
    ]
    found = share(verdicts, ledger=ledger, issuers={"ca": issuer})
    reason = IssueReason.NOT_ISSUED_YET
    assert found["a"] == Defer(NOW + 7 * DAY * MARGIN, reason, spec("a").names)
    assert found["b"] == Defer(NOW + 14 * DAY * MARGIN, reason, spec("b").names)
    assert isinstance(found["c"], Issue)


def test_an_exempt_renewal_waits_for_nobody() -> None:
    """What the CA does not count is not held up by what it counts (acme.md §1.2)."""
    issuer = replace(TIGHT, limits=replace(ONE_BY_ONE, exempts_renewals=True))
    held = stored(DnsName("b.example.com"))
    replaces = Suggestion("id", NOW - HOUR, NOW + HOUR)
    renewal = Verdict(Issue(spec("b").names, IssueReason.RENEWAL_DUE, replaces), spec("b"))
    ledger = Ledger().spent(limits.costs_of_order(issuer, [], Exemption.NONE), NOW)
    found = share([wants(spec("a")), renewal], {"b": held}, ledger, {"ca": issuer})
    assert isinstance(found["a"], Defer)
    assert isinstance(found["b"], Issue)


def test_a_window_that_begins_ends_the_wait() -> None:
    """From then on the CA counts nothing of the order: it is looked at again (acme.md §1.2)."""
    issuer = replace(TIGHT, limits=Limits(certificates_per_set=Limit(1, 34 * HOUR)))
    held, names = stored(DnsName("b.example.com")), spec("b").names
    replaces = Suggestion("id", NOW + HOUR, NOW + 2 * HOUR)
    asked = Verdict(Issue(names, IssueReason.RENEWAL_REQUESTED, replaces), spec("b"))
    ledger = Ledger().spent(limits.costs_of_order(issuer, names, Exemption.NONE), NOW)
    found = share([asked], {"b": held}, ledger, {"ca": issuer})
    assert found["b"] == Defer(NOW + HOUR, IssueReason.RENEWAL_REQUESTED, names)


def test_what_asks_for_nothing_is_left_alone() -> None:
    """Keep and Defer cost nothing and are not changed."""
    verdicts = {
        target("a"): Verdict(Keep(None), spec("a")),
        target("b"): Verdict(Defer(NOW, IssueReason.EXPIRED, ()), spec("b")),
    }
    assert shared_out(verdicts, {}, Ledger(), ISSUERS, NOW) == {}


def test_no_limits_no_waiting() -> None:
    """A CA of which no limit is known is asked for everything at once (issuer.py)."""
    found = share([wants(spec(f"s{index}")) for index in range(50)], issuers={"ca": CA})
    assert all(isinstance(decision, Issue) for decision in found.values())
