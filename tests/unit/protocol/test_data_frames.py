"""Data comes back as it was sent, and a frame that lies about its length costs no memory."""

from __future__ import annotations

import random
import struct
import tracemalloc

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from evidencesync.errors import LimitExceededError, PeerError, ProtocolError
from evidencesync.limits import MAX_FRAME_BODY
from evidencesync.protocol.data_frames import MAX_DATA, RAW, ZSTD, Compress, ContentCounter, DataDecoder, DataEncoder, Outgoing
from evidencesync.protocol.framing import DATA_FRAME, FrameDecoder
from evidencesync.protocol.messages import PREAMBLE, Alive, ChunkData, Page
from tests.support.soak import often

CHOICES: list[Compress] = ["auto", "always", "never"]


def body_of(frame: bytes) -> memoryview:
    ((number, body),) = FrameDecoder().update(PREAMBLE + frame)
    assert number == DATA_FRAME
    return body


def encoder(compress: Compress, link_rate: float | None = None) -> DataEncoder:
    ticks = iter(range(10**9))
    made = DataEncoder(compress, lambda: next(ticks) / 1000)
    made.link_rate = link_rate
    return made


def head(codec: int, size: int) -> bytes:
    return struct.pack(">BI", codec, size)


def packed(data: bytes, **settings: bool) -> bytes:
    return zstandard.ZstdCompressor(**settings).compress(data)  # type: ignore[arg-type]


