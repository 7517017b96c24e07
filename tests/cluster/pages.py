"""Backends with contents of a test's own: pages, and tokens of another ACME client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pebble.backends import LoopbackServer, QuickHandler, serving

Contents = Mapping[str, tuple[str, str]]
"""Path → media type and text."""


class _Page(QuickHandler):
    server: _Server

    def reply(self) -> None:
        """Answer with what the contents have now, else 404."""
        path = self.path.partition("?")[0]
        kind, text = self.server.contents.get(path, ("text/plain", ""))
        status = 200 if path in self.server.contents else 404
        self.answer(status, text.encode(), [("Content-Type", kind)])


class _Server(LoopbackServer):
    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        super().__init__(_Page)


@contextmanager
def pages(contents: Contents) -> Iterator[int]:
    """A backend on a free loopback port, which is given. `contents` may change meanwhile."""
    with serving(_Server(contents)) as port:
        yield port
