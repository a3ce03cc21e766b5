"""Defines names and paths in a vault, and how far a lookup may go. The names are part of the format (docs/formats.md)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from evidencesync.evidence.digest import Blake3Digest
from evidencesync.evidence.identity import ItemName
from evidencesync.vault.settings import LookupScope

SETTINGS: Final = "vault.toml"
VAULT_KEY: Final = "vault_key"
VAULT_KEY_PUBLIC: Final = "vault_key.pub"
TRUSTED_SIGNERS: Final = "trusted_signers"
REVOKED_KEYS: Final = "revoked_keys"
ROLES: Final = "roles.json"
CUSTODY: Final = "custody"
HOST_KEY: Final = "host_key"  # of the embedded SSH server
CASES: Final = "cases"
INDEX: Final = "index"
STATED_HEADS: Final = "stated-heads"  # in the index: see `vault.stated`
NEW_STATED_HEADS: Final = ".new-stated-heads"

ACQUISITIONS: Final = "acquisitions"
INCOMING: Final = "incoming"
ITEM_FOLDERS: Final = (ACQUISITIONS, CUSTODY, INCOMING)

STAGED_ACQUISITION: Final = "acquisition"  # in a session's folder below `incoming`

# In an acquisition.
DATA: Final = "data"
MANIFEST: Final = "manifest.jsonl"
MANIFEST_SIGNATURE: Final = "manifest.jsonl.sig"
RECEIPT: Final = "receipt.json"
RECEIPT_SIGNATURE: Final = "receipt.json.sig"
SHA256SUMS: Final = "SHA256SUMS"
BLAKE3SUMS: Final = "BLAKE3SUMS"
CHUNKS: Final = "chunks.bin"
ACQUIRED: Final = "acquired.json"
ACQUIRED_SIGNATURE: Final = "acquired.json.sig"
RECEIVED: Final = "received.json"
RECEIVED_SIGNATURE: Final = "received.json.sig"
SIGNATURE_SUFFIX: Final = ".sig"
TIMESTAMP_REQUEST: Final = "manifest.jsonl.sig.tsq"
TIMESTAMP: Final = "manifest.jsonl.sig.tsr"

# The documents that are given to `publish`, and those that the staging area writes.
SIGNED_DOCUMENTS: Final = frozenset(
    {
        MANIFEST_SIGNATURE,
        RECEIPT,
        RECEIPT_SIGNATURE,
        ACQUIRED,
        ACQUIRED_SIGNATURE,
        RECEIVED,
        RECEIVED_SIGNATURE,
    }
)
TIMESTAMP_DOCUMENTS: Final = frozenset({TIMESTAMP_REQUEST, TIMESTAMP})  # added later, if at all
STREAMED_DOCUMENTS: Final = frozenset({MANIFEST, SHA256SUMS, BLAKE3SUMS, CHUNKS})

MAX_ACQUISITION: Final = 9999
MAX_SEQUENCE: Final = 999_999
_ACQUISITION: Final = re.compile(r"[0-9]{4}")
_RECORD: Final = re.compile(r"([0-9]{4}|[1-9][0-9]{4,5})-([a-z-]{1,20})\.json")  # four digits, or as many as it takes


def acquisition_folder(number: int) -> str:
    """Returns the name of an acquisition's folder."""
    return f"{number:04d}"


def acquisition_number(name: str) -> int | None:
    """Returns the number of a folder in `acquisitions/`; None for a name that is no acquisition's."""
    return int(name) or None if _ACQUISITION.fullmatch(name) else None


def record_file(sequence: int, kind: str) -> str:
    """Returns the name of a custody record's file. Its signature is beside it, with `.sig` added."""
    return f"{sequence:04d}-{kind}.json"


def parse_record_file(name: str) -> tuple[int, str] | None:
    """Returns number and type of a custody record's file; None for any other name."""
    match = _RECORD.fullmatch(name)
    return (int(match[1]), match[2]) if match is not None else None


class ItemLayout(msgspec.Struct, frozen=True):
    """The paths of one item."""

    root: Path

    @property
    def acquisitions(self) -> Path:
        """Published acquisitions, and nothing else."""
        return self.root / ACQUISITIONS

    @property
    def custody(self) -> Path:
        """The item's custody chain."""
        return self.root / CUSTODY

    @property
    def incoming(self) -> Path:
        """Staging areas: not evidence."""
        return self.root / INCOMING

    def acquisition(self, number: int) -> Path:
        """Returns the path of a published acquisition."""
        return self.acquisitions / acquisition_folder(number)


class VaultLayout(msgspec.Struct, frozen=True):
    """The paths of one vault."""

    root: Path

    @property
    def cases(self) -> Path:
        """The folder of all cases."""
        return self.root / CASES

    @property
    def custody(self) -> Path:
        """The vault's own custody chain."""
        return self.root / CUSTODY

    @property
    def index(self) -> Path:
        """The folder of the index (a cache)."""
        return self.root / INDEX

    def case(self, case_folder: str) -> Path:
        """Returns the path of one case."""
        return self.cases / case_folder

    def item(self, name: ItemName) -> ItemLayout:
        """Returns the paths of one item."""
        return ItemLayout(self.case(name.case.folder) / name.item.folder)


THIS_SESSION: Final = 1 << 30
"""Instead of an acquisition's number: the one that is being made. Published ones begin at 1, leftovers are negative."""


class Location(NamedTuple):
    """A published file that had this content when it was published. `case` and `item` are folder names.

    It comes from an unprotected cache: the reader of the bytes hashes them.
    """

    case: str
    item: str
    acquisition: int
    path: bytes
    size: int
    blake3: Blake3Digest


class Scope(msgspec.Struct, frozen=True):
    """The item for which a lookup is made (`case` and `item` are folder names), and how far it may look."""

    lookup: LookupScope
    case: str
    item: str

    @classmethod
    def of(cls, name: ItemName, lookup: LookupScope) -> Scope:
        """Makes the scope of a transfer into an item."""
        return cls(lookup, name.case.folder, name.item.folder)
