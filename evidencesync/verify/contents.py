"""Reads stored files and compares size, mode and digests with the manifest.

Small files are compared in batches (`vault/file_checks.py`), large ones one after the other (`files/large_hash.py`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from evidencesync.errors import EvidenceSyncError, MissingOrExtraError
from evidencesync.files.disk import close_quietly
from evidencesync.files.large_hash import LARGE, ContentReadError, LargeHasher, ReportBytes
from evidencesync.vault import file_checks
from evidencesync.vault.file_checks import CompareOptions, FileChecks, StoredFile
from evidencesync.vault.tree import TreeReader
from evidencesync.verify.documents import UNSAFE_FILE, reason


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that differs from the manifest. `size` is its size on the disk; None where only the digest differs."""

    file: StoredFile
    size: int | None
    digest: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that could not be read, from `offset` on."""

    file: StoredFile
    offset: int
    message: str


@dataclass(frozen=True, slots=True)
class Exchanged:
    """A file that is gone, or is no regular file any more, since its folder was listed."""

    file: StoredFile
    message: str


@dataclass(frozen=True, slots=True)
class UnsafeMode:
    """A file with mode bits that stored evidence must not have."""

    file: StoredFile
    mode: int


ContentProblem = Damage | Unreadable | Exchanged | UnsafeMode
Done = Callable[[int, int, list[ContentProblem]], None]
"""Receives, in the thread that adds files, the files and bytes that were read, and their problems."""


class ContentChecker:
    """Takes files in manifest order; `done` receives problems in that order, a little later. Then call `finish`."""

    def __init__(self, data_fd: int, done: Done, *, all_digests: bool) -> None:
        """The caller keeps the descriptor of `data/`, and may close it after this call."""
        self._done = done
        self._stack = ExitStack()
        self._small = FileChecks(data_fd, self._compared, CompareOptions(all_digests, from_disk=False, unsafe_bits=UNSAFE_FILE))
        self._stack.callback(self._small.close)
        self._reader = TreeReader(os.dup(data_fd))
        self._stack.callback(self._reader.close)
        self._large = LargeHasher(with_sha256=all_digests, all_cores=True)
        self._stack.callback(self._large.close)

    def add(self, file: StoredFile) -> None:
        """Adds the next file. Waits when enough files are queued."""
        if file.size <= LARGE:
            self._small.add(file)
            return
        self._small.finish()  # so that problems are reported in order
        problems: list[ContentProblem] = []
        reported = 0

        def report_bytes(size: int) -> None:
            nonlocal reported
            reported += size
            self._done(0, size, [])

        size = self._check_large(file, problems, report_bytes)
        self._done(1, size - reported, problems)

    def finish(self) -> None:
        """Waits for all files that were added."""
        self._small.finish()

    def close(self) -> None:
        """Ends threads and processes."""
        self._stack.close()

    def _compared(self, files: list[StoredFile], problems: list[file_checks.FileProblem]) -> None:
        not_read = {problem.number for problem in problems if problem.kind in ("gone", "unreadable", "size")}
        size = sum([file.size for number, file in enumerate(files) if number not in not_read])
        self._done(len(files), size, [_problem_of(files[problem.number], problem) for problem in problems])

    def _check_large(self, file: StoredFile, problems: list[ContentProblem], report_bytes: ReportBytes) -> int:
        """Checks one file; returns the number of bytes that were read."""
        try:
            fd, found = self._reader.open_file(file.path)
        except MissingOrExtraError as error:
            problems.append(Exchanged(file, error.message))
            return 0
        except EvidenceSyncError as error:
            problems.append(Unreadable(file, 0, error.message))
            return 0
        try:
            if found.st_mode & UNSAFE_FILE:
                problems.append(UnsafeMode(file, stat.S_IMODE(found.st_mode)))
            if found.st_size != file.size:
                problems.append(Damage(file, found.st_size, "size"))
                return 0
            wrong = self._compare_large(fd, file, report_bytes)
        except ContentReadError as error:
            problems.append(Unreadable(file, error.offset, reason(error.error)))
            return error.offset
        finally:
            close_quietly(fd)
        if wrong is not None:
            problems.append(Damage(file, None, wrong))
        return file.size

    def _compare_large(self, fd: int, file: StoredFile, report_bytes: ReportBytes) -> str | None:
        hashed = self._large.hash(fd, file.size, report_bytes)
        if hashed.blake3 != file.blake3:
            return "BLAKE3"
        if hashed.sha256 not in (None, file.sha256):
            return "SHA-256"
        return None


def _problem_of(file: StoredFile, problem: file_checks.FileProblem) -> ContentProblem:
    match problem.kind:
        case "gone":
            return Exchanged(file, problem.text)
        case "unreadable":
            return Unreadable(file, 0, problem.text)
        case "mode":
            return UnsafeMode(file, stat.S_IMODE(problem.value))
        case "size":
            return Damage(file, problem.value, "size")
        case digest:
            return Damage(file, None, digest)
