"""Finds the source that the user named, before anything in it is read, and the folders in it that hold this run's own state.

A pull is confined to the path that `serve --source` offers, and what lies below it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from evidencesync.errors import NotThereError, PathEscapeError, SourceNotFoundError, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.home import require_working_folder
from evidencesync.source.descriptor import CLOEXEC, PASSAGE_FLAGS, is_gone

_HINTS: Final = {
    stat.S_IFCHR: "A character device has no content that could be read again. For a disk name its block device (lsblk).",
    stat.S_IFIFO: "What comes through a FIFO comes once. Save it to a file (cat FIFO > FILE), and push that.",
}
NOT_THERE: Final = "Nothing is at this path: look at its spelling, and whether its disk is mounted (findmnt)."
_CANNOT: Final[Mapping[type[OSError], str]] = {
    FileNotFoundError: NOT_THERE,
    NotADirectoryError: NOT_THERE,
    PermissionError: "This account may not open it, or a folder above it: run the command as one that may (sudo).",
}
_DESCRIPTORS: Final = b"/proc/self/fd/%d/%b"
_NOT_OFFERED: Final = "this machine offers another source than the one that was asked for"
_HINT: Final = "Ask for the path that was offered there (serve --source PATH), or for one below it."


class SourceRoot(msgspec.Struct, frozen=True):
    """The source's place on this machine. `named` is the absolute path the user gave, `path` the one that is read.

    `file_system`: the number (`st_dev`) of the one on which it must lie, where it was seen before; None: any.
    """

    named: bytes
    path: bytes
    is_folder: bool
    is_device: bool = False
    file_system: int | None = None

    def require_here(self, status: os.stat_result) -> None:
        """Raises SourceNotFoundError where what was opened lies on another file system: the disk is gone, or is another one."""
        if self.file_system not in (None, status.st_dev):
            raise SourceNotFoundError(
                f"the disk of the source {safe_text(self.path)} is not there any more, or is another one", hint=NOT_THERE
            )

    @property
    def note(self) -> str | None:
        """The manifest's note for a source that was named by a symbolic link, the only link that is ever followed."""
        if self.named == self.path:
            return None
        return f"the source was named through a symbolic link: {safe_text(self.named)} leads to {safe_text(self.path)}"


def resolve_source(root: bytes | str | Path) -> SourceRoot:
    """Finds the source that the user named. A symbolic link is resolved here, once, because the user chose it.

    Raises SourceNotFoundError if there is nothing that can be looked at, UsageError if it is neither a folder, nor a regular
    file, nor a block device.
    """
    given = os.fsencode(root)
    if not given or b"\0" in given:
        raise SourceNotFoundError("the source's path is empty or holds a NUL byte")
    if not given.startswith(b"/"):
        require_working_folder()
    named = path = os.path.abspath(given)
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            path = os.path.realpath(path, strict=True)
            status = os.lstat(path)
    except OSError as error:
        raise source_not_found(named, error) from error
    mode = status.st_mode
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise UsageError(
            f"the source is neither a folder, nor a regular file, nor a block device: {safe_text(path)}",
            hint=_HINTS.get(stat.S_IFMT(mode), "Name the folder that holds it: it is recorded there, without content."),
        )
    if stat.S_ISREG(mode):
        _require_readable(named, path)
    return SourceRoot(named=named, path=path, is_folder=stat.S_ISDIR(mode), is_device=stat.S_ISBLK(mode))


