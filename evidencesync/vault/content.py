"""Assembles a large content in a staged file, from bytes that arrive and ranges of published files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from evidencesync.errors import InternalError
from evidencesync.files.copying import BlockSharing, copy_range
from evidencesync.files.disk import leave_hole, start_writeback, storage_error, storing, write_all
from evidencesync.vault.space import Room, allocated_bytes

_WRITEBACK: Final = 32 << 20
_ZEROS: Final = bytes(1 << 20)


class StagedContent:
    """A file in a staging area's `contents/`, open for reading and writing. Not thread-safe; one writer.

    The `append*` methods continue at `size`; `write_at` may write anywhere. A run of zeros becomes a hole. Every method raises
    NoSpaceError when the disk is full and StorageError for any other refusal.
    """

    __slots__ = ("_holds", "_position", "_room", "_written_back", "dir_fd", "fd", "name", "path", "size")

    def __init__(self, dir_fd: int, name: str, path: Path, fd: int | None = None, room: Room | None = None) -> None:
        """Makes a new file, or continues with one that is open for reading and writing, and takes its descriptor over.

        `room` is asked before a file is made, and before bytes are written.
        """
        self._room = room
        self.dir_fd = dir_fd  # of `contents/`; belongs to the staging area
        self.name = name
        self.path = path
        self.size = 0
        self._position = -1 if fd is not None else 0  # of the descriptor
        self._written_back = 0
        self._holds = 0  # bytes that a file had when it was taken over
        if fd is not None:
            self.fd = fd
            self._holds = os.fstat(fd).st_size
            return
        if room is not None:
            room.take(0, 1)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self.fd = os.open(name, flags, 0o600, dir_fd=dir_fd)
        except OSError as error:
            raise storage_error(error, "make a file in staging") from error

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Writes the next bytes."""
        self.write_at(self.size, data)

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Writes bytes at an offset."""
        self._take_room(offset, len(data))
        try:
            if offset != self._position:
                os.lseek(self.fd, offset, os.SEEK_SET)
            self._position = -1  # unknown if the write fails half-way
            write_all(self.fd, data)
        except OSError as error:
            raise storage_error(error, "write to staging") from error
        self._position = offset + len(data)
        self._grow(self._position)

    def append_zeros(self, length: int) -> None:
        """Continues after a run of zeros, which takes no space."""
        start = self.size
        while (step := min(start + length, self._holds) - self.size) > 0:  # old bytes there
            self.append(memoryview(_ZEROS)[: min(step, len(_ZEROS))])
        leave_hole(self.fd, start, length)
        self.size = start + length

    def keep(self, length: int) -> None:
        """Continues after bytes that the file has already at this place: the caller has read and checked them."""
        self.size += length

    def append_from(self, source_fd: int, offset: int, length: int) -> None:
        """Copies a range of another file; its holes stay holes.

        The bytes are not checked: hash them before or afterwards. Raises DigestMismatchError when the source is too
        short.
        """
        self._take_room(self.size, min(length, allocated_bytes(os.fstat(source_fd))))  # its holes stay holes
        try:
            copy_range(source_fd, offset, self.fd, self.size, length)
        except OSError as error:
            raise storage_error(error, "copy within the vault") from error
        finally:
            self._position = -1
        self._grow(self.size + length)

    def append_shared(self, sharing: BlockSharing, source_fd: int, offset: int, length: int) -> bool:
        """Continues with a range of another file by sharing its blocks; False where that is not possible: then nothing is added.

        `size`, `offset` and `length` are multiples of `sharing.unit`. The bytes are not checked, as in `append_from`.
        """
        try:
            shared = sharing.share(source_fd, offset, self.fd, self.size, length)
        except OSError as error:
            raise storage_error(error, "share blocks within the vault") from error
        if shared:
            self._grow(self.size + length)
        return shared

    def finish(self) -> None:
        """Sets the full size of a file that ends in zeros. Afterwards it can be adopted by a TreeWriter."""
        try:
            os.ftruncate(self.fd, self.size)
        except OSError as error:
            raise storage_error(error, "write to staging") from error

    def close(self) -> None:
        """Closes the descriptor; the file stays. Safe to call again."""
        if self.fd >= 0:
            descriptor, self.fd = self.fd, -1
            with storing("write to staging"):
                os.close(descriptor)

    def discard(self) -> None:
        """Removes the file."""
        self.close()
        try:
            os.unlink(self.name, dir_fd=self.dir_fd)
        except OSError as error:
            raise storage_error(error, "remove a file from staging") from error

    def require_open(self) -> int:
        """Returns the descriptor. Raises InternalError after `close`."""
        if self.fd < 0:
            raise InternalError("a staged content was used after it was closed")
        return self.fd

    def _take_room(self, offset: int, length: int) -> None:
        """Asks for room, except for what a file that was taken over has already."""
        if self._room is not None:
            self._room.take(max(offset + length - max(offset, self._holds), 0))

    def _grow(self, end: int) -> None:
        self.size = max(self.size, end)
        if end - self._written_back >= _WRITEBACK:  # write out early, so that the sync at the end is short
            start_writeback(self.fd, self._written_back, end - self._written_back)
            self._written_back = end
