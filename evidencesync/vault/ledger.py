"""Custody chains on disk: the records of an item, or of the vault itself, each a file with its signature beside it.

Only what a writer must know is checked here (no gap, no double, the head reads well); `verify` checks everything.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha512
from pathlib import Path

from evidencesync.custody.chain import follows
from evidencesync.custody.documents import CUSTODY_NAMESPACE, CustodyRecord
from evidencesync.custody.record import decode_record, encode_record
from evidencesync.custody.sshsig import SigningKey, sign_document
from evidencesync.errors import (
    ChainError,
    ChainGrewError,
    EvidenceSyncError,
    InternalError,
    LockedError,
    MissingOrExtraError,
    NoSpaceError,
    ResourcesError,
    StorageError,
    hinting,
)
from evidencesync.evidence.digest import sha256_of
from evidencesync.evidence.display import safe_text
from evidencesync.files.disk import load_file, opened_folder, storing
from evidencesync.limits import MAX_RECORD, MAX_SIGNATURE
from evidencesync.vault.claims import NewRecord, SignerCheck, claim_number, grew, is_begun, put_record
from evidencesync.vault.interrupted import TEMPORARY
from evidencesync.vault.layout import MAX_SEQUENCE, SIGNATURE_SUFFIX, parse_record_file, record_file

_VERIFY = "See what else is wrong: evidencesync verify VAULT"
_MOST_TRIES = 100  # to be the next in a chain that others add to, where locks do not hold


@dataclass(frozen=True, slots=True)
class RecordFile:
    """One record's file, known by its name alone."""

    sequence: int
    kind: str

    @property
    def name(self) -> str:
        """The file's name."""
        return record_file(self.sequence, self.kind)


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The end of a chain: what the next record must follow. Sequence 0 and no digest for an empty one."""

    sequence: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record and its signature, as their exact bytes; `record` is what they say, read strictly but not verified."""

    record: CustodyRecord
    data: bytes
    signature: bytes

    @property
    def sha256(self) -> str:
        """By which the next record names this one."""
        return sha256_of(self.data).hex()


