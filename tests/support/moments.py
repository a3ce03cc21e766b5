"""When a vault of the tests is checked: after everything that any clock can have said while it was made."""

from __future__ import annotations

from typing import Final

LONG_AFTER_NS: Final = 4_000_000_000_000_000_000
"""In 2096; nanoseconds since the epoch. A nearer day comes, and a vault of that day would be checked before it was made."""
