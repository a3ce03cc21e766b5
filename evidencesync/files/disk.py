"""Opens, reads, writes, syncs and locks files and folders; each docstring states what is durable after the call.

Files are opened by single names through folder descriptors, and symbolic links are never followed. A full disk or quota is a
NoSpaceError, any other refusal of a file system is a StorageError.

A descriptor is closed once. On NFS, CIFS and FUSE, close(2) may report a lost write, a full disk or a lost connection. The
descriptor's number is free then, as after any close: a second close would close what another thread has opened meanwhile.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import io
import math
import mmap
import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from evidencesync.errors import (
    EvidenceSyncError,
    LockedError,
    MalformedDocumentError,
    MissingOrExtraError,
    NoSpaceError,
    ResourcesError,
    StorageError,
)
from evidencesync.evidence.display import safe_text
from evidencesync.files.holes import has_empty_run
from evidencesync.files.shortages import hint_of, is_full, is_shortage
from evidencesync.files.unread import raise_if_unread
from evidencesync.limits import MIB


def close_quietly(descriptor: int) -> None:
    """Closes a descriptor that was only read from, and ignores errors: they cannot change what was read."""
    try:  # not contextlib.suppress: this is called for each file
        os.close(descriptor)
    except OSError:
        return


def reading(descriptor: int) -> BinaryIO:
    """Returns a file object that reads and owns the descriptor. Errors when it is closed are ignored, as in `close_quietly`."""
    return io.BufferedReader(_Read(descriptor, "rb"))


def reading_blocks(descriptor: int) -> BinaryIO:
    """Returns the same without a buffer."""
    return _Read(descriptor, "rb")


def document_blocks(file: BinaryIO, watch: Callable[[bytes], object] | None = None) -> Iterator[bytes]:
    """Reads an open document from where it stands to its end, in blocks of 1 MiB; `watch` gets each of them first."""
    while block := file.read(MIB):
        if watch is not None:
            watch(block)
        yield block


class _Read(io.FileIO):
    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


NO_MODES: Final = "Where the mode stays (FAT, exFAT, NTFS), mount with umask=077; over SMB with file_mode=0600,dir_mode=0700."
"""For a file that others can read: what to do where chmod does nothing."""

FILE_MODE: Final = 0o444
FOLDER_MODE: Final = 0o755
FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
CREATE_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a planted FIFO must not block.
READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


Name = str | bytes


def storage_error(error: OSError, doing: str) -> EvidenceSyncError:
    """Returns the error to raise for a refused system call. `doing` completes the sentence "could not ..."."""
    reason = os.strerror(error.errno) if error.errno is not None else str(error)
    if is_full(error):
        return NoSpaceError(f"could not {doing}: {reason}")
    if error.errno != errno.EAGAIN and is_shortage(error):  # EAGAIN is a busy file here, not a shortage
        return ResourcesError(f"could not {doing}: {reason}")
    return StorageError(f"could not {doing}: {reason}", hint=hint_of(error))


@contextlib.contextmanager
def storing(doing: str | Callable[[], str]) -> Iterator[None]:
    """Converts every OSError inside to one of our errors. Not for loops over many files: it costs a microsecond."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, doing if isinstance(doing, str) else doing()) from error


@contextlib.contextmanager
def opened_folder(name: Name | os.PathLike[str], dir_fd: int | None = None) -> Iterator[int]:
    """Opens a folder's descriptor for the length of a `with`. The last name may not be a symbolic link."""
    with storing(lambda: f"open the folder {_place(name, dir_fd)}"):
        try:
            folder = os.open(name, FOLDER_FLAGS, dir_fd=dir_fd)
        except OSError:
            raise_if_unread(name, dir_fd)
            raise
    try:
        yield folder
    finally:
        os.close(folder)


@contextlib.contextmanager
def opened_file(name: str, dir_fd: int) -> Iterator[BinaryIO]:
    """Opens a regular file for reading, for the length of a `with`. Raises MissingOrExtraError when it is missing.

    A symbolic link, a FIFO or anything else that is not a regular file is a MissingOrExtraError. A file with holes in it is a
    MalformedDocumentError: the documents that are opened here were written from end to end.
    """
    fd = _open_regular(name, dir_fd)
    if fd is None:
        raise MissingOrExtraError(f"{_shown(name)} is missing")
    with reading(fd) as file:
        with storing(lambda: f"read {_place(name, dir_fd)}"):
            has_holes = has_empty_run(fd)
        if has_holes:
            raise MalformedDocumentError(f"{_shown(name)} has holes: nobody has written it like that")
        yield file


