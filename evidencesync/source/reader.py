"""Reads the content of regular files, and detects changes during the reading."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, Self

import msgspec

from evidencesync.errors import InternalError, SourceReadError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.utc_time import FileTime
from evidencesync.files.disk import close_quietly, read_bounded
from evidencesync.files.holes import HoleFinder
from evidencesync.limits import FIRST_READ, KIB, MAX_FILE_SIZE
from evidencesync.source.descriptor import FILE_FLAGS, has_lost_its_name, is_gone, open_untouched
from evidencesync.source.details import DetailReader, Details
from evidencesync.source.walker import Found

_NO_BOUND: Final = 2**63
PAGE: Final = 4 * KIB


class SmallRead(msgspec.Struct, frozen=True, gc=False):
    """A small file, read whole. `changed`: it is not what the walk saw. `noatime`: its access time was left alone."""

    data: bytes
    changed: bool
    noatime: bool
    details: Details | None


class OpenedFile:
    """A regular file that is being read from its start to its end; a context manager. Made by `open_file`.

    It is read up to its size when it was opened: what is appended meanwhile is not read, and makes it `changed`. A file of size
    0 that has content (as under /proc) is read to its end. `offset` is where the next read begins.
    """

    __slots__ = ("_bound", "_holes", "fd", "found", "noatime", "offset", "size", "unit")

    def __init__(self, found: Found, fd: int, size: int, *, noatime: bool) -> None:
        self.found = found
        self.fd = fd
        self.size = size
        self.noatime = noatime
        self.offset = 0
        self.unit = PAGE  # the least that is read by itself where something is bad: what the page cache reads
        self._bound = size
        self._holes = HoleFinder(fd)

    def next_extent(self) -> tuple[int, bool]:
        """The length of the next extent, and whether it is a hole, which need not be read (see `skip`).

        A hole may be returned in parts. The length is 0 at the end by the file's size: there only a read can tell. Raises
        SourceReadError.
        """
        if self.offset >= self.size:
            return 0, False
        try:
            _, length, is_hole = self._holes.next_extent(self.offset, self.size)
        except OSError as error:
            raise read_error(self.found, error, self.offset) from error
        return length, is_hole and length > 0

    def skip(self, length: int) -> None:
        """Skips bytes of a hole, which are zeros."""
        self.offset += length

    def read_into(self, buffer: bytearray | memoryview) -> int:
        """Fills the buffer as far as the file goes, and returns the number of bytes: 0 means the end.

        Raises SourceReadError with the offset of the first byte that cannot be read; the bytes before it were returned by an
        earlier call. Reading may continue behind it after `offset` was set.
        """
        view = memoryview(buffer)
        filled, room = 0, len(view)
        while filled < room:
            try:
                if self.offset >= self._bound and not self._goes_on():
                    break
                part = view[filled : filled + min(room - filled, self._bound - self.offset)]
                got = os.preadv(self.fd, [part], self.offset)  # repeats itself after a signal (PEP 475)
            except OSError as error:
                if filled:
                    break  # the next call gets the error again, without bytes before it
                raise read_error(self.found, error, self.offset) from error
            if got == 0:
                break
            filled += got
            self.offset += got
        return filled

    @contextlib.contextmanager
    def close_reads(self) -> Iterator[Callable[[int, memoryview], None]]:
        """Yields a function for single reads without read-ahead, to find out which bytes cannot be read."""

        def read_at(offset: int, room: memoryview) -> None:
            got = 0
            while got < len(room):
                more = os.preadv(self.fd, [room[got:]], offset + got)
                if not more:  # cut off meanwhile
                    raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
                got += more

        self.advise("POSIX_FADV_RANDOM")
        try:
            yield read_at
        finally:
            self.advise("POSIX_FADV_SEQUENTIAL")

    def changed(self) -> bool:
        """Whether the file now differs from what the walk saw: in inode, size, modification or change time, or content."""
        try:
            return differs(self.found, os.fstat(self.fd)) or self._holds_more()
        except OSError as error:
            raise read_error(self.found, error, self.offset) from error

    def details(self, reader: DetailReader) -> Details:
        """The file's birth time and attributes, taken while it is open."""
        try:
            return reader.of_descriptor(self.fd, os.fstat(self.fd))
        except OSError as error:
            raise read_error(self.found, error, self.offset) from error

    def close(self) -> None:
        """Closes the file. Closing twice is harmless."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            close_quietly(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def advise(self, advice: str) -> None:
        """Tells the system how the file will be read (posix_fadvise), by the name of the advice."""
        if hasattr(os, advice):
            with contextlib.suppress(OSError):  # it is only advice
                os.posix_fadvise(self.fd, 0, 0, getattr(os, advice))

    def _goes_on(self) -> bool:
        """At the end by the file's size: whether to read on, because the size was 0 and so means nothing.

        Never beyond another size: that was announced, and what is appended now would be more than announced.
        """
        if self.size or os.fstat(self.fd).st_size > self.size:
            return False
        self._bound = _NO_BOUND
        return True

    def _holds_more(self) -> bool:
        """Whether there is content behind the size, which was not read."""
        return self.size > 0 and os.preadv(self.fd, [bytearray(1)], self.size) > 0


def open_file(found: Found) -> OpenedFile:
    """Opens a regular file at the current position of a walk, to be read from start to end. Follows no link.

    Raises SourceReadError if it cannot be opened, is not a regular file any more (`vanished`), or states a size that no manifest
    can state: a sparse file may be as large as anybody wants.
    """
    fd, noatime = _open_regular(found)
    try:
        size, _ = _look_at(found, fd, None)
        if size > MAX_FILE_SIZE:
            raise read_error(found, OSError(errno.EFBIG, os.strerror(errno.EFBIG)), 0)
    except BaseException:
        close_quietly(fd)
        raise
    opened = OpenedFile(found, fd, size, noatime=noatime)
    opened.advise("POSIX_FADV_SEQUENTIAL")
    return opened


def read_small(found: Found, limit: int, details: DetailReader | None = None) -> SmallRead | None:
    """Reads a whole regular file of at most `limit` bytes; None if it is larger: then use `open_file`.

    With a `details` reader, its birth time and attributes are read, too, which is much cheaper while it is open. Raises
    SourceReadError as `open_file` and `read_into` do.
    """
    fd, noatime = _open_regular(found)
    try:
        size, birth = _look_at(found, fd, details)
        if size > limit:
            return None
        try:
            data = os.read(fd, size + 1 if size else FIRST_READ)
            if len(data) != size:  # one more byte was asked for than there should be: exactly `size` is the whole
                data = _read_on(fd, data, limit)
            after = os.fstat(fd)
        except OSError as error:
            raise read_error(found, error, 0) from error
        if len(data) > limit:
            return None
        taken = details.with_birth(fd, after.st_dev, birth) if details is not None else None
    finally:
        close_quietly(fd)
    return SmallRead(data, differs(found, after), noatime, taken)


def look_again(found: Found) -> Found | None:
    """The same name with its present status, to read it once more; None if it is no regular file any more."""
    try:
        status = os.lstat(found.name, dir_fd=found.dir_fd)
    except OSError as error:
        is_gone(error)  # raises if this process, and not the source, is the cause
        return None
    return msgspec.structs.replace(found, stat=status) if stat.S_ISREG(status.st_mode) else None


def differs(found: Found, now: os.stat_result) -> bool:
    """Whether a file's status differs from the one that the walk saw, and that the manifest will state."""
    seen = found.stat
    return (
        seen is None
        or now.st_ctime_ns != seen.st_ctime_ns
        or now.st_mtime_ns != seen.st_mtime_ns
        or now.st_size != seen.st_size
        or now.st_ino != seen.st_ino
        or now.st_dev != seen.st_dev
    )


