"""Reads and appends custody chains on disk: each record is a file with its signature beside it.

A writer checks only what it needs (no gap, no double number, a readable head); `verify` checks everything.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from hashlib import sha512
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from evidencesync.custody.chain import follows
from evidencesync.custody.documents import CUSTODY_NAMESPACE, CustodyRecord
from evidencesync.custody.record import SIGNERS, decode_record, encode_record
from evidencesync.custody.sshsig import SigningKey, sign_document, verify_signature
from evidencesync.errors import (
    ChainError,
    ChainGrewError,
    EvidenceSyncError,
    InternalError,
    LockedError,
    MalformedDocumentError,
    MissingOrExtraError,
    NoSpaceError,
    ResourcesError,
    SignatureError,
    StorageError,
    hinting,
)
from evidencesync.evidence.digest import sha256_of
from evidencesync.evidence.display import safe_text
from evidencesync.files.disk import load_file, opened_folder, storing
from evidencesync.files.litter import is_litter
from evidencesync.files.unread import raise_if_unread
from evidencesync.limits import MAX_RECORD, MAX_SIGNATURE
from evidencesync.vault.interrupted import TEMPORARY
from evidencesync.vault.layout import MAX_SEQUENCE, SIGNATURE_SUFFIX, parse_record_file, record_file
from evidencesync.vault.reservations import NewRecord, SignerCheck, grew, is_begun, put_record, reserve_number

_VERIFY = "See what else is wrong: evidencesync verify VAULT"
_MOST_LOOKED_FOR = 100  # missing records in a listing: a planted file may have a very large number
_MOST_TRIES = 100  # while other writers add to the chain, where locks do not hold


def is_stray(name: str) -> bool:
    """Whether something among custody records seems to be one by its name, and is none: it may be one that was renamed."""
    if name.startswith(TEMPORARY) or not name.endswith(".json"):
        return False
    return parse_record_file(name) is None and not is_litter(os.fsencode(name), is_folder=False)


class RecordFile(NamedTuple):
    """A record's file, as far as its name tells."""

    sequence: int
    kind: str

    @property
    def name(self) -> str:
        """The file's name."""
        return record_file(self.sequence, self.kind)


class ChainHead(msgspec.Struct, frozen=True):
    """The end of a chain, which the next record must follow. Sequence 0 and no digest for an empty chain."""

    sequence: int
    sha256: str | None


class StoredRecord(msgspec.Struct, frozen=True):
    """A record and its signature, as their exact bytes; `record` is parsed strictly, but no signature is verified."""

    record: CustodyRecord
    data: bytes
    signature: bytes

    @property
    def sha256(self) -> str:
        """The digest that the next record names."""
        return sha256_of(self.data).hex()

    def require_undamaged(self, whose: str) -> None:
        """Raises SignatureError where the signature does not vouch for the bytes: a disk's damage is nobody's other history."""
        try:
            verify_signature(self.signature, CUSTODY_NAMESPACE, sha512(self.data).digest())
        except SignatureError as error:
            raise SignatureError(f"record {self.record.sequence} of {whose}: {error.message}", hint=error.hint) from error


