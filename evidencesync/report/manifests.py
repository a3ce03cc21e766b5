"""Manifests as a report needs them: read strictly, never whole in memory; their rows, and what differs between two."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from evidencesync.custody.differences import has_changed
from evidencesync.custody.entries import ManifestLine
from evidencesync.custody.labels import FLAGS, type_text
from evidencesync.errors import EvidenceSyncError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.path import EvidencePath, pair_in_order, to_json_fields, walk_order
from evidencesync.evidence.utc_time import parse_file_time
from evidencesync.limits import MAX_REPORT_LISTED
from evidencesync.report.document import (
    Contents,
    Difference,
    DifferenceKind,
    Differences,
    FlaggedEntry,
    NamedSize,
    PathPair,
    UnreadRange,
)
from evidencesync.vault.catalog import read_published
from evidencesync.vault.layout import ItemLayout

_PathEntry = tuple[bytes, Entry]
_MAX_SUFFIX: Final = 12
_TYPES_SHOWN: Final = 8


def path_pair(raw: bytes) -> PathPair:
    """A raw path as documents write it."""
    return PathPair(*to_json_fields(raw))


def survey(item: ItemLayout, number: int) -> Contents:
    """One pass over a manifest: types, flags and read errors. Raises nothing: what is wrong is its `problem`."""
    digest = hashlib.sha256()
    sizes: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    flagged: list[FlaggedEntry] = []
    unread: list[UnreadRange] = []
    counts: Counter[str] = Counter()
    filtered: Counter[str] = Counter()
    problem: str | None = None
    try:
        for raw, line in read_published(item, number, digest.update):
            if isinstance(line, Entry):
                counts["entries"] += 1
                if line.size is not None:
                    total = sizes[_type_of(raw)]
                    total[0] += 1
                    total[1] += line.size
                if line.flags == ["skipped"]:
                    filtered[line.type] += 1
                elif line.flags:
                    counts["flagged"] += 1
                    if len(flagged) < MAX_REPORT_LISTED:
                        flagged.append(FlaggedEntry(path_pair(raw), line.type, list(line.flags)))
            for error in line.read_errors or ():
                counts["unread"] += 1
                counts["unread bytes"] += error.length
                if len(unread) < MAX_REPORT_LISTED:
                    unread.append(UnreadRange(path_pair(raw), error))
    except EvidenceSyncError as error:
        problem = error.message
    return Contents(
        manifest_sha256=digest.hexdigest() if problem is None else None,
        entries=counts["entries"],
        types=_largest(sizes),
        flagged=flagged,
        flagged_count=counts["flagged"],
        filtered=dict(sorted(filtered.items())),
        unread=unread,
        unread_count=counts["unread"],
        unread_bytes=counts["unread bytes"],
        problem=problem,
    )


def _type_of(raw: bytes) -> str:
    """A file's type by its name alone, in lower case: what stands after the last dot, if it is short and plain."""
    name = EvidencePath(raw).name
    stem, dot, suffix = name.rpartition(b".")
    if not stem or not dot or not 0 < len(suffix) <= _MAX_SUFFIX or not suffix.isalnum():
        return ""
    return suffix.decode("ascii").lower()


def _largest(sizes: dict[str, list[int]]) -> list[NamedSize]:
    """The types with the most bytes, and the rest as one."""
    ordered = sorted(sizes.items(), key=lambda one: (-one[1][1], one[0]))
    shown = [NamedSize(name, *total) for name, total in ordered[:_TYPES_SHOWN]]
    rest = ordered[_TYPES_SHOWN:]
    if rest:
        shown.append(NamedSize("*", sum(total[0] for _, total in rest), sum(total[1] for _, total in rest)))
    return shown


def count_differences(item: ItemLayout, earlier: int, later: int) -> Differences:
    """Counts and first differences of two acquisitions. A manifest that cannot be read is the `problem`."""
    counts: Counter[str] = Counter()
    listed: list[Difference] = []
    problem: str | None = None
    unseen = _Unseen()
    try:
        for one, other in pair_in_order(_entries(item, earlier), _entries(item, later), _order, _order):
            kind = "filtered" if unseen.covers(one, other) else _difference(one, other)
            counts[kind or "same"] += 1
            known = one or other
            if kind not in (None, "filtered") and known is not None and len(listed) < MAX_REPORT_LISTED:
                listed.append(Difference(path_pair(known[0]), kind))
    except EvidenceSyncError as error:
        problem = error.message
    return Differences(earlier, later, dict(sorted(counts.items())), listed, problem)


def _entries(item: ItemLayout, number: int) -> Iterator[_PathEntry]:
    return ((raw, line) for raw, line in read_published(item, number) if isinstance(line, Entry))


def _order(one: _PathEntry) -> bytes:
    return walk_order(one[0])


class _Unseen:
    """Tells what a filter left out of one of two acquisitions: also what lies in a folder that was left out.

    So nothing is called gone, or added, because of a filter. Entries come in the order of a walk: a folder, then what is in it.
    """

    def __init__(self) -> None:
        self._folder: bytes | None = None

    def covers(self, one: _PathEntry | None, other: _PathEntry | None) -> bool:
        """Whether the next pair is not to be compared."""
        pair = [each for each in (one, other) if each is not None]
        path = pair[0][0]
        if self._folder is not None and path.startswith(self._folder) and len(pair) == 1:
            return True
        left_out = ["skipped" in (entry.flags or ()) for _, entry in pair]
        if not any(left_out) or (len(pair) == 2 and all(left_out)):
            return False
        if any(entry.type == "directory" for _, entry in pair):
            self._folder = path + b"/"
        return True


def _difference(old: _PathEntry | None, new: _PathEntry | None) -> DifferenceKind | None:
    if old is None or new is None:
        return "added" if old is None else "removed"
    before, after = old[1], new[1]
    if before.type != after.type:
        return "kind"
    if before.has_content != after.has_content:
        return "unread"
    return "content" if has_changed(before, after) else None


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class FileRow(NamedTuple):
    """What a table shows of an entry; all of it safe to show. `size` is None where there are no bytes."""

    path: str
    type: str
    size: int | None
    modified: str
    sha256: str
    remarks: str


def file_rows(item: ItemLayout, number: int) -> Iterator[FileRow]:
    """Every entry of a manifest. Where it cannot be read further, the last row says so."""
    try:
        for raw, line in read_published(item, number):
            if isinstance(line, Entry):
                yield _row(raw, line)
    except EvidenceSyncError as error:
        yield FileRow("(the manifest cannot be read further)", "", None, "", "", error.message)


def manifest_lines(item: ItemLayout, number: int) -> Iterator[ManifestLine]:
    """Every line of a manifest as it stands there, as far as it can be read. That it ends early, its survey tells."""
    try:
        for _, line in read_published(item, number):
            yield line
    except EvidenceSyncError:
        return


def _row(raw: bytes, entry: Entry) -> FileRow:
    remarks = [FLAGS[flag] for flag in entry.flags or ()]
    if entry.read_errors:
        remarks.append("read errors")
    target = entry.target or (f"base64:{entry.target_b64}" if entry.target_b64 else "")
    if target:
        remarks.append(f"to {safe_text(target)}")
    return FileRow(
        safe_text(raw) if raw else ".",
        type_text(entry.type),
        entry.size,
        _time(entry.mtime),
        entry.sha256 or "",
        ", ".join(remarks),
    )


def _time(text: str | None) -> str:
    """A file's time to the second; what no calendar holds stays a number."""
    if text is None:
        return ""
    seconds = parse_file_time(text) // 1_000_000_000
    try:
        return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError):
        return f"{seconds} s"
