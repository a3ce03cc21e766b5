"""The tables of a case's index, and the statements over them.

Keys are the first bytes of digests, and come first in each table, so that what is inserted in their order is written in
order. Nothing has a row id of its own: a row of `segments` or `hooks` takes some 40 bytes, one for 40 and for 16 chunks.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

APPLICATION: Final = 0x45534958
SCHEMA_VERSION: Final = 2

CONTENT_KEY: Final = 16
"""Bytes of a content's key: so long that nobody can make two contents of one key, for a hit is taken to be that content."""
PLACE_KEY: Final = 8
"""Bytes of a segment's or a chunk's key: a hit counts only when the whole digest is seen in the recipe."""

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
# Newest wins: a later acquisition's file has the time that the next one is compared with.
RENEW_CONTENTS: Final = """INSERT INTO contents VALUES {values} ON CONFLICT (key, item)
DO UPDATE SET acquisition = excluded.acquisition, path = excluded.path, size = excluded.size
WHERE acquisition <> excluded.acquisition"""
ADD_RECIPE: Final = "INSERT OR IGNORE INTO recipes (blake3, item, acquisition, position) VALUES (?, ?, ?, ?)"
# The newest recipe wins, and in it the first row: so a new image is found in the one before it, from its beginning.
ADD_SEGMENTS: Final = """INSERT INTO segments VALUES {values} ON CONFLICT (key, item)
DO UPDATE SET recipe = excluded.recipe, row = excluded.row, offset = excluded.offset WHERE recipe <> excluded.recipe"""
ADD_HOOKS: Final = ADD_SEGMENTS.replace("segments", "hooks")

# Many items of a case may have the same file: one row for each key is enough, and it is found without looking at them all.
# ?1 is the id of the item that is asked for.
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
def find(table: str, count: int, *, only_item: bool) -> str:
    """A query with the item's id and `count` keys as arguments: one row for each key that `table` has."""
    marks = ", ".join([f"(?{number})" for number in range(2, count + 2)])
    item = (_ONE_ITEM if only_item else _ANY_ITEM).format(table=table)
    query = _CONTENTS if table == "contents" else _PLACES
    return _WANTED.format(marks=marks) + query.format(table=table, item=item)
