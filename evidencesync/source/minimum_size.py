"""Estimates how many bytes a file or a device will need at least, before it is read: what cannot fit is refused early.

For a regular file, the file system tells where its holes are, and a few samples tell whether the rest is zeros, which need no
space either. For a device, the samples are taken from all of it. A folder is not measured: its size is known only after a walk,
and copies of a file, which are stored once, must be no reason to refuse it.
"""

from __future__ import annotations

import os
import stat
from typing import Final

from evidencesync.limits import MIB, MIN_ZERO_RUN
from evidencesync.source.descriptor import FILE_FLAGS, FOLDER_FLAGS, open_untouched
from evidencesync.source.root import SourceRoot

_LEAST: Final = 64 * MIB  # smaller files are not measured
_SAMPLES: Final = 64
_MOST_EXTENTS: Final = 10_000


def minimum_bytes(source: SourceRoot) -> int:
    """Bytes of a device, or of a regular file without its holes; 0 if the space that it will need is not known.

    It is not known if a sample is all zeros, or if the file cannot be read without changing its access time.
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
    """The extents of a file that hold data; an empty list for a file of too many extents."""
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
