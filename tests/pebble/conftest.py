"""Fixtures of this level: sites, and a deadline for every test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pebble.local_ca import CaOptions
from tests.deadline import deadline
from tests.pebble.program import Site

FULL = os.environ.get("ACMEISTIO_FULL") == "1"
TEST_SECONDS = 600 if FULL else 100

MakeSite = Callable[..., Site]


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
    with deadline(TEST_SECONDS):
        yield
