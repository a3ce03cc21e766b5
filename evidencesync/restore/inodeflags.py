"""Inode flags (immutable, append only, no dump ...) of what is made anew, as `chattr` sets them."""

from __future__ import annotations

import contextlib
import fcntl
import struct
import sys
from typing import Final

# linux/fs.h: _IOR('f', 1, long) and _IOW('f', 2, long). In spite of their names the kernel reads and writes an int.
_SIZE: Final = struct.calcsize("l") << 16
_GET_FLAGS: Final = 0x80006601 | _SIZE
_SET_FLAGS: Final = 0x40006602 | _SIZE
_INT: Final = struct.Struct("=I")
_ROOM: Final = bytes(8)
_PROTECTING: Final = 0x10 | 0x20  # immutable, append only


def add_flags(fd: int, flags: int) -> None:
    """Adds flags to those that an open file or folder has. Raises OSError."""
    there = _INT.unpack_from(fcntl.ioctl(fd, _GET_FLAGS, _ROOM))[0]
    fcntl.ioctl(fd, _SET_FLAGS, _INT.pack(there | flags) + bytes(4))


def clear_flags(fd: int) -> None:
    """Takes away what would keep a file or folder from being removed, where the file system has such a thing at all."""
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError):
        there = _INT.unpack_from(fcntl.ioctl(fd, _GET_FLAGS, _ROOM))[0]
        if there & _PROTECTING:
            fcntl.ioctl(fd, _SET_FLAGS, _INT.pack(there & ~_PROTECTING) + bytes(4))
