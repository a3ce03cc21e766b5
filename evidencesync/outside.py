"""Decides where this program may write outside a vault. Every path for output that a person names is opened here.

Nothing that a command makes (a report, an export, a copy, a receipt, remembered heads) may lie in a vault, where only evidence
belongs, or in the source, which is only read. Folders are compared by device and inode, and by their place in the file system:
no link, no second mount and no `..` can hide where something lies. A folder that was checked is then used by the same
descriptor: nobody can put something else in its place.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, Self

import msgspec

from evidencesync.errors import EvidenceSyncError, NoSpaceError, StorageError, UsageError
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.files.disk import close_quietly
from evidencesync.files.placing import place_file, take_back
from evidencesync.files.shortages import hint_of, is_broken, is_full, is_shortage, unexpected

FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_BELOW: Final = FOLDER_FLAGS | os.O_NOFOLLOW
_LOOK: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC  # needs no permission to read
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NAMELESS: Final = os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC if hasattr(os, "O_TMPFILE") else None
_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_PRIVATE: Final = 0o700
VAULT_MARKS: Final = ("vault.toml", "cases")  # what every vault has: see vault/layout.py
_MOUNTS: Final = "/proc/self/mountinfo"
# Files there belong to the kernel, or are lost at the next boot. What is mounted below /dev, such as /dev/shm, is not meant.
_OF_THE_SYSTEM: Final = (Path("/dev"), Path("/proc"), Path("/sys"))
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")
_DISK_HINT: Final = "Check the disk to which it is written."
_FULL_HINT: Final = "Free space on the disk to which it is written, or name a place on another disk."
_NOT_FOR_US: Final = (
    FileNotFoundError,
    NotADirectoryError,
    PermissionError,
)  # after any other error, nothing is known: it is raised
_MOST_ABOVE: Final = 4096  # folders one in the other; a path has 4096 bytes at most


class Closed(msgspec.Struct, frozen=True):
    """A folder into which nothing may be written, and what it is: "the vault", "the source"."""

    what: str
    folder: Path


def closed_vault(vault: Path | None) -> list[Closed]:
    """A vault's folder, and its folder of evidence, which may be on another disk."""
    return [] if vault is None else [Closed("the vault", folder) for folder in (vault, vault / VAULT_MARKS[1])]


def require_outside(folder: int, shown: str, closed: Sequence[Closed] = (), hint: str = "Name another place.") -> None:
    """Raises UsageError if an open folder lies in a closed folder, in any vault, or in a folder of the system.

    `shown` is what would be written there. If the disk does not tell, this raises as `refused_place` says.
    """
    try:
        for one in closed:
            if lies_in(folder, one.folder):
                raise UsageError(f"{shown} lies in {one.what}: nothing may be written there", hint=hint)
        for system in _OF_THE_SYSTEM:
            if _is_on_one_disk(folder, system) and lies_in(folder, system):
                raise UsageError(f"{shown} lies in {system}, whose files belong to the system", hint=hint)
        for above in _above(folder):
            if _is_vault(above):
                raise UsageError(f"{shown} lies in a vault: only evidence belongs there", hint=hint)
    except OSError as error:
        raise refused_place(error, f"it cannot be known whether {shown} lies in a vault", hint) from error


