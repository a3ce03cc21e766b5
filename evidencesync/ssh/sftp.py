"""Reads a source over SFTP, which any SSH server offers. The server is not trusted.

asyncssh speaks the protocol (version 3) over the pipes of the user's ssh, in an event loop with a thread of its own. This
module checks each answer: names and numbers are bounded, a read returns no more than was asked for, and an answer that never
comes ends the session. Nothing is ever written, and nothing is opened that was not seen to be a regular file.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
from collections.abc import AsyncGenerator, Awaitable, Coroutine
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar, cast

import asyncssh
from asyncssh import sftp

from evidencesync.custody.documents import SshPeer
from evidencesync.errors import (
    ConnectError,
    EvidenceSyncError,
    LimitExceededError,
    LinkLostError,
    PathEscapeError,
    ProtocolError,
    SourceReadError,
)
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import seconds_text
from evidencesync.limits import KIB, MAX_FOLDER_ENTRIES
from evidencesync.ssh.address import Address
from evidencesync.ssh.options import SshOptions
from evidencesync.ssh.route import find_route
from evidencesync.ssh.sftp_answers import SftpFile, SftpStatus, explain_answer, listed_year, status_of
from evidencesync.ssh.sftp_pipes import SftpPipes
from evidencesync.ssh.ssh_process import SshProcess

_T = TypeVar("_T")
_LARGEST_READ: Final = 255 * KIB  # OpenSSH's own limit
SAFE_READ: Final = 32 * KIB  # what every server gives (draft-ietf-secsh-filexfer-02 §3), where it does not say more
_SAME_AGAIN: Final = 1000  # repeated names that are accepted besides as many new ones: a folder may change while it is listed
_MOVES: Final = 16 * KIB  # bytes in a quarter of the timeout that count as a sign of life
_PAGE_SIZES: Final = frozenset({4 * KIB, 16 * KIB, 64 * KIB})  # the size that every file of sysfs states: the machine's page size
_CLOSED: Final = "the connection was closed"
_HINT: Final = (
    "Does the server offer SFTP, and to this key? In sshd_config: Subsystem sftp internal-sftp; "
    "a command in authorized_keys stands in its way."
)


def outcome_of(work: Future[_T]) -> _T:
    """Waits for work that `SftpSource.start` has begun, and returns its result. Raises LinkLostError if it was cancelled."""
    try:
        return work.result()
    except CancelledError as error:
        raise LinkLostError(_CLOSED) from error


@dataclass(frozen=True, slots=True)
class SftpSmall:
    """A small file, read whole. `changed`: it is not, or no longer, what the folder's listing said."""

    data: bytes
    changed: bool


@dataclass(frozen=True, slots=True)
class SftpListing:
    """What a folder holds, sorted by name, each name once; and the year in which it was modified, if its listing states it."""

    names: list[tuple[bytes, SftpStatus]]
    year: int | None


