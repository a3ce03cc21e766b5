"""Sends a vault's documents to who reads them from afar: all that it states about evidence, and no evidence."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

from evidencesync.connection.sender_connection import SenderConnection
from evidencesync.errors import InvalidNameError, MalformedDocumentError, MissingOrExtraError, ProtocolError, StorageError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.identity import Title
from evidencesync.files.disk import opened_file, opened_folder, storing
from evidencesync.ingest.rights import Rights
from evidencesync.limits import MAX_DOCUMENTS_IN_MESSAGE, MIB
from evidencesync.protocol.data_frames import MAX_DATA, DataEncoder
from evidencesync.protocol.document_messages import (
    AllManifestsAsk,
    DocumentBatch,
    DocumentsAsk,
    ManifestsAsk,
    Stray,
    Unread,
)
from evidencesync.protocol.framing import frame_of
from evidencesync.protocol.messages import ROLES_VERSION, TELLING_VERSION
from evidencesync.vault.catalog import shown_path
from evidencesync.vault.documents import (
    DocumentFile,
    WantedDocuments,
    document_limit,
    own_documents,
    read_ends,
    wanted_documents,
)
from evidencesync.vault.vault import Vault

_BATCH: Final = MIB  # bytes of small documents in one message
_MOST_TEXT: Final = 1000


def send_documents(
    connection: SenderConnection, vault: Vault, ask: DocumentsAsk | AllManifestsAsk, rights: Rights, version: int
) -> tuple[int, int]:
    """Sends the documents that are asked for, of the cases that the reader may read; returns how many, and their bytes.

    Of one that cannot be read that is said; where the other end is of an earlier version than TELLING_VERSION, it ends the
    session: it would be taken for missing. One that is removed meanwhile is missing. One that is larger than any, has holes, or
    is no regular file, is named alone, as DocumentBatch says, and so is a symbolic link in the place of a folder.
    Raises StorageError, ProtocolError.
    """
    wanted = replace(_wanted(ask), roles=version >= ROLES_VERSION, may_read=rights.may_read_folder)
    batch = _Batch(connection, tells=version >= TELLING_VERSION)
    for one in wanted_documents(vault.layout, wanted):
        _send(batch, vault.layout.root, one)
    batch.flush()
    connection.send(DocumentBatch([]))
    return batch.files, batch.bytes


def send_own_documents(connection: SenderConnection, vault: Vault) -> None:
    """Sends what the vault states about itself: its settings, its lists of trust and its own chain. Raises StorageError."""
    batch = _Batch(connection, tells=True)
    for one in own_documents(vault.layout):
        _send(batch, vault.layout.root, one)
    batch.flush()
    connection.send(DocumentBatch([]))


def _wanted(ask: DocumentsAsk | AllManifestsAsk) -> WantedDocuments:
    whole = None if isinstance(ask, AllManifestsAsk) else tuple(ask.whole)
    if (ask.case is None and ask.item is not None) or (ask.item is None and whole):
        raise ProtocolError("documents of an item are asked for, and not of which")
    try:
        case, item = (None if number is None else Title(number) for number in (ask.case, ask.item))
    except InvalidNameError as error:
        raise ProtocolError("documents of an impossible case or item are asked for") from error
    return WantedDocuments(case, item, whole, rows=not isinstance(ask, ManifestsAsk | AllManifestsAsk))


class _Batch:
    """Gathers small documents: many of them in one message, and in one frame of data, travel and compress better."""

    def __init__(self, connection: SenderConnection, *, tells: bool) -> None:
        self.files = self.bytes = 0
        """What was sent so far."""
        self.owes = False
        """Whether bytes of a document that was named are still to come: then nothing else can be told of it."""
        self._connection = connection
        self._tells = tells
        self._data = DataEncoder("auto", time.monotonic)
        self._files: list[tuple[str, int]] = []
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, path: str, data: bytes) -> None:
        """Adds a whole document."""
        self._files.append((path, len(data)))
        self._parts.append(data)
        self._size += len(data)
        if self._size >= _BATCH or len(self._files) == MAX_DOCUMENTS_IN_MESSAGE:
            self.flush()

    def flush(self) -> None:
        """Sends what was gathered."""
        if self._files:
            self.begin(self._files)
            self.send(b"".join(self._parts))
        self._files, self._parts, self._size = [], [], 0

    def add_unread(self, path: str, text: str) -> None:
        """Says that a document, or a folder, cannot be read. Raises StorageError where the other end does not understand that."""
        if not self._tells:
            raise StorageError(text)
        self.flush()
        self._connection.send(Unread(path, text[:_MOST_TEXT]))

    def add_stray(self, folder: str, name: bytes) -> None:
        """Names what lies in a folder and is no document, if the other end understands that."""
        if self._tells:
            self.flush()
            self._connection.send(Stray(folder, name))

    def begin(self, files: list[tuple[str, int]]) -> None:
        """Names documents whose bytes follow."""
        self.files += len(files)
        self._connection.write(frame_of(DocumentBatch(files)))

    def send(self, data: bytes) -> None:
        """Sends bytes of the documents that were named."""
        self.bytes += len(data)
        view = memoryview(data)
        for at in range(0, len(view), MAX_DATA):
            self._connection.write(self._data.encode([view[at : at + MAX_DATA]]))


def _send(batch: _Batch, root: Path, one: DocumentFile) -> None:
    """Sends a document, or what is wrong with it; nothing where it is missing. Raises StorageError in a long one."""
    if one.is_link:
        batch.add(one.path, b"")
        return
    if one.unread:
        batch.add_unread(one.path, one.unread)
        return
    if one.stray:
        batch.add_stray(one.path, one.stray)
        return
    limit = document_limit(one.path) or 0
    try:
        _send_bytes(batch, root / one.path, one, limit)
    except StorageError as error:
        if batch.owes:
            raise
        batch.add_unread(one.path, error.message)
        return
    except MalformedDocumentError:  # a document in one item must not hide all others
        stated = limit + 1
    except MissingOrExtraError:
        if not os.path.lexists(root / one.path):
            return
        stated = limit + 2
    else:
        return
    batch.flush()
    batch.begin([(one.path, stated)])


def _send_bytes(batch: _Batch, path: Path, one: DocumentFile, limit: int) -> None:
    """Raises, before any byte is sent, MalformedDocumentError for a document that is larger than any, or has holes.

    Raises MissingOrExtraError for one that is missing, or no regular file.
    """
    with (
        storing(lambda: f"read {shown_path(path)}"),
        opened_folder(path.parent) as folder,
        opened_file(path.name, folder) as file,
    ):
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise MalformedDocumentError(f"{safe_text(one.path, 300)} is larger than {limit} bytes")
        if one.ends:
            batch.add(one.path, read_ends(file))
        elif size <= _BATCH:
            batch.add(one.path, b"".join(_blocks(file, size, one.path)))
        else:
            batch.flush()
            batch.begin([(one.path, size)])
            batch.owes = True
            for block in _blocks(file, size, one.path):
                batch.send(block)
            batch.owes = False


def _blocks(file: BinaryIO, size: int, path: str) -> Iterator[bytes]:
    """Reads `size` bytes. Raises StorageError where the document has become shorter: documents never do."""
    left = size
    while left:
        block = file.read(min(left, MIB))
        if not block:
            raise StorageError(f"{safe_text(path, 300)} has become shorter while it was read")
        left -= len(block)
        yield block
