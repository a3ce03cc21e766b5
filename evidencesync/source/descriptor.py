"""Opens files and folders of a source by directory descriptor, with the fewest traces, and without following links.

A walk keeps the folders from the root to its current position, with a bounded number of open descriptors.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import Final

from evidencesync.errors import InternalError, ResourcesError
from evidencesync.evidence.entry import EntryType
from evidencesync.source.listed import ListedPaths

CLOEXEC: Final = getattr(os, "O_CLOEXEC", 0)
FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | CLOEXEC
"""Non-blocking: otherwise a FIFO in place of a file would block the run."""
FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | CLOEXEC
PASSAGE_FLAGS: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | CLOEXEC
"""A folder that is only passed through: with O_PATH it need not be readable, and nothing in it is touched."""

_NOATIME: Final = getattr(os, "O_NOATIME", 0)
_GONE: Final = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR})
# Not ESTALE: a server that was set up anew, or exports another disk, says it of everything; the kernel asked once more by name.
_OUR_OWN: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def open_untouched(name: bytes, flags: int, dir_fd: int) -> tuple[int, bool]:
    """Opens one name in a folder; the second value tells whether reading will leave the access time alone.

    O_NOATIME is a privilege of the owner and of root (open(2)): if it is refused, the name is opened without it. If a program
    holds a lease on a regular file (as a Samba server does), this waits, at most for the time that the kernel allows. Raises
    OSError as open(2) does.
    """
    try:
        return _open_untouched(name, flags, dir_fd)
    except BlockingIOError:
        return _open_leased(name, flags, dir_fd)


def _open_leased(name: bytes, flags: int, dir_fd: int) -> tuple[int, bool]:
    """Opens a regular file without O_NONBLOCK: the open waits until the lease is given up or the kernel breaks it."""
    passage = os.open(name, getattr(os, "O_PATH", flags) | os.O_NOFOLLOW | CLOEXEC, dir_fd=dir_fd)
    try:
        if not stat.S_ISREG(os.fstat(passage).st_mode):
            raise BlockingIOError(errno.EAGAIN, "it is busy, and no regular file")
        return _open_untouched(b"/proc/self/fd/%d" % passage, flags & ~(os.O_NONBLOCK | os.O_NOFOLLOW), dir_fd)
    finally:
        os.close(passage)


def _open_untouched(name: bytes, flags: int, dir_fd: int) -> tuple[int, bool]:
    try:
        return os.open(name, flags | _NOATIME, dir_fd=dir_fd), bool(_NOATIME)
    except PermissionError as error:
        if error.errno != errno.EPERM or not _NOATIME:
            raise
    return os.open(name, flags, dir_fd=dir_fd), False


def is_gone(error: OSError) -> bool:
    """Whether a name could not be opened because the entry is gone: removed, or replaced by something else.

    Raises ResourcesError if this process is the cause: no descriptors or no memory left. Such a failure must never be recorded
    as a property of the evidence.
    """
    if error.errno in _OUR_OWN:
        raise ResourcesError(f"the system has no room for one more open file: {error.strerror}") from error
    return error.errno in _GONE


NO_DEVICE: Final = frozenset({errno.ENXIO, errno.ENODEV})
"""What open(2) says of a socket, and of a device that is not there. A disk that has gone says it of regular files, too."""


def has_lost_its_name(error: OSError, name: bytes, dir_fd: int) -> bool:
    """Whether a file could not be opened because its name is gone, or belongs to something else now. Raises as `is_gone`."""
    if error.errno not in NO_DEVICE:
        return is_gone(error)
    try:
        return not stat.S_ISREG(os.lstat(name, dir_fd=dir_fd).st_mode)
    except OSError as again:
        return is_gone(again)


class OpenFolder:
    """A folder on the way from the root to the current position, and the names that are still to be visited in it.

    `fd` is -1 while the folder is closed, and stays -1 if it could not be found again: `loss` is then the error number.
    `wanted` is what the user listed of it: the folder is asked for its names only if the whole of it is wanted.
    """

    __slots__ = ("_times", "fd", "identity", "listed_types", "loss", "name", "names", "prefix", "wanted")

    def __init__(self, name: bytes, prefix: bytes, fd: int, status: os.stat_result, wanted: ListedPaths) -> None:
        """`status` is what it was right before it was listed."""
        self.name = name
        self.prefix = prefix
        self.fd = fd
        self.identity = (status.st_dev, status.st_ino)
        self._times = (status.st_mtime_ns, status.st_ctime_ns)
        self.loss = 0
        self.names: Iterator[bytes] = iter(())
        self.listed_types: dict[bytes, EntryType] = {}
        self.wanted = wanted

    def has_changed(self) -> bool:
        """Whether names were added or removed since the folder was listed. If that is not known, it counts as a change."""
        if not self.wanted.whole:
            return False
        if self.fd < 0:
            return True
        try:
            now = os.fstat(self.fd)
        except OSError:
            return True
        return (now.st_mtime_ns, now.st_ctime_ns) != self._times


class Descent:
    """The folders from the root to the current position of a walk, of which at most `limit` (and the root) are open.

    Below a depth of `limit`, the shallowest folders are closed. On the way back up, a closed folder is found again by
    descending from the root one name at a time, and is checked to be the same folder. Half of the descriptors on the way are
    kept, so this is needed only once in `limit / 2` folders. `gentle`: folders are not listed if that may change their access
    time.
    """

    def __init__(self, limit: int, *, gentle: bool = False) -> None:
        self._limit = max(limit, 2)
        self._gentle = gentle
        self._folders: list[OpenFolder] = []
        self._first_open = 1  # every folder from here on is open, and so is the root

    @property
    def depth(self) -> int:
        """How many folders lie between the root and here, the root included."""
        return len(self._folders)

    @property
    def current(self) -> OpenFolder | None:
        """The folder in which the walk is; None at its end."""
        return self._folders[-1] if self._folders else None

    def may_list(self, *, noatime: bool) -> bool:
        """Whether a folder may be listed; `noatime`: it was opened so that its access time does not change."""
        return noatime or not self._gentle

    def push(self, folder: OpenFolder) -> None:
        """Enters a folder. From now on this object closes its descriptor."""
        self._folders.append(folder)
        if len(self._folders) - self._first_open > self._limit:
            _close(self._folders[self._first_open])
            self._first_open += 1

    def pop(self) -> None:
        """Leaves the current folder for the one above it, which is found again if it was closed."""
        _close(self._folders.pop())
        depth = len(self._folders)
        if depth > 1 and self._first_open >= depth:
            self._reopen(depth - 1)

    def close(self) -> None:
        """Closes every folder."""
        for folder in self._folders:
            _close(folder)
        self._folders.clear()

    def _reopen(self, last: int) -> None:
        keep_from = max(1, last + 1 - self._limit // 2)
        above = self._folders[0].fd
        for index in range(1, last + 1):
            folder = self._folders[index]
            try:
                folder.fd, _ = open_untouched(folder.name, FOLDER_FLAGS, above)
                status = os.fstat(folder.fd)
                if (status.st_dev, status.st_ino) != folder.identity:
                    raise FileNotFoundError(errno.ENOENT, "another folder has taken its name")
            except OSError as error:
                self._lose(index, last, error)
                return
            if 1 <= index - 1 < keep_from:
                _close(self._folders[index - 1])
            above = folder.fd
        self._first_open = keep_from

    def _lose(self, index: int, last: int, error: OSError) -> None:
        """Marks the last folder as lost. Those above it are looked for again when the walk comes back to them."""
        is_gone(error)  # raises if this process, and not the source, is the cause
        for folder in self._folders[1 : index + 1]:
            _close(folder)
        self._folders[last].loss = error.errno or errno.ENOENT
        self._first_open = last + 1


def _close(folder: OpenFolder) -> None:
    if folder.fd >= 0:
        fd, folder.fd = folder.fd, -1
        try:
            os.close(fd)
        except OSError as error:
            raise InternalError(f"a folder's descriptor was closed by someone else: {error.strerror}") from error
