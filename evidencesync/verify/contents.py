"""ContentChecker: reads stored files and compares size and digests with the manifest's.

Small files are read in batches: in the calling thread as long as the disk keeps up (threads would spend more time on
waiting for the interpreter than they save), by a few threads while most of the time is spent on waiting for the disk. A
large file is read by one thread while another hashes what was read, BLAKE3 on all cores; its holes are hashed as the zeros
they are, without a read. (Mapping files into memory would
be a little faster, but a disk error would then kill the process.)
"""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final, NamedTuple

from blake3 import blake3

from evidencesync.errors import EvidenceSyncError, MissingOrExtraError
from evidencesync.evidence.digest import Buffer, feed_zeros, new_sha256, sha256_of
from evidencesync.holes import HoleFinder
from evidencesync.vault.tree import TreeReader
from evidencesync.verify.documents import reason, unsafe_bits

_THREADS: Final = 2
_LARGE: Final = 8 << 20
_BLOCK: Final = 4 << 20
_BATCH_FILES: Final = 256
_BATCH_BYTES: Final = 8 << 20
_BATCHES_AHEAD: Final = 6
_PROBE_EVERY: Final = 32  # batches in threads, after which one in the calling thread shows whether that is quicker now
_WAITING: Final = 2.0  # time that passes for each second of computing, above which threads are worth their price


