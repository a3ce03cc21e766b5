"""Checks a custody chain: that no record was removed, reordered, replaced or inserted.

The records of one chain are in order, whatever the clocks said that dated them. So what the vault had stated before it retired a
key was signed before that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from evidencesync.custody.documents import CustodyRecord
from evidencesync.custody.record import decode_record
from evidencesync.errors import ChainError, MalformedDocumentError
from evidencesync.evidence.digest import sha256_of


class ChainSubject(msgspec.Struct, frozen=True):
    """The owner of a chain: an item, or (without case and item) the vault itself."""

    vault_id: str
    case: str | None = None
    item: str | None = None

    @classmethod
    def of(cls, record: CustodyRecord) -> ChainSubject:
        """Returns the subject that a record names."""
        return cls(record.vault_id, record.case, record.item)


def follows(record: CustodyRecord, sequence: int, sha256: str | None) -> bool:
    """Whether a record is the next link after record `sequence`, whose digest is `sha256` (0 and None: it is the first)."""
    return (record.sequence, record.previous_sha256) == (sequence + 1, sha256)


class ChainFacts(msgspec.Struct, frozen=True):
    """What a consistent chain states.

    `digests` are the SHA-256 of all records in order, in hexadecimal. A receipt from outside that names a sequence and a
    digest is compared with them, because a chain alone cannot show that its end was cut off. `unfinished` is the number of
    an acquisition whose `acquired` is the last record: its `received` is not linked yet.
    """

    digests: tuple[str, ...] = ()
    acquisitions: int = 0
    unfinished: int | None = None
    sealed: bool = False

    @property
    def length(self) -> int:
        """The number of records; the next record has this number plus 1."""
        return len(self.digests)

    @property
    def head_sha256(self) -> str | None:
        """The digest of the last record; None for an empty chain."""
        return self.digests[-1] if self.digests else None

    def holds(self, sequence: int, sha256: str) -> bool:
        """Whether the record with this number has this digest."""
        return 1 <= sequence <= len(self.digests) and self.digests[sequence - 1] == sha256


class ChainChecker(msgspec.Struct):
    """Checks the records of a chain one after the other, given as the exact bytes of their files."""

    subject: ChainSubject
    _digests: list[str] = msgspec.field(default_factory=list)
    _acquisitions: int = 0
    _open: CustodyRecord | None = None
    _sealed: bool = False

    def add(self, document: bytes) -> CustodyRecord:
        """Checks the next record and returns it. Its signature is not looked at. Raises ChainError, naming the record.

        1. It is a well-formed record.  2. Its number is the next.  3. It names the digest of the record before it.
        4. It belongs to this vault, case and item.  5. Acquisitions count up by one, each as `acquired` with its `received`
        right after it, and none after the item was sealed, which it is once.
        """
        try:
            record = decode_record(document)  # 1
        except MalformedDocumentError as error:
            raise ChainError(f"custody record {len(self._digests) + 1}: {error.message}") from error
        self.add_decoded(record, document)
        return record

    def add_decoded(self, record: CustodyRecord, document: bytes) -> None:
        """Checks the next record, which was decoded from these bytes, by the rules 2 to 5 of `add`. Raises ChainError."""
        expected = len(self._digests) + 1
        what = f"custody record {expected} ({record.type})"
        if record.sequence != expected:  # 2
            raise ChainError(f"{what} says that it is record {record.sequence}")
        if not follows(record, expected - 1, self._digests[-1] if self._digests else None):  # 3
            raise ChainError(f"{what} does not follow the record before it: one of the two was replaced")
        if ChainSubject.of(record) != self.subject:  # 4
            raise ChainError(f"{what} is of another vault, case or item")
        self._check_acquisition(record, what)  # 5
        self._digests.append(sha256_of(document).hex())

    def facts(self) -> ChainFacts:
        """Returns what the records that were added state."""
        unfinished = self._open.acquisition if self._open is not None else None
        return ChainFacts(tuple(self._digests), self._acquisitions, unfinished, self._sealed)

    def _check_acquisition(self, record: CustodyRecord, what: str) -> None:
        began, self._open = self._open, None
        if began is not None:
            if record.type != "received":
                raise ChainError(f"{what} stands where acquisition {began.acquisition} should be received")
            if (record.acquisition, record.manifest_sha256) != (began.acquisition, began.manifest_sha256):
                raise ChainError(f"{what} receives another acquisition or manifest than the record before it acquired")
        elif record.type == "received":
            raise ChainError(f"{what} receives what no record before it acquired")
        elif record.type == "acquired":
            if self._sealed:
                raise ChainError(f"{what} comes after the item was sealed")
            if record.acquisition != self._acquisitions + 1:
                raise ChainError(f"{what} is of acquisition {record.acquisition}, not {self._acquisitions + 1}")
            self._acquisitions += 1
            self._open = record
        elif record.acquisition is not None and record.acquisition > self._acquisitions:
            raise ChainError(f"{what} is about an acquisition that was not made yet")
        elif record.type == "sealed":
            if self._sealed:
                raise ChainError(f"{what} seals an item that was sealed before")
            self._sealed = True


STATED_BEFORE: Final = (
    "the vault's own chain has stated it before it retired the key: "
    "one of two dates is wrong, and which one cannot be told from here"
)


def retired_after(retirements: Iterable[tuple[int, int]], stated_by: int) -> int | None:
    """When the vault retired a key after it had stated something: the earliest date (ns) of such a record; None for none.

    `retirements`: the records that retire the key, number and date. `stated_by`: the number of the record that states it.
    """
    return min((ns for number, ns in retirements if number > stated_by), default=None)


class ChainOrder(msgspec.Struct, frozen=True):
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
