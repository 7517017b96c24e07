"""All that the decision for one target depends on, and what can be read off it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from acmeistio.issuer import Issuer
from acmeistio.model import (
    CertificateSpec,
    Held,
    Leaf,
    Marks,
    Stored,
    Suggestion,
    Unreachable,
    is_by_hand,
)
from acmeistio.names import DnsName, covers
from acmeistio.planning.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Situation:
    """One target as it is now.

    `held` is what parsing the target Secret gave, None where it does not exist; `remembers`
    says that this process has the bundle it wrote last. `suggestion` is what the CA says of its
    renewal; `awaits_suggestion` that it is asked and has not answered yet. `unreachable` are names
    that wait because the CA's requests would not arrive, which is no failure at the CA yet.
    """

    spec: CertificateSpec
    issuers: Mapping[str, Issuer]
    held: Held
    remembers: bool
    ledger: Ledger
    now: datetime
    suggestion: Suggestion | None = None
    awaits_suggestion: bool = False
    unreachable: Mapping[DnsName, Unreachable] = field(default_factory=dict)

    @property
    def issuer(self) -> Issuer:
        """The CA that is to issue."""
        return self.issuers[self.spec.issuer]

    @property
    def marks(self) -> Marks | None:
        """What the Secret says about itself."""
        return self.held.marks if self.held else None

    @property
    def served(self) -> Leaf | None:
        """The certificate that clients get and accept now, None where there is none."""
        held = self.held
        if not isinstance(held, Stored) or is_placeholder(held):
            return None
        return held.leaf if held.leaf.not_after > self.now else None

    def serves(self, name: DnsName) -> bool:
        """Whether the stored certificate is accepted for a name now."""
        return self.served is not None and covers(self.served.names, name)


def is_placeholder(held: Stored) -> bool:
    """Whether the pair is ours to keep a listener open, and not one put in its stead by hand."""
    return held.marks.placeholder and not is_by_hand(held)


def text(instant: datetime) -> str:
    """An instant as users read it."""
    return instant.strftime("%Y-%m-%d %H:%M:%S UTC")
