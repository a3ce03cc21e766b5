from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from evidencesync.ssh import wire as wire_module
from evidencesync.ssh.wire import WIRE, Gate, LinkProgress, Wire, WireListener, WireProtocol
from tests.support.patience import PATIENCE_SECONDS


class Collector(asyncio.Protocol):
    """What asyncssh is to the wire."""

    def __init__(self) -> None:
        self.data = b""
        self.transport: asyncio.BaseTransport | None = None
        self.came = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.came.set()


def test_writes_keep_their_order_and_what_passes_is_counted() -> None:
    async def scenario() -> None:
        served = Collector()
        server = await WireListener().create_server(lambda _host, _port: served, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"first")
        await asyncio.wait_for(served.came.wait(), PATIENCE_SECONDS)
        transport = served.transport
        assert isinstance(transport, asyncio.Transport)
        expected = b""
        for number in range(2000):
            piece = bytes([number % 256]) * (number % 300)
            expected += piece
            transport.write(piece)
        wire = transport.get_extra_info(WIRE)
        assert (wire.sent, wire.received) == (len(expected), len(b"first"))
        transport.close()
        assert await asyncio.wait_for(reader.read(), PATIENCE_SECONDS) == expected
        writer.close()
        server.close()
        await server.wait_closed()

    asyncio.run(scenario())


def test_a_connection_that_is_not_admitted_is_dropped() -> None:
    async def scenario() -> None:
        server = await WireListener(Gate(admit=lambda _wire, _address: False)).create_server(
            lambda _host, _port: Collector(), "127.0.0.1", 0
        )
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        server.close()
        await server.wait_closed()

    asyncio.run(scenario())


class _Taken(asyncio.Protocol):
    """What came out behind the wire; it says `answer` at once, and ends."""

    def __init__(self, answer: bytes = b"") -> None:
        self.answer = answer
        self.data = b""
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self.answer)

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()


def _behind_the_wire(inner: _Taken, *, received: int | None, queued: int | None, sends: bytes) -> None:
    """A client that sends this, takes nothing, and does not hang up: returns when it was dropped."""

    def admit(wire: Wire, _address: str) -> bool:
        wire.most_received, wire.most_queued = received, queued
        return True

    async def scenario() -> None:
        server = await WireListener(Gate(admit)).create_server(lambda _host, _port: inner, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), limit=1)
        writer.write(sends)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await inner.ended.wait()
        writer.close()
        server.close()
        await server.wait_closed()

    asyncio.run(scenario())


def test_who_sends_more_than_he_may_before_he_is_known_is_dropped_and_nothing_of_it_is_held() -> None:
    inner = _Taken()
    _behind_the_wire(inner, received=100_000, queued=None, sends=bytes(3_000_000))
    assert len(inner.data) <= 100_000


def test_who_takes_nothing_of_all_that_is_said_to_him_is_dropped() -> None:
    _behind_the_wire(_Taken(bytes(100_000_000)), received=None, queued=30_000_000, sends=b"x")


def test_a_full_socket_pauses_the_writer_and_tells_it_when_there_is_room() -> None:
    async def scenario() -> None:
        changes: list[bool] = []
        wire = Wire()
        wire.on_change = lambda: changes.append(wire.paused)
        wire.set_paused(True)
        wire.set_paused(False)
        assert changes == [True, False]

    asyncio.run(scenario())


def test_a_link_lives_when_something_came_or_a_full_kernel_took_more() -> None:
    quiet = LinkProgress(received=10, taken=100, backlog=False)
    full = LinkProgress(received=10, taken=100, backlog=True)
    assert quiet.is_alive(LinkProgress(11, 100, backlog=False))
    assert full.is_alive(LinkProgress(10, 101, backlog=True))
    assert not full.is_alive(LinkProgress(10, 100, backlog=True))
    assert not quiet.is_alive(LinkProgress(10, 150, backlog=False))  # our own keepalive


class _Socket(asyncio.Transport):
    """A socket as far as reading from it goes."""

    def __init__(self) -> None:
        super().__init__()
        self.is_read = True
        self.is_lost = False

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def is_closing(self) -> bool:
        return self.is_lost

    def abort(self) -> None:
        self.is_lost = True


def test_who_sends_much_at_once_leaves_a_turn_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where to look at what came takes its time: little of it is given, the others have their turn, and so on until the end."""
    monkeypatch.setattr(wire_module, "_TURN_SECONDS", 0.0)
    sent = bytes(range(256)) * 4096

    async def scenario() -> None:
        served, socket = Collector(), _Socket()
        protocol = WireProtocol(Wire(), served, lambda _: None)
        protocol.connection_made(socket)
        protocol.data_received(sent)
        turns = 0
        while served.data != sent:
            assert not socket.is_read
            assert len(served.data) <= (turns + 1) * 32 * 1024
            await asyncio.sleep(0)  # a turn of somebody else
            turns += 1
        await asyncio.sleep(0)
        assert socket.is_read
        assert turns >= 32
        protocol.data_received(b"more")
        assert served.data == sent + b"more"

    asyncio.run(scenario())


def test_nothing_is_given_of_what_is_left_when_the_connection_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_module, "_TURN_SECONDS", 0.0)

    async def scenario() -> None:
        served, socket, wire = Collector(), _Socket(), Wire()
        protocol = WireProtocol(wire, served, lambda _: None)
        protocol.connection_made(socket)
        protocol.data_received(bytes(1 << 20))
        given = len(served.data)
        wire.abort()
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(served.data) == given
        assert not socket.is_read

    asyncio.run(scenario())
