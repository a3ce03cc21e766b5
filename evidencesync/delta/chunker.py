"""Cuts a stream of bytes into chunks and segments whose boundaries depend on the content alone.

Chunks are cut by FastCDC (Xia et al., 2020) through pyfastcdc. Runs of zeros of 64 KiB and more are separated first and become
rows of their own. A segment ends at a chunk whose rolling hash meets a condition, so that an insert moves one boundary and not
all. The set of parameters has a name, on which both ends agree: other parameters need another name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
from pyfastcdc import Chunk, FastCDC

from evidencesync.delta.rows import ZERO_DIGEST, Row
from evidencesync.evidence.digest import chunk_digest_of
from evidencesync.limits import (
    KIB,
    MAX_CHUNK,
    MAX_SEGMENT,
    MAX_SEGMENT_ROWS,
    MAX_SEGMENT_ZEROS,
    MAX_ZERO_EXTENT,
    MEAN_CHUNK,
    MIN_CHUNK,
    MIN_ZERO_RUN,
    ZERO_WEIGHT,
)

PARAMETERS: Final = "fastcdc2020-16-64-256-zero64-seg32/1"

_PROBE: Final = 32 * KIB  # a run of twice this length contains at least one aligned probe
_ZEROS: Final = bytes(_PROBE)
_MIX: Final = 0x9E3779B97F4A7C15
_SEGMENT_BITS: Final = 5  # a segment ends at one chunk in 32: about 2.5 MiB
_WORD: Final = (1 << 64) - 1


def is_compiled() -> bool:
    """Whether pyfastcdc's compiled part is in use; without it cutting is about two hundred times slower."""
    return FastCDC.__module__.startswith("pyfastcdc.cy")


class Segment(msgspec.Struct):
    """A run of chunks and zero runs, with the bytes of its chunks kept until the receiver has stored them.

    `lengths` has one length for each row. `parts` has the row's bytes, or None for a run of zeros. Chunk digests are computed
    at their first use, because an eager sender never needs them.
    """

    lengths: list[int] = msgspec.field(default_factory=list)
    parts: list[memoryview | None] = msgspec.field(default_factory=list)
    literal_bytes: int = 0
    _rows: list[Row] | None = None

    @property
    def held_bytes(self) -> int:
        """The bytes of a window that this segment takes: its chunks, and a little for its zeros."""
        return self.literal_bytes + self.zero_bytes // ZERO_WEIGHT

    @property
    def zero_bytes(self) -> int:
        """The bytes of its runs of zeros."""
        return self.total_bytes - self.literal_bytes

    @property
    def total_bytes(self) -> int:
        """The bytes of content in this segment, with zeros."""
        return sum(self.lengths)

    def rows(self) -> list[Row]:
        """The rows with their digests."""
        if self._rows is None:
            self._rows = [
                Row(length, ZERO_DIGEST if part is None else chunk_digest_of(part))
                for length, part in zip(self.lengths, self.parts, strict=True)
            ]
        return self._rows