parts_of_data = st.lists(
    st.binary(max_size=400) | st.integers(0, 60_000).map(lambda size: b"the same again " * (size // 15)), max_size=6
)


def test_empty_parts_say_nothing_about_the_others() -> None:
    frame = encoder("auto", None).encode([b"", b"", b"the same again " * 1000])
    assert len(frame) < 1000


@settings(max_examples=often(50, 3000))
@given(parts=parts_of_data, compress=st.sampled_from(CHOICES), rate=st.sampled_from([None, 1e3, 1e12]))
def test_data_comes_back_whatever_was_chosen(parts: list[bytes], compress: Compress, rate: float | None) -> None:
    if not parts:
        parts = [b""]
    frame = encoder(compress, rate).encode([memoryview(part) for part in parts])
    assert bytes(DataDecoder().decode(body_of(frame))) == b"".join(parts)
    if compress == "never":
        assert body_of(frame)[0] == RAW


@pytest.mark.parametrize("compress", CHOICES)
def test_the_largest_data_fits_a_frame_however_badly_it_compresses(compress: Compress) -> None:
    noise = random.Random(1).randbytes(MAX_DATA)
    frame = encoder(compress).encode([noise])
    assert len(frame) <= MAX_FRAME_BODY + 5
    assert DataDecoder().decode(body_of(frame)) == noise


def test_text_is_packed_on_a_slow_link_and_noise_is_not() -> None:
    text, noise = b"a line of a log file\n" * 20_000, random.Random(2).randbytes(400_000)
    made = encoder("auto", 1e6)
    assert body_of(made.encode([text]))[0] == ZSTD
    assert body_of(made.encode([noise]))[0] == RAW
    assert body_of(encoder("auto", 1e15).encode([text]))[0] == RAW


@pytest.mark.parametrize("link_rate", [None, 1e6])
@pytest.mark.parametrize("noise_first", [False, True])
def test_files_of_text_between_files_of_noise_are_packed(link_rate: float | None, noise_first: bool) -> None:
    chance = random.Random(3)
    text = b"a line of a log file\n" * 600
    parts = [chance.randbytes(12_000) if (number % 2 == 0) is noise_first else text for number in range(50)]
    assert body_of(encoder("auto", link_rate).encode(parts))[0] == ZSTD


def test_on_a_far_slower_link_what_no_sample_shows_is_packed_too() -> None:
    chance = random.Random(4)
    part = bytes(chance.randbytes(8192)) + bytes(56 * 1024)  # of each 64 KiB the samples see the noise alone
    made = encoder("auto", 1e3)
    assert body_of(made.encode([part * 8]))[0] == ZSTD
    assert body_of(made.encode([chance.randbytes(500_000)]))[0] == RAW


LIES = {
    "cut off": b"\0\0\0",
    "empty": b"",
    "raw that is longer": head(RAW, 3) + b"four",
    "raw that is shorter": head(RAW, 5) + b"four",
    "raw of nothing that is something": head(RAW, 0) + b"x",
    "unknown codec": head(2, 4) + b"four",
    "codec 255": head(255, 4) + b"four",
    "packed nothing": head(ZSTD, 4),
    "packed noise": head(ZSTD, 4) + b"four",
    "a magic alone": head(ZSTD, 4) + b"\x28\xb5\x2f\xfd",
    "packed to more than said": head(ZSTD, 3) + packed(b"four"),
    "packed to less than said": head(ZSTD, 5) + packed(b"four"),
    "cut off packed": head(ZSTD, 1000) + packed(random.Random(3).randbytes(1000))[:-9],
    "something after it": head(ZSTD, 4) + packed(b"four") + b"x",
    "another frame after it": head(ZSTD, 4) + packed(b"four") + packed(b"more"),
    "two frames that add up": head(ZSTD, 8) + packed(b"four") + packed(b"more"),
    "a skippable frame": head(ZSTD, 4) + b"\x50\x2a\x4d\x18\x04\0\0\0four",
    "a skippable frame before it": head(ZSTD, 4) + b"\x50\x2a\x4d\x18\x04\0\0\0four" + packed(b"four"),
    "no length of its own": head(ZSTD, 4) + packed(b"four", write_content_size=False),
    "a damaged checksum": head(ZSTD, 4) + packed(b"four", write_checksum=True)[:-1] + b"\0",
    "a bit flipped": head(ZSTD, 4000) + bytes(packed(b"abcd" * 1000)[:9]) + b"\xff\xff" + bytes(packed(b"abcd" * 1000)[11:]),
}


@pytest.mark.parametrize("lie", LIES)
def test_data_that_is_not_what_it_says_is_refused(lie: str) -> None:
    with pytest.raises(ProtocolError):
        DataDecoder().decode(memoryview(LIES[lie]))


@pytest.mark.parametrize("size", [MAX_DATA + 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("codec", [RAW, ZSTD])
def test_a_length_beyond_a_frames_is_refused_before_anything_is_unpacked(codec: int, size: int) -> None:
    with pytest.raises(LimitExceededError):
        DataDecoder().decode(memoryview(head(codec, size) + packed(b"x")))


BOMBS = {
    "of honest header": packed(bytes(200_000_000)),
    "without a length": packed(bytes(200_000_000), write_content_size=False),
    "of a header that says four exbibytes": b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 2**62) + packed(bytes(10**6))[9:],
    "of a huge window": b"\x28\xb5\x2f\xfd\x00\xf8" + packed(bytes(10**6))[6:],
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("said", [0, 1, 1000, MAX_DATA])
def test_a_bomb_does_not_go_off(bomb: str, said: int) -> None:
    data = memoryview(head(ZSTD, said) + BOMBS[bomb])
    tracemalloc.start()
    try:
        with pytest.raises(PeerError):
            DataDecoder().decode(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * MAX_DATA


@settings(max_examples=often(80, 6000))
@given(codec=st.sampled_from([RAW, ZSTD]), size=st.integers(0, 3000), payload=st.binary(max_size=300))
def test_any_bytes_are_data_or_a_typed_error(codec: int, size: int, payload: bytes) -> None:
    try:
        raw = DataDecoder().decode(memoryview(head(codec, size) + payload))
    except PeerError:
        return
    assert len(raw) == size


@settings(max_examples=often(50, 3000))
@given(data=st.binary(min_size=100, max_size=2000), at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed_or_changes_nothing_of_the_length(data: bytes, at: int, bit: int) -> None:
    frame = bytearray(head(ZSTD, len(data)) + packed(data))
    frame[at % len(frame)] ^= 1 << bit
    try:
        raw = DataDecoder().decode(memoryview(bytes(frame)))
    except PeerError:
        return
    assert len(raw) == int.from_bytes(frame[1:5], "big")


def test_one_refused_frame_does_not_spoil_the_next() -> None:
    decoder = DataDecoder()
    with pytest.raises(ProtocolError):
        decoder.decode(memoryview(LIES["cut off packed"]))
    assert bytes(decoder.decode(memoryview(head(ZSTD, 4) + packed(b"four")))) == b"four"


def test_content_is_counted_as_it_arrives_and_lines_are_not() -> None:
    out = Outgoing("always", lambda: 0.0)
    out.send(Page(1, 50_000, with_files=False, proofs=b""))
    out.send_lines(b"l" * 50_000)
    out.send(ChunkData(1, 90_000))
    out.send(Alive())
    out.send_data([b"c" * 90_000], 90_000)
    counter = ContentCounter()
    for frame in FrameDecoder(begun=True).update(b"".join(out.take())):
        counter.add(*frame)
        assert counter.total(7) in (0, 7, 90_007)
    assert counter.total(0) == 90_000


def test_a_frame_that_lies_about_its_length_is_not_counted_for_more_than_a_frame_holds() -> None:
    counter = ContentCounter()
    counter.add(DATA_FRAME, memoryview(head(RAW, 9)))  # not announced
    counter.add(36, memoryview(b""))
    counter.add(DATA_FRAME, memoryview(b"x"))
    assert counter.total(0) == 0
    counter.add(DATA_FRAME, memoryview(head(ZSTD, 2**32 - 1)))
    assert counter.total(0) == MAX_DATA
