"""Recipes come back as they were kept, and a file that is not a `chunks.bin` is one typed error in little memory."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from blake3 import blake3
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evidencesync.delta.recipe import MAGIC, Recipe, RecipeBuilder, iter_recipes
from evidencesync.delta.rows import ZERO_DIGEST, RecipeSegment, Row, first_segment, is_hook, segment_digest
from evidencesync.errors import MalformedDocumentError
from evidencesync.evidence.digest import Blake3Digest, ChunkDigest
from evidencesync.limits import MAX_CHUNK, MAX_FILE_SIZE, MAX_SEGMENT_ROWS, MAX_ZERO_EXTENT
from tests.support.rows_in_memory import RowsInMemory, encode
from tests.support.soak import often

LAST = 1 << 63
HEADS_AT_ONCE = 64 * 1024
CONTENT = Blake3Digest(bytes(range(32)))

rows = st.one_of(
    st.builds(Row, st.integers(1, MAX_CHUNK), st.binary(min_size=16, max_size=16).map(ChunkDigest)),
    st.builds(Row, st.integers(1, MAX_ZERO_EXTENT), st.just(ZERO_DIGEST)),
)

segments = st.lists(st.lists(rows, min_size=1, max_size=12), max_size=6)
contents = st.binary(min_size=32, max_size=32).map(Blake3Digest)


def bounded(recipe_rows: list[Row]) -> list[Row]:
    """A digest of zeros that came up by chance is a run of zeros, and no bound of a chunk is broken by it."""
    return [Row(min(row.length, MAX_ZERO_EXTENT if row.is_zeros else MAX_CHUNK), row.digest) for row in recipe_rows]


def build(content: Blake3Digest, parts: list[list[Row]]) -> Recipe:
    builder = RecipeBuilder(RowsInMemory())
    for part in parts:
        builder.add_segment(bounded(part))
    return builder.finish(content)


def pack(length: int, digest: bytes = b"\1" * 16) -> bytes:
    return struct.pack("<Q16s", length, digest)


def kept(*packed_rows: bytes, size: int, content: bytes = CONTENT, count: int | None = None) -> bytes:
    joined = b"".join(packed_rows)
    return content + struct.pack("<QI", size, len(joined) // 24 if count is None else count) + joined


Read = tuple[int, bytes, list[RecipeSegment]]


def read_all(data: bytes, most: int = 1 << 20) -> list[Read]:
    """Position, bytes and segments of every recipe in a file that gives at most that many bytes of rows at a time."""

    def read_at(offset: int, length: int) -> bytes:
        return data[offset : offset + (length if length == HEADS_AT_ONCE else min(length, most))]

    return [(position, encode(recipe), list(recipe.segments())) for position, recipe in iter_recipes(read_at, len(data))]


@pytest.mark.slow
@given(plan=st.lists(st.tuples(contents, segments), max_size=5), most=st.integers(1, 100))
def test_recipes_come_back_as_they_were_kept_in_blocks_of_any_size(
    plan: list[tuple[Blake3Digest, list[list[Row]]]], most: int
) -> None:
    built = [build(content, parts) for content, parts in plan]
    data = MAGIC + b"".join(map(encode, built))
    found = read_all(data, most)
    assert [packed for _, packed, _ in found] == [encode(recipe) for recipe in built]
    assert [segments for _, _, segments in found] == [list(recipe.segments()) for recipe in built]
    for position, packed, _ in found:
        assert data[position : position + len(packed)] == packed


@given(parts=segments, content=contents)
@example(parts=[[Row(MAX_CHUNK + 1, ZERO_DIGEST)]], content=Blake3Digest(bytes(32)))  # zeros are never a chunk
def test_segments_and_chunks_are_those_that_were_added(parts: list[list[Row]], content: Blake3Digest) -> None:
    parts = [bounded(part) for part in parts]
    recipe = build(content, parts)
    found = list(recipe.segments())
    assert [segment.rows() for segment in found] == parts
    assert [segment.digest for segment in found] == [segment_digest(part) for part in parts]
    assert recipe.size == sum(row.length for part in parts for row in part)
    row = offset = 0
    hooks = []
    for segment, part in zip(found, parts, strict=True):
        assert (segment.first_row, segment.offset, segment.length) == (row, offset, sum(one.length for one in part))
        hooks += list(segment.hooks())
        row, offset = row + len(part), offset + segment.length
    assert hooks == expected_hooks([one for part in parts for one in part])


def expected_hooks(all_rows: list[Row]) -> list[tuple[ChunkDigest, int, int]]:
    found, offset = [], 0
    for number, row in enumerate(all_rows):
        if is_hook(row.digest) and not row.is_zeros:
            found.append((row.digest, number, offset))
        offset += row.length
    return found


@pytest.mark.slow
@given(parts=segments, before=st.integers(0, 5))
def test_the_segment_with_which_rows_begin_is_found_where_its_end_is_among_them(parts: list[list[Row]], before: int) -> None:
    recipe = build(CONTENT, parts)
    packed = b"".join(recipe.blocks())
    for segment in recipe.segments():
        rest = packed[segment.first_row * 24 :]
        assert first_segment(rest, segment.first_row, segment.offset) == segment
        assert first_segment(rest[: len(segment.packed) - 1 - before], 0, 0) is None


def test_a_content_of_one_chunk_needs_no_rows() -> None:
    data = b"one chunk"
    content = Blake3Digest(blake3(data).digest())
    recipe = build(content, [[Row(len(data), ChunkDigest(content[:16]))]])
    assert recipe.rows == b""
    (segment,) = recipe.segments()
    row = Row(9, ChunkDigest(content[:16]))
    assert (segment.digest, segment.offset, segment.length, segment.rows()) == (segment_digest([row]), 0, 9, [row])


def test_an_empty_content_has_no_chunks() -> None:
    recipe = Recipe(CONTENT, 0, b"")
    assert list(recipe.segments()) == []
    assert read_all(MAGIC + encode(recipe)) == [(8, encode(recipe), [])]


def test_the_bytes_are_those_of_the_format() -> None:
    recipe = build(CONTENT, [[Row(5, ChunkDigest(b"\2" * 16)), Row(65_536, ZERO_DIGEST)], [Row(7, ChunkDigest(b"\3" * 16))]])
    assert encode(recipe) == (
        CONTENT
        + (65_548).to_bytes(8, "little")
        + (3).to_bytes(4, "little")
        + (5).to_bytes(8, "little") + b"\2" * 16
        + (65_536 | LAST).to_bytes(8, "little") + bytes(16)
        + (7 | LAST).to_bytes(8, "little") + b"\3" * 16
    )  # fmt: skip


def test_a_segments_digest_depends_on_every_row_and_not_on_its_place() -> None:
    rows = [Row(5, ChunkDigest(b"\2" * 16)), Row(9, ChunkDigest(b"\3" * 16))]
    others = [rows[::-1], rows[:1], [*rows, rows[0]], [Row(6, rows[0].digest), rows[1]], [Row(5, ZERO_DIGEST), rows[1]]]
    assert len({segment_digest(rows), *map(segment_digest, others)}) == 1 + len(others)
    assert segment_digest([]) != segment_digest(rows)


def test_one_digest_in_sixteen_is_a_hook() -> None:
    assert sum(is_hook(ChunkDigest(bytes([first]) * 16)) for first in range(256)) == 16


BAD_ROWS = {
    "a row cut off": (kept(pack(9 | LAST), size=9)[:-1]),
    "all rows cut off": kept(size=9, count=1),
    "the head cut off": kept(size=0)[:-1],
    "a row of nothing": kept(pack(LAST), size=0, count=1),
    "a row of nothing among others": kept(pack(9), pack(0), pack(3 | LAST), size=12),
    "a chunk that is too long": kept(pack((MAX_CHUNK + 1) | LAST), size=MAX_CHUNK + 1),
    "a run of zeros that is too long": kept(pack((MAX_ZERO_EXTENT + 1) | LAST, bytes(16)), size=MAX_ZERO_EXTENT + 1),
    "a length of 2^63 - 1": kept(pack((LAST - 1) | LAST), size=MAX_FILE_SIZE),
    "more than the size": kept(pack(9 | LAST), size=8),
    "less than the size": kept(pack(9 | LAST), size=10),
    "no end of the last segment": kept(pack(9), size=9),
    "no end after a whole segment": kept(pack(9 | LAST), pack(9), size=18),
    "too many rows in a segment": kept(*[pack(1)] * MAX_SEGMENT_ROWS, pack(1 | LAST), size=MAX_SEGMENT_ROWS + 1),
    "one chunk that is too long for one": kept(size=MAX_CHUNK + 1, count=0),
    "a size beyond all files": kept(size=MAX_FILE_SIZE + 1, count=0),
    "more rows than bytes": kept(pack(1 | LAST), size=0, count=1),
    "a size that wraps around": kept(pack(9 | LAST), size=2**64 - 1),
}


@pytest.mark.parametrize("bad", BAD_ROWS)
def test_what_cannot_be_a_recipe_is_refused(bad: str) -> None:
    for data in (MAGIC + BAD_ROWS[bad], MAGIC + encode(Recipe(CONTENT, 0, b"")) + BAD_ROWS[bad]):
        with pytest.raises(MalformedDocumentError):
            read_all(data)


def test_the_longest_segment_is_taken() -> None:
    packed = kept(*[pack(1)] * (MAX_SEGMENT_ROWS - 1), pack(1 | LAST), size=MAX_SEGMENT_ROWS)
    ((_, _, (segment,)),) = read_all(MAGIC + packed)
    assert len(segment.rows()) == MAX_SEGMENT_ROWS


@pytest.mark.parametrize("start", [b"", b"ESCHUNK", b"ESCHUNK2", b"\0" * 8, b"escHUNK1", b"PK\3\4zipped"])
def test_another_file_is_refused(start: bytes) -> None:
    with pytest.raises(MalformedDocumentError):
        read_all(start)


@pytest.mark.parametrize("count", [1000, 2**20, 2**32 - 1])
def test_a_count_that_is_a_lie_takes_no_memory(count: int) -> None:
    data = MAGIC + kept(pack(1), pack(1), size=MAX_FILE_SIZE, count=count)
    tracemalloc.start()
    try:
        with pytest.raises(MalformedDocumentError):
            read_all(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def test_no_more_is_asked_for_at_once_than_a_hundred_kilobytes() -> None:
    """A recipe of a terabyte has hundreds of megabytes of rows, and a damaged count may say a hundred gigabytes."""
    asked: list[int] = []
    count = 100_000
    packed = kept(*[pack(1), pack(2 | LAST)] * (count // 2), size=count // 2 * 3)
    data = MAGIC + packed

    def read_at(offset: int, length: int) -> bytes:
        asked.append(length)
        return data[offset : offset + length]

    ((_, recipe),) = iter_recipes(read_at, len(data))
    assert sum(1 for _ in recipe.segments()) == count // 2
    assert max(asked) <= 100_000


@settings(max_examples=often(80, 6000))
@given(data=st.binary(max_size=300))
def test_any_bytes_are_recipes_or_a_typed_error(data: bytes) -> None:
    try:
        found = read_all(MAGIC + data)
    except MalformedDocumentError:
        return
    assert b"".join(packed for _, packed, _ in found) == data


@pytest.mark.slow
@settings(max_examples=often(60, 4000))
@given(parts=segments.filter(bool), at=st.integers(0, 10**6), bit=st.integers(0, 7), cut=st.booleans())
def test_a_damaged_file_is_recipes_or_a_typed_error(parts: list[list[Row]], at: int, bit: int, cut: bool) -> None:
    data = bytearray(encode(build(CONTENT, parts)))
    at %= len(data)
    if cut:
        del data[at:]
    else:
        data[at] ^= 1 << bit
    try:
        found = read_all(MAGIC + bytes(data))
    except MalformedDocumentError:
        return
    for _, packed, read in found:
        assert sum(segment.length for segment in read) == int.from_bytes(packed[32:40], "little")
