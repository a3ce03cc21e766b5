"""asyncssh's SFTP client over two pipes: that it asks nothing of them but what they have, and how their end is told."""

from __future__ import annotations

import asyncio
import inspect
import os
import struct
from collections.abc import Iterator
from typing import cast

import pytest
from asyncssh import sftp

from evidencesync.errors import EvidenceSyncError, LinkLostError, ProtocolError
from evidencesync.ssh.sftp_pipes import SftpPipes
from evidencesync.ssh.ssh_process import SshProcess

_INIT, _VERSION, _LSTAT, _ATTRS = 1, 2, 7, 105
_SIZE_AND_TIMES = 1 | 8


class Child:
    """The pipes of a child, both ends of which are here."""

    def __init__(self) -> None:
        self.source, self.gives = os.pipe()
        self.takes, self.sink = os.pipe()
        self.heard = 0
        self.lie: EvidenceSyncError | None = None
        self.reason: EvidenceSyncError | None = None
        self.has_ended = True

    def begin_receiving(self) -> None:
        self.heard += 1
        if self.lie is not None:
            raise self.lie

    def wait(self, seconds: float) -> bool:
        assert seconds == 0
        return self.has_ended

    def end(self) -> EvidenceSyncError | None:
        return self.reason

    def says(self, kind: int, body: bytes) -> None:
        os.write(self.gives, struct.pack(">IB", len(body) + 1, kind) + body)

    def hears(self) -> tuple[int, bytes]:
        (size,) = struct.unpack(">I", os.read(self.takes, 4))
        packet = os.read(self.takes, size)
        return packet[0], packet[1:]

    def hang_up(self) -> None:
        os.close(self.gives)
        self.gives = -1


@pytest.fixture
def child() -> Iterator[Child]:
    made = Child()
    yield made
    for descriptor in (made.source, made.gives, made.takes, made.sink):
        if descriptor >= 0:
            os.close(descriptor)


def pipes_of(child: Child) -> SftpPipes:
    return SftpPipes(cast("SshProcess", child), "SSH-2.0-OpenSSH_9.2p1")


def test_what_is_handed_to_asyncssh_is_what_it_takes() -> None:
    names = list(inspect.signature(sftp.start_sftp_client).parameters)
    assert names == ["conn", "loop", "utf8_decode_errors", "reader", "writer", "path_encoding", "path_errors", "sftp_version"]


def test_requests_and_answers_pass_and_are_counted(child: Child) -> None:
    child.says(_VERSION, struct.pack(">I", 3))
    child.says(_ATTRS, struct.pack(">IIQII", 0, _SIZE_AND_TIMES, 12, 34, 56))

    async def ask() -> sftp.SFTPAttrs:
        pipes = pipes_of(child)
        client = await pipes.start_client()
        attributes = await client.lstat(b"/a")
        assert (pipes.sent, pipes.received) == (9 + 15, 9 + 29)
        client.exit()
        pipes.close()
        await asyncio.sleep(0)
        return attributes

    found = asyncio.run(ask())
    assert (found.size, found.atime, found.mtime) == (12, 34, 56)
    assert child.hears() == (_INIT, struct.pack(">I", 3))
    assert child.hears() == (_LSTAT, struct.pack(">II", 0, 2) + b"/a")
    assert os.read(child.source, 0) == b""  # what is the child's was not closed
    assert child.heard == 1  # with the first bytes


@pytest.mark.parametrize("answers", [0, 1])
def test_an_end_is_a_lost_connection_whenever_it_comes(child: Child, answers: int) -> None:
    if answers:
        child.says(_VERSION, struct.pack(">I", 3))
    child.hang_up()

    async def ask() -> None:
        pipes = pipes_of(child)
        try:
            client = await pipes.start_client()
            await client.lstat(b"/a")
        finally:
            pipes.close()
            await asyncio.sleep(0)

    with pytest.raises((sftp.SFTPConnectionLost, sftp.SFTPNoConnection)):
        asyncio.run(ask())


def test_why_it_is_lost_is_what_ssh_says(child: Child) -> None:
    lost = LinkLostError("the connection was lost")

    async def reason() -> EvidenceSyncError:
        return await pipes_of(child).reason_for(lost)

    assert asyncio.run(reason()) is lost
    child.reason = LinkLostError("ssh says why")
    assert asyncio.run(reason()) is child.reason


def test_where_ssh_stays_after_the_end_nobody_waits_for_long(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a server may have it that closes one half of its channel."""
    monkeypatch.setattr("evidencesync.ssh.sftp_pipes._WHY_SECONDS", 0.05)
    child.has_ended, lost = False, LinkLostError("the connection was lost")

    async def reason() -> EvidenceSyncError:
        return await pipes_of(child).reason_for(lost)

    assert asyncio.run(reason()) is lost


def test_a_server_that_lies_about_itself_is_not_heard(child: Child) -> None:
    child.lie = ProtocolError("it lies")
    child.says(_VERSION, struct.pack(">I", 3))

    async def ask() -> EvidenceSyncError:
        pipes = pipes_of(child)
        with pytest.raises(sftp.SFTPConnectionLost):
            await pipes.start_client()
        assert pipes.received == 0
        await asyncio.sleep(0)
        return await pipes.reason_for(LinkLostError("the connection was lost"))

    assert asyncio.run(ask()) is child.lie


def test_an_answer_that_nobody_waited_for_is_no_lost_connection(child: Child) -> None:
    """Whoever is asked next finds asyncssh gone, and nobody has hung up: to connect again would change nothing."""
    child.says(_VERSION, struct.pack(">I", 3))
    child.says(_ATTRS, struct.pack(">IIQII", 77, _SIZE_AND_TIMES, 12, 34, 56))

    async def ask() -> EvidenceSyncError:
        pipes = pipes_of(child)
        client = await pipes.start_client()
        with pytest.raises((sftp.SFTPNoConnection, sftp.SFTPBadMessage)):
            while True:
                await asyncio.wait_for(client.lstat(b"/a"), 20)
        return await pipes.reason_for(LinkLostError("the connection was lost"))

    assert isinstance(asyncio.run(ask()), ProtocolError)
