"""`pebble/demo`: from an annotated manifest to HTTPS that renews, told on this machine."""

from __future__ import annotations

import argparse
import fcntl
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pebble import envoy
from pebble.cluster_stage import ClusterStage
from pebble.processes import CACHE, ChildFailed, tail
from pebble.progress import Progress, StepFailed
from pebble.stage import (
    AS_SHIPPED,
    HOSTS,
    NEW_HOST,
    RENEW,
    SAMPLE,
    FolderStage,
    Part,
    Stage,
    short,
)
from pebble.visitor import NotServed, Served
from pebble.watching import Watch

DESCRIPTION = """\
Two helloworld backends, Envoy as ingress gateway, Pebble as CA, and acmeistio with the manifest
deploy/examples/helloworld.yaml: gets a certificate for its hosts, adds a third one by an edit,
renews without a dropped request. All on loopback; seconds once set up. With --cluster the same
in a real cluster without nodes, which Go builds first, for minutes.
"""

SEEN_SECONDS = 20.0
POLL_SECONDS = 0.05
CERTIFICATES_OF_A_RENEWAL = 2
AFTERWARDS_SECONDS = 1.0
"""How long the visitor stays after the renewal."""


class Story:
    """The chapters, in the order in which they are told."""

    def __init__(self, stage: Stage, tell: Progress) -> None:
        self._stage = stage
        self._tell = tell
        self._view = stage.view

    def tell(self) -> None:
        """All of it. Raises StepFailed."""
        self._set_up()
        self._first_certificate()
        self._third_domain()
        self._renewal()
        self._summary()

    def _set_up(self) -> None:
        self._tell.chapter("The stage")
        self._play(self._stage.parts())
        if self._stage.remark:
            self._tell.note(self._stage.remark)
        if self._stage.serves_https:
            self._see_refused(HOSTS[0])

    def _play(self, parts: Iterable[Part]) -> None:
        for doing, do in parts:
            with self._tell.step(doing) as step:
                step.found(do() or doing)

    def _first_certificate(self) -> None:
        self._tell.chapter(f"One annotation in {short(SAMPLE)}")
        self._tell.note(AS_SHIPPED)
        self._play(self._stage.beginning())
        for host in HOSTS:
            self._see(host, lambda _: True)

    def _third_domain(self) -> None:
        heading, edit = self._stage.third_domain
        self._tell.chapter(heading)
        self._see_refused(NEW_HOST)
        self._tell.note(edit)
        self._stage.add_third_domain()
        for host in (NEW_HOST, *HOSTS):
            self._see(host, lambda served: NEW_HOST in served.names)

    def _renewal(self) -> None:
        tell = self._tell
        tell.chapter("A renewal, asked for by an annotation on the Secret")
        before = self._view.look(HOSTS[0])
        now = datetime.now(UTC).isoformat(timespec="seconds")
        tell.note(f"{RENEW}: {now}")
        with self._visitor() as visitor:
            self._stage.annotate_secret(RENEW, now)
            self._see(HOSTS[0], lambda served: served.serial != before.serial)
            with tell.step("A visitor sees nothing of it") as step:
                time.sleep(AFTERWARDS_SECONDS)
                _expect_good(visitor)
                step.found(
                    f"A visitor: {visitor.asked} connections meanwhile, none failed,"
                    " both serials seen"
                )

    def _visitor(self) -> Watch:
        """Somebody who looks at the first host again and again, and sees its serials."""
        return Watch(lambda: self._view.look(HOSTS[0]).serial, failure=NotServed)

    def _summary(self) -> None:
        ca = self._stage.ca
        how = "served over HTTPS" if self._stage.serves_https else "covered"
        self._tell.chapter("Summary")
        self._tell.note(
            f"{len(HOSTS) + 1} hosts {how} from one Secret, verified against Pebble's root.\n"
            f"Pebble counted {ca.count('accounts')} account, {ca.count('orders')} orders,"
            f" {ca.count('certificates')} certificates."
        )
        if words := self._stage.last_words():
            self._tell.note(words)

    def _see(self, host: str, as_wanted: Callable[[Served], bool]) -> None:
        """A step: wait until a host is served as wanted."""
        name = self._view.name(host)
        with self._tell.step(f"{name} is served") as step:
            served = self._wait(host, as_wanted)
            step.found(f"{name}  {served.said}  serial {served.serial[:8]}")

    def _see_refused(self, host: str) -> None:
        """A step: a host has no certificate yet."""
        name = self._view.name(host)
        with self._tell.step(f"{name} has no certificate yet") as step:
            try:
                self._view.look(host)
            except NotServed as error:
                step.found(f"{name}: refused ({error})")
            else:
                raise ValueError("it is served already")

    def _wait(self, host: str, as_wanted: Callable[[Served], bool]) -> Served:
        deadline = time.monotonic() + SEEN_SECONDS
        why_not = "the old certificate is served"
        while time.monotonic() < deadline and self._stage.alive:
            try:
                served = self._view.look(host)
            except NotServed as error:
                why_not = str(error)
            else:
                if as_wanted(served):
                    return served
            time.sleep(POLL_SECONDS)
        if not self._stage.alive:
            raise NotServed("a process of the demo has ended")
        raise NotServed(f"not within {SEEN_SECONDS:.0f} s: {why_not}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Tell the story; 0 when every step has worked."""
    wanted = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _fresh_folder() as folder, _stage(folder, wanted) as stage:
            return _play(stage, Progress(), keep=wanted.keep)
    except BlockingIOError:
        print("Another demo runs in this checkout.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nEnded.")
        return 0 if wanted.keep else 130


def _stage(folder: Path, wanted: argparse.Namespace) -> FolderStage | ClusterStage:
    if wanted.cluster:
        return ClusterStage(folder)
    return FolderStage(folder, with_envoy=envoy.available() and not wanted.without_envoy)


def _play(stage: Stage, tell: Progress, *, keep: bool) -> int:
    begin = time.monotonic()
    tell.title("acmeistio: from an annotated manifest to HTTPS that renews")
    try:
        Story(stage, tell).tell()
    except StepFailed as error:
        print(_account_of(error, stage), file=sys.stderr)
        return 1
    tell.note(f"It took {time.monotonic() - begin:.0f} s. Logs: {short(stage.folder)}/*.log")
    if keep:
        tell.chapter("It goes on running; Ctrl-C ends it")
        tell.note(stage.to_try())
        while stage.alive:
            time.sleep(POLL_SECONDS)
        print("A process of the demo has ended.", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pebble/demo",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave it running until Ctrl-C, and say what to try"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--cluster",
        action="store_true",
        help="in a cluster of this machine: etcd, API server, istiod, Envoy",
    )
    where.add_argument(
        "--without-envoy", action="store_true", help="as on machines for which there is no Envoy"
    )
    return parser


@contextmanager
def _fresh_folder() -> Iterator[Path]:
    """The demo's folder, empty; its logs stay afterwards. Raises BlockingIOError when in use."""
    folder = CACHE / "demo"
    with (CACHE / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield folder


def _expect_good(visitor: Watch) -> None:
    if visitor.failures:
        raise NotServed(
            f"{len(visitor.failures)} of {visitor.asked} requests failed: {visitor.failures[0]}"
        )
    if len(visitor.seen) != CERTIFICATES_OF_A_RENEWAL:
        raise NotServed(f"the visitor saw the serials {', '.join(visitor.seen)}")


def _account_of(error: StepFailed, stage: Stage) -> str:
    """What did not work, with the end of the log that says most about it."""
    cause = error.__cause__
    if isinstance(cause, ChildFailed):  # its message has the log
        return f"\n{error}: {cause}"
    log = stage.acmeistio_log
    return f"\n{error}: {cause}\n--- {short(log)}\n{tail(log)}"


if __name__ == "__main__":
    sys.exit(main())
