"""Publishes a staging area as an acquisition that never changes again, in steps of which one is the commit.

After a crash between any two steps the state is one of three: staging and nothing published; a published acquisition whose
records are not in the chain yet (an *unfinished publish*, which `complete_unfinished` ends); or all of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from hashlib import sha512
from pathlib import Path
from typing import Final

import msgspec

from evidencesync.custody.chain import ChainSubject, follows
from evidencesync.custody.documents import CUSTODY_NAMESPACE, CustodyRecord
from evidencesync.custody.record import decode_record
from evidencesync.custody.sshsig import verify_signature
from evidencesync.errors import (
    ChainError,
    ChainGrewError,
    InternalError,
    MissingOrExtraError,
    SealedError,
    SignatureError,
    hinting,
)
from evidencesync.evidence.digest import sha256_of
from evidencesync.files.disk import load_file, opened_folder, remove_if_there, store_new_file, storing, sync_folder
from evidencesync.files.folders import remove_tree
from evidencesync.files.placing import place_folder
from evidencesync.limits import MAX_RECORD, MAX_SIGNATURE
from evidencesync.vault.item import NO_MANIFEST, ItemState, VaultItem
from evidencesync.vault.layout import (
    ACQUIRED,
    ACQUIRED_SIGNATURE,
    ACQUISITIONS,
    CUSTODY,
    RECEIVED,
    RECEIVED_SIGNATURE,
    SIGNED_DOCUMENTS,
    acquisition_folder,
    record_file,
)
from evidencesync.vault.ledger import Ledger, iter_records
from evidencesync.vault.reservations import NewRecord, put_record
from evidencesync.vault.staging import ACQUISITION, Staging
from evidencesync.vault.writer import locked_for_writing, publishing

Fault = Callable[[str], None]
"""Called with the name of each step when it is done; for tests that kill the process there."""

# In order. The commit is "renamed": before it nothing is published, after it everything.
STEPS: Final = (
    "checked",
    "documents-written",
    "documents-synced",
    "reserved",
    "renamed",
    "parents-synced",
    "acquired-linked",
    "received-linked",
    "custody-synced",
    "staging-removed",
)
_NOT_COMPLETED: Final = (
    "Acquisition {number} is published, and its records are not in the custody chain yet. "
    "Put back from a backup what is damaged; until then, push into another item."
)
_RECORDS: Final = ((ACQUIRED, ACQUIRED_SIGNATURE, "acquired"), (RECEIVED, RECEIVED_SIGNATURE, "received"))


class PublishedAcquisition(msgspec.Struct, frozen=True):
    """A published acquisition."""

    number: int
    path: Path


def publish(staging: Staging, documents: Mapping[str, bytes], fault: Fault | None = None) -> PublishedAcquisition:
    """Publishes a staging area that was finished, synced and read back, and whose documents are signed.

    `documents` are the bytes of `layout.SIGNED_DOCUMENTS`, by name. When this returns, everything is durable, and only
    then may it be acknowledged. After an error before the commit, staging is as it was except for the documents.
    Raises ChainError when the records do not follow the chain's head, SealedError, NameClashError, NoSpaceError,
    StorageError.
    """
    reached = fault or _go_on
    item = staging.item
    with opened_folder(item.layout.root) as root, _case_lock(item):
        number = _check(staging, documents)  # 1. Nothing has changed since the documents were made.
        reached("checked")
        _write_documents(staging.acquisition_fd, documents)  # 2. All bytes are in staging.
        reached("documents-written")
        sync_folder(staging.acquisition_fd, "the staged acquisition")
        reached("documents-synced")
        with opened_folder(ACQUISITIONS, root) as acquisitions:
            item.ledger.reserve(
                NewRecord.of(documents[ACQUIRED], documents[ACQUIRED_SIGNATURE])
            )  # 3. No other record has its number.
            reached("reserved")
            _commit(staging, acquisitions, number)  # 4. One rename: before it nothing is published, after it everything.
            with committed(number):
                reached("renamed")
                _sync_parents(root, acquisitions, staging.session_fd)  # 5. The rename is durable before any record.
                reached("parents-synced")
                _link_records(item, root, number, reached)  # 6. The two records join the chain.
    staging.close()
    with committed(number):
        _remove_staging(item, staging.session)  # 7. Nothing is left over.
    reached("staging-removed")
    return PublishedAcquisition(number, item.layout.acquisition(number))


def complete_unfinished(item: VaultItem) -> int | None:
    """Completes a publish that a crash interrupted after its commit; returns its number, or None when there was none.

    Every writer calls this first, under the item's lock. What is published is durable afterwards, so that it may be
    acknowledged. Raises ChainError when the last acquisition cannot be one that this vault was publishing. A power cut leaves no
    damaged record there: each was durable before the commit. So where the chain lacks one that is damaged, gone or unreadable,
    nobody knows what the chain's next record is: MalformedDocumentError, MissingOrExtraError, StorageError.
    """
    item.require_lock()
    with publishing(item.vault):
        return complete_while_none_publishes(item)


def complete_while_none_publishes(item: VaultItem) -> int | None:
    """Does what `complete_unfinished` does, where nobody else publishes, or completes a publish, meanwhile."""
    numbers = item.acquisitions()
    if not numbers:
        return None
    number = numbers[-1]
    with opened_folder(item.layout.root) as root:
        with opened_folder(ACQUISITIONS, root) as acquisitions:
            sync_folder(acquisitions, "acquisitions")
        try:
            linked = _link_records(item, root, number, _go_on, completing=True)
        except (SignatureError, MissingOrExtraError) as error:
            error.hint = _NOT_COMPLETED.format(number=number)
            raise
    with contextlib.suppress(*NO_MANIFEST):  # the session is unknown: `clean` removes its staging
        _remove_staging(item, item.header(number).session)
    return number if linked else None


def _go_on(step: str) -> None:
    """Injects no fault."""


def committed(number: int) -> AbstractContextManager[None]:
    """Gives errors after the commit a hint that says so: the usual hints say that nothing was published."""
    return hinting(f"Acquisition {number} is published; run the same command again to complete its custody records.")


@contextlib.contextmanager
def _case_lock(item: VaultItem) -> Iterator[None]:
    """Locks a case's folder, so that two items cannot use it for two different case numbers at the same time."""
    with locked_for_writing(item.vault, item.vault.case(item.name.case.folder), f"the case of {item.name}", wait=True):
        yield


