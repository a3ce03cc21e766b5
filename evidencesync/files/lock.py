"""One writer for an item at a time: flock(2) on folders, so that no lock file ever lies among evidence."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from evidencesync.errors import LockedError
from evidencesync.files.disk import opened_folder, storing


@contextlib.contextmanager
def locked_folder(folder: os.PathLike[str], what: str, *, wait: bool = False) -> Iterator[int]:
    """Holds the exclusive lock of a folder and gives its descriptor. It ends with the process, however that dies.

    Raises LockedError at once when another process (or another `with` in this one) has it, unless told to wait.
    """
    with opened_folder(folder) as fd:
        with storing(f"lock {what}"):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError as error:
                raise LockedError(f"{what} is being written by another process") from error
        yield fd
