"""Makes the errors for what a vault does not have: a case, an item, an acquisition. What was removed is told apart from a slip.

Their hints name the number that may have been meant.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from evidencesync.errors import ChainError, EvidenceSyncError, MissingOrExtraError, NotThereError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.identity import ItemName, Title, is_derived, is_folder_name
from evidencesync.evidence.meant import did_you_mean, nearest, numbers_text
from evidencesync.files.disk import storing
from evidencesync.files.litter import without_litter
from evidencesync.vault.catalog import (
    acquisition_numbers,
    case_folders,
    is_folder,
    item_folders,
    recorded_acquisitions,
    shown_path,
    stored_name,
)
from evidencesync.vault.layout import CUSTODY, INCOMING, ITEM_FOLDERS, ItemLayout, VaultLayout
from evidencesync.vault.ledger import Ledger, iter_records

_VERIFY: Final = "See what else is wrong: evidencesync verify VAULT"
SEE_LIST: Final = "See what there is: evidencesync list VAULT"
_MOST_READ: Final = 256  # items whose number is read, because their folder's name does not tell it


class NearNumbers(NamedTuple):
    """The numbers, two at most, that may have been meant by those of an item: cases, or if its case is there, items of it."""

    cases: list[Title]
    items: list[Title]

    def hint(self) -> str:
        """The beginning of a hint that names them."""
        option, titles = ("--case", self.cases) if self.cases else ("--item", self.items)
        return did_you_mean([one.text for one in titles], option)


def near_numbers(vault: VaultLayout, case: Title, item: Title | None) -> NearNumbers:
    """The numbers that may have been meant by ones that the vault does not have. What cannot be read is left out."""
    with contextlib.suppress(EvidenceSyncError):
        if not is_folder(vault.case(case.folder)):
            found = _titles(case_folders(vault), lambda folder: _first_of(vault, folder))
            return NearNumbers([Title(one) for one in nearest(case.text, found)], [])
        if item is not None:
            found = _titles(item_folders(vault, case.folder), lambda folder: _item_of(vault, case.folder, folder))
            return NearNumbers([], [Title(one) for one in nearest(item.text, found) if one != item.text])
    return NearNumbers([], [])


def _titles(folders: Iterable[str], read: Callable[[str], str | None]) -> Iterator[str]:
    """The numbers of cases or items with these folders. One that its folder's name does not tell is read."""
    left = _MOST_READ
    for folder in folders:
        if not is_derived(folder):
            yield folder
            continue
        left -= 1
        with contextlib.suppress(EvidenceSyncError):
            if left >= 0 and (title := read(folder)) is not None:
                yield title


def _item_of(vault: VaultLayout, case: str, item: str) -> str | None:
    name = stored_name(ItemLayout(vault.case(case) / item))
    return None if name is None else name.item.text


def _first_of(vault: VaultLayout, case: str) -> str | None:
    names = (stored_name(ItemLayout(vault.case(case) / item)) for item in item_folders(vault, case))
    return next((name.case.text for name in names if name is not None), None)


def require_item_folders(vault: VaultLayout, name: ItemName) -> None:
    """Raises NotThereError unless the item has its folders, and MissingOrExtraError where some of them were removed.

    Raises ChainError for a chain of which the vault's own chain has stated records: they were removed with their folder.
    `incoming` is empty between transfers, and some tools leave out empty folders: it may be missing beside what is not empty.
    """
    layout = vault.item(name)
    missing = _missing_folders(layout)
    if not missing:
        return
    for folder in ITEM_FOLDERS:
        if folder not in missing and _holds_anything(layout, folder):
            if missing == [INCOMING]:
                return
            if CUSTODY in missing and any(_stated_items(vault, name.case, name.item.folder)):
                raise ChainError(
                    f"the custody chain of item {name} is gone: the vault's own chain has records of it", hint=_VERIFY
                )
            what = "folders" if len(missing) > 1 else "folder"
            raise MissingOrExtraError(f"item {name} lacks its {what} {', '.join(missing)}", hint=_VERIFY)
    error = nothing_of(vault, name.case, name.item)
    if _missing_folders(layout):  # else it was published in this moment
        raise error


def nothing_of(vault: VaultLayout, case: Title, item: Title | None) -> EvidenceSyncError:
    """The error for an item, or a whole case, that has no folders. One that the vault's own chain has stated was removed.

    Look once more whether the folders are there: a push may have ended meanwhile.
    """
    what = f"case {safe_text(case.text)}" if item is None else f"item {ItemName(case, item)}"
    for name in _stated_items(vault, case, None if item is None else item.folder):
        # A folder that holds something is that of another case or item, whose number makes the same name.
        if not _has_anything(ItemLayout(vault.case(case.folder) / name)):
            return ChainError(f"{what} is gone: the vault's own chain has records of it", hint=_VERIFY)
    text = f"the vault has nothing of {what}" if item is None else f"the vault has no {what}"
    return NotThereError(text, hint=f"{near_numbers(vault, case, item).hint()}{SEE_LIST}")


def _stated_items(vault: VaultLayout, case: Title, wanted: str | None) -> Iterator[str]:
    """The folders of items of a case, or of the `wanted` one, of which the vault's own chain has stated records."""
    for stored in iter_records(Ledger(vault.custody)) if is_folder(vault.custody) else ():
        for place in stored.record.details if stored.record.type == "heads" else ():
            of_case, _, name = place.partition("/")
            if of_case == case.folder and wanted in (None, name) and is_folder_name(name):
                yield name


def choose_acquisition(item: ItemLayout, whose: str, wanted: int | None) -> int:
    """The acquisition that was named, by default the last. Raises NotThereError, and MissingOrExtraError for a removed one.

    The last is the last that the chain records: if it was removed, the one before it is not taken for it.
    """
    last = recorded_acquisitions(item) if wanted is None else 0  # before the folder: see `recorded_acquisitions`
    numbers = acquisition_numbers(item, last if wanted is None else wanted)
    number = wanted if wanted is not None else max(last, *numbers[-1:], 0)
    if number in numbers:
        require_acquisition_folder(item, number)
        return number
    if 0 < number <= recorded_acquisitions(item) and not is_folder(item.acquisition(number)):
        raise removed_acquisition(whose, number)
    text = f"{whose} has no acquisition {number}" if number else f"{whose} has no acquisition yet"
    raise NotThereError(text, hint=f"{numbers_text(numbers, 'acquisition')}{SEE_LIST}")


def require_acquisition_folder(item: ItemLayout, number: int) -> None:
    """Raises MissingOrExtraError where something else lies in the place of an acquisition's folder: that is no failed read."""
    if not is_folder(item.acquisition(number)):
        text = f"a link or a file lies in the place of the folder of acquisition {number}: where a link leads nobody looks"
        raise MissingOrExtraError(text, hint=_VERIFY)


def removed_acquisition(whose: str, number: int) -> MissingOrExtraError:
    """Makes the error for an acquisition that the chain records, and that is not there."""
    return MissingOrExtraError(f"the custody chain of {whose} records acquisition {number}, which is not there", hint=_VERIFY)


def _has_anything(layout: ItemLayout) -> bool:
    return any(is_folder(layout.root / folder) and _holds_anything(layout, folder) for folder in ITEM_FOLDERS)


def _missing_folders(layout: ItemLayout) -> list[str]:
    return [folder for folder in ITEM_FOLDERS if not is_folder(layout.root / folder)]


def _holds_anything(layout: ItemLayout, folder: str) -> bool:
    with storing(f"list {shown_path(layout.root / folder)}"):
        return bool(without_litter(layout.root / folder))
