"""Names the documents of a vault: what it states about evidence, without the evidence, the keys and the caches.

Whoever reads a vault from afar gets these, at the paths that they have in the vault. Both ends ask here what is one.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from evidencesync.errors import ChainError, MissingOrExtraError, StorageError
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
    require_no_link,
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
    acquisition_folder,
    acquisition_number,
    parse_record_file,
)
from evidencesync.vault.ledger import is_stray

_OF_THE_VAULT: Final = {
    SETTINGS: MAX_VAULT_TOML,
    VAULT_KEY_PUBLIC: MAX_PUBLIC_KEY,
    TRUSTED_SIGNERS: MAX_TRUST_FILE,
    REVOKED_KEYS: MAX_TRUST_FILE,
    ROLES: MAX_TRUST_FILE,
}
_MOST_STRAYS: Final = 16  # of a folder that are named: one is enough for a verdict
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

    Acquisition 0 is the last one; None: of all. Without `rows`, no rows of chunks are wanted; without `roles`, not the list of
    roles. `may_read`: whether a case may be shown, by its folder.
    """

    case: Title | None = None
    item: Title | None = None
    whole: tuple[int, ...] | None = ()
    rows: bool = True
    roles: bool = True
    may_read: Callable[[str], bool] = lambda _: True


@dataclass(frozen=True, slots=True)
class DocumentFile:
    """A document by its path in the vault; `ends`: of its lines, only the first and the last are wanted.

    `is_link`: no document, but a symbolic link in the place of a folder. Nobody follows it, and who reads a vault says so.
    `stray`: in the folder `path` lies something of that name which is no document. `unread`: why that folder cannot be read.
    """

    path: str
    ends: bool = False
    is_link: bool = False
    stray: bytes = b""
    unread: str = ""


def wanted_documents(vault: VaultLayout, wanted: WantedDocuments) -> Iterator[DocumentFile]:
    """Yields the documents that are there. The vault's own chain comes first, and an item's chain before its acquisitions.

    So what is published meanwhile seems neither missing nor removed. Links come before all that is beside them. Of what is not
    there come the first records of the items that may have been meant: whoever reads from afar is told of them. A folder that
    cannot be read hides no other. Raises StorageError for the vault's own folders and that of all cases, and MissingOrExtraError
    where a symbolic link lies in the place of the folder of all cases.
    """
    yield from own_documents(vault, roles=wanted.roles)
    found = False
    of_case = None if wanted.case is None else wanted.case.folder
    require_no_link(vault)
    if of_case is not None:
        _require_listable(vault)
    links = _links(vault.root, CASES, None if of_case is None else [of_case])
    yield from (one for one in links if wanted.may_read(one.path.rpartition("/")[2]))
    for case in filter(wanted.may_read, case_folders(vault) if of_case is None else [of_case]):
        for one in _or_unread(f"{CASES}/{case}", _of_case(vault, case, wanted)):
            found = True
            yield one
    if wanted.case is not None and not found:
        with contextlib.suppress(StorageError):  # they are told for a hint alone
            yield from _of_near_items(vault, wanted.case, wanted.item, wanted.may_read)


def own_documents(vault: VaultLayout, *, roles: bool = True) -> Iterator[DocumentFile]:
    """Yields the documents in which a vault says something of itself, its own chain last. Raises StorageError."""
    yield from _present(vault.root, ".", _OF_THE_VAULT if roles else _OF_THE_VAULT.keys() - {ROLES})
    yield from _present(vault.root, INDEX, [STATED_HEADS])
    yield from _records(vault.root, CUSTODY)


def _require_listable(vault: VaultLayout) -> None:
    """Raises StorageError where the folder of all cases cannot be listed: what is named is there; a check looks there, too."""
    with storing(f"list {shown_path(vault.cases)}"), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.listdir(vault.cases)


def _or_unread(folder: str, found: Iterator[DocumentFile]) -> Iterator[DocumentFile]:
    """Yields what is found in a folder; that the folder cannot be read, in place of the rest."""
    try:
        yield from found
    except StorageError as error:
        yield DocumentFile(folder, unread=error.message)


def _of_case(vault: VaultLayout, case: str, wanted: WantedDocuments) -> Iterator[DocumentFile]:
    place, of_item = f"{CASES}/{case}", None if wanted.item is None else wanted.item.folder
    if not is_folder(vault.root / place):
        return
    yield from _links(vault.root, place, None if of_item is None else [of_item])
    for item in item_folders(vault, case) if of_item is None else [of_item]:
        if is_folder(vault.root / place / item):
            yield from _or_unread(f"{place}/{item}", _of_item(vault, f"{place}/{item}", wanted))


