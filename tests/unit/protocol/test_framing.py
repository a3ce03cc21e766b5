"""Frames survive any cut of the stream, and nothing larger than a frame is ever taken on."""

from __future__ import annotations

import itertools
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidencesync.errors import LimitExceededError, ProtocolError
from evidencesync.limits import KIB, MAX_FRAME_BODY, MAX_PREAMBLE
from evidencesync.protocol.framing import DATA_FRAME, DATA_HEAD, FrameDecoder, encode_frame, frame_of
from evidencesync.protocol.messages import PREAMBLE, PagesStored, Status

Frame = tuple[int, bytes]

VECTORS: dict[str, tuple[bytes, Frame]] = {
    "empty": (b"\0\0\0\0\x07", (7, b"")),
    "one byte": (b"\0\0\0\x01\x02x", (2, b"x")),
    "type 255": (b"\0\0\0\x02\xffab", (255, b"ab")),
    "a message": (b"\0\0\0\x02\x19\x91\x05", (25, b"\x91\x05")),
    "a body that looks like a preamble": (b"\0\0\0\x17\x02" + PREAMBLE, (2, PREAMBLE)),
    "a body that looks like a header": (b"\0\0\0\x05\x02\0\0\0\x01\x02", (2, b"\0\0\0\x01\x02")),
    "the largest": (b"\0\x10\0\0\x02" + b"z" * MAX_FRAME_BODY, (2, b"z" * MAX_FRAME_BODY)),
}


def feed(decoder: FrameDecoder, *blocks: bytes) -> list[Frame]:
    return [(number, bytes(body)) for block in blocks for number, body in decoder.update(block)]


@pytest.mark.parametrize("name", VECTORS)
def test_a_frame_is_written_as_it_is_read(name: str) -> None:
    wire, (number, body) = VECTORS[name]
    assert encode_frame(number, body) == wire
    assert encode_frame(number, body[:1], memoryview(body)[1:], b"") == wire


@pytest.mark.parametrize("name", VECTORS)
def test_a_frame_that_comes_whole(name: str) -> None:
    wire, frame = VECTORS[name]
    decoder = FrameDecoder()
    assert feed(decoder, PREAMBLE + wire) == [frame]
    assert decoder.is_empty


@pytest.mark.parametrize("name", [name for name in VECTORS if name != "the largest"])
def test_a_frame_that_comes_byte_by_byte(name: str) -> None:
    wire, frame = VECTORS[name]
    stream = PREAMBLE + wire
    decoder = FrameDecoder()
    for end in range(len(stream) - 1):
        assert feed(decoder, stream[end : end + 1]) == []
        assert not decoder.is_empty or end == len(PREAMBLE) - 1
    assert feed(decoder, stream[-1:]) == [frame]
    assert decoder.is_empty


@pytest.mark.parametrize("name", VECTORS)
def test_what_stands_after_a_frame_is_kept_for_the_next(name: str) -> None:
    wire, frame = VECTORS[name]
    decoder = FrameDecoder()
    assert feed(decoder, PREAMBLE + wire + b"\0\0\0") == [frame]
    assert not decoder.is_empty
    assert feed(decoder, b"\x01\x09!") == [(9, b"!")]
    assert decoder.is_empty


@given(
    bodies=st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300)), max_size=8),
    noise=st.binary(max_size=60).filter(lambda noise: PREAMBLE[:1] not in noise),
    cuts=st.lists(st.integers(0, 3000), max_size=12),
)
def test_any_cut_of_the_stream_gives_the_same_frames(bodies: list[Frame], noise: bytes, cuts: list[int]) -> None:
    stream = noise + PREAMBLE + b"".join(encode_frame(number, body) for number, body in bodies)
    places = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    decoder = FrameDecoder()
    blocks = [stream[start:end] for start, end in itertools.pairwise(places)]
    assert feed(decoder, *blocks) == bodies
    assert decoder.noise == noise
    assert decoder.is_empty


@pytest.mark.parametrize("step", [16, 5000])
def test_a_frame_that_comes_in_small_parts_takes_little_more_memory_than_its_length(step: int) -> None:
    stream = PREAMBLE + encode_frame(2, bytes(256 * KIB))
    decoder = FrameDecoder()
    tracemalloc.start()
    try:
        for start in range(0, len(stream) - step, step):
            assert feed(decoder, stream[start : start + step]) == []
        assert tracemalloc.get_traced_memory()[1] < 2 * len(stream)
    finally:
        tracemalloc.stop()


def test_bodies_stay_what_they_were_when_more_arrives() -> None:
    decoder = FrameDecoder()
    frames = list(decoder.update(PREAMBLE + encode_frame(1, b"first") + encode_frame(2, b"second")[:-3]))
    frames += list(decoder.update(b"ond" + encode_frame(3, b"third")))
    list(decoder.update(encode_frame(4, b"x" * 1000)))
    assert [bytes(body) for _, body in frames] == [b"first", b"second", b"third"]


