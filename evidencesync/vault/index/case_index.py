"""Stores one case's contents, segments and hooks in an SQLite file.

It is a cache: every answer is checked by its user, and the file can be rebuilt from manifests and recipes. Methods
raise sqlite3.Error (a damaged or foreign file, a full disk); `evidencesync.vault.index.index` decides what follows.

Keys are the first bytes of digests, and the first column of each table, so that rows inserted in key order are written
sequentially. No table has row ids of its own: a row of `segments` or `hooks` takes about 40 bytes, for 40 or 16 chunks.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from evidencesync.delta.recipe import Recipe
from evidencesync.evidence.digest import Blake3Digest, ChunkDigest, SegmentDigest
from evidencesync.vault.layout import MAX_ACQUISITION, Location

APPLICATION: Final = 0x45534958
SCHEMA_VERSION: Final = 2

CONTENT_KEY: Final = 16
"""Bytes of a content's key: too long for anybody to make two contents with one key, because a hit is taken as that content."""
PLACE_KEY: Final = 8
"""Bytes of a segment's or a chunk's key: a hit counts only if the recipe has the whole digest."""

SCHEMA: Final = (
    "CREATE TABLE items (id INTEGER PRIMARY KEY, folder TEXT NOT NULL UNIQUE, contents INTEGER NOT NULL DEFAULT 0)",
    "CREATE TABLE acquisitions (item INTEGER NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (item, number)) WITHOUT ROWID",
    """CREATE TABLE contents (
    key BLOB NOT NULL, item INTEGER NOT NULL, acquisition INTEGER NOT NULL, path BLOB NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (key, item)) WITHOUT ROWID""",
    """CREATE TABLE recipes (
    id INTEGER PRIMARY KEY, blake3 BLOB NOT NULL, item INTEGER NOT NULL, acquisition INTEGER NOT NULL,
    position INTEGER NOT NULL, UNIQUE (blake3, item))""",
    """CREATE TABLE segments (
    key BLOB NOT NULL, item INTEGER NOT NULL, recipe INTEGER NOT NULL, row INTEGER NOT NULL, offset INTEGER NOT NULL,
    PRIMARY KEY (key, item)) WITHOUT ROWID""",
    """CREATE TABLE hooks (
    key BLOB NOT NULL, item INTEGER NOT NULL, recipe INTEGER NOT NULL, row INTEGER NOT NULL, offset INTEGER NOT NULL,
    PRIMARY KEY (key, item)) WITHOUT ROWID""",
)

ADD_CONTENTS: Final = "INSERT OR IGNORE INTO contents VALUES {values}"
# The newest wins: the next acquisition's times are compared with those of the latest file.
RENEW_CONTENTS: Final = """INSERT INTO contents VALUES {values} ON CONFLICT (key, item)
DO UPDATE SET acquisition = excluded.acquisition, path = excluded.path, size = excluded.size
WHERE acquisition <> excluded.acquisition"""
ADD_RECIPE: Final = "INSERT OR IGNORE INTO recipes (blake3, item, acquisition, position) VALUES (?, ?, ?, ?)"
# The newest recipe wins, and in it the first row: so a new image is matched with the previous one, from its beginning.
ADD_SEGMENTS: Final = """INSERT INTO segments VALUES {values} ON CONFLICT (key, item)
DO UPDATE SET recipe = excluded.recipe, row = excluded.row, offset = excluded.offset WHERE recipe <> excluded.recipe"""
ADD_HOOKS: Final = ADD_SEGMENTS.replace("segments", "hooks")

# Many items of a case may have the same file: one row for each key is enough, and is found without reading all.
# ?1 is the id of the wanted item.
_ONE_ITEM: Final = "?1"
_ANY_ITEM: Final = """coalesce((SELECT item FROM {table} WHERE key = w.key AND item = ?1),
(SELECT max(item) FROM {table} WHERE key = w.key))"""
_WANTED: Final = "WITH wanted (key) AS (VALUES {marks}) "
_FOUND: Final = "FROM wanted w CROSS JOIN {table} x ON x.key = w.key AND x.item = {item} "
_CONTENTS: Final = "SELECT x.key, i.folder, x.acquisition, x.path, x.size " + _FOUND + "JOIN items i ON i.id = x.item"
_PLACES: Final = (
    "SELECT x.key, r.blake3, i.folder, c.acquisition, c.path, c.size, r.acquisition, r.position, x.row, x.offset "
    + _FOUND
    + """CROSS JOIN recipes r ON r.id = x.recipe
JOIN contents c ON c.key = substr(r.blake3, 1, 16) AND c.item = x.item JOIN items i ON i.id = x.item"""
)


