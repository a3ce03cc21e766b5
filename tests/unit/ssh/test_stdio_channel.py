"""`StdioChannel` over pipes of this process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from evidencesync.errors import LinkLostError
from evidencesync.ssh.stdio import StdioChannel

MIB = 1024 * 1024


@asynccontextmanager
async def two_ends() -> AsyncIterator[tuple[StdioChannel, StdioChannel]]:
    read_a, write_b = os.pipe()
    read_b, write_a = os.pipe()
    one, other = StdioChannel(read_a, write_a), StdioChannel(read_b, write_b)
    try:
        yield one, other
    finally:
        await asyncio.gather(one.close(), other.close())


def test_bytes_and_the_end_go_through_in_order() -> None:
    async def scenario() -> None:
        async with two_ends() as (one, other):
            data = os.urandom(20 * MIB + 7)

            async def send() -> None:
                for start in range(0, len(data), 777_777):
                    await one.write(data[start : start + 777_777])
                await one.write_eof()

            sender = asyncio.create_task(send())
            got = bytearray()
            while block := await other.read():
                assert len(block) <= MIB
                got += block
            await sender
            assert got == data
            assert one.wire_sent == other.wire_received == len(data)
            await other.write(b"still open the other way")
            assert await one.read() == b"still open the other way"

    asyncio.run(scenario())


def test_many_small_writes_keep_their_order() -> None:
    async def scenario() -> None:
        async with two_ends() as (one, other):
            pieces = [str(number).encode() + b"," for number in range(100_000)]

            async def send() -> None:
                for piece in pieces:
                    await one.write(piece)
                await one.write_eof()

            sender = asyncio.create_task(send())
            got = bytearray()
            while block := await other.read():
                got += block
            await sender
            assert got == b"".join(pieces)

    asyncio.run(scenario())


def test_a_writer_waits_while_nobody_reads_and_goes_on_then() -> None:
    async def scenario() -> None:
        async with two_ends() as (one, other):
            written = 0

            async def send() -> None:
                nonlocal written
                for _ in range(16):
                    await one.write(bytes(MIB))
                    written += 1
                await one.write_eof()

            sender = asyncio.create_task(send())
            await asyncio.sleep(0.1)
            assert 3 <= written <= 7
            size = 0
            while block := await other.read():
                size += len(block)
            await sender
            assert size == 16 * MIB

    asyncio.run(scenario())


def test_a_reader_that_always_has_data_lets_others_run() -> None:
    async def scenario() -> None:
        source = os.open("/dev/zero", os.O_RDONLY)
        sink = os.open(os.devnull, os.O_WRONLY)
        channel = StdioChannel(source, sink)
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        for _ in range(200):
            await channel.read()
        task.cancel()
        assert turns > 5
        await channel.close()

    asyncio.run(scenario())


def test_writing_to_an_end_that_is_gone_is_a_lost_link() -> None:
    async def scenario() -> None:
        async with two_ends() as (one, other):
            await other.close()
            assert await one.read() == b""
            with pytest.raises(LinkLostError):
                await asyncio.gather(*(one.write(b"x") for _ in range(3)))

    asyncio.run(scenario())


def test_a_waiting_writer_learns_that_the_other_end_is_gone() -> None:
    async def scenario() -> None:
        async with two_ends() as (one, other):
            writer = asyncio.create_task(one.write(bytes(8 * MIB)))
            await asyncio.sleep(0.05)
            await other.close()
            with pytest.raises(LinkLostError):
                await writer

    asyncio.run(scenario())


def test_a_closed_channel_refuses_and_can_be_closed_again() -> None:
    async def scenario() -> None:
        async with two_ends() as (one, _other):
            await one.close()
            with pytest.raises(LinkLostError):
                await one.read()
            with pytest.raises(LinkLostError):
                await one.write(b"x")

    asyncio.run(scenario())


def test_nothing_is_written_after_the_end() -> None:
    async def scenario() -> None:
        async with two_ends() as (one, _other):
            await one.write_eof()
            with pytest.raises(LinkLostError):
                await one.write(b"x")

    asyncio.run(scenario())


def test_close_sends_what_was_written() -> None:
    async def scenario() -> None:
        async with two_ends() as (one, other):
            await one.write(bytes(3 * MIB))
            closing = asyncio.create_task(one.close())
            size = 0
            while block := await other.read():
                size += len(block)
            await closing
            assert size == 3 * MIB

    asyncio.run(scenario())
