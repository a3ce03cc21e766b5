"""Recipes: of which segments and chunks a content consists, the file in which a vault keeps them, and where two of them differ.

A content's rows in order, cut into segments, are its recipe.

`chunks.bin` is the magic `ESCHUNK1`, then for every content: BLAKE3 (32 bytes), size (u64), row count (u32), rows as
`evidencesync.delta.rows` packs them. All numbers are little-endian. A content that is a single chunk has no rows: its
digest is the content's own.

Rows may be many millions, so nobody holds them: they go to a spool as they are made, and are read in blocks.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from evidencesync.delta.rows import ROW, ZERO_DIGEST, RecipeSegment, Row, cut_segments, mark_segment, single_segment
from evidencesync.errors import LimitExceededError, MalformedDocumentError
from evidencesync.evidence.digest import CHUNK_DIGEST_SIZE, Blake3Digest
from evidencesync.limits import MAX_FILE_SIZE

MAGIC: Final = b"ESCHUNK1"
HEAD: Final = struct.Struct("<32sQI")
_MAX_ROWS: Final = 2**32 - 1  # a content of 256 TiB
_BLOCK: Final = 4096 * ROW.size
_SMALLEST: Final = 512  # bytes of a content, for each row
_SPARE_ROWS: Final = 8
_HEADS_AT_ONCE: Final = 64 * 1024

ReadAt = Callable[[int, int], bytes]
"""Gives the bytes at an offset, of that length; fewer only at the end of the file."""


@dataclass(frozen=True, slots=True)
class KeptRows:
    """Packed rows that lie in a file."""

    read_at: ReadAt
    position: int
    size: int

    def blocks(self) -> Iterator[bytes]:
        """All of them, some at a time. Raises MalformedDocumentError when the file is too short, and what `read_at` raises."""
        position, end = self.position, self.position + self.size
        while position < end:
            block = self.read_at(position, min(_BLOCK, end - position))
            if not block:
                raise MalformedDocumentError("chunks.bin is cut off")
            yield block
            position += len(block)


class PlacedRow(NamedTuple):
    """A row, and where what it names begins in the content."""

    offset: int
    row: Row

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.offset + self.row.length


@dataclass(frozen=True, slots=True)
class Recipe:
    """The rows of one content, packed as in `chunks.bin`: in memory or in a file. Nothing of it is checked until it is read."""

    content: Blake3Digest
    size: int
    rows: bytes | KeptRows

    @property
    def has_rows(self) -> bool:
        """False for a content of one chunk, and for an empty one."""
        return self._packed_size() > 0

    @property
    def row_count(self) -> int:
        """How many rows there are; 0 for a content of one chunk, and for an empty one."""
        return self._packed_size() // ROW.size

    def packed_rows(self, first: int, most: int) -> bytes:
        """At most `most` packed rows from number `first` on. Raises MalformedDocumentError where there are none."""
        count = min(most, self.row_count - first)
        if count <= 0:
            raise MalformedDocumentError("a recipe has no such row")
        start, length = first * ROW.size, count * ROW.size
        if isinstance(self.rows, KeptRows):
            return self.rows.read_at(self.rows.position + start, length)
        return self.rows[start : start + length]

    def blocks(self) -> Iterator[bytes]:
        """The packed rows, some at a time; a block may end within a row."""
        if isinstance(self.rows, KeptRows):
            yield from self.rows.blocks()
        elif self.rows:
            yield self.rows

    def encoded(self) -> Iterator[bytes]:
        """The recipe as it stands in `chunks.bin`, in blocks."""
        yield HEAD.pack(self.content, self.size, self.row_count)
        yield from self.blocks()

    def segments(self) -> Iterator[RecipeSegment]:
        """Every segment in order. A content of one chunk gives that chunk.

        Raises MalformedDocumentError, after the segments before it, where the rows cannot be those of a content of that size.
        """
        if self.has_rows:
            return cut_segments(self.blocks(), self.size)
        return iter([single_segment(self.content, self.size)] if self.size else [])

    def placed_rows(self) -> Iterator[PlacedRow]:
        """Every row in order. Raises as `segments` does."""
        offset = 0
        for segment in self.segments():
            for row in segment.rows():
                yield PlacedRow(offset, row)
                offset += row.length

    def _packed_size(self) -> int:
        return self.rows.size if isinstance(self.rows, KeptRows) else len(self.rows)


class RowSpool(Protocol):
    """Where rows are kept while a content is assembled. Raises what its file system refuses."""

    @property
    def size(self) -> int:
        """How many bytes it has."""

    def append(self, packed: bytes) -> None:
        """Adds rows at its end."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Gives back what was added."""


