"""Attaches timestamps to published acquisitions: stores an authority's answer beside the manifest's signature and records it.

An answer is stored once, and never replaced. It is in place before the record that names it; a crash in between leaves an answer
without a record, and running the same command again completes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from evidencesync.custody.documents import CUSTODY_NAMESPACE, CustodyRecord, Person
from evidencesync.custody.sshsig import SigningKey
from evidencesync.custody.timestamp import Request, Roots, Token, timestamp_details
from evidencesync.errors import ChainError, ChainGrewError, LockedError, MissingOrExtraError, TimestampError
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.files.disk import load_file, opened_folder, sync_folder
from evidencesync.limits import MAX_SIGNATURE, MAX_TIMESTAMP
from evidencesync.vault.heads import state_as_stated, state_head, was_stated
from evidencesync.vault.item import ItemState, VaultItem, lock_item
from evidencesync.vault.layout import MANIFEST_SIGNATURE, TIMESTAMP, TIMESTAMP_REQUEST
from evidencesync.vault.ledger import Ledger, StoredRecord, iter_records, recorded, sign_record
from evidencesync.vault.publish import complete_unfinished
from evidencesync.vault.reservations import place_new_file
from evidencesync.vault.vault import Vault

HAS_ONE: Final = "acquisition {number} has a timestamp already, and nothing is ever replaced"
_MOST_TRIES: Final = 20


@dataclass(frozen=True, slots=True)
class Who:
    """Who adds a timestamp: the key that signs the record, and the person's name."""

    signer: SigningKey
    name: str
    organisation: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An authority's answer, as exact bytes: its response, and the request that it answers, if available."""

    response: bytes
    request: bytes | None = None

    def check(self, stamped: bytes, roots: Roots | None) -> Token:
        """Returns the token after checking these bytes, the request, and the roots (where given). Raises TimestampError."""
        token = Token.decode(self.response)
        token.check_stamped(stamped)
        if self.request is not None:
            token.check_answers(Request.decode(self.request))
        if roots is not None:
            roots.check(token)
        return token


@dataclass(frozen=True, slots=True)
class Attached:
    """A timestamp that is in place."""

    token: Token
    record: StoredRecord


def _nothing() -> None:
    """Checks nothing."""


def load_stamped(item: VaultItem, number: int) -> bytes:
    """Reads the bytes that a timestamp is over: the manifest's signature. Raises MissingOrExtraError."""
    with opened_folder(item.layout.acquisition(number)) as folder:
        data = load_file(folder, MANIFEST_SIGNATURE, MAX_SIGNATURE)
    if data is None:
        raise MissingOrExtraError(f"acquisition {number} has no {MANIFEST_SIGNATURE}", hint="Run: evidencesync verify VAULT")
    return data


def load_answer(item: VaultItem, number: int) -> Answer | None:
    """Reads the answer beside the manifest's signature, without checks; None where there is no response."""
    with opened_folder(item.layout.acquisition(number)) as folder:
        response = load_file(folder, TIMESTAMP, MAX_TIMESTAMP)
        request = load_file(folder, TIMESTAMP_REQUEST, MAX_TIMESTAMP)
    return None if response is None else Answer(response, request)


def load_begun_request(item: VaultItem, number: int) -> Request | None:
    """Reads a request that was stored without its response, by a command that was cut short; None where there is none.

    It is never replaced, so only a response to it can be attached. Raises TimestampError for a request of another program, and
    where a record names the response: no other one can be attached.
    """
    if load_answer(item, number) is None and (lost := lost_file(find_record(item, number), None)) is not None:
        raise lost
    with opened_folder(item.layout.acquisition(number)) as folder:
        data = load_file(folder, TIMESTAMP_REQUEST, MAX_TIMESTAMP)
        if data is None or load_file(folder, TIMESTAMP, MAX_TIMESTAMP) is not None:
            return None
    begun = Request.decode(data)
    if begun.nonce is None or begun.encode() != data:
        raise TimestampError(
            f"acquisition {number} holds the request of another program, whose response was not stored",
            hint="Run the command again that was cut short: evidencesync timestamp attach VAULT RESPONSE --request FILE",
        )
    return begun


def is_attached(vault: Vault, item: VaultItem, number: int) -> bool:
    """Whether all of `attach` was done for an acquisition's timestamp: it is recorded, and the vault has stated that."""
    record, head = find_record(item, number), item.ledger.head()
    return record is not None and (record.record.sequence < head.sequence or was_stated(vault, item.name, head))


def find_record(item: VaultItem, number: int) -> StoredRecord | None:
    """Returns the last `timestamped` record of an acquisition."""
    return _last_record(item.ledger, number)


def lost_file(record: StoredRecord | None, answer: Answer | None) -> TimestampError | None:
    """Returns the error for an answer, or its request, that a record names and that is not there; None where nothing is lost."""
    if record is None or (answer is not None and (answer.request is not None or "request_sha256" not in record.record.details)):
        return None
    lost = "timestamp" if answer is None else "request of its timestamp"
    return TimestampError(
        f"record {record.record.sequence} of the custody chain names a {lost} that is not there",
        hint="If both were kept elsewhere, put it back: evidencesync timestamp attach VAULT RESPONSE --request FILE",
    )


