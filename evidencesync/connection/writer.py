"""Gathers frames into large writes, limits the rate, and measures the rate of the link."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator

from evidencesync.connection.link import Link, ThreadedLink
from evidencesync.limits import KIB, MIB, WINDOW

_GATHER_BYTES = 1 * MIB
_LARGE = 256 * KIB
_LEAST_STEP = 1 * KIB
_MEASURE_BYTES = 2 * MIB
_CREDIT_SECONDS = 0.25  # of a rate's limit that was not used
_MOST_WAITING = 2 * WINDOW  # an honest peer asks for what is in the window, and perhaps for some of it again
# The buffers before the network take so much at once, however slow it is: ssh's pipe, its window, its socket's buffer, and the
# data in flight. Only after that does a writer wait for the network itself.
_BUFFERED_BYTES = 8 * MIB


class BufferedWriter:
    """Gathers frames and writes them to a link. Used by one thread."""

    def __init__(self, link: Link, limit_rate: int | None) -> None:
        self._link = link
        self._limit_rate = limit_rate
        self._limit = RateLimit(limit_rate)
        self._frames: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._measured = 0
        self._measured_seconds = 0.0
        self._buffered = 0
        self.has_partial_frame = False
        """Whether a part of a frame may have been written without the rest."""
        self._block = b""
        self._taken_before = 0
        self.link_rate: float | None = limit_rate if limit_rate is not None or link.peer is not None else math.inf
        """Bytes a second that the link took lately, measured while the writer waited for it; None while it is not known."""

    def take_link(self, link: Link) -> None:
        """Switches to another link. Frames that were gathered for the last one are dropped."""
        self._link = link
        self._frames.clear()
        self._waiting_bytes = 0
        self._buffered = 0
        self.has_partial_frame = False

    @property
    def has_frames(self) -> bool:
        """Whether anything waits to be written."""
        return bool(self._frames)

    @property
    def is_full(self) -> bool:
        """Whether there is enough for a large write."""
        return self._waiting_bytes >= _GATHER_BYTES

    @property
    def is_overfull(self) -> bool:
        """Whether more waits than is ever asked for in honesty: before any other request is answered, some must be written."""
        return self._waiting_bytes >= _MOST_WAITING

    def put(self, frames: list[bytes]) -> None:
        """Adds frames. They wait for `write_some` or `flush`."""
        self._frames.extend(frames)
        self._waiting_bytes += sum(map(len, frames))

    def write_some(self) -> None:
        """Writes about a MiB of the gathered frames. Waits while the link's buffer is full or the rate is above its limit.

        On a slow link that takes seconds, and all that waits to be written would take minutes. Between two calls the caller looks
        at what has arrived: behind the requests for more data it finds that what it has sent is stored.
        """
        frames, size = [], 0
        while self._frames and size < _GATHER_BYTES:
            frames.append(self._frames.popleft())
            size += len(frames[-1])
        self._waiting_bytes -= size
        before = time.monotonic()
        for data in _large(frames):
            self._write(data)
        self._measure(size, time.monotonic() - before)

    def flush(self) -> None:
        """Writes all gathered frames."""
        while self._frames:
            self.write_some()

    def _write(self, data: bytes) -> None:
        """Writes in steps of at most one second's share of the rate: the other end must not take a pause for silence."""
        if self._limit_rate is None:
            self._link.write(data)
            return
        step = max(self._limit_rate, _LEAST_STEP)
        self._block, self._taken_before = data, self._taken
        self.has_partial_frame = len(data) > step
        for at in range(0, len(data), step):
            piece = data[at : at + step]
            self._link.write(piece)
            self.has_partial_frame = self.has_partial_frame and at + step < len(data)
            self._limit.wait(len(piece))

    @property
    def _taken(self) -> int:
        return self._link.taken if isinstance(self._link, ThreadedLink) else 0

    def unsent(self) -> bytes | None:
        """Returns the rest of a block whose writing was interrupted, to be sent before a last message; None: not known."""
        if not self.has_partial_frame:
            return b""
        return self._block[self._taken - self._taken_before :] if isinstance(self._link, ThreadedLink) else None

    def _measure(self, size: int, seconds: float) -> None:
        """Measures the rate. A link that takes bytes as fast as they come shows a very high rate, and needs no compression."""
        if self._limit_rate is None and self._buffered < _BUFFERED_BYTES:
            self._buffered += size
            return
        self._measured += size
        self._measured_seconds += seconds
        if self._measured >= _MEASURE_BYTES:
            self.link_rate = self._measured / max(self._measured_seconds, 1e-6)
            self._measured, self._measured_seconds = 0, 0.0


def _large(frames: list[bytes]) -> Iterator[bytes]:
    """Yields small frames joined, and large ones as they are: joining those would only copy them."""
    small: list[bytes] = []
    for frame in frames:
        if len(frame) < _LARGE:
            small.append(frame)
            continue
        if small:
            yield b"".join(small)
            small = []
        yield frame
    if small:
        yield b"".join(small)


class RateLimit:
    """Keeps a rate of at most `limit_rate` bytes a second, by waiting. None is no limit. For one thread.

    A pause gives credit for a moment alone: who reads holes for a minute does not fill the line for the next one.
    """

    def __init__(self, limit_rate: int | None) -> None:
        self._limit_rate = limit_rate
        self._used_until = time.monotonic()

    def wait(self, size: int) -> None:
        """Counts `size` bytes, and waits while the rate is above the limit."""
        if self._limit_rate is None:
            return
        now = time.monotonic()
        self._used_until = max(self._used_until, now - _CREDIT_SECONDS) + size / self._limit_rate
        if self._used_until > now:
            time.sleep(self._used_until - now)
