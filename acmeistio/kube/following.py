"""The states of a list-watch and what leads from one to the next: pure, no network, no clock.

    Listing ── Listed ───────────> Watching     Watching ── Received, Ended ──> Watching
    Listing ── Failed, Outdated ─> Waiting      Watching ── Outdated ─────────> Listing
    Waiting ── Woke ─────────────> Listing      Watching ── Failed ───────────> Waiting
                                                (a version that went back: as Failed)
    Listing, Watching ── Unserved ─> Listing, while the kind has a version that was not asked for
                                     Waiting, absent, once it is served in none
                                     Waiting, as Failed, if that can't be or objects are known

Whatever interrupts a watch, everything is listed anew: that costs a request for 500 objects, and
after an API server was put back to an earlier day nothing else is right. Only a watch that the
API server ended as announced goes on where it was. A kind that is absent has no objects: that is
an answer and no loss.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from acmeistio.errors import AcmeistioError, Transient

FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 2.0
"""Between tries while the API server is away: the first, doubled up to the second."""
FIRST_REFUSED_WAIT_SECONDS = 0.5
LONGEST_REFUSED_WAIT_SECONDS = 10.0
"""The same while somebody has to do something: give a right, put back a kind."""
FIRST_ABSENT_WAIT_SECONDS = 1.0
LONGEST_ABSENT_WAIT_SECONDS = 30.0
"""The same while a kind is not installed, which may be for ever."""
LONGEST_ASKED_SECONDS = 60.0
"""A Retry-After is a floor, up to this: it may be a slip of something on the way."""
LOSS_SHOWN_SECONDS = 5.0
"""A loss that is shorter is nobody's business: API servers are restarted."""


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects are being asked for."""


@dataclass(frozen=True, slots=True)
class Watching:
    """All changes after `version` are being asked for."""

    version: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing is asked for before this instant (monotonic)."""

    until: float


@dataclass(frozen=True, slots=True)
class Loss:
    """Since when nothing is heard, and why the last try failed."""

    since: float
    error: AcmeistioError


@dataclass(frozen=True, slots=True)
class Following:
    """Where a list-watch is. `loss` is None while it is heard from.

    `failures` counts what went wrong since something was received last: a watch that opens and
    breaks at once, again and again, must not be hurried. `served_as` counts from the version of
    the kind to prefer to the one in use, `unserved` how many in a row the API server did not know.
    """

    phase: Listing | Watching | Waiting = Listing()
    loss: Loss | None = None
    failures: int = 0
    served_as: int = 0
    unserved: int = 0
    is_absent: bool = False

    def shown_loss(self, now: float) -> Loss | None:
        """The loss, once it has lasted."""
        lasting = self.loss is not None and now - self.loss.since >= LOSS_SHOWN_SECONDS
        return self.loss if lasting else None


@dataclass(frozen=True, slots=True)
class Listed:
    """The last page is here; all are of this version."""

    version: int


@dataclass(frozen=True, slots=True)
class Opened:
    """The API server has taken the watch."""


@dataclass(frozen=True, slots=True)
class Received:
    """A change of this version, or a bookmark: nothing changed up to it."""

    version: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The API server ended the watch at the time that it was asked to."""


@dataclass(frozen=True, slots=True)
class Outdated:
    """The API server has forgotten what the list or the watch was to go on from (410)."""


@dataclass(frozen=True, slots=True)
class Unserved:
    """The API server does not know the kind in the version in use, one of `versions` (404).

    `can_be_absent` is false where the kind can't, or objects of it are known: unknown is not
    absent.
    """

    error: AcmeistioError
    versions: int
    can_be_absent: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """Anything else: refused, cut off, silent, not understood."""

    error: AcmeistioError


@dataclass(frozen=True, slots=True)
class Woke:
    """The wait is over."""


Happening = Listed | Opened | Received | Ended | Outdated | Unserved | Failed | Woke


def step(state: Following, happening: Happening, now: float) -> Following:
    """The state after something happened."""
    match happening, state.phase:
        case Listed(version), _:
            after = replace(state, phase=Watching(version), unserved=0, is_absent=False)
        case Opened(), _:
            after = replace(state, loss=None)
        case Received(version), Watching(known) if version >= known:
            after = replace(state, phase=Watching(version), loss=None, failures=0)
        case Ended(), Watching():
            after = replace(state, loss=None, failures=0)
        case Outdated(), Watching() if not state.failures:
            after = replace(state, phase=Listing(), failures=1)
        case ((Received() | Outdated()), _):
            after = _waiting(state, FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, now)
        case Unserved(), _:
            after = _unserved(state, happening, now)
        case Failed(error), _:
            after = _failed(state, error, now)
        case _:
            after = replace(state, phase=Listing())
    return after


def _unserved(state: Following, happening: Unserved, now: float) -> Following:
    """Another version is asked for at once; that of none is seldom asked again."""
    following = (state.served_as + 1) % happening.versions
    state = replace(state, served_as=following, unserved=state.unserved + 1)
    if state.unserved < happening.versions:
        return replace(state, phase=Listing())
    state = replace(state, served_as=0, unserved=0)
    if not happening.can_be_absent:
        return _failed(state, happening.error, now)
    failures = state.failures if state.is_absent else 0
    state = replace(state, loss=None, failures=failures, is_absent=True)
    return _waiting(state, FIRST_ABSENT_WAIT_SECONDS, LONGEST_ABSENT_WAIT_SECONDS, now)


def _failed(state: Following, error: AcmeistioError, now: float) -> Following:
    """A failure that a person has to mend is not hurried.

    But an API server that is back refuses everybody until it has read who may do what: the first
    refusal after an outage is tried again soon, however long that was.
    """
    passing = type(error) is Transient
    was_away = state.loss is not None and type(state.loss.error) is Transient
    afresh = state.is_absent or (was_away and not passing)
    loss = Loss(state.loss.since if state.loss else now, error)
    state = replace(state, loss=loss, failures=0 if afresh else state.failures, is_absent=False)
    first = FIRST_WAIT_SECONDS if passing else FIRST_REFUSED_WAIT_SECONDS
    longest = LONGEST_WAIT_SECONDS if passing else LONGEST_REFUSED_WAIT_SECONDS
    asked = error.retry_after_seconds if isinstance(error, Transient) else None
    return _waiting(state, first, longest, now, min(asked or 0.0, LONGEST_ASKED_SECONDS))


def _waiting(
    state: Following, first: float, longest: float, now: float, floor: float = 0.0
) -> Following:
    seconds = max(floor, min(longest, first * 2.0 ** min(state.failures, 16)))
    return replace(state, phase=Waiting(now + seconds), failures=state.failures + 1)
