"""States the heads of items' chains in the vault's own chain, and holds the chains to what is stated or remembered of them.

To cut the end off an item's chain, or to remove an item, without a trace, one then has to cut the vault's own chain as well,
with everything it states about later items. Each publish states the item's new head before it is acknowledged: one record,
whatever the vault holds. All heads are stated when the trust changes and when the index is rebuilt.

Commands that show what there is ask this before they show it: what was removed from a vault must not look as if it had never
been there. It is cheap and no verification: links and signatures are checked by `verify` alone. Read the statements first and
the chain afterwards: then a push that ends meanwhile adds to the chain, and nothing seems to be missing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Final

from evidencesync.errors import (
    ChainError,
    ForkedError,
    MalformedDocumentError,
    MissingOrExtraError,
    RolledBackError,
    SignatureError,
    StorageError,
)
from evidencesync.evidence.identity import ItemName
from evidencesync.files.disk import is_there
from evidencesync.vault.catalog import case_folders, item_folders
from evidencesync.vault.item import ItemState, VaultItem
from evidencesync.vault.layout import ItemLayout
from evidencesync.vault.ledger import ChainHead, Ledger, RecordFile, iter_records, sign_record
from evidencesync.vault.stated import StatedHead, readable_statements, stated_of
from evidencesync.vault.trust import record_upon
from evidencesync.vault.vault import Vault
from evidencesync.vault.writer import locked_for_writing

_ITEMS_PER_RECORD: Final = 2000  # about a third of the largest record
_WHAT: Final = "the vault's custody chain"
_LOOKED_BACK: Final = 100  # records in which a statement from before a crash is looked for
OWN: Final = "the vault's own chain"
SEEN: Final = "this machine has seen"
_HINT: Final = "Records were removed, or an older copy was put back. See what else is wrong: evidencesync verify VAULT"

DAMAGED: Final = "Put the record back from a backup of the vault. See what else is wrong: evidencesync verify VAULT"


def state_head(vault: Vault, name: ItemName, head: ChainHead, *, at_ns: int | None = None, may_be_stated: bool = False) -> None:
    """Appends a signed record of an item's current head, durably. Call under the item's lock, after each append to its chain.

    With `may_be_stated`, nothing is appended where one of the last records states it already: after a crash that is unknown.
    Raises ChainError, StorageError, NoSpaceError.
    """
    details = _details(name, head)
    with locked_for_writing(vault.layout, vault.layout.custody, _WHAT, wait=True):
        if not (may_be_stated and _is_stated(vault.ledger, details, _LOOKED_BACK)):
            _append(vault, details, time.time_ns() if at_ns is None else at_ns)


def was_stated(vault: Vault, name: ItemName, head: ChainHead) -> bool:
    """Whether a record, however old, states that head of an item's chain. Needs no lock. Raises as `state_head` does."""
    return _is_stated(vault.ledger, _details(name, head), None)


def record_heads(vault: Vault, *, at_ns: int | None = None, only_new: bool = False) -> int:
    """Appends signed records of the heads of all items' chains; returns the number of items. `only_new`: what is not stated yet.

    A detail is `CASE/ITEM` (the folders' names) and `SEQUENCE SHA256`. An item is left out whose chain cannot be read, is not as
    it was stated, or ends with a record that its signature does not vouch for: what was stated of it before still stands,
    `verify` reports the error, and damage that is repaired has left no statement of the vault that it was right. Raises
    ChainError for the vault's own chain.
    """
    now = time.time_ns() if at_ns is None else at_ns
    count = 0
    with locked_for_writing(vault.layout, vault.layout.custody, _WHAT, wait=True):
        heads = _heads(vault, only_new=only_new)
        while details := dict(islice(heads, _ITEMS_PER_RECORD)):
            _append(vault, details, now)
            count += len(details)
    return count


def _heads(vault: Vault, *, only_new: bool) -> Iterator[tuple[str, str]]:
    """Yields each item that has records: its folders, and its head; `only_new`: only where that is not stated."""
    stated = readable_statements(vault)
    for case in case_folders(vault.layout):
        for item in item_folders(vault.layout, case):
            ledger, place = Ledger(ItemLayout(vault.layout.case(case) / item).custody), f"{case}/{item}"
            try:
                head = require_stated(ledger, place, stated.get(place, ()))
                if head.sequence:
                    ledger.require_undamaged_head(place)
            except (ChainError, MissingOrExtraError, SignatureError, StorageError):
                continue
            is_stated = any(one[:2] == (head.sequence, head.sha256) for one in stated.get(place, ()))
            if head.sequence and not (only_new and is_stated):
                yield place, f"{head.sequence} {head.sha256}"


