"""The contents of a working copy, or of an export, from a far vault: asks for what is planned, and gives what was compared."""

from __future__ import annotations

import os
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Final

from evidencesync.acquire.evidence import Came, EvidenceStream, FilePart, Lack
from evidencesync.acquire.far_plan import FarPlan, PlannedRun
from evidencesync.acquire.local_basis import LocalBasis
from evidencesync.custody.manifest import WholeEntry
from evidencesync.delta.recipe import Recipe, find_recipes
from evidencesync.delta.rows import ZERO_DIGEST, RecipeSegment, Row
from evidencesync.errors import (
    DigestMismatchError,
    EvidenceSyncError,
    InternalError,
    LimitExceededError,
    MalformedDocumentError,
    MissingOrExtraError,
    StorageError,
)
from evidencesync.evidence.digest import blake3_of, chunk_digest_of, new_blake3, new_sha256, update_zeros
from evidencesync.evidence.entry import Entry
from evidencesync.files.disk import opened_file, storing
from evidencesync.files.temporary import writing_temporary
from evidencesync.limits import MAX_FETCHED_BYTES, MIB, SMALL_FILE
from evidencesync.restore.contents import Acquired, ReportCopied, copy_content, damaged, gone, unreadable, write_at
from evidencesync.vault.layout import CHUNKS
from evidencesync.vault.tree import TreeReader

_MOST_HERE: Final = 32 * MIB  # bytes of the basis that are read ahead
_MOST_RUNS: Final = 4096  # that are planned ahead
_WORTH_ROWS: Final = 64 * MIB  # of contents whose rows lie in earlier acquisitions; of less, the rows may be more
_ZEROS_AT_ONCE: Final = 64 * MIB


@dataclass(slots=True)
class FarCounts:
    """Bytes of files that were written: `received` came from the vault, `basis` from the basis. The rest is zeros or repeated.

    `stream`: over which they come, where somebody looks at that meanwhile.
    """

    received: int = 0
    basis: int = 0
    stream: EvidenceStream | None = None

    @property
    def wire_received(self) -> int:
        """Bytes that have travelled from the vault, over all links, with the documents."""
        return 0 if self.stream is None else self.stream.wire_received

    @property
    def is_lost(self) -> bool:
        """Whether the link is lost, and another one is tried."""
        return self.stream is not None and self.stream.is_lost


