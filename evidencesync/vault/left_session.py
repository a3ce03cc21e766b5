"""One staging area that an earlier session of an item left behind: its files, and whose attempt it was."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from evidencesync.custody.documents import ManifestHeader
from evidencesync.custody.manifest import decode_header
from evidencesync.errors import EvidenceSyncError
from evidencesync.evidence.digest import Blake3Digest
from evidencesync.limits import MAX_HEADER_LINE
from evidencesync.vault.disk import READ_FLAGS, opened_folder, storing
from evidencesync.vault.item import Item
from evidencesync.vault.journal import JOURNAL
from evidencesync.vault.layout import DATA, INCOMING, MANIFEST
from evidencesync.vault.location import Location
from evidencesync.vault.staging import ACQUISITION, CONTENTS, is_session_id

_UNKNOWN: Final = Blake3Digest(bytes(32))
DATA_PATH: Final = f"{ACQUISITION}/{DATA}/".encode()


@dataclass(slots=True)
class LeftSession:
    """A session's folder. Its locations have a negative acquisition number and a path below the folder."""

    case: str
    item: str
    name: str
    path: Path
    acquisition: int
    journal: BinaryIO | None
    files: dict[int, Location] = field(default_factory=dict)
    """Where each content of the journal lies: here, or where a later session has taken it."""
    contents: dict[bytes, int] = field(default_factory=dict)
    """The same the other way round, for what lies here: its number by its path below the folder."""

    @property
    def manifest(self) -> Path:
        """Its manifest, which ends wherever the session did, if there is one."""
        return self.path / ACQUISITION / MANIFEST

    def location(self, path: bytes, size: int, blake3: Blake3Digest = _UNKNOWN) -> Location:
        """A place in it."""
        return Location(self.case, self.item, self.acquisition, path, size, blake3)

    def size_of(self, path: bytes) -> int | None:
        """The size of a file by its path below the folder; None where there is none, or something else."""
        try:
            found = os.lstat(os.fsencode(self.path) + b"/" + path)
        except (OSError, ValueError):
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def add_file(self, content: int, path: bytes) -> None:
        """Notes where a content of the journal lies, if it does."""
        size = self.size_of(path)
        if size:
            self.files[content] = self.location(path, size)
            self.contents[path] = content

    def content_at(self, path: bytes) -> int | None:
        """The number of the content that lies at a path below the folder."""
        return self.contents.get(path)

    def is_empty(self) -> bool:
        """Whether nothing at all was received: the header is what comes first, and is handed to the system at once."""
        try:
            return not os.path.getsize(self.manifest) and not os.listdir(self.path / CONTENTS)
        except OSError:
            return False

    def is_attempt_at(self, header: ManifestHeader) -> bool:
        """Whether it was an attempt at this very acquisition: by the same examiner, at the same source."""
        try:
            with self.manifest.open("rb") as file:
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

    def close(self) -> None:
        """Closes the journal. Safe to call again."""
        if self.journal is not None:
            self.journal.close()


def open_left_sessions(item: Item, own_session: str) -> list[LeftSession]:
    """All of an item but one's own, the one that was written to last first."""
    sessions: list[LeftSession] = []
    for name in _sessions_of(item, own_session):
        path = item.layout.incoming / name
        if path.is_dir() and not path.is_symlink():
            case, folder = item.name.case.folder, item.name.item.folder
            sessions.append(LeftSession(case, folder, name, path, -len(sessions) - 1, _open_journal(path)))
    return sessions


def _sessions_of(item: Item, own_session: str) -> list[str]:
    """The other sessions' folders, the one that was written to last first."""
    with opened_folder(item.layout.root) as root, opened_folder(INCOMING, root) as incoming, storing("list staging areas"):
        times = {
            name: os.stat(name, dir_fd=incoming, follow_symlinks=False).st_mtime_ns
            for name in os.listdir(incoming)
            if is_session_id(name) and name != own_session
        }
    return sorted(times, key=lambda name: -times[name])


def _open_journal(session: Path) -> BinaryIO | None:
    try:
        return os.fdopen(os.open(session / JOURNAL, READ_FLAGS), "rb")
    except OSError:
        return None