def _append(vault: Vault, details: dict[str, str], at_ns: int) -> None:
    def sign(head: ChainHead) -> tuple[bytes, bytes]:
        signer = vault.signer  # of this head: the key may have been changed by the record before
        return sign_record(record_upon(vault.settings, signer.public_key.fingerprint, head, "heads", details, at_ns), signer)

    vault.ledger.append_upon_head(sign)


def _details(name: ItemName, head: ChainHead) -> dict[str, str]:
    return {name.place: f"{head.sequence} {head.sha256}"}


def _is_stated(ledger: Ledger, details: Mapping[str, str], looked_back: int | None) -> bool:
    files = ledger.files()
    recent = [file for file in (files if looked_back is None else files[-looked_back:]) if file.kind == "heads"]
    return any(details.items() <= ledger.load(file).record.details.items() for file in reversed(recent))


def require_as_stated(vault: Vault, name: ItemName, ledger: Ledger) -> None:
    """Holds an item's chain to what the vault states of it, before anything is added to it. Call under the item's lock.

    Else an older copy of one item, which can still be put right, would become another history, signed by the vault.
    A statement that cannot be read, or is damaged, keeps nobody from the item: `verify` reports it. But nothing is added where it
    is the last record of the vault's own chain, which a statement of what is added would follow.
    Raises ChainError, and SignatureError for a record that a disk has changed: that is nobody's other history.
    """
    vault.ledger.require_undamaged_head(OWN)
    require_stated(ledger, f"the custody chain of {name}", stated_of(vault, name.place))


def state_as_stated(vault: Vault, item: VaultItem) -> ItemState:
    """Returns what a writer must follow, of an item whose chain is as the vault states it. Raises as both do.

    A damaged record is SignatureError, for what a disk has changed was not replaced; or ChainError, where the vault states it.
    """
    whose = f"the custody chain of {item.name}"
    try:
        state = item.state()
    except ChainError:
        for stored in iter_records(item.ledger):
            stored.require_undamaged(whose)
        raise
    except MalformedDocumentError:
        require_as_stated(vault, item.name, item.ledger)
        raise
    require_as_stated(vault, item.name, item.ledger)
    return state


def require_stated(ledger: Ledger, whose: str, stated: Iterable[StatedHead]) -> ChainHead:
    """Returns the head of a chain that has every stated record. `whose` chain it is, for the message.

    Raises ChainError where one is missing, damaged, or another record, by the witness RolledBackError or ForkedError; and what
    `Ledger.files` and `Ledger.load` raise.
    """
    stated = sorted(stated)
    last = max((one.sequence for one in stated), default=0)
    files = ledger.files(last) if not stated or is_there(None, ledger.folder) else []
    for one in reversed(stated):
        there = files[one.sequence - 1] if one.sequence <= len(files) else None
        if there is None or not _is_record(ledger, there, one, whose):
            head = ledger.head() if files else None
            ends = f"it ends with record {head.sequence}, {head.sha256}" if head else "it is gone"
            text = f"{one.witness} that record {one.sequence} of {whose} is {one.sha256}; {ends}"
            if one.witness == SEEN:
                raise (ForkedError if there is not None else RolledBackError)(text, hint=_HINT)
            raise ChainError(text, hint=_HINT)
    return ChainHead(len(files), ledger.load(files[-1]).sha256) if files else ChainHead(0, None)


def _is_record(ledger: Ledger, file: RecordFile, stated: StatedHead, whose: str) -> bool:
    """Whether a record is the stated one. Raises ChainError for a damaged one: it is not as it was, and no other history."""
    try:
        there = ledger.load(file)
        if there.sha256 == stated.sha256:
            return True
        there.require_undamaged(whose)
    except SignatureError as error:
        text = f"{stated.witness} that record {stated.sequence} of {whose} is {stated.sha256}; a damaged record is there"
        raise ChainError(text, hint=DAMAGED) from error
    return False
