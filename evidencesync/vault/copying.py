"""Copies bytes between files inside the kernel, sharing blocks where the file system can (FICLONE, copy_file_range)."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from typing import Final

from evidencesync.errors import DigestMismatchError
from evidencesync.holes import extents
from evidencesync.vault.disk import write_all

_FICLONE: Final = 0x40049409  # linux/fs.h
_BLOCK: Final = 1 << 20
_RANGE: Final = 64 << 20  # bytes asked for at once: long enough for the kernel, short enough to be interrupted
# What a kernel says when it cannot do this for these two files; anything else is an error of the disk.
_NOT_SUPPORTED: Final = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ETXTBSY, errno.EBADF}
)


def share_blocks(source_fd: int, target_fd: int) -> bool:
    """Makes the target, which must be empty, a reflink of the source; False where the file system has none."""
    if not hasattr(os, "copy_file_range"):  # not Linux, and then 0x40049409 may mean anything
        return False
    try:
        fcntl.ioctl(target_fd, _FICLONE, source_fd)
    except OSError as error:
        if error.errno in _NOT_SUPPORTED:
            return False
        raise
    return True


def copy_range(source_fd: int, source_offset: int, target_fd: int, target_offset: int, length: int) -> None:
    """Copies a range to where the target has nothing yet: its holes stay holes.

    Where it ends in one, the target's size is left to the caller. Raises OSError, and DigestMismatchError when the source
    ends before the range does.
    """
    if os.fstat(source_fd).st_size < source_offset + length:
        raise DigestMismatchError("a stored file is shorter than it was when it was published")
    for start, size, is_hole in extents(source_fd, source_offset, source_offset + length, length):
        if not is_hole:
            _copy_data(source_fd, start, target_fd, target_offset + start - source_offset, size)


def _copy_data(source_fd: int, source_offset: int, target_fd: int, target_offset: int, length: int) -> None:
    copy: Callable[[int, int, int, int, int], int] = _copy_in_kernel
    while length:
        try:
            copied = copy(source_fd, source_offset, target_fd, target_offset, length)
        except OSError as error:
            if copy is _copy_by_hand or error.errno not in _NOT_SUPPORTED:
                raise
            copy = _copy_by_hand
            continue
        if not copied:
            raise DigestMismatchError("a stored file is shorter than it was when it was published")
        source_offset += copied
        target_offset += copied
        length -= copied


def copy_file(source_fd: int, target_fd: int, size: int) -> None:
    """Copies a whole file of `size` bytes into an empty one; its holes stay holes. Raises as `copy_range` does."""
    if os.fstat(source_fd).st_size != size:
        raise DigestMismatchError("a stored file has another size than when it was published")
    os.ftruncate(target_fd, size)
    copy_range(source_fd, 0, target_fd, 0, size)


def _copy_in_kernel(source_fd: int, source_offset: int, target_fd: int, target_offset: int, length: int) -> int:
    if not hasattr(os, "copy_file_range"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return os.copy_file_range(source_fd, target_fd, min(length, _RANGE), source_offset, target_offset)


def _copy_by_hand(source_fd: int, source_offset: int, target_fd: int, target_offset: int, length: int) -> int:
    block = os.pread(source_fd, min(length, _BLOCK), source_offset)
    os.lseek(target_fd, target_offset, os.SEEK_SET)
    write_all(target_fd, block)
    return len(block)