def _check(staging: Staging, documents: Mapping[str, bytes]) -> int:
    item = staging.item
    item.require_lock()
    staging.require_finished()
    if documents.keys() != SIGNED_DOCUMENTS:
        raise InternalError("publish needs exactly the signed documents of an acquisition")
    item.check_titles()
    state = item.state()
    if state.sealed:
        raise SealedError(f"item {item.name} was sealed")
    acquired, received = decode_record(documents[ACQUIRED]), decode_record(documents[RECEIVED])
    if acquired.sequence <= state.head_sequence:
        raise ChainGrewError(f"the custody chain of {item.name} has grown since the acquisition was signed")
    _check_records(item, state, acquired, received)
    if not follows(received, acquired.sequence, sha256_of(documents[ACQUIRED]).hex()):
        raise ChainError("the received record does not follow the acquired record")
    _check_vault_signature(item, documents[RECEIVED], documents[RECEIVED_SIGNATURE])
    return state.next_acquisition


def _check_records(item: VaultItem, state: ItemState, acquired: CustodyRecord, received: CustodyRecord) -> None:
    for record, kind in ((acquired, "acquired"), (received, "received")):
        if (record.type, ChainSubject.of(record), record.acquisition) != (kind, _subject(item), state.next_acquisition):
            raise ChainError(f"the {kind} record is about something else than the item's next acquisition")
    if not follows(acquired, state.head_sequence, state.head_sha256):
        raise ChainError("the acquired record does not follow the custody chain's head")


def _subject(item: VaultItem) -> ChainSubject:
    return ChainSubject(item.vault_id, item.name.case.text, item.name.item.text)


def _write_documents(acquisition_fd: int, documents: Mapping[str, bytes]) -> None:
    for name in sorted(documents):
        with storing(f"write {name}"):
            remove_if_there(acquisition_fd, name)  # from an attempt that failed half-way
        store_new_file(acquisition_fd, name, documents[name])


def _commit(staging: Staging, acquisitions_fd: int, number: int) -> None:
    name = acquisition_folder(number)
    with storing("publish the acquisition"):
        try:
            place_folder(ACQUISITION, name, src_dir_fd=staging.session_fd, dst_dir_fd=acquisitions_fd)
        except FileExistsError:
            raise ChainGrewError(f"acquisition {number} is there already") from None
        except FileNotFoundError:
            raise ChainGrewError("another writer of the item has set the staged acquisition aside") from None


def _sync_parents(root_fd: int, acquisitions_fd: int, session_fd: int) -> None:
    sync_folder(acquisitions_fd, "acquisitions")
    sync_folder(session_fd, "the staging area")
    sync_folder(root_fd, "the item's folder")


