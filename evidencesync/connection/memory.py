"""Keeps large blocks of memory in the process instead of giving them back after each use.

Evidence passes through blocks of megabytes. By default glibc maps each anew, and the kernel clears every page of it: a
fifth of the time of a fast transfer. What is kept is bounded by the windows, like what is used.
"""

from __future__ import annotations

import ctypes
import sys

from evidencesync.limits import MIB

# From glibc's malloc.h; mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def keep_large_blocks() -> None:
    """To be called once, before threads are started. Without glibc it does nothing."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for parameter, value in ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, 32 * MIB), (_M_TRIM_THRESHOLD, 128 * MIB)):
        mallopt(parameter, value)  # 0 means that it was not taken: slower, not wrong
