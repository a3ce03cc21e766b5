"""Files that are made many TiB long at no cost, and an alarm for tests that would read them to their end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

HUGE: Final = 8 << 40
_SECONDS: Final = 120


@contextmanager
def not_for_ever() -> Iterator[None]:
    """Fails the test where it takes much longer than it can. To read a huge file takes hours."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise AssertionError("it reads for ever")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def grow(file: Path, size: int = HUGE) -> None:
    """As `truncate -s`, and read-only as before."""
    mode = file.stat().st_mode
    file.chmod(0o644)
    os.truncate(file, size)
    file.chmod(mode)
