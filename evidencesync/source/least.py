"""How many bytes one file will take at the least, told before it is read: so that nobody sends for hours what cannot fit.

Nothing is known of a folder before it was walked, and of a device before it was read: much of a disk may be zeros, which take no
room. Of a regular file the file system knows where it has holes, and a few samples tell whether the rest is zeros, too.
"""

from __future__ import annotations

import os
from typing import Final

from evidencesync.limits import MIB, MIN_ZERO_RUN
from evidencesync.source.descriptor import FILE_FLAGS, FOLDER_FLAGS, open_untouched
from evidencesync.source.root import SourceRoot

_LEAST: Final = 64 * MIB  # below that it is not worth a look
_SAMPLES: Final = 64
_MOST_EXTENTS: Final = 10_000


def least_content(source: SourceRoot) -> int:
    """Bytes of a regular file that are no holes; 0 where that says nothing of the room it takes, or it cannot be told.

    Samples that are all zeros make it 0: then nobody knows. So does a file that cannot be read without leaving a trace.
    """
    if source.is_folder or source.is_device:
        return 0
    above, _, name = source.path.rpartition(b"/")
    try:
        folder = os.open(above or b"/", FOLDER_FLAGS)
        try:
            fd, untouched = open_untouched(name, FILE_FLAGS, folder)
        finally:
            os.close(folder)
        try:
            return _least(fd) if untouched else 0
        finally:
            os.close(fd)
    except OSError:
        return 0  # whoever reads it says what is wrong


def _least(fd: int) -> int:
    size = os.fstat(fd).st_size
    if size < _LEAST or not hasattr(os, "SEEK_DATA"):
        return 0
    extents = _data(fd, size)
    total = sum(length for _, length in extents)
    zeros = bytes(MIN_ZERO_RUN)
    for number in range(_SAMPLES):
        left = total * number // _SAMPLES
        for offset, length in extents:
            if left < length:
                block = os.pread(fd, MIN_ZERO_RUN, offset + left)
                if block == zeros[: len(block)]:
                    return 0
                break
            left -= length
    return total


def _data(fd: int, size: int) -> list[tuple[int, int]]:
    """Where the file has data; nothing for one of too many pieces."""
    found: list[tuple[int, int]] = []
    end = 0
    while end < size and len(found) < _MOST_EXTENTS:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError:  # only a hole up to the end
            return found
        end = os.lseek(fd, start, os.SEEK_HOLE)
        if end <= start:
            return []
        found.append((start, min(end, size) - start))
    return found if end >= size else []
