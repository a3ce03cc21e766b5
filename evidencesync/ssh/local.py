"""Two ends of a channel inside one process, for a vault on this machine. No bytes are copied and no socket exists."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from evidencesync.custody.documents import SshPeer
from evidencesync.errors import LinkLostError
from evidencesync.limits import MIB
from evidencesync.ssh.channel import Channel

_CAPACITY: Final = 8 * MIB  # held in one direction; a writer above it waits


class _Pipe:
    """One direction. A single block may be larger than the capacity, so that no size of block can stop it for good."""

    def __init__(self) -> None:
        self._blocks: deque[bytes] = deque()
        self._held = 0
        self._ended = False
        self._broken = False
        self._changed = asyncio.Event()

    def _wake(self) -> None:
        self._changed.set()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def put(self, data: bytes) -> None:
        if self._broken or self._ended:
            raise LinkLostError("the other end of the local channel was closed")
        if data:
            self._blocks.append(data)
            self._held += len(data)
            self._wake()
        while self._held > _CAPACITY and not self._broken:
            await self._wait()
        if self._broken:
            raise LinkLostError("the other end of the local channel was closed")

    async def take(self) -> bytes:
        while not self._blocks:
            if self._broken:
                raise LinkLostError("the local channel was closed")
            if self._ended:
                return b""
            await self._wait()
        block = self._blocks.popleft()
        self._held -= len(block)
        self._wake()
        return block

    def end(self) -> None:
        self._ended = True
        self._wake()

    def break_off(self) -> None:
        """The reader is gone: what is held is nobody's any more, and a writer must not wait for it."""
        self._broken = True
        self._blocks.clear()
        self._held = 0
        self._wake()


class LocalChannel:
    """One end. `wire_sent` and `wire_received` stay 0: nothing touches a wire."""

    wire_sent = 0
    wire_received = 0
    peer: SshPeer | None = None

    def __init__(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    async def read(self) -> bytes:
        """See `Channel`. Returns the very object that was written."""
        return await self._incoming.take()

    async def write(self, data: bytes) -> None:
        """See `Channel`. The caller must not change `data` afterwards."""
        await self._outgoing.put(data)

    async def write_eof(self) -> None:
        """See `Channel`."""
        self._outgoing.end()

    async def close(self) -> None:
        """See `Channel`. The other end reads what was written, then the end; what it writes from now on is refused."""
        self._outgoing.end()
        self._incoming.break_off()


def channel_pair() -> tuple[Channel, Channel]:
    """Two connected ends. Make and use them in one event loop."""
    there, back = _Pipe(), _Pipe()
    return LocalChannel(there, back), LocalChannel(back, there)
