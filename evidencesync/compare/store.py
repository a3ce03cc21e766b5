"""DifferenceStore: what differs between a folder and a manifest, in a temporary database, however much it is.

Only differences are kept. SQLite holds a few megabytes in memory and the rest in a file without a name, which is gone
when the process is. Contents are known by a key: their BLAKE3, and their SHA-256 where that is compared, too.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from evidencesync.compare.results import Category, Difference, Group
from evidencesync.errors import StorageError
from evidencesync.limits import MAX_FINDINGS, MAX_LISTED_PATHS

_SETTINGS: Final = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16384; PRAGMA temp_store = FILE;"
_TABLES: Final = """
CREATE TABLE difference (category TEXT, kind TEXT, path BLOB, listed BLOB, detail TEXT, key BLOB);
CREATE TABLE displaced (path BLOB, key BLOB, replaced INTEGER);
CREATE TABLE unlisted (path BLOB, key BLOB);
"""
# The first of several files with the same content is paired with the first name that lost it, and so on. Names that are
# gone come before names that have other content now.
_PAIR: Final = """
CREATE TABLE lost AS SELECT path, key, replaced, row_number() OVER (PARTITION BY key ORDER BY replaced, path) AS turn
    FROM displaced;
CREATE INDEX lost_key ON lost (key, turn);
CREATE TABLE turned AS SELECT path, key, row_number() OVER (PARTITION BY key ORDER BY path) AS turn FROM unlisted;
CREATE INDEX turned_key ON turned (key, turn);
INSERT INTO difference SELECT 'moved', 'files', turned.path, lost.path, '', NULL FROM turned JOIN lost USING (key, turn);
INSERT INTO difference SELECT 'missing', 'files', path, NULL, '', NULL FROM lost
    WHERE NOT replaced AND NOT EXISTS (SELECT 1 FROM turned WHERE turned.key = lost.key AND turned.turn = lost.turn);
CREATE TABLE rest AS SELECT path, key FROM turned
    WHERE NOT EXISTS (SELECT 1 FROM lost WHERE lost.key = turned.key AND lost.turn = turned.turn);
CREATE TABLE wanted (key BLOB PRIMARY KEY, listed BLOB) WITHOUT ROWID;
INSERT OR IGNORE INTO wanted SELECT key, NULL FROM rest WHERE key IS NOT NULL;
INSERT OR IGNORE INTO wanted SELECT key, NULL FROM difference WHERE key IS NOT NULL;
"""
_SETTLE: Final = """
INSERT INTO difference SELECT CASE WHEN wanted.listed IS NULL THEN 'new' ELSE 'duplicated' END, 'files', path, listed, '', NULL
    FROM rest LEFT JOIN wanted USING (key);
UPDATE difference SET listed = (SELECT listed FROM wanted WHERE wanted.key = difference.key) WHERE key IS NOT NULL;
"""


class DifferenceStore:
    """Give it everything that differs, then `pair`, then `settle`, then ask. Raises StorageError where there is no room."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(_SETTINGS + _TABLES + "BEGIN;")

    def close(self) -> None:
        """Lets go of everything."""
        self._database.close()

    def add(self, difference: Difference) -> None:
        """Something whose category is known."""
        self._run("INSERT INTO difference VALUES (?, ?, ?, ?, ?, NULL)", *_row(difference), difference.detail)

    def add_modified(self, path: bytes, listed_key: bytes | None, found_key: bytes | None, detail: str) -> None:
        """A file whose name has other content now; keys are None where the content is empty or unknown."""
        row = (Category.MODIFIED, "files", path, None, detail, found_key)
        self._run("INSERT INTO difference VALUES (?, ?, ?, ?, ?, ?)", *row)
        self._run("INSERT INTO displaced VALUES (?, ?, 1)", path, listed_key)

    def add_absent(self, path: bytes, key: bytes | None) -> None:
        """A listed file that is not there: missing, or moved."""
        self._run("INSERT INTO displaced VALUES (?, ?, 0)", path, key)

    def add_unlisted(self, path: bytes, key: bytes | None) -> None:
        """A file under a name that is not listed: new, moved, or a copy."""
        self._run("INSERT INTO unlisted VALUES (?, ?)", path, key)

    def pair(self) -> bool:
        """Finds what was moved. Whether it is of interest now which contents are listed: then `settle` needs to know."""
        with _storing():
            self._script(_PAIR)
            return self._database.execute("SELECT 1 FROM wanted LIMIT 1").fetchone() is not None

    def settle(self, listed: Iterable[tuple[bytes, bytes]]) -> None:
        """Tells copies of listed contents from new ones. `listed` are path and key of all listed files, in order."""
        with _storing():
            self._database.executemany("UPDATE wanted SET listed = ? WHERE key = ? AND listed IS NULL", listed)
            self._script(_SETTLE)

    def counts(self) -> Counter[tuple[Category, Group]]:
        """How many differences there are of each category."""
        with _storing():
            rows = self._database.execute("SELECT category, kind, count(*) FROM difference GROUP BY category, kind")
            return Counter({(Category(category), group): count for category, group, count in rows})

    def listed(self) -> list[Difference]:
        """The differences by category and path, as many as can be told: limits.py bounds how many, and how long."""
        found: list[Difference] = []
        query = "SELECT category, kind, path, listed, detail FROM difference WHERE category = ? ORDER BY path LIMIT ?"
        room = MAX_LISTED_PATHS
        with _storing():
            for category in Category:
                for name, group, path, listed, detail in self._database.execute(query, (category, MAX_FINDINGS)):
                    room -= len(path) + len(listed or b"")
                    if room < 0:
                        return found
                    found.append(Difference(Category(name), group, path, listed, detail))
        return found

    def _run(self, statement: str, *values: object) -> None:
        try:
            self._database.execute(statement, values)
        except sqlite3.Error as error:
            raise _no_room(error) from error

    def _script(self, script: str) -> None:
        for statement in script.split(";\n"):
            self._database.execute(statement)


def _row(difference: Difference) -> tuple[str, str, bytes, bytes | None]:
    return difference.category, difference.group, difference.path, difference.listed


@contextlib.contextmanager
def _storing() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _no_room(error) from error


def _no_room(error: sqlite3.Error) -> StorageError:
    hint = "It is kept in the folder for temporary files; name another one in SQLITE_TMPDIR."
    return StorageError(f"what differs could not be kept for the end of the comparison: {error}", hint=hint)
