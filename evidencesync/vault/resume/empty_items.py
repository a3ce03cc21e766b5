"""Finds and removes the folders of items, and of cases, in which nothing was ever published: a first transfer never ended."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence

from evidencesync.errors import EvidenceSyncError, LockedError
from evidencesync.files.disk import locked_folder, opened_folder, storing
from evidencesync.vault.catalog import case_folders, item_folders
from evidencesync.vault.layout import ITEM_FOLDERS, ItemLayout
from evidencesync.vault.stated import stated_of
from evidencesync.vault.vault import Vault
from evidencesync.vault.writer import require_writer


def find_empty_items(vault: Vault) -> list[str]:
    """Lists items that hold nothing, as `CASE/ITEM`, and cases that hold no item, as `CASE`: the folders' names.

    An item of which the vault's own chain states records has lost them, and is none of these: that is for `verify` to tell.
    Items that are locked are skipped. Raises StorageError.
    """
    layout, found = vault.layout, list[str]()
    for case in case_folders(layout):
        items = item_folders(layout, case)
        places = [f"{case}/{item}" for item in items]
        if not os.listdir(layout.case(case)):
            found.append(case)
        for place, item in zip(places, items, strict=True):
            root = ItemLayout(layout.case(case) / item).root
            with contextlib.suppress(LockedError), locked_folder(root, "the item") as root_fd:
                if _empty_folders(root_fd) is not None and not _may_be_stated(vault, place):
                    found.append(place)
    return found


def remove_empty_items(vault: Vault, places: Iterable[str]) -> list[str]:
    """Removes what `find_empty_items` has listed, and a case with its last item; returns what was removed.

    What has something in it by now, or is locked, is skipped. Raises StorageError, OtherWriterError.
    """
    require_writer(vault.layout)
    removed = []
    with opened_folder(vault.layout.cases) as cases:
        for place in places:
            case, _, item = place.partition("/")
            if not item or _remove_item(vault, case, item):
                gone = _remove_folder(case, cases)  # fails where the case has other items
                removed += [place] if item or gone else []
    return removed


def _remove_item(vault: Vault, case: str, item: str) -> bool:
    case_path = vault.layout.case(case)
    with contextlib.suppress(LockedError), locked_folder(case_path / item, "the item") as root:
        folders = _empty_folders(root)
        # The last that was made goes first: a crash in between leaves an item that was begun.
        if folders is None or not all(_remove_folder(name, root) for name in reversed(folders)):
            return False
        with opened_folder(case_path) as parent:
            return _remove_folder(item, parent)
    return False


def _empty_folders(root_fd: int) -> Sequence[str] | None:
    """Returns the folders of an item in the order in which they are made, if there is nothing else, and nothing in them."""
    with storing("look into an item"):
        with os.scandir(root_fd) as entries:
            kinds = {one.name: one.is_dir(follow_symlinks=False) for one in entries}
        folders = [name for name in ITEM_FOLDERS if kinds.get(name)]
        if len(folders) < len(kinds):
            return None
        for name in folders:
            with opened_folder(name, root_fd) as folder:
                if os.listdir(folder):
                    return None
    return folders


def _may_be_stated(vault: Vault, place: str) -> bool:
    try:
        return bool(stated_of(vault, place))
    except EvidenceSyncError:
        return True  # the vault's own chain cannot tell


def _remove_folder(name: str, parent_fd: int) -> bool:
    """Removes an empty folder; False where it is not empty, or is gone."""
    try:
        os.rmdir(name, dir_fd=parent_fd)
    except OSError:
        return False
    return True
