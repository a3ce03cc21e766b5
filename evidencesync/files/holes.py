"""Finds the holes of a file: ranges that its file system stores no bytes for and reads as zeros.

A hole is what SEEK_DATA skips: unallocated, or allocated and never written. The answer comes from the same map that a read
uses, and where that map has no block, a read does not access the disk: it fills the buffer with zeros. So the zeros of a hole
are as good as zeros that were read, and cost no time. An error in the map would give wrong reads as well, with one known
exception (see docs/threat-model.md).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from evidencesync.limits import MIB, MIN_ZERO_RUN

LEAST_HOLE: Final = MIN_ZERO_RUN  # a shorter one is read: it is no row of its own, and skipping it would cost more
HOLE_STEP: Final = 64 * MIB  # of a hole at once: about 50 ms of hashing, then the file is asked again
_LOOK_AHEAD: Final = 4 * MIB  # bytes of data with short holes that are examined before an answer
_MAX_LOOKS: Final = 1024  # short holes in a row: twice what blocks of 4 KiB can have in _LOOK_AHEAD
_MOST_EXTENTS: Final = 10_000
_NEVER: Final = 2**63 - 1
_HAS_HOLES: Final = hasattr(os, "SEEK_DATA")


class Extent(NamedTuple):
    """A range of a file: data to read, or a hole. A length of 0: the file ends before it."""

    offset: int
    length: int
    is_hole: bool


class HoleFinder:
    """Finds the next extent of a file, as the caller reads on. It moves the descriptor's offset: read with pread only.

    It remembers the end of the current data, so that a file without holes is asked once. For a file that is being written, an
    answer is true at that time: a range may be filled or punched later, as with bytes that were read.
    """

    __slots__ = ("_data_end", "_fd")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._data_end = 0 if _HAS_HOLES else _NEVER

    def next_extent(self, offset: int, end: int) -> Extent:
        """Returns the extent that begins at `offset`, limited to `end`; of a hole at most HOLE_STEP.

        Where the file system does not support SEEK_DATA, everything is data. Raises OSError where not even fstat works.
        """
        if offset >= self._data_end:
            data = self._data_from(offset)
            if data - offset >= LEAST_HOLE or data >= end:
                there = os.fstat(self._fd).st_size  # after the end of a file there is neither data nor a hole
                return Extent(offset, max(min(data, end, there, offset + HOLE_STEP) - offset, 0), is_hole=True)
            self._data_end = self._end_of_data(data, min(end, offset + _LOOK_AHEAD))
        return Extent(offset, min(self._data_end, end) - offset, is_hole=False)

    def _end_of_data(self, position: int, enough: int) -> int:
        """Returns where the next long hole begins, or a place after `enough` where it is far away. Short holes are ignored."""
        for _ in range(_MAX_LOOKS):
            hole = self._seek(position, os.SEEK_HOLE)
            if hole <= position:  # punched just now, or a file system that contradicts itself: a read will tell
                return enough
            position = self._data_from(hole)
            if position - hole >= LEAST_HOLE:
                return hole
            if position >= enough:
                return position
        return enough

    def _data_from(self, offset: int) -> int:
        """Returns where the next data begins, perhaps at `offset`; `_NEVER` where there is none."""
        return self._seek(offset, os.SEEK_DATA)

    def _seek(self, offset: int, whence: int) -> int:
        try:
            return max(os.lseek(self._fd, offset, whence), offset)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end, or the end itself
                return _NEVER if whence == os.SEEK_DATA else offset
            self._data_end = _NEVER  # not supported: everything is read
            return offset if whence == os.SEEK_DATA else _NEVER


def data_bytes(fd: int, size: int) -> int:
    """Returns how many of the first `size` bytes lie in no long hole. What lies behind thousands of extents counts as data.

    Raises OSError.
    """
    finder, position, data = HoleFinder(fd), 0, 0
    for _ in range(_MOST_EXTENTS):
        extent = finder.next_extent(position, size)
        if not extent.length:
            return data
        position += extent.length
        data += 0 if extent.is_hole else extent.length
        if position >= size:
            return data
    return data + size - position


def has_empty_run(fd: int) -> bool:
    """Whether a document has a hole; documents that were written by this program have none.

    Text has no zeros, and rows of recipes have about two dozen in a row at most. So a sparse file, which costs nothing to make
    very large, is detected before it is read. False where holes cannot be found. The descriptor's offset is 0 afterwards.
    """
    try:
        for position in _holes(fd):
            if os.pread(fd, _RUN, position) == bytes(_RUN):
                return True
    except OSError:
        return False  # not supported, or a read error: the reader of the document meets it
    finally:
        os.lseek(fd, 0, os.SEEK_SET)
    return False


_RUN: Final = 512
_MOST_HOLES: Final = 64  # bound: a faulty file system may report holes without end


def _holes(fd: int) -> Iterator[int]:
    """Yields where the first holes begin, except the one at the end of the file."""
    position, size = 0, os.fstat(fd).st_size
    for _ in range(_MOST_HOLES if _HAS_HOLES else 0):
        if position >= size or (hole := os.lseek(fd, position, os.SEEK_HOLE)) >= size:
            return
        yield hole
        position = hole + _RUN


def extents(fd: int, start: int, end: int, most: int) -> Iterator[Extent]:
    """Yields the extents from `start` to `end` of a file that is not being written, in order.

    Data comes in parts of at most `most` bytes, holes in parts of at most HOLE_STEP. Ends early where the file ends.
    Raises OSError.
    """
    finder = HoleFinder(fd)
    while start < end:
        extent = finder.next_extent(start, end)
        if not extent.length:
            return
        if not extent.is_hole and extent.length > most:
            extent = extent._replace(length=most)
        yield extent
        start += extent.length
