"""Whether there is room for what is to come."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from evidencesync.errors import NoSpaceError
from evidencesync.files.disk import storing
from evidencesync.files.folders import FolderStack
from evidencesync.limits import ENTRIES_RESERVE, MIB, SPACE_RESERVE
from evidencesync.vault.writer import kind_of_file_system

_SHARE: Final = 4  # of what is free: as much as others may write before the disk is asked again
_MOST_UNASKED: Final = 16 * MIB
_MOST_ENTRIES_UNASKED: Final = 4096
_BLOCK: Final = 512  # of st_blocks, whatever the file system has
_SHARING: Final = frozenset({"btrfs", "xfs", "bcachefs", "zfs", "ocfs2"})


def free_bytes(folder: Path | int) -> int:
    """What this account may still write where `folder` lies, in bytes. Quotas are not seen here."""
    with storing("ask for the free space"):
        found = os.fstatvfs(folder) if isinstance(folder, int) else os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def no_room(free: int, needed: int, reserve: int) -> NoSpaceError:
    """The error for a disk that has too little room, with the numbers as they are."""
    over = f"; {needed} more are needed" if needed else ""
    return NoSpaceError(
        f"the vault's disk has {free} bytes free{over}, and {reserve} are kept in reserve for what must be recorded"
    )


def free_entries(folder: Path | int) -> int | None:
    """How many more files and folders this account may make where `folder` lies. None: the file system has no fixed number."""
    with storing("ask for the free space"):
        found = os.fstatvfs(folder) if isinstance(folder, int) else os.statvfs(folder)
    return found.f_favail if found.f_files else None


def no_entries(free: int, reserve: int) -> NoSpaceError:
    """The error for a disk that has bytes free, and too few inodes: `df -h` alone shows nothing."""
    return NoSpaceError(
        f"the vault's disk can hold {free} more files and folders (inodes), and {reserve} are kept in reserve for what must be "
        "recorded"
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
    """Raises NoSpaceError where evidence of which nothing is in the vault cannot fit, as its sender has measured it.

    Some of it may be zeros after all, and take none: so it is refused only where not even nine tenths fit.
    """
    free = free_bytes(folder)
    if least_bytes and free < least_bytes * 9 // 10 + SPACE_RESERVE:
        raise no_room(free, least_bytes, SPACE_RESERVE)


def bytes_on_disk(found: os.stat_result) -> int:
    """What a copy of a stored file takes at the most where it can have the same holes."""
    return min(found.st_size, allocated_bytes(found))


def allocated_bytes(found: os.stat_result) -> int:
    """What a file takes on its disk."""
    return found.st_blocks * _BLOCK


def bytes_below(folder_fd: int) -> int:
    """What copies of all files below a folder take at the most, as `bytes_on_disk`. Links are not followed."""
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
    """Raises NoSpaceError where copies of so many bytes do not fit into a folder that is not a vault's: it has no reserve.

    Where the copies may share blocks with what lies on the same file system (that of `from_fd`), nobody knows what they take:
    then nothing is said.
    """
    same = from_fd is not None and os.fstat(folder_fd).st_dev == os.fstat(from_fd).st_dev
    if same and kind_of_file_system(folder_fd).name in _SHARING:
        return
    free = free_bytes(folder_fd)
    if free < needed_bytes:
        raise NoSpaceError(f"the destination's disk has {free} bytes free, and {needed_bytes} are needed", hint=hint)


class Room:
    """Keeps the reserve while evidence is written: asked before each write, it says no before the reserve is touched.

    The manifest and the lists that grow with the evidence are asked for, too. What signatures, records and the index need is not:
    that is what the reserve is for. The disk is asked again after a part of what was free, for others write too.
    """

    def __init__(self, folder_fd: int, reserve: int = SPACE_RESERVE, entries_reserve: int = ENTRIES_RESERVE) -> None:
        """`folder_fd` must stay open."""
        self._fd = folder_fd
        self._reserve = reserve
        self._entries_reserve = entries_reserve
        self._left = 0
        self._entries_left = 0

    def take(self, size: int, entries: int = 0) -> None:
        """Before `size` bytes are written, and before so many files or folders are made for them. Raises NoSpaceError."""
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