class SegmentCutter:
    """Cuts one content. Usage: get a buffer, fill a part of it, commit that many bytes, take the complete segments.

    Zeros that were not read (a hole) need no buffer: `zeros` gives the same rows as if they had been in one.
    The buffer returned by `buffer(n)` has room for n bytes; the bytes carried over from the last buffer are before it.
    Segments keep views of the buffers, so a buffer stays in memory as long as one of its segments. Chunks are copied from a
    buffer that is mostly zeros: a window counts the bytes of chunks, and this must be close to the memory that it takes.
    """

    def __init__(self) -> None:
        self._cdc = FastCDC(MEAN_CHUNK, min_size=MIN_CHUNK, max_size=MAX_CHUNK)
        self._carry: memoryview = memoryview(b"")
        self._buffer = bytearray()
        self._zeros = 0  # length of the run of zeros at the end of the last buffer
        self._sparse = False  # the buffer is mostly zeros: a waiting chunk must not keep all of it in memory
        self._segment = Segment()
        self._done: list[Segment] = []

    def buffer(self, size: int) -> memoryview:
        """Returns room for the next `size` bytes of content."""
        carried = len(self._carry)
        self._buffer = bytearray(carried + size)
        self._buffer[:carried] = self._carry
        return memoryview(self._buffer)[carried:]

    def commit(self, filled: int) -> list[Segment]:
        """Adds the first `filled` bytes of the buffer to the content; returns the segments that are complete now."""
        end = len(self._carry) + filled
        self._cut(end, final=False)
        return self._take()

    def zeros(self, length: int) -> list[Segment]:
        """Adds `length` zeros to the content; returns the segments that are complete now. Takes constant time."""
        if not self._zeros:
            held = _trailing_zeros(self._carry, 0, len(self._carry))
            if held + length < MIN_ZERO_RUN:  # too short for a row of its own so far
                self.buffer(length)
                return self.commit(length)
            self._sparse = True
            self._cut_region(self._carry[: len(self._carry) - held], final=True)
            self._carry = memoryview(b"")
            self._zeros = held
        self._zeros += length
        self._flush_zeros(ended=False)
        return self._take()

    def finish(self) -> list[Segment]:
        """Ends the content; returns the remaining segments."""
        end = len(self._carry)
        self._buffer = bytearray(self._carry)
        self._cut(end, final=True)
        self._flush_zeros()
        self._end_segment()
        return self._take()

    def _take(self) -> list[Segment]:
        done, self._done = self._done, []
        return done

    def _cut(self, end: int, *, final: bool) -> None:
        """Cuts `self._buffer[:end]`, which begins at a row boundary, and carries over what may still continue."""
        view = memoryview(self._buffer)
        start = self._grow_zeros(end) if self._zeros else 0
        runs = list(_long_zero_runs(self._buffer, start, end))
        self._sparse = 2 * (start + sum(run_end - run_start for run_start, run_end in runs)) > end
        for run_start, run_end in runs:
            self._cut_region(view[start:run_start], final=True)
            self._zeros = run_end - run_start
            start = run_end
            if run_end < end:
                self._flush_zeros()
        held = 0 if final else _trailing_zeros(self._buffer, start, end)
        kept = self._cut_region(view[start : end - held], final=final)
        self._carry = view[end - held - kept : end]

    def _grow_zeros(self, end: int) -> int:
        """Adds the zeros at the start of the buffer to the pending run; returns where they end."""
        view = self._buffer
        start = 0
        while start + _PROBE <= end and view.startswith(_ZEROS, start):
            start += _PROBE
        start += _leading_zeros(view, start, min(start + _PROBE, end))
        self._zeros += start
        self._flush_zeros(ended=start < end)
        return start

    def _cut_region(self, region: memoryview, *, final: bool) -> int:
        """Cuts a region without long runs of zeros; returns the length of the last chunk if it may still grow."""
        previous: Chunk | None = None
        for chunk in self._cdc.cut_buf(region):
            if previous is not None:
                self._add_chunk(previous)
            previous = chunk
        if previous is None:
            return 0
        if final:
            self._add_chunk(previous)
            return 0
        return int(previous.length)

    def _add_chunk(self, chunk: Chunk) -> None:
        segment = self._segment
        segment.lengths.append(chunk.length)
        segment.parts.append(memoryview(bytes(chunk.data)) if self._sparse else chunk.data)
        segment.literal_bytes += chunk.length
        ends = (chunk.gear_hash * _MIX & _WORD) >> (64 - _SEGMENT_BITS) == 0
        if ends or segment.literal_bytes > MAX_SEGMENT - MAX_CHUNK or len(segment.lengths) >= MAX_SEGMENT_ROWS - 1:
            self._end_segment()

    def _flush_zeros(self, *, ended: bool = True) -> None:
        """Adds the pending run as rows. Of a run that may continue, only the rows that are fixed already."""
        least = 0 if ended else MAX_ZERO_EXTENT
        while self._zeros > least:
            length = min(self._zeros, MAX_ZERO_EXTENT)
            self._zeros -= length
            if self._segment.zero_bytes + length > MAX_SEGMENT_ZEROS:
                self._end_segment()
            self._segment.lengths.append(length)
            self._segment.parts.append(None)
            if length == MAX_ZERO_EXTENT or len(self._segment.lengths) >= MAX_SEGMENT_ROWS - 1:
                self._end_segment()

    def _end_segment(self) -> None:
        if self._segment.lengths:
            self._done.append(self._segment)
            self._segment = Segment()


def _leading_zeros(buffer: bytearray | memoryview, start: int, end: int) -> int:
    part = bytes(memoryview(buffer)[start:end])
    return len(part) - len(part.lstrip(b"\0"))


def _trailing_zeros(buffer: bytearray | memoryview, start: int, end: int) -> int:
    """Counts the zeros before `end`, looking back no further than a long run needs."""
    part = bytes(memoryview(buffer)[max(start, end - MIN_ZERO_RUN) : end])
    return len(part) - len(part.rstrip(b"\0"))


def _long_zero_runs(buffer: bytearray, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yields every maximal run of at least MIN_ZERO_RUN zeros in `buffer[start:end]`."""
    floor = position = start
    while position + _PROBE <= end:
        if not buffer.startswith(_ZEROS, position):
            position += _PROBE
            continue
        left = position - _trailing_zeros(buffer, max(floor, position - _PROBE), position)
        right = position + _PROBE
        while right + _PROBE <= end and buffer.startswith(_ZEROS, right):
            right += _PROBE
        right += _leading_zeros(buffer, right, min(right + _PROBE, end))
        if right - left >= MIN_ZERO_RUN:
            yield left, right
            floor = right
        position = right
