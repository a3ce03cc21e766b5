"""Finds numbers in a vault that are nearly those of a new item: another spelling of the same case or exhibit, most likely."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final, NamedTuple

from evidencesync.errors import EvidenceSyncError
from evidencesync.evidence.identity import ItemName, is_derived, likeness
from evidencesync.limits import MAX_ALIKE
from evidencesync.vault.catalog import case_folders, item_folders, stored_name
from evidencesync.vault.layout import ItemLayout, VaultLayout

_MOST_READ: Final = 4096  # items whose first record is read: a push waits for it, and it is a hint


class AlikeNumbers(NamedTuple):
    """The first few numbers that are nearly those of a new item: of items in its case, and of other cases if that is new, too."""

    items: list[str]
    cases: list[str]


def find_alike(vault: VaultLayout, name: ItemName, knows: Callable[[str], bool] = lambda _: True) -> AlikeNumbers:
    """Returns the numbers that are nearly those of an item that the vault does not have. For one that it has there are none.

    `knows`: whether who asks may know of a case, by its exact number. What cannot be read is left out: this is a hint, and stops
    no push.
    """
    look = _Look(vault)
    with contextlib.suppress(EvidenceSyncError):
        if stored_name(vault.item(name)) is None:
            return AlikeNumbers(look.items(name)[:MAX_ALIKE], [*filter(knows, look.cases(name))][:MAX_ALIKE])
    return AlikeNumbers([], [])


class _Look:
    """A look at folders' names, and at the first records of those that may be alike."""

    def __init__(self, vault: VaultLayout) -> None:
        self._vault = vault
        self._read = 0

    def items(self, name: ItemName) -> list[str]:
        """The items of the case that are nearly this one."""
        wanted, case = likeness(name.item.text), name.case.folder
        folders = [folder for folder in item_folders(self._vault, case) if _may_be(folder, wanted)]
        found = [stored for folder in folders if (stored := self._name(case, folder)) is not None and stored.case == name.case]
        return [one.item.text for one in found if one.item != name.item and likeness(one.item.text) == wanted]

    def cases(self, name: ItemName) -> list[str]:
        """The cases that are nearly this one, if the vault has nothing of it."""
        wanted = likeness(name.case.text)
        if self._first(name.case.folder) is not None:
            return []
        folders = [folder for folder in case_folders(self._vault) if _may_be(folder, wanted)]
        found = [stored.case for folder in folders if (stored := self._first(folder)) is not None]
        return [case.text for case in found if case != name.case and likeness(case.text) == wanted]

    def _first(self, case: str) -> ItemName | None:
        return next((name for item in item_folders(self._vault, case) if (name := self._name(case, item)) is not None), None)

    def _name(self, case: str, item: str) -> ItemName | None:
        self._read += 1
        if self._read <= _MOST_READ:
            with contextlib.suppress(EvidenceSyncError):
                return stored_name(ItemLayout(self._vault.case(case) / item))
        return None


def _may_be(folder: str, wanted: str) -> bool:
    """Whether a folder's number may be alike: a folder whose number is its own name need not be read."""
    return bool(wanted) and (likeness(folder) == wanted or is_derived(folder))
