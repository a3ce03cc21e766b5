"""Checks that the disk has room for what is to be written, and keeps a reserve free."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from evidencesync.errors import NoSpaceError
from evidencesync.evidence.number_format import count_text, size_text
from evidencesync.files.disk import storing
from evidencesync.files.folders import FolderStack
from evidencesync.limits import ENTRIES_RESERVE, MIB, SPACE_RESERVE
from evidencesync.vault.writer import kind_of_file_system

UNKNOWN_ROOM: Final = 1 << 62
"""More than anybody needs: where there is no room after all, the write itself says so."""
_SHARE: Final = 4  # of the free space may be used before it is read again: others write too
_MOST_UNASKED: Final = 16 * MIB
_MOST_ENTRIES_UNASKED: Final = 4096
_BLOCK: Final = 512  # bytes, the unit of st_blocks on every file system
_SHARING: Final = frozenset({"btrfs", "xfs", "bcachefs", "zfs", "ocfs2"})


def free_bytes(folder: Path | int) -> int:
    """Returns the bytes that this account may still write at `folder`. Quotas are not included.

    A file system that states no size at all (a tmpfs without a limit, many a FUSE) states no free space either: UNKNOWN_ROOM.
    """
    with storing("ask for the free space"):
        found = os.fstatvfs(folder) if isinstance(folder, int) else os.statvfs(folder)
    return found.f_bavail * found.f_frsize if found.f_blocks else UNKNOWN_ROOM


def no_room(free: int, needed: int, reserve: int) -> NoSpaceError:
    """Returns the error for a disk with too little room, with the sizes."""
    over = f"; {size_text(needed)} more are needed" if needed else ""
    kept = f"{size_text(reserve)} are kept in reserve for what must be recorded"
    return NoSpaceError(f"the vault's disk has {size_text(free)} free{over}, and {kept}")


def free_entries(folder: Path | int) -> int | None:
    """Returns how many files and folders this account may still make at `folder`. None: the file system has no fixed number."""
    with storing("ask for the free space"):
        found = os.fstatvfs(folder) if isinstance(folder, int) else os.statvfs(folder)
    return found.f_favail if found.f_files else None


def no_entries(free: int, reserve: int) -> NoSpaceError:
    """Returns the error for a disk that has bytes free, and too few inodes: `df -h` alone does not show that."""
    return NoSpaceError(
        f"the vault's disk can hold {count_text(free, 'more file or folder', 'more files and folders')} (inodes), and "
        f"{reserve:,} are kept in reserve for what must be recorded"
    )


def check_space(folder: Path | int, needed_bytes: int) -> None:
    """Raises NoSpaceError unless `needed_bytes` fit and the reserve is left, of bytes and of inodes.

    A full disk may still be met later: others write too, and quotas do not show.
    """
    free = free_bytes(folder)
    if free < needed_bytes + SPACE_RESERVE:
        raise no_room(free, needed_bytes, SPACE_RESERVE)
    entries = free_entries(folder)
    if entries is not None and entries < ENTRIES_RESERVE:
        raise no_entries(entries, ENTRIES_RESERVE)


def check_declared(folder: Path | int, least_bytes: int) -> None:
    """Raises NoSpaceError where new evidence cannot fit, by the size that its sender has measured.

    Some of it may be zeros, which take no room: so it is refused only where not even nine tenths fit.
    """
    free = free_bytes(folder)
    if least_bytes and free < least_bytes * 9 // 10 + SPACE_RESERVE:
        raise no_room(free, least_bytes, SPACE_RESERVE)


def bytes_on_disk(found: os.stat_result) -> int:
    """Returns the most that a copy of a stored file takes where it can have the same holes."""
    return min(found.st_size, allocated_bytes(found))


def allocated_bytes(found: os.stat_result) -> int:
    """Returns the bytes that a file takes on its disk."""
    return found.st_blocks * _BLOCK


def bytes_below(folder_fd: int) -> int:
    """Returns the most that copies of all files below a folder take, as `bytes_on_disk`. Links are not followed."""
    total, pending = 0, [b""]
    with storing("measure what is to be copied"), FolderStack(os.dup(folder_fd)) as stack:
        while pending:
            folder = stack.enter(pending.pop())
            for name in map(os.fsencode, os.listdir(folder)):
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    pending.append(stack.path + b"/" + name if stack.path else name)
                else:
                    total += bytes_on_disk(found)
    return total


def check_destination(folder_fd: int, needed_bytes: int, from_fd: int | None, hint: str) -> None:
    """Raises NoSpaceError where copies of so many bytes do not fit into a folder outside the vault, which has no reserve.

    Where the copies may share blocks with files on the same file system (that of `from_fd`), their size is unknown: then there
    is no error.
    """
    same = from_fd is not None and os.fstat(folder_fd).st_dev == os.fstat(from_fd).st_dev
    if same and kind_of_file_system(folder_fd).name in _SHARING:
        return
    free = free_bytes(folder_fd)
    if free < needed_bytes:
        raise NoSpaceError(
            f"the destination's disk has {size_text(free)} free, and {size_text(needed_bytes)} are needed", hint=hint
        )


class Room:
    """Keeps the reserve free while evidence is written: asked before each write, it raises before the reserve is used.

    The manifest and the lists that grow with the evidence are counted, too. Signatures, records and the index are not: the
    reserve is for them. The free space is read again after a part of it was used, because other processes write as well.
    """

    def __init__(self, folder_fd: int, reserve: int = SPACE_RESERVE, entries_reserve: int = ENTRIES_RESERVE) -> None:
        """`folder_fd` must stay open."""
        self._fd = folder_fd
        self._reserve = reserve
        self._entries_reserve = entries_reserve
        self._left = 0
        self._entries_left = 0

    def take(self, size: int, entries: int = 0) -> None:
        """Counts `size` bytes and `entries` files or folders that are about to be written. Raises NoSpaceError."""
        self._left -= size
        self._entries_left -= entries
        if self._left < 0:
            self._left = self._ask_for_bytes(size)
        if self._entries_left < 0:
            self._entries_left = self._ask_for_entries(entries)

    def _ask_for_bytes(self, size: int) -> int:
        self._left = 0
        free = free_bytes(self._fd)
        spare = free - self._reserve - size
        if spare < 0:
            raise no_room(free, size, self._reserve)
        return min(spare // _SHARE, _MOST_UNASKED)

    def _ask_for_entries(self, entries: int) -> int:
        self._entries_left = 0
        free = free_entries(self._fd)
        if free is None:
            return _MOST_ENTRIES_UNASKED
        spare = free - self._entries_reserve - entries
        if spare < 0:
            raise no_entries(free, self._entries_reserve)
        return min(spare // _SHARE, _MOST_ENTRIES_UNASKED)
