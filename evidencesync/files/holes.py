"""Where a file is a hole: ranges that its file system keeps no bytes for, and gives as zeros.

A hole is what SEEK_DATA passes over: unallocated, or allocated and never written. The answer comes from the same map that a
read would follow, and where that map names no block a read asks no disk: it fills the buffer with zeros. So zeros out of a
hole are as good as zeros that were read, and cost no time. What a file system says wrongly about its own map, it would
read wrongly as well, with one known exception (see docs/threat-model.md).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from evidencesync.limits import MIB, MIN_ZERO_RUN

LEAST_HOLE: Final = MIN_ZERO_RUN  # a shorter one is read: it is no run of its own, and to step over it would cost more
HOLE_STEP: Final = 64 * MIB  # of a hole at once: some 50 ms of hashing, after which the file is asked again
_LOOK_AHEAD: Final = 4 * MIB  # of data with short holes in it, before an answer is given
_MAX_LOOKS: Final = 1024  # at short holes in a row: twice what blocks of 4 KiB can have in what is looked ahead
_NEVER: Final = 2**63 - 1
_HAS_HOLES: Final = hasattr(os, "SEEK_DATA")


class Extent(NamedTuple):
    """A range of a file: data, which is to be read, or a hole. A length of 0: the file ends before it."""

    offset: int
    length: int
    is_hole: bool


class HoleFinder:
    """Asks a file, as one goes along, what is next. The descriptor's own offset moves: read with pread only.

    It remembers up to where data goes, so that a file without holes is asked once. What it says of a file that is being
    written is true when it says it: a range may be filled or punched at any time later, as with bytes that were read.
    """

    __slots__ = ("_data_end", "_fd")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._data_end = 0 if _HAS_HOLES else _NEVER

    def next_extent(self, offset: int, end: int) -> Extent:
        """What begins at `offset`, and goes no further than `end`; of a hole at most HOLE_STEP.

        A file system that cannot tell has data only. Raises OSError where not even the file's size can be had.
        """
        if offset >= self._data_end:
            data = self._data_from(offset)
            if data - offset >= LEAST_HOLE or data >= end:
                there = os.fstat(self._fd).st_size  # behind the end of a file there is neither data nor a hole
                return Extent(offset, max(min(data, end, there, offset + HOLE_STEP) - offset, 0), is_hole=True)
            self._data_end = self._end_of_data(data, min(end, offset + _LOOK_AHEAD))
        return Extent(offset, min(self._data_end, end) - offset, is_hole=False)

    def _end_of_data(self, position: int, enough: int) -> int:
        """Where the next long hole begins; somewhere behind `enough` where that is far away. Short holes are passed over."""
        for _ in range(_MAX_LOOKS):
            hole = self._seek(position, os.SEEK_HOLE)
            if hole <= position:  # punched a moment ago, or a file system that contradicts itself: a read will say
                return enough
            position = self._data_from(hole)
            if position - hole >= LEAST_HOLE:
                return hole
            if position >= enough:
                return position
        return enough

    def _data_from(self, offset: int) -> int:
        """Where the next data begins, which may be at once; `_NEVER` where there is none."""
        return self._seek(offset, os.SEEK_DATA)

    def _seek(self, offset: int, whence: int) -> int:
        try:
            return max(os.lseek(self._fd, offset, whence), offset)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end, or the end
                return _NEVER if whence == os.SEEK_DATA else offset
            self._data_end = _NEVER  # it cannot tell: a read will say what there is
            return offset if whence == os.SEEK_DATA else _NEVER


def has_empty_run(fd: int) -> bool:
    """Whether a document has a run of zeros that its file system keeps no bytes for: none that anybody wrote has one.

    Text has no zeros, and rows of recipes never more than some two dozen in a row. So a file that was made large at no cost is
    known before it is read. False where the file system cannot tell. The descriptor's offset is at the start afterwards.
    """
    try:
        for position in _holes(fd):
            if os.pread(fd, _RUN, position) == bytes(_RUN):
                return True
    except OSError:
        return False  # it cannot tell, or does not read: whoever reads the document is told
    finally:
        os.lseek(fd, 0, os.SEEK_SET)
    return False


_RUN: Final = 512
_MOST_HOLES: Final = 64  # looked at: a file system that finds holes where there are bytes is not asked for ever


def _holes(fd: int) -> Iterator[int]:
    """Where the first holes begin, but for the one that is the end."""
    position, size = 0, os.fstat(fd).st_size
    for _ in range(_MOST_HOLES if _HAS_HOLES else 0):
        if position >= size or (hole := os.lseek(fd, position, os.SEEK_HOLE)) >= size:
            return
        yield hole
        position = hole + _RUN


def extents(fd: int, start: int, end: int, most: int) -> Iterator[Extent]:
    """The range from `start` to `end` of a file that nobody writes to, in order.

    Data comes in parts of at most `most` bytes, holes in parts of at most HOLE_STEP. Ends early where the file does.
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
