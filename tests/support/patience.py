"""How long a test waits for what must happen: as long as the busiest machine needs; where all is well it is over sooner."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

PATIENCE_SECONDS: Final = 240.0


def wait_until(condition: Callable[[], object], what: object = "") -> None:
    """Waits for an event that only shows where one looks: often at first, then less often."""
    until = time.monotonic() + PATIENCE_SECONDS
    pause = 0.005
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(pause)
        pause = min(pause * 1.1, 0.05)
