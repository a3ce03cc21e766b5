"""How many bytes a file or a device will take at the least, told before it is read: nobody sends for hours what cannot fit.

Of a regular file the file system knows where it has holes, and a few samples tell whether the rest is zeros, too, which take no
room. Of a device they tell it of all. A folder is not measured: how large it is shows when it was walked, and then copies of a
file, which are kept once, are no reason to refuse it.
"""

from __future__ import annotations

import os
import stat
from typing import Final

from evidencesync.limits import MIB, MIN_ZERO_RUN
from evidencesync.source.descriptor import FILE_FLAGS, FOLDER_FLAGS, open_untouched
from evidencesync.source.root import SourceRoot

_LEAST: Final = 64 * MIB  # below that it is not worth a look
_SAMPLES: Final = 64
_MOST_EXTENTS: Final = 10_000


def minimum_bytes(source: SourceRoot) -> int:
    """Bytes of a device, or of a regular file without its holes; 0 where that says nothing of the room it takes, or nobody knows.

    Samples that are all zeros make it 0: then nobody knows. So does a file that cannot be read without leaving a trace.
    """
    if source.is_folder:
        return 0
    above, _, name = source.path.rpartition(b"/")
    try:
        folder = os.open(above or b"/", FOLDER_FLAGS)
        try:
            fd, untouched = open_untouched(name, FILE_FLAGS, folder)
        finally:
            os.close(folder)
        try:
            return _least(fd) if untouched or source.is_device else 0
        finally:
            os.close(fd)
    except OSError:
        return 0  # the reading reports the error


def _least(fd: int) -> int:
    found = os.fstat(fd)
    is_device = stat.S_ISBLK(found.st_mode)
    size = os.lseek(fd, 0, os.SEEK_END) if is_device else found.st_size
    if size < _LEAST or not hasattr(os, "SEEK_DATA"):
        return 0
    extents = [(0, size)] if is_device else _data(fd, size)
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
