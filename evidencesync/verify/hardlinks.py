"""Hard links of a stored manifest: those that do not hold are findings. The rule is `custody.hardlinks`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from evidencesync.custody.hardlinks import HardLinks
from evidencesync.custody.manifest import ManifestReader, read_manifest
from evidencesync.errors import MalformedDocumentError, PathEscapeError
from evidencesync.evidence.entry import Entry
from evidencesync.vault.layout import MANIFEST
from evidencesync.verify.checks import Check
from evidencesync.verify.documents import CheckedFolder, reason

_BLOCK: Final = 1 << 20


def check_hard_links(folder: CheckedFolder, links: HardLinks) -> None:
    """Checks the hard links of an acquisition's manifest, which was well-formed when they were noted."""
    try:
        for false in links.false_links(lambda: _entries(folder)):
            folder.report.report(Check.MANIFEST, "malformed-document", false.text, MANIFEST)
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
