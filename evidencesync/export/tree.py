"""Writes the parts of an export, in their order, as a folder or as a tar archive.

In a folder, contents share blocks with the vault's where the file system can, and never an inode.

POSIX pax headers (IEEE Std 1003.1-2008), so that names and sizes have no bounds. Owners are nobody's, modes and order are
fixed, and documents have the time at which the acquisition was finished.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, NamedTuple

from evidencesync.errors import DigestMismatchError, NameClashError
from evidencesync.evidence.digest import new_sha256
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.utc_time import parse_utc_time
from evidencesync.export.acquisition import AcquisitionReader
from evidencesync.export.contents import ExportContents, OpenContents
from evidencesync.files.disk import (
    CREATE_FLAGS,
    FILE_MODE,
    FOLDER_FLAGS,
    FOLDER_MODE,
    make_folder,
    opened_folder,
    storing,
    write_all,
)
from evidencesync.files.kept_names import try_names
from evidencesync.vault.layout import DATA
from evidencesync.vault.tree import TreeWriter
from evidencesync.verify.context import VerifyProgress

Blocks = Callable[[], Iterator[bytes]]
"""The bytes of a document; each call gives the same from the beginning."""

_GATHERED: Final = 1 << 16
_UNIT: Final = tarfile.BLOCKSIZE
_END: Final = bytes(2 * _UNIT)
_SECOND: Final = 1_000_000_000


class Measured(NamedTuple):
    """The length of a document, and its SHA-256 in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class MetadataFile:
    """A file that describes the evidence. `name` is relative to the exported folder, plain ASCII with `/`."""

    name: str
    measured: Measured
    blocks: Blocks


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of the evidence, at its path below `data/`; `b""` is that folder itself."""

    path: bytes
    mtime_ns: int | None


@dataclass(frozen=True, slots=True)
class Content:
    """A file of the evidence, at its path below `data/`."""

    path: bytes
    entry: Entry
    mtime_ns: int | None


Part = MetadataFile | Folder | Content


class Measure:
    """Computes the length and the digest of a document that is added in pieces."""

    def __init__(self) -> None:
        self._size = 0
        self._digest = new_sha256()

    def add(self, block: bytes) -> None:
        """The next piece."""
        self._size += len(block)
        self._digest.update(block)

    def result(self) -> Measured:
        """The length and digest of all pieces."""
        return Measured(self._size, self._digest.digest().hex())


def measure(blocks: Iterable[bytes]) -> Measured:
    """The length and digest of all blocks."""
    found = Measure()
    for block in blocks:
        found.add(block)
    return found.result()


def joined_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Joins many short lines into fewer, longer blocks."""
    parts: list[bytes] = []
    size = 0
    for line in lines:
        parts.append(line)
        size += len(line)
        if size >= _GATHERED:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)


def written_blocks(document: MetadataFile) -> Iterator[bytes]:
    """Yields the bytes of a document for writing. Raises DigestMismatchError at the end unless they are the measured ones."""
    found = Measure()
    for block in document.blocks():
        found.add(block)
        yield block
    if found.result() != document.measured:
        raise DigestMismatchError(f"{document.name} changed while it was exported", hint="Run: evidencesync verify VAULT")


def document_of(name: str, blocks: Blocks) -> MetadataFile:
    """A document whose bytes are made once to measure them, and again to write them."""
    return MetadataFile(name, measure(blocks()), blocks)


def document_from(name: str, data: bytes) -> MetadataFile:
    """A short document that is in memory."""
    return document_of(name, lambda: iter((data,)))


class FolderWriter:
    """Makes an export's folder below an open, empty one. Nothing is synced here. Close it."""

    def __init__(
        self, acquisition: AcquisitionReader, root_fd: int, open_contents: OpenContents, progress: VerifyProgress
    ) -> None:
        """The descriptor stays the caller's. Raises NoSpaceError where the contents do not fit."""
        self._root = root_fd
        self._progress = progress
        make_folder(DATA, root_fd)
        with storing("write the export"):
            data_fd = os.open(DATA, FOLDER_FLAGS, dir_fd=root_fd)
        with ExitStack() as stack:
            self._writer = TreeWriter(data_fd, try_names(root_fd))
            stack.callback(self._writer.close)
            self._contents = open_contents(acquisition, data_fd)
            stack.callback(self._contents.close)
            self._contents.check_room(root_fd)
            self._open = stack.pop_all()

    def close(self) -> None:
        """Lets go of all descriptors."""
        self._open.close()

    def write(self, part: Part) -> None:
        """The next part. Raises NoSpaceError, StorageError, NameClashError, DigestMismatchError, MissingOrExtraError."""
        if isinstance(part, MetadataFile):
            self._write_document(part)
        elif isinstance(part, Folder):
            self._writer.make_directory(part.path, part.mtime_ns)
        else:
            try:
                self._contents.write(part.path, part.entry, part.mtime_ns, self._writer)
            except NameClashError as error:
                text = (
                    f"the destination's file system changes the name, or has it already in other letters: {safe_text(part.path)}"
                )
                raise NameClashError(text, hint="Nothing was exported. Use a disk that keeps every name as it is.") from error
            self._progress.files += 1
            self._progress.bytes += part.entry.size or 0

    def finish(self) -> None:
        """Gives the folders their times. Nothing can be written afterwards."""
        self._writer.finish()

    def _write_document(self, document: MetadataFile) -> None:
        folder, _, name = document.name.rpartition("/")
        if folder:
            make_folder(folder, self._root)
        with opened_folder(folder or ".", self._root) as fd, storing(f"write {document.name}"):
            file = os.open(name, CREATE_FLAGS, FILE_MODE, dir_fd=fd)
            try:
                for block in written_blocks(document):
                    write_all(file, block)
            finally:
                os.close(file)


def archive_blocks(
    acquisition: AcquisitionReader, contents: ExportContents, name: str, parts: Iterable[Part], progress: VerifyProgress
) -> Iterator[bytes]:
    """The archive, in blocks of any size. Everything in it lies in one folder of that name.

    Raises DigestMismatchError for what is not what it was when it was verified, MissingOrExtraError, StorageError.
    """
    finished = parse_utc_time(acquisition.footer.finished) // _SECOND
    yield _header(name, finished, None)
    made: set[str] = set()
    for part in parts:
        if isinstance(part, MetadataFile):
            folder = part.name.rpartition("/")[0]
            if folder and folder not in made:
                made.add(folder)
                yield _header(f"{name}/{folder}", finished, None)
            size = part.measured.size
            yield _header(f"{name}/{part.name}", finished, size)
            yield from written_blocks(part)
            yield bytes(-size % _UNIT)
            continue
        path = "/".join([name, DATA, *([part.path.decode("utf-8")] if part.path else [])])
        seconds = part.mtime_ns // _SECOND if part.mtime_ns is not None else finished
        if isinstance(part, Folder):
            yield _header(path, seconds, None)
            continue
        size = part.entry.size or 0
        yield _header(path, seconds, size)
        yield from contents.blocks(part.path, part.entry)
        yield bytes(-size % _UNIT)
        progress.files += 1
        progress.bytes += size
    yield _END


def _header(path: str, seconds: int, size: int | None) -> bytes:
    """The header of a file of a size, or (without one) of a folder."""
    info = tarfile.TarInfo(path)
    info.type = tarfile.DIRTYPE if size is None else tarfile.REGTYPE
    info.mode = FOLDER_MODE if size is None else FILE_MODE
    info.size = size or 0
    info.mtime = seconds
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
