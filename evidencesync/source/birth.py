"""The birth time of an entry, which Python's os.stat does not tell on Linux: statx(2) through ctypes."""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Callable
from typing import Final

from evidencesync.evidence.utc_time import FileTime, format_file_time

_BY_NAME: Final = 0x100 | 0x4000  # AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC: what the lstat before it just fetched is enough
_BY_DESCRIPTOR: Final = 0x1000 | 0x4000  # AT_EMPTY_PATH | AT_STATX_DONT_SYNC
_BTIME: Final = 0x800  # STATX_BTIME
_MASK: Final = 0x100 | _BTIME  # STATX_INO
# struct statx is the same on every architecture: stx_mask at 0, stx_ino at 32, stx_btime (s64 seconds, u32 ns) at 80.
_FIELDS: Final = struct.Struct("=I28xQ40xqI")
_STATX_SIZE: Final = 256
_NANO: Final = 1_000_000_000


class BirthTimes:
    """Reads birth times; remembers which file systems keep none. For one thread.

    `available` is False where the system has no statx(2).
    """

    __slots__ = ("_buffer", "_statx", "_without", "available")

    def __init__(self) -> None:
        self._statx: Callable[[int, bytes, int, int, object], int] | None = _find_statx()
        self.available = self._statx is not None
        self._buffer = ctypes.create_string_buffer(_STATX_SIZE)
        self._without: set[int] = set()

    def of_name(self, dir_fd: int, name: bytes, device: int, inode: int) -> FileTime | None:
        """The birth time of the entry that had this device and inode number, or None where it is not known."""
        if self._statx is None or device in self._without:
            return None
        if self._statx(dir_fd, name, _BY_NAME, _MASK, self._buffer) != 0:
            return None  # gone by now: reading its content will tell
        mask, now_inode, seconds, nanoseconds = _FIELDS.unpack_from(self._buffer)
        return self._told(mask, seconds, nanoseconds, device) if now_inode == inode else None

    def of_descriptor(self, fd: int, device: int) -> FileTime | None:
        """The birth time of what is open, or None where it is not known."""
        if self._statx is None or device in self._without:
            return None
        if self._statx(fd, b"", _BY_DESCRIPTOR, _MASK, self._buffer) != 0:
            return None
        mask, _, seconds, nanoseconds = _FIELDS.unpack_from(self._buffer)
        return self._told(mask, seconds, nanoseconds, device)

    def _told(self, mask: int, seconds: int, nanoseconds: int, device: int) -> FileTime | None:
        if not mask & _BTIME:
            self._without.add(device)
            return None
        if seconds < 0:
            return format_file_time(seconds * _NANO + nanoseconds)
        return f"{seconds}.{nanoseconds:09d}"


def _find_statx() -> Callable[[int, bytes, int, int, object], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    # PyDLL keeps the interpreter lock: the call answers from the inode that lstat has just brought into memory, and giving
    # the lock away costs more. Without argtypes ctypes converts faster; every argument is an int, bytes or the buffer.
    statx: Callable[[int, bytes, int, int, object], int] | None = getattr(ctypes.PyDLL(None), "statx", None)
    return statx
