"""Applies the metadata to the entries of a working copy, and checks the result.

This is the last step, in the manifest's order; a folder gets its metadata after everything in it. The order for one entry:
owner (chown clears set-id bits and capabilities), attributes and ACLs (they change the mode), mode, times, inode flags (they
may forbid any further change).
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import grp
import os
import pwd
import stat
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from evidencesync.custody.manifest import WholeEntry
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.utc_time import parse_file_time
from evidencesync.files.folders import FolderStack, names_in, split_path
from evidencesync.restore.refusals import Lack, Refusals, place_error, reason_of
from evidencesync.restore.tree import HardLinkTargets
from evidencesync.source.details import attribute_name

# linux/fs.h: _IOR('f', 1, long) and _IOW('f', 2, long). In spite of their names the kernel reads and writes an int.
_SIZE: Final = struct.calcsize("l") << 16
_GET_FLAGS: Final = 0x80006601 | _SIZE
_SET_FLAGS: Final = 0x40006602 | _SIZE
_INT: Final = struct.Struct("=I")
_ROOM: Final = bytes(8)
_PROTECTING: Final = 0x10 | 0x20  # immutable, append only


def add_flags(fd: int, flags: int) -> None:
    """Adds flags to those that an open file or folder has. Raises OSError."""
    there = _INT.unpack_from(fcntl.ioctl(fd, _GET_FLAGS, _ROOM))[0]
    fcntl.ioctl(fd, _SET_FLAGS, _INT.pack(there | flags) + bytes(4))


def clear_flags(fd: int) -> None:
    """Clears the flags that forbid the removal of a file or folder, if the file system has such flags."""
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError):
        there = _INT.unpack_from(fcntl.ioctl(fd, _GET_FLAGS, _ROOM))[0]
        if there & _PROTECTING:
            fcntl.ioctl(fd, _SET_FLAGS, _INT.pack(there & ~_PROTECTING) + bytes(4))


_SET_ID: Final = 0o6000
_CAPABILITY: Final = b"security.capability"
_MOST_OWNER: Final = 2**32 - 2  # one more means "do not change" to chown(2)
_BY_NAME: Final = b"/proc/self/fd/%d/%b"  # one name below a descriptor: as safe as openat(2), and it opens nothing
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class MetadataOptions:
    """Which metadata is applied.

    `by_name`: set owners by name if this system knows the name. `set_id`: also set what lets a program run as another user or
    with more rights (set-id bits, file capabilities).
    """

    by_name: bool = False
    set_id: bool = False


class _Place(NamedTuple):
    """An entry by its name in an open folder, or (without a name) an open folder itself."""

    fd: int
    name: bytes | None

    @property
    def dir_fd(self) -> int | None:
        return self.fd if self.name is not None else None

    @property
    def file(self) -> int | bytes:
        return self.fd if self.name is None else self.name

    @property
    def attribute_file(self) -> int | bytes:
        return self.fd if self.name is None else _BY_NAME % (self.fd, self.name)

    def status(self) -> os.stat_result:
        return os.fstat(self.fd) if self.name is None else os.stat(self.name, dir_fd=self.fd, follow_symlinks=False)


class _FolderMetadataStack(FolderStack):
    """Applies a folder's metadata when the folder is left."""

    def __init__(self, root_fd: int, applier: MetadataApplier) -> None:
        super().__init__(root_fd)
        self._applier = applier
        self.levels: list[_Level] = []

    def opened(self, fd: int) -> None:
        self.levels.append(_Level(b"", None, set()))

    def leaving(self, fd: int) -> None:
        self._applier.apply_to_folder(fd, self.levels.pop())


@dataclass(slots=True)
class _Level:
    """An open folder: the metadata that it will get, and the names that must be in it."""

    path: bytes
    wanted: WholeEntry | None
    names: set[bytes]


