"""Rows, and the segments that they make up: how they are packed, counted and named.

A *row* is one chunk, or one run of zeros. Packed, it has 24 bytes: length (u64, little-endian) and chunk digest (16 bytes;
all zero for a run of zeros). In `chunks.bin` bit 63 of the length is set on the last row of a segment.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from typing import Final, NamedTuple

import msgspec
from blake3 import blake3

from evidencesync.errors import MalformedDocumentError
from evidencesync.evidence.digest import CHUNK_DIGEST_SIZE, Blake3Digest, ChunkDigest, SegmentDigest
from evidencesync.limits import MAX_CHUNK, MAX_SEGMENT_ROWS, MAX_ZERO_EXTENT

ZERO_DIGEST: Final = ChunkDigest(bytes(CHUNK_DIGEST_SIZE))
ROW: Final = struct.Struct("<Q16s")
_LAST: Final = 1 << 63
MAX_ROW: Final = _LAST - 1  # the bits of a row's length
_MAX_PACKED: Final = MAX_SEGMENT_ROWS * ROW.size
_LAST_BYTE: Final = 7  # of a row: where bit 63 of its length is
_HOOKS: Final = bytes(0 if first & 0x0F else 1 for first in range(256))


class Row(msgspec.Struct, frozen=True):
    """A chunk of `length` bytes, or (with the all-zero digest) a run of that many zeros."""

    length: int
    digest: ChunkDigest

    @property
    def is_zeros(self) -> bool:
        """Whether this is a run of zeros: these are never sent or stored."""
        return self.digest == ZERO_DIGEST


def pack_segment(rows: list[Row]) -> bytes:
    """Packs the rows of one segment, 24 bytes each."""
    return b"".join([ROW.pack(row.length, row.digest) for row in rows])


def mark_segment(rows: list[Row]) -> bytes:
    """Packs the rows of one segment as in `chunks.bin`: the last is marked."""
    final = len(rows) - 1
    return b"".join([ROW.pack(row.length | (_LAST if number == final else 0), row.digest) for number, row in enumerate(rows)])


def unpack_segment(packed: bytes) -> list[Row]:
    """Unpacks the rows of one segment. Raises MalformedDocumentError for rows that no segment can have."""
    if len(packed) % ROW.size or len(packed) > MAX_SEGMENT_ROWS * ROW.size:
        raise MalformedDocumentError("a segment of impossible size")
    rows = [Row(length, ChunkDigest(digest)) for length, digest in ROW.iter_unpack(packed)]
    if not all(0 < row.length <= (MAX_ZERO_EXTENT if row.is_zeros else MAX_CHUNK) for row in rows):
        raise MalformedDocumentError("a segment holds a chunk of impossible size")
    return rows


def segment_digest_of(packed: bytes) -> SegmentDigest:
    """Returns the digest of a segment, from its packed rows."""
    return SegmentDigest(blake3(packed).digest(length=CHUNK_DIGEST_SIZE))


def segment_digest(rows: list[Row]) -> SegmentDigest:
    """Returns the digest that names a segment on both ends: BLAKE3 over its packed rows, 16 bytes."""
    return segment_digest_of(pack_segment(rows))


def is_hook(digest: ChunkDigest) -> bool:
    """Whether a chunk is one of the sixteenth that an index remembers (sparse indexing, Lillibridge et al. 2009)."""
    return digest[0] & 0x0F == 0


def unpack_rows(packed: bytes) -> list[Row]:
    """Unpacks rows from `chunks.bin`. An incomplete row at the end is ignored."""
    whole = memoryview(packed)[: len(packed) // ROW.size * ROW.size]
    return [Row(length & MAX_ROW, ChunkDigest(digest)) for length, digest in ROW.iter_unpack(whole)]


def first_segment(packed: bytes, row: int, offset: int) -> RecipeSegment | None:
    """Returns the segment at the start of packed rows; None where its end is not among them.

    Raises MalformedDocumentError for rows that cannot be a segment.
    """
    end = packed[_LAST_BYTE :: ROW.size].find(0x80) + 1
    return _segment(packed[: end * ROW.size], row, offset) if 0 < end * ROW.size <= len(packed) else None


class RecipeSegment(NamedTuple):
    """One segment of a recipe: the number of its first row, its offset in the content, and its packed rows."""

    digest: SegmentDigest
    first_row: int
    offset: int
    length: int
    packed: bytes

    def rows(self) -> list[Row]:
        """Unpacks its rows."""
        return unpack_rows(self.packed)

    def hooks(self) -> Iterator[tuple[ChunkDigest, int, int]]:
        """Yields digest, row number and offset in the content of each chunk that is a hook."""
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


def cut_segments(blocks: Iterator[bytes], size: int) -> Iterator[RecipeSegment]:
    """Cuts the packed rows of a content of that size at the marks, and checks each segment and the sum.

    Raises MalformedDocumentError, after the valid segments, for rows that cannot be those of such a content.
    """
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


def _segment(marked: bytes, row: int, offset: int) -> RecipeSegment:
    last = len(marked) - ROW.size + _LAST_BYTE
    packed = marked[:last] + bytes([marked[last] & 0x7F]) + marked[last + 1 :]
    if len(packed) > _MAX_PACKED:
        raise MalformedDocumentError("a recipe holds a segment of impossible size")
    lengths = _lengths_of(packed)
    if min(lengths) <= 0 or (max(lengths) > MAX_CHUNK and not _long_rows_are_zeros(packed)):
        raise MalformedDocumentError("a recipe holds a chunk of impossible size")
    return RecipeSegment(segment_digest_of(packed), row, offset, sum(lengths), packed)


def single_segment(content: Blake3Digest, size: int) -> RecipeSegment:
    """Returns the segment of a content of one chunk. Raises MalformedDocumentError when it is too large for one."""
    if size > MAX_CHUNK:
        raise MalformedDocumentError("a recipe holds a chunk of impossible size")
    packed = ROW.pack(size, content[:CHUNK_DIGEST_SIZE])
    return RecipeSegment(segment_digest_of(packed), 0, 0, size, packed)


def _long_rows_are_zeros(packed: bytes) -> bool:
    return all(length <= (MAX_ZERO_EXTENT if digest == ZERO_DIGEST else MAX_CHUNK) for length, digest in ROW.iter_unpack(packed))


def _lengths_of(packed: bytes) -> tuple[int, ...]:
    return _lengths(len(packed) // ROW.size).unpack(packed)


@lru_cache(maxsize=MAX_SEGMENT_ROWS)
def _lengths(count: int) -> struct.Struct:
    """Returns a struct for the lengths of `count` rows: several times faster than row by row."""
    return struct.Struct("<" + "Q16x" * count)
