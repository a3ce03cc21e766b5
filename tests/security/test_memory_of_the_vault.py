"""Attack: something small, again and again, that the vault's end has to remember while it waits for something else."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import msgspec
import pytest

from evidencesync.connection.process import allow_many_files
from evidencesync.custody.manifest import encode_entry
from evidencesync.delta.rows import ZERO_DIGEST
from evidencesync.evidence.digest import blake3_of
from evidencesync.exit_codes import ExitCode
from evidencesync.ingest import streams
from evidencesync.limits import MAX_CHUNK, MAX_PAGE, MAX_SEGMENT, MAX_UNLISTED_CONTENTS, MIB, SMALL_FILE, WINDOW
from evidencesync.protocol.framing import encode_frame, frame_of
from evidencesync.protocol.messages import Chunks, Close, Files, Open, Page, PageOffer, SegmentData, SegmentOffer
from evidencesync.protocol.packing import ZERO_BIT, pack_bits
from tests.support.bench_of_evidence import Bench
from tests.support.hostile_client import ROOT, HostileClient, data_frame, entry_of
from tests.support.soak import often

Flood = Callable[[HostileClient], Iterator[bytes]]

STREAM = 2**40
FEW_CONTENTS = often(500, MAX_UNLISTED_CONTENTS)  # so many that the real limit is met take half a minute


def blocked_stream(client: HostileClient) -> None:
    """A segment that the vault will never get: all that comes after it has to wait."""
    client.send(Open(0, STREAM), Chunks(0, struct.pack("<I16s", MAX_CHUNK, b"\1" * 16)))


def blocked_page(client: HostileClient) -> None:
    """A small file that the vault will never get."""
    client.send_page(0, msgspec.json.encode(client.header()) + b"\n")
    client.send_page(1, encode_entry(ROOT) + encode_entry(entry_of(b"a", content=b"never")))


def pages_that_wait(client: HostileClient) -> Iterator[bytes]:
    blocked_page(client)
    for number in range(2, 10_000):
        lines = b"".join(b'{"type":"fifo","path":"b%08x"}\n' % (number * 1000 + line) for line in range(1000))
        yield frame_of(Page(number, len(lines), with_files=False, proofs=b"")) + data_frame(lines)


def pages_named(client: HostileClient) -> Iterator[bytes]:
    for number in range(10_000):
        yield frame_of(PageOffer(number, number.to_bytes(16, "big")))


def a_million_empty_pages(client: HostileClient) -> Iterator[bytes]:
    for number in range(1_000_000):
        yield encode_frame(22, msgspec.msgpack.encode([number, 0, False]))


def a_million_pages_of_an_empty_line(client: HostileClient) -> Iterator[bytes]:
    client.send_page(0, msgspec.json.encode(client.header()) + b"\n")
    for number in range(1, 1_000_000):
        yield frame_of(Page(number, 1, with_files=False, proofs=b"")) + data_frame(b"\n")


def pages_of_a_million_lines(client: HostileClient) -> Iterator[bytes]:
    """The shortest lines there are: each becomes an entry of hundreds of bytes in memory."""
    blocked_page(client)
    lines = bytearray()
    number = 0
    page = 2
    while page < 1000:
        lines += b'{"type":"fifo","path":"b%08x"}\n' % number
        number += 1
        if len(lines) > MAX_PAGE - 100:
            yield frame_of(Page(page, len(lines), with_files=False, proofs=b"")) + data_frame(bytes(lines))
            lines.clear()
            page += 1


def segments_that_wait(client: HostileClient) -> Iterator[bytes]:
    blocked_stream(client)
    data = b"x" * (MIB // 2)
    lengths = struct.pack("<II", MAX_CHUNK, MAX_CHUNK)
    for number in range(1, 1000):
        yield frame_of(SegmentData(number, lengths, len(data))) + data_frame(data)


def segments_named(client: HostileClient) -> Iterator[bytes]:
    blocked_stream(client)
    for number in range(1, 100_000):
        yield frame_of(SegmentOffer(number, bytes(16), 1, b""))


def rows_of_segments(client: HostileClient) -> Iterator[bytes]:
    """Lists of chunks of one byte: the list is larger than what it lists."""
    blocked_stream(client)
    rows = struct.pack("<I16s", 1, b"\2" * 16) * 512
    for number in range(1, 9000):
        yield frame_of(Chunks(number, rows))


def rows_between_zeros(client: HostileClient) -> Iterator[bytes]:
    """The same, with the runs of zeros between them that small chunks need."""
    blocked_stream(client)
    rows = (struct.pack("<I16s", 1, b"\2" * 16) + struct.pack("<I16s", 65_536, ZERO_DIGEST)) * 256
    for number in range(1, 9000):
        yield frame_of(Chunks(number, rows))


def tiny_chunks(client: HostileClient) -> Iterator[bytes]:
    """Nothing waits here: but a recipe of rows of 24 bytes would grow for every byte of the content."""
    client.send(Open(0, STREAM))
    lengths = struct.pack("<I", 1) * 512
    for number in range(20_000):
        yield frame_of(SegmentData(number, lengths, 512)) + data_frame(b"x" * 512)


def data_in_tiny_frames(client: HostileClient) -> Iterator[bytes]:
    client.send(Open(0, STREAM), SegmentData(0, struct.pack("<I", MAX_CHUNK) * 16, MAX_SEGMENT))
    for _ in range(MAX_SEGMENT // 100):
        yield data_frame(b"x") * 100


def files_in_tiny_frames(client: HostileClient) -> Iterator[bytes]:
    blocked_page(client)
    client.send(Files(1, 1, pack_bits([True]), WINDOW))
    for _ in range(200_000):
        yield data_frame(b"x") * 10


def files_of_nothing(client: HostileClient) -> Iterator[bytes]:
    """A page's files announced again and again, none of them there."""
    blocked_page(client)
    client.send_page(2, encode_entry(entry_of(b"b", content=b"never")))
    empty = frame_of(Files(2, 1024, bytes(128), 0))
    for _ in range(2_000):
        yield empty * 100


