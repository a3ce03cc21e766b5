"""Reads and writes files of this machine's own state: whole or not at all, and without following symbolic links.

Everything raises OSError; the callers turn it into an error that says what could not be kept.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, Self

from evidencesync import home
from evidencesync.evidence.display import safe_text
from evidencesync.files.disk import CREATE_FLAGS, FOLDER_FLAGS, READ_FLAGS, close_quietly, fsync_folder, read_bounded, reading
from evidencesync.outside import Closed, open_folder_outside

DRAFT: Final = ".new-"
PROBE: Final = ".try-"
_PRIVATE: Final = 0o700
_ROOM: Final = 32 << 10  # seven documents and signatures, each in a block of its own


def own_folder(variable: str, *fallback: str) -> Path:
    """`evidencesync` below the user's folder of a kind (XDG Base Directory Specification). Raises NoHomeError."""
    return home.own_folder(variable, *fallback) / "evidencesync"


class KeptFolder:
    """A folder for own state, made where it is missing, tested, and then held open: so the tested folder is the one in use.

    Folders above it may be symbolic links (to a larger disk perhaps); with `follow` it may be one itself. Close it.
    """

    def __init__(
        self, path: Path, closed: Sequence[Closed] = (), hint: str = "Name another folder.", *, follow: bool = False
    ) -> None:
        """Raises UsageError where it lies in what is `closed`, or in a vault; OSError where it cannot be used or is full."""
        self.path = path
        self.fd = open_folder_outside(path, safe_text(os.fsencode(path), 200), closed, hint, follow=follow)
        try:
            self._try()
        except BaseException:
            self.close()
            raise

    def _try(self) -> None:
        """Tests whether files can be made in it, and whether there is room for a receipt's documents."""
        probe = f"{PROBE}{secrets.token_hex(8)}"
        descriptor = os.open(probe, CREATE_FLAGS, 0o600, dir_fd=self.fd)
        try:
            os.posix_fallocate(descriptor, 0, _ROOM)  # a file system that is full says so, and nothing is written
        finally:
            os.close(descriptor)
            with contextlib.suppress(FileNotFoundError):  # another command may take it for one that was left
                os.unlink(probe, dir_fd=self.fd)

    def close(self) -> None:
        """Closes it. Safe to call again."""
        if self.fd >= 0:
            descriptor, self.fd = self.fd, -1
            close_quietly(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def opened_folder(name: str | Path, dir_fd: int | None = None, *, make: bool = False) -> Iterator[int]:
    """Opens a folder for the length of a `with`; the last name may not be a symbolic link."""
    if make:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, _PRIVATE, dir_fd=dir_fd)
            if dir_fd is not None:
                os.fsync(dir_fd)  # a file synced in a folder whose name is lost is lost with it
    folder = os.open(name, FOLDER_FLAGS, dir_fd=dir_fd)
    try:
        yield folder
    finally:
        os.close(folder)


def open_file(dir_fd: int, name: str) -> BinaryIO:
    """Opens a regular file for reading. Anything else with that name is an OSError."""
    descriptor = os.open(name, READ_FLAGS, dir_fd=dir_fd)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return reading(descriptor)


def load_file(dir_fd: int, name: str, limit: int) -> bytes | None:
    """Reads a whole small file; None when it does not exist. Raises OSError (EFBIG) above the limit."""
    try:
        with open_file(dir_fd, name) as file:
            data = read_bounded(file.fileno(), limit)
    except FileNotFoundError:
        return None
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit} bytes")
    return data


def create_file(dir_fd: int, name: str, mode: int = 0o444) -> BinaryIO:
    """Creates a file, open for writing."""
    return os.fdopen(os.open(name, CREATE_FLAGS, mode, dir_fd=dir_fd), "wb")


def write_file(dir_fd: int, name: str, data: bytes, mode: int = 0o444) -> None:
    """Writes a new file, durably; its name is durable once the folder is synced."""
    with create_file(dir_fd, name, mode) as file:
        file.write(data)
        sync_file(file)


def sync_file(file: BinaryIO) -> None:
    """Makes what was written durable."""
    file.flush()
    os.fsync(file.fileno())


def replace_file(dir_fd: int, name: str, data: bytes) -> None:
    """Replaces a file in one step, durably: new file, fsync, rename, fsync of the folder."""
    draft = f"{DRAFT}{secrets.token_hex(8)}"
    try:
        write_file(dir_fd, draft, data, 0o600)
        os.rename(draft, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(draft, dir_fd=dir_fd)
        raise
    fsync_folder(dir_fd)
