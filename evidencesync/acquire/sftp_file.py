"""Reads one larger file over SFTP, over as many connections as it takes, and makes manifest entries from SFTP attributes.

SFTP 3 has 32 bits for a time, in whole seconds since 1970 (draft-ietf-secsh-filexfer-02 §5). For a time before 1970 or after 2106
a server sends its lowest 32 bits, which are another time.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from evidencesync.acquire.reading import CHEAP_TO_READ_AGAIN
from evidencesync.acquire.sftp_connection import SftpConnection
from evidencesync.errors import LinkLostError, SourceReadError
from evidencesync.evidence.entry import Entry, EntryType, Flag
from evidencesync.evidence.path import to_json_fields
from evidencesync.evidence.utc_time import FileTime
from evidencesync.limits import KIB, MIB
from evidencesync.ssh.sftp_answers import SftpFile, SftpStatus

_BLOCK: Final = 4 * MIB
_TAKEN_AT_ONCE: Final = 1 * MIB
_SEAM: Final = 32 * KIB


class RemoteFile:
    """An open file, whose bytes are read once, in order.

    After a lost connection it is opened again and read on from the same offset, if it is the same file: by its size, its
    modification time and the last bytes that were read. If it is not, or that cannot be known, it is to be read from its start
    again where that is cheap (`starts_again`); else the rest is of another state of the file, and `is_mixed`.
    """

    def __init__(self, connection: SftpConnection, path: bytes, *, may_start_again: bool) -> None:
        """Opens the file. Raises SourceReadError, and the error of reconnecting."""
        self.starts_again = False
        self.is_mixed = False
        self._connection = connection
        self._path = path
        self._may_start_again = may_start_again
        self._server = connection.server
        self._file: SftpFile | None = None
        self._is_over = False
        self._taken = 0
        self._tail = b""
        while self._file is None:
            self._server = connection.server
            try:
                self._file = self._server.run(self._server.open(path))
            except LinkLostError as lost:
                connection.reconnect(self._server, lost)
        self.opened = self._file.status
        self.size = self._file.size

    def blocks(self) -> Iterator[bytes]:
        """Yields the file's bytes in blocks of about 4 MiB; ends early where it `starts_again`. Raises SourceReadError."""
        parts: list[bytes] = []
        held = 0
        while taken := self._next():
            parts += taken
            held += sum(map(len, taken))
            if held >= _BLOCK:
                yield b"".join(parts)
                parts, held = [], 0
        if parts and not self.starts_again:
            yield b"".join(parts)

    def ends(self) -> SftpStatus | None:
        """Returns, after the last block, the status of the file at its path now; None where the file is longer than its size."""
        while self._file is not None and not self.starts_again:
            try:
                return self._server.run(self._file.ends())
            except LinkLostError as lost:
                self._return(lost)
        return None

    def close(self) -> None:
        """Closes the file. A link that is lost meanwhile is no error."""
        with contextlib.suppress(LinkLostError):
            if self._file is not None:
                self._server.run(self._file.close())

    def _next(self) -> list[bytes]:
        while self._file is not None and not self.starts_again and not self._is_over:
            try:
                taken = self._server.run(self._file.next_blocks(_TAKEN_AT_ONCE))
            except LinkLostError as lost:
                self._return(lost)
                continue
            for block in taken:
                self._taken += len(block)
                self._tail = (self._tail + block[-_SEAM:])[-_SEAM:]
            if taken:
                self._connection.reset_attempts()
            return taken
        return []

    def _return(self, lost: LinkLostError) -> None:
        """Opens the file again over a new connection, and checks whether it is the same."""
        while True:
            self._connection.reconnect(self._server, lost)
            self._server, self._file = self._connection.server, None
            try:
                self._file = self._server.run(self._server.open(self._path, self._taken))
                is_same = self._is_same(self._file)
            except LinkLostError as again:
                lost = again
                continue
            except SourceReadError:
                self.close()
                raise
            break
        if not is_same:
            self.starts_again = self._may_start_again and self._taken <= CHEAP_TO_READ_AGAIN
            self.is_mixed = True
            self._is_over = bool(self.size) and not self._file.size
            self._file.size = min(self._file.size, self.size or self._file.size)  # no more than was announced

    def _is_same(self, file: SftpFile) -> bool:
        """Returns whether a file that was opened again is the same. A file of size 0 may differ at each open (/proc)."""
        if not self._taken:
            return not self.opened.differs(file.status)
        if not self.size or self.opened.differs(file.status):
            return False
        return self._server.run(file.holds(self._tail, self._taken - len(self._tail)))


TIMES_OF_SFTP: Final = "whole seconds, modulo 2^32"
_DOUBTFUL: Final = 2**31  # from here on it is a time after January 2038 or, in most evidence, one before 1970


def make_entry(
    path: bytes,
    status: SftpStatus,
    size: int | None = None,
    digests: tuple[str, str] | None = None,
    flags: list[Flag] | None = None,
    target: bytes | None = None,
) -> Entry:
    """Makes an entry. SFTP has no inode numbers, owner names or fractions of seconds: these fields are absent."""
    text, encoded = to_json_fields(path)
    target_text, target_encoded = to_json_fields(target) if target is not None else (None, None)
    kind: EntryType = status.kind or "file"
    mtime, atime = _times(status)
    return Entry(
        kind,
        text,
        encoded,
        size=size,
        blake3=digests[0] if digests else None,
        sha256=digests[1] if digests else None,
        mode=f"{stat.S_IMODE(status.mode):04o}" if status.mode is not None else None,
        uid=status.uid,
        gid=status.gid,
        mtime=mtime,
        atime=atime,
        target=target_text,
        target_b64=target_encoded,
        flags=flags or None,
    )


def untold_times(status: SftpStatus) -> int:
    """Returns how many times of an entry the server sent that cannot be relied on."""
    given = (status.mtime is not None) + (status.atime is not None)
    return given - sum(time is not None for time in _times(status))


def _times(status: SftpStatus) -> tuple[FileTime | None, FileTime | None]:
    """Returns modification and access time, as far as they are known.

    The year in the listing shows in which period of 2^32 seconds a time is. Without a year, times in the later half of the 32-bit
    range are dropped. Where the modification time is wrong, the access time may be wrong too, with nothing to show it.
    """
    mtime, atime, year = status.mtime, status.atime, status.year
    if mtime is not None and (not _fits(mtime, year) if year is not None else mtime >= _DOUBTFUL):
        return None, None
    return _text(mtime), _text(atime) if atime is not None and atime < _DOUBTFUL else None


def _fits(seconds: int, year: int) -> bool:
    """Returns whether a time is in a year; one year more or less is accepted, because the server uses its own time zone."""
    return abs(datetime.fromtimestamp(seconds, UTC).year - year) <= 1


def _text(seconds: int | None) -> FileTime | None:
    return None if seconds is None else f"{seconds}.000000000"
