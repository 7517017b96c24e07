"""Leadership for the embedded default: one process per state folder, by a lock on a file."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from acmeistio.errors import Misconfigured
from acmeistio.local.state import FILE_MODE, FOLDER_MODE
from acmeistio.ports import Term

LOCK_NAME = ".lock"


class FolderLeadership:
    """The kernel frees the lock when the process dies, however it dies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None
        self._term = Term(f"pid-{os.getpid()}", 1)

    async def acquire(self) -> Term:
        """See Leadership.acquire. Raises Misconfigured while another process has the folder."""
        try:
            self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            descriptor = os.open(self._folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, FILE_MODE)
        except OSError as error:
            raise Misconfigured(f"{self._folder} can't be written: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise Misconfigured(
                f"another acmeistio works on {self._folder}; stop it, or use another folder"
            ) from error
        self._descriptor = descriptor
        return self._term

    def holds(self, term: Term) -> bool:
        """See Leadership.holds."""
        return self._descriptor is not None and term == self._term

    async def release(self) -> None:
        """See Leadership.release."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
