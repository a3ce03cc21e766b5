"""Hashes large files: one thread reads while others hash what was read, and holes count as the zeros they are.

A hole is hashed without a read (files/holes.py says why that is as good). Mapping files into memory would be a little faster,
but a disk error would then kill the process.
"""

from __future__ import annotations

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from itertools import cycle
from typing import Final, NamedTuple

import msgspec
from blake3 import blake3

from evidencesync.evidence.digest import Buffer, new_blake3, new_sha256, update_zeros
from evidencesync.files.holes import HoleFinder
from evidencesync.limits import MIB

LARGE: Final = 8 * MIB
"""`verify` and `compare` hash files above this here, and others many at a time (`vault/file_checks.py`)."""

_BLOCK: Final = 4 * MIB
_ENOUGH_FOR_THREADS: Final = MIB // 2

ReportBytes = Callable[[int, int], None]
"""Receives the number of bytes that were hashed since the last call, and how many of these are of holes, which are not read."""


class ContentReadError(Exception):
    """The system refused to read a file, at an offset. The caller makes its own error or finding of it."""

    def __init__(self, offset: int, error: OSError) -> None:
        super().__init__(str(error))
        self.offset = offset
        self.error = error


class FileBlock(NamedTuple):
    """A range of a file, and its bytes; None for a hole."""

    offset: int
    length: int
    data: memoryview | None


def read_blocks(fd: int, end: int, buffers: Sequence[memoryview]) -> Iterator[FileBlock]:
    """Reads a file up to `end`, or to its own end where that comes first. Raises ContentReadError.

    The buffers are used in turn: a block's bytes are good until as many further blocks were asked for as there are others.
    """
    finder = HoleFinder(fd)
    offset = 0
    for buffer in cycle(buffers):
        if offset >= end:
            return
        try:
            _, length, is_hole = finder.next_extent(offset, end)
            if not is_hole:
                length = os.preadv(fd, [buffer[:length]], offset)
        except OSError as error:
            raise ContentReadError(offset, error) from error
        if not length:
            return
        yield FileBlock(offset, length, None if is_hole else buffer[:length])
        offset += length


class Hashed(msgspec.Struct, frozen=True):
    """The number of bytes that were read, their BLAKE3 and, where requested, their SHA-256, in hexadecimal."""

    size: int
    blake3: str
    sha256: str | None


class LargeHasher:
    """Hashes files one after the other. Used by one thread, which reads."""

    def __init__(self, *, with_sha256: bool, all_cores: bool) -> None:
        """`all_cores`: BLAKE3 on all of them, in a thread of its own. Otherwise the reading thread computes it, alone.

        Then there are more and smaller blocks: SHA-256 may fall behind by some while the reading thread goes on.
        """
        self._with_sha256 = with_sha256
        self._all_cores = all_cores
        self._stack = ExitStack()
        # One thread for each digest, which must see the blocks in order. It starts with the first block.
        self._sha256_thread = self._stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="hash-sha256"))
        self._blake3_thread = self._stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="hash-blake3"))
        self._buffers: list[memoryview] = []

    def close(self) -> None:
        """Ends the threads."""
        self._stack.close()

    def hash(self, fd: int, size: int, report_bytes: ReportBytes) -> Hashed:
        """Returns the digests of an open file with a stated `size`; one byte more is requested, to detect a longer file.

        The next block is read while the ones before it are hashed. Raises ContentReadError.
        """
        if not self._buffers:
            blocks, length = (2, _BLOCK) if self._all_cores else (4, _BLOCK // 2)
            self._buffers = [memoryview(bytearray(length)) for _ in range(blocks)]
        whole, other = new_parallel_blake3() if self._all_cores else new_blake3(), new_sha256()
        using: deque[list[Future[None]]] = deque()  # blocks that are being hashed, oldest first: each needs its buffer
        found = 0
        try:
            for block in read_blocks(fd, size + 1, self._buffers):
                hashing: list[Future[None]] = []
                using.append(hashing)
                if self._with_sha256:
                    hashing.append(self._sha256_thread.submit(_add, other.update, block))
                if self._all_cores:
                    hashing.append(self._blake3_thread.submit(_add, whole.update, block))
                else:
                    _add(whole.update, block)
                found += block.length
                report_bytes(block.length, block.length if block.data is None else 0)
                if len(using) == len(self._buffers):
                    _finish(using[0])
                    using.popleft()
        finally:
            wait([future for hashing in using for future in hashing])  # no thread may read a buffer that is filled again
        for hashing in using:
            _finish(hashing)
        return Hashed(found, whole.hexdigest(), other.digest().hex() if self._with_sha256 else None)


def _add(update: Callable[[Buffer], object], block: FileBlock) -> None:
    if block.data is None:
        update_zeros(update, block.length)
    else:
        update(block.data)


def _finish(hashing: list[Future[None]]) -> None:
    for future in hashing:
        future.result()


def new_parallel_blake3() -> blake3:
    """Returns an incremental BLAKE3 for large blocks: on all cores, or in one thread where no more are allowed."""
    return blake3(max_threads=_most_threads())


@functools.cache
def _most_threads() -> int:
    """Starts blake3's threads once for the process and returns their number: 1 where they are refused.

    Where the system refuses a thread, blake3 panics, now and at every later call, and writes to stderr. So the same number of
    threads is started first as a test.
    """
    if not _can_start_threads(os.cpu_count() or 1):
        return 1
    try:
        blake3(bytes(_ENOUGH_FOR_THREADS), max_threads=blake3.AUTO)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # a BaseException, whose class cannot be imported
            raise
        return 1
    return blake3.AUTO


def _can_start_threads(count: int) -> bool:
    done = threading.Event()
    try:
        for _ in range(count):
            threading.Thread(target=done.wait, daemon=True).start()
    except RuntimeError:
        return False
    finally:
        done.set()
    return True
