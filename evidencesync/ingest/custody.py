"""Serves custody requests at the vault's end: shows an item's chain, and appends the records that an examiner signs.

The item's lock is held only while a record is appended, not while a person thinks or touches a security key. So the chain may
have grown when a record arrives: then the new records are shown, and the examiner signs again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from evidencesync.connection.event_log import NO_EVENTS, Events
from evidencesync.connection.sender_connection import SenderConnection
from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.documents import CUSTODY_NAMESPACE, CustodyRecord
from evidencesync.custody.record import check_signer, decode_record
from evidencesync.custody.seal_proposals import SealProposal
from evidencesync.custody.sshsig import verify_signature
from evidencesync.custody.statements import ItemHistory, check_recipient
from evidencesync.errors import (
    ChainGrewError,
    LimitExceededError,
    LinkLostError,
    LockedError,
    MalformedDocumentError,
    NeedsTwoError,
    NotAllowedError,
    NotThereError,
    OtherWriterError,
    ProtocolError,
    SealedError,
    UntrustedSignerError,
    VaultKeyChangedError,
)
from evidencesync.evidence.digest import Sha256Digest, sha256_of, sha512_of
from evidencesync.ingest.admission import Admitted, record_batches, show_since
from evidencesync.ingest.transfers import add_holder
from evidencesync.limits import MAX_DETAILS, MAX_FRAME_BODY
from evidencesync.protocol.failures import error_of
from evidencesync.protocol.framing import DATA_FRAME, decode_message
from evidencesync.protocol.messages import Append, Attach, Failure, Records, Standing
from evidencesync.vault.absent import SEE_LIST
from evidencesync.vault.heads import require_as_stated, state_head
from evidencesync.vault.item import VaultItem
from evidencesync.vault.ledger import iter_records, recorded
from evidencesync.vault.publish import complete_unfinished
from evidencesync.vault.vault import Vault

if TYPE_CHECKING:
    from evidencesync.ingest.stamping import GivenTimestamp

MOST_APPENDS: Final = 16
"""Records that a client may send over one link. An honest one sends one, and one more for each record that came in between."""
_LOCK_SECONDS: Final = 3.0  # long enough for another append; a transfer takes longer, and is not waited for
_POLL_SECONDS: Final = 0.05
_OVERHEAD: Final = 64  # what a record and its signature take in a message besides their bytes


def serve_custody(
    connection: SenderConnection, vault: Vault, admitted: Admitted, now: Callable[[], int], events: Events = NO_EVENTS
) -> None:
    """Shows the item's chain, and appends the records that the examiner sends, until the examiner closes the link.

    An examiner that knows records of the vault's own chain is first shown the later ones.

    Raises NotThereError for an item without a chain, and the error with which a record is refused: then it was not appended.
    """
    item, own = _open_item(vault, admitted), vault.signer.public_key
    if not item.ledger.files():
        require_as_stated(vault, item.name, item.ledger)
        raise NotThereError(f"the vault has no custody records of {item.name}", hint="A chain begins with an acquisition.")
    for records in show_since(vault.ledger, admitted.vault_seen) if admitted.vault_seen else ():
        connection.send(records)
    try:
        shown = _show(connection, item, admitted, 0)
    except MalformedDocumentError:  # where the vault's own chain states the record, the chain is not as it was
        require_as_stated(vault, item.name, item.ledger)
        raise
    for _ in range(MOST_APPENDS):
        append = _receive(connection)
        if append is None:
            return
        if vault.signer.public_key != own:  # a person has thought for long; of the new key, the examiner's end knows nothing
            raise VaultKeyChangedError("the vault's key was changed meanwhile", hint="Run the same command again.")
        if isinstance(append, Attach) and not append.record:
            _put_back(vault, item, admitted, append, now)
        else:
            _append(vault, item, admitted, append, now)
        events.record("appended")
        shown = _show(connection, item, admitted, shown)
    raise LimitExceededError(f"more than {MOST_APPENDS} records were handed in over one link")


def _open_item(vault: Vault, admitted: Admitted) -> VaultItem:
    """Opens the item. Who is bound to some cases is not told of others, which have nearly the same number, or the same folder."""
    try:
        return vault.item(admitted.name)
    except NotThereError as error:
        if admitted.grant.cases is None:
            raise
        raise NotThereError(f"the vault has no item {admitted.name}", hint=SEE_LIST) from error


def _receive(connection: SenderConnection) -> Append | Attach | None:
    """Returns the next record; None when the examiner has closed the link."""
    try:
        frame_type, body = next(connection.frames())
    except LinkLostError:
        return None
    message = decode_message(frame_type, body) if frame_type != DATA_FRAME else None
    if isinstance(message, Failure):
        raise error_of(message)
    if not isinstance(message, Append | Attach):
        raise ProtocolError("the message Append was expected")
    return message


# --- Showing -----------------------------------------------------------------------------------------------------------


def _show(connection: SenderConnection, item: VaultItem, admitted: Admitted, shown: int) -> int:
    """Sends the chain's length and head, and its records after the first `shown`; returns its length."""
    files = item.ledger.files()
    head = Sha256Digest(bytes.fromhex(item.ledger.load(files[-1]).sha256)) if files else None
    connection.send(Standing(admitted.principal, len(files), head))
    for records in record_batches(item.ledger, files[shown:], MAX_FRAME_BODY - _OVERHEAD, _OVERHEAD):
        connection.send(records)
    if len(files) <= shown:
        connection.send(Records(shown + 1, [], more=False))
    return len(files)


