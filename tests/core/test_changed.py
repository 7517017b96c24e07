"""planning/changed.py: what has changed is found, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from acmeistio.model import Declaration, Target
from acmeistio.planning.changed import Groups, differing
from tests.core.builders import A, declaration

SOME = tuple(declaration(f"web-{n}", A, target=Target("ns", f"s-{n % 3}")) for n in range(7))


def grouped(declarations: tuple[Declaration, ...]) -> dict[Target, set[int]]:
    """By target, anew."""
    found: dict[Target, set[int]] = {}
    for made in declarations:
        found.setdefault(made.target, set()).add(id(made))
    return found


@given(st.lists(st.lists(st.sampled_from(SOME), unique_by=id).map(tuple)))
def test_groups_are_what_grouping_anew_gives(history: list[tuple[Declaration, ...]]) -> None:
    """Whatever comes and goes, in whatever order; and what it says has changed has."""
    groups, before = Groups(), dict[Target, set[int]]()
    for declarations in history:
        changed, now = groups.update(declarations), grouped(declarations)
        assert {t: set(map(id, group)) for t, group in groups.by_target.items()} == now
        assert sum(map(len, groups.by_target.values())) == len(declarations)
        assert changed == {t for t in now.keys() | before.keys() if now.get(t) != before.get(t)}
        before = now


@given(
    st.dictionaries(st.integers(0, 5), st.none() | st.integers(0, 2)),
    st.dictionaries(st.integers(0, 5), st.none() | st.integers(0, 2)),
)
def test_differing_keys(before: dict[int, int | None], now: dict[int, int | None]) -> None:
    """None is a value like any other."""
    keys = before.keys() | now.keys()
    expected = {k for k in keys if before.get(k, "-") != now.get(k, "-")}
    assert differing(before, now) == expected
