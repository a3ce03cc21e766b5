"""Where a file is damaged: its chunks compared with the recipe that was stored when the content was first seen.

A recipe is only believed out of a `chunks.bin` whose digest the signed receipt of its acquisition names. It says where to
look, never whether a file is good: that was decided by the file's whole digests.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from evidencesync.delta.recipe import MAGIC
from evidencesync.delta.rows import ZERO_DIGEST
from evidencesync.errors import MalformedDocumentError
from evidencesync.evidence.digest import CHUNK_DIGEST_SIZE, chunk_digest_of
from evidencesync.files.holes import extents
from evidencesync.limits import MAX_CHUNK, MAX_DAMAGED_RANGES, MAX_FILE_SIZE, MAX_ZERO_EXTENT

# The layout of chunks.bin, as delta.recipe and delta.rows say. Rows are read a few at a time: a recipe may be larger than memory.
_HEAD: Final = struct.Struct("<32sQI")
_ROW: Final = struct.Struct("<Q16s")
_LENGTH: Final = (1 << 63) - 1
_ROWS_AT_ONCE: Final = 4096
_ZEROS: Final = bytes(MAX_CHUNK)


@dataclass(frozen=True, slots=True)
class RecipePlace:
    """A content's rows in a chunks.bin: their position, and how many there are (0: the content is one chunk)."""

    acquisition: int
    position: int
    rows: int


@dataclass(frozen=True, slots=True)
class DamagedRange:
    """Bytes of a file that are not those that were acquired."""

    offset: int
    length: int


def find_recipes(file: BinaryIO, acquisition: int, wanted: dict[bytes, int]) -> dict[bytes, RecipePlace]:
    """Where a chunks.bin holds the recipes of contents, given by BLAKE3 and size. Raises OSError.

    A file that holds nonsense ends the search: it was hashed before, so that only a defect of the writer can lead there.
    """
    found: dict[bytes, RecipePlace] = {}
    if file.read(len(MAGIC)) != MAGIC:
        return found
    position = len(MAGIC)
    while len(found) < len(wanted) and len(head := file.read(_HEAD.size)) == _HEAD.size:
        content, size, rows = _HEAD.unpack(head)
        if size > MAX_FILE_SIZE or rows > size:
            break
        position += _HEAD.size
        if wanted.get(content) == size:
            found[content] = RecipePlace(acquisition, position, rows)
        position += rows * _ROW.size
        file.seek(position)
    return found


def damaged_ranges(
    recipes: BinaryIO, place: RecipePlace, content: bytes, size: int, fd: int, there: int
) -> Iterator[DamagedRange]:
    """The byte ranges of an open file that differ from what a recipe says, merged where they touch, in order.

    Chunks that do not lie within the first `there` bytes are not looked at. Raises OSError where either file cannot be
    read, and MalformedDocumentError when the rows are not those of a content of that size.
    """
    start = end = 0
    for digest, offset, length in _rows(recipes, place, content, size):
        if offset + length > there or _is_good(fd, digest, offset, length):
            continue
        if offset != end and end > start:
            yield DamagedRange(start, end - start)
            start = offset
        elif end == start:
            start = offset
        end = offset + length
    if end > start:
        yield DamagedRange(start, end - start)


def bounded(ranges: Iterator[DamagedRange]) -> tuple[list[DamagedRange], int]:
    """As many ranges as a report names, and how many more there are."""
    named: list[DamagedRange] = []
    more = 0
    for one in ranges:
        if len(named) < MAX_DAMAGED_RANGES:
            named.append(one)
        else:
            more += 1
    return named, more


def _rows(recipes: BinaryIO, place: RecipePlace, content: bytes, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Digest, offset and length of every row."""
    if not place.rows:
        yield content[:CHUNK_DIGEST_SIZE], 0, size
        return
    offset = 0
    recipes.seek(place.position)
    left = place.rows
    while left:
        count = min(left, _ROWS_AT_ONCE)
        packed = recipes.read(count * _ROW.size)
        if len(packed) != count * _ROW.size:
            raise MalformedDocumentError("chunks.bin is cut off")
        left -= count
        for marked, digest in _ROW.iter_unpack(packed):
            length = marked & _LENGTH
            limit = MAX_ZERO_EXTENT if digest == ZERO_DIGEST else MAX_CHUNK
            if not 0 < length <= limit or offset + length > size:
                raise MalformedDocumentError("a recipe does not fit the size of its content")
            yield digest, offset, length
            offset += length
    if offset != size:
        raise MalformedDocumentError("a recipe does not add up to the size of its content")


def _is_good(fd: int, digest: bytes, offset: int, length: int) -> bool:
    if digest == ZERO_DIGEST:
        for start, size, is_hole in extents(fd, offset, offset + length, len(_ZEROS)):
            if not is_hole and os.pread(fd, size, start) != _ZEROS[:size]:
                return False
        return True
    if length > MAX_CHUNK:  # a content that is one chunk is never larger, unless its writer was another
        return False
    data = os.pread(fd, length, offset)
    return len(data) == length and chunk_digest_of(data) == digest
