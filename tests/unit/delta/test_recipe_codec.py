"""Recipes come back as they were kept, and a file that is not a `chunks.bin` is one typed error in little memory."""

from __future__ import annotations

import io
import struct
import tracemalloc

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from evidencesync.delta.recipe import (
    MAGIC,
    ZERO_DIGEST,
    Recipe,
    RecipeBuilder,
    Row,
    checked_recipe,
    is_hook,
    iter_recipes,
    read_recipe,
    segment_digest,
)
from evidencesync.errors import MalformedDocumentError
from evidencesync.evidence.digest import Blake3Digest, ChunkDigest
from evidencesync.limits import MAX_CHUNK, MAX_FILE_SIZE, MAX_SEGMENT_ROWS, MAX_ZERO_EXTENT

LAST = 1 << 63
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
    builder = RecipeBuilder()
    for part in parts:
        builder.add_segment(bounded(part))
    return builder.finish(content)


def pack(length: int, digest: bytes = b"\1" * 16) -> bytes:
    return struct.pack("<Q16s", length, digest)


def kept(*packed_rows: bytes, size: int, content: bytes = CONTENT, count: int | None = None) -> bytes:
    joined = b"".join(packed_rows)
    return content + struct.pack("<QI", size, len(joined) // 24 if count is None else count) + joined


def read_all(data: bytes) -> list[tuple[int, Recipe]]:
    return list(iter_recipes(io.BytesIO(data).read))


@given(plan=st.lists(st.tuples(contents, segments), max_size=5))
def test_recipes_come_back_as_they_were_kept(plan: list[tuple[Blake3Digest, list[list[Row]]]]) -> None:
    built = [build(content, parts) for content, parts in plan]
    data = MAGIC + b"".join(recipe.encode() for recipe in built)
    found = read_all(data)
    assert [recipe for _, recipe in found] == built
    for position, recipe in found:
        assert read_recipe(io.BytesIO(data[position:]).read) == recipe


@given(parts=segments, content=contents)
def test_segments_and_chunks_are_those_that_were_added(parts: list[list[Row]], content: Blake3Digest) -> None:
    parts = [bounded(part) for part in parts]
    recipe = build(content, parts)
    assert [list(span.rows) for span in recipe.spans()] == parts
    assert [digest for digest, _, _ in recipe.segments()] == [segment_digest(part) for part in parts]
    assert recipe.size == sum(row.length for part in parts for row in part)
    offset = 0
    for digest, at, length in recipe.chunks():
        assert at == offset
        assert digest != ZERO_DIGEST
        offset += length
    assert offset == recipe.size


def test_a_content_of_one_chunk_needs_no_rows() -> None:
    data = b"one chunk"
    content = Blake3Digest(blake3(data).digest())
    recipe = build(content, [[Row(len(data), ChunkDigest(content[:16]))]])
    assert recipe.rows == b""
    assert list(recipe.chunks()) == [(content[:16], 0, 9)]
    assert list(recipe.segments()) == [(segment_digest([Row(9, ChunkDigest(content[:16]))]), 0, 9)]


def test_an_empty_content_has_no_chunks() -> None:
    recipe = Recipe(CONTENT, 0, b"")
    assert list(recipe.spans()) == []
    assert read_all(MAGIC + recipe.encode()) == [(8, recipe)]


def test_the_bytes_are_those_of_the_format() -> None:
    recipe = build(CONTENT, [[Row(5, ChunkDigest(b"\2" * 16)), Row(65_536, ZERO_DIGEST)], [Row(7, ChunkDigest(b"\3" * 16))]])
    assert recipe.encode() == (
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
    for data in (MAGIC + BAD_ROWS[bad], MAGIC + Recipe(CONTENT, 0, b"").encode() + BAD_ROWS[bad]):
        with pytest.raises(MalformedDocumentError):
            read_all(data)


def test_the_longest_segment_is_taken() -> None:
    packed = kept(*[pack(1)] * (MAX_SEGMENT_ROWS - 1), pack(1 | LAST), size=MAX_SEGMENT_ROWS)
    ((_, recipe),) = read_all(MAGIC + packed)
    assert len(next(recipe.spans()).rows) == MAX_SEGMENT_ROWS


@pytest.mark.parametrize("start", [b"", b"ESCHUNK", b"ESCHUNK2", b"\0" * 8, b"escHUNK1", b"PK\3\4zipped"])
def test_another_file_is_refused(start: bytes) -> None:
    with pytest.raises(MalformedDocumentError):
        read_all(start)


def test_rows_from_elsewhere_are_checked_in_the_same_way() -> None:
    assert checked_recipe(CONTENT, 9, pack(9 | LAST)).size == 9
    for rows_, size in ((pack(9 | LAST)[:-1], 9), (pack(9), 9), (pack(9 | LAST), 8), (b"", MAX_CHUNK + 1)):
        with pytest.raises(MalformedDocumentError):
            checked_recipe(CONTENT, size, rows_)


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


def test_no_more_is_asked_for_at_once_than_a_mebibyte() -> None:
    """A damaged count may say a hundred gigabytes, and a reader of a file would try to make room for them."""
    asked: list[int] = []
    file = io.BytesIO(MAGIC + kept(size=MAX_FILE_SIZE, count=2**32 - 1) + bytes(3 << 20))

    def read(size: int) -> bytes:
        asked.append(size)
        return file.read(size)

    with pytest.raises(MalformedDocumentError):
        list(iter_recipes(read))
    assert max(asked) <= 1 << 20


@settings(max_examples=300)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_recipes_or_a_typed_error(data: bytes) -> None:
    try:
        found = read_all(MAGIC + data)
    except MalformedDocumentError:
        return
    assert b"".join(recipe.encode() for _, recipe in found) == data


@settings(max_examples=200)
@given(parts=segments.filter(bool), at=st.integers(0, 10**6), bit=st.integers(0, 7), cut=st.booleans())
def test_a_damaged_file_is_recipes_or_a_typed_error(parts: list[list[Row]], at: int, bit: int, cut: bool) -> None:
    data = bytearray(build(CONTENT, parts).encode())
    at %= len(data)
    if cut:
        del data[at:]
    else:
        data[at] ^= 1 << bit
    try:
        found = read_all(MAGIC + bytes(data))
    except MalformedDocumentError:
        return
    for _, recipe in found:
        assert sum(length for _, _, length in recipe.chunks()) == recipe.size
