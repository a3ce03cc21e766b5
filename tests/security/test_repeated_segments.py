"""Attack: a sender who says that what he names was brought by this very session, and gains something by it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from evidencesync.delta.chunker import SegmentCutter
from evidencesync.delta.rows import Row, segment_digest
from evidencesync.errors import DigestMismatchError, ProtocolError
from evidencesync.evidence.digest import SegmentDigest, blake3_of
from evidencesync.ingest.streams import StreamIntake
from evidencesync.limits import MIN_ZERO_RUN
from evidencesync.protocol.messages import ChunkData, Chunks, Close, Need, Open, SegmentAnswer, SegmentOffer, SegmentsStored
from evidencesync.protocol.packing import encode_wire_rows
from tests.support.bench_of_evidence import Bench
from tests.support.hostile_client import HostileClient

CONTENT = random.Random(5).randbytes(300_000)


def cut(content: bytes) -> tuple[SegmentDigest, list[Row], int]:
    """One segment: its digest, its rows, its size."""
    cutter = SegmentCutter()
    cutter.buffer(len(content))[:] = content
    (segment,) = [*cutter.commit(len(content)), *cutter.finish()]
    return segment_digest(segment.rows()), segment.rows(), segment.total_bytes


def send_chunks(client: HostileClient, content: bytes) -> None:
    """All chunks of the first segment."""
    client.send(ChunkData(0, len(content)))
    client.send_data(content)


def begun(bench: Bench) -> HostileClient:
    client = HostileClient(bench)
    client.shake_hands()
    return client


def test_a_segment_that_was_promised_and_is_another_one_is_asked_for(bench: Bench) -> None:
    """Named first as one thing, listed as another: whoever named it after that is asked for its rows."""
    digest, _, size = cut(CONTENT)
    other = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    _, rows, _ = cut(other)
    client = begun(bench)
    client.send(Open(0, size), SegmentOffer(0, digest, size, b""), Close(0, size, blake3_of(other)))
    client.send(Open(1, size), SegmentOffer(1, digest, size, b""))
    assert not client.hear(SegmentAnswer).known
    assert client.hear(SegmentAnswer).known
    client.send(Chunks(0, encode_wire_rows(rows)))
    need = client.hear(Need)
    assert need.segment == 0
    send_chunks(client, other)
    taken_back = client.hear(SegmentAnswer)
    assert (taken_back.segment, taken_back.known) == (1, False)


def test_a_segment_that_was_promised_under_another_size_is_asked_for(bench: Bench) -> None:
    digest, rows, size = cut(CONTENT)
    client = begun(bench)
    client.send(Open(0, size), SegmentOffer(0, digest, size, b""), Close(0, size, blake3_of(CONTENT)))
    client.send(Open(1, size), SegmentOffer(1, digest, size - 1, b""))
    assert not client.hear(SegmentAnswer).known
    assert client.hear(SegmentAnswer).known
    client.send(Chunks(0, encode_wire_rows(rows)))
    client.hear(Need)
    send_chunks(client, CONTENT)
    assert not client.hear(SegmentAnswer).known


def test_names_that_are_never_kept_are_not_remembered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named as one thing and listed as another, again and again: what is stored is promised no more."""
    intakes: list[StreamIntake] = []
    make = StreamIntake.__init__

    def remember(self: StreamIntake, *arguments: Any) -> None:
        make(self, *arguments)
        intakes.append(self)

    monkeypatch.setattr(StreamIntake, "__init__", remember)
    _, rows, size = cut(bytes(MIN_ZERO_RUN))
    client = begun(bench)
    client.send(Open(0, 2**40))
    for number in range(50):
        client.send(SegmentOffer(number, SegmentDigest(b"%016d" % number), size, b""))
        assert not client.hear(SegmentAnswer).known
        client.send(Chunks(number, encode_wire_rows(rows)))
        client.hear(Need)
        client.send(ChunkData(number, 0))
        client.hear(SegmentsStored)
    assert [len(intake._promised) for intake in intakes] == [0]


def test_within_one_content_nothing_is_promised(bench: Bench) -> None:
    digest, _, size = cut(CONTENT)
    client = begun(bench)
    client.send(Open(0, 2 * size), SegmentOffer(0, digest, size, b""), SegmentOffer(1, digest, size, b""))
    assert not client.hear(SegmentAnswer).known
    assert not client.hear(SegmentAnswer).known


def test_the_end_of_a_content_that_was_only_named_is_its_own(bench: Bench) -> None:
    digest, rows, size = cut(CONTENT)
    client = begun(bench)
    client.send(Open(0, size), Chunks(0, encode_wire_rows(rows)))
    client.hear(Need)
    send_chunks(client, CONTENT)
    client.hear(SegmentsStored)
    client.send(Close(0, size, blake3_of(CONTENT)), Open(1, size), SegmentOffer(1, digest, size, b""))
    assert client.hear(SegmentAnswer).known
    client.send(Close(1, size, blake3_of(b"another")))
    assert isinstance(client.ended(), DigestMismatchError | ProtocolError)
