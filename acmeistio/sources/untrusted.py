"""Reading plain data that nobody has validated: a wrong shape reads as absent, never as an error.

The API server validates what it stores; a folder does not, and a source must survive both.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, TypeGuard

from acmeistio.model import ObjectRef, kind_of


def mapping(value: object, *path: str) -> Mapping[str, Any]:
    """The mapping at `path` below `value`, else an empty one."""
    for key in path:
        value = value.get(key) if _is_mapping(value) else None
    return value if _is_mapping(value) else {}


def _is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    """It is asked of every part of every object; mostly it is a dict, which is quick to see."""
    return type(value) is dict or isinstance(value, Mapping)


def sequence(value: object) -> list[Any]:
    """`value` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    """`value` if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def texts(value: object) -> tuple[str, ...]:
    """The strings in a list."""
    return tuple(item for item in sequence(value) if isinstance(item, str) and item)


def labels(value: object) -> dict[str, str]:
    """The labels of a selector, or of an object; a value that is no string is left out."""
    return {key: text for key, text in mapping(value).items() if isinstance(text, str)}


def spelt(selector: Mapping[str, str]) -> str:
    """A selector as kubectl takes it."""
    return ",".join(f"{key}={value}" for key, value in sorted(selector.items())) or "(none)"


def reference(manifest: Mapping[str, Any]) -> ObjectRef:
    """Which object this is; one without a namespace is in `default`, as for kubectl."""
    metadata = mapping(manifest, "metadata")
    namespace = text(metadata.get("namespace")) or "default"
    return ObjectRef(kind_of(manifest), namespace, text(metadata.get("name")))


def created_at(manifest: Mapping[str, Any]) -> datetime | None:
    """metadata.creationTimestamp, None where it is absent or no instant."""
    value = mapping(manifest, "metadata").get("creationTimestamp")
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    try:
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    except OverflowError:
        return None


def annotations_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    """metadata.annotations; a value that is no string reads as its YAML spelling would.

    `tls: true` without quotes is refused by the API server but easily written into a file; it
    is shown to the user as what it is, so it must not vanish here.
    """
    found: Mapping[Any, Any] = mapping(manifest, "metadata", "annotations")
    return {key: _spelling(value) for key, value in found.items() if isinstance(key, str)}


def _spelling(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return f"{str(value).lower()} (not a string)"
    if not isinstance(value, int | float | date):
        return "(not a string)"  # never spelt out: aliases make a small file endless
    try:
        return f"{value} (not a string)"
    except ValueError:  # a number of more than 4300 digits
        return "(not a string)"
