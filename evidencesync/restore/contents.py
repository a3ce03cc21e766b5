"""Where the contents of a working copy come from: the interface, and the files of a vault on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Final, Protocol, TypeVar

from blake3 import blake3

from evidencesync.custody.manifest import WholeEntry
from evidencesync.errors import DigestMismatchError, IncompleteError, MissingOrExtraError, PathEscapeError, StorageError
from evidencesync.evidence.digest import update_zeros
from evidencesync.evidence.display import safe_text
from evidencesync.files.copying import share_blocks
from evidencesync.files.disk import FOLDER_FLAGS, storing, write_all
from evidencesync.files.large_hash import ContentReadError, new_parallel_blake3, read_blocks
from evidencesync.limits import MIB
from evidencesync.restore.refusals import reason_of
from evidencesync.vault.layout import DATA
from evidencesync.vault.space import bytes_on_disk
from evidencesync.vault.tree import TreeReader

_SMALL: Final = 128 * 1024  # files up to this size are read whole
_BLOCK: Final = 4 * MIB
_Result = TypeVar("_Result")
_GONE: Final = (
    "Nothing was restored. See what else is gone: evidencesync verify VAULT --case CASE --item ITEM. "
    "Another acquisition may have the file: evidencesync list VAULT. To restore all the rest: --on-damage skip"
)
_UNREADABLE: Final = "To restore all the rest: --on-damage skip"


class ReportCopied(Protocol):
    """Takes how many bytes more of a copy are done, and how many of these were a hole."""

    def __call__(self, size: int, holes: int = 0, /) -> None:
        """Takes some more."""


class ContentSource(Protocol):
    """Gives the bytes of an acquisition's files. Used by one thread, in the manifest's order."""

    def expect(self, wanted: WholeEntry) -> None:
        """Hears of an entry with content that will be filled, before the first one is."""

    def bytes_needed(self) -> int:
        """Returns how many bytes on a disk all that is expected will take, about."""

    def fill(self, target_fd: int, wanted: WholeEntry, report_bytes: ReportCopied) -> bool:
        """Fills an empty file, and returns whether it shares blocks with the vault. Zeros that are known of become holes.

        Raises DigestMismatchError for bytes that are not what the manifest says, MissingOrExtraError for a file that is gone,
        StorageError for one that cannot be read: then the target must be removed. Raises OSError if the target's disk fails.
        """

    def close(self) -> None:
        """Closes everything."""


class Acquired(Protocol):
    """The acquisition that is restored, and the folder in which its copy is made."""

    @property
    def folder_fd(self) -> int:
        """The acquisition's folder."""

    @property
    def draft_fd(self) -> int | None:
        """The copy, as far as it is made; None where none is made in a folder."""

    def entries(self) -> Iterator[WholeEntry]:
        """Yields the wanted entries, in the manifest's order."""


OpenContents = Callable[[Acquired], ContentSource]


class VaultContents:
    """The files below the `data` of an acquisition on this machine."""

    def __init__(self, data: TreeReader) -> None:
        """Takes over the reader."""
        self._data = data
        self._needed = 0

    @classmethod
    def open(cls, acquired: Acquired) -> VaultContents:
        """Opens `data`. Raises StorageError."""
        try:
            with storing(f"open {DATA}"):
                return cls(TreeReader(os.open(DATA, FOLDER_FLAGS, dir_fd=acquired.folder_fd)))
        except StorageError as refused:
            raise IncompleteError.of(refused) from refused

    def expect(self, wanted: WholeEntry) -> None:
        """See ContentSource."""
        try:
            folder, name = self._data.locate(wanted.path)
            self._needed += bytes_on_disk(os.stat(name, dir_fd=folder, follow_symlinks=False))
        except (OSError, PathEscapeError):
            return  # copying it will fail, and say why

    def bytes_needed(self) -> int:
        """See ContentSource."""
        return self._needed

    def fill(self, target_fd: int, wanted: WholeEntry, report_bytes: ReportCopied) -> bool:
        """See ContentSource."""
        path, entry, _ = wanted
        try:
            source, _ = self._data.open_file(path)
        except MissingOrExtraError as error:
            error.hint = _GONE
            raise
        try:
            return copy_content(source, target_fd, path, entry.size or 0, entry.blake3 or "", report_bytes)
        finally:
            os.close(source)

    def close(self) -> None:
        """See ContentSource."""
        self._data.close()


