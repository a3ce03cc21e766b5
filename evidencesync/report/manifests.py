"""Manifests as a report needs them: read strictly, never whole in memory; their rows, and what differs between two."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from evidencesync.compare.acquisitions import compare_acquisitions
from evidencesync.custody.differences import EntryDifference
from evidencesync.custody.entries import ManifestLine
from evidencesync.custody.labels import FLAGS, type_text
from evidencesync.errors import EvidenceSyncError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.path import EvidencePath, to_json_fields
from evidencesync.evidence.utc_time import parse_file_time
from evidencesync.limits import MAX_REPORT_DIFFERENCES, MAX_REPORT_LISTED
from evidencesync.report.document import (
    CapturedFile,
    Contents,
    Difference,
    DifferenceKind,
    Differences,
    FlaggedEntry,
    NamedSize,
    PathPair,
    UnreadRange,
)
from evidencesync.report.places import nearest
from evidencesync.vault.catalog import read_published
from evidencesync.vault.layout import ItemLayout

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
    captured: list[CapturedFile] = []
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
                if line.capture is not None and len(captured) < MAX_REPORT_LISTED:
                    captured.append(CapturedFile(path_pair(raw), line.size or 0, line.capture))
                if line.flags == ["skipped"]:
                    filtered[line.type] += 1
                elif line.flags:
                    counts["flagged"] += 1
                    if len(flagged) < MAX_REPORT_LISTED:
                        flagged.append(FlaggedEntry(path_pair(raw), line.type, list(line.flags), line.has_content))
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
        captured=captured,
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
    try:
        found = compare_acquisitions(item, earlier, later, MAX_REPORT_DIFFERENCES)
    except EvidenceSyncError as error:
        return Differences(earlier, later, {}, [], error.message)
    counts = {
        "same": found.same,
        "added": found.added_count,
        "removed": found.removed_count,
        "moved": found.moved_count,
        "changed": found.changed_count,
        "metadata": found.metadata_count,
        "filtered": found.filtered_count,
        "not-read": found.not_read_count,
    }
    listed = [
        *(Difference(path_pair(one.path), "added", None) for one in found.added),
        *(Difference(path_pair(one.path), "removed", None) for one in found.removed),
        *(Difference(path_pair(one.before), "moved", path_pair(one.after)) for one in found.moved),
        *(Difference(path_pair(one.path), _kind(one), None) for one, _ in found.changed),
    ]
    return Differences(earlier, later, {kind: count for kind, count in counts.items() if count}, listed, None)


def _kind(one: EntryDifference) -> DifferenceKind:
    """How an entry has changed. What was not read in one of both is not called another content."""
    before, after = one.before, one.after
    if before is None or after is None:
        return "added" if before is None else "removed"
    if before.type != after.type:
        return "kind"
    return "content" if before.has_content == after.has_content else "unread"


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class FileRow(NamedTuple):
    """What a table shows of an entry; all of it safe to show. `size` is None where there are no bytes."""

    path: str
    type: str
    size: int | None
    modified: str
    sha256: str
    remarks: str


def file_rows(item: ItemLayout, number: int, found: Mapping[bytes, str]) -> Iterator[FileRow]:
    """Every entry of a manifest, with what was `found` of its path, or of a folder above it.

    Where the manifest cannot be read further, the last row says so.
    """
    try:
        for raw, line in read_published(item, number):
            if isinstance(line, Entry):
                yield _row(raw, line, nearest(found, raw))
    except EvidenceSyncError as error:
        yield FileRow("(the manifest cannot be read further)", "", None, "", "", error.message)


def manifest_lines(item: ItemLayout, number: int) -> Iterator[ManifestLine]:
    """Every line of a manifest as it stands there, as far as it can be read. That it ends early, its survey tells."""
    try:
        for _, line in read_published(item, number):
            yield line
    except EvidenceSyncError:
        return


def _row(raw: bytes, entry: Entry, found: str | None) -> FileRow:
    remarks = [*([found] if found is not None else []), *(FLAGS[flag] for flag in entry.flags or ())]
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