class FarContents:
    """See ContentSource."""

    def __init__(
        self,
        acquired: Acquired,
        stream: EvidenceStream,
        acquisition: int,
        counts: FarCounts,
        basis: LocalBasis | None = None,
        *,
        both_digests: bool = False,
    ) -> None:
        """Takes over the stream and the basis. `acquired.folder_fd` has the documents alone.

        `both_digests`: SHA-256 is compared, too, of what comes.
        """
        self._acquired = acquired
        self._stream = stream
        self._acquisition = acquisition
        self._counts = counts
        self._basis = basis
        self._open = ExitStack()
        self._open.callback(stream.close)
        if basis is not None:
            self._open.callback(basis.close)
        self._both_digests = both_digests
        self._made = TreeReader(os.dup(acquired.draft_fd)) if acquired.draft_fd is not None else None
        if self._made is not None:
            self._open.callback(self._made.close)
        self._expected = 0
        self._sizes: dict[bytes, int] = {}  # of large contents
        self._times: Counter[bytes] = Counter()
        self._recipes: dict[bytes, Recipe] = {}
        self._plan = FarPlan(acquired, stream, basis, self._recipes)
        self._planned = self._plan.runs()
        self._is_planned = False
        self._runs: deque[PlannedRun] = deque()
        self._here = 0
        self._patched = 0  # bytes of the run that was taken last that lay here

    def close(self) -> None:
        """See ContentSource."""
        self._open.close()

    def expect(self, wanted: WholeEntry) -> None:
        """See ContentSource."""
        size = wanted.entry.size or 0
        self._expected += size
        if size > SMALL_FILE:
            content = bytes.fromhex(wanted.entry.blake3 or "")
            self._sizes[content] = size
            self._times[content] += 1

    def bytes_needed(self) -> int:
        """See ContentSource. Finds the rows of chunks first, which say what of it is zeros."""
        self._find_rows()
        for content, recipe in [*self._recipes.items()]:
            try:
                zeros = sum(map(self._zeros_of, recipe.segments()))
            except MalformedDocumentError:  # then that file comes whole, and is held to its digest alone
                del self._recipes[content]
                continue
            self._expected -= zeros * self._times[content]
        return self._expected

    def _zeros_of(self, segment: RecipeSegment) -> int:
        self._stream.keep_alive()
        if segment.packed.find(ZERO_DIGEST) < 0:  # nearly always: then no row has to be looked at
            return 0
        return sum(row.length for row in segment.rows() if row.is_zeros)

    def fill(self, target_fd: int, wanted: WholeEntry, report_bytes: ReportCopied) -> bool:
        """See ContentSource."""
        path = wanted.path
        run = self._next_run(path)

        def report(size: int, holes: int = 0, /) -> None:
            report_bytes(size, holes)
            self._stream.keep_alive()

        try:
            if run.kind != "again":
                self._write(target_fd, wanted, self._rest_of(run, wanted), report)
            elif not self._copy_again(target_fd, wanted, run.earlier, report):
                os.ftruncate(target_fd, 0)
                self._write(target_fd, wanted, self._fetch_first(wanted), report)
        except BaseException:
            self._plan.given_up = path
            raise
        self._let_go()
        return False

    def read(self, wanted: WholeEntry) -> Iterator[tuple[int, memoryview | None]]:
        """Yields a content of which no file is made: the length of each part, and its bytes; None for zeros.

        Raises as `fill` does. To be used without a folder in which the copy is made.
        """
        for run, data in self._compared(wanted, self._rest_of(self._next_run(wanted.path), wanted)):
            self._stream.keep_alive()
            self._count(run)
            yield run.length, data
        self._let_go()

    def _let_go(self) -> None:
        if self._is_planned and self._stream.is_idle:
            self._stream.close()  # what follows may take hours, and needs no vault

    # Rows.

    def _find_rows(self) -> None:
        """Finds the rows of the large contents: in this acquisition, and of what is linked in the earlier one that wrote it."""
        wanted, found = self._sizes, self._recipes
        if not wanted:
            return
        try:
            _find(self._open.enter_context(opened_file(CHUNKS, self._acquired.folder_fd)), wanted, found)
        except MissingOrExtraError:
            return
        lacked = sum(size for content, size in wanted.items() if content not in found)
        if self._basis is None and lacked < _WORTH_ROWS:
            return
        left = MAX_FETCHED_BYTES
        for number in range(self._acquisition - 1, 0, -1):
            if len(found) == len(wanted):
                return
            before = len(found)
            with writing_temporary():
                file = self._open.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - entered
            left -= self._stream.fetch_rows(number, file)
            if left < 0:
                raise LimitExceededError("the vault shows more rows of chunks than its contents have")
            _find(file, wanted, found)
            if len(found) == before:
                file.close()

    # The plan, which runs ahead of what is written.

    def _look_ahead(self) -> None:
        """Plans on while there is room, and asks for what is needed."""
        self._stream.keep_alive()
        if self._runs and not self._stream.has_room:
            return
        while not self._runs or (not self._stream.is_full and self._here < _MOST_HERE and len(self._runs) < _MOST_RUNS):
            run = next(self._planned, None)
            if run is None:
                self._is_planned = True
                break
            self._here += len(run.data)
            if run.kind == "asked":
                self._stream.ask(FilePart(run.path, run.offset, run.length, run.older))
            self._runs.append(run)
        self._stream.flush()

    def _next_run(self, path: bytes) -> PlannedRun:
        """Returns the next run of a file. Those of files that were not made, or not to their end, are dropped."""
        while True:
            self._look_ahead()
            if not self._runs:
                raise InternalError("a file was to be filled that is not in the plan")
            run = self._runs.popleft()
            self._here -= len(run.data)
            if run.path == path:
                return run
            if run.kind == "asked":
                self._stream.take()

    # Writing.

    def _rest_of(self, run: PlannedRun, wanted: WholeEntry) -> Iterator[tuple[PlannedRun, Callable[[], Came | Lack]]]:
        size = wanted.entry.size or 0
        while True:
            yield run, self._stream.take
            if run.offset + run.length >= size:
                return
            run = self._next_run(wanted.path)

    def _fetch_first(self, wanted: WholeEntry) -> Iterator[tuple[PlannedRun, Callable[[], Came | Lack]]]:
        """Yields the runs of a file that was not planned, because an earlier one was to have its content."""
        for run in self._plan.runs_of(wanted):
            yield run, partial(self._stream.take_first, FilePart(run.path, run.offset, run.length))

    def _write(
        self,
        target_fd: int,
        wanted: WholeEntry,
        runs: Iterator[tuple[PlannedRun, Callable[[], Came | Lack]]],
        report_bytes: ReportCopied,
    ) -> None:
        """Writes a file run by run."""
        os.ftruncate(target_fd, wanted.entry.size or 0)
        for run, data in self._compared(wanted, runs, lambda size: report_bytes(size, size)):
            if data is not None:
                write_at(target_fd, data, run.offset)
                self._count(run)
                report_bytes(run.length)

    def _compared(
        self,
        wanted: WholeEntry,
        runs: Iterator[tuple[PlannedRun, Callable[[], Came | Lack]]],
        report_zeros: Callable[[int], None] = lambda _size: None,
    ) -> Iterator[tuple[PlannedRun, memoryview | None]]:
        """Yields a file run by run, each after it was compared; the last one after the whole was. Of zeros there are no bytes."""
        path, entry, _ = wanted
        size, whole = entry.size or 0, new_blake3()
        second = new_sha256() if self._both_digests else None
        for run, take in runs:
            data: memoryview | None = None
            if run.kind == "zeros":
                for at in range(0, run.length, _ZEROS_AT_ONCE):
                    length = min(_ZEROS_AT_ONCE, run.length - at)
                    update_zeros(whole.update, length)
                    if second is not None:
                        update_zeros(second.update, length)
                    report_zeros(length)
            else:
                data = self._taken(run, entry, take()) if run.kind == "asked" else memoryview(run.data)
                whole.update(data)
                if second is not None:
                    second.update(data)
            if run.offset + run.length == size and (
                whole.hexdigest() != entry.blake3 or (second is not None and second.digest().hex() != entry.sha256)
            ):
                raise damaged(path)
            yield run, data

    def _taken(self, run: PlannedRun, entry: Entry, found: Came | Lack) -> memoryview:
        """Returns what has come for a run; of what was patched, only what is right. Raises what is wrong with the file there."""
        if isinstance(found, Came) and run.older is not None:
            is_right = _has_rows(found.data, run.rows) if run.rows else blake3_of(found.data).hex() == entry.blake3
            self._plan.note_patched(has_helped=is_right and found.older > 0)
            if not is_right:
                found = self._stream.take_first(FilePart(run.path, run.offset, run.length))
        came = _checked(run.path, run.rows, found)
        self._patched = came.older
        return came.data

    def _count(self, run: PlannedRun) -> None:
        if run.kind == "asked":
            self._counts.received += run.length - self._patched
            self._counts.basis += self._patched
        elif run.kind == "here":
            self._counts.basis += run.length

    def _copy_again(self, target_fd: int, wanted: WholeEntry, earlier: bytes, report_bytes: ReportCopied) -> bool:
        """Copies a content from an earlier file of the copy; False where that cannot be read, or is not there."""
        if self._made is None:
            return False
        try:
            source, _ = self._made.open_file(earlier)
        except (EvidenceSyncError, OSError):
            return False
        try:
            copy_content(source, target_fd, wanted.path, wanted.entry.size or 0, wanted.entry.blake3 or "", report_bytes)
        except (DigestMismatchError, StorageError):
            return False
        finally:
            os.close(source)
        return True


def _checked(path: bytes, rows: tuple[Row, ...], found: Came | Lack) -> Came:
    """Returns what has come if its chunks are those that were asked for. Raises what is wrong with the vault's file."""
    if isinstance(found, Lack):
        match found.kind:
            case "gone":
                raise gone(path)
            case "unreadable":
                raise unreadable(path, found.text)
            case "shorter":
                raise damaged(path)
    if not _has_rows(found.data, rows):
        raise damaged(path)
    return found


def _has_rows(data: memoryview, rows: tuple[Row, ...]) -> bool:
    at = 0
    for row in rows:
        if chunk_digest_of(data[at : at + row.length]) != row.digest:
            return False
        at += row.length
    return True


def _find(file: BinaryIO, wanted: dict[bytes, int], found: dict[bytes, Recipe]) -> None:
    """Adds the recipes of a chunks.bin, which has to stay open. A malformed one gives those before the mistake."""
    descriptor = file.fileno()

    def read_at(offset: int, length: int) -> bytes:
        with storing(f"read {CHUNKS}"):
            return os.pread(descriptor, length, offset)

    size = os.fstat(descriptor).st_size
    if not size:
        return
    try:
        find_recipes(read_at, size, wanted, found)
    except MalformedDocumentError:
        return
