"""Finds the source that the user named, before anything in it is read, and the folders in it that hold this run's own state."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from evidencesync.errors import SourceNotFoundError, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.home import require_working_folder
from evidencesync.source.descriptor import is_gone

_HINTS: Final = {
    stat.S_IFCHR: "A character device has no content that could be read again. For a disk name its block device (lsblk).",
    stat.S_IFIFO: "What comes through a FIFO comes once. Save it to a file (cat FIFO > FILE), and push that.",
}


@dataclass(frozen=True, slots=True)
class SourceRoot:
    """The source's place on this machine. `named` is the absolute path the user gave, `path` the one that is read."""

    named: bytes
    path: bytes
    is_folder: bool
    is_device: bool = False

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
    return SourceRoot(named=named, path=path, is_folder=stat.S_ISDIR(mode), is_device=stat.S_ISBLK(mode))


def source_not_found(path: bytes, error: OSError) -> SourceNotFoundError:
    """The error for a source that cannot be looked at or opened at all. Raises ResourcesError if this process is the cause."""
    is_gone(error)
    return SourceNotFoundError(f"cannot open the source {safe_text(path)}: {error.strerror}")


@dataclass(frozen=True, slots=True)
class OwnFolder:
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
