"""Cutting depends on the content alone, loses nothing, and takes out every long run of zeros."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidencesync.delta.chunker import Segment, SegmentCutter, is_compiled
from evidencesync.limits import (
    KIB,
    MAX_CHUNK,
    MAX_SEGMENT,
    MAX_SEGMENT_ROWS,
    MAX_SEGMENT_ZEROS,
    MAX_ZERO_EXTENT,
    MIB,
    MIN_ZERO_RUN,
    WINDOW,
    ZERO_WEIGHT,
)
from tests.support.soak import often


def cut(content: bytes, cuts: list[int]) -> list[Segment]:
    """The content's segments when it arrives in pieces that end at `cuts`."""
    cutter = SegmentCutter()
    segments: list[Segment] = []
    position = 0
    for end in [*sorted(cuts), len(content)]:
        piece = content[position:end]
        room = cutter.buffer(len(piece) + 7)
        room[: len(piece)] = piece
        segments += cutter.commit(len(piece))
        position = max(position, end)
    return segments + cutter.finish()


def bytes_of(segments: list[Segment]) -> bytes:
    return b"".join(
        bytes(length) if part is None else bytes(part)
        for segment in segments
        for length, part in zip(segment.lengths, segment.parts, strict=True)
    )


def layout(segments: list[Segment]) -> list[list[tuple[int, bytes]]]:
    return [[(row.length, row.digest) for row in segment.rows()] for segment in segments]


pieces = st.lists(
    st.tuples(st.sampled_from(["random", "zeros", "text"]), st.integers(0, 200 * KIB), st.integers(0, 2**32)),
    max_size=12,
)


