"""Where the bytes of an exported acquisition come from: a vault on this machine, or one on another machine.

Both are asked for the files in the manifest's order. What they give was compared with the manifest, or is, before the export has
its name.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from evidencesync.acquire.evidence import EvidenceStream
from evidencesync.acquire.far_contents import FarContents, FarCounts
from evidencesync.custody.manifest import WholeEntry
from evidencesync.errors import DigestMismatchError, MissingOrExtraError
from evidencesync.evidence.entry import Entry
from evidencesync.export.acquisition import BLOCK, NO_ROOM, AcquisitionReader, checked_blocks
from evidencesync.files.disk import close_quietly
from evidencesync.vault.space import check_destination
from evidencesync.vault.tree import TreeReader, TreeWriter

_WHOLE: Final = 1 << 20
"""Files up to this size are held in memory; larger ones are copied in the kernel, and the copy is read."""
_ZEROS: Final = bytes(BLOCK)
_HINT: Final = "Nothing was exported. See which bytes: evidencesync verify VAULT"


class ExportContents(Protocol):
    """Gives the bytes of an acquisition's files, each file once and in the manifest's order. Close it."""

    def check_room(self, folder_fd: int) -> None:
        """Raises NoSpaceError if copies of all contents do not fit into a folder. Documents are small and do not count."""

    def blocks(self, path: bytes, entry: Entry) -> Iterator[bytes]:
        """Yields the bytes of a content. At the end, raises DigestMismatchError unless they are those of the manifest."""

    def write(self, path: bytes, entry: Entry, mtime_ns: int | None, writer: TreeWriter) -> None:
        """Makes a content's file. Raises as `blocks` does, and what the writer raises."""

    def close(self) -> None:
        """Closes everything."""


OpenContents = Callable[[AcquisitionReader, int | None], ExportContents]
"""Opens them, for the folder in which their files are made; None: no folder is made."""


class StoredContents:
    """The files of a vault on this machine. See ExportContents."""

    def __init__(self, acquisition: AcquisitionReader, data_fd: int | None) -> None:
        self._acquisition = acquisition
        self._copies = TreeReader(os.dup(data_fd)) if data_fd is not None else None

    def close(self) -> None:
        """See ExportContents."""
        if self._copies is not None:
            self._copies.close()

    def check_room(self, folder_fd: int) -> None:
        """See ExportContents."""
        self._acquisition.check_room(folder_fd)

    def blocks(self, path: bytes, entry: Entry) -> Iterator[bytes]:
        """See ExportContents."""
        return self._acquisition.content_blocks(path, entry)

    def write(self, path: bytes, entry: Entry, mtime_ns: int | None, writer: TreeWriter) -> None:
        """See ExportContents. Large files share blocks with the vault's where the file system can."""
        size = entry.size or 0
        if size <= _WHOLE or self._copies is None:
            writer.create_file(path, b"".join(self.blocks(path, entry)), mtime_ns)
            return
        fd = self._acquisition.open_content(path)
        try:
            writer.copy(path, fd, size, mtime_ns)
        finally:
            os.close(fd)
        copy, _ = self._copies.open_file(path)
        try:
            for _ in checked_blocks(copy, path, entry):
                pass
        finally:
            close_quietly(copy)


@dataclass(frozen=True, slots=True)
class _Acquired:
    """See restore.contents.Acquired."""

    folder_fd: int
    draft_fd: int | None
    entries: Callable[[], Iterator[WholeEntry]]


class FetchedContents:
    """The files of a vault on another machine, of which the documents are here. See ExportContents.

    They come as they do for a working copy: each chunk is compared as it arrives, each file by both digests before it is whole.
    """

    def __init__(self, acquisition: AcquisitionReader, data_fd: int | None, stream: EvidenceStream) -> None:
        """Takes over the stream."""
        self._acquisition = acquisition
        acquired = _Acquired(acquisition.folder_fd, data_fd, self._entries)
        self._contents = FarContents(acquired, stream, acquisition.number, FarCounts(), both_digests=True)
        for wanted in self._entries():
            if wanted.entry.has_content:
                self._contents.expect(wanted)
        self._needed = self._contents.bytes_needed()

    def close(self) -> None:
        """See ExportContents."""
        self._contents.close()

    def check_room(self, folder_fd: int) -> None:
        """See ExportContents."""
        check_destination(folder_fd, self._needed, None, NO_ROOM)

    def blocks(self, path: bytes, entry: Entry) -> Iterator[bytes]:
        """See ExportContents."""
        with _hinted():
            for length, data in self._contents.read(WholeEntry(path, entry, None)):
                if data is not None:
                    yield bytes(data)
                    continue
                for start in range(0, length, BLOCK):
                    yield _ZEROS[: length - start]

    def write(self, path: bytes, entry: Entry, mtime_ns: int | None, writer: TreeWriter) -> None:
        """See ExportContents."""

        def fill(fd: int) -> None:
            self._contents.fill(fd, WholeEntry(path, entry, None), lambda _size, _holes=0, /: None)

        with _hinted():
            writer.create(path, fill, mtime_ns)

    def _entries(self) -> Iterator[WholeEntry]:
        return (WholeEntry(path, entry, None) for path, entry in self._acquisition.entries())


@contextlib.contextmanager
def _hinted() -> Iterator[None]:
    """Replaces hints about a working copy."""
    try:
        yield
    except (DigestMismatchError, MissingOrExtraError) as error:
        error.hint = _HINT
        raise
