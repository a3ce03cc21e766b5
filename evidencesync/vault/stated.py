"""Reads what the vault's own chain states of the heads of items' chains: from its records, or quickly by an index of them.

To know what is stated of one item, all `heads` records have to be read: a statement that was contradicted later still counts.
So a file keeps what the first records of the chain state. It is a cache, and cannot say anything that those records do not:
it names the last of them by its digest, to which all of them are linked, and has the vault's own signature. An old one is
still true, and what came later is read from the records. Any other file is as good as none.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from evidencesync.custody.chain import follows
from evidencesync.custody.record import decode_record
from evidencesync.custody.sshsig import sign_document, verify_signature
from evidencesync.errors import ChainError, EvidenceSyncError, MalformedDocumentError, StorageError
from evidencesync.evidence.digest import sha256_of, sha512_of
from evidencesync.evidence.identity import is_folder_name
from evidencesync.files.disk import (
    load_file,
    load_own_file,
    locked_folder,
    opened_folder,
    storing,
    tidy_away,
    write_new_file,
)
from evidencesync.limits import MAX_RECORD, MAX_STATED_INDEX
from evidencesync.vault.layout import NEW_STATED_HEADS, STATED_HEADS
from evidencesync.vault.ledger import Ledger, RecordFile

if TYPE_CHECKING:
    from evidencesync.vault.vault import Vault

OWN: Final = "the vault's own chain says"
_NAMESPACE: Final = "index@evidencesync"
_MOST_NOT_INDEXED: Final = 100  # records that are read at each push before the index is made anew
_HEAD: Final = re.compile(r"([0-9]{1,6}) ([0-9a-f]{64})")


class StatedHead(NamedTuple):
    """A record that a chain had, by number and SHA-256, and who states it (`OWN`, `vault.heads.SEEN`)."""

    sequence: int
    sha256: str
    witness: str


def parse_head(text: str) -> tuple[int, str] | None:
    """Returns number and digest as a `heads` record states them; None for any other text."""
    match = _HEAD.fullmatch(text)
    return (int(match[1]), match[2]) if match is not None else None


class _Statements(msgspec.Struct):
    """What the vault's own chain states of one item's chain, in order: the highest head, and those that are out of order.

    Each statement is higher than the one before, or the same. Any other says that something was put back in between: then both
    are held against the chain, however far it has gone on since.
    """

    highest: StatedHead | None = None
    out_of_order: set[StatedHead] = msgspec.field(default_factory=set)

    @classmethod
    def of(cls, texts: list[str]) -> _Statements:
        """Makes it again from its `texts`."""
        heads = [StatedHead(*head, OWN) for text in texts if (head := parse_head(text)) is not None]
        return cls(heads[0], set(heads[1:])) if heads else cls()

    def texts(self) -> list[str]:
        """Returns all that counts, as records state it: the highest head first."""
        heads = [*([self.highest] if self.highest is not None else []), *sorted(self.out_of_order)]
        return [f"{head.sequence} {head.sha256}" for head in heads]

    def add(self, text: str) -> None:
        """Adds the next one; what is no head is left out."""
        head = parse_head(text)
        if head is None or not head[0]:
            return
        stated = StatedHead(*head, OWN)
        if self.highest is None or stated.sequence > self.highest.sequence:
            self.highest = stated
        elif stated != self.highest:
            self.out_of_order |= {self.highest, stated}

    def all(self) -> set[StatedHead]:
        """Returns the heads that the chain must have."""
        return self.out_of_order if self.highest is None else self.out_of_order | {self.highest}


def stated_heads(own: Ledger) -> tuple[dict[str, set[StatedHead]], StorageError | None]:
    """Returns the heads that the vault's own chain states of each item: the highest, and all that contradict each other.

    A record that the disk does not give is left out: the second value says so. Raises ChainError, MissingOrExtraError,
    MalformedDocumentError; StorageError where not even the folder can be listed.
    """
    found: dict[str, _Statements] = {}
    unread: StorageError | None = None
    files = [file for file in own.files() if file.kind == "heads"]
    with opened_folder(own.folder) as folder:
        for file in files:
            try:
                data = load_file(folder, file.name, MAX_RECORD)
            except StorageError as error:
                unread = error
                continue
            if data is None:
                raise ChainError(f"custody record {file.sequence} is missing")
            for place, text in decode_record(data).details.items():
                _add(found, place, text)
    return {place: heads for place, one in found.items() if (heads := one.all())}, unread


def _add(found: dict[str, _Statements], place: str, text: str) -> None:
    case, _, item = place.partition("/")
    if is_folder_name(case) and is_folder_name(item):
        found.setdefault(place, _Statements()).add(text)


def stated_of(vault: Vault, place: str) -> set[StatedHead]:
    """Returns the heads that the vault's own chain states of one item (`CASE/ITEM`, the folders' names).

    A statement that cannot be read, or is damaged, is left out. Raises ChainError, MissingOrExtraError; StorageError where the
    folder cannot be listed.
    """
    with _readable(vault) as (index, records):
        stated, named = _Statements.of(index.heads.get(place, [])), f'"{place}"'.encode()
        for data in records:
            if named in data:
                with contextlib.suppress(MalformedDocumentError):
                    stated.add(decode_record(data).details.get(place, ""))
    return stated.all()


def readable_statements(vault: Vault) -> dict[str, set[StatedHead]]:
    """Returns the same of all items, by `CASE/ITEM`. Raises as `stated_of` does."""
    with _readable(vault) as (index, records):
        found = {place: _Statements.of(texts) for place, texts in index.heads.items()}
        for data in records:
            with contextlib.suppress(MalformedDocumentError):
                for place, text in decode_record(data).details.items():
                    _add(found, place, text)
    return {place: one.all() for place, one in found.items()}


@contextlib.contextmanager
def _readable(vault: Vault) -> Iterator[tuple[_Index, Iterator[bytes]]]:
    """Yields the index, and the bytes of each `heads` record after it that can be read."""
    files = vault.ledger.files()
    with opened_folder(vault.ledger.folder) as folder:
        index = _load(vault, folder, files) or _Index(vault.settings.id, 0, None, {})
        if len(files) - index.records > _MOST_NOT_INDEXED:
            index = _renewed(vault, folder, files, index)
        yield index, _heads_records(folder, files[index.records :])


def _heads_records(own_fd: int, files: list[RecordFile]) -> Iterator[bytes]:
    for file in files:
        with contextlib.suppress(StorageError):
            if file.kind == "heads" and (data := load_file(own_fd, file.name, MAX_RECORD)) is not None:
                yield data


class _Index(msgspec.Struct, frozen=True):
    """What the first `records` records of the vault's chain state; the last has this digest. By place, the texts of heads."""

    vault_id: str
    records: int
    sha256: str | None
    heads: dict[str, list[str]]


