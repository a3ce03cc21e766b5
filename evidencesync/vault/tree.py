"""Makes the `data/` of an acquisition, and opens its files. Only regular files and folders; no link is followed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Final, Literal, TypeVar

from evidencesync.errors import EvidenceSyncError, MissingOrExtraError, NameClashError, StorageError
from evidencesync.evidence.display import safe_text
from evidencesync.files.copying import copy_file, share_blocks
from evidencesync.files.disk import CREATE_FLAGS, FILE_MODE, FOLDER_MODE, READ_FLAGS, storage_error, write_all
from evidencesync.files.folders import FolderStack, split_path
from evidencesync.files.kept_names import KeptNames, try_names
from evidencesync.vault.space import Room, bytes_on_disk
from evidencesync.vault.staged_files import StagedContent

CopyMethod = Literal["reflinked", "copied"]
_Result = TypeVar("_Result")

_OF_AN_INODE: Final = 4096  # about what a folder takes, and a small file besides its bytes
# For a time that the file system cannot store, or where it can set none (FUSE, network file systems).
_NO_TIME: Final = frozenset({errno.EINVAL, errno.ERANGE, errno.EOVERFLOW, errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP})
_NOT_LINKABLE: Final = frozenset({errno.EPERM, errno.EMLINK, errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS})
_KEPT_NAMES_HINT: Final = "Keep the vault on a file system that keeps every name as it is, such as ext4, XFS or Btrfs."
_NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class TreeReader:
    """Opens files of an existing `data/` by their evidence paths. Not thread-safe: use one for each thread."""

    def __init__(self, data_fd: int, *, untouched: bool = False) -> None:
        """Takes over the descriptor. `untouched`: reads leave access times alone, where the system allows that."""
        self._stack = FolderStack(data_fd)
        self._located: tuple[bytes, tuple[int, bytes]] | None = None  # a file is opened, and then linked
        self._flags = READ_FLAGS | (getattr(os, "O_NOATIME", 0) if untouched else 0)

    def locate(self, path: bytes) -> tuple[int, bytes]:
        """Returns the descriptor of the folder of a path (valid until the next call) and its name there.

        Raises OSError when a folder is missing or is not one, PathEscapeError for names that are not plain.
        """
        if self._located is None or self._located[0] != path:
            folder, name = split_path(path)
            self._located = None  # entering a folder closes others, also where it fails
            self._located = path, (self._stack.enter(folder), name)
        return self._located[1]

    def open_file(self, path: bytes) -> tuple[int, os.stat_result]:
        """Opens a regular file for reading; the caller closes the descriptor.

        Raises MissingOrExtraError when it is missing or is not a regular file.
        """
        try:
            folder, name = self.locate(path)
            fd = self._open(name, folder)
        except OSError as error:
            if error.errno in _NOT_THERE:
                raise MissingOrExtraError(f"there is no such file in the vault: {safe_text(path)}") from error
            if error.errno == errno.ENXIO and self._is_socket(path):  # of a file, it says that the disk is gone
                raise MissingOrExtraError(f"not a regular file in the vault: {safe_text(path)}") from error
            raise storage_error(error, f"open {safe_text(path)}") from error
        try:
            found = os.fstat(fd)
        except OSError as error:
            os.close(fd)
            raise storage_error(error, f"open {safe_text(path)}") from error
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise MissingOrExtraError(f"not a regular file in the vault: {safe_text(path)}")
        return fd, found

    def close(self) -> None:
        """Closes all descriptors."""
        self._located = None
        self._stack.close()

    def _is_socket(self, path: bytes) -> bool:
        folder, name = self.locate(path)
        try:
            return stat.S_ISSOCK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        except OSError:
            return False

    def _open(self, name: bytes, folder: int) -> int:
        try:
            return os.open(name, self._flags, dir_fd=folder)
        except PermissionError as error:
            if error.errno != errno.EPERM or self._flags == READ_FLAGS:
                raise
        return os.open(name, READ_FLAGS, dir_fd=folder)  # only the owner and root may use O_NOATIME


class _TimedStack(FolderStack):
    """Sets each folder's modification time when it is left, because making files in it changes that time."""

    def __init__(self, root_fd: int) -> None:
        super().__init__(root_fd)
        self.times: list[int] = []

    def opened(self, fd: int) -> None:
        self.times.append(os.fstat(fd).st_mtime_ns)

    def leaving(self, fd: int) -> None:
        set_time(fd, self.times.pop())


