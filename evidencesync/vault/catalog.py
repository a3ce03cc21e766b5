"""What a vault holds, read from its folders: cases, items, and their exact numbers."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from evidencesync.custody.documents import ManifestHeader
from evidencesync.custody.manifest import decode_header
from evidencesync.errors import ChainError, InvalidNameError, MissingOrExtraError, NotThereError
from evidencesync.evidence.identity import ItemName, Title, is_folder_name
from evidencesync.limits import MAX_HEADER_LINE
from evidencesync.vault.disk import make_folder, opened_file, opened_folder, storing
from evidencesync.vault.layout import ITEM_FOLDERS, MANIFEST, ItemLayout, VaultLayout, acquisition_number
from evidencesync.vault.ledger import Ledger


def case_folders(vault: VaultLayout) -> list[str]:
    """The names of all case folders, also of those that hold nothing yet. Names that are none are passed over."""
    return _subfolders(vault.cases)


def item_folders(vault: VaultLayout, case_folder: str) -> list[str]:
    """The names of all item folders of a case, also of those that hold nothing yet."""
    return _subfolders(vault.case(case_folder))


def acquisition_numbers(item: ItemLayout) -> list[int]:
    """The numbers of all that is published, ascending. A folder with another name is none."""
    try:
        names = os.listdir(item.acquisitions)
    except FileNotFoundError:
        return []
    except NotADirectoryError as error:
        raise MissingOrExtraError(f"{item.acquisitions.name} is not a folder") from error
    return sorted(number for name in names if (number := acquisition_number(name)) is not None)


def stored_name(item: ItemLayout) -> ItemName | None:
    """The exact case and item number of a folder, from its first custody record; None before the first acquisition.

    Raises ChainError when something is there that says no numbers.
    """
    files = Ledger(item.custody).files() if item.custody.is_dir() else []
    if files:
        first = Ledger(item.custody).load(files[0]).record
        case, title = first.case, first.item
    elif numbers := acquisition_numbers(item):  # an unfinished publish: its records are not linked in yet
        header = load_header(item, numbers[0])
        case, title = header.case, header.item
    else:
        return None
    try:
        return ItemName(Title(case or ""), Title(title or ""))
    except InvalidNameError as error:
        raise ChainError("the first custody record of an item names no case and item") from error


def stored_names(vault: VaultLayout, case_folder: str) -> Iterator[ItemName]:
    """The exact numbers of all items of a case that hold something, in the order of their folders."""
    for folder in item_folders(vault, case_folder):
        name = stored_name(ItemLayout(vault.case(case_folder) / folder))
        if name is not None:
            yield name


def load_header(item: ItemLayout, acquisition: int) -> ManifestHeader:
    """The header of a published manifest. Raises MissingOrExtraError, MalformedDocumentError."""
    with opened_folder(item.acquisition(acquisition)) as folder, opened_file(MANIFEST, folder) as file:
        return decode_header(file.readline(MAX_HEADER_LINE + 1))


def make_item_folders(vault: VaultLayout, name: ItemName) -> None:
    """Makes the empty folders of a case and an item, durably, where they are missing."""
    with opened_folder(vault.cases) as cases:
        make_folder(name.case.folder, cases)
        with opened_folder(name.case.folder, cases) as case:
            make_folder(name.item.folder, case)
            with opened_folder(name.item.folder, case) as item:
                for folder in ITEM_FOLDERS:
                    make_folder(folder, item)


def require_item_folders(vault: VaultLayout, name: ItemName) -> None:
    """Raises NotThereError unless the item has its folders."""
    layout = vault.item(name)
    if not all(_is_folder(layout.root / folder) for folder in ITEM_FOLDERS):
        raise NotThereError(f"the vault has no item {name}", hint="See what there is: evidencesync list VAULT")


def _subfolders(folder: Path) -> list[str]:
    with storing("list the vault"):
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return []
        return sorted(name for name in names if is_folder_name(name) and _is_folder(folder / name))


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return False
