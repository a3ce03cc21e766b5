"""What tests write below the folder for temporary files is not made durable: waiting for the disk took more time than all else.

Each place of the code that syncs does so in earnest when it comes there first, so that a call that fails by itself is seen in
every run; and always on a file system that a test has mounted. What a power cut leaves is shown by
tests/faults/test_power_cuts.py, whose victims are processes of their own that spare nothing.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from types import CodeType
from typing import IO, Any

from evidencesync.files import disk


class _Sparing:
    """Which places have synced."""

    def __init__(self, device: int) -> None:
        self._device = device
        self._done: set[tuple[CodeType, int]] = set()

    def is_needless(self, fd: int) -> bool:
        """Whether the caller's caller has synced before, and this is no file system of its own."""
        caller = sys._getframe(2)
        place = caller.f_code, caller.f_lineno
        if place in self._done and os.fstat(fd).st_dev == self._device:
            return True
        self._done.add(place)
        return False


def spare(device: int, put: Callable[[object, str, Any], None]) -> None:
    """Has `put(target, name, value)`, as `setattr` is, put calls that spare the device in place of the others."""
    sparing, fsync, fdatasync = _Sparing(device), os.fsync, os.fdatasync
    syncfs = disk._system_call("syncfs")

    def spared_fsync(file: int | IO[Any]) -> None:
        fd = file if isinstance(file, int) else file.fileno()
        if not sparing.is_needless(fd):
            fsync(fd)

    def spared_fdatasync(file: int | IO[Any]) -> None:
        fd = file if isinstance(file, int) else file.fileno()
        if not sparing.is_needless(fd):
            fdatasync(fd)

    def spared_syncfs(fd: int) -> int:
        if sparing.is_needless(fd):
            ctypes.set_errno(0)
            return 0
        return int(syncfs(fd)) if syncfs is not None else -1

    put(os, "fsync", spared_fsync)
    put(os, "fdatasync", spared_fdatasync)
    if syncfs is not None:
        put(disk, "_system_calls", {**disk._system_calls, "syncfs": spared_syncfs})
