"""Recipes: of which segments and chunks a content consists, and the file in which a vault keeps them.

A *row* is one chunk, or one run of zeros. A content's rows in order, cut into segments, are its recipe.

`chunks.bin` is the magic `ESCHUNK1`, then for every content: BLAKE3 (32 bytes), size (u64), row count (u32), rows.
A row is 24 bytes: length (u64, bit 63 set on the last row of a segment) and chunk digest (16 bytes; all zero for a run
of zeros). All numbers are little-endian. A content that is a single chunk has no rows: its digest is the content's own.

Rows may be many millions, so nobody holds them: they go to a spool as they are made, and are read in blocks.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Final, NamedTuple, Protocol

from blake3 import blake3

from evidencesync.errors import LimitExceededError, MalformedDocumentError
from evidencesync.evidence.digest import CHUNK_DIGEST_SIZE, Blake3Digest, ChunkDigest, SegmentDigest
from evidencesync.limits import MAX_CHUNK, MAX_FILE_SIZE, MAX_SEGMENT_ROWS, MAX_ZERO_EXTENT

MAGIC: Final = b"ESCHUNK1"
ZERO_DIGEST: Final = ChunkDigest(bytes(CHUNK_DIGEST_SIZE))
HEAD: Final = struct.Struct("<32sQI")
ROW: Final = struct.Struct("<Q16s")
_LAST: Final = 1 << 63
MAX_ROW: Final = _LAST - 1  # the bits of a row's length
_LAST_BYTE: Final = 7  # of a row: where bit 63 of its length is
_MAX_ROWS: Final = 2**32 - 1  # a content of 256 TiB
_MAX_PACKED: Final = MAX_SEGMENT_ROWS * ROW.size
_BLOCK: Final = 4096 * ROW.size
_HEADS_AT_ONCE: Final = 64 * 1024
_HOOKS: Final = bytes(0 if first & 0x0F else 1 for first in range(256))

ReadAt = Callable[[int, int], bytes]
"""Gives the bytes at an offset, of that length; fewer only at the end of the file."""


@dataclass(frozen=True, slots=True)
class Row:
    """A chunk of `length` bytes, or (with the all-zero digest) a run of that many zeros."""

    length: int
    digest: ChunkDigest

    @property
    def is_zeros(self) -> bool:
        """Whether this is a run of zeros, which is never sent or stored."""
        return self.digest == ZERO_DIGEST


def pack_segment(rows: list[Row]) -> bytes:
    """The rows of one segment, 24 bytes each."""
    return b"".join([ROW.pack(row.length, row.digest) for row in rows])


def unpack_segment(packed: bytes) -> list[Row]:
    """The rows of one segment. Raises MalformedDocumentError for rows that no segment has."""
    if len(packed) % ROW.size or len(packed) > MAX_SEGMENT_ROWS * ROW.size:
        raise MalformedDocumentError("a segment of impossible size")
    rows = [Row(length, ChunkDigest(digest)) for length, digest in ROW.iter_unpack(packed)]
    if not all(0 < row.length <= (MAX_ZERO_EXTENT if row.is_zeros else MAX_CHUNK) for row in rows):
        raise MalformedDocumentError("a segment holds a chunk of impossible size")
    return rows


def segment_digest_of(packed: bytes) -> SegmentDigest:
    """The digest of a segment by its packed rows."""
    return SegmentDigest(blake3(packed).digest(length=CHUNK_DIGEST_SIZE))


def segment_digest(rows: list[Row]) -> SegmentDigest:
    """The digest by which two ends name a segment: BLAKE3 over its rows, 16 bytes. Says nothing about other layouts."""
    return segment_digest_of(pack_segment(rows))


def is_hook(digest: ChunkDigest) -> bool:
    """Whether a chunk is one of the sixteenth that an index remembers (sparse indexing, Lillibridge et al. 2009)."""
    return digest[0] & 0x0F == 0


def unpack_rows(packed: bytes) -> list[Row]:
    """Rows as they stand in `chunks.bin`. What is left of a row is not looked at."""
    whole = memoryview(packed)[: len(packed) // ROW.size * ROW.size]
    return [Row(length & MAX_ROW, ChunkDigest(digest)) for length, digest in ROW.iter_unpack(whole)]


def first_segment(packed: bytes, row: int, offset: int) -> Segment | None:
    """The segment with which packed rows begin; None where its end is not among them.

    Raises MalformedDocumentError for what cannot be one.
    """
    end = packed[_LAST_BYTE :: ROW.size].find(0x80) + 1
    return _segment(packed[: end * ROW.size], row, offset) if 0 < end * ROW.size <= len(packed) else None


class Segment(NamedTuple):
    """One segment of a recipe: the number of its first row, where it lies in the content, and its rows, packed."""

    digest: SegmentDigest
    first_row: int
    offset: int
    length: int
    packed: bytes

    def rows(self) -> list[Row]:
        """Its rows, for whoever needs all of them."""
        return unpack_rows(self.packed)

    def hooks(self) -> Iterator[tuple[ChunkDigest, int, int]]:
        """Digest, row number and offset in the content of each chunk that is a hook."""
        marks = self.packed[ROW.size - CHUNK_DIGEST_SIZE :: ROW.size].translate(_HOOKS)
        number = marks.find(1)
        if number < 0:
            return
        offsets = list(accumulate(_lengths_of(self.packed), initial=self.offset))
        while number >= 0:
            end = (number + 1) * ROW.size
            digest = ChunkDigest(self.packed[end - CHUNK_DIGEST_SIZE : end])
            if digest != ZERO_DIGEST:
                yield digest, self.first_row + number, offsets[number]
            number = marks.find(1, number + 1)


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

    def blocks(self) -> Iterator[bytes]:
        """The packed rows, some at a time; a block may end within a row."""
        if isinstance(self.rows, KeptRows):
            yield from self.rows.blocks()
        elif self.rows:
            yield self.rows

    def encoded(self) -> Iterator[bytes]:
        """The recipe as it stands in `chunks.bin`, in blocks."""
        yield HEAD.pack(self.content, self.size, self._packed_size() // ROW.size)
        yield from self.blocks()

    def segments(self) -> Iterator[Segment]:
        """Every segment in order. A content of one chunk gives that chunk.

        Raises MalformedDocumentError, after the segments before it, where the rows cannot be those of a content of that size.
        """
        if self.has_rows:
            return _segments_of(self.blocks(), self.size)
        return iter([single_segment(self.content, self.size)] if self.size else [])

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
        final = len(rows) - 1
        packed = b"".join(
            [ROW.pack(row.length | (_LAST if number == final else 0), row.digest) for number, row in enumerate(rows)]
        )
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


def unpack_head(head: bytes, room: int) -> tuple[Blake3Digest, int, int]:
    """Content, size and number of rows, of a recipe in whose file `room` bytes follow its head.

    Raises MalformedDocumentError for a head that is cut off or that cannot be true.
    """
    if len(head) != HEAD.size:
        raise MalformedDocumentError("chunks.bin is cut off")
    content, size, count = HEAD.unpack(head)
    if size > MAX_FILE_SIZE or count > size or count * ROW.size > room:
        raise MalformedDocumentError("chunks.bin holds a recipe of impossible size")
    return Blake3Digest(content), size, count


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
        rows_at = position + HEAD.size
        content, size, count = unpack_head(heads[at : at + HEAD.size], end - rows_at)
        yield position, Recipe(content, size, KeptRows(read_at, rows_at, count * ROW.size))
        position = rows_at + count * ROW.size


def _segments_of(blocks: Iterator[bytes], size: int) -> Iterator[Segment]:
    """Cuts packed rows at the marks, and checks each segment and the sum."""
    left = b""
    row = offset = 0
    for block in blocks:
        packed = left + block if left else block
        lasts = packed[_LAST_BYTE :: ROW.size]
        start, end = 0, lasts.find(0x80) + 1
        while end and end * ROW.size <= len(packed):
            segment = _segment(packed[start * ROW.size : end * ROW.size], row, offset)
            row += end - start
            offset += segment.length
            if offset > size:
                raise MalformedDocumentError("a recipe does not add up to the size of its content")
            yield segment
            start, end = end, lasts.find(0x80, end) + 1
        left = packed[start * ROW.size :]
        if len(left) >= _MAX_PACKED + ROW.size:
            raise MalformedDocumentError("a recipe holds a segment of impossible size")
    if left or offset != size:
        raise MalformedDocumentError("a recipe does not add up to the size of its content")


def _segment(marked: bytes, row: int, offset: int) -> Segment:
    last = len(marked) - ROW.size + _LAST_BYTE
    packed = marked[:last] + bytes([marked[last] & 0x7F]) + marked[last + 1 :]
    if len(packed) > _MAX_PACKED:
        raise MalformedDocumentError("a recipe holds a segment of impossible size")
    lengths = _lengths_of(packed)
    if min(lengths) <= 0 or (max(lengths) > MAX_CHUNK and not _long_rows_are_zeros(packed)):
        raise MalformedDocumentError("a recipe holds a chunk of impossible size")
    return Segment(segment_digest_of(packed), row, offset, sum(lengths), packed)


def single_segment(content: Blake3Digest, size: int) -> Segment:
    """The one segment of a content that is one chunk. Raises MalformedDocumentError when it is too large for one."""
    if size > MAX_CHUNK:
        raise MalformedDocumentError("a recipe holds a chunk of impossible size")
    packed = ROW.pack(size, content[:CHUNK_DIGEST_SIZE])
    return Segment(segment_digest_of(packed), 0, 0, size, packed)


def _long_rows_are_zeros(packed: bytes) -> bool:
    return all(length <= (MAX_ZERO_EXTENT if digest == ZERO_DIGEST else MAX_CHUNK) for length, digest in ROW.iter_unpack(packed))


def _lengths_of(packed: bytes) -> tuple[int, ...]:
    return _lengths(len(packed) // ROW.size).unpack(packed)


@lru_cache(maxsize=MAX_SEGMENT_ROWS)
def _lengths(count: int) -> struct.Struct:
    """Only the lengths of so many rows: several times as quick as row by row."""
    return struct.Struct("<" + "Q16x" * count)
