"""Reads recipes from published `chunks.bin` files for the index: those worth indexing, one segment, or a window of rows."""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from collections.abc import Iterator
from itertools import accumulate
from typing import BinaryIO, Final, NamedTuple

import msgspec

from evidencesync.delta.recipe import Recipe, iter_recipes, read_recipe
from evidencesync.delta.rows import MAX_ROW, ROW, ZERO_DIGEST, RecipeSegment, first_segment, single_segment
from evidencesync.errors import EvidenceSyncError, MalformedDocumentError, MissingOrExtraError
from evidencesync.evidence.digest import CHUNK_DIGEST_SIZE, ChunkDigest, SegmentDigest
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.identity import is_folder_name
from evidencesync.files.disk import READ_FLAGS, reading, storage_error, storing
from evidencesync.files.holes import has_empty_run
from evidencesync.limits import MAX_CHUNK, MAX_SEGMENT_ROWS, SMALL_FILE
from evidencesync.vault.index.case_index import RowPlace
from evidencesync.vault.layout import ACQUISITIONS, CASES, CHUNKS, Location, Scope, VaultLayout, acquisition_folder

WINDOW_ROWS: Final = 2048  # about 128 MiB of a content
MAX_WINDOWS: Final = 64  # about 40 MB of memory
_BLOCK_ROWS: Final = 4096


def open_recipes(layout: VaultLayout, case: str, item: str, acquisition: int) -> BinaryIO:
    """Opens the chunks.bin of an acquisition. Raises MissingOrExtraError when it is missing, else StorageError."""
    if not (is_folder_name(case) and is_folder_name(item)):
        raise MissingOrExtraError("no such case or item")
    path = layout.root / CASES / case / item / ACQUISITIONS / acquisition_folder(acquisition) / CHUNKS
    try:
        return reading(os.open(path, READ_FLAGS))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise MissingOrExtraError(f"chunks.bin of acquisition {acquisition} is not there") from error
        raise storage_error(error, f"read {safe_text(os.fsencode(path), 300)}") from error


def iter_long_recipes(file: BinaryIO) -> Iterator[tuple[int, Recipe]]:
    """Yields the recipes of contents that travel in segments, with their positions. Their rows stay in the file.

    The others are looked up as whole contents; in a folder of small files they are nearly all.
    Raises MalformedDocumentError for a file that is damaged or sparse, StorageError for one that cannot be read.
    """
    fd = file.fileno()
    if has_empty_run(fd):
        raise MalformedDocumentError("chunks.bin has holes: nobody has written it like that")

    def read(offset: int, length: int) -> bytes:
        with storing(f"read {CHUNKS} at byte {offset}"):
            return os.pread(fd, length, offset)

    for position, recipe in iter_recipes(read, os.fstat(fd).st_size):
        if recipe.size > SMALL_FILE or recipe.has_rows:
            yield position, recipe


_WindowKey = tuple[str, str, int, int, int]


class ChunkPlace(NamedTuple):
    """The place of a chunk in a published file."""

    location: Location
    offset: int
    length: int


class SegmentReader:
    """Reads segments at places in recipes, and continues after the last one: known evidence comes in order.

    Keeps one block of rows, about 100 KB: enough for a hundred segments.
    """

    def __init__(self, layout: VaultLayout) -> None:
        self._layout = layout
        self._recipe: tuple[str, str, int, int] | None = None
        self._first_row = 0
        self._packed = b""
        self._next: RowPlace | None = None

    def follows(self, scope: Scope) -> RowPlace | None:
        """Returns where the recipe of the last segment continues, within the scope."""
        place = self._next
        return place if place is not None and _within(place.location, scope) else None

    def read(self, place: RowPlace, digest: SegmentDigest) -> RecipeSegment | None:
        """Reads the segment that begins at a place; None when there is another one, or none (any more)."""
        try:
            segment = self._segment_at(place)
        except (EvidenceSyncError, OSError):  # at its end, gone, or another recipe: not found
            self._next = None if place is self._next else self._next
            return None
        if segment is None or segment.digest != digest:
            return None
        row = segment.first_row + len(segment.packed) // ROW.size
        self._next = msgspec.structs.replace(place, row=row, offset=place.offset + segment.length)
        return segment

    def _segment_at(self, place: RowPlace) -> RecipeSegment | None:
        recipe = (place.location.case, place.recipe_item, place.recipe_acquisition, place.recipe_position)
        start = (place.row - self._first_row) * ROW.size
        if recipe == self._recipe and 0 <= start < len(self._packed):
            segment = first_segment(self._packed[start : start + MAX_SEGMENT_ROWS * ROW.size], place.row, place.offset)
            if segment is not None:
                return segment
        with open_recipes(self._layout, *recipe[:3]) as file:
            found = _recipe_at(file, place.recipe_position)
            if found.row_count == place.row == 0:
                return single_segment(found.content, found.size)
            self._packed = found.packed_rows(place.row, _BLOCK_ROWS)
        self._recipe, self._first_row = recipe, place.row
        return first_segment(self._packed[: MAX_SEGMENT_ROWS * ROW.size], place.row, place.offset)


