"""Fixtures of this level: sites, a deadline for every test, and a report at the end of the run."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import pytest

from pebble.local_ca import CaOptions
from tests.pebble.program import Site

FULL = os.environ.get("ACMEISTIO_FULL") == "1"
TEST_SECONDS = 600 if FULL else 100

_REPORT = pytest.StashKey[list[str]]()

MakeSite = Callable[..., Site]


def pytest_configure(config: pytest.Config) -> None:
    """Begin the report."""
    config.stash[_REPORT] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was counted and measured."""
    lines = terminalreporter.config.stash[_REPORT]
    if lines:
        terminalreporter.section("counted and measured")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Add a line to the report."""
    return request.config.stash[_REPORT].append


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[MakeSite]:
    """How to make a site that ends with the test: by the CA's options, and `through_envoy`."""
    with ExitStack() as stack:

        def make(options: CaOptions = CaOptions(), *, through_envoy: bool = False) -> Site:
            folder = tmp_path / f"site-{len(list(tmp_path.iterdir()))}"
            return stack.enter_context(Site(folder, options, through_envoy=through_envoy))

        yield make


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    """A site with the fast and friendly CA."""
    return make_site()


@pytest.fixture(autouse=True)
def _deadline() -> Iterator[None]:
    """No test hangs the run, whatever hangs in it."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        pytest.fail(f"the test did not end within {TEST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(TEST_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