def streams_of_nothing(client: HostileClient) -> Iterator[bytes]:
    blocked_stream(client)
    client.send(Close(0, MAX_CHUNK, bytes(32)))
    for number in range(1, 200_000):
        yield frame_of(Open(number, 0)) + frame_of(Close(number, 0, bytes(32)))


def contents_that_no_page_lists(client: HostileClient) -> Iterator[bytes]:
    """Each is an open file of the vault, until a page takes it."""
    size = SMALL_FILE + 1
    digest = blake3_of(bytes(size))
    for number in range(100_000):
        row = struct.pack("<I", ZERO_BIT | size)
        yield b"".join(map(frame_of, (Open(number, size), SegmentData(number, row, 0), Close(number, size, digest))))


FLOODS: list[Flood] = [
    pages_that_wait,
    pages_named,
    a_million_empty_pages,
    a_million_pages_of_an_empty_line,
    pages_of_a_million_lines,
    segments_that_wait,
    segments_named,
    rows_of_segments,
    rows_between_zeros,
    tiny_chunks,
    data_in_tiny_frames,
    files_in_tiny_frames,
    files_of_nothing,
    streams_of_nothing,
    contents_that_no_page_lists,
]


@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.__name__)
def test_a_flood_is_ended_by_a_limit_and_not_by_the_machine(victim: Bench, flood: Flood, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_UNLISTED_CONTENTS", FEW_CONTENTS)
    allow_many_files()
    client = HostileClient(victim)
    client.shake_hands()
    sent = 0
    for data in flood(client):
        if not client.send_bytes(data):
            break
        sent += len(data)
    assert sent < 4 * WINDOW
    assert client.ended().exit_code in {ExitCode.PEER, ExitCode.SIGNATURE}
