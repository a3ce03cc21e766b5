"""A client who may log in, and uses what SSH allows him to fill the memory of our server, or to keep it busy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.packet import Boolean, String, UInt32

from evidencesync.ssh import narrowing
from evidencesync.ssh import server as server_module
from evidencesync.ssh.channel import HIGH_WATER, ServedChannel
from evidencesync.ssh.narrowing import Blocks
from tests.integration.test_ssh_server import running
from tests.support.patience import PATIENCE_SECONDS

KEXINIT, GLOBAL_REQUEST, CHANNEL_OPEN, CHANNEL_CONFIRMATION, CHANNEL_DATA, CHANNEL_REQUEST = 20, 80, 90, 91, 94, 98


@pytest.fixture
def keys(tmp_path: Path, keygen: Callable[..., Path]) -> Path:
    keygen(tmp_path / "user")
    (tmp_path / "authorized_keys").write_bytes((tmp_path / "user.pub").read_bytes())
    return tmp_path


def ignore(connection: Any, kind: int) -> None:
    """The client does not hear what the server says by packets of this kind, and so finds no fault with it."""
    connection._packet_handlers = {**connection._packet_handlers, kind: lambda *_: True}


async def until_lost(connection: asyncssh.SSHClientConnection) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        await connection.wait_closed()


def test_who_never_ends_an_exchange_of_keys_and_goes_on_asking_is_dropped(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrowing, "_HELD_BACK", 64 * 1024)

    async def scenario() -> None:
        async with running(keys, timeout_seconds=0) as embedded, embedded.raw() as connection:
            process = await connection.create_process("serve", encoding=None)
            process.stdin.write(b"x")
            assert await process.stdout.read(1) == b"x"
            mine: Any = connection
            ignore(connection, KEXINIT)
            mine.send_packet(KEXINIT, mine._client_kexinit[1:])
            for _ in range(1000):
                mine.send_packet(CHANNEL_OPEN, String(b"session"), UInt32(7), UInt32(1), UInt32(32768))
            await until_lost(connection)

    asyncio.run(scenario())


@pytest.mark.parametrize("rounds", [3])
def test_who_exchanges_keys_again_and_again_and_ends_each_is_served(
    keys: Path, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    """What was held back before is not counted any more."""
    monkeypatch.setattr(narrowing, "_HELD_BACK", 64 * 1024)

    async def scenario() -> None:
        async with running(keys) as embedded, embedded.raw() as connection:
            process = await connection.create_process("serve", encoding=None)
            mine: Any = connection
            for _ in range(rounds):
                mine._send_kexinit()
                mine._kexinit_sent = True
                process.stdin.write(b"x" * 40_000)
                assert await process.stdout.readexactly(40_000) == b"x" * 40_000

    asyncio.run(scenario())


def test_no_request_for_a_forwarding_waits_for_a_turn(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ask(_: object, host: str, port: int) -> bool:
        asked.append(host)
        return False

    monkeypatch.setattr(server_module._Login, "server_requested", ask)

    async def scenario() -> None:
        async with running(keys) as embedded, embedded.raw() as connection:
            process = await connection.create_process("serve", encoding=None)
            mine: Any = connection
            for _ in range(1000):
                mine.send_packet(GLOBAL_REQUEST, String(b"tcpip-forward"), Boolean(value=False), String(b"127.0.0.1"), UInt32(0))
            process.stdin.write(b"x")
            assert await process.stdout.read(1) == b"x"

    asyncio.run(scenario())
    assert asked == []


REQUESTS = {
    "shell": b"",
    "subsystem": String(b"sftp"),
    "env": String(b"LD_PRELOAD") + String(b"x"),
    "pty-req": String(b"xterm") + UInt32(1) * 4 + String(b"\0"),
    "x11-req": Boolean(value=False) + String(b"MIT-MAGIC-COOKIE-1") + String(b"00" * 16) + UInt32(0),
    "auth-agent-req@openssh.com": b"",
    "signal": String(b"KILL"),
    "window-change": UInt32(1) * 4,
    "break": UInt32(1),
    "nonsense": b"\xff",
}


@pytest.mark.parametrize("name", REQUESTS)
def test_no_request_of_a_session_is_granted_and_none_waits_for_a_turn(keys: Path, name: str) -> None:
    waiting = []

    async def serve(channel: ServedChannel, who: str) -> None:
        while block := await channel.read():
            waiting.append(len(channel._chan._request_queue))  # type: ignore[attr-defined]
            await channel.write(block)

    async def scenario() -> None:
        async with running(keys, serve) as embedded, embedded.raw() as connection:
            process = await connection.create_process("serve", encoding=None)
            chan: Any = process.channel
            for _ in range(100):
                chan.send_packet(CHANNEL_REQUEST, String(name), Boolean(value=False), REQUESTS[name])
            process.stdin.write(b"x")
            assert await process.stdout.read(1) == b"x"
            assert await chan._make_request(name.encode(), REQUESTS[name]) is False

    asyncio.run(scenario())
    assert waiting == [0]


def test_a_session_that_does_not_read_keeps_small_packets_as_if_they_were_large(keys: Path) -> None:
    """10,000 packets of two bytes behind a full buffer: they are a few blocks, in order, and taken one by one."""
    kept: list[int] = []
    first, small, count = HIGH_WATER + 1, b"ab", 10_000

    async def serve(channel: ServedChannel, who: str) -> None:
        mine: Any = channel
        async with asyncio.timeout(PATIENCE_SECONDS):
            while mine._held + sum(map(len, _waiting(mine))) < first + count * len(small):  # noqa: ASYNC110 - asyncssh tells nobody
                await asyncio.sleep(0.01)
        kept.append(len(mine._chan._recv_buf))
        size, last = 0, b""
        while size < first + count * len(small):
            last = await channel.read()
            size += len(last)
        assert last.endswith(small * 100)
        await channel.write(b"read")

    async def scenario() -> None:
        async with running(keys, serve) as embedded, embedded.raw() as connection:
            process = await connection.create_process("serve", encoding=None)
            chan: Any = process.channel
            process.stdin.write(b"x" * first)
            for _ in range(count):
                chan.send_packet(CHANNEL_DATA, String(small))
            assert await process.stdout.read(4) == b"read"

    asyncio.run(scenario())
    assert kept[0] < 100


def _waiting(stream: Any) -> list[bytes]:
    blocks = stream._chan._recv_buf._blocks._blocks
    return list(blocks)


def test_small_blocks_are_joined_and_stay_in_order() -> None:
    blocks, whole = Blocks(), bytearray()
    for number in range(30_000):
        data = bytes([number % 251]) * (1 if number % 1000 else 5000)
        blocks.append(data)
        whole += data
    assert len(blocks) < 100
    assert blocks.first_size() == 5000
    assert b"".join(blocks.take() for _ in range(len(blocks))) == whole
    assert blocks.first_size() == 0


def test_a_client_who_wants_to_hear_in_crumbs_is_dropped(keys: Path) -> None:
    async def scenario() -> None:
        async with running(keys, timeout_seconds=0) as embedded, embedded.raw() as connection:
            mine: Any = connection
            ignore(connection, CHANNEL_CONFIRMATION)
            mine.send_packet(CHANNEL_OPEN, String(b"session"), UInt32(0), UInt32(1 << 30), UInt32(64))
            await until_lost(connection)

    asyncio.run(scenario())
