"""Where this program may write, apart from a vault's own documents: one door for every path that a person names.

Nothing that a command makes (a report, an export, a copy, a receipt, what is remembered) may lie in a vault, where only evidence
belongs, nor in the source, which is only read. Folders are compared as they are on the disk, by device and inode and by
their place in the file system: no link, no second mount and no `..` hides where something lies. What was looked at is then
used by the same descriptor: nobody can put something else in its place.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Self

from evidencesync.errors import EvidenceSyncError, NoSpaceError, StorageError, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.files.disk import close_quietly
from evidencesync.files.placing import place_file
from evidencesync.files.shortages import hint_of, is_broken, is_full, is_shortage, unexpected

FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_BELOW: Final = FOLDER_FLAGS | os.O_NOFOLLOW
_LOOK: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC  # needs no permission to read
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NAMELESS: Final = os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC if hasattr(os, "O_TMPFILE") else None
_PRIVATE: Final = 0o700
VAULT_MARKS: Final = ("vault.toml", "cases")  # what every vault has: see vault/layout.py
_MOUNTS: Final = "/proc/self/mountinfo"
# What lies there is the kernel's, or is gone at the next start. What is mounted below /dev, as /dev/shm is, is no part of it.
_OF_THE_SYSTEM: Final = (Path("/dev"), Path("/proc"), Path("/sys"))
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")
_DISK_HINT: Final = "Check the disk that it is to lie on."
_FULL_HINT: Final = "Free space on the disk that it is to lie on, or name a place on another one."
_NOT_FOR_US: Final = (FileNotFoundError, NotADirectoryError, PermissionError)  # any other error tells nothing, and is raised
_MOST_ABOVE: Final = 4096  # folders one in the other; a path has 4096 bytes at most


@dataclass(frozen=True, slots=True)
class Closed:
    """A folder that nothing may be written into, and what it is: "the vault", "the source"."""

    what: str
    folder: Path


def closed_vault(vault: Path | None) -> list[Closed]:
    """A vault's folder, and the one with its evidence, which may be on a disk of its own."""
    return [] if vault is None else [Closed("the vault", folder) for folder in (vault, vault / VAULT_MARKS[1])]


def require_outside(folder: int, shown: str, closed: Sequence[Closed] = (), hint: str = "Name another place.") -> None:
    """Raises UsageError where an open folder lies in a closed one, in any vault, or among the system's own.

    `shown` is what would be written there. Where the disk does not tell, it is not outside: see `refused_place`.
    """
    try:
        for one in closed:
            if lies_in(folder, one.folder):
                raise UsageError(f"{shown} lies in {one.what}: nothing may be written there", hint=hint)
        for system in _OF_THE_SYSTEM:
            if _is_on_one_disk(folder, system) and lies_in(folder, system):
                raise UsageError(f"{shown} lies in {system}, whose files are the system's own", hint=hint)
        for above in _above(folder):
            if _is_vault(above):
                raise UsageError(f"{shown} lies in a vault: only evidence belongs there", hint=hint)
    except OSError as error:
        raise refused_place(error, f"nobody can tell whether {shown} lies in a vault", hint) from error


def lies_in(folder: int, other: Path) -> bool:
    """Whether an open folder is another one or lies in it, by whatever links and mounts it is reached.

    What is not there, or may not be looked at, holds nothing that could be written to. Raises OSError where that is not known.
    """
    try:
        outer = os.open(other, _LOOK)
    except _NOT_FOR_US:
        return False
    try:
        wanted = os.fstat(outer)
        if any(os.path.samestat(os.fstat(above), wanted) for above in _above(folder)):
            return True
        mine, others = _place_on_disk(folder), _place_on_disk(outer)
    finally:
        os.close(outer)
    if mine is None or others is None or mine[0] != others[0]:
        return False
    return (mine[1] + b"/").startswith(others[1].rstrip(b"/") + b"/")


def require_apart(source: Path, vault: Path, *, crosses: bool) -> None:
    """Raises UsageError where reading the source would read the vault, or the source is a part of it.

    By device and inode: no link and no second mount hides it. A vault on a disk of its own that is mounted in the source is not
    read where only one file system is (`crosses` is False).
    """
    hint = "A vault needs a folder of its own. One on another disk is left out with --one-file-system."
    text = f"the source and the vault lie one inside the other: {safe_text(str(source), 200)}, {safe_text(str(vault), 200)}"
    try:
        place = os.open(source if source.is_dir() else source.parent, FOLDER_FLAGS)
    except OSError:
        return  # whoever reads it says why it cannot be read
    try:
        if any(lies_in(place, one.folder) for one in closed_vault(vault)):
            raise UsageError(text, hint=hint)
        device = os.fstat(place).st_dev
    finally:
        os.close(place)
    try:
        kept = os.open(vault, FOLDER_FLAGS)
    except OSError:
        return  # whoever opens the vault says what is wrong with it
    try:
        if source.is_dir() and lies_in(kept, source) and (crosses or os.fstat(kept).st_dev == device):
            raise UsageError(text, hint=hint)
    finally:
        os.close(kept)