class Ledger:
    """One chain. Reading needs no lock; to append, the caller holds the lock of the item (or of the vault's custody folder).

    `may_sign` is needed to append: it decides whether another writer's reservation counts.

    The folder is listed once, however large the chain is: no record is ever removed, and each later one has the next number, so
    that it is found by its name. One that somebody removes meanwhile is missed by `load`, or by the next ledger.
    """

    def __init__(self, folder: Path, may_sign: SignerCheck | None = None) -> None:
        self.folder = folder
        self._may_sign = may_sign or _nobody_may_sign
        self._known: list[RecordFile] = []

    def files(self, reaching: int = 0) -> list[RecordFile]:
        """Lists all records in order. `reaching`: the number of a record that was there, as somebody has stated.

        Raises ChainError for a gap or a double number, MissingOrExtraError for a strange name.
        """
        found = self._gone_on() if self._known and not self.folder.is_symlink() else self._listed()
        last = max(found[-1].sequence if found else 0, reaching)
        if len(found) != last:
            # While others add to a large folder, a listing can have the newest name and miss one from just before. Records are
            # added in order: those before a listed one are there when the second listing begins. A network file system may
            # list a folder as it was some time ago: what both listings lack is looked up by name.
            found = [file for file in self._listed() if file.sequence <= last]
            found = sorted([*found, *self._looked_up({file.sequence for file in found}, last)])
        for expected, file in enumerate(found[len(self._known) :], len(self._known) + 1):
            if file.sequence != expected:
                raise ChainError(f"custody record {expected} is missing, or there are two of its number", hint=_VERIFY)
        self._known = found
        return found

    def there(self) -> list[RecordFile]:
        """Lists the records that are there, in order, also of a chain with a gap: for showing alone.

        Raises MissingOrExtraError where there is no folder, StorageError.
        """
        try:
            return self.files()
        except (ChainError, MissingOrExtraError):
            return self._listed(strict=False)

    def _gone_on(self) -> list[RecordFile]:
        """Returns the records that are known, and those that were added since."""
        found = list(self._known)
        try:
            with opened_folder(self.folder) as folder, storing("look for custody records"):
                while added := _of_number(found[-1].sequence + 1, folder):
                    found += added
        except StorageError:
            return self._listed()  # it says what lies there now
        return found

    def _listed(self, *, strict: bool = True) -> list[RecordFile]:
        """Lists the folder once, and returns its records by number. `strict` raises MissingOrExtraError for a stray name."""
        with storing(lambda: f"list the custody records in {safe_text(os.fsencode(self.folder), 300)}"):
            if self.folder.is_symlink():
                raise_if_unread(self.folder)
                text = f"a symbolic link lies in the place of the folder {self.folder.name}: where it leads nobody looks"
                raise MissingOrExtraError(text, hint=_VERIFY)
            try:
                names = set(os.listdir(self.folder))  # a listing of a folder that changes may have a name twice (NFS)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise self._missing() from error
        found = []
        for name in names:
            if strict and is_stray(name):
                raise MissingOrExtraError(
                    f"{safe_text(name, 80)} lies among the custody records, and has no record's name",
                    hint="Run: evidencesync verify",
                )
            if (parsed := parse_record_file(name)) is not None:
                found.append(RecordFile(*parsed))
        found.sort()
        return found

    def _missing(self) -> MissingOrExtraError:
        shown = safe_text(os.fsencode(self.folder), 300)
        return MissingOrExtraError(f"the folder of custody records is missing: {shown}", hint=_VERIFY)

    def _looked_up(self, listed: set[int], last: int) -> list[RecordFile]:
        """Returns records up to the `last` that are there and were not listed; of many, only the first are looked for."""
        numbers = islice((number for number in range(1, last + 1) if number not in listed), _MOST_LOOKED_FOR)
        with opened_folder(self.folder) as folder, storing("look for custody records"):
            return [file for number in numbers for file in _of_number(number, folder)]

    def load(self, file: RecordFile) -> StoredRecord:
        """Reads a record with its signature. Raises ChainError when it is missing, or another one than the next one follows.

        Raises MissingOrExtraError where it has no signature, MalformedDocumentError where it is not in the strict form.
        """
        try:
            with opened_folder(self.folder) as folder:
                data = load_file(folder, file.name, MAX_RECORD)
                signature = load_file(folder, file.name + SIGNATURE_SUFFIX, MAX_SIGNATURE)
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):  # a missing folder is not a failed read
                raise self._missing() from error
            raise
        if data is None:
            raise ChainError(f"custody record {file.sequence} is missing")
        if signature is None:
            raise MissingOrExtraError(f"the signature of custody record {file.sequence} is missing", hint=_VERIFY)
        try:
            record = decode_record(data)
        except MalformedDocumentError as error:
            if self._is_followed_otherwise(file.sequence, data):
                text = f"custody record {file.sequence} is damaged: record {file.sequence + 1} follows another one"
                raise ChainError(f"{text}; {error.message}", hint=_VERIFY) from error
            raise
        if (record.sequence, record.type) != (file.sequence, file.kind):
            raise ChainError(f"the file of custody record {file.sequence} holds another one")
        return StoredRecord(record, data, signature)

    def _is_followed_otherwise(self, sequence: int, data: bytes) -> bool:
        """Whether the record after one that cannot be parsed names another digest than that of its bytes."""
        with contextlib.suppress(EvidenceSyncError), opened_folder(self.folder) as folder, storing("look for custody records"):
            for file in _of_number(sequence + 1, folder):
                following = load_file(folder, file.name, MAX_RECORD)
                return following is not None and decode_record(following).previous_sha256 != sha256_of(data).hex()
        return False

    def head(self) -> ChainHead:
        """Returns what the next record must follow."""
        files = self.files()
        return ChainHead(files[-1].sequence, self.load(files[-1]).sha256) if files else ChainHead(0, None)

    def require_undamaged_head(self, whose: str) -> None:
        """Raises SignatureError where the last record is not what its signature vouches for. `whose` chain: for the message.

        What follows it would name its digest, and so state that a disk's damage is right: it could not be repaired any more.
        """
        if files := self.files():
            self.load(files[-1]).require_undamaged(whose)

    def last(self, *kinds: str) -> StoredRecord | None:
        """Returns the latest record of one of these types, or None."""
        file = next((file for file in reversed(self.files()) if file.kind in kinds), None)
        return self.load(file) if file is not None else None

    def append(self, data: bytes, signature: bytes) -> RecordFile:
        """Adds a signed record, durably. The record appears whole or not at all, and never before its signature.

        No record is ever replaced, and no number used twice, also where locks do not hold (`vault.reservations`).
        Raises ChainGrewError when another writer has added to the chain meanwhile, ChainError when the record does not follow
        its head. The caller has verified the signature.
        """
        new = NewRecord.of(data, signature)
        try:
            with storing(f"add custody record {new.record.sequence}"):  # whichever call fails
                self.reserve(new)
                with opened_folder(self.folder) as folder:
                    put_record(folder, new)
        except (StorageError, NoSpaceError, ResourcesError) as error:
            if self.may_be_completed(data, signature):
                error.hint = (
                    f"Record {new.record.sequence} was begun, and the next writer to this chain completes it: "
                    "see first whether it is there, then go on."
                )
            raise
        return RecordFile(new.record.sequence, new.record.type)

    def append_upon_head(self, sign: Callable[[ChainHead], tuple[bytes, bytes]]) -> RecordFile:
        """Signs a record for the current head and appends it; again where another writer was first. Raises as `append` does.

        Raises SignatureError where the head is damaged.
        """
        for _ in range(_MOST_TRIES):
            self.require_undamaged_head("this custody chain")
            with contextlib.suppress(ChainGrewError):
                return self.append(*sign(self.head()))
            self._known = []
        raise LockedError("others add to this custody chain all the time", hint="Run the same command again.")

    def may_be_completed(self, data: bytes, signature: bytes) -> bool:
        """Whether a record that could not be added may be there all the same, now or later. True where that is unknown."""
        try:
            with opened_folder(self.folder) as folder:
                return is_begun(folder, NewRecord.of(data, signature))
        except EvidenceSyncError:
            return True

    def reserve(self, new: NewRecord) -> None:
        """Reserves the next number for a record; the caller then calls `put_record`. Raises ChainGrewError, ChainError."""
        self._require_next(new)
        with opened_folder(self.folder) as folder:
            reserve_number(folder, new, self._may_sign)

    def _require_next(self, new: NewRecord) -> None:
        """Checks that a record follows the head, or is there already: another writer may have completed its reservation."""
        record, files = new.record, self.files()
        before = files[record.sequence - 2 : record.sequence - 1] if record.sequence > 1 else []
        previous = self.load(before[0]).sha256 if before else None
        if len(files) >= record.sequence and not self._holds(files[record.sequence - 1], new):
            raise grew(record.sequence)
        if record.sequence > min(len(files) + 1, MAX_SEQUENCE) or not follows(record, record.sequence - 1, previous):
            raise ChainError(f"record {record.sequence} does not follow the chain's head, {len(files)}")

    def _holds(self, file: RecordFile, new: NewRecord) -> bool:
        return file.name == new.name and self.load(file).data == new.data


