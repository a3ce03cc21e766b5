"""What a vault shows of its chains: the records themselves, so that a sender need not take a head on somebody's word."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from evidencesync.limits import MAX_RECORDS, MIB
from evidencesync.protocol.messages import Records
from evidencesync.vault.ledger import Ledger

_BATCH: Final = MIB // 2


def show_since(ledger: Ledger, seen: int) -> Iterator[Records]:
    """A chain from the record on that a sender has seen last, that one included. Raises ChainError.

    Who has seen none, or one that is not there, is shown the last.
    """
    head = len(ledger.files())
    return show_from(ledger, seen if 1 <= seen <= head else head)


def show_from(ledger: Ledger, first: int) -> Iterator[Records]:
    """A chain from a record on, in messages of bounded size; none for an empty rest."""
    batch: list[tuple[bytes, bytes]] = []
    size, begin = 0, max(first, 1)
    for file in ledger.files()[begin - 1 :]:
        stored = ledger.load(file)
        length = len(stored.data) + len(stored.signature)
        if batch and (size + length > _BATCH or len(batch) == MAX_RECORDS):
            yield Records(begin, batch, more=True)
            batch, size, begin = [], 0, begin + len(batch)
        batch.append((stored.data, stored.signature))
        size += length
    if batch:
        yield Records(begin, batch, more=False)
