"""Counts what has changed since the previous acquisition, from the pages of both manifests: equal pages are not read.

So it costs as much as has changed. The counts are for a display alone: nothing is decided by them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from evidencesync.connection.event_log import NO_EVENTS, Events
from evidencesync.custody.differences import EntryDifference, differences
from evidencesync.custody.entries import decode_run
from evidencesync.custody.manifest import CheckedLine, WholeEntry, whole_entries
from evidencesync.custody.receipt import decode_receipt
from evidencesync.errors import MalformedDocumentError, MissingOrExtraError, StorageError
from evidencesync.evidence.digest import ChunkDigest, sha256_of
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.path import from_json_fields
from evidencesync.files.disk import load_file, opened_folder
from evidencesync.limits import MAX_RECORD, MIB
from evidencesync.protocol.messages import Changes
from evidencesync.protocol.pages import is_footer, is_header
from evidencesync.vault.layout import ACQUIRED, MANIFEST_SIGNATURE, RECEIPT, SIGNED_DOCUMENTS, STREAMED_DOCUMENTS

MAX_MOVES: Final = 100_000
"""Where more entries than this are on one side alone, it is not looked for what was moved: their digests would take memory."""

MAX_COMPARED: Final = 64 * MIB
"""Where more bytes of manifest than this differ on one side, nothing is compared: it would hold up the push for a minute."""

ReadPage = Callable[[int, int], bytes]
"""Reads a page: offset and length in its manifest. Raises StorageError."""


def has_its_documents(folder_path: Path, receipt_sha256: str | None) -> bool:
    """Returns whether an acquisition still has all documents, and the short ones are those that its receipt states.

    Only then may a sender call its source unchanged, and publish nothing: else nothing would ever take their place.
    """
    try:
        with opened_folder(folder_path) as folder:
            found = {name: load_file(folder, name, MAX_RECORD) for name in sorted(SIGNED_DOCUMENTS)}
            names = set(os.listdir(folder))
    except (MalformedDocumentError, MissingOrExtraError, StorageError):
        return False
    kept = {name: data for name, data in found.items() if data is not None}
    if kept.keys() != SIGNED_DOCUMENTS or not names.issuperset(STREAMED_DOCUMENTS):
        return False
    if sha256_of(kept[RECEIPT]).hex() != receipt_sha256:
        return False
    receipt = decode_receipt(kept[RECEIPT])
    stated = {MANIFEST_SIGNATURE: receipt.manifest_signature_sha256, ACQUIRED: receipt.acquired_sha256}
    return all(sha256_of(kept[name]).hex() == digest for name, digest in stated.items())


class ManifestComparison:
    """Takes the pages of the new manifest in order, and compares at the end those that the previous one does not have."""

    def __init__(self, previous: dict[ChunkDigest, tuple[int, int]], read_previous: ReadPage) -> None:
        """`previous`: offset and length of each page of the previous manifest, by digest."""
        self._removed = dict(previous)
        self._read_previous = read_previous
        self.added: list[tuple[int, int]] = []
        """Offset and length of each page of the new manifest that the previous one does not have."""
        self._size = 0

    def add_page(self, length: int, known: ChunkDigest | None) -> None:
        """Adds the next page: its length, and its digest where the previous manifest has it."""
        if known is None or self._removed.pop(known, None) is None:
            self.added.append((self._size, length))
        self._size += length

    def changes(self, read_new: ReadPage, events: Events = NO_EVENTS) -> Changes | None:
        """Compares what is left on either side, and tells each difference.

        Returns None where that is too much, or a manifest cannot be read (any more).
        """
        if max(sum(length for _, length in pages) for pages in (self._removed.values(), self.added)) > MAX_COMPARED:
            return None
        before = _entries(sorted(self._removed.values()), self._read_previous)
        try:
            return _count(differences(before, _entries(self.added, read_new)), events)
        except (MalformedDocumentError, StorageError):
            return None


def _entries(pages: Iterable[tuple[int, int]], read: ReadPage) -> Iterator[WholeEntry]:
    return whole_entries(_lines(pages, read))


def _lines(pages: Iterable[tuple[int, int]], read: ReadPage) -> Iterator[CheckedLine]:
    """Yields the lines of entries. A further line of an entry that stands in an equal page is left out, with what it changes."""
    path, end = None, 0
    for offset, length in pages:
        page = read(offset, length)
        path, end = path if offset == end else None, offset + length
        if is_header(page) or is_footer(page):
            continue
        for line in decode_run(page, 0):
            if isinstance(line, Entry):
                path = from_json_fields(line.path, line.path_b64)
            if path is not None:
                yield path, line


def _count(found: Iterator[EntryDifference | None], events: Events) -> Changes:
    counts: Counter[str] = Counter()
    contents: dict[str, Counter[str]] = {"added": Counter(), "removed": Counter()}
    for one in found:
        if one is None or one.kind == "not-read":
            continue
        counts[one.kind] += 1
        entry = one.after or one.before
        if entry is not None:
            events.entry(one.kind, one.path, entry, "difference")
        has_content = entry is not None and entry.blake3 is not None and entry.size
        if entry is not None and has_content and one.kind in contents and counts[one.kind] <= MAX_MOVES:
            contents[one.kind][entry.blake3 or ""] += 1
    moved = None
    if max(counts["added"], counts["removed"]) <= MAX_MOVES:
        moved = (contents["added"] & contents["removed"]).total()
    apart = moved or 0
    added, removed = counts["added"] - apart, counts["removed"] - apart
    return Changes(added, removed, moved, counts["changed"], counts["metadata"], counts["filtered"])
