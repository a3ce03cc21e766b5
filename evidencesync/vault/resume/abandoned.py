"""Staging areas that nobody works on any more: what a transfer left behind that was never finished."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from evidencesync.errors import LockedError
from evidencesync.files.disk import FOLDER_FLAGS, locked_folder, opened_folder, storing
from evidencesync.files.folders import FolderStack, remove_tree
from evidencesync.vault.catalog import case_folders, item_folders
from evidencesync.vault.layout import INCOMING, ItemLayout, VaultLayout
from evidencesync.vault.space import allocated_bytes
from evidencesync.vault.staging import is_session_id
from evidencesync.vault.writer import require_writer


@dataclass(frozen=True, slots=True)
class Abandoned:
    """One abandoned staging area. `case` and `item` are folder names; `bytes` are those on the disk."""

    case: str
    item: str
    session: str
    files: int
    bytes: int
    changed_ns: int


def find_abandoned(vault: VaultLayout) -> list[Abandoned]:
    """All staging areas of items that nobody is writing to. What is being written is passed over."""
    found = []
    for case in case_folders(vault):
        for item in item_folders(vault, case):
            layout = ItemLayout(vault.case(case) / item)
            with contextlib.suppress(LockedError), locked_folder(layout.root, "the item") as root:
                found += _find_in_item(root, case, item)
    return found


def remove_abandoned(vault: VaultLayout, abandoned: Iterable[Abandoned]) -> list[Abandoned]:
    """Removes staging areas that were found before; those that were removed. Items that are locked now are passed over.

    Only ever touches folders in `incoming/` that have a session's name. Raises StorageError, OtherWriterError.
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
                if stat.S_ISDIR(modes[name])  # anything else was not made here: `verify` names it
            ]


def _measure(session_fd: int) -> tuple[int, int, int]:
    """Files, bytes on the disk, and the time of the last change. Takes over the descriptor."""
    files = size = changed = 0
    pending = [b""]
    with FolderStack(session_fd) as stack:
        while pending:
            folder = stack.enter(pending.pop())
            changed = max(changed, os.fstat(folder).st_ctime_ns)
            for name in map(os.fsencode, os.listdir(folder)):
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    pending.append(stack.path + b"/" + name if stack.path else name)
                    continue
                files += 1
                size += allocated_bytes(found)
                changed = max(changed, found.st_ctime_ns)
    return files, size, changed
