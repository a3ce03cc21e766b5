"""Compares a kept receipt with a vault: whether the vault still has what it signed for."""

from __future__ import annotations

from evidencesync.custody.chain import ChainOrder
from evidencesync.custody.consistency import ChainComparison, KnownChain
from evidencesync.custody.documents import CUSTODY_NAMESPACE
from evidencesync.custody.sshsig import verify_signature
from evidencesync.errors import (
    ChainError,
    EvidenceSyncError,
    ForkedError,
    IncompleteError,
    MissingOrExtraError,
    NotThereError,
    RolledBackError,
    SignatureError,
    StorageError,
)
from evidencesync.evidence.digest import sha256_of, sha512_of
from evidencesync.evidence.utc_time import parse_utc_time
from evidencesync.files.disk import load_file, opened_folder
from evidencesync.limits import MAX_RECORD, MAX_SIGNATURE
from evidencesync.localstate.receipt_checks import CheckedReceipt
from evidencesync.vault.catalog import is_folder
from evidencesync.vault.heads import DAMAGED, OWN
from evidencesync.vault.layout import SIGNATURE_SUFFIX
from evidencesync.vault.ledger import Ledger, StoredRecord, iter_records
from evidencesync.vault.vault import Vault


def chain_order(vault: Vault) -> ChainOrder:
    """Collects the order of events from a vault's own chain. A record without a valid signature by the vault is ignored.

    Raises ChainError, MalformedDocumentError or StorageError where the chain cannot be read.
    """
    stated: dict[tuple[str, str], int] = {}
    retirements: dict[str, list[tuple[int, int]]] = {}
    keys = vault.keys
    for stored in iter_records(Ledger(vault.layout.custody)):
        record = stored.record
        retires = record.type == "trust-changed" and record.details.get("action") == "retired"
        if (record.type == "heads" or retires) and _is_signed(stored, keys.at(record.sequence)):
            for place, head in record.details.items() if record.type == "heads" else ():
                stated.setdefault((place, head), record.sequence)
            if retires:
                retirements.setdefault(record.details.get("key", ""), []).append((record.sequence, parse_utc_time(record.time)))
    return ChainOrder(vault.settings.id, stated, retirements)


def _is_signed(stored: StoredRecord, vault_key: str) -> bool:
    try:
        return verify_signature(stored.signature, CUSTODY_NAMESPACE, sha512_of(stored.data)).fingerprint == vault_key
    except SignatureError:
        return False


def check_against_vault(kept: CheckedReceipt, vault: Vault) -> list[EvidenceSyncError]:
    """Returns every difference between the vault and the receipt. Evidence is not read: `verify` does that.

    1. It is the same vault, with the same key; and the receipt is what was signed: what was changed here accuses no vault.
    2. The item's chain has the `received` record, under its number; else it was rolled back, or forked: both heads are named.
    3. The vault's own chain has the records that were kept of it. So what it stated there of others' items holds it, too.
    4. The acquisition has these documents.
    """
    try:
        return list(_check(kept, vault))
    except StorageError as error:
        return [IncompleteError(error.message)]  # a failed read proves nothing against the vault
    except EvidenceSyncError as error:
        return [error]


def _check(kept: CheckedReceipt, vault: Vault) -> list[EvidenceSyncError]:
    receipt, name = kept.receipt, kept.name
    if receipt is None or name is None or kept.received is None or kept.acquired is None:
        return []  # reported already: it cannot be read
    if receipt.vault_id != vault.settings.id:
        return [NotThereError(f"the receipt is of another vault, {receipt.vault_id}; this is {vault.settings.id}")]
    if not kept.vouched_for:
        return [IncompleteError(f"{name}: the receipt is not as the vault has signed it, and was not compared with the vault")]
    if kept.own_chain is not None and not is_folder(vault.ledger.folder):
        return _differences(OWN, kept.own_chain, vault.ledger)  # which keys the vault has had, that chain alone tells
    if receipt.vault_key not in (keys := vault.keys).all:
        return [ForkedError(f"the vault has the key {keys.current}; the receipt was signed with {receipt.vault_key}")]
    layout = vault.layout.item(name)
    head = sha256_of(kept.documents["received.json"]).hex()
    seen = KnownChain(kept.received.sequence, (sha256_of(kept.documents["acquired.json"]).hex(), head))
    problems = _differences(str(name), seen, Ledger(layout.custody))
    if not problems and kept.own_chain is not None:
        problems = _differences(OWN, kept.own_chain, vault.ledger)
    if problems:
        return problems
    acquisition = layout.acquisition(receipt.acquisition)
    if not is_folder(acquisition):
        return [MissingOrExtraError(f"{name}: the vault has records of acquisition {receipt.acquisition}, and not its folder")]
    with opened_folder(acquisition) as folder:
        for file, data in kept.documents.items():
            there = load_file(folder, file, MAX_SIGNATURE if file.endswith(SIGNATURE_SUFFIX) else MAX_RECORD)
            if there is None:
                problems.append(MissingOrExtraError(f"{name}: acquisition {receipt.acquisition} lacks {file}"))
            elif there != data:
                problems.append(SignatureError(f"{name}: the vault has another {file} of acquisition {receipt.acquisition}"))
    return problems


def _differences(whose: str, seen: KnownChain, ledger: Ledger) -> list[EvidenceSyncError]:
    about = f"the receipt is about record {seen.sequence}, {seen.sha256}"
    try:
        return _chain_differences(whose, seen, ledger, about)
    except SignatureError:
        return [ChainError(f"{whose}: {about}; a damaged record is there", hint=DAMAGED)]


def _chain_differences(whose: str, seen: KnownChain, ledger: Ledger, about: str) -> list[EvidenceSyncError]:
    """Raises SignatureError for a damaged record: it is not as it was, and no other history."""
    present = _present(ledger, seen.sequence) if is_folder(ledger.folder) else None
    if present is None:
        return [RolledBackError(f"the vault has no records of {whose}; {about}")]
    found = seen.compare(present)
    if found is ChainComparison.EXTENDS:
        return []
    if found is ChainComparison.FORKED:
        ledger.load(ledger.files(present.sequence)[present.sequence - 1]).require_undamaged(whose)
    error = ForkedError if found is ChainComparison.FORKED else RolledBackError
    return [error(f"{whose}: the vault has record {present.sequence}, {present.sha256}; {about}: {found.value}")]


def _present(ledger: Ledger, wanted: int) -> KnownChain | None:
    """Returns the record with a number, or the last one where the chain is shorter; None for an empty chain."""
    files = ledger.files(wanted)
    return KnownChain(min(wanted, len(files)), (ledger.load(files[min(wanted, len(files)) - 1]).sha256,)) if files else None
