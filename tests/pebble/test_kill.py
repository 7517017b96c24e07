"""kill -9 at every step of the protocol, and in between."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pebble.local_ca import CaOptions
from tests.pebble.forked import Fork, Forkery
from tests.pebble.program import Site, seen_in

MOMENTS = int(os.environ.get("ACMEISTIO_KILL_MOMENTS", "28"))
"""How many moments in all: first the steps below, the rest at random times."""
SEED = int(os.environ.get("ACMEISTIO_KILL_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
AT_ONCE = 4

UNDISTURBED_SECONDS = 1.5
"""From the start of the program to its certificate, with Pebble's delays."""
RECOVERY_SECONDS = 30.0
STEP_SECONDS = 0.002

Came = Callable[[], bool]


@dataclass(frozen=True)
class Moment:
    """When the program is killed: `came` is asked with the site and the instant of the start."""

    name: str
    came: Callable[[Site], Came]


@dataclass(frozen=True)
class Outcome:
    """What Pebble had counted in the end."""

    accounts: int
    orders: int
    certificates: int
    seconds: float


def logged(name: str, line: str, nth: int = 1) -> Moment:
    """Pebble has logged a line for the n-th time."""
    return Moment(name, lambda site: seen_in(site.ca.log, line, nth))


def written(name: str, file: Callable[[Site], Path], text: str) -> Moment:
    """The program has written a file with this text."""
    return Moment(name, lambda site: seen_in(file(site), text))


def after(seconds: float) -> Moment:
    """So long after the start."""

    def came(_site: Site) -> Came:
        at = time.monotonic() + seconds
        return lambda: time.monotonic() >= at

    return Moment(f"{seconds:.2f} s after the start", came)


STEPS = (
    written("placeholder stored", lambda site: site.secret, "acmeistio.io/placeholder"),
    logged("directory asked", "GET /dir"),
    logged("nonce asked", "HEAD /nonce-plz"),
    logged("newAccount received", "POST /sign-me-up"),
    logged("account made", "There are now 1 accounts"),
    written("account's URL kept", lambda s: s.state("acmeistio-account-pebble.secret.yaml"), "url"),
    logged("newOrder received", "POST /order-plz"),
    logged("order made", "Added order"),
    written("order's URL kept", lambda site: site.ledger, "/my-order/"),
    written("key kept", lambda s: s.state("acmeistio-pending-keys.secret.yaml"), ": "),
    logged("authorization 1 fetched", "POST /authZ/", 1),
    logged("authorization 2 fetched", "POST /authZ/", 2),
    logged("challenge 1 answered", "POST /chalZ/", 1),
    logged("challenge 2 answered", "POST /chalZ/", 2),
    logged("validation begun", "Attempting to validate", 1),
    logged("validation half done", "Attempting to validate", 3),
    logged("authorization 1 valid", "set VALID", 1),
    logged("authorization 2 valid", "set VALID", 2),
    logged("order polled", "POST /my-order/", 1),
    logged("order polled again", "POST /my-order/", 2),
    logged("finalize received", "POST /finalize-order/"),
    logged("finalize accepted", "Processing finalization"),
    logged("certificate issued", "Issued certificate serial"),
    logged("certificate asked", "POST /certZ/"),
    written("Secret written", lambda site: site.secret, "acmeistio.io/issuer"),
)


def test_a_kill_at_any_moment_costs_at_most_one_order(
    tmp_path: Path, report: Callable[[str], None]
) -> None:
    """Killed at any moment and started again: one certificate, one account, at most two orders.

    Two where the CA got an order whose URL was not yet written down, or asked for a token while
    nobody answered. A certificate that was issued is never ordered a second time.
    """
    chance = random.Random(SEED)
    times = (chance.uniform(0.1, UNDISTURBED_SECONDS) for _ in range(MOMENTS - len(STEPS)))
    moments = [*STEPS, *map(after, times)]
    with Forkery(tmp_path / "forkery.log") as forkery, ThreadPoolExecutor(AT_ONCE) as pool:
        folders = [tmp_path / str(number) for number in range(len(moments))]
        outcomes = list(pool.map(partial(kill_and_restart, forkery), moments, folders))
    report(f"kill -9 at {len(moments)} moments, seed {SEED}")
    report(f"{'moment':26} accounts orders certificates  got after")
    for moment, got in zip(moments, outcomes, strict=True):
        report(
            f"{moment.name:26} {got.accounts:8} {got.orders:6} {got.certificates:12}"
            f" {got.seconds:8.1f} s"
        )
    assert all(got.accounts == 1 for got in outcomes)
    assert all(got.orders <= 2 for got in outcomes)
    assert all(got.certificates == 1 for got in outcomes)


def kill_and_restart(forkery: Forkery, moment: Moment, folder: Path) -> Outcome:
    """Run to the moment, kill, start again, wait for the certificate."""
    with Site(folder, CaOptions(validation_delay=True)) as site, ExitStack() as stack:

        def start() -> Fork:
            fork = forkery.start(site.words(), site.log)
            stack.callback(fork.kill)
            return fork

        first, came = start(), moment.came(site)
        deadline = time.monotonic() + RECOVERY_SECONDS
        while not came():
            assert first.alive, f"{moment.name}: {site.tails()}"
            assert time.monotonic() < deadline, f"{moment.name} never came\n{site.tails()}"
            time.sleep(STEP_SECONDS)
        first.kill()
        begin = time.monotonic()
        start()
        site.wait_for_certificate(seconds=RECOVERY_SECONDS)
        seconds = time.monotonic() - begin
        site.wait_for(seen_in(site.ledger, '"orders":[]'), "the order is struck out")
        time.sleep(0.3)  # an order too many would come now
        count = site.ca.count
        return Outcome(count("accounts"), count("orders"), count("certificates"), seconds)
