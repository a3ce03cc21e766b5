"""One direction of a slow, far line, as `tests.support.proxy` uses it twice for each connection.

What is modelled: a sender's queue of bounded size, a rate at which it drains (a bucket that holds nothing: no bursts above the
rate), and after it a way that takes a time, with any number of bytes on it at once. What is not: loss, reordering, and the slow
start of TCP, which a real line adds and which is the same for everybody who uses one connection.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

Direction = Literal["up", "down"]
"""`up` is from the client, who connects, to the server."""

_LEAST_BLOCK: Final = 1460
_LARGEST_BLOCK: Final = 256 << 10
_BLOCK_SECONDS: Final = 0.005  # a block takes the line for so long at most, so that small messages are not held up by large ones


@dataclass(frozen=True, slots=True)
class NetworkLine:
    """`round_trip` in seconds, `rate` in bytes a second each way (None: as fast as it goes), bounds in bytes."""

    round_trip: float = 0.0
    rate: int | None = None
    queue_bytes: int = 256 << 10
    """What waits for its turn at most: a router's buffer. Above it, nothing is read, and the writer has to wait."""
    way_bytes: int = 16 << 20
    """What is on the way and not yet taken by the other end at most, for lines without a rate."""

    @property
    def block(self) -> int:
        """How much is read at once."""
        if self.rate is None:
            return _LARGEST_BLOCK
        return min(max(int(self.rate * _BLOCK_SECONDS), _LEAST_BLOCK), _LARGEST_BLOCK)


class Flow:
    """Carries bytes from one socket to another, late and in order. `moved` counts what the target's socket has taken."""

    def __init__(self, line: NetworkLine, gate: asyncio.Event, note: Callable[[int], None]) -> None:
        self.moved = 0
        self.stop_after: int | None = None
        self.on_stop: Callable[[], None] = lambda: None
        self._line = line
        self._gate = gate
        self._note = note
        self._loop = asyncio.get_running_loop()
        self._way: deque[tuple[float, bytes]] = deque()
        self._way_bytes = 0
        self._free_at = 0.0
        self._changed = asyncio.Event()

    async def take(self, source: socket.socket) -> None:
        """Reads `source` to its end, no faster than the line takes it."""
        while True:
            await self._wait_for_room()
            data = await self._loop.sock_recv(source, self._line.block)
            now = self._loop.time()
            if self._line.rate is not None:
                self._free_at = max(self._free_at, now) + len(data) / self._line.rate
            self._way.append((max(self._free_at, now) + self._line.round_trip / 2, data))
            self._way_bytes += len(data)
            self._changed.set()
            if not data:
                return

    async def _wait_for_room(self) -> None:
        if self._line.rate is not None:
            ahead = self._free_at - self._loop.time() - self._line.queue_bytes / self._line.rate
            if ahead > 0:
                await asyncio.sleep(ahead)
        while self._way_bytes >= self._line.way_bytes:
            self._changed.clear()
            await self._changed.wait()

    async def give(self, target: socket.socket) -> None:
        """Writes to `target` what has arrived, and at the end says so; the other direction stays open."""
        while True:
            while not self._way:
                self._changed.clear()
                await self._changed.wait()
            due, data = self._way[0]
            await asyncio.sleep(max(due - self._loop.time(), 0))
            await self._gate.wait()
            if not data:
                target.shutdown(socket.SHUT_WR)
                return
            await self._write(target, data)
            self._way.popleft()
            self._way_bytes -= len(data)
            self._changed.set()

    async def _write(self, target: socket.socket, data: bytes) -> None:
        stop = self.stop_after
        if stop is not None and self.moved + len(data) >= stop:
            first = data[: stop - self.moved]
            await self._send(target, first)
            self.stop_after = None
            self.on_stop()
            await self._gate.wait()
            data = data[len(first) :]
        await self._send(target, data)

    async def _send(self, target: socket.socket, data: bytes) -> None:
        if data:
            await self._loop.sock_sendall(target, data)
            self.moved += len(data)
            self._note(len(data))
