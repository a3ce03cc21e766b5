"""Reads what os.stat does not tell about an entry: its birth time, extended attributes (with ACLs and labels) and inode flags."""

from __future__ import annotations

import base64
import binascii
import ctypes
import errno
import fcntl
import os
import struct
import sys
from collections.abc import Callable
from typing import Final

import msgspec

from evidencesync.evidence.entry import InodeFlags
from evidencesync.evidence.path import to_json_fields
from evidencesync.evidence.utc_time import FileTime, format_file_time
from evidencesync.limits import MAX_ATTRIBUTES, MAX_XATTR_NAME
from evidencesync.source.walker import Found

Attributes = dict[str, str]
"""Names and values (base64), sorted by name. A name that is not clean UTF-8 is `base64:` and its base64."""

_ENCODED: Final = "base64:"  # no attribute name space of the kernel has this name
_NO_ATTRIBUTES: Final = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_NAME_BELOW: Final = b"/proc/self/fd/%d/%b"  # one name below a descriptor: as safe as openat(2), and it opens nothing


class AttributeReader:
    """Reads extended attributes; remembers which file systems have none. For one thread.

    `unread` counts attributes that the system listed but would not give, or that a manifest can not hold, and entries
    whose list it would not give: a manifest must say so when it is not 0. `available` is False where this system has no
    way to read them at all.
    """

    __slots__ = ("_without", "available", "unread")

    def __init__(self) -> None:
        self.available = hasattr(os, "listxattr")
        self.unread = 0
        self._without: set[int] = set()  # devices whose file system has no attributes

    def of_descriptor(self, fd: int, device: int) -> Attributes | None:
        """The attributes of what is open, or None. `device` is its st_dev. The cheap way for what is open anyway."""
        return self._read(fd, device) if device not in self._without else None

    def of_name(self, dir_fd: int, name: bytes, device: int) -> Attributes | None:
        """The attributes of an entry that is not opened: a link, a FIFO, a socket, a device."""
        return self._read(_NAME_BELOW % (dir_fd, name), device) if device not in self._without else None

    def _read(self, target: int | bytes, device: int) -> Attributes | None:
        if not self.available:
            return None
        try:
            names = os.listxattr(target, follow_symlinks=False) if isinstance(target, bytes) else os.listxattr(target)
        except OSError as error:
            if error.errno in _NO_ATTRIBUTES:
                self._without.add(device)
            else:
                self.unread += 1
            return None
        return self._read_values(target, names) if names else None

    def _read_values(self, target: int | bytes, names: list[str]) -> Attributes | None:
        values: Attributes = {}
        total_bytes = 0
        for name, raw in sorted((_document_name(raw), raw) for raw in map(os.fsencode, names)):
            try:
                value = os.getxattr(target, raw, follow_symlinks=isinstance(target, int))
            except OSError as error:
                if error.errno != errno.ENODATA:  # removed since it was listed: then it is not there
                    self.unread += 1
                continue
            total_bytes += len(raw) + len(value)
            if total_bytes > MAX_ATTRIBUTES or len(name) > MAX_XATTR_NAME:
                self.unread += 1
                continue
            values[name] = base64.b64encode(value).decode("ascii")
        return values or None


def attribute_name(name: str) -> bytes:
    """The raw name of an attribute in a manifest. Raises ValueError for a name that is not in its canonical form."""
    try:
        raw = base64.b64decode(name[len(_ENCODED) :], validate=True) if name.startswith(_ENCODED) else name.encode("utf-8")
    except binascii.Error as error:
        raise ValueError(f"not the base64 of an attribute's name: {name!r}") from error
    if _document_name(raw) != name:
        raise ValueError(f"an attribute's name is not in its canonical form: {name!r}")
    return raw


def _document_name(raw: bytes) -> str:
    text, encoded = to_json_fields(raw)
    if text is not None and not text.startswith(_ENCODED):
        return text
    return _ENCODED + (encoded or base64.b64encode(raw).decode("ascii"))


