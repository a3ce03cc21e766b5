"""Rebuilds the index from published acquisitions: what is missing in it, or all of it."""

from __future__ import annotations

from dataclasses import dataclass

from evidencesync.errors import MissingOrExtraError, StorageError
from evidencesync.evidence.display import safe_text
from evidencesync.vault.catalog import acquisition_numbers, case_folders, item_folders, read_published
from evidencesync.vault.index.index import Index
from evidencesync.vault.layout import ItemLayout, VaultLayout

_TRIES = 5


@dataclass(frozen=True, slots=True)
class Reindexed:
    """What was added to the index, and what could not be added."""

    cases: int
    acquisitions: int
    left_out: tuple[str, ...]


def catch_up(vault: VaultLayout, index: Index, case: str) -> Reindexed:
    """Adds every published acquisition of a case that the index does not have: after a crash, or when it was lost.

    `case` is a folder name. What cannot be read is left out, and reported: the index is a cache, and `verify` judges damage.
    """
    known = index.acquisitions(case)  # before the folders: others may publish meanwhile
    published: set[tuple[str, int]] = set()
    unread: set[str] = set()
    for item in item_folders(vault, case):
        try:
            published |= {(item, number) for number in acquisition_numbers(ItemLayout(vault.case(case) / item))}
        except (StorageError, MissingOrExtraError) as error:
            unread.add(item)
            index.notices.append(error.message)
    if (
        not {one for one in known if one[0] not in unread} <= published
    ):  # the index of another vault, or of an older state of this one
        index.forget(case)
        known = set()
    left_out = [f"{safe_text(case)}/{safe_text(item)}" for item in sorted(unread)]
    missing = sorted(published - known)
    for item, number in missing:
        layout = ItemLayout(vault.case(case) / item)
        if not _add(index, case, item, number, layout):
            left_out.append(f"{safe_text(case)}/{safe_text(item)}/{number}")
    return Reindexed(1, len(missing) + len(unread) - len(left_out), tuple(left_out))


def _add(index: Index, case: str, item: str, number: int, layout: ItemLayout) -> bool:
    """Adds an acquisition; again where another process was rebuilding the index."""
    for _ in range(_TRIES):
        if index.add_acquisition(case, item, number, read_published(layout, number)):
            return True
        if not index.moved:
            return False
    return False


def rebuild(vault: VaultLayout, index: Index) -> Reindexed:
    """Deletes the whole index and rebuilds it."""
    index.remove_beyond_cases()
    cases = case_folders(vault)
    done = []
    for case in cases:
        index.forget(case)
        try:
            done.append(catch_up(vault, index, case))
        except StorageError as error:
            index.notices.append(error.message)
            done.append(Reindexed(1, 0, (safe_text(case),)))
    left_out = tuple(name for part in done for name in part.left_out)
    return Reindexed(len(cases), sum(part.acquisitions for part in done), left_out)