def build(plan: list[tuple[str, int, int]]) -> bytes:
    made = bytearray()
    for kind, size, seed in plan:
        if kind == "zeros":
            made += bytes(size)
        elif kind == "random":
            made += random.Random(seed).randbytes(size)
        else:
            made += (b"%d the same line again\n" % (seed % 7) * (size // 20 + 1))[:size]
    return bytes(made)


@settings(max_examples=often(50, 3000), deadline=None)
@given(plan=pieces, seed=st.integers(0, 2**32))
def test_any_split_of_the_input_gives_the_same_segments_and_all_bytes(plan: list[tuple[str, int, int]], seed: int) -> None:
    content = build(plan)
    chance = random.Random(seed)
    cuts = [chance.randrange(len(content) + 1) for _ in range(chance.randrange(9))]
    whole, split = cut(content, []), cut(content, cuts)
    assert layout(whole) == layout(split)
    assert bytes_of(split) == content


def cut_with_holes(plan: list[tuple[str, int, int]], chance: random.Random) -> list[Segment]:
    """The segments when zeros come now as bytes and now as a hole, in parts that end anywhere."""
    cutter = SegmentCutter()
    segments: list[Segment] = []
    for kind, size, seed in plan:
        content = build([(kind, size, seed)])
        position = 0
        while position < size:
            length = chance.choice([size - position, chance.randint(1, size - position)])
            part = content[position : position + length]
            if not any(part) and chance.random() < 0.7:
                segments += cutter.zeros(length)
            else:
                room = cutter.buffer(length + chance.choice([0, 5]))
                room[:length] = part
                segments += cutter.commit(length)
            position += length
    return segments + cutter.finish()


@settings(max_examples=often(80, 6000), deadline=None)
@given(plan=pieces, seed=st.integers(0, 2**32))
def test_zeros_that_come_as_a_hole_give_the_same_segments_as_zeros_that_were_read(
    plan: list[tuple[str, int, int]], seed: int
) -> None:
    content = build(plan)
    holes = cut_with_holes(plan, random.Random(seed))
    assert layout(holes) == layout(cut(content, []))
    assert bytes_of(holes) == content


@pytest.mark.parametrize("before", [b"", b"\1", b"\1" * 70_000 + bytes(65_535), b"\1" + bytes(65_536)])
@pytest.mark.parametrize("hole", [1, 65_535, 65_536, MAX_ZERO_EXTENT, MAX_ZERO_EXTENT + 1, 3 * MAX_ZERO_EXTENT - 1])
@pytest.mark.parametrize("step", [MAX_ZERO_EXTENT // 3, MAX_ZERO_EXTENT, 2**40])
def test_a_hole_of_any_length_is_one_run_cut_after_each_gibibyte(before: bytes, hole: int, step: int) -> None:
    cutter = SegmentCutter()
    cutter.buffer(len(before))[:] = before
    segments = cutter.commit(len(before))
    for start in range(0, hole, step):
        segments += cutter.zeros(min(step, hole - start))
    room = cutter.buffer(1)
    room[0] = 2
    segments += cutter.commit(1) + cutter.finish()
    runs = [length for s in segments for length, part in zip(s.lengths, s.parts, strict=True) if part is None]
    total = len(before) - len(before.rstrip(b"\0")) + hole
    whole, rest = divmod(total, MAX_ZERO_EXTENT)
    assert runs == ([MAX_ZERO_EXTENT] * whole + [rest] * (rest > 0) if total >= MIN_ZERO_RUN else [])
    assert sum(s.total_bytes for s in segments) == len(before) + hole + 1


def test_a_long_hole_gives_its_segments_while_it_is_still_going_on() -> None:
    cutter = SegmentCutter()
    given = [cutter.zeros(MAX_ZERO_EXTENT // 2) for _ in range(6)]
    assert [len(segments) for segments in given] == [0, 0, 1, 0, 1, 0]
    assert [s.lengths for s in cutter.finish()] == [[MAX_ZERO_EXTENT]]


def test_a_segment_stands_for_no_more_zeros_than_a_receiver_takes() -> None:
    """Long holes between small chunks, each shorter than a row may be: together they must not become one segment."""
    cutter, chance = SegmentCutter(), random.Random(3)
    segments: list[Segment] = []
    for _ in range(200):
        cutter.buffer(20 * KIB)[:] = chance.randbytes(20 * KIB)
        segments += cutter.commit(20 * KIB) + cutter.zeros(900 * MIB)
    segments += cutter.finish()
    assert max(s.zero_bytes for s in segments) <= MAX_SEGMENT_ZEROS
    assert max(s.held_bytes for s in segments) * 4 < WINDOW
    assert sum(s.total_bytes for s in segments) == 200 * (20 * KIB + 900 * MIB)
    assert segments[1].held_bytes == segments[1].literal_bytes + segments[1].zero_bytes // ZERO_WEIGHT


@settings(max_examples=often(30, 1600), deadline=None)
@given(plan=pieces)
def test_every_bound_that_a_receiver_enforces_is_kept(plan: list[tuple[str, int, int]]) -> None:
    for segment in cut(build(plan), [100_000, 300_001]):
        assert 0 < len(segment.lengths) <= MAX_SEGMENT_ROWS
        assert segment.literal_bytes <= MAX_SEGMENT
        for length, part in zip(segment.lengths, segment.parts, strict=True):
            assert 0 < length <= (MAX_CHUNK if part is not None else 2**30)
            assert (part is None) <= (length >= MIN_ZERO_RUN)


@pytest.mark.parametrize("before", [0, 1, 5000, 32768, 100_000])
@pytest.mark.parametrize("zeros", [65_535, 65_536, 65_537, 131_071, 1_000_000])
@pytest.mark.parametrize("step", [1_000_000_000, 40_000, 65_536])
def test_a_run_of_zeros_is_taken_out_whole_from_64_kib_on(before: int, zeros: int, step: int) -> None:
    content = b"\1" * before + bytes(zeros) + b"\2" * 7
    segments = cut(content, list(range(step, len(content), step)))
    runs = [length for s in segments for length, part in zip(s.lengths, s.parts, strict=True) if part is None]
    assert runs == ([zeros] if zeros >= MIN_ZERO_RUN else [])
    assert bytes_of(segments) == content


def test_an_inserted_byte_changes_few_segments() -> None:
    content = random.Random(5).randbytes(24 * 1024 * KIB)
    before = {bytes(d) for s in cut(content, []) for d in [b"".join(r.digest for r in s.rows())]}
    after = [b"".join(r.digest for r in s.rows()) for s in cut(b"x" + content, [])]
    assert len(after) > 5
    assert sum(1 for digest in after if digest not in before) <= 2


def test_the_compiled_cutter_is_in_use() -> None:
    assert is_compiled()
