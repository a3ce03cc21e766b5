"""Timestamps of published acquisitions: what an authority is asked about, and its answers beside the manifest's signature.

An answer is stored once, and never over another. It is in place when the record that names it is; a crash in between leaves
an answer without a record, which the same command run again completes.
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
from evidencesync.vault.claims import place_new_file
from evidencesync.vault.heads import state_head
from evidencesync.vault.item import ItemState, VaultItem, lock_item
from evidencesync.vault.layout import MANIFEST_SIGNATURE, TIMESTAMP, TIMESTAMP_REQUEST
from evidencesync.vault.ledger import Ledger, StoredRecord, iter_records, recorded, sign_record
from evidencesync.vault.publish import complete_unfinished
from evidencesync.vault.vault import Vault

_MOST_TRIES: Final = 20


@dataclass(frozen=True, slots=True)
class Who:
    """Who adds a timestamp: the key that signs the record, and the person's name."""

    signer: SigningKey
    name: str
    organisation: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What an authority said, as exact bytes: its response, and the request that it answers where that is at hand."""

    response: bytes
    request: bytes | None = None

    def check(self, stamped: bytes, roots: Roots | None) -> Token:
        """The token, which fits these bytes, the request, and (where they are given) the roots. Raises TimestampError."""
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
    """No objection."""


def load_stamped(item: VaultItem, number: int) -> bytes:
    """The bytes that a timestamp is over: the manifest's signature. Raises MissingOrExtraError."""
    with opened_folder(item.layout.acquisition(number)) as folder:
        data = load_file(folder, MANIFEST_SIGNATURE, MAX_SIGNATURE)
    if data is None:
        raise MissingOrExtraError(f"acquisition {number} has no {MANIFEST_SIGNATURE}", hint="Run: evidencesync verify VAULT")
    return data


def load_answer(item: VaultItem, number: int) -> Answer | None:
    """What lies beside the manifest's signature; None where there is no response. Nothing of it is checked."""
    with opened_folder(item.layout.acquisition(number)) as folder:
        response = load_file(folder, TIMESTAMP, MAX_TIMESTAMP)
        request = load_file(folder, TIMESTAMP_REQUEST, MAX_TIMESTAMP)
    return None if response is None else Answer(response, request)


def find_record(item: VaultItem, number: int) -> StoredRecord | None:
    """The last `timestamped` record of an acquisition."""
    return _last_record(item.ledger, number)


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

    `before_writing` is called under the item's lock, and may object to the chains as they are.

    1. The answer fits the manifest's signature.  2. Whoever signs the record is trusted for records now.  3. Under the item's
    lock: the chain holds together, and there is no other answer yet.  4. Both files appear, whole, and are durable.  5. The
    record is appended.  6. The vault states the item's new head, and so since when the record has been there. Done again with the
    same answer, what is missing of 4 to 6 is made up for.
    Raises TimestampError, UntrustedSignerError, ChainError, LockedError, StorageError, NoSpaceError.
    """
    token = answer.check(load_stamped(item, number), roots)  # 1
    key = who.signer.public_key
    principal = vault.load_trust().principal_for(key, CUSTODY_NAMESPACE, at_ns)  # 2
    details = timestamp_details(token, answer.response, answer.request)
    with lock_item(item):
        for _ in range(_MOST_TRIES):
            complete_unfinished(item)  # 3
            state = item.state()
            before_writing()
            known = _known(item, number, details)
            _store(item, number, answer)  # 4
            if known is not None:
                state_head(vault, item.name, item.ledger.head(), at_ns=at_ns, may_be_stated=True)
                return Attached(token, known)
            actor = Person(name=who.name, principal=principal, key=key.fingerprint, organisation=who.organisation)
            record = _timestamped(item, number, state, actor, details, at_ns)
            try:
                item.ledger.append(*sign_record(record, who.signer))  # 5
            except ChainGrewError:
                continue  # a record that was begun before has been completed; it may be the very one
            with recorded(record.sequence):
                state_head(vault, item.name, item.ledger.head(), at_ns=at_ns)  # 6
                stored = _known(item, number, details)
            if stored is None:
                raise ChainError("the record of a timestamp was written, and is not there")
            return Attached(token, stored)
    raise LockedError("others add to this custody chain all the time", hint="Run the same command again.")


def _known(item: VaultItem, number: int, details: dict[str, str]) -> StoredRecord | None:
    """The record of this very timestamp, where it has one already. Raises TimestampError where it is that of another."""
    known = _last_record(item.ledger, number)
    if known is not None and known.record.details != details:
        raise TimestampError(f"acquisition {number} has a timestamp already, and nothing is ever replaced")
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
        manifest_sha256=_manifest_sha256(item.ledger, number),
    )


def _store(item: VaultItem, number: int, answer: Answer) -> None:
    """Puts the files in place: the request first, so that a response is never without it. Raises TimestampError.

    They are written in the custody folder, where an interrupted change is known by its name and tidied up.
    """
    with opened_folder(item.layout.acquisition(number)) as folder, opened_folder(item.layout.custody) as custody:
        wanted = {TIMESTAMP_REQUEST: answer.request, TIMESTAMP: answer.response}
        there = {name: load_file(folder, name, MAX_TIMESTAMP) for name in wanted}
        if any(found not in (None, wanted[name]) for name, found in there.items()) or (
            there[TIMESTAMP] is not None and answer.request is not None and there[TIMESTAMP_REQUEST] is None
        ):
            raise TimestampError(f"acquisition {number} has a timestamp already, and nothing is ever replaced")
        for name, data in wanted.items():
            if data is None or there[name] is not None:
                continue
            if not place_new_file(custody, name, data, folder) and load_file(folder, name, MAX_TIMESTAMP) != data:
                raise TimestampError(f"acquisition {number} has a timestamp already, and nothing is ever replaced")
            sync_folder(folder, "an acquisition's folder")


def _last_record(ledger: Ledger, number: int) -> StoredRecord | None:
    found = None
    for stored in iter_records(ledger):
        if stored.record.type == "timestamped" and stored.record.acquisition == number:
            found = stored
    return found


def _manifest_sha256(ledger: Ledger, number: int) -> str:
    """What the chain says of the acquisition's manifest. Raises ChainError."""
    for stored in iter_records(ledger):
        record = stored.record
        if record.type == "received" and record.acquisition == number and record.manifest_sha256 is not None:
            return record.manifest_sha256
    raise ChainError(f"the custody chain does not record acquisition {number}", hint="Run: evidencesync verify VAULT")
