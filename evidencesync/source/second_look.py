"""A second look at the folders of a source when all was read: what moved into one that the walk had left was not seen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from evidencesync.source.walker import Found

MOST_FOLDERS: Final = 65_536  # some 15 MiB; the first so many, the others are looked at only when the walk leaves them


class SecondLook:
    """Remembers what folders were like before they were listed, and says which are not like that any more."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._seen: dict[bytes, tuple[int, int, int]] = {}

    def note(self, found: Found) -> None:
        """A folder that the walk enters. Others are passed over."""
        if found.folder_fd >= 0 and found.stat is not None and len(self._seen) < MOST_FOLDERS:
            self._seen[found.path] = _state(found.stat)

    def forget(self, path: bytes) -> None:
        """A folder that is known to have changed."""
        self._seen.pop(path, None)

    def changed(self) -> Iterator[bytes]:
        """The folders that have changed, or are not where they were. A path too long to be named at once is passed over."""
        for path, state in self._seen.items():
            try:
                now = os.lstat(os.path.join(self._root, path) if path else self._root)
            except FileNotFoundError:
                yield path
            except OSError:
                continue  # nothing is known of it but what the walk saw when it left it
            else:
                if _state(now) != state:
                    yield path


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino
