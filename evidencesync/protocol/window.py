"""What a sender may have under way at once, as the receiving end counts it: bytes, zeros and rows."""

from __future__ import annotations

from typing import Final

from evidencesync.errors import LimitExceededError
from evidencesync.limits import MAX_OPEN_ROWS, MAX_SEGMENT, MAX_SEGMENT_ROWS, MAX_SEGMENT_ZEROS, MIB, WINDOW, ZERO_WEIGHT

_SLACK: Final = 40 * MIB  # one page's contents and one segment beyond the window: a sender looks before it adds, not after


class Window:
    """Holds every peer to the window that an honest sender keeps. Raises LimitExceededError beyond it."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, int], int] = {}
        self._held_bytes = 0
        self._rows: dict[int, int] = {}
        self._open_rows = 0

    def hold_page(self, number: int, size: int) -> None:
        """So many bytes more belong to a page."""
        self._hold(("page", number), size)

    def hold_segment(self, number: int, size: int) -> None:
        """So many bytes more belong to a segment."""
        self._hold(("segment", number), size)

    def hold_zeros(self, number: int, count: int) -> None:
        """Zeros take no memory, but hashing them takes time: so they count against the window, too."""
        if count > MAX_SEGMENT_ZEROS + MAX_SEGMENT:
            raise LimitExceededError("a segment stands for more zeros than an honest one")
        self._hold(("segment", number), count // ZERO_WEIGHT)

    def hold_rows(self, number: int, count: int) -> None:
        """The rows that a segment is known to have; they take memory, however small the chunks are."""
        self._open_rows += count - self._rows.get(number, 0)
        self._rows[number] = count
        if self._open_rows > MAX_OPEN_ROWS + MAX_SEGMENT_ROWS:
            raise LimitExceededError("too many rows of segments at once")

    def release_page(self, number: int) -> None:
        """A page is stored."""
        self._held_bytes -= self._held.pop(("page", number), 0)

    def release_segment(self, number: int) -> None:
        """A segment is stored."""
        self._open_rows -= self._rows.pop(number, 0)
        self._held_bytes -= self._held.pop(("segment", number), 0)

    def _hold(self, key: tuple[str, int], size: int) -> None:
        self._held[key] = self._held.get(key, 0) + size
        self._held_bytes += size
        if self._held_bytes > WINDOW + _SLACK:
            raise LimitExceededError("the sender has sent more than its window allows")
