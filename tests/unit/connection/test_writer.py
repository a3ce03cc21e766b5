"""How fast a link is, is not known before its buffers are full."""

from __future__ import annotations

import math

import pytest

from evidencesync.connection.writer import BufferedWriter
from evidencesync.custody.documents import SshPeer
from evidencesync.limits import MIB

PEER = SshPeer(user="u", host="h", port=22, host_key="SHA256:" + "A" * 43, algorithms={})


class Sink:
    """A link that takes everything at once."""

    wire_sent = wire_received = 0

    def __init__(self, peer: SshPeer | None) -> None:
        self.peer = peer
        self.taken: list[bytes] = []

    def read(self) -> bytes:
        return b""

    def write(self, data: bytes) -> None:
        self.taken.append(data)

    def close(self) -> None: ...


def test_what_the_buffers_take_says_nothing_of_a_link() -> None:
    writer = BufferedWriter(Sink(PEER), None)
    writer.put([bytes(MIB)] * 10)
    for _ in range(8):
        writer.write_some()
        assert writer.link_rate is None
    writer.flush()
    assert writer.link_rate is not None


def test_another_link_has_buffers_of_its_own_and_keeps_the_rate_until_they_are_full() -> None:
    writer = BufferedWriter(Sink(PEER), None)
    writer.put([bytes(MIB)] * 10)
    writer.flush()
    known = writer.link_rate
    writer.take_link(Sink(PEER))
    writer.put([bytes(MIB)] * 8)
    writer.flush()
    assert writer.link_rate == known


@pytest.mark.parametrize(("peer", "limit", "rate"), [(None, None, math.inf), (PEER, None, None), (PEER, 5, 5), (None, 5, 5)])
def test_at_first_a_link_is_as_fast_as_it_may_be(peer: SshPeer | None, limit: int | None, rate: float | None) -> None:
    assert BufferedWriter(Sink(peer), limit).link_rate == rate


def test_a_part_is_written_at_a_time_so_that_answers_are_looked_at_in_between() -> None:
    sink = Sink(None)
    writer = BufferedWriter(sink, None)
    assert (writer.has_frames, writer.is_full) == (False, False)
    writer.put([bytes(MIB // 4)] * 10)
    assert (sink.taken, writer.has_frames, writer.is_full) == ([], True, True)
    writer.write_some()
    assert sum(map(len, sink.taken)) == MIB
    writer.write_some()
    assert (writer.has_frames, writer.is_full) == (True, False)
    writer.write_some()
    assert (sum(map(len, sink.taken)), writer.has_frames) == (10 * MIB // 4, False)


def test_frames_come_out_in_order_and_whole() -> None:
    sink = Sink(None)
    writer = BufferedWriter(sink, None)
    frames = [bytes([number]) * size for number, size in enumerate([1, 300_000, 5, 5, 2 * MIB, 7])]
    writer.put(frames)
    writer.flush()
    assert b"".join(sink.taken) == b"".join(frames)
