"""Walks the source in the manifest's order, by directory descriptors. It follows no link and writes nothing."""

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
from evidencesync.evidence.path import RUN, SortedNames
from evidencesync.limits import MAX_DEPTH, MAX_NAME, MAX_PATH
from evidencesync.source.descriptor import FOLDER_FLAGS, PASSAGE_FLAGS, Descent, OpenFolder, is_gone, open_untouched
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
    """One entry that the walk has found. Its descriptors are valid until the iterator goes on.

    `dir_fd` and `name` open it without following a link; `folder_fd` is the descriptor of a readable folder, else -1. `stat` is
    None if there was nothing to look at: for the folder above a single file, and for what vanished or may not be looked at
    (`entry_type` is then that of the folder's listing, or `file` if that does not tell). `flag` says why the entry is not
    whole, `errno` is the system's error. A folder that is flagged `unreadable` may still be followed by the entries that could
    be listed. `noatime` is False for a folder whose access time the listing may have changed. `listed`: a vanished entry is
    named by a list (or leads to a name in it), and does not exist.
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
    """Does nothing."""


def walk(
    root: bytes | str | Path | SourceRoot,
    rules: FilterRules,
    *,
    open_folders: int = OPEN_FOLDERS,
    changed: Callable[[bytes], None] | None = None,
    unreached: Callable[[bytes], None] = _ignore,
    gentle: bool = False,
) -> Iterator[Found]:
    """Yields everything in the source: each folder before what is in it, names sorted by raw bytes, the root (`b""`) first.

    A single regular file is a root without metadata (`stat` is None), and then the file. Nothing in the source is written, and
    no symbolic link in it is followed; if `root` itself is a link, it is resolved once (see `resolve_source`). An entry that
    cannot be read or has vanished is a flagged Found, never an exception. What `rules` leave out is flagged `skipped`; a folder
    is flagged once, without its content. `changed` is called with each folder in which names were added or removed after it was
    listed.

    If the rules have a list, only its names and the folders above them are walked. A listed name that does not exist is
    `vanished`, and so are the missing folders above it. `unreached` is called with listed names below something that is no
    folder, or that cannot be opened. A `gentle` walk does not list a folder if that may change its access time: its result is
    an estimate. Depth, path and name are bounded by limits.py: what lies beyond makes its folder `unreadable`. Raises
    SourceNotFoundError or UsageError, here or at the first step, if there is nothing to walk, and ResourcesError if this
    process runs out of descriptors or memory. A `SourceRoot` is not resolved again.
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
        source.require_here(status)
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
            for name in folder.names:  # an iterator: it continues at the same place when the walk comes back
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
                    _report(unreached, path, inner)
                elif kind is None:  # a damaged file system may state any type
                    yield Found(path, "file", status, fd, name, "unreadable", errno.EUCLEAN)
                else:
                    is_wanted = name not in wanted.names or _report(unreached, path, wanted.names[name])
                    yield Found(path, kind, status, fd, name, None if is_wanted else "skipped")
            else:
                if changed is not None and folder.has_changed():
                    changed(prefix[:-1])
                descent.pop()
    finally:
        descent.close()


def _report(unreached: Callable[[bytes], None], path: bytes, wanted: ListedPaths) -> bool:
    """Reports every listed name below a path that cannot be entered. Returns whether the path itself is wanted."""
    for deeper, is_listed in below(path, wanted):
        if is_listed:
            unreached(deeper)
    return wanted.whole


def _absent(seen: Found, around: ListedPaths) -> Iterator[Found]:
    """Yields an entry that could not be looked at, and the listed names below it."""
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
    root = _list_into(descent, Found(b"", "directory", None, opened[0], b"."), opened, wanted)
    if root.stat is not None:
        source.require_here(root.stat)
    return root


def _enter(descent: Descent, seen: Found, wanted: ListedPaths, rules: FilterRules, device: int) -> Found:
    """Opens and lists a folder, and makes it the current one. What is no folder any more has vanished.

    Its device is checked again after the opening, which may have mounted another file system there (autofs, NFS).
    """
    try:
        opened = _open_folder(seen.name, seen.dir_fd)
    except OSError as error:
        flag: Flag = "vanished" if is_gone(error) else "unreadable"
        return Found(seen.path, seen.entry_type, seen.stat, seen.dir_fd, seen.name, flag, error.errno or 0)
    if rules.is_on_another_file_system(opened[2], device):
        os.close(opened[0])
        return msgspec.structs.replace(seen, stat=opened[2], flag="skipped")
    return _list_into(descent, seen, opened, wanted)


def _open_folder(name: bytes, dir_fd: int) -> tuple[int, bool, os.stat_result]:
    """Opens a folder: its descriptor, whether its access time is left alone, and the status of what was opened.

    That status is used from here on: another folder may have taken the name since the walk looked.
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
    """The names in a folder that fit into a manifest, and the error number that ended the listing early, or 0.

    `types` gets the type of every name but regular files, for entries that cannot be looked at later. ENAMETOOLONG: there are
    names that are too long.
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
        is_gone(error)  # raises if this process, and not the source, is the cause
        failure = error.errno or errno.EIO
    names.add(run)
    return names, failure


def _listed_type(listed: os.DirEntry[str]) -> EntryType:
    if listed.is_dir(follow_symlinks=False):
        return "directory"
    return "symlink" if listed.is_symlink() else "file"


def _lost(folder: OpenFolder) -> Iterator[Found]:
    """Yields the remaining names of a folder that could not be found again when the walk came back from below it."""
    flag: Flag = "vanished" if is_gone(OSError(folder.loss, os.strerror(folder.loss))) else "unreadable"
    for name in folder.names:
        yield Found(folder.prefix + name, folder.listed_types.get(name, "file"), None, -1, name, flag, folder.loss)
