"""Names the documents of a vault: what it states about evidence, without the evidence, the keys and the caches.

Whoever reads a vault from afar gets these, at the paths that they have in the vault. Both ends ask here what is one.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from evidencesync.errors import ChainError, MissingOrExtraError
from evidencesync.evidence.identity import Title, is_folder_name
from evidencesync.files.disk import storing
from evidencesync.limits import (
    MAX_HEADER_LINE,
    MAX_KEPT_MANIFEST,
    MAX_PUBLIC_KEY,
    MAX_RECORD,
    MAX_SIGNATURE,
    MAX_STATED_INDEX,
    MAX_TIMESTAMP,
    MAX_TRUST_FILE,
    MAX_VAULT_TOML,
)
from evidencesync.vault.absent import near_numbers
from evidencesync.vault.catalog import (
    acquisition_numbers,
    case_folders,
    is_folder,
    item_folders,
    recorded_acquisitions,
    shown_path,
)
from evidencesync.vault.layout import (
    ACQUISITIONS,
    CASES,
    CHUNKS,
    CUSTODY,
    INDEX,
    ITEM_FOLDERS,
    MANIFEST,
    REVOKED_KEYS,
    ROLES,
    SETTINGS,
    SIGNATURE_SUFFIX,
    SIGNED_DOCUMENTS,
    STATED_HEADS,
    TIMESTAMP_DOCUMENTS,
    TRUSTED_SIGNERS,
    VAULT_KEY_PUBLIC,
    ItemLayout,
    VaultLayout,
    acquisition_number,
    parse_record_file,
)

_OF_THE_VAULT: Final = {
    SETTINGS: MAX_VAULT_TOML,
    VAULT_KEY_PUBLIC: MAX_PUBLIC_KEY,
    TRUSTED_SIGNERS: MAX_TRUST_FILE,
    REVOKED_KEYS: MAX_TRUST_FILE,
    ROLES: MAX_TRUST_FILE,
}
LARGE: Final = frozenset({MANIFEST, CHUNKS})
"""Documents that grow with the evidence."""
_OF_AN_ACQUISITION: Final = {
    **{name: MAX_SIGNATURE if name.endswith(SIGNATURE_SUFFIX) else MAX_RECORD for name in SIGNED_DOCUMENTS},
    **dict.fromkeys(TIMESTAMP_DOCUMENTS, MAX_TIMESTAMP),
    **dict.fromkeys(LARGE, MAX_KEPT_MANIFEST),
}


def document_limit(path: str) -> int | None:
    """Returns how many bytes a document may have, by its path in the vault; None for what is no document."""
    match path.split("/"):
        case [name]:
            return _OF_THE_VAULT.get(name)
        case [folder, name] if folder == INDEX:
            return MAX_STATED_INDEX if name == STATED_HEADS else None
        case [folder, name] if folder == CUSTODY:
            return _record_limit(name)
        case [cases, case, item, folder, name] if (cases, folder) == (CASES, CUSTODY) and _are_folders(case, item):
            return _record_limit(name)
        case [cases, case, item, folder, number, name] if (cases, folder) == (CASES, ACQUISITIONS) and _are_folders(case, item):
            return _OF_AN_ACQUISITION.get(name) if acquisition_number(number) is not None else None
    return None


def _are_folders(case: str, item: str) -> bool:
    return is_folder_name(case) and is_folder_name(item)


def is_folder_place(path: str) -> bool:
    """Whether a vault has a folder at this path, on the way to documents of cases."""
    match path.split("/"):
        case [cases, case]:
            return cases == CASES and is_folder_name(case)
        case [cases, case, item]:
            return cases == CASES and _are_folders(case, item)
        case [cases, case, item, folder]:
            return cases == CASES and _are_folders(case, item) and folder in ITEM_FOLDERS
        case [cases, case, item, folder, number]:
            is_there = (cases, folder) == (CASES, ACQUISITIONS) and _are_folders(case, item)
            return is_there and acquisition_number(number) is not None
    return False


def _record_limit(name: str) -> int | None:
    if parse_record_file(name.removesuffix(SIGNATURE_SUFFIX)) is None:
        return None
    return MAX_SIGNATURE if name.endswith(SIGNATURE_SUFFIX) else MAX_RECORD


@dataclass(frozen=True, slots=True)
class WantedDocuments:
    """Of which case and item (None: of all), and of which acquisitions of the item all of the large ones.

    Acquisition 0 is the last one. Without `rows`, no rows of chunks are wanted; without `roles`, not the list of roles.
    `may_read`: whether a case may be shown, by its folder.
    """

    case: Title | None = None
    item: Title | None = None
    whole: tuple[int, ...] = ()
    rows: bool = True
    roles: bool = True
    may_read: Callable[[str], bool] = lambda _: True


@dataclass(frozen=True, slots=True)
class DocumentFile:
    """A document by its path in the vault; `ends`: of its lines, only the first and the last are wanted.

    `is_link`: no document, but a symbolic link in the place of a folder. Nobody follows it, and who reads a vault says so.
    """

    path: str
    ends: bool = False
    is_link: bool = False


def wanted_documents(vault: VaultLayout, wanted: WantedDocuments) -> Iterator[DocumentFile]:
    """Yields the documents that are there. The vault's own chain comes first, and an item's chain before its acquisitions.

    So what is published meanwhile seems neither missing nor removed. Links come before all that is beside them. Of what is not
    there come the first records of the items that may have been meant: whoever reads from afar is told of them. Raises
    StorageError, and MissingOrExtraError where a symbolic link lies in the place of the folder of all cases.
    """
    yield from _present(vault.root, ".", _OF_THE_VAULT if wanted.roles else _OF_THE_VAULT.keys() - {ROLES})
    yield from _present(vault.root, INDEX, [STATED_HEADS])
    yield from _present(vault.root, CUSTODY, None)
    found = False
    of_case, of_item = (None if one is None else one.folder for one in (wanted.case, wanted.item))
    cases = case_folders(vault)
    yield from (one for one in _links(vault.root, CASES, of_case) if wanted.may_read(one.path.rpartition("/")[2]))
    for case in cases:
        if of_case not in (None, case) or not wanted.may_read(case):
            continue
        yield from _links(vault.root, f"{CASES}/{case}", of_item)
        for item in item_folders(vault, case):
            if of_item in (None, item):
                found = True
                yield from _of_item(vault, f"{CASES}/{case}/{item}", wanted)
    if wanted.case is not None and not found:
        yield from _of_near_items(vault, wanted.case, wanted.item, wanted.may_read)


def _of_near_items(
    vault: VaultLayout, case: Title, item: Title | None, may_read: Callable[[str], bool]
) -> Iterator[DocumentFile]:
    near = near_numbers(vault, case, item)
    places = [f"{case.folder}/{one.folder}" for one in near.items]
    known = [one.folder for one in near.cases if may_read(one.folder)]
    places += [f"{one}/{folder}" for one in known for folder in item_folders(vault, one)[:1]]
    for place in places:
        records = _present(vault.root, f"{CASES}/{place}/{CUSTODY}", None)
        yield from itertools.islice(records, 2)  # the first, and its signature


def _links(root: Path, folder: str, wanted: str | None = None) -> Iterator[DocumentFile]:
    """Yields what lies in the places of folders, in a folder of the vault: symbolic links, and files among acquisitions.

    `wanted`: only one of this name.
    """
    if not is_folder(root / folder):
        return
    with storing(lambda: f"list {shown_path(root / folder)}"), os.scandir(root / folder) as listed:
        all_but_folders = folder.endswith(f"/{ACQUISITIONS}")
        names = sorted(one.name for one in listed if one.is_symlink() or (all_but_folders and one.is_file(follow_symlinks=False)))
    for name in names:
        if wanted in (None, name) and is_folder_place(f"{folder}/{name}"):
            yield DocumentFile(f"{folder}/{name}", is_link=True)


def _of_item(vault: VaultLayout, place: str, wanted: WantedDocuments) -> Iterator[DocumentFile]:
    item = ItemLayout(vault.root / place)
    yield from _links(vault.root, place)
    yield from _present(vault.root, f"{place}/{CUSTODY}", None)
    recorded = 0
    with contextlib.suppress(ChainError, MissingOrExtraError):  # whoever reads the chain there finds what is wrong with it
        recorded = recorded_acquisitions(item)
    numbers = acquisition_numbers(item, recorded) if is_folder(item.acquisitions) else []
    yield from _links(vault.root, f"{place}/{ACQUISITIONS}")
    whole = {number or max(numbers, default=0) for number in wanted.whole}
    for number in numbers:
        folder = item.acquisition(number)
        for found in _present(vault.root, str(folder.relative_to(vault.root)), _OF_AN_ACQUISITION):
            name = found.path.rpartition("/")[2]
            if name not in LARGE or (number in whole and (wanted.rows or name != CHUNKS)):
                yield found
            elif name == MANIFEST:
                yield DocumentFile(found.path, ends=True)


def _present(root: Path, folder: str, names: Container[str] | None) -> Iterator[DocumentFile]:
    """Yields the documents with these names (None: with any) in a folder of the vault."""
    if not is_folder(root / folder):
        return
    with storing(lambda: f"list {shown_path(root / folder)}"):
        listed = sorted(os.listdir(root / folder))
    for name in listed:
        path = name if folder == "." else f"{folder}/{name}"
        if (names is None or name in names) and document_limit(path) is not None:
            yield DocumentFile(path)


def read_ends(file: BinaryIO) -> bytes:
    """Returns the first and the last line of an open document; of one line, that line. Raises OSError."""
    first = file.readline(MAX_HEADER_LINE + 1)
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - MAX_HEADER_LINE, len(first)))
    rest = file.read(MAX_HEADER_LINE)
    return first + rest[rest[:-1].rfind(b"\n") + 1 :]
