"""Reads a published acquisition for an export: its documents, its entries in order, and its contents.

Files may change after they were verified. So each pass over the manifest must give the bytes that the receipt names, and each
content is hashed while, or after, it is copied.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple, TypeVar

from evidencesync.custody.documents import ManifestFooter, ManifestHeader
from evidencesync.custody.manifest import ManifestReader, read_manifest
from evidencesync.custody.receipt import decode_receipt
from evidencesync.errors import DigestMismatchError, MalformedDocumentError, MissingOrExtraError
from evidencesync.evidence.digest import new_blake3, new_sha256, sha256_of
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.files.disk import FOLDER_FLAGS, close_quietly, document_blocks, load_file, opened_file, opened_folder, storing
from evidencesync.files.holes import extents
from evidencesync.limits import MAX_RECORD
from evidencesync.vault.item import VaultItem
from evidencesync.vault.layout import (
    DATA,
    MANIFEST,
    RECEIPT,
    SIGNED_DOCUMENTS,
    STREAMED_DOCUMENTS,
    TIMESTAMP_DOCUMENTS,
)
from evidencesync.vault.space import bytes_below, check_destination
from evidencesync.vault.tree import TreeReader

BLOCK: Final = 1 << 20
_ZEROS: Final = bytes(BLOCK)
_T = TypeVar("_T")


class ListedEntry(NamedTuple):
    """An entry of the manifest, and its checked raw path."""

    path: bytes
    entry: Entry


class AcquisitionReader:
    """One acquisition of an item. Close it. Not thread-safe."""

    def __init__(self, item: VaultItem, number: int, *, is_fetched: bool = False) -> None:
        """Reads the manifest once. Raises MissingOrExtraError, MalformedDocumentError, DigestMismatchError, StorageError.

        `is_fetched`: only the documents are here, without the lists for other programs.
        """
        self.is_fetched = is_fetched
        self.item = item
        self.number = number
        self._tree: TreeReader | None = None
        with contextlib.ExitStack() as stack:
            with storing("open the acquisition"):
                self._fd = os.open(item.layout.acquisition(number), FOLDER_FLAGS)
                stack.callback(os.close, self._fd)
            receipt = load_file(self._fd, RECEIPT, MAX_RECORD)
            if receipt is None:
                raise MissingOrExtraError(f"{RECEIPT} is missing")
            self.receipt_sha256 = sha256_of(receipt).hex()
            self.receipt = decode_receipt(receipt)
            self._reader = ManifestReader()
            for _ in self._pass(self._reader):
                pass
            self.header: ManifestHeader = _known(self._reader.header)
            self.footer: ManifestFooter = _known(self._reader.footer)
            self._stack = stack.pop_all()

    def __enter__(self) -> AcquisitionReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def folder_fd(self) -> int:
        """The acquisition's folder, which stays this object's."""
        return self._fd

    @property
    def manifest_sha256(self) -> str:
        """Of the manifest's exact bytes."""
        return self.receipt.manifest_sha256

    @property
    def files(self) -> int:
        """How many contents there are."""
        return self._reader.tally.contents

    def check_room(self, folder_fd: int) -> None:
        """Raises NoSpaceError if copies of all contents do not fit into a folder. Documents are small and do not count."""
        with opened_folder(DATA, self._fd) as data:
            check_destination(folder_fd, bytes_below(data), data, NO_ROOM)

    def entries(self) -> Iterator[ListedEntry]:
        """Yields all entries in order. At the end, raises DigestMismatchError unless the receipt names this manifest."""
        return self._pass(ManifestReader())

    def documents(self) -> list[str]:
        """The names of the acquisition's documents, in order: those that every one has, and timestamps if there are any."""
        with storing("list the acquisition"):
            there = set(os.listdir(self._fd))
        always = SIGNED_DOCUMENTS | STREAMED_DOCUMENTS
        return sorted(always | (TIMESTAMP_DOCUMENTS & there))

    def open_document(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """A document, open for reading. Raises MissingOrExtraError, StorageError."""
        return opened_file(name, self._fd)

    def open_content(self, path: bytes) -> int:
        """A content's descriptor, which the caller closes. Raises MissingOrExtraError, StorageError."""
        if self._tree is None:  # lists need none, and none is there where documents alone were fetched
            with storing("open the acquisition"):
                self._tree = TreeReader(os.open(DATA, FOLDER_FLAGS, dir_fd=self._fd), untouched=True)
            self._stack.callback(self._tree.close)
        return self._tree.open_file(path)[0]

    def content_blocks(self, path: bytes, entry: Entry) -> Iterator[bytes]:
        """Yields the bytes of a content. At the end, raises DigestMismatchError unless they are those of the manifest."""
        fd = self.open_content(path)
        try:
            yield from checked_blocks(fd, path, entry)
        finally:
            close_quietly(fd)

    def _pass(self, reader: ManifestReader) -> Iterator[ListedEntry]:
        digest = new_sha256()
        with opened_file(MANIFEST, self._fd) as file, storing(f"read {MANIFEST}"):
            for path, line in read_manifest(document_blocks(file, digest.update), reader):
                if isinstance(line, Entry):
                    yield ListedEntry(path, line)
        if digest.digest().hex() != self.receipt.manifest_sha256:
            raise DigestMismatchError("the manifest is not the one that the receipt names")


NO_ROOM: Final = "Name a destination with more room; nothing was exported."


def checked_blocks(fd: int, path: bytes, entry: Entry) -> Iterator[bytes]:
    """The bytes of an open file, one block at a time. Raises DigestMismatchError when they are not those of its entry."""
    size, whole, length = entry.size or 0, new_blake3(), 0
    with storing(f"read {safe_text(path, 200)}"):
        for start, part, is_hole in extents(fd, 0, size + 1, BLOCK):
            offset, end = start, start + part
            while offset < end:
                block = _ZEROS[: end - offset] if is_hole else os.pread(fd, end - offset, offset)
                if not block:
                    break
                offset += len(block)
                length += len(block)
                if length > size:
                    break
                whole.update(block)
                yield block
    if length != size or whole.hexdigest() != entry.blake3:
        raise DigestMismatchError(f"{safe_text(path, 200)} changed after it was verified", hint="Run: evidencesync verify VAULT")


def _known(value: _T | None) -> _T:
    if value is None:
        raise MalformedDocumentError("a manifest is incomplete")
    return value
