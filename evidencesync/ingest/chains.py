"""What a vault shows of its chains: the records themselves, so that a sender need not take a head on somebody's word."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from evidencesync.limits import MAX_RECORDS, MIB
from evidencesync.protocol.messages import Records
from evidencesync.vault.ledger import Ledger, RecordFile

_BATCH: Final = MIB // 2


def show_since(ledger: Ledger, seen: int) -> Iterator[Records]:
    """A chain from the record on that a sender has seen last, that one included. Raises ChainError.

    Who has seen none, or one that is not there, is shown the last.
    """
    files = ledger.files()
    first = seen if 1 <= seen <= len(files) else len(files)
    yield from _batches(ledger, files[first - 1 :] if first else [])


def show_after(ledger: Ledger, shown: int) -> Iterator[Records]:
    """What a chain has got after the record that was shown last. Raises ChainError."""
    yield from _batches(ledger, ledger.files()[shown:])


def _batches(ledger: Ledger, files: list[RecordFile]) -> Iterator[Records]:
    """Records in messages of bounded size."""
    batch: list[tuple[bytes, bytes]] = []
    size = 0
    for file in files:
        stored = ledger.load(file)
        length = len(stored.data) + len(stored.signature)
        if batch and (size + length > _BATCH or len(batch) == MAX_RECORDS):
            yield Records(file.sequence - len(batch), batch, more=True)
            batch, size = [], 0
        batch.append((stored.data, stored.signature))
        size += length
    if batch:
        yield Records(files[-1].sequence - len(batch) + 1, batch, more=False)
