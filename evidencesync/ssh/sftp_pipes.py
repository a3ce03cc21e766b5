"""asyncssh's SFTP client over the pipes of the user's ssh: the few things that it asks of a channel and a connection.

Nothing else of asyncssh takes part. `start_sftp_client` is handed a reader, a writer and somebody who keeps a task.
`tests/unit/ssh/test_sftp_pipes.py` holds what it uses of them: a version of asyncssh that asks for more is noticed there.
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
_HELD: Final = 2 * MIB  # of what has come and is not taken yet; above twice as much the pipe is not read
_WHY_SECONDS: Final = 2.0  # for an ssh to end, after its output has
_LOOK_SECONDS: Final = 0.02


class SftpPipes:
    """The session of a child that has logged in, in the event loop that runs. `close` in any case."""

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
        """Greets. Raises what asyncssh raises: its own errors, and OSError."""
        try:
            return await self._start_client(asyncio.get_running_loop())
        except BaseException:
            self.close()
            raise

    async def _start_client(self, loop: asyncio.AbstractEventLoop) -> sftp.SFTPClient:
        source = os.fdopen(os.dup(self._child.source), "rb", 0)
        self._incoming, _ = await loop.connect_read_pipe(lambda: _Incoming(self), source)
        self._reader.set_transport(self._incoming)  # which is held back while there is much that nobody has taken
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
        """What asyncssh asks of a connection: its answers are taken for as long as the loop runs."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def take(self, data: bytes) -> None:
        """Bytes that have come."""
        if not self.received:
            try:
                self._child.begin_hearing()
            except EvidenceSyncError as error:
                self._failure = error
                self.abort()
                return
        self.received += len(data)
        self._reader.feed_data(data)

    def finish(self) -> None:
        """No more bytes will come."""
        self._is_over = True
        self._reader.feed_eof()

    def give_up(self) -> None:
        """asyncssh listens no more: while nobody has hung up, for what the server said, also where nobody waited for it."""
        if not self._is_over and self._failure is None:
            self._failure = ProtocolError("the server breaks the SFTP protocol: it said what answers no question of ours")
        self.close()

    async def reason_for(self, lost: LinkLostError) -> EvidenceSyncError:
        """Why it is lost, as far as ssh says it."""
        until = asyncio.get_running_loop().time() + _WHY_SECONDS
        while self._failure is None and not self._child.wait(0):
            if asyncio.get_running_loop().time() > until:
                return lost
            await asyncio.sleep(_LOOK_SECONDS)
        ended = self._failure or self._child.end()
        return lost if ended is None else ended

    def abort(self) -> None:
        """Nothing more is waited for."""
        self.finish()
        self.close()

    def close(self) -> None:
        """Lets go of the pipes; what is still to be written is dropped. Repeatable."""
        self._is_over = True
        if self._incoming is not None:
            self._incoming.close()
        if self._outgoing is not None and not self._outgoing.is_closing():
            self._outgoing.abort()


class _Reader(asyncio.StreamReader):
    """What asyncssh's SFTP reads from."""

    logger = logger

    def __init__(self, server_version: str) -> None:
        super().__init__(_HELD)
        self._server_version = server_version

    def get_extra_info(self, name: str, default: object = None) -> object:
        """By this asyncssh knows servers that turn the two names of a link around. We make no links."""
        return self._server_version if name == "server_version" else default


class _Incoming(asyncio.Protocol):
    def __init__(self, pipes: SftpPipes) -> None:
        self._pipes = pipes

    def data_received(self, data: bytes) -> None:
        self._pipes.take(data)

    def eof_received(self) -> None:
        self._pipes.finish()

    def connection_lost(self, _error: Exception | None) -> None:
        self._pipes.finish()


class _Writer:
    """What asyncssh's SFTP writes to, and the channel that it asks whether it is closed."""

    def __init__(self, pipes: SftpPipes, transport: asyncio.WriteTransport) -> None:
        self.channel = self
        self._pipes = pipes
        self._transport = transport

    def write(self, data: bytes) -> None:
        self._pipes.sent += len(data)
        self._transport.write(data)

    def write_eof(self) -> None:
        self._pipes.give_up()

    def close(self) -> None:
        self._pipes.give_up()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    async def wait_closed(self) -> None:
        return