def copy_content(source_fd: int, target_fd: int, path: bytes, size: int, blake3_hex: str, report_bytes: ReportCopied) -> bool:
    """Fills an empty file with the content of a stored file, and returns whether they share blocks. Holes stay holes.

    Raises DigestMismatchError if the stored bytes do not have the digest, StorageError if the stored file's disk fails: then the
    target must be removed. Raises OSError if the target's disk fails.
    """
    try:
        return _copy(source_fd, target_fd, path, size, blake3_hex, report_bytes)
    except _SourceReadError as refused:
        raise unreadable(path, reason_of(refused.error)) from refused.error


def _copy(source_fd: int, target_fd: int, path: bytes, size: int, blake3_hex: str, report_bytes: ReportCopied) -> bool:
    if size <= _SMALL:
        data = _reading(lambda: os.read(source_fd, size + 1))
        if len(data) != size or blake3(data).hexdigest() != blake3_hex:
            raise damaged(path)
        if data:
            write_all(target_fd, data)
        report_bytes(size)
        return False
    if _reading(lambda: os.fstat(source_fd).st_size) != size:
        raise damaged(path)
    shared = share_blocks(source_fd, target_fd)
    if not shared:
        os.ftruncate(target_fd, size)
    if _pass_through(source_fd, None if shared else target_fd, size, report_bytes) != blake3_hex:
        raise damaged(path)
    return shared


class _SourceReadError(Exception):
    """The disk of the file that is copied has failed. Never leaves this module."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def _pass_through(source_fd: int, target_fd: int | None, size: int, report_bytes: ReportCopied) -> str:
    """Computes the BLAKE3 of a stored file's bytes, and writes them to the target, if there is one."""
    whole = new_parallel_blake3()
    try:
        for block in read_blocks(source_fd, size, [memoryview(bytearray(_BLOCK))]):
            if block.data is None:
                update_zeros(whole.update, block.length)
            else:
                whole.update(block.data)
                if target_fd is not None:
                    write_at(target_fd, block.data, block.offset)
            report_bytes(block.length, block.length if block.data is None else 0)
    except ContentReadError as refused:
        raise _SourceReadError(refused.error) from refused.error
    return whole.hexdigest()


def write_at(fd: int, block: memoryview, offset: int) -> None:
    """Writes all of a block at an offset. Raises OSError."""
    while block:
        written = os.pwrite(fd, block, offset)
        block, offset = block[written:], offset + written


def _reading(read: Callable[[], _Result]) -> _Result:
    try:
        return read()
    except OSError as error:
        raise _SourceReadError(error) from error


def damaged(path: bytes) -> DigestMismatchError:
    """The error for a stored file that has other bytes than its manifest says."""
    return DigestMismatchError(
        f"the vault's copy of {safe_text(path, 300)} is not what was acquired",
        hint="See which bytes: evidencesync verify VAULT. To restore all the rest: --on-damage skip",
    )


def gone(path: bytes) -> MissingOrExtraError:
    """The error for a stored file that is not there."""
    return MissingOrExtraError(f"there is no such file in the vault: {safe_text(path)}", hint=_GONE)


def unreadable(path: bytes, reason: str) -> StorageError:
    """The error for a stored file that cannot be read."""
    return StorageError(f"the vault's copy of {safe_text(path, 300)} cannot be read: {reason}", hint=_UNREADABLE)