class StoredFile(NamedTuple):
    """A file as the manifest lists it; digests in hexadecimal."""

    path: bytes
    size: int
    blake3: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that is not what the manifest lists. `size` is what it has on the disk; None where only the digest differs."""

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
    """A file that is gone, or no regular file any more, since its folder was listed."""

    file: StoredFile
    message: str


@dataclass(frozen=True, slots=True)
class UnsafeMode:
    """A file whose mode is not that of evidence."""

    file: StoredFile
    mode: int


Problem = Damage | Unreadable | Exchanged | UnsafeMode
Done = Callable[[int, int, list[Problem]], None]
"""Told, in the thread that adds files, of files and bytes that were read, and of what is wrong with them."""

Tell = Callable[[int], None]
"""Told of bytes of a large file that were read."""


class ContentChecker:
    """Add files in manifest order; what is wrong is told to `done` in that order, a little later. Then `finish`."""

    def __init__(self, data_fd: int, done: Done, *, all_digests: bool) -> None:
        """The descriptor of `data/` stays the caller's, and is not needed after this."""
        self._done = done
        self._all_digests = all_digests
        self._batch: list[StoredFile] = []
        self._batch_bytes = 0
        self._pending: deque[Future[tuple[int, int, list[Problem]]]] = deque()
        self._stack = ExitStack()
        self._readers: SimpleQueue[TreeReader] = SimpleQueue()
        for _ in range(_THREADS):
            reader = TreeReader(os.dup(data_fd))
            self._stack.callback(reader.close)
            self._readers.put(reader)
        self._hashing = self._pool("verify-hash")
        self._reading = self._pool("verify-read")
        self._in_threads = 0  # how many more batches are for the threads

    def add(self, file: StoredFile) -> None:
        """The next file. Waits when enough is under way."""
        self._batch.append(file)
        self._batch_bytes += file.size
        if len(self._batch) >= _BATCH_FILES or self._batch_bytes >= _BATCH_BYTES:
            self._submit()

    def finish(self) -> None:
        """Waits for everything that was added."""
        self._submit()
        while self._pending:
            self._take()

    def close(self) -> None:
        """Ends the threads."""
        self._stack.close()

    def _pool(self, name: str) -> ThreadPoolExecutor:
        pool = ThreadPoolExecutor(_THREADS, thread_name_prefix=name)
        self._stack.callback(pool.shutdown, cancel_futures=True)
        return pool

    def _submit(self) -> None:
        if self._batch:
            batch, self._batch, self._batch_bytes = self._batch, [], 0
            if self._in_threads:
                self._in_threads -= 1
                self._pending.append(self._reading.submit(self._check_batch, batch))
            else:
                while self._pending:  # so that problems are told in order
                    self._take()
                self._check_here(batch)
        while len(self._pending) > _BATCHES_AHEAD:
            self._take()

    def _check_here(self, batch: list[StoredFile]) -> None:
        began, computed = time.perf_counter(), time.thread_time()
        told = 0

        def tell(size: int) -> None:
            nonlocal told
            told += size
            self._done(0, size, [])

        files, size, problems = self._check_batch(batch, tell)
        self._done(files, size - told, problems)
        passed, computed = time.perf_counter() - began, time.thread_time() - computed
        if passed > _WAITING * computed and batch[-1].size <= _LARGE:  # a large file is hashed by other threads anyway
            self._in_threads = _PROBE_EVERY

    def _take(self) -> None:
        self._done(*self._pending.popleft().result())

    # In the pool's threads.

    def _check_batch(self, batch: list[StoredFile], tell: Tell | None = None) -> tuple[int, int, list[Problem]]:
        """Checks files; `tell` is told how far a large one is."""
        problems: list[Problem] = []
        reader = self._readers.get()
        try:
            size = sum([self._check(reader, file, problems, tell) for file in batch])
        finally:
            self._readers.put(reader)
        return len(batch), size, problems

    def _check(self, reader: TreeReader, file: StoredFile, problems: list[Problem], tell: Tell | None) -> int:
        """Checks one file; the bytes that were read."""
        try:
            fd, found = reader.open_file(file.path)
        except MissingOrExtraError as error:
            problems.append(Exchanged(file, error.message))
            return 0
        except EvidenceSyncError as error:
            problems.append(Unreadable(file, 0, error.message))
            return 0
        try:
            if unsafe_bits(found.st_mode):
                problems.append(UnsafeMode(file, stat.S_IMODE(found.st_mode)))
            if found.st_size != file.size:
                problems.append(Damage(file, found.st_size, "size"))
                return 0
            wrong = self._compare_large(fd, file, tell) if file.size > _LARGE else self._compare_small(fd, file)
        except _ReadingError as error:
            problems.append(Unreadable(file, error.offset, error.message))
            return error.offset
        finally:
            os.close(fd)
        if wrong is not None:
            problems.append(Damage(file, None, wrong))
        return file.size

    def _compare_small(self, fd: int, file: StoredFile) -> str | None:
        try:
            data = os.read(fd, file.size + 1)  # one more, to see that it ends there
            while len(data) < file.size and (more := os.read(fd, file.size - len(data))):
                data += more
        except OSError as error:
            raise _ReadingError(0, reason(error)) from error
        if blake3(data).hexdigest() != file.blake3:
            return "BLAKE3"
        if self._all_digests and sha256_of(data).hex() != file.sha256:
            return "SHA-256"
        return None

    def _compare_large(self, fd: int, file: StoredFile, tell: Tell | None) -> str | None:
        """One block is read while the one before it is hashed."""
        whole, other, finder = blake3(max_threads=blake3.AUTO), new_sha256(), HoleFinder(fd)
        updates: list[Callable[[Buffer], object]] = [whole.update, other.update] if self._all_digests else [whole.update]
        buffers = (memoryview(bytearray(_BLOCK)), memoryview(bytearray(_BLOCK)))
        offset = turn = 0
        hashing: list[Future[object]] = []
        try:
            while True:
                length, is_hole = _next_extent(finder, offset, file.size + 1)  # one more, to see that it ends there
                if not is_hole:
                    length = _read_into(fd, buffers[turn][:length], offset)
                for future in hashing:
                    future.result()
                if not length:
                    break
                if is_hole:
                    hashing = [self._hashing.submit(feed_zeros, update, length) for update in updates]
                else:
                    hashing = [self._hashing.submit(update, buffers[turn][:length]) for update in updates]
                offset += length
                turn ^= 1
                if tell is not None:
                    tell(length)
        finally:
            for future in hashing:
                future.result()
        if whole.hexdigest() != file.blake3:
            return "BLAKE3"
        if self._all_digests and other.digest().hex() != file.sha256:
            return "SHA-256"
        return None


class _ReadingError(Exception):
    """The disk refused, at an offset. Never leaves this module."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset
        self.message = message


def _next_extent(finder: HoleFinder, offset: int, end: int) -> tuple[int, bool]:
    try:
        _, length, is_hole = finder.next_extent(offset, end)
    except OSError as error:
        raise _ReadingError(offset, reason(error)) from error
    return length, is_hole


def _read_into(fd: int, buffer: memoryview, offset: int) -> int:
    try:
        return os.preadv(fd, [buffer], offset)
    except OSError as error:
        raise _ReadingError(offset, reason(error)) from error
