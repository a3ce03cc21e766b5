"""The results of a comparison, and DifferenceStore, a temporary database of what differs between a folder and a manifest.

Only differences are kept. SQLite holds a few megabytes in memory and the rest in a file without a name, which is gone when the
process is. Contents are known by a key: their BLAKE3, and their SHA-256 where that is compared, too.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal, NamedTuple

from evidencesync.errors import StorageError
from evidencesync.exit_codes import ExitCode, most_severe
from evidencesync.limits import MAX_FINDINGS, MAX_LISTED_PATHS

Group = Literal["files", "others"]
"""`others` are folders, symbolic links, FIFOs, sockets and devices."""


class Category(StrEnum):
    """What becomes of an entry of the manifest or of the folder. Each regular file that is found gets exactly one.

    `modified`: the name is there with other content, as another kind, or (a link, a device) leading elsewhere. `moved`:
    listed content under another name, while its own name is gone or has other content. `duplicated`: a further copy of
    listed content under a name that is not listed. `missing`, `new`: what is left over on either side. `unreadable`: it,
    or the folder it should be in, cannot be read, or could not be at the source. `not-compared`: a filter left it out when
    the manifest was made; or it was listed without content, and is not there. `metadata`: the same but for mode, owner,
    time, links or attributes.
    """

    MATCHED = "matched"
    MODIFIED = "modified"
    MOVED = "moved"
    DUPLICATED = "duplicated"
    MISSING = "missing"
    NEW = "new"
    UNREADABLE = "unreadable"
    NOT_COMPARED = "not-compared"
    METADATA = "metadata"


_CODES: Final = {
    Category.MODIFIED: ExitCode.DIGEST,
    Category.METADATA: ExitCode.DIGEST,
    Category.MOVED: ExitCode.MISSING_OR_EXTRA,
    Category.DUPLICATED: ExitCode.MISSING_OR_EXTRA,
    Category.MISSING: ExitCode.MISSING_OR_EXTRA,
    Category.NEW: ExitCode.MISSING_OR_EXTRA,
    Category.UNREADABLE: ExitCode.GAPS,
}


@dataclass(frozen=True, slots=True)
class FolderDifference:
    """One thing that is not as it is listed.

    `path` is where it was found, or should be. `listed` is a name under which the manifest lists the content that was
    found: of what was moved or copied its old name. `detail` is for people, and safe to show.
    """

    category: Category
    group: Group
    path: bytes
    listed: bytes | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ManifestFacts:
    """Which manifest a folder was compared with. Without a `signer` nobody vouches for it: it was not verified.

    `over_sftp`: nobody told its maker of attributes, nor of times below a second.
    """

    sha256: str
    case: str
    item: str
    acquisition: int
    examiner: str
    signer: str | None
    key: str | None
    over_sftp: bool = False


@dataclass(slots=True)
class Compared:
    """The outcome. `listed` and `found` are regular files; `bytes` those that were hashed; `left_out` differences not kept.

    `metadata` counts differences by what differs, among entries that are the same otherwise; None where metadata means
    nothing, because the folder is an acquisition's `data/`. `judged`: those differences count as such. In `changed_folders`
    names came or went after they were listed, so that it is not known in full what is in them.
    """

    facts: ManifestFacts
    is_data: bool
    judged: bool
    listed: int = 0
    found: int = 0
    bytes: int = 0
    files: Counter[Category] = field(default_factory=Counter)
    others: Counter[Category] = field(default_factory=Counter)
    absent_by_design: int = 0
    changed_folders: int = 0
    metadata: Counter[str] | None = None
    differences: list[FolderDifference] = field(default_factory=list)
    left_out: int = 0

    def counts(self, group: Group) -> Counter[Category]:
        """The counts of one group."""
        return self.files if group == "files" else self.others

    @property
    def exit_code(self) -> ExitCode:
        """The most severe of all differences. Of metadata only where it is judged."""
        met = {category for counts in (self.files, self.others) for category, count in counts.items() if count}
        if not self.judged:
            met.discard(Category.METADATA)
        codes = {_CODES.get(category, ExitCode.COMPLETE) for category in met}
        return most_severe(codes | {ExitCode.SOURCE_CHANGED} if self.changed_folders else codes)


_SETTINGS: Final = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16384; PRAGMA temp_store = FILE;"
_TABLES: Final = """
CREATE TABLE difference (category TEXT, kind TEXT, path BLOB, listed BLOB, detail TEXT, key BLOB);
CREATE TABLE displaced (path BLOB, key BLOB, replaced INTEGER);
CREATE TABLE unlisted (path BLOB, key BLOB);
"""
_MOVED: Final = """
INSERT INTO difference SELECT 'moved', 'files', unlisted.path, displaced.path, '', NULL
    FROM pairs JOIN displaced ON displaced.rowid = pairs.one JOIN unlisted ON unlisted.rowid = pairs.other;