@pytest.mark.parametrize("size", [MAX_FRAME_BODY + 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("step", [1, 1000])
def test_a_header_that_announces_too_much_is_refused_before_its_body(size: int, step: int) -> None:
    stream = PREAMBLE + size.to_bytes(4, "big") + b"\x02"
    decoder = FrameDecoder()
    with pytest.raises(LimitExceededError):
        feed(decoder, *(stream[start : start + step] for start in range(0, len(stream), step)))


def test_good_frames_before_a_bad_header_are_still_given() -> None:
    decoder = FrameDecoder()
    frames = decoder.update(PREAMBLE + encode_frame(1, b"good") + b"\xff\xff\xff\xff\0")
    assert next(frames)[0] == 1
    with pytest.raises(LimitExceededError):
        next(frames)


def test_a_frame_that_no_peer_would_take_is_not_written() -> None:
    with pytest.raises(LimitExceededError):
        encode_frame(2, bytes(MAX_FRAME_BODY), b"x")


@pytest.mark.parametrize(
    "noise",
    [b"Welcome to host\r\n", b"\n" * 30, PREAMBLE[:-2], PREAMBLE[:5] * 3, b"\nEVIDENCESYNC-STREAM-2\n", b"\0\xff" * 500],
)
def test_what_a_shell_prints_before_the_stream_is_kept_for_a_hint(noise: bytes) -> None:
    stream = noise + PREAMBLE + encode_frame(1, b"x")
    for step in (1, 7, len(stream)):
        decoder = FrameDecoder()
        assert feed(decoder, *(stream[start : start + step] for start in range(0, len(stream), step))) == [(1, b"x")]
        assert decoder.noise == noise


@pytest.mark.parametrize("step", [1, 22, 23, 1000, 50_000])
@pytest.mark.parametrize("extra", [-30, -1, 0, 1, 30])
def test_how_much_noise_is_taken_does_not_depend_on_how_it_is_cut(step: int, extra: int) -> None:
    noise = random.Random(1).randbytes(MAX_PREAMBLE + extra).replace(b"\n", b" ")
    stream = noise + PREAMBLE + encode_frame(1, b"x")
    decoder = FrameDecoder()
    blocks = (stream[start : start + step] for start in range(0, len(stream), step))
    if extra > 0:
        with pytest.raises(ProtocolError):
            feed(decoder, *blocks)
    else:
        assert feed(decoder, *blocks) == [(1, b"x")]
        assert decoder.noise == noise


def test_noise_without_end_is_refused_and_not_collected() -> None:
    decoder = FrameDecoder()
    with pytest.raises(ProtocolError):
        feed(decoder, *[b"noise and noise and noise\n"] * 10_000)
    assert len(decoder.noise) <= MAX_PREAMBLE


def test_noise_is_known_while_the_preamble_has_not_come() -> None:
    decoder = FrameDecoder()
    feed(decoder, b"sh: evidencesync: not found")
    assert not decoder.started
    assert decoder.noise == b"sh: evidencesync: not found"


def test_a_preamble_is_looked_for_once() -> None:
    decoder = FrameDecoder()
    with pytest.raises(LimitExceededError):
        feed(decoder, PREAMBLE + PREAMBLE)  # the second one reads as a header that announces far too much


def test_frame_of_is_the_frame_of_a_messages_bytes() -> None:
    decoder = FrameDecoder()
    assert feed(decoder, PREAMBLE + frame_of(PagesStored(5)) + frame_of(Status("syncing", 1, 2))) == [
        (25, b"\x91\x05"),
        (41, b"\x93\xa7syncing\x01\x02"),
    ]


@pytest.mark.parametrize("raw", [100, 1000])
def test_how_many_raw_bytes_have_come_of_a_data_frame_is_known_before_it_is_complete(raw: int) -> None:
    decoder = FrameDecoder(begun=True)
    frame = encode_frame(DATA_FRAME, DATA_HEAD.pack(1, raw), b"x" * 100)
    assert not feed(decoder, frame[:8])
    assert decoder.data_begun == 0
    assert not feed(decoder, frame[8:-60])
    assert decoder.data_begun == raw * 40 // 100
    assert len(feed(decoder, frame[-60:])) == 1
    assert decoder.data_begun == 0
    feed(decoder, frame_of(PagesStored(5))[:-1])
    assert decoder.data_begun == 0


def test_a_data_frame_that_announces_more_than_any_may_hold_does_not_raise_what_has_come() -> None:
    decoder = FrameDecoder(begun=True)
    feed(decoder, encode_frame(DATA_FRAME, DATA_HEAD.pack(1, 2**32 - 1), b"x" * 100)[:-50])
    assert decoder.data_begun == MAX_FRAME_BODY // 2
    empty = FrameDecoder(begun=True)
    feed(empty, encode_frame(DATA_FRAME, DATA_HEAD.pack(1, 0))[:-1])
    assert empty.data_begun == 0
