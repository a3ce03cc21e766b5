"""The rows of file tables: a manifest's entries as people read them, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from evidencesync.custody.entrylines import SenderConnection
from evidencesync.errors import EvidenceSyncError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.utc_time import parse_file_time
from evidencesync.report.manifests import iter_lines
from evidencesync.vault.layout import ItemLayout

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
        for raw, line in iter_lines(item, number):
            if isinstance(line, Entry):
                yield _row(raw, line)
    except EvidenceSyncError as error:
        yield FileRow("(the manifest cannot be read further)", "", None, "", "", error.message)


def manifest_lines(item: ItemLayout, number: int) -> Iterator[SenderConnection]:
    """Every line of a manifest as it stands there, as far as it can be read. That it ends early, its survey tells."""
    try:
        for _, line in iter_lines(item, number):
            yield line
    except EvidenceSyncError:
        return


def _row(raw: bytes, entry: Entry) -> FileRow:
    remarks: list[str] = [*(entry.flags or ())]
    if entry.read_errors:
        remarks.append("read errors")
    target = entry.target or (f"base64:{entry.target_b64}" if entry.target_b64 else "")
    if target:
        remarks.append(f"to {safe_text(target)}")
    return FileRow(
        safe_text(raw) if raw else ".", entry.type, entry.size, _time(entry.mtime), entry.sha256 or "", ", ".join(remarks)
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
