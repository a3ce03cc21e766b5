"""SpooledRows: the rows of contents that are on their way, in a file without a name.

A content's recipe is only needed when its manifest line is stored, and then only where it is not a link. Until then its rows
are here and not in memory: 24 bytes for some 64 KiB of evidence. The space is free again when the session ends, however
it ends.
"""

from __future__ import annotations

import os
from typing import Final

from evidencesync.files.closing import let_go
from evidencesync.files.disk import storage_error, storing, write_all

_NAME: Final = "rows"
_BUFFER: Final = 256 * 1024


class SpooledRows:
    """Bytes that are only ever added to. At most 256 KiB and what was added last are in memory.

    Nothing is durable, and nothing needs to be. Every method raises NoSpaceError when the disk is full and StorageError
    for what else it refuses.
    """

    def __init__(self, dir_fd: int) -> None:
        """Makes the file in a staging folder, and takes its name away."""
        self.size = 0
        self._written = 0
        self._buffer = bytearray()
        with storing("make a file in staging"):
            self._fd = os.open(_NAME, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=dir_fd)
            os.unlink(_NAME, dir_fd=dir_fd)

    @property
    def buffered(self) -> int:
        """How many bytes are in memory."""
        return len(self._buffer)

    def append(self, packed: bytes) -> None:
        """Adds bytes at the end."""
        self._buffer += packed
        self.size += len(packed)
        if len(self._buffer) >= _BUFFER:
            self._flush()

    def read_at(self, offset: int, length: int) -> bytes:
        """What was added, from an offset on."""
        if offset + length > self._written:
            self._flush()
        with storing("read from staging"):
            return os.pread(self._fd, length, offset)

    def close(self) -> None:
        """Lets go of the file, and so of its space. Safe to call again."""
        if self._fd >= 0:
            descriptor, self._fd = self._fd, -1
            let_go(descriptor)

    def _flush(self) -> None:
        if not self._buffer:
            return
        try:
            os.lseek(self._fd, self._written, os.SEEK_SET)  # not after what was left of an attempt that failed
            write_all(self._fd, self._buffer)
        except OSError as error:
            raise storage_error(error, "write to staging") from error
        self._written += len(self._buffer)
        self._buffer = bytearray()
