"""Finds, in a folder of this machine, content that then need not come from a far vault: an older restore, or a mounted copy.

Nothing of it is trusted: what is given has the digest that was asked for. What cannot be read there is simply not used.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Final

from evidencesync.delta.chunker import SegmentCutter
from evidencesync.delta.rows import Row
from evidencesync.errors import EvidenceSyncError, UsageError
from evidencesync.evidence.digest import chunk_digest_of
from evidencesync.evidence.display import safe_text
from evidencesync.files.disk import close_quietly
from evidencesync.files.holes import HoleFinder
from evidencesync.limits import MAX_OLDER_BYTES, MIB, SMALL_FILE
from evidencesync.vault.tree import TreeReader

_STEP: Final = 1 * MIB
_AHEAD: Final = 64 * MIB
"""So far beyond the place where a chunk should be it is looked for: as much may have been removed before it."""
_MOST_CHUNKS: Final = 1 << 17
"""Chunks of one file that are remembered, about 35 MiB of memory: so as much as 8 GiB may have been inserted before a chunk."""


class LocalBasis:
    """The folder. A file is looked for at the path that it has in the acquisition; no link is followed."""

    def __init__(self, folder: bytes) -> None:
        """Raises UsageError for a folder that cannot be opened."""
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise UsageError(
                f"the folder of --basis cannot be opened: {safe_text(folder, 200)}: {reason}",
                hint="Name a folder with an older restore of this item, or leave --basis out.",
            ) from error
        self._reader = TreeReader(fd, untouched=True)

    def close(self) -> None:
        """Closes everything."""
        self._reader.close()

    def read_small(self, path: bytes) -> bytes:
        """Returns a small file, or the beginning of a larger one; nothing where there is none."""
        try:
            fd, _ = self._reader.open_file(path)
            try:
                return os.read(fd, SMALL_FILE)
            finally:
                close_quietly(fd)
        except (EvidenceSyncError, OSError):
            return b""

    def open_file(self, path: bytes) -> BasisFile | None:
        """Opens a large file; the caller closes it. None where there is none."""
        try:
            fd, status = self._reader.open_file(path)
        except (EvidenceSyncError, OSError):
            return None
        return BasisFile(fd, status.st_size)


class BasisFile:
    """An older state of a file. Ask for the chunks of the newer one in their order.

    A chunk is looked for at its own offset first: most of a file stays where it is. From the first one that is not there on, the
    older file is cut by content as the newer one was, as far as is needed: so what was only moved by an insertion or a removal is
    found, too. Each byte is cut once at the most, whatever is asked for.
    """

    def __init__(self, fd: int, size: int) -> None:
        """Takes over the descriptor."""
        self._fd = fd
        self._size = size
        self.place = 0
        """Where here the next bytes of the newer file may lie: after what was found last, and as far on as was asked since."""
        self._aligned_end = 0  # up to here, where a chunk ended, both files agree, or agreed last
        self._places: OrderedDict[bytes, int] = OrderedDict()
        self._cutter = SegmentCutter()
        self._finder = HoleFinder(fd)
        self._read_to = 0
        self._cut_to = 0

    def close(self) -> None:
        """Closes the file."""
        close_quietly(self._fd)

    def find(self, row: Row, offset: int) -> bytes | None:
        """Returns the bytes of a chunk that lies at this offset in the newer file; None where they are not, and for zeros."""
        self.place += row.length
        if row.is_zeros:
            return None
        data = self._read(row, offset)
        if data is not None:
            self._aligned_end = self.place = offset + row.length
            return data
        try:
            self._look_for(row, offset)
        except OSError:  # what lies beyond is looked for at its own offset alone
            self._read_to = self._size
        place = self._places.get(row.digest)
        data = None if place is None else self._read(row, place)
        if place is not None and data is not None:
            self.place = place + row.length
        return data

    def read_between(self, start: int, end: int) -> bytes:
        """Returns the bytes from one place to another, as far as there are any."""
        try:
            return os.pread(self._fd, min(max(end - start, 0), MAX_OLDER_BYTES), max(start, 0))
        except OSError:
            return b""

    def _read(self, row: Row, offset: int) -> bytes | None:
        if offset + row.length > self._size:
            return None
        try:
            data = os.pread(self._fd, row.length, offset)
        except OSError:
            return None
        return data if len(data) == row.length and chunk_digest_of(data) == row.digest else None

    def _look_for(self, row: Row, offset: int) -> None:
        if self._read_to < self._aligned_end:  # what was passed meanwhile was where it should be
            self._cutter, self._finder = SegmentCutter(), HoleFinder(self._fd)
            self._read_to = self._cut_to = self._aligned_end
        while row.digest not in self._places and self._read_to < min(self._size, offset + _AHEAD):
            self._cut_on()

    def _cut_on(self) -> None:
        _, length, is_hole = self._finder.next_extent(self._read_to, self._size)
        if is_hole:
            segments = self._cutter.zeros(length)
        else:
            length = os.preadv(self._fd, [self._cutter.buffer(min(length, _STEP))], self._read_to)
            segments = self._cutter.commit(length)
        self._read_to += length
        if not length or self._read_to >= self._size:
            self._read_to = self._size
            segments += self._cutter.finish()
        for segment in segments:
            for found in segment.rows():
                if not found.is_zeros:
                    self._places[found.digest] = self._cut_to
                    if len(self._places) > _MOST_CHUNKS:
                        self._places.popitem(last=False)
                self._cut_to += found.length
