"""LargeHasher: the digests of a large file, read by one thread while others hash what was read.

BLAKE3 is hashed on all cores. Holes are hashed as the zeros they are, without a read. (Mapping files into memory would be a
little faster, but a disk error would then kill the process.)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from evidencesync.evidence.digest import Buffer, new_sha256, update_zeros
from evidencesync.files.holes import HoleFinder
from evidencesync.files.parallel_hash import new_parallel_blake3
from evidencesync.verify.documents import reason

LARGE: Final = 8 << 20
"""Files above this are hashed here, others many at a time (`vault/file_checks.py`)."""

_BLOCK: Final = 4 << 20

Tell = Callable[[int], None]
"""Told of bytes that were read."""


class ContentReadError(Exception):
    """The disk refused, at an offset. Never leaves the room."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset
        self.message = message


@dataclass(frozen=True, slots=True)
class Hashed:
    """What was read: how many bytes, their BLAKE3 and, where it was wanted, their SHA-256, in hexadecimal."""

    size: int
    blake3: str
    sha256: str | None


class LargeHasher:
    """Hashes one file after the other. For one thread, which reads."""

    def __init__(self, *, with_sha256: bool) -> None:
        self._with_sha256 = with_sha256
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="verify-hash")
        self._buffers: tuple[memoryview, memoryview] | None = None

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(cancel_futures=True)

    def hash(self, fd: int, size: int, tell: Tell) -> Hashed:
        """The digests of an open file that says it has `size` bytes, of which one more is asked for. Raises ReadingError.

        One block is read while the one before it is hashed.
        """
        if self._buffers is None:
            self._buffers = (memoryview(bytearray(_BLOCK)), memoryview(bytearray(_BLOCK)))
        whole, other, finder = new_parallel_blake3(), new_sha256(), HoleFinder(fd)
        updates: list[Callable[[Buffer], object]] = [whole.update, other.update] if self._with_sha256 else [whole.update]
        offset = turn = 0
        hashing: list[Future[object]] = []
        try:
            while True:
                length, is_hole = _next_extent(finder, offset, size + 1)
                if not is_hole:
                    length = _read_into(fd, self._buffers[turn][:length], offset)
                for future in hashing:
                    future.result()
                if not length:
                    break
                if is_hole:
                    hashing = [self._pool.submit(update_zeros, update, length) for update in updates]
                else:
                    hashing = [self._pool.submit(update, self._buffers[turn][:length]) for update in updates]
                offset += length
                turn ^= 1
                tell(length)
        finally:
            for future in hashing:
                future.result()
        return Hashed(offset, whole.hexdigest(), other.digest().hex() if self._with_sha256 else None)


def _next_extent(finder: HoleFinder, offset: int, end: int) -> tuple[int, bool]:
    try:
        _, length, is_hole = finder.next_extent(offset, end)
    except OSError as error:
        raise ContentReadError(offset, reason(error)) from error
    return length, is_hole


def _read_into(fd: int, buffer: memoryview, offset: int) -> int:
    try:
        return os.preadv(fd, [buffer], offset)
    except OSError as error:
        raise ContentReadError(offset, reason(error)) from error
