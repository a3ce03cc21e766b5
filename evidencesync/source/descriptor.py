"""Opening by directory descriptor, in the way that leaves the fewest traces and follows no link."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from evidencesync.errors import ResourcesError

CLOEXEC: Final = getattr(os, "O_CLOEXEC", 0)
FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | CLOEXEC
"""Non-blocking, so that a FIFO that took a file's place can not hold up the run."""
FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | CLOEXEC
PASSAGE_FLAGS: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | CLOEXEC
"""A folder that is only passed through: with O_PATH it need not be readable, and nothing in it is touched."""

_NOATIME: Final = getattr(os, "O_NOATIME", 0)
_GONE: Final = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENODEV, errno.ESTALE})
_OUR_OWN: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def open_untouched(name: bytes, flags: int, dir_fd: int) -> tuple[int, bool]:
    """Opens one name in a folder; the second value tells whether reading will leave the access time alone.

    O_NOATIME is the owner's and root's privilege (open(2)): where it is refused, the name is opened without it. A regular file
    on which a program holds a lease (a Samba server does) is waited for, as long as the kernel lets the program keep it. Raises
    OSError as open(2) does.
    """
    try:
        return _open_untouched(name, flags, dir_fd)
    except BlockingIOError:
        return _open_leased(name, flags, dir_fd)


def _open_leased(name: bytes, flags: int, dir_fd: int) -> tuple[int, bool]:
    """Opens without O_NONBLOCK what is seen to be a regular file, and so cannot block for longer than a lease lasts."""
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
    """Whether a name could not be opened because what was seen there is gone: removed, or something else has the name.

    Raises ResourcesError where the failure is not the source's but ours: no descriptors or no memory left. Such a
    failure must never be recorded as a property of the evidence.
    """
    if error.errno in _OUR_OWN:
        raise ResourcesError(f"the system has no room for one more open file: {error.strerror}") from error
    return error.errno in _GONE