@contextlib.contextmanager
def recorded(sequence: int) -> Iterator[None]:
    """Gives errors after a record was added a hint that says so: a second run of the command would add it twice."""
    hint = f"The record is in the chain, with the number {sequence}: do not append it again."
    with hinting(hint), storing(f"go on after custody record {sequence}"):
        yield


def _of_number(number: int, folder_fd: int) -> list[RecordFile]:
    """Returns the records of a number that are there; more than one only where somebody has put them there."""
    return [file for kind in SIGNERS if _is_there((file := RecordFile(number, kind)).name, folder_fd)]


def _is_there(name: str, folder_fd: int) -> bool:
    try:
        os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _nobody_may_sign(new: NewRecord) -> bool:
    raise InternalError(f"custody record {new.record.sequence} is reserved, and no signer was given to check it")


def sign_record(record: CustodyRecord, signer: SigningKey) -> tuple[bytes, bytes]:
    """Encodes and signs a record; returns its exact bytes and the signature over them."""
    data = encode_record(record)
    return data, sign_document(signer, CUSTODY_NAMESPACE, sha512(data).digest())


def iter_records(ledger: Ledger) -> Iterator[StoredRecord]:
    """Yields all records of a chain in order, one in memory at a time."""
    for file in ledger.files():
        yield ledger.load(file)