def lies_in(folder: int, other: Path) -> bool:
    """Whether an open folder is another folder or lies in it, through any links and mounts.

    False if the other folder does not exist or may not be looked at: nothing can be written there. Raises OSError if it is not
    known.
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
    """Raises UsageError if reading the source would read the vault, or if the source is a part of the vault.

    Compares device and inode, so that no link and no second mount hides it. A vault on its own disk that is mounted in the
    source is not read if only one file system is read (`crosses` is False).
    """
    hint = "A vault needs a folder of its own. One on another disk is left out with --one-file-system."
    text = f"the source and the vault lie one inside the other: {safe_text(str(source), 200)}, {safe_text(str(vault), 200)}"
    try:
        place = os.open(source if source.is_dir() else source.parent, FOLDER_FLAGS)
    except OSError:
        return  # reading it will fail, and say why
    try:
        if any(lies_in(place, one.folder) for one in closed_vault(vault)):
            raise UsageError(text, hint=hint)
        device = os.fstat(place).st_dev
    finally:
        os.close(place)
    try:
        kept = os.open(vault, FOLDER_FLAGS)
    except OSError:
        return  # opening the vault will fail, and say why
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
    """Raises UsageError if no file can be made in an open folder, NoSpaceError if its disk is full, or StorageError.

    So this is known before hours of work, and not after them.
    """
    try:
        os.close(_open_nameless(folder))
    except OSError as error:
        if is_full(error):
            raise NoSpaceError(f"there is no room for {shown}: {error.strerror}", hint=_FULL_HINT) from error
        raise refused_place(error, f"{shown} cannot be made", hint) from error


def refused_place(error: OSError, text: str, hint: str, kind: type[UsageError] = UsageError) -> EvidenceSyncError:
    """The error to raise for a place that a person has named and that cannot be used. `hint` says which place to name instead.

    It is of that `kind`, unless the disk is full or broken, or this process lacks a resource.
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
    """Opens a new file without a name, so that nothing is left of it in any case. Source: open(2), O_TMPFILE.

    If the file system has no such files, the name exists for a moment.
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
    """Opens a folder to write into. Makes it if it is missing, with those above it, but only outside closed folders and vaults.

    A folder above it may be a link, and with `follow` also the folder itself. Raises UsageError for a place that is not
    outside, OSError.
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
            os.fsync(above)  # a file synced in a folder whose name is lost is lost with it
        return os.open(path.name, _BELOW, dir_fd=above)
    finally:
        os.close(above)


def open_folder_for(wanted: Path) -> int:
    """Opens the existing folder in which something new will be made. Raises as `refused_place` says."""
    try:
        return os.open(wanted.parent, FOLDER_FLAGS)
    except OSError as error:
        shown = safe_text(os.fsencode(wanted.parent), 200)
        if isinstance(error, FileNotFoundError):
            made = shell_text("mkdir", "-p", str(wanted.parent))
            raise UsageError(f"there is no folder {shown}", hint=f"Make it first: {made}") from error
        hint = "Name a place in a folder that you can use."
        raise refused_place(error, f"the folder {shown} cannot be opened", hint) from error


def look_at(folder: int, name: str | bytes, shown: str) -> os.stat_result | None:
    """The status of a name in an open folder, of a link itself; None if the name is free.

    Raises UsageError for an impossible name, and otherwise as `refused_place` says.
    """
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        hint = "Name a place in a folder that you can use, with a shorter name perhaps."
        raise refused_place(error, f"{shown} cannot be made", hint) from error


