"""How often a test with invented inputs is tried: a few times in the suite, for hours with `make soak`."""

from __future__ import annotations

import os
from typing import Final

SOAK: Final = os.environ.get("SOAK", "") == "1"
FIRST_SEED: Final = int(os.environ.get("SEED", "0"))


def often(suite: int, soak: int) -> int:
    """So many examples: the first number in the suite, the second in a soak."""
    return soak if SOAK else suite


def seeds(suite: int, soak: int) -> range:
    """The seeds of so many examples, from SEED on, so that any of them can be had again by itself."""
    return range(FIRST_SEED, FIRST_SEED + often(suite, soak))