class Ledger:
    """One chain. Reading needs no lock; whoever appends must hold the lock of the item (or of the vault's custody folder).

    `may_sign` is for those who append: it judges what others have claimed.
    """

    def __init__(self, folder: Path, may_sign: SignerCheck | None = None) -> None:
        self.folder = folder
        self._may_sign = may_sign or _nobody_may_sign

    def files(self) -> list[RecordFile]:
        """All records in order. Raises ChainError for a gap or a number used twice, MissingOrExtraError for a strange name."""
        found = self._listed()
        if found and found[-1].sequence != len(found):
            # While others add to a large folder, a list can have what came last and lack what came just before it. Records are
            # added in order: those before one that was listed were there when the second list was begun.
            last = found[-1].sequence
            found = [file for file in self._listed() if file.sequence <= last]
        for expected, file in enumerate(found, 1):
            if file.sequence != expected:
                raise ChainError(f"custody record {expected} is missing, or there are two of its number")
        return found

    def _listed(self) -> list[RecordFile]:
        """The records that one list of the folder has, by number. Raises MissingOrExtraError for a name that is no record's."""
        with storing(lambda: f"list the custody records in {safe_text(os.fsencode(self.folder), 300)}"):
            try:
                names = os.listdir(self.folder)
            except (FileNotFoundError, NotADirectoryError) as error:  # what is gone is not called unread
                shown = safe_text(os.fsencode(self.folder), 300)
                raise MissingOrExtraError(f"the folder of custody records is missing: {shown}", hint=_VERIFY) from error
        found = []
        for name in names:
            if name.startswith(TEMPORARY) or name.endswith(SIGNATURE_SUFFIX) or not name.endswith(".json"):
                continue
            parsed = parse_record_file(name)
            if parsed is None:
                raise MissingOrExtraError(
                    f"{safe_text(name, 80)} lies among the custody records, and has no record's name",
                    hint="Run: evidencesync verify",
                )
            found.append(RecordFile(*parsed))
        found.sort(key=lambda file: file.sequence)
        return found

    def load(self, file: RecordFile) -> StoredRecord:
        """One record with its signature. Raises ChainError when it is missing, or another one.

        Raises MissingOrExtraError where it has no signature, MalformedDocumentError where it is not in the one strict form.
        """
        with opened_folder(self.folder) as folder:
            data = load_file(folder, file.name, MAX_RECORD)
            signature = load_file(folder, file.name + SIGNATURE_SUFFIX, MAX_SIGNATURE)
        if data is None:
            raise ChainError(f"custody record {file.sequence} is missing")
        if signature is None:
            raise MissingOrExtraError(f"the signature of custody record {file.sequence} is missing", hint=_VERIFY)
        record = decode_record(data)
        if (record.sequence, record.type) != (file.sequence, file.kind):
            raise ChainError(f"the file of custody record {file.sequence} holds another one")
        return StoredRecord(record, data, signature)

    def head(self) -> ChainHead:
        """What the next record must follow."""
        files = self.files()
        return ChainHead(files[-1].sequence, self.load(files[-1]).sha256) if files else ChainHead(0, None)

    def last(self, *kinds: str) -> StoredRecord | None:
        """The latest record of one of these types, or None."""
        file = next((file for file in reversed(self.files()) if file.kind in kinds), None)
        return self.load(file) if file is not None else None

    def append(self, data: bytes, signature: bytes) -> RecordFile:
        """Adds a signed record, durably. The record appears whole or not at all, and never before its signature.

        No record is ever replaced, and no number used twice, also where locks do not hold (`vault.claims`).
        Raises ChainGrewError when somebody else has added to the chain meanwhile, ChainError when the record does not follow
        its head. That the signature is good is for the caller to know.
        """
        new = NewRecord.of(data, signature)
        try:
            with storing(f"add custody record {new.record.sequence}"):  # whatever call it was
                self.claim(new)
                with opened_folder(self.folder) as folder:
                    put_record(folder, new)
        except (StorageError, NoSpaceError, ResourcesError) as error:
            if self.may_be_completed(data, signature):
                error.hint = (
                    f"Record {new.record.sequence} was begun, and whoever writes to this chain next completes it: "
                    "see first whether it is there, then go on."
                )
            raise
        return RecordFile(new.record.sequence, new.record.type)

    def append_upon_head(self, sign: Callable[[ChainHead], tuple[bytes, bytes]]) -> RecordFile:
        """Appends what is signed for the head as it is; signed anew where somebody else was first. Raises as `append` does."""
        for _ in range(_MOST_TRIES):
            with contextlib.suppress(ChainGrewError):
                return self.append(*sign(self.head()))
        raise LockedError("others add to this custody chain all the time", hint="Run the same command again.")

    def may_be_completed(self, data: bytes, signature: bytes) -> bool:
        """Whether a record that could not be added may be there all the same, now or later. True where it cannot be told."""
        try:
            with opened_folder(self.folder) as folder:
                return is_begun(folder, NewRecord.of(data, signature))
        except EvidenceSyncError:
            return True

    def claim(self, new: NewRecord) -> None:
        """Makes the next number that of a record; `put_record` is to follow. Raises ChainGrewError, ChainError."""
        self._require_next(new)
        with opened_folder(self.folder) as folder:
            claim_number(folder, new, self._may_sign)

    def _require_next(self, new: NewRecord) -> None:
        """That a record follows the head, or is there already: whoever found its claim may have finished it."""
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
    """Says the truth about an error after a record was added: whoever runs the command again would want it twice."""
    hint = f"The record is in the chain, with the number {sequence}: do not append it again."
    with hinting(hint), storing(f"go on after custody record {sequence}"):
        yield


def _nobody_may_sign(new: NewRecord) -> bool:
    raise InternalError(f"custody record {new.record.sequence} is claimed, and nobody can say by whom")


def sign_record(record: CustodyRecord, signer: SigningKey) -> tuple[bytes, bytes]:
    """A record's exact bytes, and the signature over them."""
    data = encode_record(record)
    return data, sign_document(signer, CUSTODY_NAMESPACE, sha512(data).digest())


def iter_records(ledger: Ledger) -> Iterator[StoredRecord]:
    """All records of a chain in order, one in memory at a time."""
    for file in ledger.files():
        yield ledger.load(file)
