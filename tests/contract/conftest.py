"""What the suites share: one API server for all of them, started when the first asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.control_plane import ControlPlane


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """An API server, and etcd behind it."""
    with ControlPlane(tmp_path_factory.mktemp("control-plane") / "files") as plane:
        yield plane