def read_error(found: Found, error: OSError, offset: int, *, vanished: bool = False) -> SourceReadError:
    """The error to record for a file that could not be opened or read."""
    shown = safe_text(found.path)
    reason = "another file has taken its place, or it was removed" if vanished else error.strerror or str(error)
    return SourceReadError(f"cannot read {shown}: {reason}", offset=offset, errno=error.errno or 0, vanished=vanished)


def _open_regular(found: Found) -> tuple[int, bool]:
    if found.entry_type != "file" or found.dir_fd < 0:
        raise InternalError(f"only a regular file is ever opened for its content, not a {found.entry_type}")
    try:
        return open_untouched(found.name, FILE_FLAGS, found.dir_fd)
    except OSError as error:
        raise read_error(found, error, 0, vanished=has_lost_its_name(error, found.name, found.dir_fd)) from error


def _look_at(found: Found, fd: int, details: DetailReader | None) -> tuple[int, FileTime | None]:
    """Returns the size of what was opened, and its birth time where there is a reader of details."""
    try:
        if details is not None and found.stat is not None:
            mode, size, birth = details.look(fd, found.stat.st_dev)
        else:
            status = os.fstat(fd)
            mode, size, birth = status.st_mode, status.st_size, None
    except OSError as error:
        raise read_error(found, error, 0) from error
    if not stat.S_ISREG(mode):  # a FIFO or a device has taken the name since the walk looked
        raise read_error(found, FileNotFoundError(), 0, vanished=True)
    return size, birth


def _read_on(fd: int, data: bytes, limit: int) -> bytes:
    """Reads the rest of a file that has fewer or more bytes than its size, up to one byte above `limit`."""
    return data + read_bounded(fd, limit - len(data))


MOST_FOLDERS: Final = 65_536  # about 15 MiB of memory; later folders are checked only when the walk leaves them


class FolderSnapshots:
    """Remembers the state of folders before they were listed, and tells which of them have changed at the end of a walk."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._seen: dict[bytes, tuple[int, int, int]] = {}

    def note(self, found: Found) -> None:
        """Remembers a folder that the walk enters. Other entries are ignored."""
        if found.folder_fd >= 0 and found.stat is not None and len(self._seen) < MOST_FOLDERS:
            self._seen[found.path] = _state(found.stat)

    def forget(self, path: bytes) -> None:
        """Forgets a folder that is already known to have changed."""
        self._seen.pop(path, None)

    def changed(self) -> Iterator[bytes]:
        """Yields the folders that have changed or are gone. A path that is too long for one system call is ignored."""
        for path, state in self._seen.items():
            try:
                now = os.lstat(os.path.join(self._root, path) if path else self._root)
            except FileNotFoundError:
                yield path
            except OSError:
                continue  # only what the walk saw when it left the folder is known
            else:
                if _state(now) != state:
                    yield path


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino
