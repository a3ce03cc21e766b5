"""Finds the receipts that are kept in a folder, also those that a person has sorted into folders of it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, NamedTuple

from evidencesync.localstate.receipts import DOCUMENTS, KEY_RECORDS, MANIFEST, SIGNATURE, VAULT_RECORDS

_ONLY_OF_RECEIPTS: Final = frozenset(
    {*DOCUMENTS, *(name + SIGNATURE for name in DOCUMENTS), MANIFEST, MANIFEST + SIGNATURE, VAULT_RECORDS, KEY_RECORDS}
)
_NAME: Final = re.compile(r".+-.+-[0-9]{4}(-[0-9]{1,3})?")  # as a push names them
_MOST_FOLDERS_DOWN: Final = 3
_MOST_FOLDERS: Final = 100_000


class KeptFolders(NamedTuple):
    """Folders of receipts, and the other folders, in which none was found. Both in order."""

    receipts: list[Path]
    others: list[Path]


def kept_folders(receipts: Path) -> KeptFolders:
    """Returns the receipts in a folder and in its folders, three levels down. Raises OSError where it cannot be listed.

    What cannot be listed below, or has a receipt's name, is taken for a receipt: so one that lost its documents is found.
    A receipt that was moved into another one's folder is one of them.
    """
    found = KeptFolders([], [])
    _look(receipts, _MOST_FOLDERS_DOWN, found)
    found.receipts.sort()
    found.others.sort()
    return found


def _look(folder: Path, levels: int, found: KeptFolders) -> None:
    for one in [one for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")]:
        before = len(found.receipts)
        if is_like_receipt(one):
            found.receipts.extend([one, *misplaced_in(one)])
        elif levels > 1 and not one.is_symlink() and before + len(found.others) < _MOST_FOLDERS:
            inner = KeptFolders(found.receipts, [])
            try:
                _look(one, levels - 1, inner)
            except OSError:
                found.receipts.append(one)
            if len(found.receipts) > before:
                found.others.extend(inner.others)
        if len(found.receipts) == before:
            (found.receipts if _NAME.fullmatch(one.name) else found.others).append(one)


def misplaced_in(receipt: Path, levels: int = _MOST_FOLDERS_DOWN) -> list[Path]:
    """Returns the receipts that lie in a receipt's own folder, in order: somebody has moved them there, and they are whole."""
    try:
        inner = sorted(one for one in receipt.iterdir() if is_misplaced(one)) if levels else []
    except OSError:
        return []  # said where the receipt is checked
    return [found for one in inner for found in (one, *misplaced_in(one, levels - 1))]


def is_misplaced(inner: Path) -> bool:
    """Whether something in a receipt's folder is another receipt. False where that cannot be told."""
    try:
        return not inner.is_symlink() and not _ONLY_OF_RECEIPTS.isdisjoint(os.listdir(inner))
    except OSError:
        return False


def is_like_receipt(folder: Path) -> bool:
    """Returns whether a folder has any file that only a receipt has; True where it cannot be read."""
    try:
        return not _ONLY_OF_RECEIPTS.isdisjoint(os.listdir(folder))
    except OSError:
        return True
