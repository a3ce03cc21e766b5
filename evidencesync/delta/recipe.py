"""Recipes: of which segments and chunks a content consists, and the file in which a vault keeps them.

A *row* is one chunk, or one run of zeros. A content's rows in order, cut into segments, are its recipe.

`chunks.bin` is the magic `ESCHUNK1`, then for every content: BLAKE3 (32 bytes), size (u64), row count (u32), rows.
A row is 24 bytes: length (u64, bit 63 set on the last row of a segment) and chunk digest (16 bytes; all zero for a run
of zeros). All numbers are little-endian. A content that is a single chunk has no rows: its digest is the content's own.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from blake3 import blake3

from evidencesync.errors import MalformedDocumentError
from evidencesync.evidence.digest import CHUNK_DIGEST_SIZE, Blake3Digest, ChunkDigest, SegmentDigest
from evidencesync.limits import MAX_CHUNK, MAX_FILE_SIZE, MAX_SEGMENT_ROWS, MAX_ZERO_EXTENT

MAGIC: Final = b"ESCHUNK1"
ZERO_DIGEST: Final = ChunkDigest(bytes(CHUNK_DIGEST_SIZE))
_HEAD: Final = struct.Struct("<32sQI")
_ROW: Final = struct.Struct("<Q16s")
_LAST: Final = 1 << 63
_READ_AT_ONCE: Final = 1 << 20
_LENGTH: Final = _LAST - 1


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
    return b"".join([_ROW.pack(row.length, row.digest) for row in rows])


def unpack_segment(packed: bytes) -> list[Row]:
    """The rows of one segment. Raises MalformedDocumentError for rows that no segment has."""
    if len(packed) % _ROW.size or len(packed) > MAX_SEGMENT_ROWS * _ROW.size:
        raise MalformedDocumentError("a segment of impossible size")
    rows = [Row(length, ChunkDigest(digest)) for length, digest in _ROW.iter_unpack(packed)]
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


@dataclass(frozen=True, slots=True)
class SegmentSpan:
    """One segment of a recipe: where it lies in the content, and its rows."""

    digest: SegmentDigest
    offset: int
    length: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """The rows of one content, packed as in `chunks.bin`. Checked by `checked_recipe` when read from a file."""

    content: Blake3Digest
    size: int
    rows: bytes

    def iter_rows(self) -> Iterator[tuple[Row, bool]]:
        """Every row in order, and whether it is the last of its segment. A content of one chunk gives that chunk."""
        if not self.rows and self.size:
            yield Row(self.size, ChunkDigest(self.content[:CHUNK_DIGEST_SIZE])), True
            return
        for length, digest in _ROW.iter_unpack(self.rows):
            yield Row(length & _LENGTH, ChunkDigest(digest)), bool(length & _LAST)

    def chunks(self) -> Iterator[tuple[ChunkDigest | None, int, int]]:
        """Digest (None for zeros), offset and length of every row."""
        offset = 0
        for row, _ in self.iter_rows():
            yield (None if row.is_zeros else row.digest), offset, row.length
            offset += row.length

    def segments(self) -> Iterator[tuple[SegmentDigest, int, int]]:
        """Digest, offset and length of every segment."""
        for span in self.spans():
            yield span.digest, span.offset, span.length

    def spans(self) -> Iterator[SegmentSpan]:
        """Every segment with its rows."""
        offset = 0
        rows: list[Row] = []
        for row, last in self.iter_rows():
            rows.append(row)
            if last:
                length = sum(part.length for part in rows)
                yield SegmentSpan(segment_digest(rows), offset, length, tuple(rows))
                offset += length
                rows = []

    def encode(self) -> bytes:
        """The recipe as it stands in `chunks.bin`."""
        return _HEAD.pack(self.content, self.size, len(self.rows) // _ROW.size) + self.rows


class RecipeBuilder:
    """Collects the rows of a content while it is assembled."""

    __slots__ = ("_packed", "size")

    def __init__(self) -> None:
        self._packed = bytearray()
        self.size = 0

    def add_segment(self, rows: list[Row]) -> None:
        """Appends one whole segment."""
        final = len(rows) - 1
        for position, row in enumerate(rows):
            self._packed += _ROW.pack(row.length | (_LAST if position == final else 0), row.digest)
            self.size += row.length

    def finish(self, content: Blake3Digest) -> Recipe:
        """The recipe of the content that was assembled. A content of one chunk needs no rows."""
        single = len(self._packed) == _ROW.size and self._packed[8:] == content[:CHUNK_DIGEST_SIZE]
        return Recipe(content, self.size, b"" if single else bytes(self._packed))


def checked_recipe(content: bytes, size: int, rows: bytes) -> Recipe:
    """A recipe from outside. Raises MalformedDocumentError when its rows cannot be those of a content of that size."""
    if len(rows) % _ROW.size:
        raise MalformedDocumentError("a recipe is cut off in a row")
    recipe = Recipe(Blake3Digest(content), size, rows)
    total = 0
    count = 0
    last = True
    for row, last in recipe.iter_rows():
        count = 0 if last else count + 1
        total += row.length
        limit = MAX_ZERO_EXTENT if row.is_zeros else MAX_CHUNK
        if not 0 < row.length <= limit or count >= MAX_SEGMENT_ROWS:
            raise MalformedDocumentError("a recipe holds a chunk or a segment of impossible size")
    if total != size or not last:
        raise MalformedDocumentError("a recipe does not add up to the size of its content")
    return recipe


def read_recipe(read: Callable[[int], bytes]) -> Recipe | None:
    """The next recipe of a file whose `read` gives up to that many bytes; None at its end.

    Raises MalformedDocumentError for a file that is cut off or holds nonsense.
    """
    head = read(_HEAD.size)
    if not head:
        return None
    if len(head) != _HEAD.size:
        raise MalformedDocumentError("chunks.bin is cut off")
    content, size, count = _HEAD.unpack(head)
    if size > MAX_FILE_SIZE or count > size:
        raise MalformedDocumentError("chunks.bin holds a recipe of impossible size")
    rows = _read_rows(read, count * _ROW.size)
    return checked_recipe(content, size, rows)


def _read_rows(read: Callable[[int], bytes], size: int) -> bytes:
    """That many bytes, asked for in parts: what a damaged file says of itself may not decide how much memory is taken."""
    blocks = []
    while size:
        block = read(min(size, _READ_AT_ONCE))
        if not block:
            raise MalformedDocumentError("chunks.bin is cut off")
        blocks.append(block)
        size -= len(block)
    return b"".join(blocks)


def iter_recipes(read: Callable[[int], bytes]) -> Iterator[tuple[int, Recipe]]:
    """Every recipe of a `chunks.bin` read from its start, with its position in the file."""
    if read(len(MAGIC)) != MAGIC:
        raise MalformedDocumentError("not a chunks.bin")
    position = len(MAGIC)
    while (recipe := read_recipe(read)) is not None:
        yield position, recipe
        position += _HEAD.size + len(recipe.rows)
