"""What a signed request said, taken apart without checking its signature."""

from __future__ import annotations

import base64
import json
from typing import Any


def payload_of(body: bytes) -> Any:
    """The payload, None where it is empty."""
    return _part(json.loads(body)["payload"])


def protected_of(body: bytes) -> Any:
    """The protected header."""
    return _part(json.loads(body)["protected"])


def _part(text: str) -> Any:
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return json.loads(data) if data else None
