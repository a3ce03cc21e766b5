"""Reads recipes out of published `chunks.bin` files: one, those worth remembering, or a window of one that is huge."""

from __future__ import annotations

import os
import struct
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from evidencesync.delta.recipe import MAGIC, ZERO_DIGEST, Recipe, Row, checked_recipe, read_recipe
from evidencesync.errors import MalformedDocumentError, MissingOrExtraError, StorageError
from evidencesync.evidence.digest import CHUNK_DIGEST_SIZE, ChunkDigest
from evidencesync.evidence.identity import is_folder_name
from evidencesync.limits import MAX_CHUNK, MAX_FILE_SIZE, MAX_SEGMENT_ROWS, MIN_CHUNK
from evidencesync.vault.case_index import RecipePlace
from evidencesync.vault.disk import READ_FLAGS
from evidencesync.vault.layout import ACQUISITIONS, CASES, CHUNKS, VaultLayout, acquisition_folder
from evidencesync.vault.location import Location, Scope

# The layout of chunks.bin, as delta.recipe documents it. Needed here to reach a row without reading all before it.
_HEAD: Final = struct.Struct("<32sQI")
_ROW: Final = struct.Struct("<Q16s")
_LAST: Final = 1 << 63
_LENGTH: Final = _LAST - 1

WINDOW_ROWS: Final = 2048  # about 128 MiB of a content
MAX_WINDOWS: Final = 64  # some 30 MB of memory


def open_recipes(layout: VaultLayout, case: str, item: str, acquisition: int) -> BinaryIO:
    """The chunks.bin of an acquisition, at its start. Raises MissingOrExtraError when it is not there."""
    if not (is_folder_name(case) and is_folder_name(item)):
        raise MissingOrExtraError("no such case or item")
    path = layout.root / CASES / case / item / ACQUISITIONS / acquisition_folder(acquisition) / CHUNKS
    try:
        return os.fdopen(os.open(path, READ_FLAGS), "rb")
    except OSError as error:
        raise MissingOrExtraError(f"chunks.bin of acquisition {acquisition} cannot be opened") from error


def read_recipe_at(file: BinaryIO, position: int) -> Recipe:
    """The recipe at a position that the index remembered. Raises MalformedDocumentError when there is none."""
    file.seek(position)
    rest = max(os.fstat(file.fileno()).st_size - position, 0)
    recipe = read_recipe(lambda length: file.read(min(length, rest)))  # a damaged count may ask for any number of bytes
    if recipe is None:
        raise MalformedDocumentError("chunks.bin is cut off")
    return recipe


def iter_long_recipes(file: BinaryIO) -> Iterator[tuple[int, Recipe]]:
    """The recipes of contents that may have more than one chunk, with their positions.

    The others say nothing that the content's digest does not, and in a folder of small files they are nearly all.
    Raises MalformedDocumentError for a file that is damaged.
    """
    if file.read(len(MAGIC)) != MAGIC:
        raise MalformedDocumentError("not a chunks.bin")
    position = len(MAGIC)
    end = os.fstat(file.fileno()).st_size
    while head := file.read(_HEAD.size):
        if len(head) != _HEAD.size:
            raise MalformedDocumentError("chunks.bin is cut off")
        content, size, count = _HEAD.unpack(head)
        if size > MAX_FILE_SIZE or count > size or position + _HEAD.size + count * _ROW.size > end:
            raise MalformedDocumentError("chunks.bin holds a recipe of impossible size")
        if size > MIN_CHUNK or count:
            rows = file.read(count * _ROW.size)
            yield position, checked_recipe(content, size, rows)
        position += _HEAD.size + count * _ROW.size


@dataclass(frozen=True, slots=True)
class ChunkPlace:
    """Where a chunk lies in a published file."""

    location: Location
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class _Window:
    location: Location
    chunks: dict[ChunkDigest, tuple[int, int]]