class SftpSource:
    """A connection to an SFTP server, for a synchronous caller. Several requests may be under way (`start`).

    Made before it is connected; `finish_open` waits for that. `close` in any case, from any thread.
    """

    def __init__(self, address: Address, options: SshOptions) -> None:
        """Starts ssh. Raises what `find_route` and `SshProcess` raise (exit codes 2, 12 and 21 among others)."""
        self.peer: SshPeer | None = None
        self.server = ""
        self.read_size = SAFE_READ
        self.looks_first = False  # whether a file is looked at before it is opened, too
        self._timeout = options.timeout_seconds
        self._waiting = 0
        self._answers = 0
        self._silent = False
        self._is_closed = False
        self._lock = threading.Lock()
        self._pipes: SftpPipes | None = None
        self._child = SshProcess(find_route(address, options), options, "sftp", subsystem=True)
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None

    def finish_open(self) -> Self:
        """Waits until ssh has logged in and SFTP has started. Repeatable.

        On failure, closes the connection and raises an error with an exit code from 20 to 23.
        """
        if self.peer is not None:
            return self
        try:
            peer = self._child.wait_ready()
            self.server = safe_text(peer.algorithms.get("server_version", ""), 200)
            with self._lock:
                if self._is_closed:
                    raise LinkLostError(_CLOSED)
                self._thread = threading.Thread(target=self._loop.run_forever, name="sftp", daemon=True)
                self._thread.start()
            self.run(self._begin())
            self.peer = peer
        except BaseException:
            self.close()
            raise
        return self

    @property
    def wire_sent(self) -> int:
        """Bytes that were given to ssh."""
        return self._pipes.sent if self._pipes is not None else 0

    @property
    def wire_received(self) -> int:
        """Bytes that came from ssh."""
        return self._pipes.received if self._pipes is not None else 0

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Runs one of the coroutines below, and waits for its result."""
        return outcome_of(self.start(work))

    def start(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Starts one of the coroutines below. Raises LinkLostError if the connection is closed; so does `outcome_of` later."""
        with self._lock:
            if self._is_closed:
                work.close()
                raise LinkLostError(_CLOSED)
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Closes the connection. Repeatable."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._child.kill()
        if self._thread is not None:
            with contextlib.suppress(Exception):  # the connection ends in any case, so its errors do not matter
                asyncio.run_coroutine_threadsafe(self._disconnect(), self._loop).result(10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()
        self._child.release()

    # In the event loop.

    async def _begin(self) -> None:
        self._pipes = pipes = SftpPipes(self._child, self.server)
        try:
            async with asyncio.timeout(self._timeout):
                self._client = await pipes.start_client()
        except (OSError, TimeoutError, asyncssh.Error) as error:
            raise await self._explain_refusal(pipes, error) from error
        except (LookupError, ValueError, TypeError) as error:  # an answer that asyncssh cannot take apart
            raise explain_answer(b"", error) from error
        if self._client.version != 3:
            raise ProtocolError("the server speaks another version of SFTP than it was asked for")
        self.read_size = min(max(self._client.limits.max_read_len, SAFE_READ), _LARGEST_READ)
        self._watch = asyncio.create_task(self._watch_silence(pipes))

    async def _explain_refusal(self, pipes: SftpPipes, error: Exception) -> EvidenceSyncError:
        """The reason why SFTP did not start: a lost link, a server without SFTP, or another program in its place."""
        shown = safe_text(str(error), 200) or "it does not answer"
        if isinstance(error, sftp.SFTPConnectionLost):
            shown = "the program that runs there ended without any SFTP"
            lost = LinkLostError(shown)
            reason = await pipes.reason_for(lost)
            if reason is not lost and not isinstance(reason, ConnectError):
                return reason
        said = self._child.logs[-1].last_message or self._child.stderr_text or shown
        return ConnectError(f"the server gives no SFTP session: {said}", hint=_HINT)

    async def _disconnect(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._pipes is not None:
            self._pipes.close()
        await asyncio.sleep(0)  # the pipes are closed when the loop turns

    async def _watch_silence(self, pipes: SftpPipes) -> None:
        """Ends the connection if the server neither answers nor sends a notable amount for the whole timeout."""
        seen, received, quiet = -1, 0, 0
        while True:
            await asyncio.sleep(self._timeout / 4)
            moved = self._answers != seen or pipes.received - received > _MOVES or not self._waiting
            quiet = 0 if moved else quiet + 1
            seen, received = self._answers, pipes.received
            if quiet >= 4:
                self._silent = True
                pipes.abort()
                return

    async def _ask(self, path: bytes, request: Awaitable[_T]) -> _T:
        """Waits for the answer to one request. Raises SourceReadError, LinkLostError or ProtocolError."""
        self._waiting += 1
        try:
            answer = await request
        except (asyncssh.Error, OSError, LookupError, ValueError, TypeError) as error:
            if self._silent:
                raise LinkLostError(f"the server has not answered for {seconds_text(self._timeout)}") from error
            found = explain_answer(path, error)
            if isinstance(found, LinkLostError) and self._pipes is not None:
                found = await self._pipes.reason_for(found)
            raise found from error
        finally:
            self._waiting -= 1
            self._answers += 1
        return answer

    async def real_path(self, path: bytes) -> bytes:
        """Asks the server for the absolute form of a path. Raises ProtocolError for an invalid answer."""
        real = await self._ask(path, self._client.realpath(path or b"."))
        if not real.startswith(b"/") or b"\0" in real or b".." in real.split(b"/"):
            raise ProtocolError("the server sent an invalid path")
        return real

    async def status(self, path: bytes) -> SftpStatus:
        """The status of a path; for a symbolic link, that of the link."""
        return status_of(await self._ask(path, self._client.lstat(path)))

    async def link_target(self, path: bytes) -> bytes:
        """The target of a symbolic link. Raises SourceReadError: `vanished` if it is no link any more."""
        try:
            return await self._ask(path, self._client.readlink(path))
        except SourceReadError as error:
            if error.errno != errno.EINVAL:
                raise
            raise SourceReadError(error.message, errno=errno.EINVAL, vanished=True) from error

    async def names(self, path: bytes) -> SftpListing:
        """Lists a folder.

        Raises PathEscapeError for a name that no folder can hold, LimitExceededError for more names than any honest folder has,
        and if most names are repeated: such a listing might never end.
        """
        found: dict[bytes, SftpStatus] = {}
        own: int | None = None
        seen = 0
        async with contextlib.aclosing(self._entries(path)) as entries:
            async for name, status in entries:
                seen += 1
                if seen > 2 * len(found) + _SAME_AGAIN:
                    raise LimitExceededError("the server lists the same names of a folder again and again")
                if name == b".":
                    own = status.year
                if name in (b".", b".."):
                    continue
                if not name or b"/" in name or b"\0" in name:
                    raise PathEscapeError(f"the server lists a name that no folder can hold: {safe_text(name, 200)}")
                found.setdefault(name, status)
                if len(found) > MAX_FOLDER_ENTRIES:
                    raise LimitExceededError("the server lists more names in one folder than any honest one holds")
        return SftpListing(sorted(found.items()), own)

    async def year_of(self, path: bytes) -> int | None:
        """The year in which a file was modified, by its folder's listing; None if that does not state it."""
        folder, _, wanted = path.rpartition(b"/")
        seen = 0
        async with contextlib.aclosing(self._entries(folder or b"/")) as entries:
            async for name, status in entries:
                seen += 1
                if name == wanted or seen > MAX_FOLDER_ENTRIES:
                    return status.year if name == wanted else None
        return None

    async def _entries(self, path: bytes) -> AsyncGenerator[tuple[bytes, SftpStatus]]:
        """A folder's names as the server sends them: neither checked nor bounded."""
        listing = cast("AsyncGenerator[sftp.SFTPName]", self._client.scandir(path))
        async with contextlib.aclosing(listing):
            while True:
                try:
                    # An answer without names is no progress: there might be endless ones.
                    async with asyncio.timeout(self._timeout):
                        entry = await self._ask(path, anext(listing))
                except StopAsyncIteration:
                    return
                except TimeoutError as error:
                    raise LinkLostError(f"a folder's listing has brought nothing for {seconds_text(self._timeout)}") from error
                name = cast("bytes", entry.filename)  # as the path is
                yield name, status_of(entry.attrs, listed_year(entry.longname, name))

    async def small(self, path: bytes, seen: SftpStatus, limit: int) -> SftpSmall | None:
        """Reads a regular file of at most `limit` bytes to its end, whatever size it states; None if it is larger.

        Raises SourceReadError: `vanished` if what was opened is no regular file.
        """
        file = await self._open(path)
        first = (seen.size or limit) + 1
        try:
            opened, data = await asyncio.gather(self._opened(path, file), self.read_at(path, file, first, 0))
            if len(data) != opened.size:
                data = await self._rest(path, file, data, limit)
            is_whole = len(data) == opened.size or (
                len(data) <= limit and await self._states_no_size(path, file, opened, len(data))
            )
        finally:
            _, after = await asyncio.gather(self.close_file(path, file), self._ask(path, self._client.lstat(path)))
        if len(data) > limit:
            return None
        return SftpSmall(data, not is_whole or seen.differs(status_of(after)) or seen.differs(opened))

    async def _rest(self, path: bytes, file: Any, data: bytes, limit: int) -> bytes:
        """What a file holds besides its first bytes, up to one byte above `limit`."""
        while len(data) <= limit and (more := await self.read_at(path, file, limit + 1 - len(data), len(data))):
            data += more
        return data

    async def _states_no_size(self, path: bytes, file: Any, opened: SftpStatus, length: int) -> bool:
        """Whether a file that has more or fewer bytes than its size is one whose size means nothing, as under /proc and /sys.

        Those state 0 or one page. An ordinary file of one page that is being rewritten has a page when it is read again.
        """
        if not opened.size:
            return True
        if opened.size not in _PAGE_SIZES or length > opened.size:
            return False
        return len(await self._rest(path, file, b"", opened.size)) < opened.size

    async def open(self, path: bytes, offset: int = 0) -> SftpFile:
        """Opens a regular file, to be read from `offset` on.

        Raises SourceReadError: `vanished` if what was opened is something else.
        """
        file = await self._open(path)
        try:
            opened = await self._opened(path, file)
        except BaseException:
            await self.close_file(path, file)
            raise
        return SftpFile(self, path, file, opened, offset)

    async def _open(self, path: bytes) -> Any:
        """Opens a file. With `looks_first`, asks for its status before that.

        A FIFO that took a file's place since it was listed blocks OpenSSH's server in its open(2), and so the whole connection.
        The next connection looks first.
        """
        if self.looks_first:
            _require_file(path, await self.status(path))
        return await self._ask(path, self._client.open(path, "rb", block_size=0))

    async def _opened(self, path: bytes, file: Any) -> SftpStatus:
        return _require_file(path, status_of(await self._ask(path, file.stat())))

    async def read_at(self, path: bytes, file: Any, size: int, offset: int) -> bytes:
        """Reads at most `size` bytes from an offset on; fewer if the server sends no more at once, none at the end."""
        size = min(size, self.read_size)
        data: bytes = await self._ask(path, file.read(size, offset))
        if len(data) > size:
            raise ProtocolError("the server sent more bytes than it was asked for")
        return data

    async def close_file(self, path: bytes, file: Any) -> None:
        """Closes an open file. A failure to close it has no effect here, and is ignored."""
        with contextlib.suppress(SourceReadError):
            await self._ask(path, file.close())


def _require_file(path: bytes, status: SftpStatus) -> SftpStatus:
    if status.kind not in ("file", None):
        shown = safe_text(path, 300)
        raise SourceReadError(f"cannot read {shown}: another file has taken its place, or it was removed", vanished=True)
    return status
