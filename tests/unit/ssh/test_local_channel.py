from __future__ import annotations

import asyncio

import pytest

from evidencesync.errors import LinkLostError
from evidencesync.ssh.local import channel_pair

MIB = 1024 * 1024


def test_the_very_object_that_was_written_is_read() -> None:
    async def scenario() -> None:
        one, other = channel_pair()
        data = bytes(1000)
        await one.write(data)
        assert await other.read() is data
        await other.write(b"back")
        assert await one.read() == b"back"
        assert (one.wire_sent, one.wire_received, one.peer) == (0, 0, None)

    asyncio.run(scenario())


def test_the_end_is_seen_after_everything_before_it_and_stays() -> None:
    async def scenario() -> None:
        one, other = channel_pair()
        await one.write(b"a")
        await one.write_eof()
        assert [await other.read() for _ in range(3)] == [b"a", b"", b""]
        await other.write(b"b")
        assert await one.read() == b"b"

    asyncio.run(scenario())


def test_a_writer_waits_above_eight_mib_and_goes_on_when_they_are_read() -> None:
    async def scenario() -> None:
        one, other = channel_pair()
        written = 0

        async def send() -> None:
            nonlocal written
            for _ in range(32):
                await one.write(bytes(MIB))
                written += 1
            await one.write_eof()

        sender = asyncio.create_task(send())
        await asyncio.sleep(0.01)
        assert written == 8
        size = 0
        while block := await other.read():
            size += len(block)
        await sender
        assert size == 32 * MIB

    asyncio.run(scenario())


def test_a_block_larger_than_the_capacity_passes() -> None:
    async def scenario() -> None:
        one, other = channel_pair()
        writer = asyncio.create_task(one.write(bytes(20 * MIB)))
        assert len(await other.read()) == 20 * MIB
        await writer

    asyncio.run(scenario())


def test_closing_gives_the_other_end_what_was_written_and_then_the_end() -> None:
    async def scenario() -> None:
        one, other = channel_pair()
        await one.write(b"last")
        await one.close()
        await one.close()
        assert await other.read() == b"last"
        assert await other.read() == b""
        with pytest.raises(LinkLostError):
            await other.write(b"x")
        with pytest.raises(LinkLostError):
            await one.read()
        with pytest.raises(LinkLostError):
            await one.write(b"x")

    asyncio.run(scenario())


def test_a_waiting_writer_and_a_waiting_reader_learn_of_a_close() -> None:
    async def scenario() -> None:
        one, other = channel_pair()
        writer = asyncio.create_task(one.write(bytes(9 * MIB)))
        reader = asyncio.create_task(one.read())
        await asyncio.sleep(0)
        await other.close()
        with pytest.raises(LinkLostError):
            await writer
        assert await reader == b""

    asyncio.run(scenario())