def attach(
    vault: Vault,
    item: VaultItem,
    number: int,
    answer: Answer,
    who: Who,
    roots: Roots | None,
    *,
    at_ns: int,
    before_writing: Callable[[], None] = _nothing,
) -> Attached:
    """Checks an authority's answer, stores it durably, and appends the signed record that names it.

    `before_writing` is called under the item's lock, and may raise an error about the chains.

    1. The answer fits the manifest's signature.  2. The record's signer is trusted for records now, and has that role.  3. Under
    the item's lock: the chain is consistent and as the vault states it, and there is no other answer yet.  4. Both files appear,
    whole, and are durable.  5. The record is appended.  6. The vault states the item's new head, and so the time by which the
    record was there. A second call with the same answer completes what is missing of 4 to 6.
    Raises TimestampError, UntrustedSignerError, ChainError, LockedError, StorageError, NoSpaceError.
    """
    token = answer.check(load_stamped(item, number), roots)  # 1
    key = who.signer.public_key
    trust = vault.load_trust()
    principal = trust.principal_for(key, CUSTODY_NAMESPACE, at_ns)  # 2
    trust.check_role(key, ("custody",), item.name.case.text, at_ns)
    details = timestamp_details(token, answer.response, answer.request)
    with lock_item(item):
        for _ in range(_MOST_TRIES):
            complete_unfinished(item)  # 3
            state = state_as_stated(vault, item)
            before_writing()
            known = known_record(item, number, details)
            store_answer(item, number, answer, is_recorded=known is not None)  # 4
            if known is not None:
                state_head(vault, item.name, item.ledger.head(), at_ns=at_ns, may_be_stated=True)
                return Attached(token, known)
            actor = Person(name=who.name, principal=principal, key=key.fingerprint, organisation=who.organisation)
            record = _timestamped(item, number, state, actor, details, at_ns)
            try:
                item.ledger.append(*sign_record(record, who.signer))  # 5
            except ChainGrewError:
                continue  # another writer's record was completed first; it may be this one
            with recorded(record.sequence):
                state_head(vault, item.name, item.ledger.head(), at_ns=at_ns)  # 6
                stored = known_record(item, number, details)
            if stored is None:
                raise ChainError("the record of a timestamp was written, and is not there")
            return Attached(token, stored)
    raise LockedError("others add to this custody chain all the time", hint="Run the same command again.")


def known_record(item: VaultItem, number: int, details: dict[str, str]) -> StoredRecord | None:
    """Returns the record of this timestamp, if it has one already. Raises TimestampError where there is another timestamp."""
    known = _last_record(item.ledger, number)
    if known is not None and known.record.details != details:
        raise TimestampError(HAS_ONE.format(number=number))
    return known


def _timestamped(
    item: VaultItem, number: int, state: ItemState, actor: Person, details: dict[str, str], at_ns: int
) -> CustodyRecord:
    return CustodyRecord(
        format="evidencesync-custody/1",
        vault_id=item.vault_id,
        sequence=state.head_sequence + 1,
        type="timestamped",
        time=format_utc_time(at_ns),
        case=item.name.case.text,
        item=item.name.item.text,
        actor=actor,
        previous_sha256=state.head_sha256,
        details=details,
        acquisition=number,
        manifest_sha256=stated_manifest(item.ledger, number),
    )


def store_answer(item: VaultItem, number: int, answer: Answer, *, is_recorded: bool) -> None:
    """Puts the files in place: the request first, so that a response is never without it. Raises TimestampError.

    Where a record names these very bytes, a file that was lost is put back, whichever it is.
    They are written in the custody folder first, where leftovers are recognised by their names and removed.
    """
    with opened_folder(item.layout.acquisition(number)) as folder, opened_folder(item.layout.custody) as custody:
        wanted = {TIMESTAMP_REQUEST: answer.request, TIMESTAMP: answer.response}
        there = {name: load_file(folder, name, MAX_TIMESTAMP) for name in wanted}
        if any(found not in (None, wanted[name]) for name, found in there.items()) or (
            not is_recorded and there[TIMESTAMP] is not None and answer.request is not None and there[TIMESTAMP_REQUEST] is None
        ):
            raise TimestampError(HAS_ONE.format(number=number))
        for name, data in wanted.items():
            if data is None or there[name] is not None:
                continue
            if not place_new_file(custody, name, data, folder) and load_file(folder, name, MAX_TIMESTAMP) != data:
                raise TimestampError(HAS_ONE.format(number=number))
            sync_folder(folder, "an acquisition's folder")


def _last_record(ledger: Ledger, number: int) -> StoredRecord | None:
    found = None
    for stored in iter_records(ledger):
        if stored.record.type == "timestamped" and stored.record.acquisition == number:
            found = stored
    return found


def stated_manifest(ledger: Ledger, number: int) -> str:
    """Returns the digest of the acquisition's manifest that the chain states. Raises ChainError."""
    for stored in iter_records(ledger):
        record = stored.record
        if record.type == "received" and record.acquisition == number and record.manifest_sha256 is not None:
            return record.manifest_sha256
    raise ChainError(f"the custody chain does not record acquisition {number}", hint="Run: evidencesync verify VAULT")
