"""Asks the kernel to be told when something in a source changes (inotify). A hint to look sooner, and never more than that.

Each folder is named by the descriptor by which the walk has opened it. So nothing is opened or listed for this, no link is
followed, and no access time changes. Source: inotify(7).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import time
from typing import Final

from evidencesync.files.disk import close_quietly
from evidencesync.source.descriptor import CLOEXEC
from evidencesync.source.walker import Found

MOST_WATCHES: Final = 16_384
"""Folders that are watched: the kernel keeps about 1 KiB for each, and other programs of the same user need some, too."""

# linux/inotify.h: MODIFY, ATTRIB, CLOSE_WRITE, MOVED_FROM, MOVED_TO, CREATE, DELETE, DELETE_SELF, MOVE_SELF.
_CHANGES: Final = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
_EXCL_UNLINK: Final = 0x04000000  # what is written to a file that has no name any more is no news
_NONBLOCK: Final = os.O_NONBLOCK
_BLOCK: Final = 64 * 1024
# What another machine or program changes on these is not told to this kernel.
_SILENT: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gfs2", "ocfs2", "virtiofs"})


def is_silent(file_system: str | None) -> bool:
    """Whether changes on a file system of this type may not be told; so for one that is not known."""
    return file_system is None or file_system in _SILENT or file_system.startswith("fuse")


class Notices:
    """What the kernel tells of one source. For one thread; closed by whoever made it.

    `complete` says whether every folder of the last look is watched: else only looking tells.
    """

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self._fd = -1
        if hasattr(self._library, "inotify_init1"):
            self._fd = int(self._library.inotify_init1(_NONBLOCK | CLOEXEC))
        self._watched: set[int] = set()
        self._met: set[int] = set()
        self._missed = False

    @property
    def complete(self) -> bool:
        """See the class."""
        return self._fd >= 0 and not self._missed and bool(self._watched)

    def begin(self) -> None:
        """A look begins. What was told before is forgotten: the look will see it."""
        self._met = set()
        self._missed = False
        self._drain()

    def meet(self, found: Found) -> None:
        """Something the look has come upon: a folder, or a single file, is watched from here on."""
        if self._fd < 0 or found.flag is not None:
            return
        if found.folder_fd >= 0:
            self._watch(found.folder_fd)
        elif b"/" not in found.path and found.entry_type == "file" and not self._met and found.dir_fd >= 0:
            self._watch_file(found)

    def end(self) -> None:
        """The look is over: what it has not met is not watched any more."""
        for gone in self._watched - self._met:
            self._library.inotify_rm_watch(self._fd, gone)  # the kernel may have done so itself
        self._watched, self._met = self._met, set()

    def wait(self, seconds: float) -> bool:
        """Waits so long, or until something is told: whether something was."""
        if self._fd < 0:
            time.sleep(seconds)
            return False
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        """Ends it."""
        if self._fd >= 0:
            descriptor, self._fd = self._fd, -1
            close_quietly(descriptor)

    def _watch_file(self, found: Found) -> None:
        try:
            passage = os.open(found.name, getattr(os, "O_PATH", os.O_RDONLY) | os.O_NOFOLLOW | CLOEXEC, dir_fd=found.dir_fd)
        except OSError:
            self._missed = True
            return
        try:
            self._watch(passage)
        finally:
            os.close(passage)

    def _watch(self, fd: int) -> None:
        """Watching what is watched already changes nothing."""
        if len(self._met) >= MOST_WATCHES:
            self._missed = True
            return
        told = self._library.inotify_add_watch(self._fd, b"/proc/self/fd/%d" % fd, _CHANGES | _EXCL_UNLINK)
        if told < 0:  # no room for more, or not allowed: looking will do
            self._missed = True
        else:
            self._met.add(told)

    def _drain(self) -> None:
        """Takes out what is queued. Which name it was does not matter, nor whether the queue was full."""
        with contextlib.suppress(BlockingIOError):
            while self._fd >= 0 and os.read(self._fd, _BLOCK):
                pass