@lru_cache
def find_query(table: str, count: int, *, only_item: bool) -> str:
    """Returns a query with the item's id and `count` keys as arguments: one row for each key that `table` has."""
    marks = ", ".join([f"(?{number})" for number in range(2, count + 2)])
    item = (_ONE_ITEM if only_item else _ANY_ITEM).format(table=table)
    query = _CONTENTS if table == "contents" else _PLACES
    return _WANTED.format(marks=marks) + query.format(table=table, item=item)


KnownContent = tuple[Blake3Digest, bytes, int]
"""Digest, path and size of one file of an acquisition."""

_ADD_WAIT: Final = 20_000  # milliseconds to wait while another session adds to the same case
_ASK_WAIT: Final = 2_000
_QUERY_BATCH: Final = 256
_QUERY_WIDTHS: Final = (1, 16, 64, _QUERY_BATCH)  # few different statements, so that they stay prepared
_INSERT_BATCH: Final = 30_000  # rows sorted at a time: about 15 MB, so that pages are written in order
_ROWS_AT_ONCE: Final = 32
_Place = tuple[bytes, int, int, int, int]
_Digest = TypeVar("_Digest", bound=bytes)


class RowPlace(msgspec.Struct, frozen=True):
    """The place of a row in a recipe: the content, its recipe, the row's number, and its offset in the content."""

    location: Location
    recipe_item: str
    recipe_acquisition: int
    recipe_position: int
    row: int
    offset: int


