"""Keeps the receipt of a push: what was signed and acknowledged. With it a vault whose history was cut can be exposed.

A receipt is written in a draft folder while the push runs: the manifest as it is read, the records that the vault shows. It is
renamed to `CASE-ITEM-NNNN` when the vault has signed for everything. Where there is no room for the manifest, the receipt is kept
without it (and without the vault's records): the signed documents are small, and the push matters more.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from evidencesync.custody.documents import CustodyRecord, ManifestFooter, ManifestHeader
from evidencesync.custody.manifest import decode_header, decode_last_line
from evidencesync.custody.receipt import decode_receipt
from evidencesync.custody.record import decode_record, record_name
from evidencesync.errors import ConfigurationError, MalformedDocumentError, UnkeptReceiptError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.identity import ItemName
from evidencesync.files.disk import close_quietly
from evidencesync.files.drafts import draft_name, make_draft, remove_left_drafts
from evidencesync.files.litter import without_litter
from evidencesync.files.placing import place_folder
from evidencesync.home import expand
from evidencesync.limits import MAX_HEADER_LINE, MAX_KEPT_MANIFEST, MAX_RECORD
from evidencesync.localstate.files import (
    DRAFT,
    PROBE,
    KeptFolder,
    create_file,
    load_file,
    open_file,
    opened_folder,
    own_folder,
    sync_file,
    write_file,
)
from evidencesync.outside import Closed, refused_place

MANIFEST: Final = "manifest.jsonl"
DOCUMENTS: Final = ("acquired.json", "receipt.json", "received.json")
ITEM_RECORDS: Final = "custody"
VAULT_RECORDS: Final = "vault-custody"
KEY_RECORDS: Final = "vault-keys"
SIGNATURE: Final = ".sig"
_MAX_SAME_NAME: Final = 1000
_HINT: Final = "Name another folder: --receipts DIR"


class KeptManifest(msgspec.Struct, frozen=True):
    """The manifest beside an earlier receipt, open for reading, with its ends and its record.

    `sha256` is its digest as the receipt says: nothing is compared with it yet.
    """

    file: BinaryIO
    sha256: str
    header: ManifestHeader
    footer: ManifestFooter
    acquired: CustodyRecord


class FinishedReceipt(msgspec.Struct, frozen=True):
    """A receipt that was finished. `lacks`: why it has no manifest and no records; None: it has them."""

    folder: Path
    lacks: str | None


def receipts_folder(chosen: Path | None, closed: Sequence[Closed] = ()) -> KeptFolder:
    """Opens the folder for receipts, made where it is missing, and tests it: before a push, so that a full disk is found early.

    The default follows the XDG Base Directory Specification. Raises NoSpaceError, StorageError, ConfigurationError,
    UsageError where it lies in what is `closed`.
    """
    folder = default_receipts(chosen)
    try:
        return KeptFolder(folder, closed, _HINT, follow=True)
    except OSError as error:
        text = f"receipts cannot be kept in {safe_text(str(folder), 200)}"
        raise refused_place(error, text, _HINT, ConfigurationError) from error


def default_receipts(chosen: Path | None) -> Path:
    """Returns the folder for receipts: the chosen one, or the user's default (XDG_DATA_HOME)."""
    return expand(chosen) if chosen is not None else own_folder("XDG_DATA_HOME", ".local", "share") / "receipts"


def holds_receipts_alone(folder: Path) -> bool:
    """Returns whether a folder has nothing but receipts, finished or not; False where it cannot be read."""
    try:
        return all(name.startswith((DRAFT, PROBE)) or _is_receipt(folder / name) for name in without_litter(folder))
    except OSError:
        return False


def _is_receipt(folder: Path) -> bool:
    return (folder / "receipt.json").is_file()


