"""The flags that a file system keeps for an inode (immutable, append only, no dump ...), as `lsattr` shows them."""

from __future__ import annotations

import errno
import fcntl
import struct
import sys
from typing import Final

from evidencesync.evidence.entry import InodeFlags

# linux/fs.h: _IOR('f', 1, long). In spite of its name the kernel writes an int.
_GET_FLAGS: Final = 0x80006601 | struct.calcsize("l") << 16
_INT: Final = struct.Struct("=I")
_ROOM: Final = bytes(8)
_LAYOUT: Final = 0x1000 | 0x40000 | 0x80000 | 0x10000000
"""How a file system stores (indexed folder, huge file, extents, inline data): on nearly every file of ext4, set by nobody."""
_NO_SUPPORT: Final = frozenset({errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})


class InodeFlagReader:
    """Reads inode flags of what is open; remembers which file systems have none. For one thread.

    `unread` counts what the system would not tell: a manifest must say so when it is not 0. `available` is False where this
    system has no such call.
    """

    __slots__ = ("_shown", "_without", "available", "unread")

    def __init__(self) -> None:
        self.available = sys.platform.startswith("linux")
        self.unread = 0
        self._shown: dict[int, InodeFlags | None] = {}
        self._without: set[int] = set()

    def of_descriptor(self, fd: int, device: int) -> InodeFlags | None:
        """The flags of what is open, or None where it has none or its file system (`device` is its st_dev) knows none."""
        if not self.available or device in self._without:
            return None
        try:
            flags = _INT.unpack_from(fcntl.ioctl(fd, _GET_FLAGS, _ROOM))[0]
        except OSError as error:
            if error.errno in _NO_SUPPORT:
                self._without.add(device)
            else:
                self.unread += 1
            return None
        return self._shown[flags] if flags in self._shown else self._show(flags)

    def _show(self, flags: int) -> InodeFlags | None:
        kept = flags & ~_LAYOUT
        return self._shown.setdefault(flags, f"{kept:08x}" if kept else None)