# --- Appending ---------------------------------------------------------------------------------------------------------


def _append(vault: Vault, item: VaultItem, admitted: Admitted, append: Append | Attach, now: Callable[[], int]) -> None:
    """Appends a record, durably. Does nothing where the chain has grown since the record was signed.

    1. It is a record in the one strict form, and bounded.
    2. It is of a type that an examiner signs, and comes with the timestamp that it names, which else would be missing for ever.
    3. The key that opened the session signed it, under its own principal, is trusted for custody records now, and has that role.
    4. It follows the head of this item's chain, which is as the vault has stated it.
    5. The item is not sealed for it, its statements about hand-overs and corrections hold, and a hand-over is to a known
       principal. What a timestamp's record names is in place, and durable, before the record.
    6. The vault states the new head in its own chain: so there is a time by which the record was there.

    Raises MalformedDocumentError, LimitExceededError, SignatureError, UntrustedSignerError, ChainError, SealedError,
    NotThereError, LockedError, TimestampError.
    """
    record = decode_record(append.record)  # 1
    if len(record.details) > MAX_DETAILS:
        raise LimitExceededError(f"a record has {len(record.details)} details; the limit is {MAX_DETAILS}")
    check_signer(record, admitted.key, item.vault_key, None)  # 2
    if (record.type == "timestamped") is not isinstance(append, Attach):
        raise NotThereError(
            f"custody record {record.sequence} is about a timestamp that the vault was not given with it",
            hint="A timestamp is attached by: evidencesync timestamp attach VAULT RESPONSE",
        )
    with _locked(item):
        at_ns = now()  # one moment for 3 and 6: the trust may change in between, and the record was there when it was trusted
        _check_signature(vault, admitted, record, append, at_ns)  # 3
        history = _read_history(item)
        require_as_stated(vault, item.name, item.ledger)
        if _is_late(record, history):
            if history.facts().head_sha256 == sha256_of(append.record).hex():
                _state_head(vault, item, record, at_ns, may_be_stated=True)  # 6: a crash may have come between append and it
            return
        if history.facts().sealed and record.type == "sealed":
            raise SealedError(f"item {item.name} was sealed before", hint="It can still be noted, corrected and handed over.")
        proposal = history.statements.seals.find(record.details)
        history.add(append.record)  # 4
        if history.violations and history.violations[-1].record == record.sequence:  # 5
            raise history.violations[-1].error()
        if record.type == "sealed":
            _require_two(vault, proposal, at_ns)
        if record.type == "handed-over":
            check_recipient(record.details, vault.load_trust(), at_ns)
        if isinstance(append, Attach):
            _attached(item, append).store(item, record)
        try:
            item.ledger.append(append.record, append.signature)
        except ChainGrewError:
            return  # where no lock holds (some network file systems): the chain has grown, as for a late record
        _state_head(vault, item, record, at_ns)  # 6


