"""Drafts: a folder or a file is made under a name of its own, filled, and renamed. What a killed command leaves the next removes.

A draft is locked by the process that fills it, for as long as that lives. So one that can be locked is nobody's: but only where
locks hold for all who can write there, which the caller knows.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from typing import Final

from evidencesync.files.disk import CREATE_FLAGS, FOLDER_FLAGS, READ_FLAGS
from evidencesync.files.folders import names_in

_MODE: Final = 0o700  # nobody else looks in while it is filled
_RANDOM: Final = re.compile(r"[0-9a-f]{16}")
_MOST_TRIES: Final = 20  # another command may take a draft for a left one before it is locked


def draft_name(prefix: str) -> str:
    """Returns a name that nobody else uses."""
    return f"{prefix}{secrets.token_hex(8)}"


def make_draft(parent_fd: int, name: str) -> int:
    """Makes a draft folder; returns a descriptor of it that holds its lock until it is closed. Raises OSError."""

    def make() -> int:
        os.mkdir(name, _MODE, dir_fd=parent_fd)
        return os.open(name, FOLDER_FLAGS, dir_fd=parent_fd)

    return _locked(parent_fd, name, make)


def make_draft_file(parent_fd: int, name: str) -> int:
    """Makes a draft file, for its owner alone; returns a descriptor to write it, which holds its lock. Raises OSError."""
    return _locked(parent_fd, name, lambda: os.open(name, CREATE_FLAGS, 0o600, dir_fd=parent_fd))


def _locked(parent_fd: int, name: str, make: Callable[[], int]) -> int:
    for _ in range(_MOST_TRIES):
        fd = make()
        with contextlib.suppress(OSError):  # a file system without locks: then none is ever taken for a left one
            fcntl.flock(fd, fcntl.LOCK_EX)
        if _is_there(parent_fd, name, fd):
            return fd
        os.close(fd)
    raise FileExistsError(errno.EBUSY, "others remove what is being made", name)


def remove_left_drafts(parent_fd: int, prefix: str, remove: Callable[[str, int], None]) -> list[str]:
    """Removes the drafts that killed commands of this user have left in a folder; returns their names. Raises nothing.

    `remove` gets the name and the descriptor of a folder; a file is removed here. What is in use, is another user's, is neither,
    has any other name, or cannot be removed stays.
    """
    removed = []
    for name, fd in _left(parent_fd, prefix):
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                remove(name, fd)
            else:
                os.unlink(name, dir_fd=parent_fd)
            removed.append(name)
    return removed


def _left(parent_fd: int, prefix: str) -> Iterator[tuple[str, int]]:
    try:
        names = sorted(name for name in names_in(parent_fd) if name.startswith(prefix))
    except OSError:
        return
    for name in names:
        if _RANDOM.fullmatch(name.removeprefix(prefix)) is None:
            continue
        with contextlib.suppress(OSError):
            fd = os.open(name, READ_FLAGS, dir_fd=parent_fd)
            try:
                found = os.fstat(fd)
                if found.st_uid == os.geteuid() and stat.S_IFMT(found.st_mode) in (stat.S_IFDIR, stat.S_IFREG):
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if _is_there(parent_fd, name, fd):
                        yield name, fd
            finally:
                os.close(fd)


def _is_there(parent_fd: int, name: str, fd: int) -> bool:
    """Whether a name is still that of what is open."""
    try:
        found = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(fd))
