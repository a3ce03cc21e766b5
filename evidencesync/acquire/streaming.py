"""Reads one content from its start to its end, hashes it, and cuts it into segments; unreadable ranges become zeros."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import msgspec

from evidencesync.connection.progress import Progress
from evidencesync.delta.chunker import Segment, SegmentCutter
from evidencesync.errors import SourceReadError
from evidencesync.evidence.digest import Blake3Digest, Sha256Digest, new_blake3, new_sha256, update_zeros
from evidencesync.evidence.entry import ReadError
from evidencesync.limits import KIB, MIB, SMALL_FILE
from evidencesync.source.reader import OpenedFile
from evidencesync.source.salvage import Gaps, OnReadError

_BLOCK: Final = 4 * MIB
_LEAST_BLOCK: Final = 64 * KIB


class ContentRead(msgspec.Struct, frozen=True):
    """One content that was read. `size` and digests are of the delivered bytes; `read_size` is the last offset in the file.

    `read_errors` are the ranges that could not be read. `error` is set where nothing is to be delivered at all.
    """

    size: int
    read_size: int
    blake3: Blake3Digest
    sha256: Sha256Digest
    beginning: bytes
    read_errors: list[ReadError]
    error: SourceReadError | None


class Digests:
    """Computes both digests of one content: BLAKE3 in the caller's thread, and at the same time SHA-256 in another.

    At most one block is in work: the next `update` waits for the slower digest.
    """

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._blake3, self._sha256 = new_blake3(), new_sha256()
        self._running: Future[object] | None = None

    def update(self, block: memoryview) -> None:
        """Hashes the next bytes, which must not change before the next call."""
        self._wait()
        self._running = self._pool.submit(self._sha256.update, block)
        self._blake3.update(block)

    def update_zeros(self, length: int) -> None:
        """Hashes `length` zero bytes (a hole)."""
        self._wait()
        self._running = self._pool.submit(update_zeros, self._sha256.update, length)
        update_zeros(self._blake3.update, length)

    def finish(self) -> tuple[Blake3Digest, Sha256Digest]:
        """Returns the digests of all bytes."""
        self._wait()
        return Blake3Digest(self._blake3.digest()), Sha256Digest(self._sha256.digest())

    def _wait(self) -> None:
        if self._running is not None:
            self._running.result()
            self._running = None


class ContentReader:
    """Reads contents, one after the other. What is hashed is what is sent: blocks as they were read, and the zeros of holes."""

    def __init__(self, hashing: ThreadPoolExecutor, on_error: OnReadError, progress: Progress) -> None:
        self._hashing = hashing
        self._on_error = on_error
        self._progress = progress

    def read(self, opened: OpenedFile, emit: Callable[[list[Segment]], None]) -> ContentRead:
        """Reads a file to its end, and emits its segments as they are complete."""
        cutter, digests, gaps = SegmentCutter(), Digests(self._hashing), Gaps(opened, self._on_error)
        beginning = b""
        delivered = 0
        while True:
            room, length = self._next(opened, cutter, gaps)
            if not length:
                break
            delivered += length
            missing = min(SMALL_FILE - len(beginning), length)
            if room is None:
                self._progress.hole_bytes += length
                beginning += bytes(missing)
                digests.update_zeros(length)
                emit(cutter.zeros(length))
            else:
                beginning += bytes(room[:missing])
                digests.update(room[:length])
                emit(cutter.commit(length))
        emit(cutter.finish())
        return ContentRead(delivered, opened.offset, *digests.finish(), beginning, gaps.read_errors, gaps.verdict())

    def _next(self, opened: OpenedFile, cutter: SegmentCutter, gaps: Gaps) -> tuple[memoryview | None, int]:
        """Returns the next bytes to deliver, or (None, length) for a hole. A length of 0 is the end, or an error in `gaps`."""
        while True:
            before = opened.offset
            try:
                length, is_hole = opened.next_extent()
            except SourceReadError as error:
                gaps.end(error)
                return None, 0
            if is_hole:
                opened.skip(length)
                return None, length
            room = cutter.buffer(min(_BLOCK, length or _LEAST_BLOCK))
            try:
                length = opened.read_into(room)
            except SourceReadError as error:
                length = gaps.recover(room, error)
            self._progress.bad_bytes += gaps.take_bad_bytes()
            if length or opened.offset == before:  # a block may have been bad and left out from its first byte to its last
                return room, length