def make_folder(name: str, dir_fd: int, *, mode: int = FOLDER_MODE) -> bool:
    """Makes a folder, durably; False when there was one already."""
    with storing(f"make the folder {_shown(name)}"):
        try:
            os.mkdir(name, mode, dir_fd=dir_fd)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode):
                raise
            return False
        os.fsync(dir_fd)  # what is synced in it later is reached by this name
    return True


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Writes all of `data` at the descriptor's position. Raises OSError."""
    written = os.write(fd, data)
    if written == len(data):
        return
    view = memoryview(data)
    while written < len(view):
        written += os.write(fd, view[written:])


def store_new_file(dir_fd: int, name: str, data: bytes, *, mode: int = FILE_MODE) -> None:
    """Makes a new file, and syncs its bytes. The folder is not synced: see `sync_folder`."""
    _make_file(dir_fd, name, data, mode, durable=True)


def write_new_file(dir_fd: int, name: str, data: bytes, *, mode: int = FILE_MODE) -> None:
    """Makes a new file without a sync: after a power cut it may be missing or empty."""
    _make_file(dir_fd, name, data, mode, durable=False)


def _make_file(dir_fd: int, name: str, data: bytes, mode: int, *, durable: bool) -> None:
    with storing(f"write {_shown(name)}"):
        fd = os.open(name, CREATE_FLAGS, mode, dir_fd=dir_fd)
        try:
            write_all(fd, data)
            os.fchmod(fd, mode)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)


def remove_if_there(dir_fd: int, name: Name) -> None:
    """Removes a file (not a folder), if it exists. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=dir_fd)


def tidy_away(dir_fd: int, name: Name) -> bool:
    """Removes a file with a name that only writers of this vault use; False where there is none. Raises OSError.

    A folder of that name stays: no writer makes one, `verify` reports it, and it hinders no writer.
    """
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return False
    except OSError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode):
            raise
    return True


def is_there(dir_fd: int | None, name: Name | os.PathLike[str]) -> bool:
    """Whether anything has this name. Raises StorageError where that is unknown."""
    with storing(f"look at {_shown(name)}"):
        try:
            os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
    return True


def read_bounded(fd: int, limit: int) -> bytes:
    """Reads on to the end of an open file: `limit` bytes at most, and one more where there is more. Raises OSError."""
    parts: list[bytes] = []
    left = limit + 1
    while left > 0 and (part := os.read(fd, min(left, MIB))):
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def load_file(dir_fd: int, name: str, limit: int) -> bytes | None:
    """Reads a small file whole; None when there is none. Raises MalformedDocumentError above `limit` bytes.

    A symbolic link, a FIFO or anything else that is not a regular file is a MissingOrExtraError.
    """
    fd = _open_regular(name, dir_fd)
    if fd is None:
        return None
    with reading_blocks(fd), storing(lambda: f"read {_place(name, dir_fd)}"):
        data = read_bounded(fd, limit)
    if len(data) > limit:
        raise MalformedDocumentError(f"{_shown(name)} is larger than {limit} bytes: nobody has written it like that")
    return data


def load_own_file(dir_fd: int, name: str, limit: int, *, void: bytes | None = None) -> bytes | None:
    """Reads as `load_file` a file whose name only writers of this vault use; returns `void` for what no writer can have made.

    That is a link, a FIFO, a folder, or a file of more than `limit` bytes: it hinders no writer, and `verify` reports it. A
    failed read still raises StorageError.
    """
    try:
        return load_file(dir_fd, name, limit)
    except (MalformedDocumentError, MissingOrExtraError):
        return void


def sync_folder(dir_fd: int, shown: str) -> None:
    """Makes the names in a folder durable; with all else of its file system, where that can sync no folder by itself."""
    with storing(f"sync {shown}"):
        fsync_folder(dir_fd)


def fsync_folder(dir_fd: int) -> None:
    """Syncs as `sync_folder`. Raises OSError."""
    try:
        os.fsync(dir_fd)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC or not _syncfs(dir_fd):
            raise


def sync_file_system(fd: int, shown: str) -> bool:
    """Makes everything durable that was written to the file system of `fd`; False where the platform cannot do that.

    A write error since `fd` was opened fails this call (Linux 5.8 and later), so keep the descriptor that was opened
    before the first write.
    """
    with storing(f"sync {shown}"):
        return _syncfs(fd)


def _syncfs(fd: int) -> bool:
    function = _system_call("syncfs")
    if function is not None and function(fd) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return function is not None


def start_writeback(fd: int, offset: int, length: int) -> None:
    """Asks the kernel to begin writing a range out. Nothing is durable by it; errors are ignored."""
    function = _system_call("sync_file_range")
    if function is not None:
        function(fd, ctypes.c_int64(offset), ctypes.c_int64(length), ctypes.c_uint(_SYNC_FILE_RANGE_WRITE))


def leave_hole(fd: int, offset: int, length: int) -> None:
    """Releases the space that a file system allocated in a range where nothing was written. Errors are ignored.

    XFS allocates space beyond the end of a growing file. Where a run of zeros is then skipped, that space would stay allocated.
    Only whole pages are released: a page at the edge may have bytes, and the call would wait until they are written.
    """
    function = _system_call("fallocate64")
    first, last = -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE, (offset + length) // mmap.PAGESIZE * mmap.PAGESIZE
    if function is not None and first < last:
        function(fd, ctypes.c_int(_PUNCH_HOLE | _KEEP_SIZE), ctypes.c_int64(first), ctypes.c_int64(last - first))


def forget_cached(fd: int) -> None:
    """Asks the kernel to drop a file's pages, so that the next read comes from the disk. Raises OSError."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


