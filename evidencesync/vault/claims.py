"""One number, one record: how a record joins a chain so that it holds without any lock.

A record's file is named by its number and its type, so two records of one number could lie side by side. What makes a number
unique is its *claim*, `.new-NNNN-G`: a file that is made by a step which is refused where the name is taken
(`evidencesync.files.placing`), and holds the whole record with its signature. Whoever has the claim has the number.

1. The claim is made. Whoever comes second finds it, whatever he had read of the chain before.
2. The signature, then the record are put into their places; the claim goes.

A claim whose owner was killed is finished by whoever comes next: it holds all that is needed. So nobody has to know whether the
owner is alive, and both may do it at once, for they do the same. A claim is removed only when its number's record is there: it is
of no use to anybody then. Where a claim is void, because it cannot be read (a power cut) or does not follow the chain, the next
`G` counts. The same holds for a claim that is not signed by whoever may sign such a record: it is no writer's, and nothing of it
gets into the chain (`vault.record_signers`).

A claim for an acquisition's `acquired` comes before the acquisition is published, and counts only if it is. Whoever finds such a
claim waits a moment, and then makes sure that it never is, by moving the staged acquisition away: then the next `G` counts.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from evidencesync.custody.documents import CustodyRecord
from evidencesync.custody.record import SIGNERS, decode_record
from evidencesync.errors import ChainError, ChainGrewError, EvidenceSyncError, LockedError, MalformedDocumentError, StorageError
from evidencesync.files.disk import (
    FOLDER_MODE,
    is_there,
    load_file,
    load_own_file,
    opened_folder,
    remove_if_there,
    store_new_file,
    storing,
    sync_folder,
    tidy_away,
    write_new_file,
)
from evidencesync.files.folders import names_in
from evidencesync.files.placing import place_file, place_folder
from evidencesync.limits import MAX_RECORD, MAX_SIGNATURE
from evidencesync.vault.interrupted import TEMPORARY, claim_name, claimed_number, temporary_name
from evidencesync.vault.layout import (
    ACQUIRED,
    ACQUISITIONS,
    INCOMING,
    SIGNATURE_SUFFIX,
    STAGED_ACQUISITION,
    acquisition_folder,
    parse_record_file,
    record_file,
)

_MOST_GENERATIONS: Final = 100
_MOST_TRIES: Final = 20  # somebody who tidies up may remove a temporary file of ours: it is made again
_PATIENCE_SECONDS: Final = 2.0  # with a publish between its claim and its rename, which follow each other at once
_LOOK_SECONDS: Final = 0.05
_AGAIN: Final = "Run the same command again."
_ARMOR: Final = b"-----BEGIN SSH SIGNATURE-----"
_END: Final = b"end\n"
MAX_CLAIM: Final = MAX_RECORD + MAX_SIGNATURE + len(_END)


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A signed record that is to join a chain, as its exact bytes and what they say."""

    record: CustodyRecord
    data: bytes
    signature: bytes

    @classmethod
    def of(cls, data: bytes, signature: bytes) -> NewRecord:
        """A record by its exact bytes. Raises MalformedDocumentError."""
        return cls(decode_record(data), data, signature)

    @property
    def name(self) -> str:
        """The name of its file."""
        return record_file(self.record.sequence, self.record.type)

    def encoded(self) -> bytes:
        """As a claim's bytes. A record's text has no line that a signature begins with."""
        return self.data + self.signature + _END

    @classmethod
    def decode(cls, data: bytes) -> NewRecord | None:
        """The record that a claim holds; None for bytes that are not a whole claim."""
        document, armor, rest = data.partition(_ARMOR)
        if not armor or not rest.endswith(_END):
            return None
        try:
            return cls.of(document, armor + rest.removesuffix(_END))
        except EvidenceSyncError:
            return None


SignerCheck = Callable[[NewRecord], bool]
"""Whether a record that somebody else has claimed a number for is signed by whoever may sign it (`vault.record_signers`)."""


def claim_number(folder_fd: int, new: NewRecord, may_sign: SignerCheck) -> None:
    """Makes a record's number its own, in a custody folder, or raises ChainGrewError where it is another record's.

    The caller has seen that the record follows the chain. What it finds claimed it finishes, if `may_sign` says that it may.
    Raises StorageError, NoSpaceError.
    """
    number = new.record.sequence
    for generation in range(1, _MOST_GENERATIONS):
        name = claim_name(number, generation)
        if _place_bytes(folder_fd, name, new.encoded(), durable=False):
            _confirm(folder_fd, new)
            return
        found = load_own_file(folder_fd, name, MAX_CLAIM, void=b"")
        if found is None:  # it was removed, and so the record is there
            raise grew(number)
        other = NewRecord.decode(found)
        if other is not None and other.data == new.data:
            _confirm(folder_fd, new)
            return
        if has_record(folder_fd, number):  # looked for after the claim was seen: it may be that of a latecomer, and void
            raise grew(number)
        if other is not None and _counts(folder_fd, other, new, may_sign):
            if other.record.type != "acquired":  # its second half is to follow it: see `publish.complete_unfinished`
                put_record(folder_fd, other)
            raise grew(number)
    raise LockedError(f"custody record {number} was claimed {_MOST_GENERATIONS} times and never written")


