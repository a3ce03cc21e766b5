"""Sends evidence of a vault to who restores it from afar: parts of files of one acquisition, and its rows of chunks."""

from __future__ import annotations

import errno
import os
import time
from contextlib import ExitStack
from typing import BinaryIO, Final, NamedTuple

from evidencesync.connection.event_log import Events
from evidencesync.connection.sender_connection import SenderConnection
from evidencesync.delta.patch import find_patch
from evidencesync.delta.refine import piece_key
from evidencesync.errors import (
    EvidenceSyncError,
    InvalidNameError,
    MalformedDocumentError,
    MissingOrExtraError,
    NotThereError,
    ProtocolError,
    StorageError,
    UntrustedSignerError,
)
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.files.disk import FOLDER_FLAGS, close_quietly, opened_file, storage_error, storing
from evidencesync.files.folders import FolderStack
from evidencesync.limits import KIB, MAX_KEPT_MANIFEST
from evidencesync.protocol.data_frames import MAX_DATA, DataEncoder
from evidencesync.protocol.evidence_messages import EvidenceAsk, EvidenceParts, LackKind, Patch, PatchAsk, Rows, RowsAsk
from evidencesync.vault.layout import CHUNKS, DATA
from evidencesync.vault.tree import TreeReader
from evidencesync.vault.vault import Vault

_BATCH: Final = 256 * KIB  # bytes of parts in one answer, with the part that reaches them: what a lost link cuts off is lost
_MOST_LACKS: Final = 64  # in one answer
_MOST_TEXT: Final = 1000
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class _Lack(NamedTuple):
    """Why a part cannot be sent."""

    kind: LackKind
    text: str


