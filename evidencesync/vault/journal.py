"""Writes and reads the journal of a staging area: which chunks its large contents hold, so that a later session can continue.

It is written as segments are stored, and synced from time to time. It is only a hint: its reader hashes the bytes that it names
before use, so that an incomplete end, or entries whose data a power cut took, cost only what they describe.

The file is the magic `ESJRNL1` and a newline, then records. Numbers are little-endian.

- `S`, content (u32), row count (u16), rows of 24 bytes as in `chunks.bin`: the next segment of that content.
- `P`, content (u32), length (u32), path: the content is complete, and moves from `contents/` to this evidence path.
- `T`, content (u32), session (16 bytes), length (u32), path: a file that the earlier session had staged, at this path below its
  folder, has become this content. That session's journal is still true for it, except where it was overwritten.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, Final

import msgspec

from evidencesync.delta.rows import Row, pack_segment
from evidencesync.files.disk import storage_error, storing, write_all
from evidencesync.limits import MAX_PATH, MAX_SEGMENT_ROWS

JOURNAL: Final = "journal"
_MAGIC: Final = b"ESJRNL1\n"
_SEGMENT: Final = struct.Struct("<cIH")
_PLACED: Final = struct.Struct("<cII")
_TAKEN: Final = struct.Struct("<cI16sI")
_LENGTHS: Final = struct.Struct("<Q16x")
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Journal:
    """Appends to the journal of a staging area. Each record is passed to the operating system before the method returns.

    A killed process loses none of it; a power cut loses what was written since the last sync of the staging area.
    """

    def __init__(self, session_fd: int) -> None:
        with storing("write the journal"):
            self._fd = os.open(JOURNAL, _FLAGS, 0o600, dir_fd=session_fd)
            write_all(self._fd, _MAGIC)

    def add_segment(self, content: int, rows: list[Row]) -> None:
        """Records that the next segment of a content is stored."""
        self._write(_SEGMENT.pack(b"S", content, len(rows)) + pack_segment(rows))

    def add_placed(self, content: int, path: bytes) -> None:
        """Records that a complete content is about to be moved to its place in `data/`."""
        self._write(_PLACED.pack(b"P", content, len(path)) + path)

    def add_taken(self, content: int, session: str, path: bytes) -> None:
        """Records that a file of an earlier session is about to become a content of this one."""
        self._write(_TAKEN.pack(b"T", content, bytes.fromhex(session), len(path)) + path)

    def sync(self) -> None:
        """Makes the journal durable."""
        with storing("write the journal"):
            os.fdatasync(self._fd)  # a size that grew is data here; times are of no use

    def close(self) -> None:
        """Closes the file as it is. Safe to call again."""
        if self._fd >= 0:
            descriptor, self._fd = self._fd, -1
            with storing("write the journal"):
                os.close(descriptor)

    def _write(self, record: bytes) -> None:
        try:
            write_all(self._fd, record)
        except OSError as error:
            raise storage_error(error, "write the journal") from error


class JournaledSegment(msgspec.Struct, frozen=True):
    """A segment of a staged content, its rows still packed. `position` is where its record lies in the journal."""

    content: int
    packed: bytes
    position: int

    @property
    def length(self) -> int:
        """The bytes of content that it stands for."""
        return sum(length for (length,) in _LENGTHS.iter_unpack(self.packed))


class PlacedContent(msgspec.Struct, frozen=True):
    """A content that has left `contents/` for an evidence path, or was about to."""

    content: int
    path: bytes


class TakenContent(msgspec.Struct, frozen=True):
    """A file of an earlier session, by its path below that session's folder, that has become a content, or was about to."""

    content: int
    session: str
    path: bytes


Journaled = JournaledSegment | PlacedContent | TakenContent


def read_journal(file: BinaryIO, position: int = 0) -> Iterator[Journaled]:
    """The records from a record's position on (0: all), up to the first that is not whole."""
    if not position:
        if file.read(len(_MAGIC)) != _MAGIC:
            return
        position = len(_MAGIC)
    file.seek(position)
    while (record := _next_record(file, position)) is not None:
        yield record
        position = file.tell()


def _next_record(file: BinaryIO, position: int) -> Journaled | None:
    kind = file.read(1)
    if kind == b"S":
        head = file.read(_SEGMENT.size - 1)
        if len(head) == _SEGMENT.size - 1:
            _, content, count = _SEGMENT.unpack(kind + head)
            packed = file.read(min(count, MAX_SEGMENT_ROWS) * _LENGTHS.size)
            if 0 < count <= MAX_SEGMENT_ROWS and len(packed) == count * _LENGTHS.size:
                return JournaledSegment(content, packed, position)
    elif kind == b"P":
        head = file.read(_PLACED.size - 1)
        if len(head) == _PLACED.size - 1:
            _, content, length = _PLACED.unpack(kind + head)
            path = file.read(min(length, MAX_PATH))
            if 0 < length == len(path):
                return PlacedContent(content, path)
    elif kind == b"T":
        head = file.read(_TAKEN.size - 1)
        if len(head) == _TAKEN.size - 1:
            _, content, session, length = _TAKEN.unpack(kind + head)
            path = file.read(min(length, MAX_PATH))
            if 0 < length == len(path):
                return TakenContent(content, session.hex(), path)
    return None
