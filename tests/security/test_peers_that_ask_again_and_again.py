"""A peer that asks many times for the same, or floods with messages that say nothing: what that takes in memory is bounded."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from queue import SimpleQueue

import pytest

from evidencesync.acquire import remote_source
from evidencesync.connection import writer as writer_module
from evidencesync.connection.inbox import Inbox
from evidencesync.connection.link import LocalLink, local_pair
from evidencesync.connection.progress import Progress
from evidencesync.connection.writer import BufferedWriter
from evidencesync.custody.documents import SshPeer
from evidencesync.errors import EvidenceSyncError, LinkLostError
from evidencesync.protocol.framing import DATA_FRAME, FrameDecoder, decode_message, frame_of
from evidencesync.protocol.messages import PREAMBLE, Alive, ChunkData, Files, Message, Need, SegmentData, Want
from evidencesync.protocol.packing import pack_bits
from evidencesync.serve.source_server import serve_source
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.hostile_vault import MadeUpVault, push_to
from tests.support.patience import PATIENCE_SECONDS
from tests.support.pulling import pull_from

MIB = 1 << 20
MOST = 2 * MIB
TIMES = 40
LARGEST_ANSWER = 5 * MIB


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = make_bench(tmp_path)
    (made.source / "image").write_bytes(os.urandom(4 * MIB))
    for number in range(30):
        (made.source / f"small {number}").write_bytes(os.urandom(100_000))
    return made


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes have waited to be written, each time that there were more."""
    found: list[int] = []
    put = BufferedWriter.put

    def counted(self: BufferedWriter, frames: list[bytes]) -> None:
        put(self, frames)
        found.append(self._waiting_bytes)

    monkeypatch.setattr(writer_module, "_MOST_WAITING", MOST)
    monkeypatch.setattr(BufferedWriter, "put", counted)
    return found


def all_of(message: SegmentData | Files) -> Message:
    """Asks for all of what was just sent."""
    if isinstance(message, Files):
        return Want(message.page, message.count, pack_bits([True] * message.count))
    rows = len(message.lengths) // 4
    return Need(message.segment, rows, pack_bits([True] * rows), b"")


@pytest.mark.parametrize("kind", [SegmentData, Files])
def test_a_vault_that_asks_for_the_same_again_and_again_waits_for_what_it_has_asked_for(
    bench: Bench, waiting: list[int], kind: type[SegmentData | Files]
) -> None:
    def script(vault: MadeUpVault) -> None:
        vault.ready()
        sent = vault.hear(kind)
        assert isinstance(sent, SegmentData | Files)
        vault.say(*[all_of(sent)] * TIMES)
        for _ in range(TIMES):
            vault.hear(ChunkData if kind is SegmentData else Files)
        vault.link.close()

    with pytest.raises(LinkLostError):
        push_to(bench, script)
    assert MOST < max(waiting) < MOST + LARGEST_ANSWER


class AskingAgain:
    """The source's end of a link, on which everything that was sent is asked for many times more."""

    peer: SshPeer | None = None
    wire_sent = wire_received = 0

    def __init__(self, link: LocalLink) -> None:
        self._link = link
        self._frames = FrameDecoder()
        self._asked: SimpleQueue[bytes] = SimpleQueue()  # one thread writes, another one reads

    def read(self) -> bytes:
        said = self._link.read()
        while not self._asked.empty():
            said += self._asked.get()
        return said

    def write(self, data: bytes) -> None:
        for number, body in self._frames.update(data):
            if number != DATA_FRAME and isinstance(message := decode_message(number, body), SegmentData):
                self._asked.put(frame_of(all_of(message)) * TIMES)
        self._link.write(data)

    def close(self) -> None:
        self._link.close()


def test_a_source_that_is_asked_for_the_same_again_and_again_keeps_little_of_it(bench: Bench, waiting: list[int]) -> None:
    over = threading.Event()

    def far_end(link: LocalLink) -> None:
        try:
            serve_source(AskingAgain(link), os.fsencode(bench.source))
        except EvidenceSyncError:
            over.set()

    with pytest.raises(EvidenceSyncError):
        pull_from(bench, far_end)
    assert over.wait(PATIENCE_SECONDS)
    assert MOST < max(waiting) < MOST + LARGEST_ANSWER


def test_messages_without_a_word_count_as_what_they_take_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million of them would fit where 16 MiB are waited for otherwise, and take hundreds of megabytes."""
    sizes: list[int] = []
    heard = threading.Event()

    def put_local(_self: object, items: list[object], size: int) -> None:
        sizes.append(size // len(items))
        heard.set()

    monkeypatch.setattr(Inbox, "put_local", put_local)
    ours, theirs = local_pair()
    source = remote_source.RemoteSource(ours, Progress(), 60.0)
    source.listen(Inbox())
    theirs.write(PREAMBLE + frame_of(Alive()) * 1000)
    assert heard.wait(PATIENCE_SECONDS)
    assert sizes[0] > 200
    theirs.close()
