"""Adds records to a chain so that a number has one record only, also where no lock holds.

A record's file name has its number and its type, so two records with one number could exist side by side. The *reservation*,
`.new-NNNN-G`, makes a number unique: a file that is made atomically, by a call that fails where the name is taken
(`evidencesync.files.placing`). It holds the whole record with its signature. The writer that makes it has the number.

1. The writer makes the reservation. A second writer finds it, whatever it had read of the chain before.
2. The signature, then the record are put into their places; then the reservation is removed.

The reservation of a killed writer is completed by the next writer: it holds all that is needed. So no writer has to know whether
another one is alive, and two may complete it at once, for they write the same bytes. A reservation is removed only after its
number's record is there. A reservation is void where it cannot be read (a power cut), does not follow the chain, or is not signed
by a key that may sign such a record (`signer_of`): then the next `G` counts, and nothing of it gets into the chain.

A reservation for an acquisition's `acquired` record is made before the acquisition is published, and counts only if it is
published. A writer that finds such a reservation waits a short time, and then prevents the publish by moving the staged
acquisition away: then the next `G` counts.

Anybody who can write into the vault's folder can make a reservation. The next writer completes it, so it is checked as closely
as a record that arrives: else an honest writer would put a forged record into the chain.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable
from typing import Final

import msgspec

from evidencesync.custody.chain import ChainSubject, follows
from evidencesync.custody.documents import CUSTODY_NAMESPACE, CustodyRecord
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.record import SIGNERS, SignedBy, check_signer, decode_record
from evidencesync.custody.sshsig import verify_signature
from evidencesync.custody.trust import TrustLists
from evidencesync.errors import (
    ChainError,
    ChainGrewError,
    EvidenceSyncError,
    LockedError,
    MalformedDocumentError,
    SignatureError,
    StorageError,
    UntrustedSignerError,
)
from evidencesync.evidence.digest import sha256_of, sha512_of
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
from evidencesync.vault.interrupted import TEMPORARY, reservation_name, reserved_number, temporary_name
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
_MOST_TRIES: Final = 20  # another writer may remove our temporary file when it tidies up: then it is made again
_PATIENCE_SECONDS: Final = 2.0  # for a publish between its reservation and its rename, which follow each other at once
_LOOK_SECONDS: Final = 0.05
_AGAIN: Final = "Run the same command again."
_ARMOR: Final = b"-----BEGIN SSH SIGNATURE-----"
_END: Final = b"end\n"
MAX_RESERVATION: Final = MAX_RECORD + MAX_SIGNATURE + len(_END)


class NewRecord(msgspec.Struct, frozen=True):
    """A signed record that is to be added to a chain: its exact bytes, and their meaning."""

    record: CustodyRecord
    data: bytes
    signature: bytes

    @classmethod
    def of(cls, data: bytes, signature: bytes) -> NewRecord:
        """Makes it from a record's exact bytes. Raises MalformedDocumentError."""
        return cls(decode_record(data), data, signature)

    @property
    def name(self) -> str:
        """The name of its file."""
        return record_file(self.record.sequence, self.record.type)

    def encoded(self) -> bytes:
        """Returns the bytes of a reservation. No line of a record's text begins as a signature does."""
        return self.data + self.signature + _END

    @classmethod
    def decode(cls, data: bytes) -> NewRecord | None:
        """Returns the record in a reservation; None for bytes that are not a whole reservation."""
        document, armor, rest = data.partition(_ARMOR)
        if not armor or not rest.endswith(_END):
            return None
        try:
            return cls.of(document, armor + rest.removesuffix(_END))
        except EvidenceSyncError:
            return None


SignerCheck = Callable[[NewRecord], bool]
"""Whether the record in another writer's reservation is signed by a key that may sign it (`signer_of`)."""


def reserve_number(folder_fd: int, new: NewRecord, may_sign: SignerCheck) -> None:
    """Reserves a record's number in a custody folder. Raises ChainGrewError where the number has another record.

    The caller has checked that the record follows the chain. Another writer's reservation is completed, if `may_sign` accepts it.
    Raises StorageError, NoSpaceError.
    """
    number = new.record.sequence
    for generation in range(1, _MOST_GENERATIONS):
        name = reservation_name(number, generation)
        if _place_bytes(folder_fd, name, new.encoded(), durable=False):
            _confirm(folder_fd, new)
            return
        found = load_own_file(folder_fd, name, MAX_RESERVATION, void=b"")
        if found is None:  # it was removed, so the record is there
            raise grew(number)
        other = NewRecord.decode(found)
        if other is not None and other.data == new.data:
            _confirm(folder_fd, new)
            return
        if has_record(folder_fd, number):  # checked after the reservation was read: it may be a late one, and void
            raise grew(number)
        if other is not None and _counts(folder_fd, other, new, may_sign):
            if other.record.type != "acquired":  # `received` has to follow it: see `publish.complete_unfinished`
                put_record(folder_fd, other)
            raise grew(number)
    raise LockedError(f"custody record {number} was reserved {_MOST_GENERATIONS} times and never written")


