"""The order of a vault's own chain: what it says of when an examiner signed, besides the date that the vault's clock gave.

The records of one chain are in order, whatever the clocks said that dated them. So what the vault had stated before it retired a
key was signed before that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

STATED_BEFORE: Final = (
    "the vault's own chain has stated it before it retired the key: "
    "one of two dates is wrong, and which one cannot be told from here"
)


def retired_after(retirements: Iterable[tuple[int, int]], stated_by: int) -> int | None:
    """When the vault retired a key after it had stated something: the earliest date (ns) of such a record; None for none.

    `retirements`: the records that retire the key, number and date. `stated_by`: the number of the record that states it.
    """
    return min((ns for number, ns in retirements if number > stated_by), default=None)


@dataclass(frozen=True, slots=True)
class ChainOrder:
    """What a vault's own chain says of the order in which things were done; only records with good signatures.

    `stated`: by what a record states (an item's folders, and number and digest of its last record), the first record's number.
    `retirements`: by a key's fingerprint, the records that retire it, number and date (ns).
    """

    vault_id: str
    stated: Mapping[tuple[str, str], int]
    retirements: Mapping[str, list[tuple[int, int]]]

    def retired_after(self, fingerprint: str, place: str, head: str) -> int | None:
        """When the vault retired a key after it had stated this head (`SEQUENCE SHA256`) of an item; None where it did not."""
        stated_by = self.stated.get((place, head))
        return None if stated_by is None else retired_after(self.retirements.get(fingerprint, ()), stated_by)
