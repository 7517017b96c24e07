"""From objects that users write to Declarations and Defects. Pure: plain data in, values out.

One module per kind of declaring object: ingress, istio (Gateway and VirtualService), gateway_api.
What they stand on: servers and pairs (of Istio's Gateways), listeners, admission and addresses (of
the Gateway API's); and what all share: annotations, the words; permission, who may ask for what;
mesh, what the mesh says; untrusted, reading what nobody has validated. A source knows how Istio
treats its kind; it knows nothing of certificates that exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any, Protocol

from acmeistio.model import Declaration, Installation, ObjectRef
from acmeistio.names import DnsName
from acmeistio.reasons import Defect


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every source must know beside the object that it reads.

    `ingress_classes`: name of each IngressClass → its controller. `domains_of`: the domains that
    an administrator allowed, for each namespace that has the annotation. `labels_of`: the labels
    of each namespace that has others than the one with its name.
    """

    installation: Installation
    ingress_classes: Mapping[str, str] = field(default_factory=dict)
    domains_of: Mapping[str, frozenset[DnsName]] = field(default_factory=dict)
    labels_of: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claim:
    """A host that an object routes or serves with TLS, whether or not it asks for a certificate."""

    host: str
    ref: ObjectRef
    created_at: datetime
    routes: bool
    serves: bool
    asks: bool


@dataclass(frozen=True, slots=True)
class Found:
    """What one object declares, and what is wrong with it; `claims` for what several share."""

    declarations: tuple[Declaration, ...] = ()
    defects: tuple[Defect, ...] = ()
    claims: tuple[Claim, ...] = ()


def joined(*parts: Found) -> Found:
    """All of it as one."""
    return Found(
        tuple(chain.from_iterable([part.declarations for part in parts])),
        tuple(dict.fromkeys(chain.from_iterable([part.defects for part in parts]))),
    )


Manifest = dict[str, Any]
Manifests = Mapping[str, tuple[Manifest, ...]]
"""All objects by kind, as `kind_of` names it."""


class Source(Protocol):
    """What each module of this package is that reads a kind of declaring object."""

    KINDS: tuple[str, ...]
    """What it must see, as `kind_of` names kinds; the first is the one that declares."""

    def subjects(self, manifests: Manifests, /) -> Iterable[tuple[Manifest, tuple[Manifest, ...]]]:
        """Each object that may declare something, and the others that this depends on."""

    def declarations(
        self, manifest: Manifest, related: tuple[Manifest, ...], surroundings: Surroundings, /
    ) -> Found:
        """What such an object declares; called again only when one of the arguments is another."""

    def together(self, claims: Iterable[Claim], /) -> tuple[Defect, ...]:
        """What is wrong with several objects together, none of which is wrong by itself."""