def is_begun(folder_fd: int, new: NewRecord) -> bool:
    """Whether a record, or a reservation with it, is there: then the next writer completes it. Raises StorageError."""
    names = [new.name, *(name for name in names_in(folder_fd) if reserved_number(name) == new.record.sequence)]
    wanted = (new.data, new.encoded())
    return any(load_own_file(folder_fd, name, MAX_RESERVATION, void=b"") in wanted for name in names)


def is_void(folder_fd: int, name: str, number: int, last: bytes | None) -> bool:
    """Whether a reservation of the next number can never be completed. `last`: the bytes of record `number` (0: there is none).

    Call it under the lock under which writers work: then no publish comes between its reservation and its rename. Raises
    StorageError where that is unknown.
    """
    found = load_own_file(folder_fd, name, MAX_RESERVATION, void=b"")
    reserved = None if found is None else NewRecord.decode(found)
    if reserved is None or not follows(reserved.record, number, None if last is None else sha256_of(last).hex()):
        return True
    if reserved.record.type != "acquired":
        return False
    acquisition = reserved.record.acquisition
    return acquisition is None or not _holds_acquired(folder_fd, _published(acquisition), reserved.data)


def _published(acquisition: int) -> str:
    """Returns the path of a published acquisition, from the item's custody folder."""
    return f"../{ACQUISITIONS}/{acquisition_folder(acquisition)}"


def has_record(folder_fd: int, sequence: int) -> bool:
    """Whether there is a record with that number, of any type, now."""
    return _record_of(folder_fd, sequence, names_in(folder_fd)) is not None


def _confirm(folder_fd: int, new: NewRecord) -> None:
    """Checks, after the reservation, that no other record has its number, and removes leftovers of interrupted appends.

    What was read before the reservation may have been old. Even now a listing may be old (NFS caches them), so each possible name
    is looked up as well.
    """
    number = new.record.sequence
    names = names_in(folder_fd)
    found = _record_of(folder_fd, number, names)
    if found is not None and load_file(folder_fd, found, MAX_RECORD) != new.data:
        remove_reservations(folder_fd, number)
        raise grew(number)
    _tidy(folder_fd, new, names)


def _record_of(folder_fd: int, sequence: int, names: list[str]) -> str | None:
    number = _number_in_names(sequence)
    for name in (*(record_file(sequence, kind) for kind in SIGNERS), *(name for name in names if name.startswith(number))):
        if parse_record_file(name) is not None and is_there(folder_fd, name):
            return name
    return None


def _number_in_names(sequence: int) -> str:
    """Returns how the names of a record's file and its signature begin."""
    return record_file(sequence, "")[: -len(".json")]


def put_record(folder_fd: int, new: NewRecord, linked_from: int | None = None) -> None:
    """Puts a reserved record into its place, after its signature, durably; equal files that are there stay.

    With `linked_from`, the folder of its acquisition, the files there get a second name (a hard link). Raises ChainError,
    StorageError.
    """
    origin = linked_from if new.record.type in ("acquired", "received") else None
    for name, data, kind in (
        (new.name + SIGNATURE_SUFFIX, new.signature, f"{new.record.type}.json{SIGNATURE_SUFFIX}"),
        (new.name, new.data, f"{new.record.type}.json"),
    ):
        _put(folder_fd, name, data, new, None if origin is None else (origin, kind))
        # After each of the two: a power cut must never leave a record without its signature.
        sync_folder(folder_fd, "custody records")
    remove_reservations(folder_fd, new.record.sequence)


def remove_reservations(folder_fd: int, sequence: int) -> None:
    """Removes the reservations of a number whose record is there."""
    with storing("tidy a custody folder"):
        for generation in range(1, _MOST_GENERATIONS):
            if not tidy_away(folder_fd, reservation_name(sequence, generation)):
                return


def _tidy(folder_fd: int, new: NewRecord, names: list[str]) -> None:
    """Removes temporary files, reservations of earlier numbers, and other signatures of the reserved number.

    A record's own file is never removed, nor a reservation that may still be in use.
    """
    number = _number_in_names(new.record.sequence)
    with storing("tidy a custody folder"):
        for name in names:
            if name.startswith(TEMPORARY):
                reserved = reserved_number(name)
                unwanted = reserved is None or reserved < new.record.sequence
            else:
                unwanted = name.startswith(number) and name.endswith(SIGNATURE_SUFFIX) and name != new.name + SIGNATURE_SUFFIX
            if unwanted:
                tidy_away(folder_fd, name)


