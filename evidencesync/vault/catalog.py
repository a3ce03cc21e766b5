"""Lists what a vault holds: cases, items, acquisitions and their exact numbers; and opens published documents."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import BinaryIO

from evidencesync.custody.documents import ManifestFooter, ManifestHeader, Receipt
from evidencesync.custody.manifest import CheckedLine, decode_header, decode_last_line, read_manifest
from evidencesync.custody.receipt import decode_receipt
from evidencesync.errors import (
    ChainError,
    EvidenceSyncError,
    InvalidNameError,
    MalformedDocumentError,
    MissingOrExtraError,
    StorageError,
)
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.identity import ItemName, Title, is_folder_name
from evidencesync.files.disk import document_blocks, load_file, make_folder, opened_file, opened_folder, storing
from evidencesync.files.unread import raise_if_unread, unread_error
from evidencesync.limits import MAX_HEADER_LINE, MAX_RECORD
from evidencesync.vault.layout import (
    ITEM_FOLDERS,
    MANIFEST,
    MAX_ACQUISITION,
    RECEIPT,
    ItemLayout,
    VaultLayout,
    acquisition_number,
)
from evidencesync.vault.ledger import Ledger


def case_folders(vault: VaultLayout) -> list[str]:
    """Lists the names of all case folders, also of empty ones. Other names are ignored. Raises as `require_no_link` does."""
    require_no_link(vault)
    return _subfolders(vault.cases)


def item_folders(vault: VaultLayout, case_folder: str) -> list[str]:
    """Lists the names of all item folders of a case, also of empty ones."""
    return _subfolders(vault.case(case_folder))


def acquisition_numbers(item: ItemLayout, reaching: int = 0) -> list[int]:
    """Lists the numbers of all published acquisitions, ascending. Other names are ignored. Raises StorageError.

    `reaching`: the number of an acquisition that a chain records. A network file system may list a folder as it was some time
    ago: what the listing lacks up to that number is looked up by name.
    """
    with storing(f"list {shown_path(item.acquisitions)}"):
        try:
            names = os.listdir(item.acquisitions)
        except FileNotFoundError:
            raise_if_unread(item.acquisitions)
            return []
        except NotADirectoryError as error:
            raise MissingOrExtraError(f"{item.acquisitions.name} is not a folder") from error
    numbers = {number for name in names if (number := acquisition_number(name)) is not None}
    missing = (number for number in range(1, min(reaching, MAX_ACQUISITION) + 1) if number not in numbers)
    return sorted(numbers.union(number for number in missing if is_folder(item.acquisition(number))))


def recorded_acquisitions(item: ItemLayout) -> int:
    """Returns how many acquisitions the chain records: all numbers from 1 on are published, or were.

    An acquisition takes its place before its records take theirs: one that is published meanwhile is there after them.
    """
    files = Ledger(item.custody).files() if is_folder(item.custody) else []
    return sum(file.kind == "acquired" for file in files)


def is_unfinished(item: ItemLayout) -> bool:
    """Whether the last acquisition has taken its place, and its records have not: a crash came between, or a push is there.

    By names alone. Raises as both listings do.
    """
    kinds = [file.kind for file in Ledger(item.custody).files()]
    numbers = acquisition_numbers(item)
    return bool(numbers) and kinds.count("received") < len(numbers)


def stored_name(item: ItemLayout) -> ItemName | None:
    """Returns the exact case and item number of a folder, from its first custody record; None before the first acquisition.

    Raises ChainError when the first record names no numbers.
    """
    files = Ledger(item.custody).files() if is_folder(item.custody) else []
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


def shown_name(item: ItemLayout) -> ItemName | None:
    """The same, for showing alone: by the first record or manifest that can be read, also of a chain with a gap."""
    with contextlib.suppress(EvidenceSyncError):
        ledger = Ledger(item.custody)
        for file in ledger.there():
            with contextlib.suppress(EvidenceSyncError):
                record = ledger.load(file).record
                return ItemName(Title(record.case or ""), Title(record.item or ""))
    with contextlib.suppress(EvidenceSyncError):
        for number in acquisition_numbers(item):
            with contextlib.suppress(EvidenceSyncError):
                header = load_header(item, number)
                return ItemName(Title(header.case), Title(header.item))
    return None


def stored_names(vault: VaultLayout, case_folder: str) -> Iterator[ItemName]:
    """Yields the exact numbers of all items of a case that are not empty, in the order of their folders."""
    for folder in item_folders(vault, case_folder):
        name = stored_name(ItemLayout(vault.case(case_folder) / folder))
        if name is not None:
            yield name


def readable_names(vault: VaultLayout, case_folder: str) -> Iterator[ItemName]:
    """Yields the same without items whose chain or folders are unreadable or damaged: one item must not block the others."""
    for folder in item_folders(vault, case_folder):
        with contextlib.suppress(StorageError, MissingOrExtraError, MalformedDocumentError, ChainError):
            name = stored_name(ItemLayout(vault.case(case_folder) / folder))
            if name is not None:
                yield name


def load_header(item: ItemLayout, acquisition: int) -> ManifestHeader:
    """Reads the header of a published manifest. Raises MissingOrExtraError, MalformedDocumentError."""
    with opened_document(item, acquisition, MANIFEST) as file:
        return decode_header(file.readline(MAX_HEADER_LINE + 1))


def load_footer(item: ItemLayout, acquisition: int) -> ManifestFooter:
    """The last line of a published manifest, found from its end. Raises MissingOrExtraError, MalformedDocumentError."""
    with opened_document(item, acquisition, MANIFEST) as file:
        return read_footer(file)


def load_receipt(item: ItemLayout, number: int) -> Receipt:
    """A published receipt. Raises MissingOrExtraError, MalformedDocumentError."""
    with opened_folder(item.acquisition(number)) as folder:
        data = load_file(folder, RECEIPT, MAX_RECORD)
    if data is None:
        raise MissingOrExtraError(f"acquisition {number} has no receipt")
    return decode_receipt(data)


def stated_totals(vault: VaultLayout, case: str | None, item: str | None, acquisition: int | None) -> tuple[int, int, int]:
    """How many files and bytes the receipts of a vault, or of a part of it, state, and of these bytes how many in runs of zeros.

    Nothing of it is checked: for a display alone.

    `case` and `item` are folder names. Raises StorageError and what `load_receipt` raises.
    """
    files = size = zeros = 0
    for case_folder in case_folders(vault) if case is None else [case]:
        for item_folder in item_folders(vault, case_folder) if item is None else [item]:
            layout = ItemLayout(vault.case(case_folder) / item_folder)
            for number in acquisition_numbers(layout):
                if acquisition in (None, number):
                    receipt = load_receipt(layout, number)
                    stored = receipt.points.arrival
                    files, size, zeros = files + stored.files, size + stored.bytes, zeros + receipt.transfer.zero_bytes
    return files, size, zeros


def read_footer(manifest: BinaryIO) -> ManifestFooter:
    """The last line of an open manifest, found from its end. Raises MalformedDocumentError, OSError."""
    size = manifest.seek(0, os.SEEK_END)
    manifest.seek(max(size - MAX_HEADER_LINE, 0))
    return decode_last_line(manifest.read(MAX_HEADER_LINE))


def read_published(
    item: ItemLayout, acquisition: int, watch: Callable[[bytes], object] | None = None
) -> Generator[CheckedLine, None, None]:
    """Reads all lines of a published manifest, strictly but with no signature checked. `watch` gets all of its bytes.

    Raises MissingOrExtraError, MalformedDocumentError, PathEscapeError and StorageError, after the lines before the wrong one.
    """
    with opened_document(item, acquisition, MANIFEST) as file:
        yield from read_manifest(document_blocks(file, watch))


@contextlib.contextmanager
def opened_document(item: ItemLayout, acquisition: int, name: str) -> Iterator[BinaryIO]:
    """Opens a document of a published acquisition, for reading inside of a `with`; errors name the path.

    Raises MissingOrExtraError, StorageError.
    """
    folder_path = item.acquisition(acquisition)
    with (
        storing(f"read {shown_path(folder_path / name)}"),
        opened_folder(folder_path) as folder,
        opened_file(name, folder) as file,
    ):
        yield file


def shown_path(path: Path) -> str:
    """Returns a path of a vault, for a message."""
    return safe_text(os.fsencode(path), 300)


def make_item_folders(vault: VaultLayout, name: ItemName) -> None:
    """Makes the empty folders of a case and an item, durably, where they are missing."""
    with opened_folder(vault.cases) as cases:
        make_folder(name.case.folder, cases)
        with opened_folder(name.case.folder, cases) as case:
            make_folder(name.item.folder, case)
            with opened_folder(name.item.folder, case) as item:
                for folder in ITEM_FOLDERS:
                    make_folder(folder, item)


def require_no_link(vault: VaultLayout, *names: str) -> None:
    """Raises MissingOrExtraError where a symbolic link lies in the place of a folder: nobody looks where it leads.

    `names` of the folders of a case and of an item in it.
    """
    folders = [vault.cases.joinpath(*names[:depth]) for depth in range(len(names) + 1)]
    for folder in folders:
        with storing(f"look at {shown_path(folder)}"):
            is_link = folder.is_symlink()
        if is_link:
            raise_if_unread(folder)
            shown = safe_text(folder.name, 100)
            text = f"a symbolic link lies in the place of the folder {shown}: where it leads nobody looks"
            raise MissingOrExtraError(text, hint="Move the folder back to its place, or mount there the disk on which it is.")


def _subfolders(folder: Path) -> list[str]:
    with storing(f"list {shown_path(folder)}"):
        try:
            names = set(os.listdir(folder))  # a listing of a folder that changes may have a name twice (NFS)
        except FileNotFoundError:
            raise_if_unread(folder)
            return []
        return sorted(name for name in names if is_folder_name(name) and is_folder(folder / name))


def is_folder(path: Path) -> bool:
    """Whether there is a folder, if only one that was marked as unread. Raises StorageError where that is unknown."""
    with storing(f"look at {shown_path(path)}"):
        try:
            mode = path.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return False
    return stat.S_ISDIR(mode) or (stat.S_ISLNK(mode) and unread_error(path) is not None)
