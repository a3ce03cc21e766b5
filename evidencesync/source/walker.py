"""Walks the source in manifest order by directory descriptors: never a joined path, never a link, never a write."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from evidencesync.errors import UsageError
from evidencesync.evidence.entry import EntryType, Flag
from evidencesync.evidence.names import RUN, SortedNames
from evidencesync.limits import MAX_DEPTH, MAX_NAME, MAX_PATH
from evidencesync.source.descent import Descent, OpenFolder
from evidencesync.source.descriptor import FOLDER_FLAGS, PASSAGE_FLAGS, is_gone, open_untouched
from evidencesync.source.filters import FilterRules
from evidencesync.source.listed import EVERYTHING, ListedPaths, below
from evidencesync.source.root import SourceRoot, resolve_source, source_not_found

OPEN_FOLDERS: Final = 256
"""How many folder descriptors a walk keeps open: a quarter of the usual limit of 1024 for a process."""

_ENCODING: Final = sys.getfilesystemencoding()
_ERRORS: Final = sys.getfilesystemencodeerrors()
_FORMAT_BITS: Final = 0o170000  # S_IFMT
_TYPES: Final[dict[int, EntryType]] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFBLK: "block-device",
    stat.S_IFCHR: "character-device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


class Found(msgspec.Struct, frozen=True, gc=False):
    """One thing the walk came upon. The descriptors are valid only while the iterator stands at it.

    `dir_fd` and `name` open it without following anything; `folder_fd` is the folder's own descriptor where it is a
    readable folder, else -1. `stat` is absent where there was nothing to look at: the folder above a single file, and
    what vanished or may not be looked at (its `entry_type` is then what the folder's listing said, `file` where that
    could not tell). `flag` says why the entry is not whole, `errno` what the system said. A folder that is flagged
    `unreadable` may still have entries after it: those that could be listed. `noatime` is False for a folder whose
    access time the listing may have changed. `listed`: that it vanished means that a list names it (or something below it), and
    that it is not there.
    """

    path: bytes
    entry_type: EntryType
    stat: os.stat_result | None
    dir_fd: int
    name: bytes
    flag: Flag | None = None
    errno: int = 0
    folder_fd: int = -1
    noatime: bool = True
    listed: bool = False


def _ignore(_path: bytes) -> None:
    """For whoever does not want to know."""


def walk(
    root: bytes | str | Path | SourceRoot,
    rules: FilterRules,
    *,
    open_folders: int = OPEN_FOLDERS,
    changed: Callable[[bytes], None] | None = None,
    unreached: Callable[[bytes], None] = _ignore,
    gentle: bool = False,
) -> Iterator[Found]:
    """Everything in the source: each folder before what is in it, names sorted by raw bytes, the root (`b""`) first.

    A single regular file is a root without metadata (`stat` is absent) and the file. Nothing in the source is written
    and no symbolic link in it followed; one that is itself `root` is resolved once (`resolve_source` tells). What can
    not be read or has vanished is a flagged Found, never an exception; what `rules` leave out is flagged `skipped`, a
    folder once. `changed` is told each folder in which names came or went after it was listed.

    Where the rules list what is wanted, that and the folders above it is all that is walked. What is listed and not there has
    vanished, and so have the folders above it that are not there; `unreached` is told what is listed below something that is
    no folder, or one that cannot be opened. A `gentle` walk does not ask a folder for its names where that may change its
    access time: it is for whoever only wants to know roughly. Depth, path and name
    are bounded by limits.py: what lies beyond makes its folder `unreadable`. Raises SourceNotFoundError or
    UsageError, here or at the first step, where there is nothing to walk, and ResourcesError where the process itself
    runs out of descriptors or memory. A `SourceRoot` is taken as it is, and not resolved again.
    """
    source = root if isinstance(root, SourceRoot) else resolve_source(root)
    if source.is_folder:
        return _walk_folder(source, rules, Descent(open_folders, gentle=gentle), changed, unreached)
    if rules.listed is not None:
        raise UsageError("a list of files needs a folder as the source")
    return _walk_file(source, rules)


def _walk_file(source: SourceRoot, rules: FilterRules) -> Iterator[Found]:
    folder, name = os.path.split(source.path)
    try:
        fd = os.open(folder, PASSAGE_FLAGS)
    except OSError as error:
        raise source_not_found(source.path, error) from error
    try:
        yield Found(b"", "directory", None, -1, b"")
        try:
            status = os.lstat(name, dir_fd=fd)
        except OSError as error:
            yield Found(name, "file", None, fd, name, "vanished" if is_gone(error) else "unreadable", error.errno or 0)
            return
        if not stat.S_ISREG(status.st_mode):
            yield Found(name, "file", None, fd, name, "vanished", errno.ENOENT)
        else:
            yield Found(name, "file", status, fd, name, "skipped" if rules.skips(name, status, status.st_dev) else None)
    finally:
        os.close(fd)


def _walk_folder(
    source: SourceRoot,
    rules: FilterRules,
    descent: Descent,
    changed: Callable[[bytes], None] | None,
    unreached: Callable[[bytes], None],
) -> Iterator[Found]:
    filtered = not rules.is_empty
    lstat = os.lstat
    try:
        root = _enter_root(descent, source, rules.listed.wanted if rules.listed is not None else EVERYTHING)
        device = root.stat.st_dev if root.stat is not None else -1
        yield root
        while (folder := descent.current) is not None:
            if folder.fd < 0:
                yield from _lost(folder)
            fd, prefix, types, wanted = folder.fd, folder.prefix, folder.listed_types, folder.wanted
            for name in folder.names:  # an iterator: it goes on where it stood when the walk comes back
                path = prefix + name
                try:
                    status = lstat(name, dir_fd=fd)
                except OSError as error:
                    flag: Flag = "vanished" if is_gone(error) else "unreadable"
                    yield from _absent(Found(path, types.get(name, "file"), None, fd, name, flag, error.errno or 0), wanted)
                    continue
                kind = _TYPES.get(status.st_mode & _FORMAT_BITS)
                is_own = kind == "directory" and rules.is_own(folder.identity, name)
                if is_own or (filtered and rules.skips(path, status, device)):
                    yield Found(path, kind or "file", status, fd, name, "skipped")
                elif kind == "directory":
                    inner = wanted.names.get(name, EVERYTHING)
                    found = _enter(descent, Found(path, kind, status, fd, name), inner, rules, device)
                    yield found
                    if found.folder_fd >= 0:
                        break
                    _tell(unreached, path, inner)
                elif kind is None:  # a damaged file system can say anything
                    yield Found(path, "file", status, fd, name, "unreadable", errno.EUCLEAN)
                else:
                    is_wanted = name not in wanted.names or _tell(unreached, path, wanted.names[name])
                    yield Found(path, kind, status, fd, name, None if is_wanted else "skipped")
            else:
                if changed is not None and folder.has_changed():
                    changed(prefix[:-1])
                descent.pop()
    finally:
        descent.close()


def _tell(unreached: Callable[[bytes], None], path: bytes, wanted: ListedPaths) -> bool:
    """Tells of everything that is listed below a path that cannot be entered; whether the path itself is wanted."""
    for deeper, is_listed in below(path, wanted):
        if is_listed:
            unreached(deeper)
    return wanted.whole


def _absent(seen: Found, around: ListedPaths) -> Iterator[Found]:
    """What could not be looked at, and what was listed below it."""
    wanted = around.names.get(seen.name, EVERYTHING)
    seen = msgspec.structs.replace(seen, listed=seen.name in around.names)
    missing = [path for path, _ in below(seen.path, wanted)]
    folders = {os.path.dirname(path) for path in missing}
    yield msgspec.structs.replace(seen, entry_type="directory") if seen.path in folders else seen
    for path in missing:
        kind: EntryType = "directory" if path in folders else "file"
        yield Found(path, kind, None, -1, os.path.basename(path), seen.flag, seen.errno, listed=True)


def _enter_root(descent: Descent, source: SourceRoot, wanted: ListedPaths) -> Found:
    try:
        above = os.open(os.path.dirname(source.path), PASSAGE_FLAGS)
        try:
            opened = _open_folder(os.path.basename(source.path) or b".", above)
        finally:
            os.close(above)
    except OSError as error:
        raise source_not_found(source.path, error) from error
    return _list_into(descent, Found(b"", "directory", None, opened[0], b"."), opened, wanted)


def _enter(descent: Descent, seen: Found, wanted: ListedPaths, rules: FilterRules, device: int) -> Found:
    """Opens and lists a folder, and makes it the current one. What is not a folder any more has vanished.

    It is asked once more where it lies: opening it may have mounted another file system there (autofs, NFS).
    """
    try:
        opened = _open_folder(seen.name, seen.dir_fd)
    except OSError as error:
        flag: Flag = "vanished" if is_gone(error) else "unreadable"
        return Found(seen.path, seen.entry_type, seen.stat, seen.dir_fd, seen.name, flag, error.errno or 0)
    if rules.is_elsewhere(opened[2], device):
        os.close(opened[0])
        return msgspec.structs.replace(seen, stat=opened[2], flag="skipped")
    return _list_into(descent, seen, opened, wanted)


def _open_folder(name: bytes, dir_fd: int) -> tuple[int, bool, os.stat_result]:
    """Opens a folder: its descriptor, whether its access time is left alone, and the status of what was opened.

    That status counts from here on: another folder may have taken the name since the walk looked.
    """
    fd, noatime = open_untouched(name, FOLDER_FLAGS, dir_fd)
    try:
        return fd, noatime, os.fstat(fd)
    except OSError:
        os.close(fd)
        raise


def _list_into(descent: Descent, seen: Found, opened: tuple[int, bool, os.stat_result], wanted: ListedPaths) -> Found:
    fd, noatime, status = opened
    folder = OpenFolder(seen.name, seen.path + b"/" if seen.path else b"", fd, status, wanted)
    depth = descent.depth
    descent.push(folder)  # from here on the descent closes it
    room = min(MAX_NAME, MAX_PATH - len(folder.prefix)) if depth < MAX_DEPTH else 0
    names, failure = SortedNames(), 0
    if wanted.whole and descent.may_list(noatime=noatime):
        names, failure = _list_names(fd, room, folder.listed_types)
    if wanted.names:
        names.add(list(wanted.names))
    folder.names = iter(names)
    flag: Flag | None = "unreadable" if failure else None
    return Found(seen.path, "directory", status, seen.dir_fd, seen.name, flag, failure, fd, noatime)


def _list_names(fd: int, room: int, types: dict[bytes, EntryType]) -> tuple[SortedNames, int]:
    """The names in a folder that a manifest has room for, and the error number that cut the listing short, or 0.

    `types` receives what the listing says of everything but regular files, for an entry that can not be looked at later.
    ENAMETOOLONG says that there are longer names.
    """
    names, run, failure = SortedNames(), list[bytes](), 0
    try:
        with os.scandir(fd) as listing:
            for listed in listing:
                name = listed.name.encode(_ENCODING, _ERRORS)
                if len(name) > room:
                    failure = errno.ENAMETOOLONG
                    continue
                run.append(name)
                if len(run) == RUN:
                    names.add(run)
                    run = []
                try:
                    if not listed.is_file(follow_symlinks=False):
                        types[name] = _listed_type(listed)
                except OSError:
                    # Only where the listing carries no types: the lstat that follows meets the same error and flags it.
                    continue
    except OSError as error:
        is_gone(error)  # raises where it is not the source's fault
        failure = error.errno or errno.EIO
    names.add(run)
    return names, failure


def _listed_type(listed: os.DirEntry[str]) -> EntryType:
    if listed.is_dir(follow_symlinks=False):
        return "directory"
    return "symlink" if listed.is_symlink() else "file"


def _lost(folder: OpenFolder) -> Iterator[Found]:
    """What was listed in a folder that could not be found again after the walk had been deeper."""
    flag: Flag = "vanished" if is_gone(OSError(folder.loss, os.strerror(folder.loss))) else "unreadable"
    for name in folder.names:
        yield Found(folder.prefix + name, folder.listed_types.get(name, "file"), None, -1, name, flag, folder.loss)