# linux/fs.h: _IOR('f', 1, long). In spite of its name the kernel writes an int.
_GET_FLAGS: Final = 0x80006601 | struct.calcsize("l") << 16
_INT: Final = struct.Struct("=I")
_ROOM: Final = bytes(8)
_LAYOUT: Final = 0x1000 | 0x40000 | 0x80000 | 0x10000000
"""Flags that only tell how a file system stores a file (indexed folder, huge file, extents, inline data): left out."""
_NO_SUPPORT: Final = frozenset({errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})


class InodeFlagReader:
    """Reads inode flags of what is open; remembers which file systems have none. For one thread.

    `unread` counts what the system would not tell: a manifest must say so when it is not 0. `available` is False where this
    system has no such call.
    """

    __slots__ = ("_shown", "_without", "available", "unread")

    def __init__(self) -> None:
        self.available = sys.platform.startswith("linux")
        self.unread = 0
        self._shown: dict[int, InodeFlags | None] = {}
        self._without: set[int] = set()

    def of_descriptor(self, fd: int, device: int) -> InodeFlags | None:
        """The flags of what is open, or None where it has none or its file system (`device` is its st_dev) knows none."""
        if not self.available or device in self._without:
            return None
        try:
            flags = _INT.unpack_from(fcntl.ioctl(fd, _GET_FLAGS, _ROOM))[0]
        except OSError as error:
            if error.errno in _NO_SUPPORT:
                self._without.add(device)
            else:
                self.unread += 1
            return None
        return self._shown[flags] if flags in self._shown else self._show(flags)

    def _show(self, flags: int) -> InodeFlags | None:
        kept = flags & ~_LAYOUT
        return self._shown.setdefault(flags, f"{kept:08x}" if kept else None)


_BY_NAME: Final = 0x100 | 0x4000  # AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC: what the lstat before it just fetched is enough
_BY_DESCRIPTOR: Final = 0x1000 | 0x4000  # AT_EMPTY_PATH | AT_STATX_DONT_SYNC
_BTIME: Final = 0x800  # STATX_BTIME
_MASK: Final = 0x100 | _BTIME  # STATX_INO
_OPENED_MASK: Final = 0x1 | 0x200 | _MASK  # STATX_TYPE, STATX_SIZE
# struct statx is the same on every architecture: stx_mask at 0, stx_mode at 28, stx_ino at 32, stx_size at 40, stx_btime (s64
# seconds, u32 ns) at 80.
_FIELDS: Final = struct.Struct("=I28xQ40xqI")
_OPENED_FIELDS: Final = struct.Struct("=I24xH2x8xQ32xqI")
_STATX_SIZE: Final = 256
_NANO: Final = 1_000_000_000


class BirthTimes:
    """Reads birth times; remembers which file systems keep none. For one thread.

    `available` is False where the system has no statx(2).
    """

    __slots__ = ("_buffer", "_statx", "_without", "available")

    def __init__(self) -> None:
        self._statx: Callable[[int, bytes, int, int, object], int] | None = _find_statx()
        self.available = self._statx is not None
        self._buffer = ctypes.create_string_buffer(_STATX_SIZE)
        self._without: set[int] = set()

    def of_name(self, dir_fd: int, name: bytes, device: int, inode: int) -> FileTime | None:
        """The birth time of the entry that had this device and inode number, or None where it is not known."""
        if self._statx is None or device in self._without:
            return None
        if self._statx(dir_fd, name, _BY_NAME, _MASK, self._buffer) != 0:
            return None  # gone by now: reading its content will tell
        mask, now_inode, seconds, nanoseconds = _FIELDS.unpack_from(self._buffer)
        return self._checked_time(mask, seconds, nanoseconds, device) if now_inode == inode else None

    def of_descriptor(self, fd: int, device: int) -> FileTime | None:
        """The birth time of what is open, or None where it is not known."""
        if self._statx is None or device in self._without:
            return None
        if self._statx(fd, b"", _BY_DESCRIPTOR, _MASK, self._buffer) != 0:
            return None
        mask, _, seconds, nanoseconds = _FIELDS.unpack_from(self._buffer)
        return self._checked_time(mask, seconds, nanoseconds, device)

    def look(self, fd: int, device: int) -> tuple[int, int, FileTime | None] | None:
        """Mode, size and birth time of what was opened just now; None where one call cannot tell all three.

        No server is asked: it would hold up all threads. The size is what the opening found; what is read and fstat(2) tell more.
        """
        if (
            self._statx is None
            or device in self._without
            or self._statx(fd, b"", _BY_DESCRIPTOR, _OPENED_MASK, self._buffer) != 0
        ):
            return None
        mask, mode, size, seconds, nanoseconds = _OPENED_FIELDS.unpack_from(self._buffer)
        birth = self._checked_time(mask, seconds, nanoseconds, device)
        return None if birth is None else (mode, size, birth)

    def _checked_time(self, mask: int, seconds: int, nanoseconds: int, device: int) -> FileTime | None:
        if not mask & _BTIME:
            self._without.add(device)
            return None
        if seconds < 0:
            return format_file_time(seconds * _NANO + nanoseconds)
        return f"{seconds}.{nanoseconds:09d}"