class CaseIndex:
    """One open index file. Not thread-safe."""

    def __init__(self, path: Path, case: str, cache: int) -> None:
        """Opens or makes the file; `cache` is the size of its page cache in KiB.

        Raises sqlite3.DatabaseError when it is not an index of this version.
        """
        self.case = case
        self._db = sqlite3.connect(path, timeout=_ADD_WAIT / 1000, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(cache)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def acquisitions(self) -> set[tuple[str, int]]:
        """Returns all acquisitions in the index: item folder and number."""
        rows = self._db.execute("SELECT i.folder, a.number FROM acquisitions a JOIN items i ON i.id = a.item")
        return {(str(folder), int(number)) for folder, number in rows}

    def count(self, item: str | None) -> int:
        """Returns the number of known contents, of one item or of all (a content of two items counts twice)."""
        query = "SELECT coalesce(sum(contents), 0) FROM items WHERE folder = coalesce(?, folder)"
        (found,) = self._db.execute(query, [item]).fetchone()
        return int(found)

    def find_contents(self, digests: Sequence[Blake3Digest], item: str, *, only_item: bool) -> dict[Blake3Digest, Location]:
        """Finds contents, in `item` before other items."""
        wanted = {digest[:CONTENT_KEY]: digest for digest in digests}
        found: dict[Blake3Digest, Location] = {}
        for key, folder, acquisition, path, size in self._select("contents", list(wanted), item, only_item=only_item):
            found[wanted[key]] = self._location(wanted[key], folder, acquisition, path, size)
        return found

    def find_segments(self, digests: Sequence[SegmentDigest], item: str, *, only_item: bool) -> dict[SegmentDigest, RowPlace]:
        """Finds segments with the keys of these digests, in `item` before other items."""
        return self._find_places("segments", digests, item, only_item=only_item)

    def find_hooks(self, digests: Sequence[ChunkDigest], item: str, *, only_item: bool) -> dict[ChunkDigest, RowPlace]:
        """Finds recipes with chunks that have the keys of these digests, as far as the chunks are hooks."""
        return self._find_places("hooks", digests, item, only_item=only_item)

    def _find_places(self, table: str, digests: Sequence[_Digest], item: str, *, only_item: bool) -> dict[_Digest, RowPlace]:
        wanted = {bytes(digest[:PLACE_KEY]): digest for digest in digests}
        rows = self._select(table, list(wanted), item, only_item=only_item)
        return {wanted[key]: self._place(row) for key, *row in rows}

    def add(self, item: str, number: int, contents: Iterable[KnownContent], recipes: Iterable[tuple[int, Recipe]]) -> bool:
        """Adds one acquisition, whole or not at all; False when it was there already.

        `recipes` are those to be indexed, each with its position in the acquisition's chunks.bin.
        """
        with self._transaction():
            self._db.execute("INSERT OR IGNORE INTO items (folder) VALUES (?)", [item])
            (owner,) = self._db.execute("SELECT id FROM items WHERE folder = ?", [item]).fetchone()
            added = self._db.execute("INSERT OR IGNORE INTO acquisitions VALUES (?, ?)", [owner, number]).rowcount
            if not added:
                return False
            fresh = self._add_contents(owner, number, contents)
            self._db.execute("UPDATE items SET contents = contents + ? WHERE id = ?", [fresh, owner])
            self._add_recipes(owner, number, recipes)
        return True

    def _add_contents(self, owner: int, number: int, contents: Iterable[KnownContent]) -> int:
        rows = iter(contents)
        fresh = 0
        while batch := {blake3[:CONTENT_KEY]: (owner, number, path, size) for blake3, path, size in islice(rows, _INSERT_BATCH)}:
            ordered: list[tuple[object, ...]] = [(key, *batch[key]) for key in sorted(batch)]
            inserted = self._insert(ADD_CONTENTS, ordered)
            fresh += inserted
            if inserted != len(ordered):
                self._insert(RENEW_CONTENTS, ordered)
        return fresh

    def _insert(self, statement: str, rows: Sequence[tuple[object, ...]]) -> int:
        """Inserts rows, many in one statement (which halves the time); returns the number of changed rows."""
        changed = 0
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            run = rows[start : start + _ROWS_AT_ONCE]
            values = ", ".join(["(?, ?, ?, ?, ?)"] * len(run))
            changed += self._db.execute(statement.format(values=values), list(chain.from_iterable(run))).rowcount
        return changed

    def _add_recipes(self, owner: int, number: int, recipes: Iterable[tuple[int, Recipe]]) -> None:
        segments: list[_Place] = []
        hooks: list[_Place] = []
        for position, recipe in recipes:
            cursor = self._db.execute(ADD_RECIPE, [recipe.content, owner, number, position])
            if not cursor.rowcount or cursor.lastrowid is None:
                continue
            identity = cursor.lastrowid
            for segment in recipe.segments():
                segments.append((segment.digest[:PLACE_KEY], owner, identity, segment.first_row, segment.offset))
                hooks += [(digest[:PLACE_KEY], owner, identity, row, offset) for digest, row, offset in segment.hooks()]
                if len(segments) + len(hooks) >= _INSERT_BATCH:
                    self._add_places(segments, hooks)
        self._add_places(segments, hooks)

    def _add_places(self, segments: list[_Place], hooks: list[_Place]) -> None:
        """Inserts all rows, in key order, and empties both lists."""
        for statement, rows in ((ADD_SEGMENTS, segments), (ADD_HOOKS, hooks)):
            rows.sort()
            self._insert(statement, rows)
            rows.clear()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute(f"PRAGMA busy_timeout = {_ADD_WAIT}")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # some errors have rolled back the transaction already
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        self._db.execute(f"PRAGMA busy_timeout = {_ASK_WAIT}")

    def _prepare(self, cache: int) -> None:
        for pragma in ("trusted_schema = OFF", "synchronous = NORMAL", f"cache_size = -{cache}", "temp_store = MEMORY"):
            self._db.execute(f"PRAGMA {pragma}")
        if not self._pragma("schema_version"):
            with self._transaction():
                if not self._pragma("schema_version"):  # no other process has made it meanwhile
                    for statement in SCHEMA:
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA application_id = {APPLICATION}")
                    self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        if (self._pragma("application_id"), self._pragma("user_version")) != (APPLICATION, SCHEMA_VERSION):
            raise sqlite3.DatabaseError("not an index of this version")
        self._db.execute(f"PRAGMA busy_timeout = {_ASK_WAIT}")

    def _pragma(self, name: str) -> int:
        (value,) = self._db.execute(f"PRAGMA {name}").fetchone()
        return int(value)

    def _select(self, table: str, keys: Sequence[bytes], item: str, *, only_item: bool) -> Iterator[tuple[Any, ...]]:
        """Yields a row for each key that is in the table."""
        owner = self._db.execute("SELECT id FROM items WHERE folder = ?", [item]).fetchone()
        for start in range(0, len(keys), _QUERY_BATCH):
            batch = keys[start : start + _QUERY_BATCH]
            width = next(width for width in _QUERY_WIDTHS if width >= len(batch))
            arguments = [owner[0] if owner is not None else -1, *batch, *[batch[0]] * (width - len(batch))]
            yield from self._db.execute(find_query(table, width, only_item=only_item), arguments).fetchall()

    def _location(self, blake3: object, item: object, acquisition: object, path: object, size: object) -> Location:
        """Makes a location from a row. The file may contain anything; the reader of the bytes checks them."""
        if (
            type(blake3) is bytes
            and type(item) is str
            and type(path) is bytes
            and type(size) is int
            and type(acquisition) is int
            and 1 <= acquisition <= MAX_ACQUISITION
        ):
            return Location(self.case, item, acquisition, path, size, Blake3Digest(blake3))
        raise sqlite3.DatabaseError("an index row is not one of ours")

    def _place(self, row: list[Any]) -> RowPlace:
        blake3, item, acquisition, path, size, recipe_acquisition, position, number, offset = row
        location = self._location(blake3, item, acquisition, path, size)
        return RowPlace(
            location, location.item, _acquisition(recipe_acquisition), _integer(position), _integer(number), _integer(offset)
        )


def _integer(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise sqlite3.DatabaseError("an index row is not one of ours")
    return value


def _acquisition(value: object) -> int:
    number = _integer(value)
    if not 1 <= number <= MAX_ACQUISITION:
        raise sqlite3.DatabaseError("an index row is not one of ours")
    return number
