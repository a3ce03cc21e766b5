"""Copies bytes between files inside the kernel, and shares blocks where the file system can (FICLONE, FICLONERANGE)."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable
from typing import Final

from evidencesync.errors import DigestMismatchError
from evidencesync.files.disk import write_all
from evidencesync.files.holes import extents

_FICLONE: Final = 0x40049409  # linux/fs.h
_FICLONERANGE: Final = 0x4020940D
_CLONE_RANGE: Final = struct.Struct("=qQQQ")  # source descriptor, source offset, length, target offset
_BLOCK: Final = 1 << 20
_RANGE: Final = 64 << 20  # bytes asked for at once: long enough for the kernel, short enough to be interrupted
_UNITS: Final = frozenset(1 << power for power in range(9, 21))
# Errors for a request that these two file systems do not support: there is no use in another try.
_NEVER: Final = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.ENOSYS})
# Errors for a request that cannot be done for these two files; any other is an error of the disk.
_NOT_SUPPORTED: Final = _NEVER | {errno.EINVAL, errno.EPERM, errno.ETXTBSY, errno.EBADF}
# ENOSPC as well: XFS returns it for sharing while one allocation group is nearly full. Writing then succeeds, or fails with the
# same error.
_NOT_SHARED: Final = _NOT_SUPPORTED | {errno.EAGAIN, errno.EINTR, errno.ENOSPC, errno.EDQUOT}


def share_blocks(source_fd: int, target_fd: int) -> bool:
    """Makes the target, which must be empty, a reflink of the source; False where the file system cannot."""
    return _clone(target_fd, _FICLONE, source_fd) == 0


class BlockSharing:
    """Makes ranges of new files share blocks with older files, and remembers which pairs of file systems cannot.

    A shared range has the source's bytes as on the disk: the kernel writes dirty pages out first.
    """

    def __init__(self) -> None:
        self._never: set[tuple[int, int]] = set()

    def unit(self, source_fd: int, target_fd: int) -> int | None:
        """Returns the block size: shared ranges begin and end at multiples of it, in both files. None: nothing can be shared."""
        if _devices(source_fd, target_fd) in self._never:
            return None
        unit = os.fstatvfs(target_fd).f_bsize
        return unit if unit in _UNITS else None

    def share(self, source_fd: int, source_offset: int, target_fd: int, target_offset: int, length: int) -> bool:
        """Shares a range of whole blocks. False where that cannot be done: then the caller writes the range.

        Raises OSError for an error of the disk.
        """
        code = _clone(target_fd, _FICLONERANGE, _CLONE_RANGE.pack(source_fd, source_offset, length, target_offset))
        if code in _NEVER:
            self._never.add(_devices(source_fd, target_fd))
        return code == 0


def _clone(target_fd: int, request: int, argument: int | bytes) -> int:
    """Returns 0, or the error number where blocks cannot be shared. Raises OSError for an error of the disk."""
    if not hasattr(os, "copy_file_range"):  # not Linux: there the request numbers may mean something else
        return errno.ENOSYS
    try:
        fcntl.ioctl(target_fd, request, argument)
    except OSError as error:
        if error.errno not in _NOT_SHARED:
            raise
        return error.errno
    return 0


def _devices(source_fd: int, target_fd: int) -> tuple[int, int]:
    return os.fstat(source_fd).st_dev, os.fstat(target_fd).st_dev


def copy_range(source_fd: int, source_offset: int, target_fd: int, target_offset: int, length: int) -> None:
    """Copies a range to where the target has nothing yet: its holes stay holes.

    Where the range ends in a hole, the caller sets the target's size. Raises OSError, and DigestMismatchError when the source
    ends before the range.
    """
    if os.fstat(source_fd).st_size < source_offset + length:
        raise DigestMismatchError("a stored file is shorter than it was when it was published")
    for start, size, hole in extents(source_fd, source_offset, source_offset + length, length):
        if not hole:
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


def is_hole(fd: int, offset: int, length: int) -> bool:
    """Whether a range of a file is one hole; False where that is unknown, and where the file ends before the range."""
    try:
        fits = os.fstat(fd).st_size >= offset + length
        return fits and all(hole for _, _, hole in extents(fd, offset, offset + length, length))
    except OSError:
        return False


def _copy_in_kernel(source_fd: int, source_offset: int, target_fd: int, target_offset: int, length: int) -> int:
    if not hasattr(os, "copy_file_range"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return os.copy_file_range(source_fd, target_fd, min(length, _RANGE), source_offset, target_offset)


def _copy_by_hand(source_fd: int, source_offset: int, target_fd: int, target_offset: int, length: int) -> int:
    block = os.pread(source_fd, min(length, _BLOCK), source_offset)
    os.lseek(target_fd, target_offset, os.SEEK_SET)
    write_all(target_fd, block)
    return len(block)