def _recipe_at(file: BinaryIO, position: int) -> Recipe:
    fd = file.fileno()
    return read_recipe(lambda offset, length: os.pread(fd, length, offset), position, os.fstat(fd).st_size)


class RecipeWindows:
    """Keeps the parts of recipes near recent hits, the latest first: a few dozen megabytes, whatever the contents."""

    def __init__(self, layout: VaultLayout) -> None:
        self._layout = layout
        self._windows: OrderedDict[_WindowKey, dict[ChunkDigest, ChunkPlace]] = OrderedDict()
        self._places: dict[ChunkDigest, ChunkPlace] = {}  # of all windows, so that a lookup is one

    def __len__(self) -> int:
        return len(self._windows)

    def find(self, digest: ChunkDigest, scope: Scope) -> ChunkPlace | None:
        """Finds a chunk in the loaded windows, within the scope; where several have it, in the one loaded last."""
        place = self._places.get(digest)
        return place if place is not None and _within(place.location, scope) else None

    def load(self, place: RowPlace) -> None:
        """Loads the rows around a row. A recipe that is gone or damaged is ignored."""
        number = place.row // WINDOW_ROWS
        owner = (place.location.case, place.recipe_item, place.recipe_acquisition)
        key = (*owner, place.recipe_position, number)
        if key in self._windows:
            if key != next(reversed(self._windows)):
                self._windows.move_to_end(key)
                self._places.update(self._windows[key])
            return
        try:
            with open_recipes(self._layout, *owner) as file:
                chunks = _read_window(file, place, number * WINDOW_ROWS)
        except (EvidenceSyncError, OSError):
            chunks = {}
        self._windows[key] = chunks
        self._places.update(chunks)
        if len(self._windows) > MAX_WINDOWS:
            for digest, chunk in self._windows.popitem(last=False)[1].items():
                if self._places.get(digest) is chunk:
                    del self._places[digest]


def _within(location: Location, scope: Scope) -> bool:
    return location.case == scope.case and (scope.lookup == "case" or location.item == scope.item)


def _read_window(file: BinaryIO, place: RowPlace, first_row: int) -> dict[ChunkDigest, ChunkPlace]:
    recipe = _recipe_at(file, place.recipe_position)
    content, size, count = recipe.content, recipe.size, recipe.row_count
    if count == place.row == 0 and content == place.location.blake3:  # a content of one chunk
        return {ChunkDigest(content[:CHUNK_DIGEST_SIZE]): ChunkPlace(place.location, 0, size)}
    if content != place.location.blake3 or place.row >= count:
        raise MalformedDocumentError("chunks.bin is not what the index remembers")
    packed = recipe.packed_rows(first_row, WINDOW_ROWS)
    rows = list(ROW.iter_unpack(memoryview(packed)[: len(packed) // ROW.size * ROW.size]))
    lengths = [marked & MAX_ROW for marked, _ in rows]
    offsets = accumulate(lengths, initial=place.offset - sum(lengths[: place.row - first_row]))
    return {
        digest: ChunkPlace(place.location, offset, length)
        for (_, digest), length, offset in zip(rows, lengths, offsets, strict=False)
        if digest != ZERO_DIGEST and 0 < length <= MAX_CHUNK and 0 <= offset <= size - length
    }
