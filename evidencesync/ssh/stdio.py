"""The serving end of a connection that sshd made: bytes over standard input and output."""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
import sys
from collections import deque
from typing import Final

from evidencesync.custody.documents import SshPeer
from evidencesync.errors import LinkLostError
from evidencesync.limits import KIB, MIB
from evidencesync.ssh.channel import HIGH_WATER, LOW_WATER, MAX_BLOCK

_CLOSE_SECONDS: Final = 5.0
_LEAST_READ: Final = 64 * KIB  # what a pipe holds by default
_TURN_BYTES: Final = 1 * MIB  # after this much without a wait, others get a turn
_WRITEV: Final = 64  # blocks in one call


class StdioChannel:
    """A `Channel` over two file descriptors, without threads: both are read and written when they are ready.

    `wire_sent` and `wire_received` are the bytes of the stream itself; the ciphertext is sshd's business.
    """

    peer: SshPeer | None = None

    def __init__(self, source: int, sink: int) -> None:
        """Takes over both descriptors. Make it in the event loop that uses it."""
        self.wire_sent = 0
        self.wire_received = 0
        self._loop = asyncio.get_running_loop()
        self._source = source
        self._sink = sink
        self._read_size = max(_LEAST_READ, _enlarge(source))
        _enlarge(sink)
        self._unread_turn = 0
        self._queue: deque[memoryview] = deque()
        self._queued = 0
        self._drained = asyncio.Event()
        self._drained.set()
        self._waiting = False
        self._ending = False
        self._failure: LinkLostError | None = None
        os.set_blocking(source, False)
        os.set_blocking(sink, False)

    async def read(self) -> bytes:
        """See `Channel`."""
        if self._source < 0:
            raise LinkLostError("the channel was closed")
        while True:
            try:
                block = os.read(self._source, self._read_size)
            except BlockingIOError:
                self._unread_turn = 0
                await self._wait_readable()
                continue
            except OSError as error:
                raise LinkLostError(f"standard input broke: {error.strerror}") from error
            self.wire_received += len(block)
            self._unread_turn += len(block)
            if self._unread_turn >= _TURN_BYTES:
                self._unread_turn = 0
                await asyncio.sleep(0)
            return block

    async def write(self, data: bytes) -> None:
        """See `Channel`."""
        self._check_writable()
        if data:
            self._queue.append(memoryview(data))
            self._queued += len(data)
            if not self._waiting:
                self._flush()
        while self._queued > HIGH_WATER:
            await self._wait_drained()

    async def write_eof(self) -> None:
        """See `Channel`. Waits until everything is with sshd."""
        self._check_writable()
        self._ending = True
        while self._queue:
            await self._wait_drained()
        self._close_sink()

    async def close(self) -> None:
        """See `Channel`."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                while self._queue and self._failure is None:
                    await self._wait_drained()
        except (TimeoutError, LinkLostError):
            self._queue.clear()  # the other end takes nothing more; whoever wrote it learns so from the other end's silence
        self._queued = 0
        self._close_sink()
        if self._source >= 0:
            self._loop.remove_reader(self._source)
            os.close(self._source)
            self._source = -1

    def _check_writable(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._sink < 0 or self._ending:
            raise LinkLostError("the channel was closed for writing")

    async def _wait_readable(self) -> None:
        ready = self._loop.create_future()
        self._loop.add_reader(self._source, _resolve, ready)
        try:
            await ready
        finally:
            if self._source >= 0:
                self._loop.remove_reader(self._source)

    async def _wait_drained(self) -> None:
        self._drained.clear()
        await self._drained.wait()
        if self._failure is not None:
            raise self._failure

    def _flush(self) -> None:
        """Writes what the descriptor takes; the event loop calls again when it takes more."""
        try:
            while self._queue:
                self._drop(os.writev(self._sink, [self._queue[i] for i in range(min(len(self._queue), _WRITEV))]))
        except BlockingIOError:
            if not self._waiting:
                self._waiting = True
                self._loop.add_writer(self._sink, self._flush)
        except OSError as error:
            self._failure = LinkLostError(f"the other end takes nothing more: {error.strerror}")
            self._queue.clear()
            self._queued = 0
        if not self._queue and self._waiting:
            self._waiting = False
            self._loop.remove_writer(self._sink)
        if self._queued <= LOW_WATER or not self._queue:
            self._drained.set()

    def _drop(self, written: int) -> None:
        self.wire_sent += written
        self._queued -= written
        while written:
            first = self._queue[0]
            if written < len(first):
                self._queue[0] = first[written:]
                return
            written -= len(first)
            self._queue.popleft()

    def _close_sink(self) -> None:
        if self._sink >= 0:
            if self._waiting:
                self._waiting = False
                self._loop.remove_writer(self._sink)
            os.close(self._sink)
            self._sink = -1


def open_stdio() -> StdioChannel:
    """Takes standard input and output for the protocol. From now on, `print` and every child write to stderr.

    A stray line on standard output would break the stream; it is moved out of reach instead of being forbidden.
    """
    sys.stdout.flush()
    source, sink = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    return StdioChannel(source, sink)


def _enlarge(descriptor: int) -> int:
    """Makes a pipe hold 1 MiB where the system lets it (Linux); how much it holds then, 0 for anything that is no pipe."""
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode) or not hasattr(fcntl, "F_SETPIPE_SZ"):
        return 0
    try:
        return fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, MAX_BLOCK)
    except OSError:
        return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
