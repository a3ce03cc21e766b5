from __future__ import annotations

import asyncio
from contextlib import suppress

from evidencesync.ssh.wire import WIRE, Gate, Progress, Wire, WireConnector, WireListener


class Collector(asyncio.Protocol):
    """What asyncssh is to the wire."""

    def __init__(self) -> None:
        self.data = b""
        self.transport: asyncio.BaseTransport | None = None
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


def test_writes_keep_their_order_and_both_ends_count_alike() -> None:
    async def scenario() -> None:
        served = Collector()
        server = await WireListener().create_server(lambda _host, _port: served, "127.0.0.1", 0)
        connector = WireConnector(family=0, local_address=None, proxy_command=(), timeout_seconds=5)
        port = server.sockets[0].getsockname()[1]
        _, client = await connector.create_connection(Collector, "127.0.0.1", port)
        assert isinstance(client, Collector)
        transport = client.transport
        assert isinstance(transport, asyncio.Transport)
        assert transport.get_extra_info(WIRE) is connector.wire
        expected = b""
        for number in range(2000):
            piece = bytes([number % 256]) * (number % 300)
            expected += piece
            transport.write(piece)
        assert connector.wire.sent == len(expected)
        transport.close()
        await asyncio.wait_for(served.lost.wait(), 5)
        assert served.data == expected
        assert served.transport is not None
        wire = served.transport.get_extra_info(WIRE)
        assert wire.received == len(expected)
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
    quiet = Progress(received=10, taken=100, backlog=False)
    full = Progress(received=10, taken=100, backlog=True)
    assert quiet.is_alive(Progress(11, 100, backlog=False))
    assert full.is_alive(Progress(10, 101, backlog=True))
    assert not full.is_alive(Progress(10, 100, backlog=True))
    assert not quiet.is_alive(Progress(10, 150, backlog=False))  # our own keepalive
