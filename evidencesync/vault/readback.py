"""The third point: what the disk gives back, compared with what the manifest says.

Small files are read in batches by two threads. A large one is read by the calling thread, which takes its BLAKE3 while
another takes its SHA-256 of the same block; so each byte comes from the disk once. What the file system keeps no block for
is hashed as the zeros that a read would give, without one: the page cache was told to let go, so that this is what the disk
says, and a read would take it from the same map.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from queue import SimpleQueue
from typing import Final, NamedTuple

from blake3 import blake3

from evidencesync.custody.manifest import CheckedLine
from evidencesync.errors import DigestMismatchError, InternalError
from evidencesync.evidence.digest import feed_zeros, new_blake3, new_sha256
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.holes import HoleFinder
from evidencesync.vault.disk import forget_cached, storage_error
from evidencesync.vault.tree import TreeReader

_LARGE: Final = 4 << 20
_BLOCK: Final = 2 << 20
_BLOCKS: Final = 4
_BATCH_FILES: Final = 256
_BATCH_BYTES: Final = 8 << 20
_BATCHES_AHEAD: Final = 6
_THREADS: Final = 2

Progress = Callable[[int, int], None]
"""Told of files and bytes that were read since it was told last. Called in the calling thread only."""


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What was read, and found to be as the manifest says."""

    files: int
    bytes: int


class _File(NamedTuple):
    path: bytes
    size: int
    blake3: str
    sha256: str


def read_back(data_fd: int, lines: Iterable[CheckedLine], progress: Progress | None = None) -> ReadBack:
    """Reads every file of a synced `data/` from the disk, once, and compares BLAKE3 and SHA-256 with the manifest's.

    Raises DigestMismatchError for the first file found to differ (in bytes or size), MissingOrExtraError for one that is
    not there or is no regular file, StorageError for one that cannot be read. Does not look for files that are not listed.
    """
    report = progress or _say_nothing
    files = total = 0
    with ExitStack() as stack:
        readers: SimpleQueue[TreeReader] = SimpleQueue()
        for _ in range(_THREADS + 1):
            reader = TreeReader(os.dup(data_fd))
            stack.callback(reader.close)
            readers.put(reader)
        pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="read-back")
        stack.callback(pool.shutdown, cancel_futures=True)
        hasher = ThreadPoolExecutor(1, thread_name_prefix="read-back-sha256")  # one, for it must see the blocks in order
        stack.callback(hasher.shutdown)
        pending: deque[tuple[Future[None], int, int]] = deque()
        for batch in _batches(lines):
            size = sum(file.size for file in batch)
            if len(batch) == 1 and size >= _LARGE:
                _check_large(readers, batch[0], hasher, report)
                report(1, 0)
            else:
                pending.append((pool.submit(_check_small, readers, batch), len(batch), size))
            while len(pending) > _BATCHES_AHEAD:
                _wait(pending, report)
            files += len(batch)
            total += size
        while pending:
            _wait(pending, report)
    return ReadBack(files, total)


def _wait(pending: deque[tuple[Future[None], int, int]], report: Progress) -> None:
    future, files, size = pending.popleft()
    future.result()
    report(files, size)


def _say_nothing(files: int, size: int) -> None:
    """For a caller that does not want to know."""


def _batches(lines: Iterable[CheckedLine]) -> Iterator[list[_File]]:
    """Runs of small files, and each large file by itself."""
    batch: list[_File] = []
    size = 0
    for path, line in lines:
        if not isinstance(line, Entry) or line.blake3 is None:
            continue
        if line.size is None or line.sha256 is None:
            raise InternalError("a manifest entry with a BLAKE3 has no size or no SHA-256")
        file = _File(path, line.size, line.blake3, line.sha256)
        if file.size >= _LARGE:
            yield [file]
            continue
        batch.append(file)
        size += file.size
        if len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _check_small(readers: SimpleQueue[TreeReader], batch: list[_File]) -> None:
    reader = readers.get()
    try:
        for file in batch:
            fd, found = reader.open_file(file.path)
            try:
                if found.st_size != file.size:
                    raise _differs(file, found.st_size)
                forget_cached(fd)
                data = _read_whole(fd, file.size)
            except OSError as error:
                raise storage_error(error, f"read {safe_text(file.path)} back") from error
            finally:
                os.close(fd)
            if blake3(data).hexdigest() != file.blake3 or hashlib.sha256(data).hexdigest() != file.sha256:
                raise _differs(file, len(data))
    finally:
        readers.put(reader)


def _read_whole(fd: int, size: int) -> bytes:
    data = os.read(fd, size + 1)  # one more, to see that it ends there
    if len(data) == size:
        return data
    parts = [data]
    while data := os.read(fd, size + 1):
        parts.append(data)
    return b"".join(parts)


def _check_large(readers: SimpleQueue[TreeReader], file: _File, hasher: ThreadPoolExecutor, report: Progress) -> None:
    reader = readers.get()
    try:
        fd, found = reader.open_file(file.path)
    finally:
        readers.put(reader)
    try:
        if found.st_size != file.size:
            raise _differs(file, found.st_size)
        forget_cached(fd)
        digests = _hash_large(fd, file.size, hasher, report)
    except OSError as error:
        raise storage_error(error, f"read {safe_text(file.path)} back") from error
    finally:
        os.close(fd)
    if digests != (file.blake3, file.sha256):
        raise _differs(file, found.st_size)


def _hash_large(fd: int, size: int, hasher: ThreadPoolExecutor, report: Progress) -> tuple[str, str]:
    whole, other, finder = new_blake3(), new_sha256(), HoleFinder(fd)
    buffers = [bytearray(_BLOCK) for _ in range(_BLOCKS)]
    using: deque[Future[object]] = deque()  # the SHA-256 of blocks, oldest first; each of them needs its buffer
    offset = 0
    try:
        for buffer in cycle(buffers):
            if len(using) == _BLOCKS:
                using.popleft().result()
            _, length, is_hole = finder.next_extent(offset, size + 1)  # one more, to see that it ends there
            if is_hole:
                using.append(hasher.submit(feed_zeros, other.update, length))
                feed_zeros(whole.update, length)
            else:
                length = os.preadv(fd, [memoryview(buffer)[:length]], offset)
                block = memoryview(buffer)[:length]
                using.append(hasher.submit(other.update, block))
                whole.update(block)
            if not length:
                break
            report(0, length)
            offset += length
    finally:
        wait(using)
    while using:
        using.popleft().result()
    return whole.hexdigest(), other.digest().hex()


def _differs(file: _File, size: int) -> DigestMismatchError:
    found = f"; it has {size} bytes, not {file.size}" if size != file.size else ""
    return DigestMismatchError(f"the disk does not give back what was written: {safe_text(file.path)}{found}")
