"""For all levels: no loop is left open; what was counted and measured ends the run's report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

asyncio.set_event_loop(None)
"""looptime asks for the current loop around every test; without this, one is made and left open."""

_REPORT = pytest.StashKey[list[str]]()


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


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Add a line to the report."""
    return request.config.stash[_REPORT].append