def is_begun(folder_fd: int, new: NewRecord) -> bool:
    """Whether a record, or a claim that holds it, is there: then it is completed by whoever comes next. Raises StorageError."""
    names = [new.name, *(name for name in names_in(folder_fd) if claimed_number(name) == new.record.sequence)]
    wanted = (new.data, new.encoded())
    return any(load_own_file(folder_fd, name, MAX_CLAIM, void=b"") in wanted for name in names)


def has_record(folder_fd: int, sequence: int) -> bool:
    """Whether there is a record of that number, of whatever type, now."""
    return _record_of(folder_fd, sequence, names_in(folder_fd)) is not None


def _confirm(folder_fd: int, new: NewRecord) -> None:
    """After the claim: that no record of its number is there but this one, and that nothing is left of what was cut short.

    What was read before the claim may have been old. A listing may be so even now (NFS keeps them), so names are asked for, too.
    """
    number = new.record.sequence
    names = names_in(folder_fd)
    found = _record_of(folder_fd, number, names)
    if found is not None and load_file(folder_fd, found, MAX_RECORD) != new.data:
        remove_claims(folder_fd, number)
        raise grew(number)
    _tidy(folder_fd, new, names)


def _record_of(folder_fd: int, sequence: int, names: list[str]) -> str | None:
    for name in (*(record_file(sequence, kind) for kind in SIGNERS), *names):
        parsed = parse_record_file(name)
        if parsed is not None and parsed[0] == sequence and is_there(folder_fd, name):
            return name
    return None


def put_record(folder_fd: int, new: NewRecord, linked_from: int | None = None) -> None:
    """Puts a claimed record into its place, after its signature, durably; what somebody else has put there of it stays.

    With `linked_from`, the folder of its acquisition, the files there get a second name. Raises ChainError, StorageError.
    """
    origin = linked_from if new.record.type in ("acquired", "received") else None
    for name, data, kind in (
        (new.name + SIGNATURE_SUFFIX, new.signature, f"{new.record.type}.json{SIGNATURE_SUFFIX}"),
        (new.name, new.data, f"{new.record.type}.json"),
    ):
        _put(folder_fd, name, data, new, None if origin is None else (origin, kind))
        sync_folder(folder_fd, "custody records")
    remove_claims(folder_fd, new.record.sequence)


def remove_claims(folder_fd: int, sequence: int) -> None:
    """Removes the claims of a number whose record is there."""
    with storing("tidy a custody folder"):
        for generation in range(1, _MOST_GENERATIONS):
            if not tidy_away(folder_fd, claim_name(sequence, generation)):
                return


def _tidy(folder_fd: int, new: NewRecord, names: list[str]) -> None:
    """Removes temporary files, claims of records that are there, and signatures of the claimed number but for its own.

    A record's own file is never removed, nor a claim that somebody may still have.
    """
    number = new.record.sequence
    with storing("tidy a custody folder"):
        for name in names:
            claimed = claimed_number(name)
            signed = parse_record_file(name.removesuffix(SIGNATURE_SUFFIX)) if name.endswith(SIGNATURE_SUFFIX) else None
            if claimed is not None:
                unwanted = claimed < number
            elif signed is not None:
                unwanted = signed[0] == number and name != new.name + SIGNATURE_SUFFIX
            else:
                unwanted = name.startswith(TEMPORARY)
            if unwanted:
                tidy_away(folder_fd, name)


def place_new_file(folder_fd: int, name: str, data: bytes, dst_dir_fd: int | None = None) -> bool:
    """Makes a whole, durable file of a name that must be free; False where it is taken. It is made in `folder_fd` first.

    Raises StorageError, NoSpaceError.
    """
    return _place_bytes(folder_fd, name, data, durable=True, dst_dir_fd=dst_dir_fd)


