"""The order of streams at the receiving end: one is open at a time, and no longer than it was said to be."""

from __future__ import annotations

from evidencesync.errors import LimitExceededError, ProtocolError
from evidencesync.protocol.messages import Close, Open, Resembles


class StreamOrder:
    """Where the sender is in its streams. `left`: how many bytes the open one may still have, None where none is open.

    Raises ProtocolError for what is out of order, LimitExceededError for what is too long.
    """

    def __init__(self, next_stream: int, left: int | None) -> None:
        self._next = next_stream
        self._left = left
        self._ended = False
        self._is_fresh = False  # open, and as yet without segments: it may still be said what it is like

    @property
    def is_open(self) -> bool:
        """Whether a stream is open."""
        return self._left is not None

    def open(self, message: Open) -> None:
        """The next stream begins."""
        if self._ended or self._left is not None or message.stream != self._next:
            raise ProtocolError("a stream is opened out of order")
        self._left = message.size
        self._is_fresh = True

    def end(self) -> None:
        """No stream may begin any more."""
        self._ended = True

    def resembles(self, message: Resembles) -> None:
        """A hint stands before all segments, and once: each may make the vault open a file."""
        if self._left is None or message.stream != self._next or not self._is_fresh:
            raise ProtocolError("a hint is out of order")
        self._is_fresh = False

    def begin_segment(self) -> None:
        """A segment of the open stream begins: what it is like can no longer be said."""
        self._is_fresh = False

    def spend(self, size: int) -> None:
        """Counts against what the stream may hold: a few bytes may not buy hours of hashing zeros."""
        if self._left is None or size > self._left:
            raise LimitExceededError("a stream is longer than it was announced")
        self._left -= size

    def close(self, message: Close) -> None:
        """The open stream ends."""
        if self._left is None or message.stream != self._next:
            raise ProtocolError("a stream is closed that is not open")
        self._left = None
        self._next += 1
