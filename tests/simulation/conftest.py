"""What simulations share."""

from __future__ import annotations

import pytest

from acmeistio import controller


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Months pass quickly: the loop looks without cause every six hours, not every five minutes.

    It makes the tests sterner too: what is due is done because its timer was set.
    """
    monkeypatch.setattr(controller, "LONGEST_SLEEP_SECONDS", 6 * 3600.0)
