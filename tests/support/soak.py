"""How often a test with invented inputs is tried: a few times in the suite, for hours with `make soak`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

SOAK: Final = os.environ.get("SOAK", "") == "1"
_TELL_SECONDS: Final = 60.0
FIRST_SEED: Final = int(os.environ.get("SEED", "0"))


def often(suite: int, soak: int) -> int:
    """So many examples: the first number in the suite, the second in a soak."""
    return soak if SOAK else suite


def seeds(suite: int, soak: int) -> range:
    """The seeds of so many examples, from SEED on, so that any of them can be had again by itself."""
    return range(FIRST_SEED, FIRST_SEED + often(suite, soak))


@dataclass
class Tally:
    """Tells how far a long loop is, once a minute, and each failure at once: a run that is cut has told what it found."""

    what: str
    done: int = 0
    failed: int = 0
    clock: Callable[[], float] = time.monotonic
    _told_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._told_at = self.clock()

    def count(self, wrong: Sequence[str] = ()) -> Sequence[str]:
        """Counts one more, and returns what is wrong with it."""
        self.done += 1
        self.failed += bool(wrong)
        for one in wrong:
            self._tell(f"FAILED {one}")
        if self.clock() - self._told_at >= _TELL_SECONDS:
            self._tell(f"{self.what}: {self.done} done, {self.failed} failed")
            self._told_at = self.clock()
        return wrong

    def _tell(self, line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
