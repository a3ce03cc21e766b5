"""The index against what is published. It is a cache that nothing relies on: what is wrong with it is a warning."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from typing import Final
from urllib.parse import quote

from evidencesync.evidence.display import safe_text
from evidencesync.evidence.identity import is_folder_name
from evidencesync.vault.everywhere import FILE
from evidencesync.vault.layout import ACQUISITIONS, CASES, INDEX
from evidencesync.verify.checks import Check
from evidencesync.verify.documents import CheckedFolder

_SUFFIX: Final = ".sqlite"
_JOURNALS: Final = ("-journal", "-wal", "-shm")
_QUERY: Final = "SELECT i.folder, a.number FROM acquisitions a JOIN items i ON i.id = a.item LIMIT 1000000"
_BUSY_SECONDS: Final = 2.0

Published = dict[str, set[tuple[str, int]]]
"""By case folder: item folder and number of every acquisition that is published."""


def check_index(folder: CheckedFolder, vault_path: bytes, published: Published) -> None:
    """Check 11: each case's index is about acquisitions that are there, and has all of them. Never writes."""
    known = {case.encode() for case in published}
    for raw in sorted(folder.names):
        name = raw.decode("utf-8", "replace")
        case = name.removesuffix(_SUFFIX)
        if name.endswith(tuple(_SUFFIX + journal for journal in _JOURNALS)) or (name, folder.names[raw]) == (FILE, "file"):
            continue
        if folder.names[raw] != "file" or not name.endswith(_SUFFIX) or not is_folder_name(case):
            folder.report.report(Check.INDEX, "foreign-entry", f"a {folder.names[raw]} that is no index", raw)
        elif case.encode() not in known and folder.report.findings.is_unread(f"{CASES}/{case}".encode()):
            continue  # nobody knows whether the case is there
        elif case.encode() not in known:
            folder.report.report(Check.INDEX, "index-differs", f"an index of a case that is not there: {safe_text(case)}", raw)
        else:
            _check_case(folder, os.path.join(vault_path, INDEX.encode(), raw), name, published[case])


def _check_case(folder: CheckedFolder, path: bytes, name: str, published: set[tuple[str, int]]) -> None:
    try:
        indexed = _acquisitions(path)
    except (sqlite3.Error, OSError, ValueError) as error:
        folder.report.report(Check.INDEX, "index-differs", f"{name} cannot be read: {safe_text(str(error), 100)}", name)
        return
    case = name.removesuffix(_SUFFIX)
    gone = {one for one in indexed - published if not folder.report.findings.is_unread(_acquisitions_of(case, one[0]))}
    if gone:
        text = f"{name} is about acquisitions that are not there: {len(gone)}"
        folder.report.report(Check.INDEX, "index-differs", text, name)
    if published - indexed:
        text = f"{name} lacks acquisitions that are there, which costs time and nothing else: {len(published - indexed)}"
        folder.report.report(Check.INDEX, "index-differs", text, name)


def _acquisitions_of(case: str, item: str) -> bytes:
    return f"{CASES}/{case}/{item}/{ACQUISITIONS}".encode(errors="surrogateescape")


def _acquisitions(path: bytes) -> set[tuple[str, int]]:
    """What an index is about, read without changing anything."""
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise ValueError("it is no regular file")
    uri = f"file:{quote(path)}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as database:
        database.execute("PRAGMA trusted_schema = OFF")
        return {(str(item), int(number)) for item, number in database.execute(_QUERY)}
