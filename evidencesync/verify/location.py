"""Names the byte ranges of damaged files, by the recipes of this acquisition and those before it.

A recipe is only believed out of a `chunks.bin` whose digest the signed receipt of its acquisition names. It says where to
look, never whether a file is good: that was decided by the file's whole digests.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO, Final

from evidencesync.delta.recipe import MAGIC
from evidencesync.delta.rows import ZERO_DIGEST
from evidencesync.errors import EvidenceSyncError, MalformedDocumentError
from evidencesync.evidence.digest import CHUNK_DIGEST_SIZE, chunk_digest_of
from evidencesync.evidence.display import safe_text
from evidencesync.files.disk import FOLDER_FLAGS
from evidencesync.files.holes import extents
from evidencesync.limits import MAX_CHUNK, MAX_DAMAGED_RANGES, MAX_FILE_SIZE, MAX_ZERO_EXTENT, MIN_CHUNK
from evidencesync.vault.layout import DATA
from evidencesync.vault.tree import TreeReader
from evidencesync.verify.checks import Check
from evidencesync.verify.contents import Damage
from evidencesync.verify.documents import CheckedFolder, reason

# The layout of chunks.bin, as delta.recipe and delta.rows say. Rows are read a few at a time: a recipe may be larger than memory.
_HEAD: Final = struct.Struct("<32sQI")
_ROW: Final = struct.Struct("<Q16s")
_LENGTH: Final = (1 << 63) - 1
_ROWS_AT_ONCE: Final = 4096
_ZEROS: Final = bytes(MAX_CHUNK)


@dataclass(frozen=True, slots=True)
class RecipeRows:
    """A content's rows in a chunks.bin: their position, and how many there are (0: the content is one chunk)."""

    acquisition: int
    position: int
    rows: int


@dataclass(frozen=True, slots=True)
class DamagedRange:
    """Bytes of a file that are not those that were acquired."""

    offset: int
    length: int


def find_recipes(file: BinaryIO, acquisition: int, wanted: dict[bytes, int]) -> dict[bytes, RecipeRows]:
    """Where a chunks.bin holds the recipes of contents, given by BLAKE3 and size. Raises OSError.

    A file that holds nonsense ends the search: it was hashed before, so that only a defect of the writer can lead there.
    """
    found: dict[bytes, RecipeRows] = {}
    if file.read(len(MAGIC)) != MAGIC:
        return found
    position = len(MAGIC)
    while len(found) < len(wanted) and len(head := file.read(_HEAD.size)) == _HEAD.size:
        content, size, rows = _HEAD.unpack(head)
        if size > MAX_FILE_SIZE or rows > size:
            break
        position += _HEAD.size
        if wanted.get(content) == size:
            found[content] = RecipeRows(acquisition, position, rows)
        position += rows * _ROW.size
        file.seek(position)
    return found


def damaged_ranges(
    recipes: BinaryIO, place: RecipeRows, content: bytes, size: int, fd: int, there: int
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


def _rows(recipes: BinaryIO, place: RecipeRows, content: bytes, size: int) -> Iterator[tuple[bytes, int, int]]:
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


def report_damage(folder: CheckedFolder, damaged: list[Damage], recipes: dict[int, BinaryIO]) -> None:
    """A finding for each damaged range of each file of an acquisition. `recipes` are chunks.bin files; they are closed.

    Where no recipe is to be had, or the file is too short or too long, the range says what is known.
    """
    with ExitStack() as stack:
        for file in recipes.values():
            stack.enter_context(file)
        places = _find_all(recipes, {bytes.fromhex(one.file.blake3): one.file.size for one in damaged})
        try:
            reader = TreeReader(os.open(DATA, FOLDER_FLAGS, dir_fd=folder.fd))
        except OSError as error:
            folder.report.report(Check.CONTENTS, "unreadable", f"{DATA}: {reason(error)}", DATA)
            return
        stack.callback(reader.close)
        for one in damaged:
            place = places.get(bytes.fromhex(one.file.blake3))
            _report_file(folder, reader, one, place, recipes.get(place.acquisition) if place is not None else None)


def _find_all(files: dict[int, BinaryIO], wanted: dict[bytes, int]) -> dict[bytes, RecipeRows]:
    found: dict[bytes, RecipeRows] = {}
    for number, file in files.items():
        missing = {content: size for content, size in wanted.items() if content not in found}
        if not missing:
            break
        try:
            found.update(find_recipes(file, number, missing))
        except OSError:
            continue  # the damage is reported all the same, as the whole file
    return found


def _report_file(
    folder: CheckedFolder, reader: TreeReader, damage: Damage, place: RecipeRows | None, recipes: BinaryIO | None
) -> None:
    file = damage.file
    ranges, more, note = _ranges_of(reader, damage, place, recipes)
    shown = safe_text(file.path)
    name = DATA.encode() + b"/" + file.path
    if damage.size is not None and damage.size < file.size:
        text = f"{shown} was cut off: it has {damage.size} bytes of {file.size}"
        folder.report.report(Check.CONTENTS, "file-truncated", text, name, offset=damage.size, length=file.size - damage.size)
    elif damage.size is not None:
        text = f"{shown} was made longer: it has {damage.size} bytes, not {file.size}"
        folder.report.report(Check.CONTENTS, "file-extended", text, name, offset=file.size, length=damage.size - file.size)
    for one in ranges:
        text = f"{shown} is not what was acquired in bytes {one.offset} to {one.offset + one.length - 1}{note}"
        folder.report.report(Check.CONTENTS, "file-damaged", text, name, offset=one.offset, length=one.length)
    if more:
        folder.report.report(Check.CONTENTS, "file-damaged", f"{shown} has {more} more damaged ranges", name)


def _ranges_of(
    reader: TreeReader, damage: Damage, place: RecipeRows | None, recipes: BinaryIO | None
) -> tuple[list[DamagedRange], int, str]:
    """The damaged ranges, how many more there are, and what must be said about them."""
    file = damage.file
    whole = [DamagedRange(0, file.size)]
    by_digest_alone = damage.size is None
    if damage.digest == "SHA-256":
        return whole, 0, ": its BLAKE3 agrees with the manifest, but its SHA-256 does not"
    if place is None or recipes is None:
        note = " (no recipe is known, so the whole file is named)" if file.size > MIN_CHUNK else ""
        return (whole, 0, note) if by_digest_alone else ([], 0, "")
    try:
        fd, _ = reader.open_file(file.path)
    except EvidenceSyncError as error:
        return (whole, 0, f" ({error.message})") if by_digest_alone else ([], 0, "")
    try:
        there = file.size if damage.size is None else min(damage.size, file.size)
        ranges, more = bounded(damaged_ranges(recipes, place, bytes.fromhex(file.blake3), file.size, fd, there))
    except (OSError, MalformedDocumentError):
        return (whole, 0, " (its recipe cannot be used, so the whole file is named)") if by_digest_alone else ([], 0, "")
    finally:
        os.close(fd)
    if not ranges and by_digest_alone:
        return whole, 0, ", although every chunk of it is good now: it changes, or the disk does not read the same twice"
    return ranges, more, ""
