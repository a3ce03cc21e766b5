"""Runs asyncssh's SFTP client over the pipes of the user's ssh, by objects with the few methods that it uses of a connection.

Nothing else of asyncssh takes part. `start_sftp_client` gets a reader, a writer and an object that keeps a task.
`tests/unit/ssh/test_sftp_pipes.py` tests which methods it uses: a version of asyncssh that uses more fails there.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any, Final, cast

import asyncssh
from asyncssh import sftp
from asyncssh.logging import logger

from evidencesync.errors import EvidenceSyncError, LinkLostError, ProtocolError
from evidencesync.limits import MIB
from evidencesync.ssh.ssh_process import SshProcess

_VERSION: Final = 3  # what OpenSSH speaks
_HELD: Final = 2 * MIB  # of received and unread bytes; above twice as much the pipe is not read
_WHY_SECONDS: Final = 2.0  # for ssh to exit after its output has ended
_LOOK_SECONDS: Final = 0.02


class SftpPipes:
    """The SFTP session of an ssh process that has logged in, in the running event loop. `close` in any case."""

    def __init__(self, child: SshProcess, server_version: str) -> None:
        self.sent = 0
        self.received = 0
        self._child = child
        self._failure: EvidenceSyncError | None = None
        self._is_over = False  # the server, or we, have ended it
        self._reader = _Reader(server_version)
        self._incoming: asyncio.ReadTransport | None = None
        self._outgoing: asyncio.WriteTransport | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start_client(self) -> sftp.SFTPClient:
        """Starts SFTP. Raises what asyncssh raises: its own errors, and OSError."""
        try:
            return await self._start_client(asyncio.get_running_loop())
        except BaseException:
            self.close()
            raise

    async def _start_client(self, loop: asyncio.AbstractEventLoop) -> sftp.SFTPClient:
        source = os.fdopen(os.dup(self._child.source), "rb", 0)
        self._incoming, _ = await loop.connect_read_pipe(lambda: _Incoming(self), source)
        self._reader.set_transport(self._incoming)  # it is paused while much is unread
        sink = os.fdopen(os.dup(self._child.sink), "wb", 0)
        self._outgoing, _ = await loop.connect_write_pipe(asyncio.Protocol, sink)
        return await sftp.start_sftp_client(
            cast("asyncssh.SSHClientConnection", self),
            loop,
            "backslashreplace",
            cast("asyncssh.SSHReader[bytes]", self._reader),
            cast("asyncssh.SSHWriter[bytes]", _Writer(self, self._outgoing)),
            None,  # paths are bytes
            "strict",
            _VERSION,
        )

    def create_task(self, work: Coroutine[Any, Any, None], _logger: object = None) -> asyncio.Task[None]:
        """Called by asyncssh, as a connection's method: runs a task for as long as the loop runs."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def receive(self, data: bytes) -> None:
        """Passes received bytes on to asyncssh."""
        if not self.received:
            try:
                self._child.begin_receiving()
            except EvidenceSyncError as error:
                self._failure = error
                self.abort()
                return
        self.received += len(data)
        self._reader.feed_data(data)

    def finish(self) -> None:
        """Notes the end of what the server sends."""
        self._is_over = True
        self._reader.feed_eof()

    def end_session(self) -> None:
        """Called when asyncssh closes the session. If neither side has ended it, the server has violated the protocol."""
        if not self._is_over and self._failure is None:
            self._failure = ProtocolError("the server breaks the SFTP protocol: it sent an answer without a request")
        self.close()

    async def reason_for(self, lost: LinkLostError) -> EvidenceSyncError:
        """The reason for a lost connection, if ssh gives one; else `lost` itself."""
        until = asyncio.get_running_loop().time() + _WHY_SECONDS
        while self._failure is None and not self._child.wait(0):
            if asyncio.get_running_loop().time() > until:
                return lost
            await asyncio.sleep(_LOOK_SECONDS)
        ended = self._failure or self._child.end()
        return lost if ended is None else ended

    def abort(self) -> None:
        """Ends the session at once."""
        self.finish()
        self.close()

    def close(self) -> None:
        """Closes the pipes, and drops unsent bytes. Repeatable."""
        self._is_over = True
        if self._incoming is not None:
            self._incoming.close()
        if self._outgoing is not None and not self._outgoing.is_closing():
            self._outgoing.abort()


class _Reader(asyncio.StreamReader):
    """The reader that asyncssh's SFTP client uses."""

    logger = logger

    def __init__(self, server_version: str) -> None:
        super().__init__(_HELD)
        self._server_version = server_version

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Returns the server's version: asyncssh asks for it because some servers swap the names of a link. We make no links."""
        return self._server_version if name == "server_version" else default


class _Incoming(asyncio.Protocol):
    def __init__(self, pipes: SftpPipes) -> None:
        self._pipes = pipes

    def data_received(self, data: bytes) -> None:
        self._pipes.receive(data)

    def eof_received(self) -> None:
        self._pipes.finish()

    def connection_lost(self, _error: Exception | None) -> None:
        self._pipes.finish()


class _Writer:
    """The writer and the channel that asyncssh's SFTP client uses."""

    def __init__(self, pipes: SftpPipes, transport: asyncio.WriteTransport) -> None:
        self.channel = self
        self._pipes = pipes
        self._transport = transport

    def write(self, data: bytes) -> None:
        self._pipes.sent += len(data)
        self._transport.write(data)

    def write_eof(self) -> None:
        self._pipes.end_session()

    def close(self) -> None:
        self._pipes.end_session()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    async def wait_closed(self) -> None:
        return