def _put_back(vault: Vault, item: VaultItem, admitted: Admitted, attach: Attach, now: Callable[[], int]) -> None:
    """Completes a timestamp that the chain records already: its files, and that the vault has stated the record. Appends nothing.

    Raises UntrustedSignerError, ChainError, NotThereError, LockedError, TimestampError.
    """
    with _locked(item):
        at_ns = now()
        _check_may_write(vault, admitted, at_ns)
        _read_history(item)
        require_as_stated(vault, item.name, item.ledger)
        _attached(item, attach).put_back(item)
        state_head(vault, item.name, item.ledger.head(), at_ns=at_ns, may_be_stated=True)


def _attached(item: VaultItem, attach: Attach) -> GivenTimestamp:
    from evidencesync.ingest.stamping import GivenTimestamp  # what reads timestamps, no other record needs

    return GivenTimestamp.of(item, attach)


def _check_signature(vault: Vault, admitted: Admitted, record: CustodyRecord, append: Append | Attach, at_ns: int) -> None:
    message = sha512_of(append.record)
    if verify_signature(append.signature, CUSTODY_NAMESPACE, message, low_s=vault.low_s) != admitted.key:
        raise UntrustedSignerError("a record is signed by another key than the one that opened the session")
    if record.actor.principal != admitted.principal:
        raise UntrustedSignerError("a record names another signer than the one who opened the session")
    _check_may_write(vault, admitted, at_ns)


def _check_may_write(vault: Vault, admitted: Admitted, at_ns: int) -> None:
    trust = vault.load_trust()
    trust.check_new(admitted.principal, admitted.key, CUSTODY_NAMESPACE, at_ns)
    trust.check_role(admitted.key, ("custody",), admitted.name.case.text, at_ns)


def _require_two(vault: Vault, proposal: SealProposal | None, at_ns: int) -> None:
    """Checks that a seal has two people, where the vault demands them. `proposal`: what it consents to, by another person.

    Raises NeedsTwoError, and NotAllowedError for a proposal that has lapsed, or by a key that was revoked since.
    """
    trust = vault.load_trust()
    if proposal is None:
        if trust.roles is not None and "seal" in (trust.roles.two_person or ()):
            raise NeedsTwoError("the vault demands two people to seal an item")
        return
    if at_ns >= proposal.lapses_ns:
        raise NotAllowedError(f"the proposal in record {proposal.record} has lapsed", hint="Propose it again.")
    if any(one.key.fingerprint == proposal.key and trust.revoked.refuses(one.key) for one in trust.signers.signers):
        raise NotAllowedError(
            f"the key that signed the proposal in record {proposal.record} was revoked", hint="Propose it again."
        )


def _read_history(item: VaultItem) -> ItemHistory:
    """Reads the chain, after completing a publish that was interrupted. Raises ChainError where it is broken."""
    history = _load_history(item)
    facts = history.facts()
    published = item.acquisitions()
    if facts.unfinished is not None or (published and published[-1] > facts.acquisitions):
        complete_unfinished(item)
        history = _load_history(item)
    return history


def _load_history(item: VaultItem) -> ItemHistory:
    history = ItemHistory(ChainSubject(item.vault_id, item.name.case.text, item.name.item.text))
    for stored in iter_records(item.ledger):
        history.add(stored.data)
    return history


def _is_late(record: CustodyRecord, history: ItemHistory) -> bool:
    """Returns whether a record follows one that was the head before, and is not the head any more."""
    facts = history.facts()
    before = record.sequence - 1
    return before < facts.length and (before == 0 or facts.holds(before, record.previous_sha256 or ""))


def _state_head(vault: Vault, item: VaultItem, record: CustodyRecord, at_ns: int, *, may_be_stated: bool = False) -> None:
    with recorded(record.sequence):
        state_head(vault, item.name, item.ledger.head(), at_ns=at_ns, may_be_stated=may_be_stated)


@contextlib.contextmanager
def _locked(item: VaultItem) -> Iterator[None]:
    """Holds the item's lock, and waits up to _LOCK_SECONDS for another append. Raises LockedError."""
    until = time.monotonic() + _LOCK_SECONDS
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(item.locked())
                break
            except OtherWriterError:
                raise
            except LockedError as locked:
                if time.monotonic() >= until:
                    add_holder(locked, item.layout)
                    raise
                time.sleep(_POLL_SECONDS)  # a folder lock has no timeout, so it is polled
        yield
