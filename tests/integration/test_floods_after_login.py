"""A client who may log in, and uses what SSH allows him to fill the memory of our server, or to keep it busy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.packet import Boolean, String, UInt32

from evidencesync.ssh import asyncssh_limits
from evidencesync.ssh import server as server_module
from evidencesync.ssh.asyncssh_limits import Blocks
from evidencesync.ssh.channel import HIGH_WATER, ServedChannel
from tests.integration.test_ssh_server import running
from tests.support.patience import PATIENCE_SECONDS

IGNORE, KEXINIT, GLOBAL_REQUEST, CHANNEL_OPEN, CHANNEL_CONFIRMATION, CHANNEL_DATA, CHANNEL_REQUEST = 2, 20, 80, 90, 91, 94, 98


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
    monkeypatch.setattr(asyncssh_limits, "_HELD_BACK", 64 * 1024)

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


@pytest.mark.parametrize("logs_in", [False, True])
def test_no_stranger_is_listened_to_for_as_many_packets_as_fit_his_bytes(
    keys: Path, monkeypatch: pytest.MonkeyPatch, logs_in: bool
) -> None:
    """The smallest packet has 16 bytes, so these are some 60,000 before the login, and each costs the server time."""
    monkeypatch.setattr(asyncssh_limits, "_PROOF_PACKETS", 300)
    taken = 0

    def take(*_: object) -> bool:
        nonlocal taken
        taken += 1
        return True

    handlers = {**asyncssh.connection.SSHConnection._packet_handlers, IGNORE: take}
    monkeypatch.setattr(asyncssh.connection.SSHConnection, "_packet_handlers", handlers)

    async def flood_before_login(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        smallest = bytes([0, 0, 0, 12, 6, IGNORE]) + bytes(10)
        names = b"curve25519-sha256 ssh-ed25519 aes128-ctr aes128-ctr hmac-sha2-256 hmac-sha2-256 none none".split()
        offer = bytes([KEXINIT]) + bytes(16) + b"".join(map(String, [*names, b"", b""])) + bytes(5)
        padding = 16 - (5 + len(offer)) % 8
        offer = UInt32(len(offer) + 1 + padding) + bytes([padding]) + offer + bytes(padding)
        # While it thinks about the offer all else waits, and is then looked at in one turn.
        writer.write(b"SSH-2.0-x\r\n" + offer + smallest * 5000)
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass
        writer.close()

    async def scenario() -> None:
        async with running(keys, vouches=False, timeout_seconds=0) as embedded, asyncio.timeout(PATIENCE_SECONDS):
            if not logs_in:
                await flood_before_login(embedded.port)
                return
            async with embedded.raw() as connection:
                mine: Any = connection
                for _ in range(5000):
                    mine.send_packet(IGNORE, String(b""))
                await until_lost(connection)

    asyncio.run(scenario())
    in_one_turn = 1024  # what lies there already when it is dropped
    assert 0 < taken <= 300 + in_one_turn


def test_who_is_vouched_for_may_send_as_many_packets_as_he_likes(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncssh_limits, "_PROOF_PACKETS", 300)

    async def scenario() -> None:
        async with running(keys) as embedded, embedded.raw() as connection:
            process = await connection.create_process("serve", encoding=None)
            process.stdin.write(b"x")
            assert await process.stdout.readexactly(1) == b"x"
            mine: Any = connection
            for _ in range(2000):
                mine.send_packet(IGNORE, String(b""))
            process.stdin.write(b"y")
            assert await process.stdout.readexactly(1) == b"y"

    asyncio.run(scenario())


@pytest.mark.parametrize("rounds", [3])
def test_who_exchanges_keys_again_and_again_and_ends_each_is_served(
    keys: Path, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    """What was held back before is not counted any more."""
    monkeypatch.setattr(asyncssh_limits, "_HELD_BACK", 64 * 1024)

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
