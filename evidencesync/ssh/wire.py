"""A layer between a TCP socket and asyncssh's server: it counts bytes, and adds flow control that asyncssh lacks.

asyncssh opens its own sockets unless it gets a tunnel: an object whose `create_server` makes them. This module is such a
tunnel, with a thin protocol and transport. It counts all bytes, ciphertext included, and does three things that asyncssh leaves
out: - asyncssh ignores the transport's call to pause, so a slow link would gather a whole SSH window in memory, and a keepalive
would wait behind it for minutes. Here the call reaches the channel's writer. - asyncssh writes an ignore packet and a data
packet for each 32 KiB, each with a system call and a TCP segment of its own. Here what is written in one turn of the event loop
is joined into large writes. - asyncssh processes everything that it gets in one turn of the event loop, and copies the rest for
each packet. A client that sends thousands of small packets would block all others. Here it gets a little at a time, and only
for a moment.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from evidencesync.limits import KIB, MIB

WIRE: Final = "evidencesync-wire"  # `get_extra_info` of an asyncssh connection or channel gives its `Wire` by this name
_JOIN: Final = 128 * KIB
_PIECE: Final = 16 * KIB
_TURN_SECONDS: Final = 0.005
_SOCKET_HIGH: Final = 1 * MIB
_SOCKET_LOW: Final = 256 * KIB
# Linux and macOS: how much the kernel takes beyond what is in flight. Without it, megabytes may lie in the kernel on a slow
# link, and a keepalive behind them for minutes.
_NOTSENT_LOWAT: Final = {"linux": 25, "darwin": 0x201}.get(sys.platform)
_NOTSENT_BYTES: Final = 256 * KIB


@dataclass(frozen=True, slots=True)
class LinkProgress:
    """Bytes received, bytes that the kernel has taken, and whether more were waiting for it."""

    received: int
    taken: int
    backlog: bool

    def is_alive(self, now: LinkProgress) -> bool:
        """Whether the link has moved since: bytes arrived, or the kernel, whose buffer was full, took more.

        A kernel with room takes bytes of a dead link, too: otherwise our own keepalives would make it look alive.
        """
        return now.received != self.received or (self.backlog and now.taken != self.taken)


class Wire:
    """One TCP connection. `sent` and `received` are bytes."""

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0
        self.paused = False
        self.on_change: Callable[[], None] | None = None
        self.most_received: int | None = None
        """The most bytes that are accepted in total; None: no limit."""
        self.most_queued: int | None = None
        """A client that leaves more bytes than this unread is dropped; None: no limit."""
        self._transport: JoiningTransport | None = None

    def progress(self) -> LinkProgress:
        """Where the connection stands now."""
        queued = self._transport.queued if self._transport is not None else 0
        return LinkProgress(self.received, self.sent - queued, backlog=queued > 0)

    def attach(self, transport: asyncio.Transport) -> JoiningTransport:
        """Attaches a new connection, and returns the transport for asyncssh."""
        transport.set_write_buffer_limits(high=_SOCKET_HIGH, low=_SOCKET_LOW)
        _bound_kernel_queue(transport.get_extra_info("socket"))
        self._transport = JoiningTransport(self, transport)
        return self._transport

    def set_paused(self, paused: bool) -> None:
        """Called by the event loop when the socket's queue passes its marks."""
        self.paused = paused
        if self.on_change is not None:
            self.on_change()

    def abort(self) -> None:
        """Drops the connection at once."""
        if self._transport is not None:
            self._transport.abort()


def _bound_kernel_queue(sock: socket.socket | None) -> None:
    if sock is None or _NOTSENT_LOWAT is None or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    try:
        sock.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, _NOTSENT_BYTES)
    except OSError:
        return  # an old kernel: the link works, only a stall on it is noticed later


