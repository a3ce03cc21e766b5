"""Manifests as a report needs them: read strictly, from the file, and never whole in memory."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Final

from evidencesync.custody.entrylines import SenderConnection
from evidencesync.custody.manifest import ManifestReader, read_manifest
from evidencesync.errors import EvidenceSyncError
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.path import EvidencePath, to_json_fields
from evidencesync.limits import MAX_REPORT_LISTED
from evidencesync.report.document import Contents, FlaggedEntry, NamedSize, PathPair, UnreadRange
from evidencesync.vault.catalog import opened_document
from evidencesync.vault.layout import MANIFEST, ItemLayout

_BLOCK: Final = 1 << 20
_MAX_SUFFIX: Final = 12
_TYPES_SHOWN: Final = 8


def path_pair(raw: bytes) -> PathPair:
    """A raw path as documents write it."""
    return PathPair(*to_json_fields(raw))


def iter_lines(
    item: ItemLayout, number: int, watch: Callable[[bytes], None] | None = None
) -> Iterator[tuple[bytes, SenderConnection]]:
    """Every line of a published manifest between header and footer, with its raw path. `watch` is given all bytes.

    Raises MissingOrExtraError, MalformedDocumentError, StorageError, after the lines before the one that is wrong.
    """
    with opened_document(item, number, MANIFEST) as file:
        yield from read_manifest(_blocks(file.read, watch), ManifestReader())


def _blocks(read: Callable[[int], bytes], watch: Callable[[bytes], None] | None) -> Iterator[bytes]:
    while True:
        block = read(_BLOCK)
        if not block:
            return
        if watch is not None:
            watch(block)
        yield block


def survey(item: ItemLayout, number: int) -> Contents:
    """One pass over a manifest: types, flags and read errors. Raises nothing: what is wrong is its `problem`."""
    digest = hashlib.sha256()
    sizes: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    flagged: list[FlaggedEntry] = []
    unread: list[UnreadRange] = []
    counts: Counter[str] = Counter()
    problem: str | None = None
    try:
        for raw, line in iter_lines(item, number, digest.update):
            if isinstance(line, Entry):
                counts["entries"] += 1
                if line.size is not None:
                    total = sizes[_type_of(raw)]
                    total[0] += 1
                    total[1] += line.size
                if line.flags:
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
