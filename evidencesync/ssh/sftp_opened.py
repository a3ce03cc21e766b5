"""A file that is open on a server, and read over SFTP."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final, Protocol

from evidencesync.limits import MIB
from evidencesync.ssh.sftp_answers import SftpStatus

_AHEAD: Final = 8 * MIB  # asked for, and not yet taken, of one file


class Server(Protocol):
    """Where it is open: see `ssh.sftp.SftpSource`."""

    read_size: int
    """How much is asked for at once."""

    async def read_at(self, path: bytes, file: Any, size: int, offset: int) -> bytes:
        """At most `size` bytes from an offset on; none at the end."""

    async def status(self, path: bytes) -> SftpStatus:
        """What lies at a path."""

    async def close_file(self, path: bytes, file: Any) -> None:
        """Lets go of an open file."""


class SftpFile:
    """A regular file that is read on to the end that its size said, with several requests under way.

    One that says 0 is read to its end, one block after the other: nobody knows where that is.
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
            self._is_over = not is_whole  # what was asked for behind an end would come to stand in another place
            blocks.append(block)
            total += len(block)
        self._ask_ahead()
        return [block for block in blocks if block]

    @staticmethod
    def _came(read: asyncio.Task[tuple[bytes, bool]]) -> bool:
        return read.done() and not read.cancelled() and read.exception() is None

    async def ends(self) -> SftpStatus | None:
        """After the last block: what lies at its path now; None where there is more in it than its size said."""
        if not self.size:
            return await self._source.status(self._path)
        read = self._source.read_at
        beyond, now = await asyncio.gather(read(self._path, self._file, 1, self.size), self._source.status(self._path))
        return None if beyond else now

    async def holds(self, data: bytes, offset: int) -> bool:
        """Whether these bytes stand there."""
        return await self._whole(offset, len(data)) == (data, True)

    async def close(self) -> None:
        """Gives up what is under way."""
        for task in self._reads:
            task.cancel()
        await asyncio.gather(*self._reads, return_exceptions=True)
        await self._source.close_file(self._path, self._file)

    def _ask_ahead(self) -> None:
        step = self._source.read_size
        while self._offset < self.size and len(self._reads) * step < _AHEAD:
            size = min(step, self.size - self._offset)
            read = asyncio.create_task(self._whole(self._offset, size))
            read.add_done_callback(self._came)  # so that one that nobody waits for any more may fail
            self._reads.append(read)
            self._offset += size

    async def _whole(self, offset: int, size: int) -> tuple[bytes, bool]:
        """A block, in as many answers as the server takes for it, and whether it is whole: else the file ends in it."""
        read = self._source.read_at
        data = await read(self._path, self._file, size, offset)
        while data and len(data) < size:
            more = await read(self._path, self._file, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data, len(data) == size