class EvidenceSender:
    """Answers questions for evidence, one after the other. Keeps open what was asked for last: most questions go on there."""

    def __init__(self, connection: SenderConnection, vault: Vault, events: Events, *, shows_evidence: bool) -> None:
        self._events = events
        self._files = self._bytes = 0  # of the acquisition that is open, for the log
        self._shows_evidence = shows_evidence
        self._connection = connection
        self._vault = vault
        self._encoder = DataEncoder("auto", time.monotonic)
        self._place: tuple[str, str, int] | None = None
        self._reader: TreeReader | None = None
        self._path: bytes | None = None
        self._fd = -1

    def close(self) -> None:
        """Closes everything. Safe to call again."""
        self._close_file()
        if self._reader is not None:
            self._reader.close()
        if self._place is not None:
            case, item, acquisition = self._place
            counts = {"files": self._files, "bytes": self._bytes}
            self._events.record("read", what="evidence", case=case, item=item, acquisition=acquisition, **counts)
        self._files = self._bytes = 0
        self._reader = self._place = None

    def answer(self, ask: EvidenceAsk | PatchAsk | RowsAsk, session: str) -> None:
        """Answers one question of a session. Raises as what answers it does."""
        match ask:
            case EvidenceAsk():
                self.send(ask)
            case PatchAsk():
                self.send_patch(ask, session)
            case RowsAsk():
                self.send_rows(ask)

    def send(self, ask: EvidenceAsk) -> None:
        """Sends the parts that are asked for, in their order. What is wrong with one file is said in place of its part.

        Nothing is read but regular files below the `data` of that acquisition, by plain names, following no link. A part and an
        answer are all that is held in memory. Raises ProtocolError, PathEscapeError, NotThereError, MissingOrExtraError,
        StorageError;
        UntrustedSignerError where this server shows no evidence to anybody.
        """
        self._enter(ask)
        count, held, lacks, parts = 0, 0, list[tuple[int, LackKind, str]](), list[bytes]()
        for path, offset, length in ask.parts:
            found = self._read(path, offset, length)
            if isinstance(found, _Lack):
                lacks.append((count, *found))
            else:
                parts.append(found)
                self._bytes += len(found)
                held += len(found)
            count += 1
            if held >= _BATCH or len(lacks) == _MOST_LACKS:
                self._answer(count, lacks, parts)
                count, held, lacks, parts = 0, 0, [], []
        if count:
            self._answer(count, lacks, parts)

    def send_patch(self, ask: PatchAsk, session: str) -> None:
        """Sends what a part differs in from the pieces that the reader has. Raises as `send` does."""
        self._enter(ask)
        found = self._read(ask.path, ask.offset, ask.length)
        if isinstance(found, _Lack):
            self._connection.send(Patch([], 0, (found.kind, found.text)))
            return
        runs, fresh = find_patch(piece_key(session), ask.pieces, found)
        self._bytes += len(fresh)
        self._connection.send(Patch([*runs], len(fresh), None))
        self._send_data(fresh)

    def send_rows(self, ask: RowsAsk) -> None:
        """Sends the rows of chunks of an acquisition. Where they cannot be opened, that is said: a restore is possible without.

        Raises ProtocolError, and StorageError where a read fails after others.
        """
        with ExitStack() as stack:
            self._events.record("read", what="rows", case=ask.case, item=ask.item, acquisition=ask.acquisition)
            file, size = self._open_rows(ask, stack)
            self._connection.send(Rows(size))
            while file is not None and size:
                with storing(f"read {CHUNKS}"):
                    block = file.read(min(size, MAX_DATA))
                if not block:
                    raise StorageError(f"{CHUNKS} has become shorter while it was read")
                size -= len(block)
                self._connection.write(self._encoder.encode([block]))

    def _open_rows(self, ask: RowsAsk, stack: ExitStack) -> tuple[BinaryIO | None, int]:
        try:
            file = stack.enter_context(opened_file(CHUNKS, stack.enter_context(self._opened(ask)).fd))
            size = os.fstat(file.fileno()).st_size
        except (MissingOrExtraError, NotThereError, MalformedDocumentError, StorageError):
            return None, 0
        return file, 0 if size > MAX_KEPT_MANIFEST else size

    def _answer(self, count: int, lacks: list[tuple[int, LackKind, str]], parts: list[bytes]) -> None:
        self._connection.send(EvidenceParts(count, lacks))
        self._send_data(b"".join(parts))

    def _send_data(self, data: bytes) -> None:
        view = memoryview(data)
        for at in range(0, len(view), MAX_DATA):
            self._connection.write(self._encoder.encode([view[at : at + MAX_DATA]]))

    def _enter(self, ask: EvidenceAsk | PatchAsk) -> None:
        """Opens the acquisition that is asked for."""
        place = (ask.case, ask.item, ask.acquisition)
        if self._place == place:
            return
        self.close()
        with self._opened(ask) as folders:
            try:
                self._reader = TreeReader(os.open(DATA, FOLDER_FLAGS, dir_fd=folders.fd))
            except OSError as error:
                if error.errno in _GONE:
                    raise MissingOrExtraError(f"the evidence of acquisition {ask.acquisition} is gone: {DATA}") from error
                raise _not_there(ask, error) from error
        self._place = place
        self._events.record("read", what="evidence", case=ask.case, item=ask.item, acquisition=ask.acquisition)

    def _opened(self, ask: EvidenceAsk | PatchAsk | RowsAsk) -> FolderStack:
        """Opens the folder of an acquisition from the vault's root on, name by name, following no link."""
        if not self._shows_evidence:
            raise UntrustedSignerError(
                "this server shows no evidence (serve --no-evidence)", hint="Restore on the machine where the vault lies."
            )
        try:
            name = ItemName(Title(ask.case), Title(ask.item))
        except InvalidNameError as error:
            raise ProtocolError("evidence of an impossible case or item is asked for") from error
        root = self._vault.layout.root
        folder = self._vault.layout.item(name).acquisition(ask.acquisition)
        with storing("open the vault"):
            folders = FolderStack(os.open(root, FOLDER_FLAGS))
        try:
            folders.enter(os.fsencode(folder.relative_to(root)))
        except OSError as error:
            folders.close()
            raise _not_there(ask, error) from error
        return folders

    def _read(self, path: bytes, offset: int, length: int) -> bytes | _Lack:
        """Returns a part of a file. Raises PathEscapeError."""
        shown = safe_text(path, 300)
        try:
            if path != self._path:
                self._open_file(path)
            data = _read_at(self._fd, offset, length)
        except MissingOrExtraError as error:
            return _Lack("gone", error.message[:_MOST_TEXT])
        except StorageError as error:
            return _Lack("unreadable", error.message[:_MOST_TEXT])
        except OSError as error:
            return _Lack("unreadable", f"{shown}: {os.strerror(error.errno or 0)}"[:_MOST_TEXT])
        if len(data) != length:
            return _Lack("shorter", f"the vault's copy of {shown} ends before byte {offset + length}"[:_MOST_TEXT])
        return data

    def _open_file(self, path: bytes) -> None:
        self._close_file()
        if self._reader is None:
            raise ProtocolError("no acquisition is open")
        self._fd, _ = self._reader.open_file(path)
        self._files += 1
        self._path = path

    def _close_file(self) -> None:
        if self._fd >= 0:
            close_quietly(self._fd)
        self._fd, self._path = -1, None


def _read_at(fd: int, offset: int, length: int) -> bytes:
    """Reads `length` bytes, fewer only at the end of the file. Raises OSError."""
    data = os.pread(fd, length, offset)
    while data and len(data) < length and (more := os.pread(fd, length - len(data), offset + len(data))):
        data += more
    return data


def _not_there(ask: EvidenceAsk | PatchAsk | RowsAsk, refused: OSError) -> EvidenceSyncError:
    """Makes the error for an acquisition that cannot be opened: it is called gone only where it is."""
    if refused.errno not in _GONE:
        return storage_error(refused, f"open acquisition {ask.acquisition} of {safe_text(ask.case)} / {safe_text(ask.item)}")
    shown = f"{safe_text(ask.case)} / {safe_text(ask.item)}"
    return NotThereError(f"the vault has no readable acquisition {ask.acquisition} of {shown}")
