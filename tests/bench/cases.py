"""What is measured: the cases, and the values that their runs bring. Pure.

Owns the vocabulary of the bench; runs.py fills it in, table.py shows it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

DOMAIN = "bench.example"
GIVEN_UP = "given up"


class Contestant(StrEnum):
    """Who is measured."""

    BARE = "bare"
    ACMEISTIO = "acmeistio"


@dataclass(frozen=True, slots=True)
class Case:
    """So many certificates with so many names each, from a quick CA or from one that tarries."""

    certificates: int
    names: int
    delayed: bool

    @property
    def key(self) -> str:
        """What the command line and the JSON call it."""
        return f"{self.certificates}x{self.names}{'-delayed' if self.delayed else ''}"

    @property
    def label(self) -> str:
        """What the table calls it."""
        names = "1 name" if self.names == 1 else f"{self.names} names"
        return f"{self.certificates} × {names}"

    @property
    def deadline_seconds(self) -> float:
        """After this a run counts as hung; tens of times what it takes on a quiet machine.

        With the delay an order takes a second, and eight are under way at once.
        """
        return 15.0 + self.certificates / (2 if self.delayed else 10)

    def orders(self) -> list[tuple[str, ...]]:
        """The names of every certificate, all different."""
        return [
            tuple(f"n{name}.c{certificate}.{DOMAIN}" for name in range(self.names))
            for certificate in range(self.certificates)
        ]


SIZES = ((1, 1), (50, 1), (200, 1), (1, 100))
CASES = tuple(
    Case(certificates, names, delayed) for delayed in (False, True) for certificates, names in SIZES
)
HELD = Case(200, 1, delayed=False)
"""The case after whose runs memory and restart are measured."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run, to the last certificate where servers read it (bare: received)."""

    seconds_from_start: float
    """From the start of the process."""
    seconds_from_ready: float
    """From its imports done: bare says so itself, acmeistio listens on its challenge port."""
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one process, in MiB."""

    resident: float
    peak: float


@dataclass(frozen=True, slots=True)
class Held:
    """What holding certificates costs acmeistio."""

    after_issuing: Memory
    after_restart: Memory
    recognised: Sample
    """From the start to the first look that finds nothing to do."""


@dataclass(slots=True)
class Results:
    """All runs of one bench."""

    samples: dict[tuple[Case, Contestant], list[Sample]] = field(default_factory=dict)
    empty: list[Memory] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """Runs that did not bring their certificates, with what became of them."""