def _of_near_items(
    vault: VaultLayout, case: Title, item: Title | None, may_read: Callable[[str], bool]
) -> Iterator[DocumentFile]:
    near = near_numbers(vault, case, item)
    places = [f"{case.folder}/{one.folder}" for one in near.items]
    known = [one.folder for one in near.cases if may_read(one.folder)]
    places += [f"{one}/{folder}" for one in known for folder in item_folders(vault, one)[:1]]
    for place in places:
        records = _records(vault.root, f"{CASES}/{place}/{CUSTODY}")
        yield from itertools.islice(records, 2)  # the first, and its signature


def _links(root: Path, folder: str, names: Iterable[str] | None = None) -> Iterator[DocumentFile]:
    """Yields what lies in the places of folders, in a folder of the vault: symbolic links, and files among acquisitions.

    `names`: nothing else is looked at.
    """
    if not is_folder(root / folder):
        return
    with storing(lambda: f"list {shown_path(root / folder)}"):
        for name in sorted(os.listdir(root / folder)) if names is None else names:
            place = f"{folder}/{name}"
            kind = 0
            with contextlib.suppress(OSError):  # who looks into it finds that
                kind = _kind_of(root / place) if is_folder_place(place) else 0
            if stat.S_ISLNK(kind) or (folder.endswith(f"/{ACQUISITIONS}") and stat.S_ISREG(kind)):
                yield DocumentFile(place, is_link=True)


def _kind_of(path: Path) -> int:
    """Returns the mode of what lies there; 0 for nothing. Raises OSError where that is unknown."""
    try:
        return path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _of_item(vault: VaultLayout, place: str, wanted: WantedDocuments) -> Iterator[DocumentFile]:
    yield from _links(vault.root, place, ITEM_FOLDERS)
    custody, acquisitions = f"{place}/{CUSTODY}", f"{place}/{ACQUISITIONS}"
    yield from _or_unread(custody, _records(vault.root, custody))
    if is_folder(vault.root / acquisitions):
        yield from _or_unread(acquisitions, _of_acquisitions(vault, place, wanted))


def _of_acquisitions(vault: VaultLayout, place: str, wanted: WantedDocuments) -> Iterator[DocumentFile]:
    item = ItemLayout(vault.root / place)
    recorded = 0
    with contextlib.suppress(ChainError, MissingOrExtraError, StorageError):  # who reads the chain finds it
        recorded = recorded_acquisitions(item)
    numbers = acquisition_numbers(item, recorded)
    yield from _links(vault.root, f"{place}/{ACQUISITIONS}")
    whole = numbers if wanted.whole is None else {number or max(numbers, default=0) for number in wanted.whole}
    for number in numbers:
        folder, is_empty = f"{place}/{ACQUISITIONS}/{acquisition_folder(number)}", True
        for found in _present(vault.root, folder, _OF_AN_ACQUISITION):
            is_empty, name = False, found.path.rpartition("/")[2]
            if name not in LARGE or (number in whole and (wanted.rows or name != CHUNKS)):
                yield found
            elif name == MANIFEST:
                yield DocumentFile(found.path, ends=True)
        if is_empty and is_folder(vault.root / folder):
            yield DocumentFile(f"{place}/{ACQUISITIONS}", stray=acquisition_folder(number).encode())


def _present(root: Path, folder: str, names: Iterable[str]) -> Iterator[DocumentFile]:
    """Yields those documents of a folder of the vault that are there, or may be: who reads one finds whether it is."""
    with contextlib.suppress(StorageError):
        if not is_folder(root / folder):
            return
    for name in sorted(names):
        path = name if folder == "." else f"{folder}/{name}"
        try:
            is_there = _kind_of(root / path) != 0
        except OSError:
            is_there = True
        if is_there:
            yield DocumentFile(path)


def _records(root: Path, folder: str) -> Iterator[DocumentFile]:
    """Yields the records in a custody folder, and what seems to be one and is none."""
    if not is_folder(root / folder):
        return
    with storing(lambda: f"list {shown_path(root / folder)}"):
        listed = sorted(os.listdir(root / folder))
    for name in listed:
        if document_limit(f"{folder}/{name}") is not None:
            yield DocumentFile(f"{folder}/{name}")
    for name in itertools.islice(filter(is_stray, listed), _MOST_STRAYS):
        yield DocumentFile(folder, stray=os.fsencode(name))


def read_ends(file: BinaryIO) -> bytes:
    """Returns the first and the last line of an open document; of one line, that line. Raises OSError."""
    first = file.readline(MAX_HEADER_LINE + 1)
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - MAX_HEADER_LINE, len(first)))
    rest = file.read(MAX_HEADER_LINE)
    return first + rest[rest[:-1].rfind(b"\n") + 1 :]
