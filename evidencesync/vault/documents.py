"""Writes the documents of an acquisition that grow while evidence arrives: manifest, sums files, recipes, and spooled rows.

A content's recipe is only needed when its manifest line is stored, and then only where it is not a link. Until then its rows
are in a spool file and not in memory: 24 bytes for about 64 KiB of evidence. The file has no name, so its space is freed when
the session ends, in whatever way.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from evidencesync.custody.documents import NotInSums
from evidencesync.custody.manifest import CheckedLine
from evidencesync.custody.sums import b3sum_line, entry_lines, sha256sum_line
from evidencesync.errors import DigestMismatchError
from evidencesync.evidence.digest import Blake3Digest, Buffer, ContentHasher, Sha256Digest
from evidencesync.evidence.entry import Entry
from evidencesync.files.disk import (
    CREATE_FLAGS,
    FILE_MODE,
    READ_FLAGS,
    close_quietly,
    forget_cached,
    storage_error,
    storing,
    write_all,
)
from evidencesync.vault.layout import BLAKE3SUMS, DATA, MANIFEST, SHA256SUMS
from evidencesync.vault.space import Room

_BUFFER: Final = 256 * 1024
_BLOCK: Final = 1 << 20


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


_NAME: Final = "rows"


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