def _is_on_one_disk(folder: int, other: Path) -> bool:
    try:
        return os.fstat(folder).st_dev == os.stat(other).st_dev
    except _NOT_FOR_US:
        return False


def require_writable(folder: int, shown: str, hint: str) -> None:
    """Raises UsageError where no file can be made in an open folder, NoSpaceError where its disk is full, or StorageError.

    That is known before hours of work are spent on what could not be written.
    """
    try:
        os.close(_open_nameless(folder))
    except OSError as error:
        if is_full(error):
            raise NoSpaceError(f"there is no room for {shown}: {error.strerror}", hint=_FULL_HINT) from error
        raise refused_place(error, f"{shown} cannot be made", hint) from error


def refused_place(error: OSError, text: str, hint: str, kind: type[UsageError] = UsageError) -> EvidenceSyncError:
    """The error to raise where a place that a person has named cannot be used; `hint` is for who can name a better one.

    That is an error of that `kind`, unless the disk is full or broken, or this process may have no more of something.
    """
    if is_shortage(error):
        return unexpected(error)
    text = f"{text}: {error.strerror}"
    if is_full(error):
        return NoSpaceError(text, hint=_FULL_HINT)
    if is_broken(error) or hint_of(error) is not None:
        return StorageError(text, hint=hint_of(error) or _DISK_HINT)
    return kind(text, hint=hint)


def _open_nameless(folder: int) -> int:
    """A new file without a name, so that nothing is left of it whatever happens; or one that had a name for a moment.

    Source: open(2), O_TMPFILE.
    """
    if _NAMELESS is not None:
        try:
            return os.open(".", _NAMELESS, 0o600, dir_fd=folder)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
                raise
    probe = _draft_name()
    descriptor = os.open(probe, _CREATE, 0o600, dir_fd=folder)
    try:
        os.unlink(probe, dir_fd=folder)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _draft_name() -> str:
    return f".evidencesync-{secrets.token_hex(8)}.part"


def open_folder_outside(path: Path, shown: str, closed: Sequence[Closed], hint: str, *, follow: bool) -> int:
    """The descriptor of a folder to write into; made, with those above it, where it is missing, and only if it is outside.

    A folder above may be a link, and with `follow` the folder itself: that is its owner's business. Raises UsageError for a place
    that is not outside, OSError.
    """
    folder = _open_or_make(path, shown, closed, hint, FOLDER_FLAGS if follow else _BELOW)
    try:
        require_outside(folder, shown, closed, hint)
    except BaseException:
        os.close(folder)
        raise
    return folder


def _open_or_make(path: Path, shown: str, closed: Sequence[Closed], hint: str, flags: int) -> int:
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        if path.parent == path or path.name in ("", ".", ".."):
            raise
    above = _open_or_make(path.parent, shown, closed, hint, FOLDER_FLAGS)
    try:
        require_outside(above, shown, closed, hint)  # before anything is made
        with contextlib.suppress(FileExistsError):
            os.mkdir(path.name, _PRIVATE, dir_fd=above)
            os.fsync(above)
        return os.open(path.name, _BELOW, dir_fd=above)
    finally:
        os.close(above)


def open_folder_for(wanted: Path) -> int:
    """The descriptor of the folder that something new is to lie in, which must be there. Raises as `refused_place` says."""
    try:
        return os.open(wanted.parent, FOLDER_FLAGS)
    except OSError as error:
        shown = safe_text(os.fsencode(wanted.parent), 200)
        if isinstance(error, FileNotFoundError):
            raise UsageError(f"there is no folder {shown}", hint="Make it first, or name a place in another folder.") from error
        hint = "Name a place in a folder that you can use."
        raise refused_place(error, f"the folder {shown} cannot be opened", hint) from error


def look_at(folder: int, name: str | bytes, shown: str) -> os.stat_result | None:
    """What has a name in an open folder, a link itself; None: nothing.

    Raises UsageError for a name that nothing can have, and what else `refused_place` says.
    """
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        hint = "Name a place in a folder that you can use, with a shorter name perhaps."
        raise refused_place(error, f"{shown} cannot be made", hint) from error