class TreeWriter:
    """Makes folders and files below a `data/` folder, best in manifest order. Not thread-safe.

    All paths are evidence paths. Every method raises NoSpaceError, StorageError, PathEscapeError for a name that is not
    plain, and NameClashError when there is an entry of that name already (a vault on a file system that ignores case), or the
    file system would change the name. Nothing is synced here. Folders get their times when the walk leaves them, the last ones
    in `finish`.
    """

    def __init__(self, data_fd: int, names: KeptNames) -> None:
        """Takes over the descriptor of the empty `data/`. `names` are what its file system keeps."""
        self._stack = _TimedStack(data_fd)
        self._names = None if names.all else names
        # The mode of the folder that was just made shows the umask; where it removes bits, each mode is set explicitly.
        self._set_modes = os.fstat(data_fd).st_mode & FOLDER_MODE != FOLDER_MODE
        self._root_time: int | None = None
        self.room: Room | None = None
        """Asked before the bytes of a file are written; None: no reserve is kept."""
        if self._set_modes:
            os.fchmod(data_fd, FOLDER_MODE)

    def make_directory(self, path: bytes, mtime_ns: int | None) -> None:
        """Makes a folder, or (for `b""`) only stores the time of the root folder."""
        if not path:
            self._root_time = mtime_ns
            return
        parent, name = self._split(path)
        if self.room is not None:
            self.room.take(_OF_AN_INODE, 1)
        try:
            folder = self._folder(parent)
            os.mkdir(name, FOLDER_MODE, dir_fd=folder)
            fd = self._stack.enter(path)
            if self._set_modes:
                os.fchmod(fd, FOLDER_MODE)
        except OSError as error:
            raise _tree_error(error, path) from error
        if mtime_ns is not None:
            self._stack.times[-1] = mtime_ns

    def create_file(self, path: bytes, data: bytes | memoryview, mtime_ns: int | None) -> None:
        """Makes a file from bytes in memory."""
        parent, name = self._split(path)
        stack = self._stack
        if self.room is not None:
            self.room.take(len(data) + _OF_AN_INODE, 1)
        try:
            folder = stack.fd if parent == stack.path else stack.enter(parent)
            fd = os.open(name, CREATE_FLAGS, FILE_MODE, dir_fd=folder)
            try:
                if data:
                    write_all(fd, data)
                if self._set_modes:
                    os.fchmod(fd, FILE_MODE)
                set_time(fd, mtime_ns)
            finally:
                os.close(fd)
        except OSError as error:
            raise _tree_error(error, path) from error

    def adopt(self, path: bytes, content: StagedContent, mtime_ns: int | None) -> None:
        """Moves a finished content to its place, and closes it."""
        parent, name = self._split(path)
        try:
            folder = self._folder(parent)
            fd = content.require_open()
            os.fchmod(fd, FILE_MODE)
            set_time(fd, mtime_ns)
            _require_free(folder, name)
            os.rename(content.name, name, src_dir_fd=content.dir_fd, dst_dir_fd=folder)
        except OSError as error:
            raise _tree_error(error, path) from error
        content.close()

    def link(
        self,
        path: bytes,
        existing: TreeReader,
        existing_path: bytes,
        size: int,
        mtime_ns: int | None,
        found: os.stat_result | None = None,
    ) -> bool:
        """Makes a hard link to a published file of the same item; False when it must be copied instead.

        That is when the published file has another size or time or is gone, or the file system makes no more links. Its bytes
        are not checked here: the caller (and the read-back) compares them with the digest. `found` is the published file's
        status, if the caller has just read it.
        """
        parent, name = self._split(path)
        try:
            source_folder, source_name = existing.locate(existing_path)
            if found is None:
                found = os.stat(source_name, dir_fd=source_folder, follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode) or found.st_size != size:
                return False
            if mtime_ns is not None and found.st_mtime_ns != mtime_ns:
                return False
        except OSError:  # an unusable basis is not used; `verify` reports what is wrong with it
            return False
        try:
            folder = self._folder(parent)
            os.link(source_name, name, src_dir_fd=source_folder, dst_dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno in _NOT_LINKABLE:
                return False
            raise _tree_error(error, path) from error
        return True

    def copy(self, path: bytes, existing_fd: int, size: int, mtime_ns: int | None) -> CopyMethod:
        """Makes a file with the bytes of an open one, sharing its blocks where the file system can.

        Raises DigestMismatchError when the existing file is not of that size.
        """

        def fill(fd: int) -> CopyMethod:
            if os.fstat(existing_fd).st_size == size and share_blocks(existing_fd, fd):
                return "reflinked"
            if self.room is not None:
                self.room.take(min(size, bytes_on_disk(os.fstat(existing_fd))) + _OF_AN_INODE)
            copy_file(existing_fd, fd, size)
            return "copied"

        return self.create(path, fill, mtime_ns)

    def finish(self) -> None:
        """Leaves all folders, so that each gets its time, and closes. Nothing can be made afterwards."""
        try:
            root = self._stack.enter(b"")
            set_time(root, self._root_time)
        except OSError as error:
            raise storage_error(error, "set the times of folders") from error
        self.close()

    def close(self) -> None:
        """Closes all descriptors, without setting times."""
        self._stack.close()

    def _split(self, path: bytes) -> tuple[bytes, bytes]:
        """Returns the folder of a path and the name in it, if the file system keeps that name."""
        parent, name = split_path(path)
        if self._names is not None and not self._names.holds(name):
            raise NameClashError(f"the vault's file system would change the name {safe_text(path)}", hint=_KEPT_NAMES_HINT)
        return parent, name

    def _folder(self, parent: bytes) -> int:
        return self._stack.fd if parent == self._stack.path else self._stack.enter(parent)

    def create(self, path: bytes, fill: Callable[[int], _Result], mtime_ns: int | None) -> _Result:
        """Makes a file, and has it filled by its descriptor; returns what `fill` returns, and raises what it raises."""
        parent, name = self._split(path)
        if self.room is not None:
            self.room.take(0, 1)
        try:
            folder = self._folder(parent)
            fd = os.open(name, CREATE_FLAGS, FILE_MODE, dir_fd=folder)
            try:
                result = fill(fd)
                if self._set_modes:
                    os.fchmod(fd, FILE_MODE)
                set_time(fd, mtime_ns)
            finally:
                os.close(fd)
        except OSError as error:
            raise _tree_error(error, path) from error
        return result


def kept_names(folder_fd: int) -> KeptNames:
    """Finds out what a vault's file system keeps of names.

    Raises NameClashError where the vault's own documents would have other names.
    """
    names = try_names(folder_fd)
    if not names.letters:
        raise NameClashError("the vault's file system changes capital letters in names", hint=_KEPT_NAMES_HINT)
    return names


def set_time(fd: int, mtime_ns: int | None) -> None:
    """Sets a modification time as far as the file system can hold it: no check ever relies on these times."""
    if mtime_ns is None:
        return
    try:
        os.utime(fd, ns=(mtime_ns, mtime_ns))
    except OverflowError:
        return
    except OSError as error:
        if error.errno not in _NO_TIME:
            raise


def _require_free(folder: int, name: bytes) -> None:
    """Refuses a name that is taken: rename(2) would silently replace the file."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def _tree_error(error: OSError, path: bytes) -> EvidenceSyncError:
    shown = safe_text(path)
    if error.errno == errno.EEXIST:
        return NameClashError(f"the vault's file system has the name already, perhaps in other letters: {shown}")
    if error.errno in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL):
        return StorageError(f"the file system cannot hold the name {shown}: {os.strerror(error.errno)}", hint=_KEPT_NAMES_HINT)
    return storage_error(error, f"write {shown}")
