"""Takes a file over that an earlier session of the item had staged, to go on with it where it stands."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from evidencesync.errors import PathEscapeError
from evidencesync.vault.content import StagedContent
from evidencesync.vault.space import Room
from evidencesync.vault.tree import TreeReader

_LOOK_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def take_over(
    session: TreeReader, leftover: bytes, dir_fd: int, name: str, path: Path, room: Room | None = None
) -> StagedContent | None:
    """Moves a session's file into `contents/` (`dir_fd`) under a new name, and opens it there with all that it holds.

    None where it cannot be had. `leftover` is its path below the session's folder, and is gone name by name, through no link:
    a journal that somebody has edited leads nowhere else. A file with a second name is never touched: it might be that of a
    published acquisition.
    """
    try:
        folder, leftover_name = session.locate(leftover)
        fd = os.open(leftover_name, _LOOK_FLAGS, dir_fd=folder)
    except (OSError, PathEscapeError):
        return None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            return None
        os.fchmod(fd, 0o600)  # one that was complete has become read-only
        os.rename(leftover_name, name, src_dir_fd=folder, dst_dir_fd=dir_fd)
        writable = os.open(name, _WRITE_FLAGS, dir_fd=dir_fd)
    except OSError:
        return None
    finally:
        os.close(fd)
    moved = os.fstat(writable)
    if (moved.st_dev, moved.st_ino, moved.st_nlink) != (found.st_dev, found.st_ino, 1):
        os.close(writable)
        return None
    return StagedContent(dir_fd, name, path, writable, room)
