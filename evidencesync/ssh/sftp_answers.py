"""Checks answers of an SFTP server against what a manifest can state, turns its errors into ours, and reads an open file."""

from __future__ import annotations

import asyncio
import errno
import re
import stat
from collections import deque
from dataclasses import dataclass
from typing import Any, Final, Protocol

from asyncssh import sftp

from evidencesync.errors import LinkLostError, ProtocolError, SourceReadError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import EntryType
from evidencesync.limits import MIB

_TYPES: Final[dict[int, EntryType]] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFBLK: "block-device",
    stat.S_IFCHR: "character-device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


_LONGEST_LINE: Final = 4096  # of a listing's line, before the name
_DATE: Final = re.compile(rb" (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ 0-3]?[0-9] {1,2}(-?[0-9]{1,12})$")


_REFUSED: Final = "Bad message"
"""OpenSSH's answer to a request that fails with EINVAL or ENAMETOOLONG, for instance if a link has become a file.

It does not violate the protocol. asyncssh uses the same number for answers that it cannot parse, but never with this text alone.
"""


@dataclass(frozen=True, slots=True)
class SftpStatus:
    """What a server states about an entry; None for what it does not state.

    Times are whole seconds since 1970, of which SFTP 3 carries the lowest 32 bits. `year` is the year of modification in the line
    with which a server lists a file, like `ls -l`: OpenSSH computes it from the whole time.
    """

    kind: EntryType | None
    mode: int | None
    size: int | None
    uid: int | None
    gid: int | None
    mtime: int | None
    atime: int | None
    year: int | None = None

    def differs(self, other: SftpStatus) -> bool:
        """Whether it is another file now, or one that was written to."""
        return (self.kind, self.size, self.mtime) != (other.kind, other.size, other.mtime)


def status_of(attributes: sftp.SFTPAttrs, year: int | None = None) -> SftpStatus:
    """The attributes in a server's answer."""
    mode, size = attributes.permissions, attributes.size
    kind = _TYPES.get(stat.S_IFMT(mode)) if mode is not None else None
    return SftpStatus(kind, mode, size, attributes.uid, attributes.gid, attributes.mtime, attributes.atime, year)


def listed_year(line: object, name: bytes) -> int | None:
    """The year in a listing's line for `name`; None without a year, as for a file that was modified in the last six months.

    Servers may write these lines in any form (draft-ietf-secsh-filexfer-02 §7). A line in an unknown form gives None.
    """
    if not isinstance(line, bytes) or not line.endswith(b" " + name):
        return None
    found = _DATE.search(line[: -len(name) - 1][-_LONGEST_LINE:])
    return int(found[1]) if found else None


def explain_answer(path: bytes, error: Exception) -> Exception:
    """The error to raise for a failed request: about this path only (SourceReadError), or about the server or the link."""
    reason = safe_text(str(error), 200)
    shown = f"cannot read {safe_text(path, 300)}: {reason}"
    match error:
        case sftp.SFTPNoSuchFile() | sftp.SFTPNoSuchPath():
            return SourceReadError(shown, errno=errno.ENOENT, vanished=True)
        case sftp.SFTPPermissionDenied():
            return SourceReadError(shown, errno=errno.EACCES)
        case sftp.SFTPBadMessage() if reason == _REFUSED:
            return SourceReadError(shown, errno=errno.EINVAL)
        case sftp.SFTPBadMessage() | LookupError() | ValueError() | TypeError():
            return ProtocolError(f"the server breaks the SFTP protocol: {reason}")
        case sftp.SFTPConnectionLost() | sftp.SFTPNoConnection() | OSError():
            return LinkLostError(f"the connection was lost: {reason}")
        case sftp.SFTPError():
            return SourceReadError(shown, errno=errno.EIO)
        case _:
            return LinkLostError(f"the connection was lost: {reason}")


_AHEAD: Final = 8 * MIB  # asked for, and not yet taken, of one file


class Server(Protocol):
    """The server where a file is open: see `ssh.sftp.SftpSource`."""

    read_size: int
    """How much is asked for at once."""

    async def read_at(self, path: bytes, file: Any, size: int, offset: int) -> bytes:
        """At most `size` bytes from an offset on; none at the end."""

    async def status(self, path: bytes) -> SftpStatus:
        """What lies at a path."""

    async def close_file(self, path: bytes, file: Any) -> None:
        """Lets go of an open file."""


class SftpFile:
    """A regular file that is read up to its stated size, with several requests under way.

    A file of size 0 is read to its end, one block after the other: its real size is not known.
    """

    def __init__(self, source: Server, path: bytes, file: Any, opened: SftpStatus, offset: int) -> None:
        self.status = opened
        self.size = opened.size or 0
        self._source = source
        self._path = path
        self._file = file
        self._offset = offset
        self._reads: deque[asyncio.Task[tuple[bytes, bool]]] = deque()
        self._is_over = False

    async def next_blocks(self, limit: int) -> list[bytes]:
        """The next bytes, `limit` at most but for the last block; an empty list at the end.

        Raises SourceReadError where they cannot be read.
        """
        if not self.size:
            block = await self._source.read_at(self._path, self._file, self._source.read_size, self._offset)
            self._offset += len(block)
            return [block] if block else []
        self._ask_ahead()
        blocks: list[bytes] = []
        total = 0
        while self._reads and not self._is_over and (not blocks or (self._came(self._reads[0]) and total < limit)):
            block, is_whole = await self._reads[0]
            self._reads.popleft()
            self._is_over = not is_whole  # later blocks would then be put at a wrong offset
            blocks.append(block)
            total += len(block)
        self._ask_ahead()
        return [block for block in blocks if block]

    @staticmethod
    def _came(read: asyncio.Task[tuple[bytes, bool]]) -> bool:
        return read.done() and not read.cancelled() and read.exception() is None

    async def ends(self) -> SftpStatus | None:
        """After the last block: the status of its path now; None if the file holds more than its size."""
        if not self.size:
            return await self._source.status(self._path)
        read = self._source.read_at
        beyond, now = await asyncio.gather(read(self._path, self._file, 1, self.size), self._source.status(self._path))
        return None if beyond else now

    async def holds(self, data: bytes, offset: int) -> bool:
        """Whether the file has these bytes at an offset."""
        return await self._whole(offset, len(data)) == (data, True)

    async def close(self) -> None:
        """Cancels requests that are under way, and closes the file."""
        for task in self._reads:
            task.cancel()
        await asyncio.gather(*self._reads, return_exceptions=True)
        await self._source.close_file(self._path, self._file)

    def _ask_ahead(self) -> None:
        step = self._source.read_size
        while self._offset < self.size and len(self._reads) * step < _AHEAD:
            size = min(step, self.size - self._offset)
            read = asyncio.create_task(self._whole(self._offset, size))
            read.add_done_callback(self._came)  # else asyncio would log the failure of a request that nobody waits for
            self._reads.append(read)
            self._offset += size

    async def _whole(self, offset: int, size: int) -> tuple[bytes, bool]:
        """Reads a block, in as many answers as the server needs, and tells whether it is whole: else the file ends in it."""
        read = self._source.read_at
        data = await read(self._path, self._file, size, offset)
        while data and len(data) < size:
            more = await read(self._path, self._file, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data, len(data) == size