def _require_readable(named: bytes, path: bytes) -> None:
    """Raises SourceNotFoundError where this account may not open the one file that the source is: nothing would be acquired."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC))
    except PermissionError as error:
        raise source_not_found(named, error) from error
    except OSError:  # what it is, reading it says
        return


def is_mount_point(root: bytes) -> bool:
    """Whether the source is the root of a mounted file system: the link by which it may be named is resolved.

    Only device numbers are compared, so a part of a file system that is mounted once more in itself (a bind mount) is not known.
    """
    return os.path.ismount(os.path.realpath(root))


def source_not_found(path: bytes, error: OSError) -> SourceNotFoundError:
    """The error for a source that cannot be looked at or opened at all. Raises ResourcesError if this process is the cause."""
    is_gone(error)
    hint = next((text for kind, text in _CANNOT.items() if isinstance(error, kind)), None)
    return SourceNotFoundError(f"cannot open the source {safe_text(path)}: {error.strerror}", hint=hint)


class OwnFolder(msgspec.Struct, frozen=True):
    """A folder with this run's own state, which is no evidence: `name` in the folder `above` (its device and inode).

    `path` is its path. It need not exist yet.
    """

    path: bytes
    above: tuple[int, int]
    name: bytes


def own_folders(root: bytes, folders: Iterable[bytes]) -> tuple[OwnFolder, ...]:
    """Those of the folders that lie below a source, each once. The source itself is not included."""
    below = os.path.realpath(root).rstrip(b"/") + b"/"
    found: dict[bytes, OwnFolder] = {}
    for folder in folders:
        path = os.path.realpath(folder)
        above, name = os.path.split(path)
        if not path.startswith(below):
            continue
        try:
            status = os.lstat(above)
        except OSError:
            continue  # its parent folder does not exist, so it does not exist either
        found[path] = OwnFolder(path, (status.st_dev, status.st_ino), name)
    return tuple(found.values())


class Confined(msgspec.Struct, frozen=True):
    """A place that may be read: `reading` is the path by which it is opened, `source` the path by which it is recorded."""

    source: SourceRoot
    reading: SourceRoot


@contextlib.contextmanager
def confined(offered: bytes, asked: bytes) -> Iterator[Confined]:
    """Finds the path that was asked for, if it is `offered` or lies below it. It is held by descriptor until the `with` ends.

    An empty path, `/` and `.` ask for what is offered. A relative path is relative to the working folder, like `offered`
    itself. Links in `offered` are followed, since the local user chose them. Below it no link is followed: each name is opened
    by itself.

    Raises PathEscapeError for a path with `..` or a zero byte, NotThereError for one that is not offered (which does not tell
    whether it exists), and what `resolve_source` raises.
    """
    root = resolve_source(offered)
    names = _names_below(root, offered, asked)
    if not names:
        yield Confined(root, root)
        return
    if not root.is_folder:
        raise _not_offered()
    with contextlib.ExitStack() as stack:
        above = _open_folder(root.path, None, stack)
        for name in names[:-1]:
            above = _open_folder(name, above, stack)
        try:
            status = os.lstat(names[-1], dir_fd=above)
        except OSError as error:
            raise _not_offered() from error
        if not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
            raise _not_offered()
        path = b"/".join((root.path.rstrip(b"/"), *names))
        place = _DESCRIPTORS % (above, names[-1])
        is_folder = stat.S_ISDIR(status.st_mode)
        yield Confined(SourceRoot(path, path, is_folder), SourceRoot(place, place, is_folder))


def _names_below(root: SourceRoot, offered: bytes, asked: bytes) -> list[bytes]:
    """The names that lead from what is offered to what was asked for. Compares the paths only, and looks at no file."""
    if b"\0" in asked or b".." in asked.split(b"/"):
        raise PathEscapeError(f"a source's path may not lead upwards: {safe_text(asked, 200)}")
    if asked in (b"", b"/", b".") or asked.rstrip(b"/") == offered.rstrip(b"/"):
        return []
    wanted = os.path.abspath(asked)
    for place in (root.named, root.path):
        if wanted == place:
            return []
        below = place.rstrip(b"/") + b"/"
        if wanted.startswith(below):
            return wanted[len(below) :].split(b"/")
    raise _not_offered()


def _open_folder(name: bytes, above: int | None, stack: contextlib.ExitStack) -> int:
    try:
        descriptor = os.open(name, PASSAGE_FLAGS | os.O_NOFOLLOW | CLOEXEC, dir_fd=above)
    except OSError as error:
        raise _not_offered() from error
    stack.callback(os.close, descriptor)
    return descriptor


def _not_offered() -> NotThereError:
    return NotThereError(_NOT_OFFERED, hint=_HINT)