def _find_statx() -> Callable[[int, bytes, int, int, object], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    # PyDLL keeps the interpreter lock: the inode is in memory after the lstat, so releasing the lock would cost more than the
    # call. Without argtypes, ctypes converts faster; every argument is an int, bytes or the buffer.
    statx: Callable[[int, bytes, int, int, object], int] | None = getattr(ctypes.PyDLL(None), "statx", None)
    return statx


class Details(msgspec.Struct, frozen=True, gc=False):
    """An entry's further metadata; None for what it does not have, or what the system does not tell."""

    birth: FileTime | None
    attributes: Attributes | None
    inode_flags: InodeFlags | None


NO_DETAILS: Final = Details(None, None, None)


class DetailReader:
    """Reads details, of an open file or by name. For one thread.

    By descriptor it takes about 2 microseconds, by name four times that: a file's details are best taken while it is
    open for its content.
    """

    __slots__ = ("_attributes", "_births", "_flags")

    def __init__(self, *, birth_times: bool = True, attributes: bool = True) -> None:
        self._births = BirthTimes() if birth_times else None
        self._attributes = AttributeReader() if attributes else None
        self._flags = InodeFlagReader() if attributes else None

    @property
    def unread(self) -> int:
        """How often the system would not give an attribute, an entry's list of them, or its inode flags."""
        return sum(reader.unread for reader in (self._attributes, self._flags) if reader is not None)

    def of_descriptor(self, fd: int, status: os.stat_result) -> Details:
        """The details of what is open; `status` is its fstat."""
        device = status.st_dev
        return self.with_birth(fd, device, self._births.of_descriptor(fd, device) if self._births is not None else None)

    def look(self, fd: int, device: int) -> tuple[int, int, FileTime | None]:
        """Mode, size and birth time of what was opened just now, in one system call where that can be. Raises OSError.

        `device`: where the walk has seen it.
        """
        if self._births is not None and (seen := self._births.look(fd, device)) is not None:
            return seen
        status = os.fstat(fd)
        return status.st_mode, status.st_size, None

    def with_birth(self, fd: int, device: int, birth: FileTime | None) -> Details:
        """The details of what is open, of which the birth time is known already."""
        return Details(
            birth,
            self._attributes.of_descriptor(fd, device) if self._attributes is not None else None,
            self._flags.of_descriptor(fd, device) if self._flags is not None else None,
        )

    def of_found(self, found: Found, status: os.stat_result) -> Details:
        """The details of an entry where the walk stands, without opening it; `status` is what the walk saw."""
        if found.folder_fd >= 0:
            return self.of_descriptor(found.folder_fd, status)
        device = status.st_dev
        births, attributes = self._births, self._attributes
        return Details(
            births.of_name(found.dir_fd, found.name, device, status.st_ino) if births is not None else None,
            attributes.of_name(found.dir_fd, found.name, device) if attributes is not None else None,
            None,  # inode flags need an open file
        )