class MetadataApplier:
    """Applies metadata to what a TreeMaker has made. Give it the same entries in the same order, without the absent ones.

    Raises StorageError if something of the copy does not exist any more.
    """

    def __init__(self, draft_fd: int, refusals: Refusals, links: HardLinkTargets, how: MetadataOptions) -> None:
        """The descriptor stays the caller's."""
        self._draft_fd = draft_fd
        self._refusals = refusals
        self._links = HardLinkTargets()  # asked anew, in this pass
        self._links.broken = links.broken
        self._how = how
        self._root = _Level(b"", None, set())
        self._stack = _FolderMetadataStack(os.dup(draft_fd), self)
        self._users: dict[str, int | None] = {}
        self._groups: dict[str, int | None] = {}

    def close(self) -> None:
        """Closes all descriptors."""
        self._stack.close()

    def apply(self, wanted: WholeEntry, absent: set[bytes]) -> None:
        """Applies the metadata of the next entry. A folder gets its metadata when it is left."""
        path, entry, _ = wanted
        if not path:
            self._root.wanted = wanted
            return
        parent, name = split_path(path)
        try:
            folder = self._stack.enter(parent)
            (self._stack.levels[-1] if parent else self._root).names.add(name)
            if entry.type == "directory":
                self._stack.enter(path)
                self._stack.levels[-1] = _Level(path, wanted, set())
                return
            target = self._links.target_of(path, entry)
            if target is None or target in absent:
                self._apply_all(_Place(folder, name), wanted)
        except OSError as error:
            raise place_error(error, f"give {safe_text(path, 300)} its metadata") from error

    def finish(self) -> None:
        """Applies the metadata of all open folders and of the root, except its inode flags: they might forbid the renaming."""
        try:
            fd = self._stack.enter(b"")
            self._check_names(fd, self._root)
            if self._root.wanted is not None:
                self._apply_all(_Place(fd, None), self._root.wanted, with_flags=False)
            else:  # a single file: the folder around it is nobody's evidence
                mask = os.umask(0)
                os.umask(mask)
                os.fchmod(fd, 0o777 & ~mask)
        except OSError as error:
            raise place_error(error, "give the working copy its metadata") from error

    def finish_root(self) -> None:
        """Applies the root's inode flags, after the copy has been renamed."""
        if self._root.wanted is not None:
            self._put_flags(_Place(self._draft_fd, None), b"", self._root.wanted.entry)

    def apply_to_folder(self, fd: int, level: _Level) -> None:
        """Called by the stack. Raises OSError."""
        self._check_names(fd, level)
        if level.wanted is not None:
            self._apply_all(_Place(fd, None), level.wanted)

    def _check_names(self, fd: int, level: _Level) -> None:
        """Records names that the file system has silently stored in another form."""
        there = set(map(os.fsencode, names_in(fd)))
        for name in sorted(level.names - there):
            path = level.path + b"/" + name if level.path else name
            self._refusals.add("not-possible", path, "the file system has stored it under another name")

    def _apply_all(self, place: _Place, wanted: WholeEntry, *, with_flags: bool = True) -> None:
        path, entry, attributes = wanted
        owned = self._put_owner(place, path, entry)
        if attributes:
            self._put_attributes(place, path, attributes, owned=owned)
        self._put_mode(place, path, entry, owned=owned)
        self._put_times(place, path, entry)
        if with_flags:
            self._put_flags(place, path, entry)

    # The steps, in their order.

    def _put_owner(self, place: _Place, path: bytes, entry: Entry) -> bool:
        """Whether the entry has its owner and group."""
        uid, gid = self._owner_of(entry)
        if uid is None or gid is None:
            return False
        there = place.status()
        if (there.st_uid, there.st_gid) == (uid, gid):
            return True
        try:
            if max(uid, gid) > _MOST_OWNER:
                raise OverflowError
            os.chown(place.file, uid, gid, dir_fd=place.dir_fd, follow_symlinks=place.name is None)
        except (OSError, OverflowError) as error:
            if there.st_gid != gid and gid <= _MOST_OWNER:
                with contextlib.suppress(OSError):  # the group alone may be allowed; what is lacked is said just below
                    os.chown(place.file, -1, gid, dir_fd=place.dir_fd, follow_symlinks=place.name is None)
            self._refuse("owner", path, f"{uid}:{gid}", error)
            return False
        return True

    def _owner_of(self, entry: Entry) -> tuple[int | None, int | None]:
        uid, gid = entry.uid, entry.gid
        if self._how.by_name and entry.user is not None:
            uid = _known(self._users, entry.user, lambda name: pwd.getpwnam(name).pw_uid, uid)
        if self._how.by_name and entry.group is not None:
            gid = _known(self._groups, entry.group, lambda name: grp.getgrnam(name).gr_gid, gid)
        return uid, gid

    def _put_attributes(self, place: _Place, path: bytes, attributes: dict[str, str], *, owned: bool) -> None:
        for name, value in attributes.items():
            try:
                raw = attribute_name(name)
                if raw == _CAPABILITY and not (self._how.set_id and owned):
                    self._refuse("set-id", path, "file capability", None)
                    continue
                os.setxattr(place.attribute_file, raw, base64.b64decode(value), follow_symlinks=place.name is None)
            except (OSError, ValueError) as error:
                self._refuse("attribute", path, safe_text(name, 100), error)

    def _put_mode(self, place: _Place, path: bytes, entry: Entry, *, owned: bool) -> None:
        if entry.mode is None or entry.type == "symlink":
            return
        mode = int(entry.mode, 8)
        if entry.type != "directory" and mode & _SET_ID and not (self._how.set_id and owned):
            self._refuse("set-id", path, entry.mode, None)
            mode &= ~_SET_ID
        try:
            os.chmod(place.file, mode, dir_fd=place.dir_fd)
            found = stat.S_IMODE(place.status().st_mode)
        except OSError as error:
            self._refuse("mode", path, entry.mode, error)
            return
        if found != mode:
            self._refuse("mode", path, f"{found:04o} in place of {mode:04o}", None)

    def _put_times(self, place: _Place, path: bytes, entry: Entry) -> None:
        if entry.mtime is None:
            return
        modified = parse_file_time(entry.mtime)
        accessed = parse_file_time(entry.atime) if entry.atime is not None else modified
        try:
            os.utime(place.file, ns=(accessed, modified), dir_fd=place.dir_fd, follow_symlinks=place.name is None)
            found = place.status()
        except (OSError, OverflowError) as error:
            self._refuse("times", path, entry.mtime, error)
            return
        if (found.st_atime_ns, found.st_mtime_ns) != (accessed, modified):
            self._refuse("times", path, "the file system cannot hold them exactly", None)

    def _put_flags(self, place: _Place, path: bytes, entry: Entry) -> None:
        if entry.inode_flags is None:
            return
        try:
            if place.name is None:
                add_flags(place.fd, int(entry.inode_flags, 16))
                return
            fd = os.open(place.name, _OPEN, dir_fd=place.fd)
            try:
                add_flags(fd, int(entry.inode_flags, 16))
            finally:
                os.close(fd)
        except OSError as error:
            self._refuse("inode-flags", path, entry.inode_flags, error)

    def _refuse(self, lack: Lack, path: bytes, what: str, error: Exception | None) -> None:
        why = reason_of(error) if isinstance(error, OSError) else "not possible here" if error is not None else ""
        self._refusals.add(lack, path, f"{what}: {why}" if why else what)


def _known(cache: dict[str, int | None], name: str, find: Callable[[str], int], number: int | None) -> int | None:
    """The number that a name has on this system; `number` where it has none."""
    if name not in cache:
        try:
            cache[name] = find(name)
        except (KeyError, ValueError):
            cache[name] = None
    found = cache[name]
    return number if found is None else found