class NewFile:
    """A file that a command is to make: a free name in a folder outside, which it holds open. Close it."""

    def __init__(self, wanted: Path, closed: Sequence[Closed] = (), hint: str = "Name another file.") -> None:
        """Raises UsageError where the folder cannot be used or is not outside, and where the name is taken, by a link, too.

        NoSpaceError where the disk is full already.
        """
        self.path = wanted
        self.shown = safe_text(os.fsencode(wanted), 200)
        self._hint = hint
        self._names: list[str] = []
        name = wanted.name
        if name in ("", ".", ".."):
            raise UsageError(f"{self.shown or 'nothing'} is no name for a file", hint="Name the file itself.")
        self._folder = open_folder_for(wanted)
        try:
            require_outside(self._folder, self.shown, closed, hint)
            self.claim("")
            require_writable(self._folder, self.shown, "Name a file in a folder that you may write in.")
        except BaseException:
            self.close()
            raise

    def claim(self, suffix: str) -> None:
        """Says that a file of this name with a suffix will be made, too. Raises UsageError where that name is taken."""
        name = self.path.name + suffix
        if look_at(self._folder, name, self.shown + suffix) is not None:
            raise self._taken(suffix)
        self._names.append(name)

    @contextlib.contextmanager
    def writing(self, suffix: str = "") -> Iterator[BinaryIO]:
        """A file to write to, which gets its name, durably, at the end of the `with`; after an error nothing is left.

        An OSError becomes NoSpaceError or StorageError, and UsageError where somebody else has taken the name meanwhile.
        """
        try:
            with self._drafted(suffix) as file:
                yield file
        except FileExistsError as error:
            raise self._taken(suffix) from error
        except OSError as error:
            if is_shortage(error):
                raise unexpected(error) from error
            kind, hint = (NoSpaceError, _FULL_HINT) if is_full(error) else (StorageError, hint_of(error) or _DISK_HINT)
            raise kind(f"could not write {self.shown}{suffix}: {error.strerror}", hint=hint) from error

    @contextlib.contextmanager
    def _drafted(self, suffix: str) -> Iterator[BinaryIO]:
        draft = _draft_name()
        fd = os.open(draft, _CREATE, 0o666, dir_fd=self._folder)
        made = os.fstat(fd)
        try:
            with os.fdopen(fd, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            place_file(draft, self.path.name + suffix, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            os.fsync(self._folder)
        except BaseException:
            for name in (draft, self.path.name + suffix):  # it may have its name by now, and not have lost that of the draft
                with contextlib.suppress(OSError):
                    if os.path.samestat(os.stat(name, dir_fd=self._folder, follow_symlinks=False), made):
                        os.unlink(name, dir_fd=self._folder)
            raise

    def _taken(self, suffix: str) -> UsageError:
        return UsageError(f"{self.shown}{suffix} is there already: nothing is ever replaced", hint=self._hint)

    def close(self) -> None:
        """Lets go of the folder."""
        if self._folder >= 0:
            descriptor, self._folder = self._folder, -1
            close_quietly(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _above(folder: int) -> Iterator[int]:
    """A folder and all that it lies in, up to the root, each open while it is looked at."""
    here = os.dup(folder)
    try:
        for _ in range(_MOST_ABOVE):
            yield here
            above = os.open("..", _LOOK, dir_fd=here)
            is_root = os.path.samestat(os.fstat(above), os.fstat(here))
            os.close(here)
            here = above
            if is_root:
                return
    except PermissionError:  # a folder above may be closed to this user; what lies above it cannot be named by him either
        return
    finally:
        os.close(here)


def _is_vault(folder: int) -> bool:
    settings, cases = (_mode_of(folder, name) for name in VAULT_MARKS)
    return stat.S_ISREG(settings) and stat.S_ISDIR(cases)


def _mode_of(folder: int, name: str) -> int:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except _NOT_FOR_US:
        return 0


def _place_on_disk(folder: int) -> tuple[bytes, bytes] | None:
    """Where a folder lies in its file system, whatever part of it is mounted where; None where the system does not tell.

    `..` of a mounted folder leads to where it is mounted: that a folder of a vault is mounted elsewhere is seen by this alone.
    Source: proc_pid_mountinfo(5), proc_pid_fdinfo(5).
    """
    try:
        mount = _mount_of(folder)
        path = os.readlink(b"/proc/self/fd/%d" % folder)
        with open(_MOUNTS, "rb") as lines:
            fields = next((found for found in map(bytes.split, lines) if found[0] == mount), None)
    except _NOT_FOR_US:
        return None
    if fields is None or len(fields) < 5:
        return None
    device, root, point = fields[2], _plain(fields[3]), _plain(fields[4]).rstrip(b"/")
    if not (path + b"/").startswith(point + b"/"):
        return None
    return device, root.rstrip(b"/") + path[len(point) :]


def _mount_of(folder: int) -> bytes:
    with open(f"/proc/self/fdinfo/{folder}", "rb") as lines:
        for line in lines:
            name, _, value = line.partition(b":")
            if name == b"mnt_id":
                return value.strip()
    raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))


def _plain(field: bytes) -> bytes:
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field)
