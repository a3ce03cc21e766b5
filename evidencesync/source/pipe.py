"""Reads a pipe once, from its beginning to its end: standard input, or what a command prints."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from typing import Final

from evidencesync.evidence.capture import CaptureEnd
from evidencesync.files.disk import enlarge_pipe

_GATHER_SECONDS: Final = 0.2  # how long a block that has begun waits for more
_LOOK_SECONDS: Final = 0.5  # so often it is looked whether the command is over
LEFT_OPEN_SECONDS: Final = 5.0  # how long a pipe may be silent that a command has left open to others when it was over


class OpenedPipe:
    """A pipe that is being read. `end` says, after the last read, how the data ended.

    `idle_seconds` is how long nothing may come; None: for ever. `is_over` tells whether the command that prints into it has
    ended.
    """

    def __init__(self, fd: int, idle_seconds: float | None = None, is_over: Callable[[], bool] = lambda: False) -> None:
        self.end: CaptureEnd = "end-of-data"
        self._fd = fd
        self._idle = idle_seconds
        self._is_over = is_over
        self._is_ended = False
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        enlarge_pipe(fd)

    def end_here(self) -> None:
        """Ends the data after what has come. May be called by another thread, or in a signal's handler."""
        self._is_ended = True

    def read_into(self, room: memoryview) -> int:
        """Fills a buffer with what comes soon, and returns the number of bytes; 0 means the end.

        It waits for the first byte for as long as the pipe may be idle, and then a moment for more: a slow source is sent on.
        """
        if not self._wait_for_data():
            return 0
        filled, until = 0, time.monotonic() + _GATHER_SECONDS
        while filled < len(room):
            try:
                got = os.readv(self._fd, [room[filled:]])
            except OSError:  # such as of a terminal whose other end is closed
                self.end = "read-error"
                break
            if not got:
                break
            filled += got
            if not self._poll.poll(max(0.0, until - time.monotonic()) * 1000):
                break
        return filled

    def _wait_for_data(self) -> bool:
        """Waits until there is something to read, or the end; returns False where the pipe is given up, and says why in `end`."""
        silent_since = time.monotonic()
        over_since: float | None = None
        while self._is_ended or not self._poll.poll(_LOOK_SECONDS * 1000):
            if self._is_ended:  # what lies in the pipe has come: it is one block
                is_first, self.end = self.end != "interrupted", "interrupted"
                return is_first and bool(self._poll.poll(0))
            now = time.monotonic()
            if self._idle is not None and now - silent_since >= self._idle:
                self.end = "idle"
                return False
            if over_since is None and self._is_over():
                over_since = now
            if over_since is not None and now - over_since >= LEFT_OPEN_SECONDS:
                self.end = "left-open"
                return False
        return True


class KeptErrors:
    """Keeps what a command prints on standard error, up to a limit, in memory. `add` is called by one thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._dropped = 0
        self._lock = threading.Lock()

    def add(self, data: bytes) -> None:
        """Adds the next bytes; counts what is beyond the limit."""
        with self._lock:
            kept = data[: self._limit - len(self._kept)]
            self._kept += kept
            self._dropped += len(data) - len(kept)

    def taken(self) -> tuple[bytes, int]:
        """Returns what was kept until now, and how many bytes were not."""
        with self._lock:
            return bytes(self._kept), self._dropped
