"""Hashes the files of any folder, and compares them with the digests that a manifest lists for them."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Protocol

from evidencesync.errors import EvidenceSyncError, MissingOrExtraError
from evidencesync.files.disk import close_quietly
from evidencesync.files.large_hash import LARGE, ContentReadError, LargeHasher, ReportBytes
from evidencesync.vault.file_checks import CompareOptions, FileChecks, FileProblem, StoredFile
from evidencesync.vault.tree import TreeReader
from evidencesync.verify.documents import reason


class ContentSink(Protocol):
    """Receives the result for each file, in the thread that adds files."""

    def add_same(self, files: list[StoredFile]) -> None:
        """Files whose digests are the listed ones."""

    def add_different(self, file: StoredFile, size: int, digests: list[str]) -> None:
        """A file with other digests: BLAKE3, and SHA-256 if it is wanted, in hexadecimal."""

    def add_unreadable(self, file: StoredFile, message: str) -> None:
        """A file that could not be read to its end; the message is safe to show."""

    def add_missing(self, file: StoredFile) -> None:
        """A file that was removed, or is no regular file any more, since its folder was listed."""

    def add_bytes(self, size: int) -> None:
        """More bytes were hashed."""


class FolderHasher:
    """Hashes files. Add them in walk order, each with its size and its listed digests (or `""`); then call `finish`.

    The sink gets the results a little later. Only regular files are opened, no link is followed, and access times do not change
    where the system allows that.
    """

    def __init__(self, root_fd: int, sink: ContentSink, *, all_digests: bool) -> None:
        """The folder's descriptor stays the caller's, and is not needed after this."""
        self._sink = sink
        self._stack = ExitStack()
        self._small = FileChecks(root_fd, self._surveyed, CompareOptions(all_digests, from_disk=False, survey=True))
        self._stack.callback(self._small.close)
        self._reader = TreeReader(os.dup(root_fd), untouched=True)
        self._stack.callback(self._reader.close)
        self._large = LargeHasher(with_sha256=all_digests, all_cores=True)
        self._stack.callback(self._large.close)

    def add(self, file: StoredFile) -> None:
        """The next file. Waits when enough is under way."""
        if file.size <= LARGE:
            self._small.add(file)
        else:
            self._hash_large(file, self._sink.add_bytes)

    def finish(self) -> None:
        """Waits for everything that was added."""
        self._small.finish()

    def close(self) -> None:
        """Ends threads and processes."""
        self._stack.close()

    def _surveyed(self, files: list[StoredFile], problems: list[FileProblem]) -> None:
        differing = {problem.number for problem in problems}
        same = [file for number, file in enumerate(files) if number not in differing] if differing else files
        self._sink.add_bytes(sum([file.size for file in same]))
        self._sink.add_same(same)
        for problem in problems:
            file = files[problem.number]
            if problem.kind == "other":
                self._sink.add_bytes(problem.value)
                self._sink.add_different(file, problem.value, problem.text.split(" "))
            elif problem.kind == "gone":
                self._sink.add_missing(file)
            else:
                self._sink.add_unreadable(file, problem.text)

    def _hash_large(self, file: StoredFile, report_bytes: ReportBytes) -> None:
        try:
            fd, found = self._reader.open_file(file.path)
        except MissingOrExtraError:
            self._sink.add_missing(file)
            return
        except EvidenceSyncError as error:
            self._sink.add_unreadable(file, error.message)
            return
        try:
            hashed = self._large.hash(fd, found.st_size, report_bytes)
        except ContentReadError as error:
            self._sink.add_unreadable(file, f"{reason(error.error)}, at byte {error.offset}")
            return
        finally:
            close_quietly(fd)
        digests = [hashed.blake3] if hashed.sha256 is None else [hashed.blake3, hashed.sha256]
        if digests == [file.blake3, file.sha256][: len(digests)]:
            self._sink.add_same([file])
        else:
            self._sink.add_different(file, hashed.size, digests)
