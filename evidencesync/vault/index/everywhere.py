"""Everywhere: which other case has something, for lookups that reach over the whole vault.

With hundreds of cases, asking the index of each would mean to open hundreds of files for each page of a manifest. So one
more SQLite file has a short key for everything that the cases' indexes have, with one case each: two cases are asked at
most, one's own and that one. It is a cache of caches. It is made and kept up to date only when a lookup first reaches
further than a case, and a vault that does not allow that has none.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from evidencesync.vault.index.sql import PLACE_KEY, SCHEMA_VERSION

FILE: Final = ".everywhere.sqlite"
"""Its name in the index folder. Begins with a dot, so that it can be no case's."""

_APPLICATION: Final = 0x45534945
_VERSION: Final = 1
_WAIT: Final = 20.0  # seconds, while another session brings it up to date
_QUERY_BATCH: Final = 256
_SCHEMA: Final = (
    "CREATE TABLE cases (id INTEGER PRIMARY KEY, folder TEXT NOT NULL UNIQUE, contents INTEGER NOT NULL)",
    """CREATE TABLE acquisitions (cased INTEGER NOT NULL, item TEXT NOT NULL, number INTEGER NOT NULL,
    PRIMARY KEY (cased, item, number)) WITHOUT ROWID""",
    "CREATE TABLE keys (key BLOB PRIMARY KEY, cased INTEGER NOT NULL) WITHOUT ROWID",
)
# What is new in a case, in the order of the keys, which is the order of the tables there and here.
_NEW: Final = """SELECT i.id, a.number FROM one.acquisitions a JOIN one.items i ON i.id = a.item
WHERE NOT EXISTS (SELECT 1 FROM acquisitions k WHERE k.cased = ?1 AND k.item = i.folder AND k.number = a.number)"""
_COPY_CONTENTS: Final = f"""INSERT OR REPLACE INTO keys SELECT substr(key, 1, {PLACE_KEY}), ?1 FROM one.contents
WHERE (item, acquisition) IN ({_NEW})"""  # noqa: S608 - nothing but constants
_COPY_PLACES: Final = f"""INSERT OR REPLACE INTO keys SELECT key, ?1 FROM one.{{table}} WHERE recipe IN
(SELECT id FROM one.recipes WHERE (item, acquisition) IN ({_NEW}))"""  # noqa: S608 - nothing but constants
_NOTE: Final = """INSERT OR IGNORE INTO acquisitions SELECT ?1, i.folder, a.number
FROM one.acquisitions a JOIN one.items i ON i.id = a.item"""


class Everywhere:
    """One open file. Not thread-safe. Methods raise sqlite3.Error."""

    def __init__(self, folder: Path) -> None:
        """Opens the file in the index folder, or makes it. Raises sqlite3.DatabaseError when it is not one of ours."""
        self._folder = folder
        if (folder / FILE).is_symlink():
            raise sqlite3.DatabaseError("not a file of ours")
        self._db = sqlite3.connect(folder / FILE, timeout=_WAIT, isolation_level=None, check_same_thread=False, uri=True)
        try:
            for pragma in ("trusted_schema = OFF", "synchronous = NORMAL", "cache_size = -16384", "temp_store = MEMORY"):
                self._db.execute(f"PRAGMA {pragma}")
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def update(self, cases: Iterable[str]) -> list[str]:
        """Takes over what is new in the cases' indexes, and forgets everything when one of them is there no more.

        Gives the cases whose index could not be read: nothing is found there. Takes about a second for each new TiB.
        """
        there = set(cases)
        if not {str(folder) for (folder,) in self._db.execute("SELECT folder FROM cases")} <= there:
            self._transact([(f"DELETE FROM {table}", ()) for table in ("keys", "acquisitions", "cases")])  # noqa: S608
        unreadable = []
        for case in sorted(there):
            self._db.execute("ATTACH ? AS one", [f"file:{quote(str(self._folder / f'{case}.sqlite'))}?mode=ro"])
            try:
                if self._readable():
                    self._take_over(case)
                else:
                    unreadable.append(case)
            finally:
                self._db.execute("DETACH one")
        return unreadable

    def contents(self) -> int:
        """How many contents all cases have (where one that two of them have counts twice)."""
        (found,) = self._db.execute("SELECT coalesce(sum(contents), 0) FROM cases").fetchone()
        return int(found)

    def find(self, digests: Sequence[bytes]) -> set[str]:
        """The folders of cases that may have any of these contents, segments or hooks; one for each digest."""
        found: set[str] = set()
        for start in range(0, len(digests), _QUERY_BATCH):
            keys = [bytes(digest[:PLACE_KEY]) for digest in digests[start : start + _QUERY_BATCH]]
            keys += keys[:1] * (_QUERY_BATCH - len(keys) if len(keys) > 1 else 0)
            query = f"SELECT DISTINCT c.folder FROM keys k JOIN cases c ON c.id = k.cased WHERE k.key IN ({_marks(len(keys))})"  # noqa: S608
            found.update(str(folder) for (folder,) in self._db.execute(query, keys))
        return found

    def _readable(self) -> bool:
        try:
            (version,) = self._db.execute("PRAGMA one.user_version").fetchone()
        except sqlite3.Error:
            return False
        return int(version) == SCHEMA_VERSION

    def _take_over(self, case: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO cases (folder, contents) VALUES (?, 0)", [case])
        (cased,) = self._db.execute("SELECT id FROM cases WHERE folder = ?", [case]).fetchone()
        if self._db.execute(_NEW, [cased]).fetchone() is None:
            return
        copies = [_COPY_CONTENTS, *[_COPY_PLACES.format(table=table) for table in ("segments", "hooks")], _NOTE]
        count = "UPDATE cases SET contents = (SELECT coalesce(sum(contents), 0) FROM one.items) WHERE id = ?1"
        self._transact([(statement, (cased,)) for statement in [*copies, count]])

    def _transact(self, statements: Sequence[tuple[str, tuple[int, ...]]]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for statement, arguments in statements:
                self._db.execute(statement, arguments)
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _prepare(self) -> None:
        if not self._pragma("schema_version"):
            with contextlib.suppress(sqlite3.OperationalError):  # somebody else was quicker
                marks = (f"PRAGMA application_id = {_APPLICATION}", f"PRAGMA user_version = {_VERSION}")
                self._transact([(statement, ()) for statement in (*_SCHEMA, *marks)])
        if (self._pragma("application_id"), self._pragma("user_version")) != (_APPLICATION, _VERSION):
            raise sqlite3.DatabaseError("not an index of this version")

    def _pragma(self, name: str) -> int:
        (value,) = self._db.execute(f"PRAGMA {name}").fetchone()
        return int(value)


def _marks(count: int) -> str:
    return ", ".join("?" * count)
