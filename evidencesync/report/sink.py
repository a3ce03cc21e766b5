"""Where a report goes."""

from __future__ import annotations

from typing import Protocol


class Sink(Protocol):
    """Takes the bytes of a report in their order."""

    def write(self, data: bytes, /) -> object:
        """Takes some more. Raises OSError."""