INSERT INTO difference SELECT 'missing', 'files', path, NULL, '', NULL FROM displaced
    WHERE NOT replaced AND rowid NOT IN (SELECT one FROM pairs);
CREATE TABLE rest AS SELECT path, key FROM unlisted WHERE rowid NOT IN (SELECT other FROM pairs);
CREATE TABLE wanted (key BLOB PRIMARY KEY, listed BLOB) WITHOUT ROWID;
INSERT OR IGNORE INTO wanted SELECT key, NULL FROM rest WHERE key IS NOT NULL;
INSERT OR IGNORE INTO wanted SELECT key, NULL FROM difference WHERE key IS NOT NULL;
"""
_FINISH: Final = """
INSERT INTO difference SELECT CASE WHEN wanted.listed IS NULL THEN 'new' ELSE 'duplicated' END, 'files', path, listed, '', NULL
    FROM rest LEFT JOIN wanted USING (key);
UPDATE difference SET listed = (SELECT listed FROM wanted WHERE wanted.key = difference.key) WHERE key IS NOT NULL;
"""


class Side(NamedTuple):
    """Rows of a table that are paired with those of another side: in which order, and which of them. All our own SQL."""

    table: str
    order: str
    condition: str = "TRUE"


def pair_rows(database: sqlite3.Connection, key: str, one: Side, other: Side) -> None:
    """Makes a table `pairs` of the rowids `one` and `other` of rows that have the same key, which is one column or more.

    The first of several rows with a key is paired with the first of the other side, and so on. NULL is no key.
    """
    for name, side in (("ones", one), ("others", other)):
        database.execute(
            f"CREATE TABLE {name} AS SELECT rowid AS id, {key},"  # noqa: S608  # our own words
            f" row_number() OVER (PARTITION BY {key} ORDER BY {side.order}) AS turn FROM {side.table} WHERE {side.condition}"
        )
    database.execute(f"CREATE INDEX others_key ON others ({key}, turn)")
    database.execute(
        "CREATE TABLE pairs AS SELECT ones.id AS one, others.id AS other"  # noqa: S608  # our own words
        f" FROM ones JOIN others USING ({key}, turn)"
    )
    database.execute("DROP TABLE ones")
    database.execute("DROP TABLE others")


class DifferenceStore:
    """Give it everything that differs, then `pair`, then `finish`, then ask. Raises StorageError where there is no room."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(_SETTINGS + _TABLES + "BEGIN;")

    def close(self) -> None:
        """Lets go of everything."""
        self._database.close()

    def add(self, difference: FolderDifference) -> None:
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
        """Finds what was moved. Whether it is of interest now which contents are listed: then `finish` needs to know."""
        with _storing():
            # Names that are gone come before names that have other content now.
            pair_rows(self._database, "key", Side("displaced", "replaced, path"), Side("unlisted", "path"))
            self._script(_MOVED)
            return self._database.execute("SELECT 1 FROM wanted LIMIT 1").fetchone() is not None

    def finish(self, listed: Iterable[tuple[bytes, bytes]]) -> None:
        """Tells copies of listed contents from new ones. `listed` are path and key of all listed files, in order."""
        with _storing():
            self._database.executemany("UPDATE wanted SET listed = ? WHERE key = ? AND listed IS NULL", listed)
            self._script(_FINISH)

    def counts(self) -> Counter[tuple[Category, Group]]:
        """How many differences there are of each category."""
        with _storing():
            rows = self._database.execute("SELECT category, kind, count(*) FROM difference GROUP BY category, kind")
            return Counter({(Category(category), group): count for category, group, count in rows})

    def listed(self) -> list[FolderDifference]:
        """The differences by category and path, as many as can be told: limits.py bounds how many, and how long."""
        found: list[FolderDifference] = []
        query = "SELECT category, kind, path, listed, detail FROM difference WHERE category = ? ORDER BY path LIMIT ?"
        room = MAX_LISTED_PATHS
        with _storing():
            for category in Category:
                for name, group, path, listed, detail in self._database.execute(query, (category, MAX_FINDINGS)):
                    room -= len(path) + len(listed or b"")
                    if room < 0:
                        return found
                    found.append(FolderDifference(Category(name), group, path, listed, detail))
        return found

    def _run(self, statement: str, *values: object) -> None:
        try:
            self._database.execute(statement, values)
        except sqlite3.Error as error:
            raise _no_room(error) from error

    def _script(self, script: str) -> None:
        for statement in script.split(";\n"):
            self._database.execute(statement)


def _row(difference: FolderDifference) -> tuple[str, str, bytes, bytes | None]:
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
