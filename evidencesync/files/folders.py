"""Opens the folders of a tree name by name, through descriptors, never by a joined path; and removes trees in that way."""

from __future__ import annotations

import contextlib
import errno
import os
from types import TracebackType
from typing import Final, Self

from evidencesync.errors import PathEscapeError
from evidencesync.evidence.display import safe_text
from evidencesync.files.disk import FOLDER_FLAGS, storage_error

MAX_OPEN_FOLDERS: Final = 64  # descriptors a stack keeps open; the usual limit for a process is 1024
FORBIDDEN_NAMES: Final = frozenset({b"", b".", b".."})


def check_name(name: bytes) -> None:
    """Raises PathEscapeError for anything that is not the plain name of one entry."""
    if name in FORBIDDEN_NAMES or b"/" in name or b"\0" in name:
        raise PathEscapeError(f"not a plain file name: {safe_text(name, 100)}")


def split_path(path: bytes) -> tuple[bytes, bytes]:
    """Splits an evidence path into its folder and the name in it. Raises PathEscapeError when the name is not plain.

    The names of the folder are checked when it is entered.
    """
    folder, separator, name = path.rpartition(b"/")
    if name in FORBIDDEN_NAMES or b"\0" in name or (separator and not folder):
        raise PathEscapeError(f"not a plain path: {safe_text(path, 100)}")
    return folder, name


class FolderStack:
    """The open folders from a root down to the current one.

    Made for a walk in manifest order, where the next folder is nearly always the same one, a child or an ancestor. Of a
    deep chain only the last descriptors are kept open, so that any depth works. Takes over `root_fd` and closes it.
    """

    def __init__(self, root_fd: int) -> None:
        self.path = b""
        self.fd = root_fd
        self._root = root_fd
        self._names: list[bytes] = []
        self._fds: list[int | None] = []  # of the folders in _names; None: closed to save descriptors

    def enter(self, path: bytes) -> int:
        """Returns the descriptor of the folder `path` (`b""` is the root), valid until the next call.

        Raises PathEscapeError for a name that is not plain; OSError when a folder is missing or is not a folder.
        """
        if path == self.path:
            return self.fd
        names = path.split(b"/") if path else []
        common = 0
        for mine, wanted in zip(self._names, names, strict=False):
            if mine != wanted:
                break
            common += 1
        while len(self._names) > common:
            self._leave()
        for name in names[common:]:
            check_name(name)
            fd = os.open(name, FOLDER_FLAGS, dir_fd=self.fd)
            self._append(name, fd)
            self.opened(fd)
        return self.fd

    def close(self) -> None:
        """Closes all descriptors. Safe to call again."""
        open_fds = [fd for fd in (self._root, *self._fds) if fd is not None and fd >= 0]
        self._names, self._fds, self.path = [], [], b""
        self._root = self.fd = -1
        for fd in open_fds:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def opened(self, fd: int) -> None:
        """Called when a folder below the root was opened and is now the current one."""

    def leaving(self, fd: int) -> None:
        """Called before a folder below the root is left for its parent."""

    def _append(self, name: bytes, fd: int) -> None:
        self._names.append(name)
        self._fds.append(fd)
        self.path = self.path + b"/" + name if self.path else name
        self.fd = fd
        oldest = len(self._fds) - 1 - MAX_OPEN_FOLDERS
        if oldest >= 0 and (spare := self._fds[oldest]) is not None:
            self._fds[oldest] = None
            os.close(spare)

    def _leave(self) -> None:
        self.leaving(self.fd)
        self._names.pop()
        fd = self._fds.pop()
        self.path = self.path.rpartition(b"/")[0]
        if fd is not None:
            os.close(fd)
        above = self._fds[-1] if self._fds else self._root
        self.fd = -1
        self.fd = self._reopened() if above is None else above

    def _reopened(self) -> int:
        """Opens the end of the chain again, from the root down, and returns the current folder."""
        keep_from = max(len(self._names) - MAX_OPEN_FOLDERS, 0)
        here = self._root
        for depth, name in enumerate(self._names):
            try:
                there = os.open(name, FOLDER_FLAGS, dir_fd=here)
            finally:
                if 0 < depth <= keep_from:
                    os.close(here)
            if depth >= keep_from:
                self._fds[depth] = there
            here = there
        return here


def names_in(folder_fd: int) -> list[str]:
    """Lists all names in a folder now. It is opened again: on Btrfs a descriptor lists what was there when it was opened."""
    again = os.open(".", FOLDER_FLAGS, dir_fd=folder_fd)
    try:
        return os.listdir(again)
    finally:
        os.close(again)


def remove_tree(dir_fd: int, name: str) -> None:
    """Removes a folder of staging, if it exists, with all that is in it, at any depth, following no link.

    Must never be called for anything in `acquisitions/`. Raises StorageError.
    """
    try:
        try:
            root = os.open(name, FOLDER_FLAGS, dir_fd=dir_fd)
        except FileNotFoundError:
            return
        with FolderStack(root) as stack:
            _empty(stack)
        with contextlib.suppress(FileNotFoundError):  # where no lock holds, another writer may remove it as well
            os.rmdir(name, dir_fd=dir_fd)
    except OSError as error:
        raise storage_error(error, f"remove the staging folder {safe_text(name, 100)}") from error


def _empty(stack: FolderStack) -> None:
    pending: list[list[bytes]] = [_unlink_files(stack.fd)]
    while pending:
        if pending[-1]:
            name = pending[-1][-1]
            try:
                stack.enter(stack.path + b"/" + name if stack.path else name)
            except FileNotFoundError:
                pending[-1].pop()
                continue
            pending.append(_unlink_files(stack.fd))
            continue
        pending.pop()
        if pending:
            stack.enter(stack.path.rpartition(b"/")[0])
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(pending[-1].pop(), dir_fd=stack.fd)


def _unlink_files(fd: int) -> list[bytes]:
    """Removes everything in a folder except subfolders, and returns the names of those."""
    folders = []
    for name in os.listdir(fd):
        raw = os.fsencode(name)
        try:
            os.unlink(raw, dir_fd=fd)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.EPERM):  # Linux returns the first, POSIX defines the second
                raise
            folders.append(raw)
    return folders
