"""Finds, reads and removes staging areas of sessions that ended before they published."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import msgspec

from evidencesync.custody.documents import ManifestHeader
from evidencesync.custody.labels import CAPTURED
from evidencesync.custody.manifest import decode_header
from evidencesync.errors import EvidenceSyncError, LockedError
from evidencesync.files.disk import FOLDER_FLAGS, READ_FLAGS, locked_folder, opened_folder, reading, storing
from evidencesync.files.folders import FolderStack, remove_tree
from evidencesync.files.kept_names import is_trial
from evidencesync.limits import MAX_HEADER_LINE
from evidencesync.vault.catalog import case_folders, item_folders
from evidencesync.vault.item import VaultItem
from evidencesync.vault.journal import JOURNAL
from evidencesync.vault.layout import DATA, INCOMING, MANIFEST, ItemLayout, VaultLayout
from evidencesync.vault.space import allocated_bytes
from evidencesync.vault.staging import ACQUISITION, CONTENTS, is_session_id
from evidencesync.vault.writer import require_writer


class LeftSession(msgspec.Struct):
    """A staging area. `attempt`: whether it is an attempt at the current acquisition; None while that is unknown."""

    name: str
    path: Path
    attempt: bool | None = None

    def open_journal(self) -> BinaryIO | None:
        """Opens its journal, if there is one."""
        try:
            fd = os.open(self.path / JOURNAL, READ_FLAGS)
        except OSError:
            return None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        return reading(fd)

    def manifest(self) -> Path | None:
        """Its manifest, which may end anywhere."""
        path = self.path / ACQUISITION / MANIFEST
        return path if path.is_file() and not path.is_symlink() else None

    def is_attempt_at(self, header: ManifestHeader) -> bool:
        """Whether the same examiner was acquiring the same source. Of a capture, the same one: another run cannot repeat it."""
        theirs = self.header()
        return theirs is not None and _attempted(theirs) == _attempted(header)

    def header(self) -> ManifestHeader | None:
        """The header of its manifest, if one can be read."""
        try:
            manifest = self.manifest()
            if manifest is None:
                return None
            with manifest.open("rb") as file:
                return decode_header(file.readline(MAX_HEADER_LINE))
        except (EvidenceSyncError, OSError):
            return None

    def is_empty(self) -> bool:
        """Whether the session ended before anything was staged."""
        try:
            manifest = self.manifest()
            staged = os.listdir(self.path / CONTENTS) + os.listdir(self.path / ACQUISITION / DATA)
            return not staged and (manifest is None or not manifest.stat().st_size)
        except OSError:
            return False

    @property
    def changed_ns(self) -> int:
        """When something of it was stored last, as its journal tells; 0 where that is unknown."""
        try:
            return os.lstat(self.path / JOURNAL).st_mtime_ns
        except OSError:
            return 0

    def size_of(self, path: bytes) -> int:
        """Returns the size of a regular file, else 0. Only a hint: users of the file open it name by name."""
        try:
            found = os.lstat(os.fsencode(self.path) + b"/" + path)
        except (OSError, ValueError):
            return 0
        return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _attempted(header: ManifestHeader) -> tuple[str | None, ...]:
    source = header.source
    capture = header.started if CAPTURED in header.method.options else None
    return header.examiner.key, source.host, source.path, source.path_b64, capture


def left_sessions(item: VaultItem, own_session: str) -> list[LeftSession]:
    """Lists the staging areas of an item except the current session's, the last written first."""
    with opened_folder(item.layout.root) as root, opened_folder(INCOMING, root) as incoming, storing("list staging areas"):
        names = [name for name in os.listdir(incoming) if is_session_id(name) and name != own_session]
        found = {name: os.stat(name, dir_fd=incoming, follow_symlinks=False) for name in names}
        times = {name: status.st_mtime_ns for name, status in found.items() if stat.S_ISDIR(status.st_mode)}
    return [LeftSession(name, item.layout.incoming / name) for name in sorted(times, key=lambda name: -times[name])]


class Abandoned(msgspec.Struct, frozen=True):
    """One abandoned staging area. `case` and `item` are folder names; `bytes` are those on the disk."""

    case: str
    item: str
    session: str
    files: int
    bytes: int
    changed_ns: int


def is_of_capture(vault: VaultLayout, one: Abandoned) -> bool:
    """Whether it is of a capture: what was read once, and cannot be collected again."""
    incoming = ItemLayout(vault.case(one.case) / one.item).incoming
    header = LeftSession(one.session, incoming / one.session).header()
    return header is not None and CAPTURED in header.method.options


def find_abandoned(vault: VaultLayout) -> list[Abandoned]:
    """Lists all staging areas of items that no process is writing to. Items that are locked are skipped."""
    found = []
    for case in case_folders(vault):
        for item in item_folders(vault, case):
            layout = ItemLayout(vault.case(case) / item)
            with contextlib.suppress(LockedError), locked_folder(layout.root, "the item") as root:
                found += _find_in_item(root, case, item)
    return found


def remove_abandoned(vault: VaultLayout, abandoned: Iterable[Abandoned]) -> list[Abandoned]:
    """Removes abandoned staging areas; returns those that were removed. Items that are locked now are skipped.

    Only ever removes folders in `incoming/` with the name of a session. Raises StorageError, OtherWriterError.
    """
    require_writer(vault)
    removed = []
    for one in abandoned:
        layout = ItemLayout(vault.case(one.case) / one.item)
        if not is_session_id(one.session):
            continue
        with contextlib.suppress(LockedError), locked_folder(layout.root, "the item") as root:
            with opened_folder(INCOMING, root) as incoming:
                remove_tree(incoming, one.session)
            removed.append(one)
    return removed


def _find_in_item(root_fd: int, case: str, item: str) -> list[Abandoned]:
    with storing("list staging areas"):
        if INCOMING not in os.listdir(root_fd):
            return []
        with opened_folder(INCOMING, root_fd) as incoming:
            names = [name for name in sorted(os.listdir(incoming)) if is_session_id(name)]
            modes = {name: os.stat(name, dir_fd=incoming, follow_symlinks=False).st_mode for name in names}
            return [
                Abandoned(case, item, name, *_measure(os.open(name, FOLDER_FLAGS, dir_fd=incoming)))
                for name in names
                if stat.S_ISDIR(modes[name])  # anything else was not made by a session: `verify` reports it
            ]


def _measure(session_fd: int) -> tuple[int, int, int]:
    """Returns files, bytes on the disk, and the time of the last change. Takes over the descriptor.

    What a killed session left of its trial of names is no file of a transfer: it is removed with the rest, and not counted.
    """
    files = size = changed = 0
    pending = [b""]
    with FolderStack(session_fd) as stack:
        while pending:
            folder = stack.enter(pending.pop())
            changed = max(changed, os.fstat(folder).st_ctime_ns)
            for name in map(os.fsencode, os.listdir(folder)):
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    if not stack.path and is_trial(name):
                        continue
                    pending.append(stack.path + b"/" + name if stack.path else name)
                    continue
                files += 1
                size += allocated_bytes(found)
                changed = max(changed, found.st_ctime_ns)
    return files, size, changed