class ReceiptDraft:
    """One receipt while its push runs. Used by one thread; `close` removes an unfinished one.

    The folder stays open in the meantime: it is the one that was tested, even if it is renamed.
    """

    def __init__(self, folder: KeptFolder) -> None:
        self._folder = folder
        self._draft = draft_name(DRAFT)
        self._locked = -1
        self._lacks: str | None = None
        self._manifest: BinaryIO | None = None
        self._size = 0

    @property
    def path(self) -> Path:
        """The draft's folder."""
        return self._folder.path / self._draft

    def begin(self) -> None:
        """Begins anew: removes what an earlier attempt of this push has written."""
        self.close()
        self._lacks, self._size = None, 0
        try:
            self._manifest = create_file(self._made(), MANIFEST)
        except OSError as error:
            self._drop_manifest(error.strerror)

    def add_manifest(self, lines: bytes) -> None:
        """Adds the next lines of the manifest."""
        if self._manifest is None:
            return
        self._size += len(lines)
        if self._size > MAX_KEPT_MANIFEST:
            self._drop_manifest(f"it is larger than {MAX_KEPT_MANIFEST} bytes")
            return
        try:
            self._manifest.write(lines)
        except OSError as error:
            self._drop_manifest(error.strerror)

    def add_record(self, record: CustodyRecord, data: bytes, signature: bytes, *, proves_key: bool = False) -> None:
        """Adds a record that the vault has shown, of the item's chain or of its own, or to prove its key."""
        part = KEY_RECORDS if proves_key else VAULT_RECORDS if record.case is None else ITEM_RECORDS
        if self._lacks is not None:
            return
        try:
            with (
                opened_folder(self._draft, self._folder.fd) as draft,
                opened_folder(part, draft, make=True) as folder,
            ):
                name = record_name(record)
                with contextlib.suppress(FileExistsError):  # it was shown before: over another link, and found to be the same
                    write_file(folder, name, data)
                    write_file(folder, name + SIGNATURE, signature)
                os.fsync(folder)  # `finish` renames the draft and syncs its own folder, not those below
        except OSError as error:
            self._drop_manifest(error.strerror)

    def sync_manifest(self) -> None:
        """Makes the manifest durable, early: while the vault is still at work."""
        if self._manifest is None:
            return
        try:
            sync_file(self._manifest)
            self._manifest.close()
        except OSError as error:
            self._drop_manifest(error.strerror)
        self._manifest = None

    def finish(self, name: ItemName, acquisition: int, documents: dict[str, bytes]) -> FinishedReceipt:
        """Adds the signed documents by name, and renames the draft to its final name, durably.

        It never replaces another receipt: where the name is taken (by another vault's acquisition), a number is added. Raises
        UnkeptReceiptError.
        """
        self.sync_manifest()
        try:
            draft = self._made()
            for file, data in documents.items():
                write_file(draft, file, data)
            os.fsync(draft)  # before the rename: a receipt under its final name must be whole
            final = _take_place(self._draft, self._folder.fd, name, acquisition)
            os.fsync(self._folder.fd)  # the push says "kept" next
            self._unlock()
        except OSError as error:
            self.close()
            raise UnkeptReceiptError(
                f"acquisition {acquisition} of {name} was published, but its receipt could not be kept in "
                f"{safe_text(str(self._folder.path), 200)}: {error.strerror}"
            ) from error
        return FinishedReceipt(self._folder.path / final, self._lacks)

    def kept_manifest(self, name: ItemName, acquisition: int, sha256: str) -> KeptManifest | None:
        """Opens the manifest of an acquisition whose receipt lies in the same folder, and names this digest; None without one."""
        for number in range(1, _MAX_SAME_NAME):
            try:
                with opened_folder(_folder_name(name, acquisition, number), self._folder.fd) as folder:
                    kept = _open_manifest(folder, sha256)
            except FileNotFoundError:
                return None
            except (OSError, MalformedDocumentError):
                continue  # of another vault perhaps: it does not keep the run from looking further, or from reading everything
            if kept is not None:
                return kept
        return None

    def close(self) -> None:
        """Removes the draft; a finished receipt stays."""
        if self._manifest is not None:
            with contextlib.suppress(OSError):
                self._manifest.close()
            self._manifest = None
        with contextlib.suppress(OSError):
            shutil.rmtree(self._draft, dir_fd=self._folder.fd)
        self._unlock()

    def remove_left(self) -> list[str]:
        """Removes the drafts that pushes that were killed have left here; returns their paths. Raises nothing."""
        parent = self._folder.fd
        left = remove_left_drafts(parent, DRAFT, lambda name, _: shutil.rmtree(name, dir_fd=parent))
        return [safe_text(str(self._folder.path / name), 300) for name in left]

    def _made(self) -> int:
        """Returns the descriptor of the draft, which is made, and is locked until it is closed or finished. Raises OSError."""
        if self._locked < 0:
            self._locked = make_draft(self._folder.fd, self._draft)
        return self._locked

    def _unlock(self) -> None:
        if self._locked >= 0:
            descriptor, self._locked = self._locked, -1
            close_quietly(descriptor)

    def _drop_manifest(self, reason: str | None) -> None:
        """Removes the draft's large files, and continues without them: the room is left for the signed documents."""
        self.close()
        self._lacks = reason or "unknown"


def _folder_name(name: ItemName, acquisition: int, number: int) -> str:
    """Returns the name of a receipt's folder: the first, or a further one where another vault's receipt has the first."""
    first = f"{name.case.folder}-{name.item.folder}-{acquisition:04}"
    return first if number == 1 else f"{first}-{number}"


def _take_place(draft: str, folder: int, name: ItemName, acquisition: int) -> str:
    """Renames a draft to the first free name. Nothing is ever replaced, not even a dangling link."""
    for number in range(1, _MAX_SAME_NAME):
        final = _folder_name(name, acquisition, number)
        with contextlib.suppress(FileExistsError):
            place_folder(draft, final, src_dir_fd=folder, dst_dir_fd=folder)
            return final
    raise FileExistsError(17, "the name is taken", _folder_name(name, acquisition, 1))


def _open_manifest(folder: int, sha256: str) -> KeptManifest | None:
    """Opens the manifest in a receipt's folder; None where the receipt names another. Raises OSError, MalformedDocumentError."""
    receipt, acquired = (load_file(folder, name, MAX_RECORD) for name in ("receipt.json", "acquired.json"))
    if receipt is None or acquired is None or decode_receipt(receipt).manifest_sha256 != sha256:
        return None
    file = open_file(folder, MANIFEST)
    try:
        header = decode_header(file.readline(MAX_HEADER_LINE + 1))
        file.seek(max(os.fstat(file.fileno()).st_size - MAX_HEADER_LINE, 0))
        return KeptManifest(file, sha256, header, decode_last_line(file.read()), decode_record(acquired))
    except BaseException:
        file.close()
        raise
