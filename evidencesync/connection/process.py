"""Prepares one process for transfers: its clock, its memory allocator, and its limit on open files."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from typing import Final

from evidencesync.errors import ConfigurationError
from evidencesync.limits import MIB

_SECOND: Final = 1_000_000_000
_NOTED_SECONDS: Final = 2  # time servers correct a clock in smaller steps all the time
# From glibc's malloc.h; mallopt(3).
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8


def _wall_ns() -> int:
    return time.time_ns()


def _elapsed_ns() -> int:
    """Returns the time that has passed, including the time in which the machine slept, where the system counts that."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic_ns() if clock is None else time.clock_gettime_ns(clock)


class SteadyClock:
    """Returns nanoseconds since the epoch: the system's time when this was made, and the time that has passed since then.

    Documents of one transfer state several times. They must not contradict each other because somebody sets the clock
    meanwhile, and no key may stop being trusted by that.
    """

    def __init__(self, wall: Callable[[], int] = _wall_ns, elapsed: Callable[[], int] = _elapsed_ns) -> None:
        self._wall = wall
        self._elapsed = elapsed
        self._offset = wall() - elapsed()

    def __call__(self) -> int:
        """Returns the time."""
        return self._elapsed() + self._offset

    def set_ns(self) -> int:
        """Returns how far the system's clock was set forward (below zero: back) since this clock was made."""
        return self._wall() - self()


def set_seconds(clock: Callable[[], int]) -> int:
    """Returns by how many seconds the system's clock was set during a run; 0 where that is not known or too little to record."""
    seconds = round(clock.set_ns() / _SECOND) if isinstance(clock, SteadyClock) else 0
    return seconds if abs(seconds) >= _NOTED_SECONDS else 0


def keep_large_blocks() -> None:
    """Keeps freed blocks of memory in the process. Call it once, before threads are started. Without glibc it does nothing.

    Evidence passes through blocks of megabytes. By default glibc maps each anew, and the kernel clears every page of it: a
    fifth of the time of a fast transfer. The kept memory is bounded by the windows, like the memory in use.
    """
    if sys.platform != "linux":
        return
    import ctypes  # not above: most commands need none of it

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for parameter, value in ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, 32 * MIB), (_M_TRIM_THRESHOLD, 128 * MIB)):
        mallopt(parameter, value)  # it returns 0 where it refuses: slower, not wrong


def allow_many_files() -> None:
    """Raises the soft limit on open files to the hard one: each large content is open from its arrival until it is placed.

    Raises ConfigurationError.
    """
    try:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the limit on open files cannot be read: {error}") from error
