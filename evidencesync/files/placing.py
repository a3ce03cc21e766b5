"""Moves a file or a folder to a free name, atomically: an existing file or folder is never replaced.

To check first and rename then is a race. So one atomic system call decides. For a file this is link(2), which every file system
refuses for a name that is taken, also over a network; without hard links, renameat2(2) with RENAME_NOREPLACE; without both, an
exclusive creation (O_EXCL). For a folder it is RENAME_NOREPLACE, and without that rename(2), which never replaces a folder that
is not empty.

Every function raises OSError, FileExistsError for a name that is taken.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Callable
from typing import Final

Name = str | bytes

NO_LINKS: Final = frozenset({errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EXDEV})
_NO_SUCH_RENAME: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})
_NO_REPLACE: Final = 1  # RENAME_NOREPLACE, linux/fs.h
_BLOCK: Final = 1 << 20
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def place_file(source: Name, name: Name, *, src_dir_fd: int, dst_dir_fd: int) -> None:
    """Moves a file to a name that must be free. Its bytes are synced by the caller before, the folder afterwards."""
    try:
        os.link(source, name, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=False)
    except FileExistsError:
        if not _is_same(source, src_dir_fd, name, dst_dir_fd):  # NFS repeats a request whose reply was lost
            raise
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if not _rename_to_free(source, name, src_dir_fd, dst_dir_fd):
            _copy(source, name, src_dir_fd, dst_dir_fd)
        else:
            return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(source, dir_fd=src_dir_fd)


def take_back(name: Name, placed: os.stat_result, dir_fd: int) -> None:
    """Removes the name of a file that was placed, where what follows has failed. Another file of that name stays."""
    with contextlib.suppress(OSError):
        if os.path.samestat(os.stat(name, dir_fd=dir_fd, follow_symlinks=False), placed):
            os.unlink(name, dir_fd=dir_fd)


def place_folder(source: Name, name: Name, *, src_dir_fd: int, dst_dir_fd: int) -> None:
    """Moves a folder to a name that must be free; not even an empty folder is replaced.

    Without RENAME_NOREPLACE, an empty folder that is made between the check and the rename is replaced: nothing is lost.
    """
    if _rename_to_free(source, name, src_dir_fd, dst_dir_fd):
        return
    try:
        os.stat(name, dir_fd=dst_dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(source, name, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)


def _rename_to_free(source: Name, name: Name, src_dir_fd: int, dst_dir_fd: int) -> bool:
    """renameat2(2) with RENAME_NOREPLACE; False where the system or the file system does not have it."""
    function = _renameat2()
    if function is None:
        return False
    if function(src_dir_fd, os.fsencode(source), dst_dir_fd, os.fsencode(name), ctypes.c_uint(_NO_REPLACE)) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NO_SUCH_RENAME:
        return False
    raise OSError(code, os.strerror(code), source, None, name)


def _copy(source: Name, name: Name, src_dir_fd: int, dst_dir_fd: int) -> None:
    """Copies, as the last resort: the name appears before its bytes. A copy that fails is removed."""
    reading = os.open(source, _READ, dir_fd=src_dir_fd)
    try:
        mode = stat.S_IMODE(os.fstat(reading).st_mode)
        writing = os.open(name, _CREATE, mode, dir_fd=dst_dir_fd)
        try:
            while block := os.read(reading, _BLOCK):
                view = memoryview(block)
                while view:
                    view = view[os.write(writing, view) :]
            os.fchmod(writing, mode)
            os.fsync(writing)  # the source was synced, this copy was not
        except BaseException:
            os.unlink(name, dir_fd=dst_dir_fd)
            raise
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _is_same(source: Name, src_dir_fd: int, name: Name, dst_dir_fd: int) -> bool:
    mine = os.stat(source, dir_fd=src_dir_fd, follow_symlinks=False)
    return os.path.samestat(mine, os.stat(name, dir_fd=dst_dir_fd, follow_symlinks=False))


_found: list[Callable[..., int] | None] = []


def _renameat2() -> Callable[..., int] | None:
    if not _found:
        try:
            _found.append(ctypes.CDLL(None, use_errno=True).renameat2)
        except (AttributeError, OSError, TypeError):  # not this C library, or not this platform
            _found.append(None)
    return _found[0]
