"""Which entries are one and the same inode."""

from __future__ import annotations

import os


class HardLinks:
    """Remembers the first path of every inode that has more than one link, until its last link was seen.

    Memory grows with the number of such inodes whose links have not all been seen, never with the number of files.
    """

    __slots__ = ("_contents", "_first", "_missing")

    def __init__(self) -> None:
        self._contents: dict[tuple[int, int], str | None] = {}  # as they were when each was read under its first path
        self._first: dict[tuple[int, int], bytes] = {}
        self._missing: dict[tuple[int, int], int] = {}  # links not seen yet, where that is more than one

    def first_path(self, path: bytes, status: os.stat_result) -> bytes | None:
        """The path under which this inode was recorded before, or None where it was not. Changes nothing."""
        first = self._first.get((status.st_dev, status.st_ino))
        return first if first != path else None

    def has_changed(self, status: os.stat_result, content: str | None) -> bool:
        """Whether an inode that was recorded under another path is read now with another content (a digest; None: without)."""
        key = (status.st_dev, status.st_ino)
        return key in self._first and self._contents[key] != content

    def record(self, path: bytes, status: os.stat_result, content: str | None = None) -> bytes | None:
        """Records one link, once for each path, and returns what `first_path` does. `content`: what was read under it."""
        key = (status.st_dev, status.st_ino)
        first = self._first.get(key)
        if first is None:
            self._first[key] = path
            self._contents[key] = content
            if status.st_nlink > 2:
                self._missing[key] = status.st_nlink - 1
            return None
        if first == path:
            return None
        missing = self._missing.get(key, 1) - 1
        if missing > 0:
            self._missing[key] = missing
        else:
            self._missing.pop(key, None)
            del self._first[key], self._contents[key]
        return first