def _place_bytes(folder_fd: int, name: str, data: bytes, *, durable: bool, dst_dir_fd: int | None = None) -> bool:
    target = folder_fd if dst_dir_fd is None else dst_dir_fd
    for _ in range(_MOST_TRIES):
        temporary = temporary_name()
        try:
            (store_new_file if durable else write_new_file)(folder_fd, temporary, data)
            with storing(f"write {name}"):
                try:
                    place_file(temporary, name, src_dir_fd=folder_fd, dst_dir_fd=target)
                except FileExistsError:
                    return False
                except FileNotFoundError:
                    continue
            return True
        finally:
            with contextlib.suppress(OSError):
                remove_if_there(folder_fd, temporary)
    raise LockedError(f"somebody removes what is to become {name}", hint=_AGAIN)


def _put(folder_fd: int, name: str, data: bytes, new: NewRecord, origin: tuple[int, str] | None) -> None:
    for _ in range(_MOST_TRIES):
        if (origin is not None and _link(folder_fd, name, *origin)) or place_new_file(folder_fd, name, data):
            return
        if load_own_file(folder_fd, name, MAX_RECORD) == data:
            return
        there = load_file(folder_fd, new.name, MAX_RECORD)
        if there not in (None, new.data):
            raise grew(new.record.sequence)
        if there is not None:
            raise ChainError(f"custody record {new.record.sequence} has another signature")
        _take_over(folder_fd, name, data)  # the signature of a record that never came
    raise LockedError(f"somebody else writes {name}", hint=_AGAIN)


def _take_over(folder_fd: int, name: str, data: bytes) -> None:
    """Puts bytes in the place of what is there, in one step: whoever finishes the same claim never finds the name missing."""
    temporary = temporary_name()
    store_new_file(folder_fd, temporary, data)
    with storing(f"write {name}"), contextlib.suppress(FileNotFoundError):
        os.rename(temporary, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)


def _link(folder_fd: int, name: str, source_fd: int, source: str) -> bool:
    """A second name for a file of an acquisition; False where that cannot be, or the name is taken."""
    try:
        os.link(source, name, src_dir_fd=source_fd, dst_dir_fd=folder_fd, follow_symlinks=False)
    except OSError:
        return False  # a copy is as good, and says what is wrong where it cannot be made either
    return True


def _counts(folder_fd: int, other: NewRecord, new: NewRecord, may_sign: SignerCheck) -> bool:
    """Whether somebody else's claim holds. One that does not follow the chain as ours does can never be finished.

    One that nobody may have made is no writer's of this vault.
    """
    one, two = other.record, new.record
    if (one.sequence, one.previous_sha256, one.vault_id) != (two.sequence, two.previous_sha256, two.vault_id):
        return False
    if not may_sign(other):
        return False
    if one.type != "acquired" or one.acquisition is None:
        return True
    published = f"../{ACQUISITIONS}/{acquisition_folder(one.acquisition)}"
    until = time.monotonic() + _PATIENCE_SECONDS
    while not _holds_acquired(folder_fd, published, other.data):
        if time.monotonic() >= until:
            return not _prevent(folder_fd, other.data) and _holds_acquired(folder_fd, published, other.data)
        time.sleep(_LOOK_SECONDS)
    return True


def _holds_acquired(folder_fd: int, acquisition: str, data: bytes) -> bool:
    """Whether a folder is that of the acquisition whose `acquired` record has these bytes; not, where there is none.

    Raises StorageError where the disk does not tell: then a claim must not be called void.
    """
    try:
        with opened_folder(acquisition, folder_fd) as folder:
            return load_file(folder, ACQUIRED, MAX_RECORD) == data
    except MalformedDocumentError:
        return False
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return False
        raise


def _prevent(folder_fd: int, data: bytes) -> bool:
    """Sets a staged acquisition aside, so that its session can never publish it; False where it is not staged.

    What was stored of it is found there by the item's next session.
    """
    with opened_folder(f"../{INCOMING}", folder_fd) as incoming, storing("set an unfinished publish aside"):
        for session in names_in(incoming):
            if not _holds_acquired(incoming, f"{session}/{STAGED_ACQUISITION}", data):
                continue
            aside = secrets.token_hex(16)  # as a session's name
            os.mkdir(aside, FOLDER_MODE, dir_fd=incoming)
            with (
                contextlib.suppress(FileNotFoundError),
                opened_folder(session, incoming) as source,
                opened_folder(aside, incoming) as target,
            ):
                place_folder(STAGED_ACQUISITION, STAGED_ACQUISITION, src_dir_fd=source, dst_dir_fd=target)
                return True
    return False


def grew(number: int) -> ChainGrewError:
    """The error for a number that is another record's."""
    return ChainGrewError(f"somebody else has added custody record {number} meanwhile")
