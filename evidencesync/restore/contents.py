"""Brings the bytes of one evidence file into a new file, and hashes every one of them on the way."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, TypeVar

from blake3 import blake3

from evidencesync.errors import DigestMismatchError
from evidencesync.evidence.digest import feed_zeros
from evidencesync.evidence.display import safe_text
from evidencesync.files.copying import share_blocks
from evidencesync.files.disk import write_all
from evidencesync.files.holes import extents
from evidencesync.files.parallel_hash import new_parallel_blake3
from evidencesync.limits import MIB

_SMALL: Final = 128 * 1024  # read whole; a hole that is shorter than half of this is none
_BLOCK: Final = 4 * MIB
_Result = TypeVar("_Result")

Tell = Callable[[int], None]
"""Told of bytes that are through."""


def copy_content(source_fd: int, target_fd: int, path: bytes, size: int, blake3_hex: str, tell: Tell) -> bool:
    """Fills an empty file with the content of a stored one; whether they share blocks. Holes stay holes.

    Raises DigestMismatchError where the stored bytes are not those of the digest, and then the target is to be thrown away;
    ReadingError where the vault's disk refuses, OSError where the target's does.
    """
    if size <= _SMALL:
        data = _reading(lambda: os.read(source_fd, size + 1))
        if len(data) != size or blake3(data).hexdigest() != blake3_hex:
            raise _damaged(path)
        if data:
            write_all(target_fd, data)
        tell(size)
        return False
    if _reading(lambda: os.fstat(source_fd).st_size) != size:
        raise _damaged(path)
    shared = share_blocks(source_fd, target_fd)
    if not shared:
        os.ftruncate(target_fd, size)
    if _pass_through(source_fd, None if shared else target_fd, size, tell) != blake3_hex:
        raise _damaged(path)
    return shared


class ReadingError(Exception):
    """The vault's disk refused. Never leaves this package."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def _pass_through(source_fd: int, target_fd: int | None, size: int, tell: Tell) -> str:
    """BLAKE3 of a stored file's bytes, which are written to the target where there is one."""
    whole = new_parallel_blake3()
    buffer = memoryview(bytearray(_BLOCK))
    pieces = extents(source_fd, 0, size, _BLOCK)
    while (extent := _reading(lambda: next(pieces, None))) is not None:
        offset, length, is_hole = extent
        if is_hole:
            feed_zeros(whole.update, length)
            tell(length)
            continue
        done = 0
        while done < length:
            block = buffer[: length - done]
            at = offset + done
            count = _reading(lambda block=block, at=at: os.preadv(source_fd, [block], at))  # type: ignore[misc]
            if not count:
                return ""
            whole.update(block[:count])
            if target_fd is not None:
                _write_at(target_fd, block[:count], at)
            done += count
        tell(length)
    return whole.hexdigest()


def _write_at(fd: int, block: memoryview, offset: int) -> None:
    while block:
        written = os.pwrite(fd, block, offset)
        block, offset = block[written:], offset + written


def _reading(read: Callable[[], _Result]) -> _Result:
    try:
        return read()
    except OSError as error:
        raise ReadingError(error) from error


def _damaged(path: bytes) -> DigestMismatchError:
    return DigestMismatchError(
        f"the vault's copy of {safe_text(path, 300)} is not what was acquired",
        hint="See which bytes: evidencesync verify VAULT. To restore all the rest: --on-damage skip",
    )