_SYNC_FILE_RANGE_WRITE: Final = 2
_KEEP_SIZE: Final = 1  # linux/falloc.h
_NO_FILE: Final = frozenset({errno.ELOOP, errno.ENXIO})  # a symbolic link; a socket, and a file on a disk that is gone
_PUNCH_HOLE: Final = 2
_NO_FOLDER_SYNC: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS})  # folders that a virtual machine shares, say
_system_calls: dict[str, Callable[..., int] | None] = {}


def _system_call(name: str) -> Callable[..., int] | None:
    if name not in _system_calls:
        try:
            _system_calls[name] = getattr(ctypes.CDLL(None, use_errno=True), name)
        except (AttributeError, OSError, TypeError):  # another C library or platform
            _system_calls[name] = None
    return _system_calls[name]


def _open_regular(name: str, dir_fd: int) -> int | None:
    with storing(lambda: f"read {_place(name, dir_fd)}"):
        try:
            fd = os.open(name, READ_FLAGS, dir_fd=dir_fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in _NO_FILE or _is_regular(os.stat(name, dir_fd=dir_fd, follow_symlinks=False)):
                raise
            raise_if_unread(name, dir_fd)
            raise _not_a_file(name, dir_fd) from error
        try:
            if not _is_regular(os.fstat(fd)):
                raise _not_a_file(name, dir_fd)
        except BaseException:
            os.close(fd)
            raise
    return fd


def _is_regular(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode)


def _not_a_file(name: str, dir_fd: int) -> MissingOrExtraError:
    return MissingOrExtraError(
        f"{_place(name, dir_fd)} is not a regular file", hint="See what else is wrong: evidencesync verify"
    )


def _shown(name: Name | os.PathLike[str]) -> str:
    return safe_text(os.fspath(name), 200)


def _place(name: Name | os.PathLike[str], dir_fd: int | None) -> str:
    """Returns a path with its folder, for an error message about the disk. Called only after a failure."""
    raw = os.fsencode(name)
    if dir_fd is not None:
        with contextlib.suppress(OSError):
            raw = os.path.join(os.fsencode(os.readlink(f"/proc/self/fd/{dir_fd}")), raw)
    return safe_text(raw, 300)


LONGEST_LOCK_SECONDS: Final = 900.0
"""A holder needs seconds, and many holders one after the other some minutes. One that was stopped (Ctrl-Z) never lets go."""
_LOCK_POLL_SECONDS: Final = 0.02


@contextlib.contextmanager
def locked_folder(folder: os.PathLike[str], what: str, *, wait: bool = False, shared: bool = False) -> Iterator[int]:
    """Holds the exclusive, or a shared, lock of a folder (flock) and yields its descriptor. It ends with the process.

    Raises LockedError when another process (or another `with` in this one) has it: at once, or with `wait` after
    LONGEST_LOCK_SECONDS.
    """
    until = time.monotonic() + LONGEST_LOCK_SECONDS if wait else -math.inf
    with opened_folder(folder) as fd:
        while not _try_lock(fd, what, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
            if time.monotonic() >= until:
                raise LockedError(f"{what} is being written by another process")
            time.sleep(_LOCK_POLL_SECONDS)  # a waiting flock(2) has no timeout
        yield fd


def _try_lock(fd: int, what: str, kind: int) -> bool:
    with storing(f"lock {what}"):
        try:
            # Of a folder, not of a file in it: nothing has to be made for it, and nothing stays behind.
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def enlarge_pipe(descriptor: int) -> None:
    """Gives a pipe room for a megabyte, where the system allows it; anything else stays as it is."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # no pipe, or a user at the limit: slower, not wrong
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, MIB)
