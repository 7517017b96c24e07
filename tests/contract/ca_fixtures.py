"""Fixtures of the suites that run on the simulated CA and on real Pebble."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.contract import ca_subjects
from tests.contract.ca_subjects import Subject
from tests.contract.raw_acme import RawClient

_SUBJECTS = {"simulated": ca_subjects.simulated, "pebble": ca_subjects.pebble}
_SPECIAL = {
    "simulated": lambda: ca_subjects.simulated(ca_subjects.SPECIAL_OPTIONS),
    "pebble": lambda: ca_subjects.pebble(ca_subjects.SPECIAL_PEBBLE_OPTIONS),
}
_COUNTER = itertools.count(1)


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=["simulated", pytest.param("pebble", marks=pytest.mark.pebble)],
)
async def ca(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    """The CA under test, one for the whole suite."""
    async with _SUBJECTS[request.param]() as subject:
        yield subject


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=["simulated", pytest.param("pebble", marks=pytest.mark.pebble)],
)
async def special(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    """A CA that wants external accounts, and has several chains to offer."""
    async with _SPECIAL[request.param]() as subject:
        yield subject


@pytest_asyncio.fixture(loop_scope="module")
async def stranger(ca: Subject) -> RawClient:
    """A client whose key the CA does not know."""
    return await RawClient.at(ca.http, ca.directory_url)


@pytest_asyncio.fixture(loop_scope="module")
async def client(stranger: RawClient) -> RawClient:
    """A client with an account of its own."""
    assert (await stranger.new_account()).status == 201
    return stranger


@pytest.fixture
def names() -> Iterator[str]:
    """Names that nobody ever asked for."""
    return (f"n{number}.contract.example" for number in _COUNTER)
