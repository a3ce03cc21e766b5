"""Builds, reads and compares recipes: a content's rows in order, cut into segments.

`chunks.bin` is the magic `ESCHUNK1`, then for every content: BLAKE3 (32 bytes), size (u64), row count (u32), rows as
`evidencesync.delta.rows` packs them. All numbers are little-endian. A content that is a single chunk has no rows: its
digest is the content's own.

There may be many millions of rows, so they are never all in memory: they are spooled as they are made, and read in blocks.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple, Protocol

import msgspec

from evidencesync.delta.rows import ROW, ZERO_DIGEST, RecipeSegment, Row, cut_segments, mark_segment, single_segment
from evidencesync.errors import LimitExceededError, MalformedDocumentError
from evidencesync.evidence.digest import CHUNK_DIGEST_SIZE, Blake3Digest
from evidencesync.limits import MAX_FILE_SIZE

MAGIC: Final = b"ESCHUNK1"
HEAD: Final = struct.Struct("<32sQI")
_MAX_ROWS: Final = 2**32 - 1  # a content of 256 TiB
_BLOCK: Final = 4096 * ROW.size
_SMALLEST: Final = 512  # bytes of content for each row, at the least
_SPARE_ROWS: Final = 8
_HEADS_AT_ONCE: Final = 64 * 1024

ReadAt = Callable[[int, int], bytes]
"""Returns the bytes at an offset, of that length; fewer only at the end of the file."""


class KeptRows(msgspec.Struct, frozen=True):
    """Packed rows in a file."""

    read_at: ReadAt
    position: int
    size: int

    def blocks(self) -> Iterator[bytes]:
        """Yields all rows in blocks. Raises MalformedDocumentError when the file is too short, and what `read_at` raises."""
        position, end = self.position, self.position + self.size
        while position < end:
            block = self.read_at(position, min(_BLOCK, end - position))
            if not block:
                raise MalformedDocumentError("chunks.bin is cut off")
            yield block
            position += len(block)


class PlacedRow(NamedTuple):
    """A row, and its offset in the content."""

    offset: int
    row: Row

    @property
    def end(self) -> int:
        """The offset after its last byte."""
        return self.offset + self.row.length


class Recipe(msgspec.Struct, frozen=True):
    """The rows of one content, packed as in `chunks.bin`: in memory or in a file. Rows are checked when they are read."""

    content: Blake3Digest
    size: int
    rows: bytes | KeptRows

    @property
    def has_rows(self) -> bool:
        """False for a content of one chunk, and for an empty one."""
        return self._packed_size() > 0

    @property
    def row_count(self) -> int:
        """The number of rows; 0 for a content of one chunk, and for an empty one."""
        return self._packed_size() // ROW.size

    def packed_rows(self, first: int, most: int) -> bytes:
        """Returns at most `most` packed rows from number `first` on. Raises MalformedDocumentError where there are none."""
        count = min(most, self.row_count - first)
        if count <= 0:
            raise MalformedDocumentError("a recipe has no such row")
        start, length = first * ROW.size, count * ROW.size
        if isinstance(self.rows, KeptRows):
            return self.rows.read_at(self.rows.position + start, length)
        return self.rows[start : start + length]

    def blocks(self) -> Iterator[bytes]:
        """Yields the packed rows in blocks; a block may end within a row."""
        if isinstance(self.rows, KeptRows):
            yield from self.rows.blocks()
        elif self.rows:
            yield self.rows

    def encoded(self) -> Iterator[bytes]:
        """Yields the recipe as in `chunks.bin`, in blocks."""
        yield HEAD.pack(self.content, self.size, self.row_count)
        yield from self.blocks()

    def segments(self) -> Iterator[RecipeSegment]:
        """Yields every segment in order. A content of one chunk gives that chunk.

        Raises MalformedDocumentError, after the valid segments, where the rows cannot be those of a content of that size.
        """
        if self.has_rows:
            return cut_segments(self.blocks(), self.size)
        return iter([single_segment(self.content, self.size)] if self.size else [])

    def placed_rows(self) -> Iterator[PlacedRow]:
        """Yields every row in order. Raises as `segments` does."""
        offset = 0
        for segment in self.segments():
            for row in segment.rows():
                yield PlacedRow(offset, row)
                offset += row.length

    def _packed_size(self) -> int:
        return self.rows.size if isinstance(self.rows, KeptRows) else len(self.rows)


class RowSpool(Protocol):
    """Stores rows while a content is assembled. Raises StorageError or NoSpaceError."""

    @property
    def size(self) -> int:
        """The number of its bytes."""

    def append(self, packed: bytes) -> None:
        """Adds rows at its end."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Returns bytes that were added."""


