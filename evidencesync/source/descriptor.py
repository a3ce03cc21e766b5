"""Opens files and folders of a source by directory descriptor, with the fewest traces, and without following links."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from evidencesync.errors import ResourcesError

CLOEXEC: Final = getattr(os, "O_CLOEXEC", 0)
FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | CLOEXEC
"""Non-blocking: otherwise a FIFO in place of a file would block the run."""
FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | CLOEXEC
PASSAGE_FLAGS: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | CLOEXEC
"""A folder that is only passed through: with O_PATH it need not be readable, and nothing in it is touched."""

_NOATIME: Final = getattr(os, "O_NOATIME", 0)
_GONE: Final = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENODEV, errno.ESTALE})
_OUR_OWN: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def open_untouched(name: bytes, flags: int, dir_fd: int) -> tuple[int, bool]:
    """Opens one name in a folder; the second value tells whether reading will leave the access time alone.

    O_NOATIME is a privilege of the owner and of root (open(2)): if it is refused, the name is opened without it. If a program
    holds a lease on a regular file (as a Samba server does), this waits, at most for the time that the kernel allows. Raises
    OSError as open(2) does.
    """
    try:
        return _open_untouched(name, flags, dir_fd)
    except BlockingIOError:
        return _open_leased(name, flags, dir_fd)


def _open_leased(name: bytes, flags: int, dir_fd: int) -> tuple[int, bool]:
    """Opens a regular file without O_NONBLOCK: the open waits until the lease is given up or the kernel breaks it."""
    passage = os.open(name, getattr(os, "O_PATH", flags) | os.O_NOFOLLOW | CLOEXEC, dir_fd=dir_fd)
    try:
        if not stat.S_ISREG(os.fstat(passage).st_mode):
            raise BlockingIOError(errno.EAGAIN, "it is busy, and no regular file")
        return _open_untouched(b"/proc/self/fd/%d" % passage, flags & ~(os.O_NONBLOCK | os.O_NOFOLLOW), dir_fd)
    finally:
        os.close(passage)


def _open_untouched(name: bytes, flags: int, dir_fd: int) -> tuple[int, bool]:
    try:
        return os.open(name, flags | _NOATIME, dir_fd=dir_fd), bool(_NOATIME)
    except PermissionError as error:
        if error.errno != errno.EPERM or not _NOATIME:
            raise
    return os.open(name, flags, dir_fd=dir_fd), False


def is_gone(error: OSError) -> bool:
    """Whether a name could not be opened because the entry is gone: removed, or replaced by something else.

    Raises ResourcesError if this process is the cause: no descriptors or no memory left. Such a failure must never be recorded
    as a property of the evidence.
    """
    if error.errno in _OUR_OWN:
        raise ResourcesError(f"the system has no room for one more open file: {error.strerror}") from error
    return error.errno in _GONE
