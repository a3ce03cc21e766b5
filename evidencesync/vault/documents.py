"""StreamedDocument: a document of an acquisition that grows while evidence arrives, and its digests."""

from __future__ import annotations

import os
from typing import Final

from evidencesync.errors import DigestMismatchError
from evidencesync.evidence.digest import Buffer, ContentHasher
from evidencesync.files.disk import CREATE_FLAGS, FILE_MODE, READ_FLAGS, forget_cached, storage_error, storing, write_all
from evidencesync.vault.space import Room

_BUFFER: Final = 256 * 1024
_BLOCK: Final = 1 << 20


class StreamedDocument:
    """Appends to a new file and hashes what it appends; nothing but a small buffer is held in memory.

    Every method raises NoSpaceError when the disk is full and StorageError for what else it refuses.
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
        """Asked before bytes are written; None: whatever fits."""
        with storing(f"write {name}"):
            self._fd = os.open(name, CREATE_FLAGS, FILE_MODE, dir_fd=dir_fd)
            os.fchmod(self._fd, FILE_MODE)

    def append(self, data: Buffer) -> None:
        """Adds bytes at the end."""
        self._buffer += data
        if len(self._buffer) >= _BUFFER:
            self.flush()

    def flush(self) -> None:
        """Hands what is in memory to the operating system, so that others can read it. Not durable yet."""
        if not self._buffer:
            return
        if self.room is not None:
            self.room.take(len(self._buffer))
        try:
            os.lseek(self._fd, self.size, os.SEEK_SET)  # not after what was left of an attempt that failed
            write_all(self._fd, self._buffer)
        except OSError as error:
            raise storage_error(error, f"write {self.name}") from error
        self._hasher.update(self._buffer)
        self.size += len(self._buffer)
        self._buffer = bytearray()

    def finish(self) -> None:
        """Writes the rest, fixes the digests and closes. Durable only after the staging area is synced."""
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
    """Reads a finished document back from the disk. Raises DigestMismatchError when it is not what was written."""
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