class NewFile:
    """A file that a command will make: a free name in a folder outside, which is held open. Close it."""

    def __init__(self, wanted: Path, closed: Sequence[Closed] = (), hint: str = "Name another file.") -> None:
        """Raises UsageError if the folder cannot be used or is not outside, or if the name is taken, also by a link.

        Raises NoSpaceError if the disk is full already.
        """
        self.path = wanted
        self.shown = safe_text(os.fsencode(wanted), 200)
        self._hint = hint
        self._made: dict[str, os.stat_result] = {}
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
        """Looks whether this name with a suffix is free. Raises UsageError if it is taken."""
        name = self.path.name + suffix
        if look_at(self._folder, name, self.shown + suffix) is not None:
            raise self._taken(suffix)

    def make(self) -> int:
        """Makes it now, empty, for its owner alone; returns a descriptor to write and to read it. `take_back` removes it.

        Raises UsageError if another process has taken the name meanwhile, and otherwise as `refused_place` says.
        """
        try:
            descriptor = os.open(self.path.name, _CREATE & ~os.O_WRONLY | os.O_RDWR, 0o600, dir_fd=self._folder)
        except FileExistsError as error:
            raise self._taken("") from error
        except OSError as error:
            raise refused_place(error, f"{self.shown} cannot be made", self._hint) from error
        self._made[self.path.name] = os.fstat(descriptor)
        return descriptor

    @contextlib.contextmanager
    def writing(self, suffix: str = "") -> Iterator[BinaryIO]:
        """Yields a file to write to, which gets its name, durably, at the end of the `with`. After an error nothing is left.

        An OSError becomes NoSpaceError or StorageError, or UsageError if another process has taken the name meanwhile.
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
        draft, name = _draft_name(), self.path.name + suffix
        fd = os.open(draft, _CREATE, 0o666, dir_fd=self._folder)
        made: os.stat_result | None = None
        try:
            with os.fdopen(fd, "wb") as file:
                made = os.fstat(fd)
                yield file
                file.flush()
                os.fsync(fd)  # before it gets its name: under that it is whole or not there
            place_file(draft, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            os.fsync(self._folder)  # the command says "written" next
            self._made[name] = made
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft, dir_fd=self._folder)
            if made is not None:
                take_back(name, made, self._folder)  # it may have both names at this time
            raise

    def take_back(self) -> None:
        """Removes what this has made, where another file that belongs to it could not be made. Raises nothing."""
        for name, made in self._made.items():
            take_back(name, made, self._folder)

    def _taken(self, suffix: str) -> UsageError:
        return UsageError(f"{self.shown}{suffix} is there already: nothing is ever replaced", hint=self._hint)

    def close(self) -> None:
        """Closes the folder."""
        if self._folder >= 0:
            descriptor, self._folder = self._folder, -1
            close_quietly(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_to_append(wanted: Path, closed: Sequence[Closed], hint: str, evidence: Path | None = None) -> int:
    """Opens a file to which lines are appended, and makes it, readable for its owner alone, if it is missing.

    One that is there must be a regular file of this user, with one name, and no link; and not `evidence`, a single file that is
    the source. Raises UsageError for another one, and for a folder that is not outside; NoSpaceError, StorageError.
    """
    shown = safe_text(os.fsencode(wanted), 200)
    folder = open_folder_for(wanted)
    try:
        require_outside(folder, shown, closed, hint)
        descriptor = _open_or_make_file(folder, wanted.name)
    except OSError as error:
        text = f"{shown} cannot be opened to append to it"
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):  # a link, a folder, a FIFO that nobody reads
            raise UsageError(f"{text}: it is no regular file", hint=hint) from error
        raise refused_place(error, text, hint) from error
    finally:
        os.close(folder)
    found, is_evidence = os.fstat(descriptor), False
    with contextlib.suppress(OSError):
        is_evidence = evidence is not None and os.path.samestat(os.stat(evidence), found)
    if is_evidence or not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink > 1:
        os.close(descriptor)
        what = "it must be a regular file of this user, with one name, and no evidence"
        raise UsageError(f"{shown} is nothing to append to: {what}", hint=hint)
    return descriptor


def _open_or_make_file(folder: int, name: str) -> int:
    try:
        return os.open(name, _APPEND, dir_fd=folder)
    except FileNotFoundError:
        return os.open(name, _APPEND | os.O_CREAT, 0o600, dir_fd=folder)


def _above(folder: int) -> Iterator[int]:
    """Yields descriptors of a folder and of all folders above it, up to the root. Each is open until the iterator goes on."""
    here = os.dup(folder)
    try:
        for _ in range(_MOST_ABOVE):
            yield here
            above = os.open("..", _LOOK, dir_fd=here)
            is_root = os.path.samestat(os.fstat(above), os.fstat(here))
            below, here = here, above  # before it is closed: an interrupt in between must not close it twice
            os.close(below)
            if is_root:
                return
    except PermissionError:  # a folder above is closed to this user, who then cannot name a path through it either
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
    """The device and the path of a folder inside its file system, whatever part of that is mounted; None if it is not known.

    Only this shows that a folder of a vault is mounted elsewhere, since `..` of it leads to the place of the mount. Source:
    proc_pid_mountinfo(5), proc_pid_fdinfo(5).
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
