"""A limit on how fast something is taken."""

from __future__ import annotations

import time


class RateLimit:
    """Waits where more was taken than `limit_rate` bytes a second since the first. None is no limit. For one thread."""

    def __init__(self, limit_rate: int | None) -> None:
        self._limit_rate = limit_rate
        self._started = time.monotonic()
        self._taken = 0

    def wait(self, size: int) -> None:
        """So many bytes more were taken."""
        if self._limit_rate is None:
            return
        self._taken += size
        ahead = self._taken / self._limit_rate - (time.monotonic() - self._started)
        if ahead > 0:
            time.sleep(ahead)
