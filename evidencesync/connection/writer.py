"""Gathers frames into large writes, limits the rate, and measures the link."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from evidencesync.connection.link import Link, SteadyLink
from evidencesync.limits import KIB, MIB

_GATHER_BYTES = 1 * MIB
_LARGE = 256 * KIB
_LEAST_STEP = 1 * KIB
_MEASURE_BYTES = 2 * MIB
# What lies between here and the line takes so much at once, however slow that is: ssh's pipe, its window and its socket's buffer,
# and what may be under way. Only after that is it the line that a writer waits for.
_BUFFERED_BYTES = 8 * MIB


class BufferedWriter:
    """Gathers frames and writes them to a link. Used by one thread."""

    def __init__(self, link: Link, limit_rate: int | None) -> None:
        self._link = link
        self._limit_rate = limit_rate
        self._frames: list[bytes] = []
        self._waiting_bytes = 0
        self._started = time.monotonic()
        self._sent = 0
        self._measured = 0
        self._measured_seconds = 0.0
        self._buffered = 0
        self.is_torn = False
        """Whether a part of a frame may be on its way without the rest."""
        self._block = b""
        self._taken_before = 0
        self.link_rate: float | None = limit_rate if limit_rate is not None or link.peer is not None else math.inf
        """Bytes a second that the link took lately, while it was the link that was waited for; None while nobody knows."""

    def take_link(self, link: Link) -> None:
        """From now on writes to another link. What had gathered for the last one is dropped."""
        self._link = link
        self._frames, self._waiting_bytes = [], 0
        self._buffered = 0
        self.is_torn = False

    def put(self, frames: list[bytes]) -> None:
        """Adds frames; writes when enough has gathered."""
        for frame in frames:
            self._frames.append(frame)
            self._waiting_bytes += len(frame)
            if self._waiting_bytes >= _GATHER_BYTES:
                self.flush()

    def flush(self) -> None:
        """Writes what has gathered. Waits while the link's buffer is full or the rate is above its limit."""
        if not self._frames:
            return
        frames, size = self._frames, self._waiting_bytes
        self._frames, self._waiting_bytes = [], 0
        before = time.monotonic()
        for data in _large(frames):
            self._write(data)
        self._measure(size, time.monotonic() - before)

    def _write(self, data: bytes) -> None:
        """At most what a second allows at once, however low the limit is: the other end must not take a pause for silence."""
        if self._limit_rate is None:
            self._link.write(data)
            return
        step = max(self._limit_rate, _LEAST_STEP)
        self._block, self._taken_before = data, self._taken
        self.is_torn = len(data) > step
        for at in range(0, len(data), step):
            piece = data[at : at + step]
            self._link.write(piece)
            self.is_torn = self.is_torn and at + step < len(data)
            self._sent += len(piece)
            ahead = self._sent / self._limit_rate - (time.monotonic() - self._started)
            if ahead > 0:
                time.sleep(ahead)

    @property
    def _taken(self) -> int:
        return self._link.taken if isinstance(self._link, SteadyLink) else 0

    def unsent(self) -> bytes | None:
        """What is missing of the block that was being written, for whoever breaks off and has a last word; None: nobody knows."""
        if not self.is_torn:
            return b""
        return self._block[self._taken - self._taken_before :] if isinstance(self._link, SteadyLink) else None

    def _measure(self, size: int, seconds: float) -> None:
        """A link that takes bytes as fast as they come has no use for a compressor, and shows a very high rate."""
        if self._limit_rate is None and self._buffered < _BUFFERED_BYTES:
            self._buffered += size
            return
        self._measured += size
        self._measured_seconds += seconds
        if self._measured >= _MEASURE_BYTES:
            self.link_rate = self._measured / max(self._measured_seconds, 1e-6)
            self._measured, self._measured_seconds = 0, 0.0


def _large(frames: list[bytes]) -> Iterator[bytes]:
    """Small frames joined, large ones as they are: joining those would only copy them."""
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
    """Waits where more was taken than `limit_rate` bytes a second since the first. None is no limit. For one thread."""

    def __init__(self, limit_rate: int | None) -> None:
        self._limit_rate = limit_rate
        self._started = time.monotonic()
        self._taken = 0

    def wait(self, size: int) -> None:
        """So many bytes more were taken."""
        if self._limit_rate is None:
            return
        self._taken += size
        ahead = self._taken / self._limit_rate - (time.monotonic() - self._started)
        if ahead > 0:
            time.sleep(ahead)
