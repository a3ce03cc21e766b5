"""Finds and removes files that a killed writer left beside records and lists of trust, and that say nothing.

Nobody reads them: a temporary file, a signature whose record was never written, a reservation that is void, a draft of a list
that no record states. The next writer to the same chain removes them, too. A record that was begun, and with it the drafts that
it states, is no leftover: the next writer completes it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Iterator

from evidencesync.errors import EvidenceSyncError, LockedError
from evidencesync.files.disk import is_there, load_file, locked_folder, opened_folder, remove_if_there, storing
from evidencesync.files.folders import names_in
from evidencesync.limits import MAX_RECORD
from evidencesync.vault.catalog import case_folders, is_folder, item_folders
from evidencesync.vault.interrupted import TEMPORARY, left_by_append, reserved_number
from evidencesync.vault.layout import CASES, CUSTODY, INDEX, NEW_STATED_HEADS, VaultLayout, parse_record_file, record_file
from evidencesync.vault.reservations import is_void
from evidencesync.vault.vault import Vault
from evidencesync.vault.writer import require_writer


def find_left_files(vault: Vault) -> list[str]:
    """Lists them by their paths in the vault. Folders in which a writer is at work are skipped. Raises StorageError."""
    return [place for place, _ in _each_left(vault)]


def remove_left_files(vault: Vault, places: Collection[str]) -> list[str]:
    """Removes those that are still left; returns what was removed. Raises StorageError, OtherWriterError."""
    require_writer(vault.layout)
    wanted, removed = set(places), []
    for place, folder in _each_left(vault):
        if place in wanted:
            with storing(f"remove {place}"):
                remove_if_there(folder, place.rpartition("/")[2])
            removed.append(place)
    return removed


def _each_left(vault: Vault) -> Iterator[tuple[str, int]]:
    """Yields each with its folder's descriptor, while the lock is held under which writers work there."""
    layout = vault.layout
    with contextlib.suppress(LockedError), locked_folder(layout.custody, "the vault's custody chain") as custody:
        left, begun = _left_in(custody, of_item=False)
        yield from ((f"{CUSTODY}/{name}", custody) for name in left)
        if not begun:  # what was begun may state a draft
            with opened_folder(layout.root) as root:
                yield from ((name, root) for name in vault.trust.left_drafts())
    yield from _in_index(layout)
    for case in case_folders(layout):
        for item in item_folders(layout, case):
            if is_folder(layout.case(case) / item / CUSTODY):
                yield from _in_item(layout, f"{CASES}/{case}/{item}")


def _in_item(layout: VaultLayout, place: str) -> Iterator[tuple[str, int]]:
    with (
        contextlib.suppress(LockedError),
        locked_folder(layout.root / place, "the item") as root,
        opened_folder(CUSTODY, root) as custody,
    ):
        left, _ = _left_in(custody, of_item=True)
        yield from ((f"{place}/{CUSTODY}/{name}", custody) for name in left)


def _in_index(layout: VaultLayout) -> Iterator[tuple[str, int]]:
    if is_folder(layout.index):
        with contextlib.suppress(LockedError), locked_folder(layout.index, "the index") as index:
            if is_there(index, NEW_STATED_HEADS):
                yield f"{INDEX}/{NEW_STATED_HEADS}", index


def _left_in(custody_fd: int, *, of_item: bool) -> tuple[list[str], bool]:
    """Returns what is left in a custody folder, and whether a record was begun there."""
    with storing("list the custody records"):
        names = names_in(custody_fd)
        files = {name for name in names if stat.S_ISREG(os.stat(name, dir_fd=custody_fd, follow_symlinks=False).st_mode)}
    last = max((parsed for name in names if (parsed := parse_record_file(name)) is not None), default=None)
    number = 0 if last is None else last[0]
    found = left_by_append(names, number, of_item=of_item) & files
    reserved = {name for name in found if reserved_number(name) == number + 1}
    before = None if last is None else _load(custody_fd, record_file(*last))
    void = {name for name in reserved if (last is None or before is not None) and is_void(custody_fd, name, number, before)}
    begun = reserved != void
    left = {name for name in found - reserved | void if not begun or name.startswith(TEMPORARY)}
    return sorted(left), begun


def _load(custody_fd: int, name: str) -> bytes | None:
    """Returns the last record's bytes; None where they cannot be read: then nobody knows what follows it."""
    try:
        return load_file(custody_fd, name, MAX_RECORD)
    except EvidenceSyncError:
        return None
