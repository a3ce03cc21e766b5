"""Checks the index against what is published. It is only a cache: what is wrong with it is a warning."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Final
from urllib.parse import quote

from evidencesync.evidence.display import safe_text
from evidencesync.evidence.identity import is_folder_name
from evidencesync.vault.index.index import BEYOND_CASES
from evidencesync.vault.layout import (
    ACQUISITIONS,
    CASES,
    INDEX,
    MAX_ACQUISITION,
    NEW_STATED_HEADS,
    STATED_HEADS,
    acquisition_folder,
    acquisition_number,
)
from evidencesync.verify.checks import Check
from evidencesync.verify.documents import CheckedFolder, reason

_SUFFIX: Final = ".sqlite"
_JOURNALS: Final = ("-journal", "-wal", "-shm")
_OTHERS: Final = (BEYOND_CASES, STATED_HEADS, NEW_STATED_HEADS)  # unused; signed, and as good as none where it does not fit
_QUERY: Final = "SELECT i.folder, a.number FROM acquisitions a JOIN items i ON i.id = a.item LIMIT 1000000"
_BUSY_SECONDS: Final = 2.0
# SQLite's errors for a file that cannot be opened or read, whatever is in it. READONLY: its journal needs a writer.
_REFUSED: Final = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOLFS,
    }
)

PublishedContents = dict[str, set[tuple[str, int]]]
"""By case folder: item folder and number of every acquisition that is published."""


def check_index(
    root: CheckedFolder, folder: CheckedFolder, vault_path: bytes, published: PublishedContents, before: PublishedContents
) -> None:
    """Does check 11: each case's index lists only acquisitions that are there, and all of them. Never writes.

    While others push, an index may list acquisitions that were not there when the items were checked: so they are looked up
    again. And an acquisition is indexed shortly after its publish: so only those must be listed that were there `before` all
    checks.
    """
    known = {case.encode() for case in published}
    for raw in sorted(folder.names):
        name = raw.decode("utf-8", "replace")
        case = name.removesuffix(_SUFFIX)
        if name.endswith(tuple(_SUFFIX + journal for journal in _JOURNALS)) or (name in _OTHERS and folder.names[raw] == "file"):
            continue
        if folder.names[raw] != "file" or not name.endswith(_SUFFIX) or not is_folder_name(case):
            folder.report.report(Check.INDEX, "foreign-entry", f"a {folder.names[raw]} that is no index", raw)
        elif case.encode() in known:
            path = os.path.join(vault_path, INDEX.encode(), raw)
            _check_case(root, folder, path, name, published[case], before.get(case, set()))
        elif not folder.report.findings.is_unread(f"{CASES}/{case}".encode()) and not root.has_now(f"{CASES}/{case}"):
            folder.report.report(Check.INDEX, "index-differs", f"an index of a case that is not there: {safe_text(case)}", raw)


def list_published(root: CheckedFolder) -> PublishedContents:
    """Returns what is published now, by the folders' names. Reports nothing, and opens no acquisition."""
    found: PublishedContents = {}
    with root.peeked(CASES) as cases:
        for case in _folders(cases):
            with _peeked(cases, case) as items:
                found[case] = {(item, number) for item in _folders(items) for number in _numbers_of(items, item)}
    return found


def published_in(acquisitions: CheckedFolder) -> Iterator[int]:
    """Yields the numbers of published acquisitions, by the names in a folder."""
    for raw in acquisitions.names:
        number = acquisition_number(raw.decode("utf-8", "replace"))
        if number is not None:
            yield number


def _folders(folder: CheckedFolder | None) -> list[str]:
    names = folder.names if folder is not None else {}
    return [name for raw in names if is_folder_name(name := raw.decode("utf-8", "replace"))]


def _numbers_of(items: CheckedFolder | None, item: str) -> list[int]:
    with _peeked(items, item) as folder, _peeked(folder, ACQUISITIONS) as acquisitions:
        return list(published_in(acquisitions)) if acquisitions is not None else []


def _peeked(folder: CheckedFolder | None, name: str) -> AbstractContextManager[CheckedFolder | None]:
    return folder.peeked(name) if folder is not None else nullcontext()


def _check_case(
    root: CheckedFolder,
    folder: CheckedFolder,
    path: bytes,
    name: str,
    published: set[tuple[str, int]],
    before: set[tuple[str, int]],
) -> None:
    try:
        indexed = _acquisitions(path)
    except (sqlite3.Error, OSError, ValueError) as error:
        if not _is_made_anew(folder, name, error):
            slug = "index-not-read" if _is_unread(error) else "index-differs"
            folder.report.report(Check.INDEX, slug, f"{name} cannot be read: {_reason(error)}", name)
        return
    case = name.removesuffix(_SUFFIX)
    gone = {one for one in indexed - published if not _may_be_there(root, case, *one)}
    if gone:
        text = f"{name} is about acquisitions that are not there: {len(gone)}"
        folder.report.report(Check.INDEX, "index-differs", text, name)
    lacking = (published & before) - indexed
    if lacking:
        text = f"{name} lacks acquisitions that are there, which costs time and nothing else: {len(lacking)}"
        folder.report.report(Check.INDEX, "index-differs", text, name)


def _is_made_anew(folder: CheckedFolder, name: str, error: Exception) -> bool:
    """Whether a process is writing the index now, or has removed it to rebuild it."""
    return _primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or not folder.has_now(name)


def _is_unread(error: Exception) -> bool:
    """Whether the index could not be read, because of the disk or permissions: then it is unknown whether it is right."""
    return isinstance(error, OSError) or _primary_code(error) in _REFUSED


def _reason(error: Exception) -> str:
    return reason(error) if isinstance(error, OSError) else safe_text(str(error), 100)


def _primary_code(error: Exception) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def _may_be_there(root: CheckedFolder, case: str, item: str, number: int) -> bool:
    """Whether an acquisition is there now, or that is unknown."""
    acquisitions = _acquisitions_of(case, item)
    if root.report.findings.is_unread(acquisitions):
        return True
    return (
        is_folder_name(item)
        and 0 < number <= MAX_ACQUISITION
        and root.has_now(f"{os.fsdecode(acquisitions)}/{acquisition_folder(number)}")
    )


def _acquisitions_of(case: str, item: str) -> bytes:
    return f"{CASES}/{case}/{item}/{ACQUISITIONS}".encode(errors="surrogateescape")


def _acquisitions(path: bytes) -> set[tuple[str, int]]:
    """Returns the acquisitions in an index, read without changing the file."""
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise ValueError("it is no regular file")
    uri = f"file:{quote(path)}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as database:
        database.execute("PRAGMA trusted_schema = OFF")
        return {(str(item), int(number)) for item, number in database.execute(_QUERY)}
