"""The heads of all items' chains, written into the vault's own chain.

Whoever cuts the tail off one item's chain then has to cut it off here, too, and off every item's that came after it.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import Final

from evidencesync.vault.item import Item
from evidencesync.vault.ledger import Ledger, sign_record
from evidencesync.vault.lock import locked_folder
from evidencesync.vault.trust import vault_record
from evidencesync.vault.vault import Vault

_ITEMS_PER_RECORD: Final = 2000  # about a third of the largest record


def record_head(vault: Vault, item: Item, at_ns: int) -> None:
    """Appends a signed record of where one item's chain ends now: so long its records have been there, by the vault's clock.

    Call under the item's lock. Raises ChainError, SigningKeyError.
    """
    head = item.ledger.head()
    details = {f"{item.name.case.folder}/{item.name.item.folder}": f"{head.sequence} {head.sha256}"}
    with locked_folder(vault.layout.custody, "the vault's custody chain", wait=True):
        record = vault_record(vault.settings, vault.ledger, "heads", details, at_ns)
        vault.ledger.append(*sign_record(record, vault.signer))


def record_heads(vault: Vault, *, at_ns: int | None = None) -> int:
    """Appends signed records of where every item's chain ends now; how many items that are.

    A detail is `CASE/ITEM` (the folders' names) and `SEQUENCE SHA256`. Raises ChainError.
    """
    now = time.time_ns() if at_ns is None else at_ns
    heads = iter(vault.items())
    count = 0
    with locked_folder(vault.layout.custody, "the vault's custody chain", wait=True):
        while names := list(islice(heads, _ITEMS_PER_RECORD)):
            details = {}
            for name in names:
                head = Ledger(vault.layout.item(name).custody).head()
                details[f"{name.case.folder}/{name.item.folder}"] = f"{head.sequence} {head.sha256}"
            record = vault_record(vault.settings, vault.ledger, "heads", details, now)
            vault.ledger.append(*sign_record(record, vault.signer))
            count += len(names)
    return count