class JoiningTransport(asyncio.Transport):
    """The transport that asyncssh writes to: counts bytes, and joins small writes up to 128 KiB or until the event loop turns."""

    def __init__(self, wire: Wire, transport: asyncio.Transport) -> None:
        super().__init__()
        self._wire = wire
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._scheduled = False

    @property
    def queued(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self._pending_bytes + self._transport.get_write_buffer_size()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Counts and queues."""
        self._wire.sent += len(data)
        self._pending.append(bytes(data))
        self._pending_bytes += len(data)
        if self._wire.most_queued is not None and self.queued > self._wire.most_queued:
            self._pending.clear()
            self._pending_bytes = 0
            self._transport.abort()
        elif self._pending_bytes >= _JOIN:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush_scheduled)

    def _flush_scheduled(self) -> None:
        self._scheduled = False
        self.flush()

    def flush(self) -> None:
        """Hands everything to the socket."""
        if self._pending and not self._transport.is_closing():
            data = b"".join(self._pending)
            self._pending.clear()
            self._pending_bytes = 0
            self._transport.write(data)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Returns the wire under the name WIRE: asyncssh's connections pass this question on to their transport."""
        return self._wire if name == WIRE else self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Whether the socket is being closed."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Sends what is queued, then closes."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Sends what the kernel takes at once (SSH's disconnect message), and drops the rest."""
        self.flush()
        self._transport.abort()


class WireProtocol(asyncio.Protocol):
    """The protocol between the socket and asyncssh's connection. `gone` is called at its end."""

    def __init__(self, wire: Wire, inner: asyncio.Protocol, gone: Callable[[Wire], None]) -> None:
        self._wire = wire
        self._inner = inner
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._left = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream transport is needed")
        self._transport = transport
        self._inner.connection_made(self._wire.attach(transport))

    def data_received(self, data: bytes) -> None:
        """Takes bytes from the socket, up to the limit: asyncssh holds them without a bound while it processes a packet."""
        most = self._wire.most_received
        if most is not None and self._wire.received + len(data) > most:
            self._wire.abort()
            return
        self._wire.received += len(data)
        self._left += data
        self._pass_on()

    def _pass_on(self) -> None:
        """Passes bytes on to asyncssh for some milliseconds. The rest follows when all other connections have had a turn."""
        left, until = self._left, self._loop.time() + _TURN_SECONDS
        for at in range(0, len(left), _PIECE):
            if self._transport is None or self._transport.is_closing():
                break
            if at and self._loop.time() >= until:
                self._left = left[at:]
                self._transport.pause_reading()
                self._loop.call_soon(self._continue)
                return
            self._inner.data_received(left[at : at + _PIECE])
        self._left = b""

    def _continue(self) -> None:
        self._pass_on()
        if not self._left and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> bool | None:
        """The other end writes no more. Nothing is left then: while something is, the socket is not read."""
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone; a writer that waits for it must learn so."""
        self._transport, self._left = None, b""
        self._gone(self._wire)
        self._wire.set_paused(False)
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """The socket's queue is above its mark."""
        self._wire.set_paused(True)

    def resume_writing(self) -> None:
        """The socket's queue is below its mark."""
        self._wire.set_paused(False)


@dataclass(frozen=True, slots=True)
class Gate:
    """Asked whether a connection from an address may go on, before it costs anything; hears of the end of each that may."""

    admit: Callable[[Wire, str], bool] = lambda _wire, _address: True
    gone: Callable[[Wire], None] = lambda _wire: None


class WireListener:
    """The tunnel that a server gives to asyncssh: a listening socket, each connection of which has a `Wire`."""

    def __init__(self, gate: Gate = Gate()) -> None:
        self._gate = gate

    async def create_server(
        self, factory: Callable[[str, int], asyncio.Protocol], host: str, port: int
    ) -> asyncio.base_events.Server:
        """Called by asyncssh. Raises OSError where the address can't be listened on."""
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: _Arrival(lambda: factory("", 0), self._gate), host, port)

    def close(self) -> None:
        """Nothing of its own to close: asyncssh closes the server."""

    async def wait_closed(self) -> None:
        """See `close`."""


class _Arrival(asyncio.Protocol):
    """A connection that has just come, before a byte of it is read: becomes a WireProtocol, or is dropped."""

    def __init__(self, make: Callable[[], asyncio.Protocol], gate: Gate) -> None:
        self._make = make
        self._gate = gate

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream transport is needed")
        wire = Wire()
        peer = transport.get_extra_info("peername")
        if not self._gate.admit(wire, str(peer[0]) if peer else ""):
            transport.abort()
            return
        admitted = WireProtocol(wire, self._make(), self._gate.gone)
        transport.set_protocol(admitted)
        admitted.connection_made(transport)
