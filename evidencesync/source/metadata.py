"""Makes the manifest's entries of what a walk finds."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterable, Sequence
from typing import Final, get_args

from evidencesync.evidence.entry import Entry, Flag, ReadError, Remark
from evidencesync.evidence.path import to_json_fields
from evidencesync.evidence.utc_time import FileTime, format_file_time
from evidencesync.source.descriptor import is_gone
from evidencesync.source.details import NO_DETAILS, DetailReader, Details
from evidencesync.source.walker import Found

_Inode = tuple[int, int, int]


def _inode_of(status: os.stat_result) -> _Inode:
    """Device, number and kind: a file system that unites others may show one number for a file and for a symbolic link."""
    return status.st_dev, status.st_ino, stat.S_IFMT(status.st_mode)


class HardLinkGroups:
    """Remembers the first path of every inode that has more than one link, until its last link has been seen.

    Memory grows with the number of such inodes whose links have not all been seen, never with the number of files.
    """

    __slots__ = ("_contents", "_first", "_missing")

    def __init__(self) -> None:
        self._contents: dict[_Inode, str | None] = {}  # as they were when each was read under its first path
        self._first: dict[_Inode, bytes] = {}
        self._missing: dict[_Inode, int] = {}  # links not seen yet, where that is more than one

    def has_changed(self, status: os.stat_result, content: str | None) -> bool:
        """Whether an inode that was recorded under another path has another content now.

        It is a digest, a link's target, a device's numbers, or None without any of them.
        """
        key = _inode_of(status)
        return key in self._first and self._contents[key] != content

    def record(self, path: bytes, status: os.stat_result, content: str | None = None) -> bytes | None:
        """Records one link, once for each path, and returns the path under which its inode was recorded before, or None.

        `content`: what was read under it.
        """
        key = _inode_of(status)
        first = self._first.get(key)
        if first is None:
            self._first[key] = path
            self._contents[key] = content
            if status.st_nlink > 2:
                self._missing[key] = status.st_nlink - 1
            return None
        if first == path:
            return None
        missing = self._missing.get(key, 1) - 1
        if missing > 0:
            self._missing[key] = missing
        else:
            self._missing.pop(key, None)
            del self._first[key], self._contents[key]
        return first


_FLAGS: Final[tuple[Flag, ...]] = get_args(Flag)
_NANO: Final = 1_000_000_000
_DEVICES: Final = frozenset({"block-device", "character-device"})

_References = tuple[str | None, str | None, str | None, str | None, str | None]
"""hardlink_to, hardlink_to_b64, target, target_b64, device_number."""
_NO_REFERENCES: Final[_References] = (None, None, None, None, None)


class EntryMaker:
    """Makes the entries of one manifest, in the order of the walk, while the descriptors of each are valid. For one thread.

    `details` reads a file's details while it is open. `touched` counts entries whose access time changed while they were read:
    that may happen to any symbolic link (readlink(2) has no O_NOATIME), and to a file or folder for which this user may not use
    O_NOATIME.
    """

    __slots__ = ("_devices", "_groups", "_links", "_modes", "_users", "details", "touched")

    def __init__(self, *, birth_times: bool = True, attributes: bool = True) -> None:
        self.details = DetailReader(birth_times=birth_times, attributes=attributes)
        self.touched = 0
        self._links = HardLinkGroups()
        self._users: dict[int, str | None] = {}
        self._groups: dict[int, str | None] = {}
        self._modes: dict[int, str] = {}
        self._devices: dict[int, str] = {}

    def make_entry(
        self,
        found: Found,
        *,
        size: int | None = None,
        blake3_hex: str | None = None,
        sha256_hex: str | None = None,
        flags: Sequence[Flag] = (),
        read_errors: Sequence[ReadError] | None = None,
        details: Details | None = None,
        noatime: bool = True,
    ) -> Entry:
        """The entry, with `size` and digests as they are given: those of the bytes that were delivered.

        `flags` are added to the walk's own. `details` are those that were read from the open file; without them, they are read
        here, by name. Skipped and vanished entries are not looked at again. Lists may have any length: the manifest's encoder
        splits them into lines. `noatime` is False for a file that had to be opened in a way that may change its access time.
        Call it once an entry.
        """
        status = found.stat
        all_flags = _ordered(found.flag, flags) if found.flag is not None or flags else None
        path, path_b64 = to_json_fields(found.path)
        if status is None:
            return Entry(found.entry_type, path, path_b64, size, blake3_hex, sha256_hex, flags=all_flags)
        kind, st_mode, uid, gid, device = found.entry_type, status.st_mode, status.st_uid, status.st_gid, status.st_dev
        first, first_b64, target, target_b64, device_number = _NO_REFERENCES
        if not (noatime and found.noatime):
            self._look_at_access_time(found, status)
        if all_flags is None or _may_look(all_flags):
            details = details or self.details.of_found(found, status)
            if kind != "directory" and (kind != "file" or status.st_nlink > 1):
                references, all_flags = self._references(found, status, all_flags, blake3_hex)
                first, first_b64, target, target_b64, device_number = references
        else:
            details = details or NO_DETAILS
        mtime_ns, atime_ns, ctime_ns = status.st_mtime_ns, status.st_atime_ns, status.st_ctime_ns
        mtime = _time(mtime_ns)
        # By position, in the order in which Entry declares its fields: with keywords this call alone costs a fifth of the
        # whole budget of an entry. A test holds the order.
        # fmt: off
        return Entry(
            kind, path, path_b64, size, blake3_hex, sha256_hex,
            self._modes.get(st_mode) or self._mode(st_mode), uid, gid,
            self._users[uid] if uid in self._users else self._user(uid),
            self._groups[gid] if gid in self._groups else self._group(gid),
            mtime,
            mtime if atime_ns == mtime_ns else _time(atime_ns),
            mtime if ctime_ns == mtime_ns else _time(ctime_ns),
            details.birth, str(status.st_ino), self._devices.get(device) or self._device(device), status.st_nlink,
            first, first_b64, target, target_b64, device_number, details.inode_flags,
            details.attributes, None, list(read_errors) if read_errors else None, all_flags,
        )
        # fmt: on

    def has_another_content(self, found: Found, blake3_hex: str) -> bool:
        """Whether a file is a hard link to one that was recorded with another content."""
        status = found.stat
        return status is not None and status.st_nlink > 1 and self._links.has_changed(status, blake3_hex)

    def remarks(self) -> dict[Remark, int]:
        """The remarks about all entries made so far, for the manifest's last line."""
        return {"access-time-changed": self.touched, "metadata-unread": self.details.unread}

    def _look_at_access_time(self, found: Found, status: os.stat_result) -> None:
        """Checks after the reading whether the access time has changed. Other changes are checked elsewhere."""
        try:
            now = os.fstat(found.folder_fd) if found.folder_fd >= 0 else os.lstat(found.name, dir_fd=found.dir_fd)
        except OSError:
            self.touched += 1  # not known, so it counts as changed
            return
        self.touched += now.st_atime_ns != status.st_atime_ns

    def _references(
        self, found: Found, status: os.stat_result, flags: list[Flag] | None, content: str | None
    ) -> tuple[_References, list[Flag] | None]:
        """The references of an entry: the first link of its inode, a symbolic link's target, a device's numbers.

        An inode that has two contents under two names has changed in between: the entry is flagged.
        """
        first = target = first_b64 = target_b64 = device_number = None
        if found.entry_type == "symlink":
            target, target_b64, flags = self._target_fields(found, status, flags)
        elif found.entry_type in _DEVICES:
            device_number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        # Nothing may refer to an entry that has no content.
        if status.st_nlink > 1 and (flags is None or (_may_look(flags) and "unreadable" not in flags)):
            content = content or target or target_b64 or device_number
            changed = self._links.has_changed(status, content)
            known = self._links.record(found.path, status, content)
            if known is not None:
                flags = _ordered("changed-while-read", flags or ()) if changed else flags
                first, first_b64 = to_json_fields(known)
        return (first, first_b64, target, target_b64, device_number), flags

    def _target_fields(
        self, found: Found, status: os.stat_result, flags: list[Flag] | None
    ) -> tuple[str | None, str | None, list[Flag] | None]:
        try:
            target = os.readlink(found.name, dir_fd=found.dir_fd)
            now = os.lstat(found.name, dir_fd=found.dir_fd)
        except OSError as error:
            gone = is_gone(error) or error.errno == errno.EINVAL  # EINVAL: there is something else now
            return None, None, _ordered("vanished" if gone else "unreadable", flags or ())
        if (now.st_ino, now.st_ctime_ns) != (status.st_ino, status.st_ctime_ns):
            flags = _ordered("changed-while-read", flags or ())
        elif now.st_atime_ns != status.st_atime_ns:
            self.touched += 1
        return *to_json_fields(target), flags

    def _mode(self, st_mode: int) -> str:
        return self._modes.setdefault(st_mode, f"{stat.S_IMODE(st_mode):04o}")

    def _device(self, device: int) -> str:
        return self._devices.setdefault(device, str(device))

    def _user(self, uid: int) -> str | None:
        try:
            name = _clean(pwd.getpwuid(uid).pw_name)
        except KeyError:
            name = None
        return self._users.setdefault(uid, name)

    def _group(self, gid: int) -> str | None:
        try:
            name = _clean(grp.getgrgid(gid).gr_name)
        except KeyError:
            name = None
        return self._groups.setdefault(gid, name)


def _may_look(flags: list[Flag]) -> bool:
    """Whether an entry may be looked at once more: not if the user left it out, and not if it has vanished."""
    return "skipped" not in flags and "vanished" not in flags


def _clean(name: str) -> str | None:
    return to_json_fields(os.fsencode(name))[0] or None


def _ordered(flag: Flag | None, more: Iterable[Flag]) -> list[Flag] | None:
    """The flags in the one order in which a manifest lists them, each once."""
    given = {flag, *more}
    return [known for known in _FLAGS if known in given] or None


def _time(nanoseconds: int) -> FileTime:
    if nanoseconds < _NANO:
        return format_file_time(nanoseconds)
    digits = str(nanoseconds)  # cutting the digits is twice as fast as dividing
    return f"{digits[:-9]}.{digits[-9:]}"
