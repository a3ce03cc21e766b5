"""Tells whether a source has changed: a digest of how it looks, and notifications of the kernel (inotify).

No file is opened. Folders are listed as a push lists them, without changing their access times where the system allows that.
A notification is only a reason to look sooner. A watch is set by the descriptor with which the walk has opened a folder, so
nothing more is opened or listed for it, no link is followed, and no access time changes. Source: inotify(7).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from evidencesync.errors import SourceNotFoundError, UsageError
from evidencesync.evidence.digest import new_blake3
from evidencesync.files.disk import close_quietly
from evidencesync.source.descriptor import CLOEXEC
from evidencesync.source.filters import FilterRules
from evidencesync.source.root import SourceRoot, resolve_source
from evidencesync.source.walker import Found, walk

_BATCH = 512  # entries that are hashed at a time


@dataclass(frozen=True, slots=True)
class SourceSnapshot:
    """How a source looks at one time. `digest` (BLAKE3) differs if a name was added, removed or moved, or an inode changed.

    `entries` counts what was looked at. `traces` counts folders whose access time the look may have changed. `file_system` is
    the number (`st_dev`) of the one on which the source lies.
    """

    digest: bytes
    entries: int
    traces: int
    file_system: int | None = None


def look(root: bytes, rules: FilterRules, visit: Callable[[Found], None] = lambda _: None) -> SourceSnapshot | None:
    """Looks at the whole source once, in constant memory; None if the source does not exist. Calls `visit` with each entry.

    The digest covers the rules, and of each entry path, type, inode, mode, owner, size, modification and change time. A write
    that changes none of these is not seen: one through a memory map that is not synced yet, or a second one in the same tick of
    the file system's clock. Where such a tick is a second or two (FAT, HFS+, ext3) and is not over yet, the digest is like no
    other one, so that the source is looked at, and pushed, again. Entries that the rules leave out do not count. Then the times
    of folders do not count either, since they change with every name. Raises UsageError for a device, which has no such state.
    """
    try:
        require_watchable(resolve_source(root))
    except SourceNotFoundError:
        return None
    digest, entries, traces, is_fresh = new_blake3(), 0, 0, False
    file_system: int | None = None
    began = time.time_ns()
    with_folder_times = rules.is_empty and rules.listed is None
    batch = [repr(rules.lines()).encode()]
    try:
        for found in walk(root, rules):
            visit(found)
            entries += 1
            traces += not found.noatime
            if file_system is None and found.stat is not None:
                file_system = found.stat.st_dev
            if found.flag == "skipped":
                continue
            is_fresh = is_fresh or _is_fresh(found, began)
            batch.append(_state(found, with_folder_times=with_folder_times))
            if len(batch) >= _BATCH:
                digest.update(b"".join(batch))
                batch.clear()
    except SourceNotFoundError:
        return None
    digest.update(b"".join(batch))
    if is_fresh:
        digest.update(b"%d" % began)
    return SourceSnapshot(digest.digest(), entries, traces, file_system)


def require_watchable(source: SourceRoot) -> None:
    """Raises UsageError for what cannot be watched."""
    if source.is_device:
        raise UsageError("a device does not say when it has changed", hint="Acquire it with push, when that is wanted.")


_SECOND: Final = 1_000_000_000
_LONGEST_TICK: Final = 2 * _SECOND  # FAT


def _is_fresh(found: Found, now_ns: int) -> bool:
    """Whether a file may be written again in the tick that its times name: whole seconds, and a tick that is not over.

    A time in the future is not: it stays there, and says nothing.
    """
    status = found.stat
    if status is None or found.entry_type != "file":
        return False
    return any(not at % _SECOND and abs(now_ns - at) < _LONGEST_TICK for at in (status.st_mtime_ns, status.st_ctime_ns))


def _state(found: Found, *, with_folder_times: bool) -> bytes:
    """The bytes of one entry for the digest. Their length comes first, so that two different lists never give the same bytes."""
    status = found.stat
    if found.flag is not None or status is None:
        facts = f"{found.flag} {found.errno}"
    else:
        facts = f"{status.st_ino} {status.st_mode} {status.st_uid} {status.st_gid}"
        if found.entry_type != "directory":
            facts += f" {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
        elif with_folder_times:
            facts += f" {status.st_mtime_ns} {status.st_ctime_ns}"
    state = b"%b\0%b\0%b" % (os.fsencode(found.entry_type), facts.encode("ascii"), found.path)
    return b"%d:%b" % (len(state), state)


MOST_WATCHES: Final = 16_384
"""The most folders that are watched: the kernel keeps about 1 KiB for each, and other programs of the user need watches, too."""

# linux/inotify.h: MODIFY, ATTRIB, CLOSE_WRITE, MOVED_FROM, MOVED_TO, CREATE, DELETE, DELETE_SELF, MOVE_SELF.
_CHANGES: Final = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
_EXCL_UNLINK: Final = 0x04000000  # changes of a file without a name do not matter
_NONBLOCK: Final = os.O_NONBLOCK
_BLOCK: Final = 64 * 1024
# File systems on which this kernel does not learn what another machine or program changes.
_SILENT: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gfs2", "ocfs2", "virtiofs"})


def is_silent(file_system: str | None) -> bool:
    """Whether the kernel may not report changes on a file system of this type. True for an unknown type."""
    return file_system is None or file_system in _SILENT or file_system.startswith("fuse")


class ChangeNotices:
    """The kernel's notifications about one source. For one thread. Close it.

    `complete` tells whether every folder of the last look is watched: if not, only another look finds all changes.
    """

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self._fd = -1
        if hasattr(self._library, "inotify_init1"):
            self._fd = int(self._library.inotify_init1(_NONBLOCK | CLOEXEC))
        self._watched: set[int] = set()
        self._met: set[int] = set()
        self._missed = False

    @property
    def complete(self) -> bool:
        """See the class."""
        return self._fd >= 0 and not self._missed and bool(self._watched)

    def begin(self) -> None:
        """Begins a look. Drops earlier notifications: the look will see those changes."""
        self._met = set()
        self._missed = False
        self._drain()

    def add(self, found: Found) -> None:
        """Watches an entry that the look has found, if it is a folder or the source's single file."""
        if self._fd < 0 or found.flag is not None:
            return
        if found.folder_fd >= 0:
            self._watch(found.folder_fd)
        elif b"/" not in found.path and found.entry_type == "file" and not self._met and found.dir_fd >= 0:
            self._watch_file(found)

    def end(self) -> None:
        """Ends a look. Folders that it has not found are not watched any more."""
        for gone in self._watched - self._met:
            self._library.inotify_rm_watch(self._fd, gone)  # the kernel may have done so itself
        self._watched, self._met = self._met, set()

    def wait(self, seconds: float) -> bool:
        """Waits for a notification, at most for some seconds. Returns whether there is one."""
        if self._fd < 0:
            time.sleep(seconds)  # nothing can be watched: the next walk finds what changed
            return False
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        """Ends all watches."""
        if self._fd >= 0:
            descriptor, self._fd = self._fd, -1
            close_quietly(descriptor)

    def _watch_file(self, found: Found) -> None:
        try:
            passage = os.open(found.name, getattr(os, "O_PATH", os.O_RDONLY) | os.O_NOFOLLOW | CLOEXEC, dir_fd=found.dir_fd)
        except OSError:
            self._missed = True
            return
        try:
            self._watch(passage)
        finally:
            os.close(passage)

    def _watch(self, fd: int) -> None:
        """Watches an open file or folder. Repeatable."""
        if len(self._met) >= MOST_WATCHES:
            self._missed = True
            return
        told = self._library.inotify_add_watch(self._fd, b"/proc/self/fd/%d" % fd, _CHANGES | _EXCL_UNLINK)
        if told < 0:  # no more watches, or not allowed: looks alone must find the changes
            self._missed = True
        else:
            self._met.add(told)

    def _drain(self) -> None:
        """Empties the queue. The names in it do not matter, nor whether it was full."""
        with contextlib.suppress(BlockingIOError):
            while self._fd >= 0 and os.read(self._fd, _BLOCK):
                pass
