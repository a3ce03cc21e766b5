"""Writes the files of a staging area that grow: documents while evidence arrives, and large contents.

The documents are manifest, sums files and recipes. A content's recipe is only needed when its manifest line is stored, and
then only where it is not a link. Until then its rows are in a spool file and not in memory: 24 bytes for about 64 KiB of
evidence. The file has no name, so its space is freed when the session ends, in whatever way.

A large content is assembled in a staged file, from bytes that arrive and ranges of published files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from evidencesync.custody.documents import NotInSums
from evidencesync.custody.manifest import CheckedLine
from evidencesync.custody.sums import b3sum_line, entry_lines, sha256sum_line
from evidencesync.errors import DigestMismatchError, InternalError
from evidencesync.evidence.digest import Blake3Digest, Buffer, ContentHasher, Sha256Digest
from evidencesync.evidence.entry import Entry
from evidencesync.files.copying import BlockSharing, copy_range
from evidencesync.files.disk import (
    CREATE_FLAGS,
    FILE_MODE,
    READ_FLAGS,
    close_quietly,
    forget_cached,
    leave_hole,
    start_writeback,
    storage_error,
    storing,
    write_all,
)
from evidencesync.vault.layout import BLAKE3SUMS, DATA, MANIFEST, SHA256SUMS
from evidencesync.vault.space import Room, allocated_bytes

_BUFFER: Final = 256 * 1024
_BLOCK: Final = 1 << 20
_NAME: Final = "rows"
_WRITEBACK: Final = 32 << 20
_ZEROS: Final = bytes(1 << 20)


class StreamedDocument:
    """Appends to a new file and hashes what it appends; only a small buffer is in memory.

    Every method raises NoSpaceError when the disk is full and StorageError for any other refusal.
    """

    def __init__(self, dir_fd: int, name: str) -> None:
        self.name = name
        self.size = 0
        self.blake3_hex = ""
        """BLAKE3 of the whole, after `finish`."""
        self.sha256_hex = ""
        """SHA-256 of the whole, after `finish`."""
        self._hasher = ContentHasher()
        self._buffer = bytearray()
        self.room: Room | None = None
        """Asked before bytes are written; None: no reserve is kept."""
        with storing(f"write {name}"):
            self._fd = os.open(name, CREATE_FLAGS, FILE_MODE, dir_fd=dir_fd)
            os.fchmod(self._fd, FILE_MODE)

    def append(self, data: Buffer) -> None:
        """Adds bytes at the end."""
        self._buffer += data
        if len(self._buffer) >= _BUFFER:
            self.flush()

    def flush(self) -> None:
        """Passes buffered bytes to the operating system, so that others can read them. They are not durable yet."""
        if not self._buffer:
            return
        if self.room is not None:
            self.room.take(len(self._buffer))
        try:
            os.lseek(self._fd, self.size, os.SEEK_SET)  # overwrite what a failed attempt may have written
            write_all(self._fd, self._buffer)
        except OSError as error:
            raise storage_error(error, f"write {self.name}") from error
        self._hasher.update(self._buffer)
        self.size += len(self._buffer)
        self._buffer = bytearray()

    def finish(self) -> None:
        """Writes the rest, computes the digests and closes. Durable only after the staging area is synced."""
        if self._fd < 0:
            return
        self.flush()
        blake3, sha256 = self._hasher.digests()
        self.blake3_hex, self.sha256_hex = blake3.hex(), sha256.hex()
        self.close()

    def close(self) -> None:
        """Closes the file as it is. Safe to call again."""
        if self._fd >= 0:
            descriptor, self._fd = self._fd, -1
            with storing("write to staging"):
                os.close(descriptor)


def verify_on_disk(dir_fd: int, document: StreamedDocument) -> None:
    """Reads a finished document back from the disk. Raises DigestMismatchError when it differs from what was written."""
    hasher = ContentHasher()
    with storing(f"read {document.name} back"):
        fd = os.open(document.name, READ_FLAGS, dir_fd=dir_fd)
        try:
            forget_cached(fd)
            while block := os.read(fd, _BLOCK):
                hasher.update(block)
        finally:
            os.close(fd)
    if hasher.digests()[1].hex() != document.sha256_hex:
        raise DigestMismatchError(f"the disk gives back another {document.name} than was written")


class SpooledRows:
    """An append-only spool file for rows. At most 256 KiB and the last addition are in memory.

    Nothing is durable, and nothing needs to be. Every method raises NoSpaceError when the disk is full and StorageError
    for any other refusal.
    """

    def __init__(self, dir_fd: int) -> None:
        """Makes the file in a staging folder, and removes its name."""
        self.size = 0
        self._written = 0
        self._buffer = bytearray()
        with storing("make a file in staging"):
            self._fd = os.open(_NAME, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=dir_fd)
            os.unlink(_NAME, dir_fd=dir_fd)

    @property
    def buffered(self) -> int:
        """The number of bytes in memory."""
        return len(self._buffer)

    def append(self, packed: bytes) -> None:
        """Adds bytes at the end."""
        self._buffer += packed
        self.size += len(packed)
        if len(self._buffer) >= _BUFFER:
            self._flush()

    def read_at(self, offset: int, length: int) -> bytes:
        """Returns bytes that were added, from an offset on."""
        if offset + length > self._written:
            self._flush()
        with storing("read from staging"):
            return os.pread(self._fd, length, offset)

    def close(self) -> None:
        """Closes the file, which frees its space. Safe to call again."""
        if self._fd >= 0:
            descriptor, self._fd = self._fd, -1
            close_quietly(descriptor)

    def _flush(self) -> None:
        if not self._buffer:
            return
        try:
            os.lseek(self._fd, self._written, os.SEEK_SET)  # overwrite what a failed attempt may have written
            write_all(self._fd, self._buffer)
        except OSError as error:
            raise storage_error(error, "write to staging") from error
        self._written += len(self._buffer)
        self._buffer = bytearray()


class SumsWriter:
    """Writes both sums files of an acquisition, with paths relative to its folder. Raises as `StreamedDocument` does."""

    def __init__(self, acquisition_fd: int) -> None:
        self.sha256sums = StreamedDocument(acquisition_fd, SHA256SUMS)
        self.blake3sums = StreamedDocument(acquisition_fd, BLAKE3SUMS)
        self._left_out_sha256 = 0
        self._left_out_blake3 = 0

    @property
    def not_in_sums(self) -> NotInSums:
        """The number of files that one of the lists cannot express."""
        return NotInSums(sha256sums=self._left_out_sha256, blake3sums=self._left_out_blake3)

    def add(self, lines: Iterable[CheckedLine]) -> None:
        """Adds the regular files among a manifest's lines."""
        pairs = [entry_lines(DATA, path, line) for path, line in lines if isinstance(line, Entry) and line.blake3 is not None]
        sha256_lines = [line for line, _ in pairs if line is not None]
        blake3_lines = [line for _, line in pairs if line is not None]
        self._left_out_sha256 += len(pairs) - len(sha256_lines)
        self._left_out_blake3 += len(pairs) - len(blake3_lines)
        self.sha256sums.append(b"".join(sha256_lines))
        self.blake3sums.append(b"".join(blake3_lines))

    def finish(self, manifest: StreamedDocument) -> None:
        """Adds the finished manifest (so that no list is empty), and finishes both lists."""
        name = MANIFEST.encode()
        self.sha256sums.append(sha256sum_line(Sha256Digest(bytes.fromhex(manifest.sha256_hex)), name) or b"")
        self.blake3sums.append(b3sum_line(Blake3Digest(bytes.fromhex(manifest.blake3_hex)), name) or b"")
        self.sha256sums.finish()
        self.blake3sums.finish()

    def close(self) -> None:
        """Closes both as they are."""
        self.sha256sums.close()
        self.blake3sums.close()


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
