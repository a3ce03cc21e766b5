"""Hard links of a manifest: each must lead to an entry that is there, of the same kind and with the same content.

A manifest's reader keeps no entries, so it can only say that a link leads backwards. Where there are links the manifest is read
again, twice for every so many of them: what is looked for first, then what is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from evidencesync.custody.manifest import ManifestReader, read_manifest
from evidencesync.errors import MalformedDocumentError, PathEscapeError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.path import from_json_fields
from evidencesync.vault.layout import MANIFEST
from evidencesync.verify.checks import Check
from evidencesync.verify.documents import CheckedFolder, reason

_AT_ONCE: Final = 50_000  # links whose targets are looked for in one go: a few tens of megabytes
_BLOCK: Final = 1 << 20

_Wanted = dict[bytes, list[tuple[bytes, Entry]]]


def is_hard_link(entry: Entry) -> bool:
    """Whether an entry says that it is the same inode as one before it."""
    return entry.hardlink_to is not None or entry.hardlink_to_b64 is not None


def check_hard_links(folder: CheckedFolder, count: int) -> None:
    """Checks the `count` hard links of an acquisition's manifest, which was well-formed when it was read before."""
    try:
        for start in range(0, count, _AT_ONCE):
            wanted: _Wanted = {}
            links = (one for one in _entries(folder) if is_hard_link(one[1]))
            for number, (path, entry) in enumerate(links):
                if start <= number < start + _AT_ONCE:
                    target = from_json_fields(entry.hardlink_to, entry.hardlink_to_b64)
                    wanted.setdefault(target, []).append((path, entry))
            for path, entry in _entries(folder):
                for link, linked in wanted.pop(path, ()):
                    if not _agree(entry, linked):
                        _object(folder, link, f"another kind or other content than {safe_text(path)}, to which it is a hard link")
            for target, lost in wanted.items():
                for link, _ in lost:
                    _object(folder, link, f"a hard link to {safe_text(target)}, which the manifest does not list")
    except (OSError, MalformedDocumentError, PathEscapeError) as error:
        text = reason(error) if isinstance(error, OSError) else "it changed meanwhile"
        folder.report.report(Check.MANIFEST, "unreadable", f"{MANIFEST} cannot be read again: {text}", MANIFEST)


def _entries(folder: CheckedFolder) -> Iterator[tuple[bytes, Entry]]:
    file = folder.open_written(MANIFEST, Check.MANIFEST, "malformed-document")
    if file is None:
        return
    with file:
        for path, line in read_manifest(iter(lambda: file.read(_BLOCK), b""), ManifestReader()):
            if isinstance(line, Entry):
                yield path, line


def _agree(one: Entry, other: Entry) -> bool:
    """Of one inode; what changed or failed between two reads of it may differ in content."""
    return one.type == other.type and (one.blake3 == other.blake3 or bool(one.flags or other.flags))


def _object(folder: CheckedFolder, path: bytes, text: str) -> None:
    folder.report.report(Check.MANIFEST, "malformed-document", f"{safe_text(path)} is {text}", MANIFEST)
