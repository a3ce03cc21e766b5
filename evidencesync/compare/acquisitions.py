"""Compares two acquisitions of an item: by their manifests, and where contents differ by their recipes.

Nothing is verified here, and no evidence is read. Memory is bounded by what is to be named: all that was added or removed
goes to a temporary database, where it is found again what was only moved.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, Final, NamedTuple

from evidencesync.compare.store import Side, pair_rows
from evidencesync.custody.differences import EntryDifference, differences
from evidencesync.custody.manifest import whole_entries
from evidencesync.delta.recipe import ByteRange, Recipe, changed_ranges, find_recipes
from evidencesync.errors import MalformedDocumentError, MissingOrExtraError, StorageError
from evidencesync.evidence.entry import Entry, EntryType
from evidencesync.files.disk import opened_file, opened_folder, storing
from evidencesync.limits import MAX_DAMAGED_RANGES
from evidencesync.vault.catalog import read_published
from evidencesync.vault.layout import CHUNKS, ItemLayout

_BLOCK: Final = 1 << 20
_ADDED: Final = 1
_REMOVED: Final = 0
_BATCH: Final = 1000
_MOST_RECIPE_FILES: Final = 500  # acquisitions that are searched for a recipe, the latest first


class Unpaired(NamedTuple):
    """Something that only one of two acquisitions has."""

    path: bytes
    type: EntryType
    size: int | None


class Moved(NamedTuple):
    """The same content under another path."""

    before: bytes
    after: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Ranges:
    """Where a content differs: some ranges of the later one, how many more there are, and bytes of all of them."""

    named: list[ByteRange]
    more: int
    bytes: int


@dataclass(slots=True)
class AcquisitionDifference:
    """What two acquisitions have differently. Counts are exact; each list holds no more than was asked for."""

    same: int = 0
    added_count: int = 0
    removed_count: int = 0
    moved_count: int = 0
    changed_count: int = 0
    metadata_count: int = 0
    filtered_count: int = 0
    not_read_count: int = 0
    added: list[Unpaired] = field(default_factory=list)
    removed: list[Unpaired] = field(default_factory=list)
    moved: list[Moved] = field(default_factory=list)
    changed: list[tuple[EntryDifference, Ranges | None]] = field(default_factory=list)
    metadata: list[EntryDifference] = field(default_factory=list)


def compare_acquisitions(item: ItemLayout, before: int, after: int, limit: int) -> AcquisitionDifference:
    """Compares two acquisitions; of each kind of difference, `limit` are named.

    What a filter left out of one of them is only counted: it is neither added nor removed. So is what neither has read.
    Raises MissingOrExtraError, MalformedDocumentError, StorageError for documents that cannot be read.
    """
    found = AcquisitionDifference()
    changed: list[EntryDifference] = []
    with ExitStack() as stack:
        unpaired = stack.enter_context(closing(_UnpairedEntries()))
        lines = [stack.enter_context(closing(read_published(item, number))) for number in (before, after)]
        for one in differences(whole_entries(lines[0]), whole_entries(lines[1])):
            if one is None:
                found.same += 1
            elif one.kind == "filtered":
                found.filtered_count += 1
            elif one.kind == "not-read":
                found.not_read_count += 1
            elif one.kind in ("added", "removed"):
                unpaired.add(one)
            elif one.kind == "changed":
                found.changed_count += 1
                if len(changed) < limit:
                    changed.append(one)
            else:
                found.metadata_count += 1
                if len(found.metadata) < limit:
                    found.metadata.append(one)
        unpaired.finish(found, limit)
    found.changed = list(zip(changed, _all_ranges(item, max(before, after), changed), strict=True))
    return found


class _UnpairedEntries:
    """What only one side has, in a database that lies on the disk when it is large and is gone when it is closed."""

    def __init__(self) -> None:
        self._base = sqlite3.connect("", isolation_level=None)
        self._base.execute("CREATE TABLE unpaired (side INT, path BLOB, name BLOB, type TEXT, size INT, content BLOB, other INT)")
        self._base.execute("BEGIN")
        self._batch: list[tuple[object, ...]] = []

    def close(self) -> None:
        self._base.close()

    def add(self, one: EntryDifference) -> None:
        """One more. Raises StorageError where there is no room for it."""
        entry = one.after or one.before
        if entry is None:
            return
        content = bytes.fromhex(entry.blake3) if entry.blake3 is not None and entry.size else None
        side = _ADDED if one.kind == "added" else _REMOVED
        self._batch.append((side, one.path, one.path.rpartition(b"/")[2], entry.type, entry.size, content))
        if len(self._batch) >= _BATCH:
            self._flush()

    def finish(self, found: AcquisitionDifference, limit: int) -> None:
        """Finds what was moved (first under the same name, then any), and fills in counts and lists."""
        self._flush()
        try:
            for key in ("content, name", "content"):
                self._pair(key)
            self._fill(found, limit)
        except sqlite3.Error as error:
            raise StorageError(f"the temporary database failed: {error}", hint="Free space in the temporary folder.") from error

    def _flush(self) -> None:
        try:
            self._base.executemany("INSERT INTO unpaired VALUES (?, ?, ?, ?, ?, ?, NULL)", self._batch)
        except sqlite3.Error as error:
            raise StorageError(f"the temporary database failed: {error}", hint="Free space in the temporary folder.") from error
        self._batch.clear()

    def _pair(self, key: str) -> None:
        """Pairs what is left on both sides with the same key, in the order of paths."""
        left = "content IS NOT NULL AND other IS NULL AND side = "
        pair_rows(self._base, key, Side("unpaired", "rowid", f"{left}{_REMOVED}"), Side("unpaired", "rowid", f"{left}{_ADDED}"))
        self._base.execute("UPDATE unpaired SET other = pairs.other FROM pairs WHERE unpaired.rowid = pairs.one")
        self._base.execute("UPDATE unpaired SET other = pairs.one FROM pairs WHERE unpaired.rowid = pairs.other")
        self._base.execute("DROP TABLE pairs")

    def _fill(self, found: AcquisitionDifference, limit: int) -> None:
        counted = dict(self._base.execute("SELECT side, count(*) FROM unpaired WHERE other IS NULL GROUP BY side").fetchall())
        found.added_count, found.removed_count = counted.get(_ADDED, 0), counted.get(_REMOVED, 0)
        found.moved_count = self._base.execute(
            "SELECT count(*) FROM unpaired WHERE other IS NOT NULL AND side = ?", (_REMOVED,)
        ).fetchone()[0]
        listed = "SELECT path, type, size FROM unpaired WHERE other IS NULL AND side = ? ORDER BY rowid LIMIT ?"
        found.added = [Unpaired(*row) for row in self._base.execute(listed, (_ADDED, limit))]
        found.removed = [Unpaired(*row) for row in self._base.execute(listed, (_REMOVED, limit))]
        moved = (
            "SELECT one.path, two.path, one.size FROM unpaired AS one JOIN unpaired AS two ON one.other = two.rowid"
            " WHERE one.side = ? ORDER BY one.rowid LIMIT ?"
        )
        found.moved = [Moved(*row) for row in self._base.execute(moved, (_REMOVED, limit))]


def _all_ranges(item: ItemLayout, last: int, changed: list[EntryDifference]) -> list[Ranges | None]:
    """For each change of content: where. None where either recipe is not to be had."""
    wanted: dict[bytes, int] = {}
    for one in changed:
        for entry in (one.before, one.after):
            if entry is not None and entry.blake3 is not None:
                wanted[bytes.fromhex(entry.blake3)] = entry.size or 0
    with ExitStack() as stack:
        recipes = _find_recipes(item, last, wanted, stack)
        return [_ranges(recipes, one.before, one.after) for one in changed]


def _find_recipes(item: ItemLayout, last: int, wanted: dict[bytes, int], stack: ExitStack) -> dict[bytes, Recipe]:
    """Recipes of contents by BLAKE3 and size. One that cannot be read is not found: it only says where to look."""
    found = {content: Recipe(content, size, b"") for content, size in wanted.items() if not size}  # type: ignore[arg-type]
    for number in range(last, max(last - _MOST_RECIPE_FILES, 0), -1):
        if len(found) == len(wanted):
            break
        try:
            with opened_folder(item.acquisition(number)) as folder:
                file = stack.enter_context(opened_file(CHUNKS, folder))
            find_recipes(partial(_read_at, file), os.fstat(file.fileno()).st_size, wanted, found)
        except (MissingOrExtraError, MalformedDocumentError, StorageError):
            continue
    return found


def _read_at(file: BinaryIO, offset: int, length: int) -> bytes:
    with storing(f"read {CHUNKS}"):
        return os.pread(file.fileno(), length, offset)


def _ranges(recipes: dict[bytes, Recipe], before: Entry | None, after: Entry | None) -> Ranges | None:
    if before is None or after is None or before.blake3 is None or after.blake3 is None:
        return None
    one, other = recipes.get(bytes.fromhex(before.blake3)), recipes.get(bytes.fromhex(after.blake3))
    if one is None or other is None:
        return None
    named: list[ByteRange] = []
    more = size = 0
    try:
        for found in changed_ranges(one, other):
            size += found.length
            if len(named) < MAX_DAMAGED_RANGES:
                named.append(found)
            else:
                more += 1
    except (MalformedDocumentError, StorageError):
        return None
    return Ranges(named, more, size)