def place_new_file(folder_fd: int, name: str, data: bytes, dst_dir_fd: int | None = None) -> bool:
    """Makes a whole, durable file with a name that must be free; False where it is taken. It is first written in `folder_fd`.

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
        _take_over(folder_fd, name, data)  # the signature of a record that was never written
    raise LockedError(f"somebody else writes {name}", hint=_AGAIN)


def _take_over(folder_fd: int, name: str, data: bytes) -> None:
    """Replaces a file in one step, so that another writer that completes the same reservation never finds the name missing."""
    temporary = temporary_name()
    store_new_file(folder_fd, temporary, data)
    with storing(f"write {name}"), contextlib.suppress(FileNotFoundError):
        os.rename(temporary, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)


def _link(folder_fd: int, name: str, source_fd: int, source: str) -> bool:
    """Makes a second name for a file of an acquisition; False where links are not possible, or the name is taken."""
    try:
        os.link(source, name, src_dir_fd=source_fd, dst_dir_fd=folder_fd, follow_symlinks=False)
    except OSError:
        return False  # a copy is as good; where it fails too, it raises the error
    return True


def _counts(folder_fd: int, other: NewRecord, new: NewRecord, may_sign: SignerCheck) -> bool:
    """Whether another writer's reservation counts. One that does not follow the chain can never be completed.

    One that is not signed by an authorised key was not made by a writer of this vault.
    """
    one, two = other.record, new.record
    if (one.sequence, one.previous_sha256, one.vault_id) != (two.sequence, two.previous_sha256, two.vault_id):
        return False
    if not may_sign(other):
        return False
    if one.type != "acquired" or one.acquisition is None:
        return True
    published = _published(one.acquisition)
    until = time.monotonic() + _PATIENCE_SECONDS
    while not _holds_acquired(folder_fd, published, other.data):
        if time.monotonic() >= until:
            return not _prevent(folder_fd, other.data) and _holds_acquired(folder_fd, published, other.data)
        time.sleep(_LOOK_SECONDS)  # no lock to wait for: the other writer may be on another machine
    return True


def _holds_acquired(folder_fd: int, acquisition: str, data: bytes) -> bool:
    """Whether a folder is that of the acquisition whose `acquired` record has these bytes; False where there is no folder.

    Raises StorageError where it cannot be read: then a reservation must not be treated as void.
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
    """Moves a staged acquisition aside, so that its session can never publish it; False where it is not staged.

    The item's next session finds what was stored of it there.
    """
    with opened_folder(f"../{INCOMING}", folder_fd) as incoming, storing("set an unfinished publish aside"):
        for session in names_in(incoming):
            if not _holds_acquired(incoming, f"{session}/{STAGED_ACQUISITION}", data):
                continue
            aside = secrets.token_hex(16)  # has the form of a session id
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
    """Returns the error for a number that another record has."""
    return ChainGrewError(f"somebody else has added custody record {number} meanwhile")


def is_signed_by_vault(new: NewRecord, vault_id: str, vault_key: str) -> bool:
    """Whether a record belongs to the vault's own chain and is signed with the vault's key (given by fingerprint)."""
    return signer_of(new, ChainSubject(vault_id), vault_key, low_s=False) is not None


def is_signed_for_item(
    new: NewRecord, subject: ChainSubject, vault_key: str, load_trust: Callable[[], TrustLists], *, low_s: bool
) -> bool:
    """Whether a record is about an item, and signed by the vault or by a signer that it knows.

    A retired signer is still known: a reservation from before the retirement counts, and `verify` judges the time. A revoked
    signer is not known. Raises what `load_trust` raises.
    """
    key = signer_of(new, subject, vault_key, low_s=low_s)
    if key is None or key.fingerprint == vault_key:
        return key is not None
    trust = load_trust()
    return is_listed(key, trust) and not trust.revoked.refuses(key)


def is_listed(key: PublicKey, trust: TrustLists) -> bool:
    """Whether a key is on the list of signers, at any time."""
    return any(signer.key == key for signer in trust.signers.signers)


def signer_of(new: NewRecord, subject: ChainSubject, vault_key: str, *, low_s: bool) -> PublicKey | None:
    """Returns the key that signed a record of a chain, if it may sign a record of that type; else None.

    Whether the signer of `acquired` is that of the manifest is checked elsewhere.
    """
    record = new.record
    if ChainSubject.of(record) != subject:
        return None
    if subject.item is None and SIGNERS[record.type] is not SignedBy.VAULT:
        return None
    try:
        key = verify_signature(new.signature, CUSTODY_NAMESPACE, sha512_of(new.data), low_s=low_s)
        check_signer(record, key, vault_key, key.fingerprint)
    except (SignatureError, UntrustedSignerError):
        return None
    return key
