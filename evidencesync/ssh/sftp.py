"""Reading over SFTP: what any SSH server offers, asked of one that may be anybody's.

asyncssh speaks the protocol (version 3), in an event loop with a thread of its own. Here each answer is held to what was asked:
names and numbers are bounded, no read gives more than it was asked for, and one that never comes ends the session. Nothing is
ever written, and nothing opened that was not seen to be a regular file.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Coroutine
from concurrent.futures import Future
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import asyncssh
from asyncssh import sftp

from evidencesync.custody.documents import SshPeer
from evidencesync.errors import ConnectError, LimitExceededError, LinkLostError, PathEscapeError, ProtocolError, SourceReadError
from evidencesync.evidence.display import safe_text
from evidencesync.limits import KIB, MAX_FOLDER_ENTRIES, MIB
from evidencesync.ssh.address import Address
from evidencesync.ssh.client import log_in, peer_of
from evidencesync.ssh.config import resolve_route
from evidencesync.ssh.options import SshOptions
from evidencesync.ssh.sftp_answers import SftpStatus, explain_answer, status_of
from evidencesync.ssh.wire import WIRE, Wire

_T = TypeVar("_T")
_LARGEST_READ: Final = 255 * KIB  # OpenSSH's own limit
_SAFE_READ: Final = 32 * KIB  # what every server gives (draft-ietf-secsh-filexfer-02 §3), where it does not say more
_AHEAD: Final = 8 * MIB  # asked for, and not yet taken, of one file
_MOVES: Final = 16 * KIB  # bytes in a quarter of the timeout that count as a sign of life
_HINT: Final = "Does the server offer SFTP? In sshd_config: Subsystem sftp internal-sftp"


@dataclass(frozen=True, slots=True)
class SftpSmall:
    """A small file, read whole. `changed`: it is not, or no longer, what the folder's listing said."""

    data: bytes
    changed: bool


