"""Opens an item of a vault: its lock, and the state of its chain that a writer needs before it adds to it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from evidencesync.custody.chain import ChainChecker, ChainSubject
from evidencesync.custody.documents import CustodyRecord, ManifestHeader
from evidencesync.errors import (
    ChainError,
    InternalError,
    LimitExceededError,
    MalformedDocumentError,
    MissingOrExtraError,
    NameClashError,
    StorageError,
)
from evidencesync.evidence.identity import ItemName
from evidencesync.limits import MAX_HEADER_LINE
from evidencesync.vault.absent import choose_acquisition, removed_acquisition
from evidencesync.vault.catalog import (
    acquisition_numbers,
    load_header,
    opened_document,
    readable_names,
    recorded_acquisitions,
    stored_name,
)
from evidencesync.vault.layout import MANIFEST, MAX_ACQUISITION, ItemLayout, VaultLayout
from evidencesync.vault.ledger import Ledger
from evidencesync.vault.reservations import SignerCheck
from evidencesync.vault.writer import locked_for_writing

_PATIENCE_SECONDS: Final = 0.5  # for a chain that does not match its acquisitions, before it is reported as broken
_LOOK_SECONDS: Final = 0.05
NO_MANIFEST: Final = (StorageError, MissingOrExtraError, MalformedDocumentError)
"""What a published manifest raises that is damaged, gone or unreadable: it must keep nobody from adding to its item."""


class ItemState(msgspec.Struct, frozen=True):
    """What the next acquisition and the next record must follow. Digests are hexadecimal; None where there is nothing.

    The previous digests are those that the chain states: files on the disk are hashed before they are used.
    """

    next_acquisition: int
    head_sequence: int
    head_sha256: str | None
    previous_manifest: Path | None
    previous_manifest_sha256: str | None
    previous_receipt_sha256: str | None
    sealed: bool


class VaultItem:
    """A case's item in a vault. Made by `Vault.item`; its folders exist."""

    def __init__(
        self, vault_id: str, vault_key: Callable[[], str], name: ItemName, vault: VaultLayout, may_sign: SignerCheck
    ) -> None:
        self.vault_id = vault_id
        self._vault_key = vault_key
        self.name = name
        self.vault = vault
        self.layout: ItemLayout = vault.item(name)
        self.ledger = Ledger(self.layout.custody, may_sign)
        self._locked = False
        self._checked: tuple[ChainChecker, CustodyRecord | None] | None = None
        """The records that were read already, and the last `received` among them."""

    @property
    def vault_key(self) -> str:
        """Fingerprint of the key that signs receipts and `received` records now."""
        return self._vault_key()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the item's lock. Raises LockedError at once when another process has it, OtherWriterError on another machine."""
        with locked_for_writing(self.vault, self.layout.root, f"item {self.name}"):
            self._locked = True
            try:
                yield
            finally:
                self._locked = False

    def require_lock(self) -> None:
        """Raises InternalError unless this object holds the lock."""
        if not self._locked:
            raise InternalError(f"item {self.name} was to be written without its lock")

    def acquisitions(self, reaching: int = 0) -> list[int]:
        """Lists the numbers of all published acquisitions, ascending. `reaching`: see `acquisition_numbers`."""
        return acquisition_numbers(self.layout, reaching)

    def require_all_acquisitions(self) -> list[int]:
        """Lists the same, none of which was removed. Raises MissingOrExtraError where the chain records one that is not there."""
        recorded = recorded_acquisitions(self.layout)  # before the folder: see `recorded_acquisitions`
        numbers = self.acquisitions(recorded)
        for number in range(1, recorded + 1):
            if number not in numbers:
                raise removed_acquisition(str(self.name), number)
        return numbers

    def choose_acquisition(self, wanted: int | None) -> int:
        """The acquisition that was named, by default the last. Raises NotThereError, MissingOrExtraError."""
        return choose_acquisition(self.layout, str(self.name), wanted)

    def header(self, acquisition: int) -> ManifestHeader:
        """Reads the header of a published manifest. Raises MissingOrExtraError, MalformedDocumentError."""
        return load_header(self.layout, acquisition)

    def state(self) -> ItemState:
        """Returns what a writer must follow; call after `complete_unfinished`. Reads the whole chain, but no signatures.

        Called again, it reads what was added since: a long chain is not read under the lock of its case a second time.

        Raises ChainError when the chain is inconsistent, or does not match the published acquisitions: nothing is ever added to
        a broken history. Raises LimitExceededError after the last possible number.
        """
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return self._state()
            except ChainError:  # where no lock holds, another writer may be publishing: read again
                if time.monotonic() >= until:
                    raise
                time.sleep(_LOOK_SECONDS)  # no lock holds there, so there is none to wait for

    def _state(self) -> ItemState:
        subject = ChainSubject(self.vault_id, self.name.case.text, self.name.item.text)
        checker, received = self._checked or (ChainChecker(subject), None)
        self._checked = None  # after an error, all is read again
        for file in self.ledger.files()[checker.facts().length :]:
            stored = self.ledger.load(file)
            checker.add_decoded(stored.record, stored.data)
            received = stored.record if stored.record.type == "received" else received
        facts = checker.facts()
        last = facts.acquisitions
        if facts.unfinished is not None or self.acquisitions(last) != list(range(1, last + 1)):
            raise ChainError(
                f"the custody chain of {self.name} is not that of its acquisitions",
                hint="Something was removed from the vault, or put into it. Run: evidencesync verify VAULT",
            )
        if last >= MAX_ACQUISITION:
            raise LimitExceededError(f"an item holds at most {MAX_ACQUISITION} acquisitions", hint="Use another item number.")
        self._checked = checker, received
        return ItemState(
            next_acquisition=last + 1,
            head_sequence=facts.length,
            head_sha256=facts.head_sha256,
            previous_manifest=self.layout.acquisition(last) / MANIFEST if last else None,
            previous_manifest_sha256=received.manifest_sha256 if received else None,
            previous_receipt_sha256=received.receipt_sha256 if received else None,
            sealed=facts.sealed,
        )

    def find_session(self, session: str) -> int | None:
        """Returns the acquisition that a session has published, for the repeat after a lost acknowledgement; or None.

        Manifests that are damaged, gone or unreadable are skipped: an old one must not block the item, and `verify` reports it.
        Only a header that has the session's name is decoded: an item has up to 9999 of them.
        """
        wanted = session.encode()
        for number in reversed(self.acquisitions()):
            with contextlib.suppress(*NO_MANIFEST), opened_document(self.layout, number, MANIFEST) as manifest:
                if wanted in manifest.readline(MAX_HEADER_LINE + 1) and self.header(number).session == session:
                    return number
        return None

    def whose_folders(self) -> ItemName | None:
        """Returns the item that has these folders under other exact numbers, or another item of the case; None if none has.

        Before anything is published there is nothing to compare with.
        """
        mine = stored_name(self.layout)
        if mine is not None and mine.item != self.name.item:
            return mine
        other = mine or next(readable_names(self.vault, self.name.case.folder), None)
        return other if other is not None and other.case != self.name.case else None

    def check_titles(self) -> None:
        """Raises NameClashError when the folders belong to another exact case or item number. `publish` checks again."""
        other = self.whose_folders()
        if other is not None and other.case == self.name.case:
            raise NameClashError(
                f"the folder for item {self.name} belongs to {other} already",
                hint="The two numbers make the same folder name. Use another item number.",
            )
        if other is not None:
            raise NameClashError(
                f"the folder for the case of {self.name} belongs to the case of {other} already",
                hint="The two numbers make the same folder name. Use another case number.",
            )


@contextlib.contextmanager
def lock_item(item: VaultItem) -> Iterator[VaultItem]:
    """Holds an item's lock for a writer. Raises LockedError at once when another process has it."""
    with item.locked():
        yield item
