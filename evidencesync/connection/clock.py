"""The clock of one run: it is read once, and goes on by itself, so that nobody can set it in the middle."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_SECOND: Final = 1_000_000_000
_NOTED_SECONDS: Final = 2  # what time servers correct in small steps is no news


def _wall_ns() -> int:
    return time.time_ns()


def _elapsed_ns() -> int:
    """Time that has passed, with that in which the machine slept, where the system counts it."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic_ns() if clock is None else time.clock_gettime_ns(clock)


class SteadyClock:
    """Nanoseconds since the epoch: what the system's clock said when this was made, and the time that has passed since.

    Documents of one transfer that state different times must not contradict each other because somebody has set the clock
    meanwhile, and no key stops being trusted by that.
    """

    def __init__(self, wall: Callable[[], int] = _wall_ns, elapsed: Callable[[], int] = _elapsed_ns) -> None:
        self._wall = wall
        self._elapsed = elapsed
        self._offset = wall() - elapsed()

    def __call__(self) -> int:
        """The time."""
        return self._elapsed() + self._offset

    def set_ns(self) -> int:
        """How far the system's clock was set forward (or, below zero, back) since this one was made."""
        return self._wall() - self()


def set_seconds(clock: Callable[[], int]) -> int:
    """By how many seconds the system's clock was set during a run, if that is known and worth to be written down; else 0."""
    seconds = round(clock.set_ns() / _SECOND) if isinstance(clock, SteadyClock) else 0
    return seconds if abs(seconds) >= _NOTED_SECONDS else 0