class RecipeBuilder:
    """Spools the rows of a content while it is assembled. One builder at a time uses a spool."""

    __slots__ = ("_first", "_spool", "_start", "size")

    def __init__(self, spool: RowSpool) -> None:
        self._spool = spool
        self._start = spool.size
        self._first = b""
        self.size = 0

    def add_segment(self, rows: list[Row]) -> None:
        """Appends one whole segment. Raises LimitExceededError beyond what `chunks.bin` can count."""
        packed = mark_segment(rows)
        if self._packed_size() + len(packed) > _MAX_ROWS * ROW.size:
            raise LimitExceededError("a content has more chunks than a recipe can count")
        self._first = self._first or packed
        self._spool.append(packed)
        self.size += sum([row.length for row in rows])

    def finish(self, content: Blake3Digest) -> Recipe:
        """The recipe of the content that was assembled. A content of one chunk needs no rows."""
        size = self._packed_size()
        digest = self._first[ROW.size - CHUNK_DIGEST_SIZE :]
        single = size == ROW.size and digest == content[:CHUNK_DIGEST_SIZE] != ZERO_DIGEST
        return Recipe(content, self.size, b"" if single else KeptRows(self._spool.read_at, self._start, size))

    def _packed_size(self) -> int:
        return self._spool.size - self._start


def most_bytes(contents: int, size: int) -> int:
    """What a `chunks.bin` with the recipes of so many contents, of so many bytes together, cannot be larger than.

    By far: no sender cuts chunks as small as this.
    """
    return len(MAGIC) + contents * (HEAD.size + _SPARE_ROWS * ROW.size) + size // _SMALLEST * ROW.size


def read_recipe(read_at: ReadAt, position: int, end: int) -> Recipe:
    """The recipe at a position in a `chunks.bin` of `end` bytes. Its rows are not looked at yet.

    Raises MalformedDocumentError for a head that is cut off or that cannot be true.
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
    """Every recipe of a `chunks.bin` of `end` bytes, with its position in the file. Their rows are not looked at yet.

    Raises MalformedDocumentError for a file that is cut off or is another.
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
    """Adds those recipes of a `chunks.bin` that are wanted, by BLAKE3 and size, and not found yet; ends when all are found.

    Raises as `iter_recipes` does; what was found before stays.
    """
    for _, recipe in iter_recipes(read_at, end):
        if wanted.get(recipe.content) == recipe.size:
            found.setdefault(recipe.content, recipe)
            if len(found) == len(wanted):
                return


class ByteRange(NamedTuple):
    """Bytes of a content that are not what another copy, or a recipe, has at the same place."""

    offset: int
    length: int


def changed_ranges(before: Recipe, after: Recipe) -> Iterator[ByteRange]:
    """The ranges of `after` that differ from what `before` has at the same offsets, merged where they touch, in order.

    As fine as chunks are: a range may hold bytes that are the same. What only one of the two has at its end counts as far as
    `after` goes. Both are read in blocks. Raises MalformedDocumentError for rows that are none.
    """
    return merged_ranges(_differing(before.placed_rows(), after.placed_rows()))


def merged_ranges(ranges: Iterable[ByteRange]) -> Iterator[ByteRange]:
    """Ranges that are given in order, joined where they touch."""
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
    """Walks both side by side: the parts of the later one that are not known to be the same."""
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
    """Whether what two rows have in common is equal: the same chunk, or zeros in both."""
    if one.row.is_zeros and other.row.is_zeros:
        return True
    return one == other
