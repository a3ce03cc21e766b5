"""Reads back what was stored from the disk and compares it with the manifest: the third point.

Small files are compared in batches (`vault/file_checks.py`). A large one is read once: BLAKE3 and SHA-256 are computed in
parallel. A hole is hashed as the zeros that a read would give, without a read: the page cache was dropped before, so the file
system's map is what the disk has, and a read would use the same map.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Final

import msgspec

from evidencesync.custody.manifest import CheckedLine
from evidencesync.errors import DigestMismatchError, EvidenceSyncError, InternalError, MissingOrExtraError, StorageError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.files.disk import close_quietly, forget_cached, storage_error
from evidencesync.files.large_hash import ContentReadError, LargeHasher, ReportBytes
from evidencesync.vault.file_checks import CompareOptions, FileChecks, FileProblem, StoredFile
from evidencesync.vault.tree import TreeReader

_LARGE: Final = 4 << 20

Progress = Callable[[int, int], None]
"""Receives the files and bytes that were read since the last call. Called in the calling thread only."""


class ReadBack(msgspec.Struct, frozen=True):
    """What was read and found equal to the manifest."""

    files: int
    bytes: int


def read_back(data_fd: int, lines: Iterable[CheckedLine], progress: Progress | None = None) -> ReadBack:
    """Reads every file of a synced `data/` from the disk, once, and compares BLAKE3 and SHA-256 with the manifest.

    Raises DigestMismatchError for the first file that differs (in bytes or size), MissingOrExtraError for one that is
    missing or is not a regular file, StorageError for one that cannot be read. Files that are not listed are not looked for.
    """
    reading = _Reading(progress or _no_progress)
    with ExitStack() as stack:
        reader = TreeReader(os.dup(data_fd))
        stack.callback(reader.close)
        hasher = LargeHasher(with_sha256=True, all_cores=False)  # a sender may need the other cores meanwhile
        stack.callback(hasher.close)
        small = FileChecks(data_fd, reading.add, CompareOptions(sha256=True, from_disk=True))
        stack.callback(small.close)
        for file in _files(lines):
            if file.size < _LARGE:
                small.add(file)
            else:
                _check_large(reader, file, hasher, reading.report_bytes)
                reading.add_large(file)
        small.finish()
    return ReadBack(reading.files, reading.bytes)


class _Reading:
    """Counts what was read. The first problem ends the read-back."""

    def __init__(self, progress: Progress) -> None:
        self.files = 0
        self.bytes = 0
        self.progress = progress

    def add(self, files: list[StoredFile], problems: list[FileProblem]) -> None:
        for problem in problems:
            raise _error_of(files[problem.number], problem)
        size = sum([file.size for file in files])
        self.files += len(files)
        self.bytes += size
        self.progress(len(files), size)

    def report_bytes(self, size: int, _holes: int) -> None:
        """Bytes of a large file that is being read."""
        self.progress(0, size)

    def add_large(self, file: StoredFile) -> None:
        """Adds a file whose bytes were reported while they were read."""
        self.files += 1
        self.bytes += file.size
        self.progress(1, 0)


def _error_of(file: StoredFile, problem: FileProblem) -> EvidenceSyncError:
    if problem.kind == "gone":
        return MissingOrExtraError(problem.text)
    if problem.kind == "unreadable":
        return StorageError(f"could not read {safe_text(file.path)} back: {problem.text}")
    return _differs(file, problem.value)


def _no_progress(files: int, size: int) -> None:
    """Ignores the progress."""


def _files(lines: Iterable[CheckedLine]) -> Iterator[StoredFile]:
    for path, line in lines:
        if not isinstance(line, Entry) or line.blake3 is None:
            continue
        if line.size is None or line.sha256 is None:
            raise InternalError("a manifest entry with a BLAKE3 has no size or no SHA-256")
        yield StoredFile(path, line.size, line.blake3, line.sha256)


def _check_large(reader: TreeReader, file: StoredFile, hasher: LargeHasher, report_bytes: ReportBytes) -> None:
    fd, found = reader.open_file(file.path)
    try:
        if found.st_size != file.size:
            raise _differs(file, found.st_size)
        forget_cached(fd)
        hashed = hasher.hash(fd, file.size, report_bytes)
    except ContentReadError as refused:
        raise storage_error(refused.error, f"read {safe_text(file.path)} back") from refused.error
    except OSError as error:
        raise storage_error(error, f"read {safe_text(file.path)} back") from error
    finally:
        close_quietly(fd)
    if (hashed.blake3, hashed.sha256) != (file.blake3, file.sha256):
        raise _differs(file, found.st_size)


def _differs(file: StoredFile, size: int) -> DigestMismatchError:
    found = f"; it has {size} bytes, not {file.size}" if size != file.size else ""
    return DigestMismatchError(f"the disk does not give back what was written: {safe_text(file.path)}{found}")
