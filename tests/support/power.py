"""A power cut, as far as a file system can imitate it. Its victims are processes of their own: what they import is little."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

_SHUTDOWN = 0x8004587D  # XFS_IOC_GOINGDOWN, and EXT4_IOC_SHUTDOWN
_WITHOUT_LOG = 2  # what is in memory of the log is not written either


def cut_power(folder: Path) -> None:
    """What a power cut does to a file system (XFS or ext4) and the programs that use it: nothing more reaches the disk, and what
    had not been synced is gone when it is mounted again.
    """
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", _WITHOUT_LOG))
    finally:
        os.close(fd)
