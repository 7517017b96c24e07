"""Fixtures of this level: one cluster for the whole run, and a deadline for every test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.cluster.bed import Bed
from tests.cluster.spans import Spans
from tests.deadline import deadline

TEST_SECONDS = 120


@pytest.fixture(scope="session")
def bed(tmp_path_factory: pytest.TempPathFactory, report: Callable[[str], None]) -> Iterator[Bed]:
    """The cluster of the run, for fixtures that a whole module shares; a test takes `clean_bed`."""
    with Bed(tmp_path_factory.mktemp("bed") / "files") as bed:
        parts = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in bed.seconds.items())
        report(f"the cluster started in {sum(bed.seconds.values()):.1f} s: {parts}")
        if not bed.gateway.has_port_443:
            report("ports 80 and 443 can't be bound here: tests that need them did not run")
        yield bed


@pytest.fixture(scope="session")
def spans() -> Spans:
    """When a test keeps acmeistio from what it asks for."""
    return Spans()


@pytest.fixture
def clean_bed(bed: Bed) -> Iterator[Bed]:
    """The cluster as it was after its start; what the test leaves in it is deleted."""
    yield bed
    bed.clear()


@pytest.fixture
def bed_with_port_443(clean_bed: Bed) -> Bed:
    """A clean cluster whose gateway has HTTPS where a redirect leads to."""
    if not clean_bed.gateway.has_port_443:
        pytest.skip("did not run: needs port 443, which can't be bound here")
    return clean_bed


@pytest.fixture(autouse=True)
def _deadline() -> Iterator[None]:
    """No test hangs the run, whatever hangs in it."""
    with deadline(TEST_SECONDS):
        yield