class SftpSource:
    """A connection to a server, for a thread that waits; several requests may be under way (`start`).

    Raises what connecting fails with: ConnectError, HostKeyError, AuthenticationError, LinkLostError ... `close` in any case.
    """

    def __init__(self, address: Address, options: SshOptions) -> None:
        self.peer: SshPeer | None = None
        self.server = ""
        self._timeout = options.timeout_seconds
        self._wire = Wire()
        self._resources = AsyncExitStack()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sftp", daemon=True)
        self._thread.start()
        self._waiting = 0
        self._answers = 0
        self._silent = False
        try:
            self.run(self._connect(address, options))
        except BaseException:
            self.close()
            raise

    @property
    def wire_sent(self) -> int:
        """Bytes sent on the connection's socket."""
        return self._wire.sent

    @property
    def wire_received(self) -> int:
        """Bytes received on the connection's socket."""
        return self._wire.received

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Does one of the things below, and waits for it."""
        return self.start(work).result()

    def start(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Begins one of the things below."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Lets go of the connection. Repeatable."""
        if self._loop.is_closed():
            return
        with contextlib.suppress(Exception):  # whatever the other end makes of it: nothing more is wanted of it
            self.start(self._disconnect()).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # In the event loop.

    async def _connect(self, address: Address, options: SshOptions) -> None:
        route = await resolve_route(address, options)
        connection = await log_in(route, options, self._resources)
        self.peer = peer_of(connection, route[-1])
        self.server = safe_text(str(connection.get_extra_info("server_version") or ""), 200)
        wire = connection.get_extra_info(WIRE)
        if isinstance(wire, Wire):
            self._wire = wire
        try:
            async with asyncio.timeout(self._timeout):
                self._client = await connection.start_sftp_client(path_encoding=None)
        except (OSError, TimeoutError, asyncssh.Error) as error:
            raise ConnectError(f"the server gives no SFTP session: {safe_text(str(error), 200)}", hint=_HINT) from error
        if self._client.version != 3:
            raise ProtocolError("the server speaks another version of SFTP than it was asked for")
        self.read_size = min(max(self._client.limits.max_read_len, _SAFE_READ), _LARGEST_READ)
        self._watch = asyncio.create_task(self._watch_silence())

    async def _disconnect(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        async with asyncio.timeout(5):
            await self._resources.aclose()

    async def _watch_silence(self) -> None:
        """A server that answers nothing for the whole timeout, and sends nothing to speak of, is lost."""
        seen, received, quiet = -1, 0, 0
        while True:
            await asyncio.sleep(self._timeout / 4)
            moved = self._answers != seen or self._wire.received - received > _MOVES or not self._waiting
            quiet = 0 if moved else quiet + 1
            seen, received = self._answers, self._wire.received
            if quiet >= 4:
                self._silent = True
                self._wire.abort()
                return

    async def _ask(self, path: bytes, request: Awaitable[_T]) -> _T:
        """One request and its answer. Raises SourceReadError, LinkLostError or ProtocolError."""
        self._waiting += 1
        try:
            answer = await request
        except (asyncssh.Error, OSError, LookupError, ValueError, TypeError) as error:
            if self._silent:
                raise LinkLostError(f"the server has not answered for {self._timeout:g} seconds") from error
            raise explain_answer(path, error) from error
        finally:
            self._waiting -= 1
            self._answers += 1
        return answer

    async def real_path(self, path: bytes) -> bytes:
        """The absolute path that the server makes of one. Raises ProtocolError for one that is none."""
        real = await self._ask(path, self._client.realpath(path or b"."))
        if not real.startswith(b"/") or b"\0" in real or b".." in real.split(b"/"):
            raise ProtocolError("the server names a path that cannot be")
        return real

    async def status(self, path: bytes) -> SftpStatus:
        """What lies at a path; of a symbolic link, the link."""
        return status_of(await self._ask(path, self._client.lstat(path)))

    async def link_target(self, path: bytes) -> bytes:
        """Where a symbolic link leads."""
        return await self._ask(path, self._client.readlink(path))

    async def names(self, path: bytes) -> list[tuple[bytes, SftpStatus]]:
        """What a folder holds, sorted by name, each name once.

        Raises PathEscapeError for a name that no folder can hold, and LimitExceededError for more than any honest one has.
        """
        found: dict[bytes, SftpStatus] = {}
        listing = cast("AsyncGenerator[sftp.SFTPName]", self._client.scandir(path))
        async with contextlib.aclosing(listing):
            while True:
                try:
                    # An answer without names is no sign of life: there might be no end of those.
                    async with asyncio.timeout(self._timeout):
                        entry = await self._ask(path, anext(listing))
                except StopAsyncIteration:
                    break
                except TimeoutError as error:
                    raise LinkLostError(f"a folder's listing has brought nothing for {self._timeout:g} seconds") from error
                name = entry.filename
                if name in (b".", b".."):
                    continue
                if not isinstance(name, bytes) or not name or b"/" in name or b"\0" in name:
                    raise PathEscapeError(f"the server lists a name that no folder can hold: {safe_text(name or '', 200)}")
                found.setdefault(name, status_of(entry.attrs))
                if len(found) > MAX_FOLDER_ENTRIES:
                    raise LimitExceededError("the server lists more names in one folder than any honest one holds")
        return sorted(found.items())

    async def small(self, path: bytes, seen: SftpStatus, limit: int) -> SftpSmall | None:
        """A regular file of at most `limit` bytes; None where it has come to be larger.

        Raises SourceReadError: `vanished` where what was opened is no regular file.
        """
        file = await self._ask(path, self._client.open(path, "rb", block_size=0))
        try:
            size = seen.size or 0
            opened, data = await asyncio.gather(self._opened(path, file), self.read_at(path, file, size + 1, 0))
            while len(data) <= limit and len(data) < (opened.size or 0):
                more = await self.read_at(path, file, (opened.size or 0) + 1 - len(data), len(data))
                if not more:
                    break
                data += more
        finally:
            _, after = await asyncio.gather(self.close_file(path, file), self._ask(path, self._client.lstat(path)))
        if len(data) > limit:
            return None
        changed = seen.differs(status_of(after)) or seen.differs(opened) or len(data) != seen.size
        return SftpSmall(data, changed)

    async def open(self, path: bytes) -> SftpFile:
        """Opens a regular file. Raises SourceReadError: `vanished` where what was opened is something else."""
        file = await self._ask(path, self._client.open(path, "rb", block_size=0))
        try:
            opened = await self._opened(path, file)
        except BaseException:
            await self.close_file(path, file)
            raise
        return SftpFile(self, path, file, opened)

    async def _opened(self, path: bytes, file: Any) -> SftpStatus:
        opened = status_of(await self._ask(path, file.stat()))
        if opened.kind not in ("file", None):
            raise SourceReadError(
                f"cannot read {safe_text(path, 300)}: it is not the file any more that was seen there", vanished=True
            )
        return opened

    async def read_at(self, path: bytes, file: Any, size: int, offset: int) -> bytes:
        """At most `size` bytes from an offset on; fewer where the server gives no more at once, none at the end."""
        size = min(size, self.read_size)
        data: bytes = await self._ask(path, file.read(size, offset))
        if len(data) > size:
            raise ProtocolError("the server gives more bytes than it was asked for")
        return data

    async def close_file(self, path: bytes, file: Any) -> None:
        """Lets go of an open file. That the server cannot close it is its own business."""
        with contextlib.suppress(SourceReadError):
            await self._ask(path, file.close())


class SftpFile:
    """A regular file that is read from its start to the end that its size said, with several requests under way."""

    def __init__(self, source: SftpSource, path: bytes, file: Any, opened: SftpStatus) -> None:
        self.status = opened
        self.size = opened.size or 0
        self._source = source
        self._path = path
        self._file = file
        self._offset = 0
        self._reads: deque[asyncio.Task[bytes]] = deque()

    async def next_blocks(self, limit: int) -> list[bytes]:
        """The next bytes, `limit` at most but for the last block; an empty list at the end.

        Raises SourceReadError where they cannot be read.
        """
        self._ask_ahead()
        if not self._reads:
            return []
        blocks, total = [await self._reads[0]], 0
        self._reads.popleft()
        while self._reads and self._reads[0].done() and total < limit:
            blocks.append(self._reads.popleft().result())
            total += len(blocks[-1])
        self._ask_ahead()
        return [block for block in blocks if block]

    async def ends(self) -> SftpStatus | None:
        """After the last block: what lies at its path now; None where there is more in it than its size said."""
        read = self._source.read_at
        beyond, now = await asyncio.gather(read(self._path, self._file, 1, self.size), self._source.status(self._path))
        return None if beyond else now

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
            self._reads.append(asyncio.create_task(self._whole(self._offset, size)))
            self._offset += size

    async def _whole(self, offset: int, size: int) -> bytes:
        """A block, in as many answers as the server takes for it; shorter only at the file's end."""
        read = self._source.read_at
        data = await read(self._path, self._file, size, offset)
        while data and len(data) < size:
            more = await read(self._path, self._file, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data
