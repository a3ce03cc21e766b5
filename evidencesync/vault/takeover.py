"""Takes a file over that an earlier session of the item had staged, to go on with it where it stands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from evidencesync.vault.content import StagedContent

_LOOK_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def take_over(leftover: Path, dir_fd: int, name: str, path: Path) -> StagedContent | None:
    """Moves the file into `contents/` (`dir_fd`) under a new name, and opens it there with all that it holds.

    None where it cannot be had. A file with a second name is never touched: it might be that of a published acquisition.
    """
    try:
        fd = os.open(leftover, _LOOK_FLAGS)
    except OSError:
        return None
    try:
        if os.fstat(fd).st_nlink != 1:
            return None
        os.fchmod(fd, 0o600)  # one that was complete has become read-only
        os.rename(leftover, name, dst_dir_fd=dir_fd)
        writable = os.open(name, _WRITE_FLAGS, dir_fd=dir_fd)
    except OSError:
        return None
    finally:
        os.close(fd)
    return StagedContent(dir_fd, name, path, writable)