class RecipeBuilder:
    """Spools the rows of a content while it is assembled. One builder at a time uses a spool."""

    __slots__ = ("_first", "_spool", "_start", "size")

    def __init__(self, spool: RowSpool) -> None:
        self._spool = spool
        self._start = spool.size
        self._first = b""
        self.size = 0

    def add_segment(self, rows: list[Row]) -> None:
        """Adds one whole segment. Raises LimitExceededError for more rows than `chunks.bin` can count."""
        packed = mark_segment(rows)
        if self._packed_size() + len(packed) > _MAX_ROWS * ROW.size:
            raise LimitExceededError("a content has more chunks than a recipe can count")
        self._first = self._first or packed
        self._spool.append(packed)
        self.size += sum([row.length for row in rows])

    def finish(self, content: Blake3Digest) -> Recipe:
        """Returns the recipe of the assembled content. A content of one chunk needs no rows."""
        size = self._packed_size()
        digest = self._first[ROW.size - CHUNK_DIGEST_SIZE :]
        single = size == ROW.size and digest == content[:CHUNK_DIGEST_SIZE] != ZERO_DIGEST
        return Recipe(content, self.size, b"" if single else KeptRows(self._spool.read_at, self._start, size))

    def _packed_size(self) -> int:
        return self._spool.size - self._start


def encode_single(content: Blake3Digest, size: int) -> bytes:
    """Returns the recipe of a content of one chunk as in `chunks.bin`: it has no rows."""
    return HEAD.pack(content, size, 0)


def most_bytes(contents: int, size: int) -> int:
    """Returns an upper bound for a `chunks.bin` with the recipes of `contents` contents of `size` bytes in total.

    A generous one: no sender cuts chunks as small as this.
    """
    return len(MAGIC) + contents * (HEAD.size + _SPARE_ROWS * ROW.size) + size // _SMALLEST * ROW.size


def read_recipe(read_at: ReadAt, position: int, end: int) -> Recipe:
    """Reads the head of the recipe at a position in a `chunks.bin` of `end` bytes; the rows are not read yet.

    Raises MalformedDocumentError for a head that is cut off or impossible.
    """
    return _recipe_of(read_at(position, HEAD.size), read_at, position, end)


def _recipe_of(head: bytes, read_at: ReadAt, position: int, end: int) -> Recipe:
    if len(head) != HEAD.size:
        raise MalformedDocumentError("chunks.bin is cut off")
    content, size, count = HEAD.unpack(head)
    if size > MAX_FILE_SIZE or count > size or count * ROW.size > end - position - HEAD.size:
        raise MalformedDocumentError("chunks.bin holds a recipe of impossible size")
    return Recipe(Blake3Digest(content), size, KeptRows(read_at, position + HEAD.size, count * ROW.size))


def iter_recipes(read_at: ReadAt, end: int) -> Iterator[tuple[int, Recipe]]:
    """Yields every recipe of a `chunks.bin` of `end` bytes, with its position in the file; the rows are not read yet.

    Raises MalformedDocumentError for a file that is cut off or is not a `chunks.bin`.
    """
    start, heads = 0, read_at(0, _HEADS_AT_ONCE)
    if not heads.startswith(MAGIC):
        raise MalformedDocumentError("not a chunks.bin")
    position = len(MAGIC)
    while position < end:
        at = position - start
        if at + HEAD.size > len(heads):
            start, heads = position, read_at(position, _HEADS_AT_ONCE)
            at = 0
        recipe = _recipe_of(heads[at : at + HEAD.size], read_at, position, end)
        yield position, recipe
        position += HEAD.size + recipe.row_count * ROW.size


def find_recipes(read_at: ReadAt, end: int, wanted: Mapping[bytes, int], found: dict[bytes, Recipe]) -> None:
    """Adds the wanted recipes of a `chunks.bin` (by BLAKE3 and size) to `found`; stops when all are found.

    Raises as `iter_recipes` does; what was found before that stays.
    """
    for _, recipe in iter_recipes(read_at, end):
        if wanted.get(recipe.content) == recipe.size:
            found.setdefault(recipe.content, recipe)
            if len(found) == len(wanted):
                return


class ByteRange(NamedTuple):
    """A range of a content that differs from another copy, or a recipe, at the same offset."""

    offset: int
    length: int


def changed_ranges(before: Recipe, after: Recipe) -> Iterator[ByteRange]:
    """Yields the ranges of `after` that differ from `before` at the same offsets, in order, merged where they touch.

    The granularity is a chunk: a range may contain equal bytes. Where `after` is longer, its end differs. Both are read in
    blocks. Raises MalformedDocumentError for invalid rows.
    """
    return merged_ranges(_differing(before.placed_rows(), after.placed_rows()))


def merged_ranges(ranges: Iterable[ByteRange]) -> Iterator[ByteRange]:
    """Yields ranges that are given in order, joined where they touch."""
    start = end = 0
    for one in ranges:
        if one.offset != end and end > start:
            yield ByteRange(start, end - start)
            start = one.offset
        elif end == start:
            start = one.offset
        end = one.offset + one.length
    if end > start:
        yield ByteRange(start, end - start)


def _differing(before: Iterator[PlacedRow], after: Iterator[PlacedRow]) -> Iterator[ByteRange]:
    """Yields the parts of the later one that are not known to be equal; both are read in step."""
    position = 0
    one, other = next(before, None), next(after, None)
    while other is not None:
        end = other.end if one is None else min(one.end, other.end)
        if one is None or not _is_same(one, other):
            yield ByteRange(position, end - position)
        position = end
        if one is not None and one.end == end:
            one = next(before, None)
        if other.end == end:
            other = next(after, None)


def _is_same(one: PlacedRow, other: PlacedRow) -> bool:
    """Whether two rows are equal where they overlap: the same chunk, or zeros in both."""
    if one.row.is_zeros and other.row.is_zeros:
        return True
    return one == other
