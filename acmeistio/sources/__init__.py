"""From objects that users write to Declarations and Defects. Pure: plain data in, values out.

One module per kind of object, and annotations.py for what they share. A source knows how Istio
treats its kind; it knows nothing of certificates that exist.
"""

from __future__ import annotations

from dataclasses import dataclass

from acmeistio.model import Declaration
from acmeistio.reasons import Defect


@dataclass(frozen=True, slots=True)
class Found:
    """What one object declares, and what is wrong with it."""

    declarations: tuple[Declaration, ...] = ()
    defects: tuple[Defect, ...] = ()