def _link_records(item: VaultItem, root_fd: int, number: int, reached: Fault, *, completing: bool = False) -> bool:
    """Puts an acquisition's two records into the chain, where they are missing; returns whether any was missing.

    The signature goes first: a record in the chain always has one. `completing`: an earlier run may have linked them before;
    of a record that was linked, the acquisition's own copy is not needed: `verify` reports its damage.
    """
    linked = False
    with (
        opened_folder(ACQUISITIONS, root_fd) as acquisitions,
        opened_folder(acquisition_folder(number), acquisitions) as acquisition,
        opened_folder(CUSTODY, root_fd) as custody,
    ):
        for name, signature_name, kind in _RECORDS:
            try:
                new = NewRecord.of(*_load_record(acquisition, name, signature_name))
            except NO_MANIFEST:
                if completing and _is_linked(item, number, kind):
                    continue
                raise
            if load_file(custody, record_file(new.record.sequence, kind), MAX_RECORD) != new.data:
                _check_next(item, new.record, number, kind)
                if completing:
                    _check_never_linked(item, new.record)
                    _check_vault_signed(item, acquisition)
                item.ledger.reserve(new)
                put_record(custody, new, linked_from=acquisition)
                linked = True
            reached(f"{kind}-linked")
        sync_folder(custody, "custody records")
    reached("custody-synced")
    return linked


def _is_linked(item: VaultItem, number: int, kind: str) -> bool:
    """Whether a record of an acquisition has joined the chain, by names alone: whoever adds to the chain reads it."""
    return [file.kind for file in item.ledger.files()].count(kind) >= number


def _load_record(acquisition_fd: int, name: str, signature_name: str) -> tuple[bytes, bytes]:
    data = load_file(acquisition_fd, name, MAX_RECORD)
    signature = load_file(acquisition_fd, signature_name, MAX_SIGNATURE)
    if data is None or signature is None:
        raise MissingOrExtraError(f"a published acquisition lacks {name} or its signature")
    return data, signature


def _check_next(item: VaultItem, record: CustodyRecord, number: int, kind: str) -> None:
    head = item.ledger.head()
    if not follows(record, head.sequence, head.sha256):
        raise ChainError(f"the {kind} record of acquisition {number} does not follow the custody chain of {item.name}")
    if (record.type, ChainSubject.of(record), record.acquisition) != (kind, _subject(item), number):
        raise ChainError(f"the {kind} record of acquisition {number} is about something else")


def _check_never_linked(item: VaultItem, record: CustodyRecord) -> None:
    """Checks that the vault's own chain has not stated this record: a stated record was linked, and no crash unlinks it."""
    place = item.name.place
    for stored in iter_records(Ledger(item.vault.custody)):
        stated = stored.record.details.get(place, "").partition(" ")[0] if stored.record.type == "heads" else ""
        if stated.isdecimal() and int(stated) >= record.sequence:
            raise ChainError(
                f"custody record {record.sequence} of {item.name} was removed: the vault's own chain has stated it",
                hint="Nothing is added to a history from which something was removed. Run: evidencesync verify VAULT",
            )


def _check_vault_signed(item: VaultItem, acquisition_fd: int) -> None:
    """Checks that the vault has signed both records of an acquisition. Else somebody put it there, and it joins no chain."""
    acquired, signature = _load_record(acquisition_fd, ACQUIRED, ACQUIRED_SIGNATURE)
    received, of_vault = _load_record(acquisition_fd, RECEIVED, RECEIVED_SIGNATURE)
    _check_vault_signature(item, received, of_vault)
    if not follows(decode_record(received), decode_record(acquired).sequence, sha256_of(acquired).hex()):
        raise ChainError("the received record of an acquisition does not follow its acquired record")
    signer = verify_signature(signature, CUSTODY_NAMESPACE, sha512(acquired).digest())
    if signer.fingerprint != decode_record(acquired).actor.key:
        raise SignatureError("an acquired record is not signed by the key that it names")


def _check_vault_signature(item: VaultItem, data: bytes, signature: bytes) -> None:
    key = verify_signature(signature, CUSTODY_NAMESPACE, sha512(data).digest())
    if key.fingerprint != item.vault_key:
        raise SignatureError("a received record is not signed by this vault's key")


def _remove_staging(item: VaultItem, session: str) -> None:
    with opened_folder(item.layout.incoming) as incoming:
        remove_tree(incoming, session)