def read_segment(layout: VaultLayout, place: RecipePlace) -> list[Row]:
    """The rows of the segment that begins at a place. Not yet checked against anything: their digest tells what they are.

    Raises MalformedDocumentError, MissingOrExtraError or OSError when the recipe is gone or is not what was remembered.
    """
    with open_recipes(layout, place.location.case, place.recipe_item, place.recipe_acquisition) as file:
        file.seek(place.recipe_position)
        head = file.read(_HEAD.size)
        if len(head) != _HEAD.size:
            raise MalformedDocumentError("chunks.bin is cut off")
        content, size, count = _HEAD.unpack(head)
        if count == place.row == 0:  # a content of one chunk
            return [Row(size, ChunkDigest(content[:CHUNK_DIGEST_SIZE]))]
        if place.row >= count:
            raise MalformedDocumentError("chunks.bin is not what the index remembers")
        count = min(count - place.row, MAX_SEGMENT_ROWS)
        file.seek(place.row * _ROW.size, os.SEEK_CUR)
        packed = file.read(count * _ROW.size)
    rows: list[Row] = []
    for length, digest in _ROW.iter_unpack(packed[: len(packed) // _ROW.size * _ROW.size]):
        rows.append(Row(length & _LENGTH, ChunkDigest(digest)))
        if length & _LAST:
            return rows
    raise MalformedDocumentError("chunks.bin has a segment without an end")


class RecipeWindows:
    """The parts of recipes near what was found lately, the latest first. A few dozen megabytes, whatever the contents."""

    def __init__(self, layout: VaultLayout) -> None:
        self._layout = layout
        self._windows: OrderedDict[tuple[str, str, int, int, int], _Window] = OrderedDict()

    def find(self, digest: ChunkDigest, scope: Scope) -> ChunkPlace | None:
        """A chunk in what is loaded, as far as the scope reaches."""
        for window in reversed(self._windows.values()):
            found = window.chunks.get(digest)
            if found is not None and _within(window.location, scope):
                return ChunkPlace(window.location, *found)
        return None

    def load(self, place: RecipePlace) -> None:
        """Loads what lies around a row. A recipe that is gone or damaged is as good as not known: nothing is loaded."""
        number = place.row // WINDOW_ROWS
        owner = (place.location.case, place.recipe_item, place.recipe_acquisition)
        key = (*owner, place.recipe_position, number)
        if key in self._windows:
            self._windows.move_to_end(key)
            return
        try:
            with open_recipes(self._layout, *owner) as file:
                chunks = _read_window(file, place, number * WINDOW_ROWS)
        except (MissingOrExtraError, MalformedDocumentError, StorageError, OSError):
            chunks = {}
        self._windows[key] = _Window(place.location, chunks)
        if len(self._windows) > MAX_WINDOWS:
            self._windows.popitem(last=False)


def _within(location: Location, scope: Scope) -> bool:
    if scope.reach == "vault":
        return True
    return location.case == scope.case and (scope.reach == "case" or location.item == scope.item)


def _read_window(file: BinaryIO, place: RecipePlace, first_row: int) -> dict[ChunkDigest, tuple[int, int]]:
    file.seek(place.recipe_position)
    head = file.read(_HEAD.size)
    if len(head) != _HEAD.size:
        raise MalformedDocumentError("chunks.bin is cut off")
    content, size, count = _HEAD.unpack(head)
    if content != place.location.blake3 or place.row >= count:
        raise MalformedDocumentError("chunks.bin is not what the index remembers")
    file.seek(first_row * _ROW.size, os.SEEK_CUR)
    packed = file.read(min(WINDOW_ROWS, count - first_row) * _ROW.size)
    rows = [(length & _LENGTH, digest) for length, digest in _ROW.iter_unpack(packed[: len(packed) // 24 * 24])]
    offset = place.offset - sum(length for length, _ in rows[: place.row - first_row])
    chunks: dict[ChunkDigest, tuple[int, int]] = {}
    for length, digest in rows:
        if digest != ZERO_DIGEST and 0 < length <= MAX_CHUNK and 0 <= offset <= size - length:
            chunks.setdefault(ChunkDigest(digest), (offset, length))
        offset += length
    return chunks
