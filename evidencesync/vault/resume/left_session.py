"""The staging area of one session that ended before it had published, as its folder tells."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from evidencesync.custody.documents import ManifestHeader
from evidencesync.custody.manifest import decode_header
from evidencesync.errors import EvidenceSyncError
from evidencesync.files.closing import reading
from evidencesync.files.disk import READ_FLAGS, opened_folder, storing
from evidencesync.limits import MAX_HEADER_LINE
from evidencesync.vault.item import Item
from evidencesync.vault.journal import JOURNAL
from evidencesync.vault.layout import DATA, INCOMING, MANIFEST
from evidencesync.vault.staging import ACQUISITION, CONTENTS, is_session_id


@dataclass(slots=True)
class LeftSession:
    """A staging area. `attempt`: whether it is one at the acquisition that is being made; None until that is known."""

    name: str
    path: Path
    attempt: bool | None = None

    def open_journal(self) -> BinaryIO | None:
        """Its journal, if there is one."""
        try:
            fd = os.open(self.path / JOURNAL, READ_FLAGS)
        except OSError:
            return None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        return reading(fd)

    def manifest(self) -> Path | None:
        """Its manifest, which ends wherever the session did."""
        path = self.path / ACQUISITION / MANIFEST
        return path if path.is_file() and not path.is_symlink() else None

    def is_attempt_at(self, header: ManifestHeader) -> bool:
        """Whether the same examiner was acquiring the same source."""
        try:
            manifest = self.manifest()
            if manifest is None:
                return False
            with manifest.open("rb") as file:
                theirs = decode_header(file.readline(MAX_HEADER_LINE))
        except (EvidenceSyncError, OSError):
            return False
        mine = header.source
        return (theirs.examiner.key, theirs.source.host, theirs.source.path, theirs.source.path_b64) == (
            header.examiner.key,
            mine.host,
            mine.path,
            mine.path_b64,
        )

    def is_empty(self) -> bool:
        """Whether the session ended before anything of it was staged."""
        try:
            manifest = self.manifest()
            staged = os.listdir(self.path / CONTENTS) + os.listdir(self.path / ACQUISITION / DATA)
            return not staged and (manifest is None or not manifest.stat().st_size)
        except OSError:
            return False

    def size_of(self, path: bytes) -> int:
        """The size of a regular file, else 0. Only a hint: whoever uses the file opens it name by name."""
        try:
            found = os.lstat(os.fsencode(self.path) + b"/" + path)
        except (OSError, ValueError):
            return 0
        return found.st_size if stat.S_ISREG(found.st_mode) else 0


def left_sessions(item: Item, own_session: str) -> list[LeftSession]:
    """The staging areas of an item but one's own, the one that was written to last first."""
    with opened_folder(item.layout.root) as root, opened_folder(INCOMING, root) as incoming, storing("list staging areas"):
        names = [name for name in os.listdir(incoming) if is_session_id(name) and name != own_session]
        found = {name: os.stat(name, dir_fd=incoming, follow_symlinks=False) for name in names}
        times = {name: status.st_mtime_ns for name, status in found.items() if stat.S_ISDIR(status.st_mode)}
    return [LeftSession(name, item.layout.incoming / name) for name in sorted(times, key=lambda name: -times[name])]
