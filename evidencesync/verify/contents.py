"""Reads stored files, compares size, mode and digests with the manifest, and finds the damaged ranges of those that differ.

Small files are compared in batches (`vault/file_checks.py`), large ones one after the other (`files/large_hash.py`).

A recipe is only used from a `chunks.bin` whose digest the signed receipt of its acquisition names. It shows where to
look, never whether a file is right: the file's whole digests have decided that.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Final

from evidencesync.delta.recipe import ByteRange, PlacedRow, Recipe, find_recipes, merged_ranges
from evidencesync.errors import EvidenceSyncError, MalformedDocumentError, MissingOrExtraError
from evidencesync.evidence.digest import chunk_digest_of
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import count_text, extent_text
from evidencesync.files.disk import FOLDER_FLAGS, close_quietly
from evidencesync.files.holes import extents
from evidencesync.files.large_hash import LARGE, ContentReadError, LargeHasher, ReportBytes
from evidencesync.limits import MAX_CHUNK, MAX_DAMAGED_RANGES, MIN_CHUNK
from evidencesync.vault import file_checks
from evidencesync.vault.file_checks import CompareOptions, FileChecks, StoredFile
from evidencesync.vault.layout import DATA
from evidencesync.vault.tree import TreeReader
from evidencesync.verify.checks import Check
from evidencesync.verify.documents import UNSAFE_FILE, CheckedFolder, reason

_ZEROS: Final = bytes(MAX_CHUNK)


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
Done = Callable[[int, int, int, list[ContentProblem]], None]
"""Receives, in the thread that adds files, the files and bytes that were read, how many of these are of holes, and problems."""


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

        def report_bytes(size: int, holes: int) -> None:
            nonlocal reported
            reported += size
            self._done(0, size, holes, [])

        size = self._check_large(file, problems, report_bytes)
        self._done(1, size - reported, 0, problems)

    def finish(self) -> None:
        """Waits for all files that were added."""
        self._small.finish()

    def close(self) -> None:
        """Ends threads and processes."""
        self._stack.close()

    def _compared(self, files: list[StoredFile], problems: list[file_checks.FileProblem]) -> None:
        not_read = {problem.number for problem in problems if problem.kind in ("gone", "unreadable", "size")}
        size = sum([file.size for number, file in enumerate(files) if number not in not_read])
        self._done(len(files), size, 0, [_problem_of(files[problem.number], problem) for problem in problems])

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


def damaged_ranges(recipe: Recipe, fd: int, there: int) -> Iterator[ByteRange]:
    """Yields the byte ranges of an open file that differ from its recipe, in order, merged where they touch.

    Chunks beyond the first `there` bytes are not read. Raises OSError where either file cannot be
    read, and MalformedDocumentError when the rows are not those of a content of that size.
    """
    return merged_ranges(
        ByteRange(placed.offset, placed.row.length)
        for placed in recipe.placed_rows()
        if placed.end <= there and not _is_good(fd, placed)
    )


def bounded(ranges: Iterator[ByteRange]) -> tuple[list[ByteRange], int]:
    """Returns as many ranges as a report names, and the number of further ones."""
    named: list[ByteRange] = []
    more = 0
    for one in ranges:
        if len(named) < MAX_DAMAGED_RANGES:
            named.append(one)
        else:
            more += 1
    return named, more


def _is_good(fd: int, placed: PlacedRow) -> bool:
    offset, row = placed
    if row.is_zeros:
        for start, size, is_hole in extents(fd, offset, placed.end, len(_ZEROS)):
            if not is_hole and os.pread(fd, size, start) != _ZEROS[:size]:
                return False
        return True
    data = os.pread(fd, row.length, offset)
    return len(data) == row.length and chunk_digest_of(data) == row.digest


def report_damage(folder: CheckedFolder, damaged: list[Damage], recipes: dict[int, BinaryIO]) -> None:
    """Adds a finding for each damaged range of each file of an acquisition. Closes `recipes`, the chunks.bin files.

    Where there is no recipe, or the file is too short or too long, the finding covers what is known.
    """
    with ExitStack() as stack:
        for file in recipes.values():
            stack.enter_context(file)
        found = _find_all(recipes, {bytes.fromhex(one.file.blake3): one.file.size for one in damaged})
        try:
            reader = TreeReader(os.open(DATA, FOLDER_FLAGS, dir_fd=folder.fd))
        except OSError as error:
            folder.report.report(Check.CONTENTS, "unreadable", f"{DATA}: {reason(error)}", DATA)
            return
        stack.callback(reader.close)
        for one in damaged:
            _report_file(folder, reader, one, found.get(bytes.fromhex(one.file.blake3)))


def _find_all(files: dict[int, BinaryIO], wanted: dict[bytes, int]) -> dict[bytes, Recipe]:
    found: dict[bytes, Recipe] = {}
    for file in files.values():
        if len(found) == len(wanted):
            break
        # The damage is still reported, as the whole file. The recipes were hashed before: invalid ones are a writer's defect.
        with contextlib.suppress(OSError, MalformedDocumentError):
            find_recipes(partial(_read_at, file), os.fstat(file.fileno()).st_size, wanted, found)
    return found


def _read_at(file: BinaryIO, offset: int, length: int) -> bytes:
    return os.pread(file.fileno(), length, offset)


def _report_file(folder: CheckedFolder, reader: TreeReader, damage: Damage, recipe: Recipe | None) -> None:
    file = damage.file
    ranges, more, note = _ranges_of(reader, damage, recipe)
    shown = safe_text(file.path)
    name = DATA.encode() + b"/" + file.path
    if damage.size is not None and damage.size < file.size:
        text = f"{shown} was cut off: it has {count_text(damage.size, 'byte')} of {file.size:,}"
        folder.report.report(Check.CONTENTS, "file-truncated", text, name, offset=damage.size, length=file.size - damage.size)
    elif damage.size is not None:
        text = f"{shown} was made longer: it has {damage.size:,} bytes, not {file.size:,}"
        folder.report.report(Check.CONTENTS, "file-extended", text, name, offset=file.size, length=damage.size - file.size)
    for one in ranges:
        text = f"{shown} is not what was acquired within {extent_text(one.offset, one.length)}{note}"
        folder.report.report(Check.CONTENTS, "file-damaged", text, name, offset=one.offset, length=one.length)
    if more:
        folder.report.report(Check.CONTENTS, "file-damaged", f"{shown} has {more:,} more damaged ranges", name)


def _ranges_of(reader: TreeReader, damage: Damage, recipe: Recipe | None) -> tuple[list[ByteRange], int, str]:
    """Returns the damaged ranges, the number of further ones, and a remark about them for the finding."""
    file = damage.file
    whole = [ByteRange(0, file.size)]
    by_digest_alone = damage.size is None
    if damage.digest == "SHA-256":
        return whole, 0, ": its BLAKE3 agrees with the manifest, but its SHA-256 does not"
    if recipe is None:
        note = " (no recipe is known, so the whole file is named)" if file.size > MIN_CHUNK else ""
        return (whole, 0, note) if by_digest_alone else ([], 0, "")
    try:
        fd, _ = reader.open_file(file.path)
    except EvidenceSyncError as error:
        return (whole, 0, f" ({error.message})") if by_digest_alone else ([], 0, "")
    try:
        there = file.size if damage.size is None else min(damage.size, file.size)
        ranges, more = bounded(damaged_ranges(recipe, fd, there))
    except (OSError, MalformedDocumentError):
        return (whole, 0, " (its recipe cannot be used, so the whole file is named)") if by_digest_alone else ([], 0, "")
    finally:
        os.close(fd)
    if not ranges and by_digest_alone:
        return whole, 0, ", although every chunk of it is good now: it changes, or the disk does not read the same twice"
    return ranges, more, ""