_DECODER: Final = msgspec.json.Decoder(_Index)


def _load(vault: Vault, own_fd: int, files: list[RecordFile]) -> _Index | None:
    """Reads the index; None unless the vault has signed it, and its chain still has the record up to which it goes."""
    try:
        with opened_folder(vault.layout.index) as folder:
            data = load_own_file(folder, STATED_HEADS, MAX_STATED_INDEX, void=b"") or b""
        document, line_end, signature = data.partition(b"\n")  # JSON without a line break
        if verify_signature(signature, _NAMESPACE, sha512_of(document + line_end)).fingerprint != vault.keys.current:
            return None
        index = _DECODER.decode(document)
        if index.vault_id != vault.settings.id or not 0 < index.records <= len(files):
            return None
        last = load_file(own_fd, files[index.records - 1].name, MAX_RECORD)
    except (EvidenceSyncError, msgspec.DecodeError):  # it is only a cache
        return None
    return index if last is not None and sha256_of(last).hex() == index.sha256 else None


def _renewed(vault: Vault, own_fd: int, files: list[RecordFile], index: _Index) -> _Index:
    """Returns an index of all records up to the first that is not sound, and stores it; the old one where nothing is won."""
    found = {place: _Statements.of(texts) for place, texts in index.heads.items()}
    records, sha256 = index.records, index.sha256
    with contextlib.suppress(EvidenceSyncError):  # unreadable, damaged: what comes after it is not indexed
        for file in files[records:]:
            data = load_file(own_fd, file.name, MAX_RECORD)
            if data is None or not follows(record := decode_record(data), records, sha256):
                break
            for place, text in record.details.items() if record.type == "heads" else ():
                _add(found, place, text)
            records, sha256 = records + 1, sha256_of(data).hex()
    if records - index.records <= _MOST_NOT_INDEXED:
        return index
    renewed = _Index(vault.settings.id, records, sha256, {place: texts for place, one in found.items() if (texts := one.texts())})
    with contextlib.suppress(EvidenceSyncError):  # no room, another writer: the records say the same
        _store(vault, renewed)
    return renewed


def _store(vault: Vault, index: _Index) -> None:
    document = msgspec.json.encode(index) + b"\n"
    data = document + sign_document(vault.signer, _NAMESPACE, sha512_of(document))
    if len(data) > MAX_STATED_INDEX:
        return
    with storing("make the index"):
        vault.layout.index.mkdir(mode=0o700, exist_ok=True)
    with locked_folder(vault.layout.index, "the index") as folder, storing("write the index"):
        tidy_away(folder, NEW_STATED_HEADS)  # of a writer that was killed
        write_new_file(folder, NEW_STATED_HEADS, data)
        os.rename(NEW_STATED_HEADS, STATED_HEADS, src_dir_fd=folder, dst_dir_fd=folder)
