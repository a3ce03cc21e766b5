"""Keeps in a file what a lost or slow link cannot take, so that a source that cannot wait goes on.

Each byte of the capture lies at its own offset in the file; what the vault has stored leaves a hole. So where the rest could
never be sent, the file is the end of the capture, in its place.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from evidencesync.delta.chunker import Segment
from evidencesync.delta.rows import segment_digest
from evidencesync.errors import StorageError
from evidencesync.evidence.digest import SegmentDigest
from evidencesync.files.disk import leave_hole, storing


class SpooledSegment(msgspec.Struct, frozen=True):
    """A segment whose bytes are in the file: at this offset, with these lengths, of which some are of zeros."""

    offset: int
    lengths: list[int]
    are_zeros: list[bool]
    digest: SegmentDigest
    total_bytes: int
    zero_bytes: int


class Spool:
    """An open file for one capture. `notify` is told once where the file takes no more: then the source has to wait."""

    def __init__(self, fd: int, notify: Callable[[str], None]) -> None:
        self._fd = fd
        self._notify = notify
        self._is_full = False

    def put(self, segment: Segment, offset: int) -> SpooledSegment | None:
        """Writes a segment; None where the file takes no more."""
        if self._is_full:
            return None
        at = offset
        try:
            for length, part in zip(segment.lengths, segment.parts, strict=True):
                left = memoryview(b"") if part is None else part
                while left:
                    left = left[os.pwrite(self._fd, left, at + length - len(left)) :]
                at += length
        except OSError as error:
            self._is_full = True
            self._notify(f"the spool takes no more, and the source has to wait for the link: {error.strerror}")
            return None
        zeros = [part is None for part in segment.parts]
        digest = segment_digest(segment.rows())
        return SpooledSegment(offset, segment.lengths, zeros, digest, segment.total_bytes, segment.zero_bytes)

    def load(self, spooled: SpooledSegment) -> Segment:
        """Reads a segment back. Raises StorageError."""
        segment, at = Segment(), spooled.offset
        for length, is_zeros in zip(spooled.lengths, spooled.are_zeros, strict=True):
            with storing("read the spool"):
                part = None if is_zeros else memoryview(os.pread(self._fd, length, at))
            if part is not None and len(part) < length:
                raise StorageError("the spool has become shorter")
            segment.lengths.append(length)
            segment.parts.append(part)
            segment.literal_bytes += 0 if part is None else length
            at += length
        return segment

    def release(self, spooled: SpooledSegment) -> None:
        """Gives the space of a segment back that the vault has stored."""
        leave_hole(self._fd, spooled.offset, spooled.total_bytes)

    def end(self, size: int) -> None:
        """Gives the file its size, zeros at the end included, durably. Raises StorageError."""
        with storing("write the spool"):
            os.ftruncate(self._fd, size)
            os.fsync(self._fd)
