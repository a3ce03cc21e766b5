"""Cutting depends on the content alone, loses nothing, and takes out every long run of zeros."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidencesync.delta.chunker import Segment, SegmentCutter, is_compiled
from evidencesync.limits import KIB, MAX_CHUNK, MAX_SEGMENT, MAX_SEGMENT_ROWS, MIN_ZERO_RUN


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


@settings(max_examples=150, deadline=None)
@given(plan=pieces, seed=st.integers(0, 2**32))
def test_any_split_of_the_input_gives_the_same_segments_and_all_bytes(plan: list[tuple[str, int, int]], seed: int) -> None:
    content = build(plan)
    chance = random.Random(seed)
    cuts = [chance.randrange(len(content) + 1) for _ in range(chance.randrange(9))]
    whole, split = cut(content, []), cut(content, cuts)
    assert layout(whole) == layout(split)
    assert bytes_of(split) == content


@settings(max_examples=80, deadline=None)
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
