"""The draft of a working copy: a folder beside the destination, which is renamed to it when the copy is whole."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from evidencesync.errors import NoSpaceError, StorageError, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.files.disk import FOLDER_FLAGS, close_quietly
from evidencesync.files.folders import FolderStack, names_in
from evidencesync.files.kept_names import KeptNames, try_names
from evidencesync.outside import closed_vault, look_at, refused_place, require_outside
from evidencesync.restore.metadata import clear_flags
from evidencesync.restore.refusals import NOT_POSSIBLE, name_place, place_error

DRAFT_PREFIX: Final = ".evidencesync-restore-"
_DRAFT_MODE: Final = 0o700  # nobody else looks in while it is made
_PREPARE: Final = "prepare the folder of the working copy"
_INHERITED: Final = ("system.posix_acl_default", "system.posix_acl_access")


class TemporaryDestination:
    """An empty folder beside the destination. `fd` is its descriptor, `names` what its file system keeps of names."""

    def __init__(self, parent_fd: int, name: bytes, fd: int, final: bytes) -> None:
        self.fd = fd
        self.names = KeptNames()
        self._parent_fd = parent_fd
        self._name = name
        self._final = final

    def publish(self) -> None:
        """Renames the draft to the destination, durably. Never replaces a folder that is not empty. Raises StorageError."""
        try:
            os.rename(self._name, self._final, src_dir_fd=self._parent_fd, dst_dir_fd=self._parent_fd)
            self._name = self._final
            os.fsync(self._parent_fd)  # the copy itself was synced before it was compared
        except OSError as error:
            raise place_error(error, "put the working copy in its place") from error

    def discard(self) -> None:
        """Removes the draft with everything in it, whatever its modes are. Raises OSError."""
        with contextlib.suppress(FileNotFoundError), FolderStack(os.dup(self.fd)) as stack:
            _empty(stack)
            os.rmdir(self._name, dir_fd=self._parent_fd)


@contextlib.contextmanager
def open_draft(destination: bytes, vault: Path) -> Iterator[TemporaryDestination]:
    """Yields a draft, and removes it at the end of the `with` if it was not published.

    Raises UsageError for a destination that exists and is not empty, that has no parent folder, or that lies in the vault.
    """
    parent_fd, final = _open_parent(destination, vault)
    try:
        name = f"{DRAFT_PREFIX}{secrets.token_hex(8)}".encode()
        draft = TemporaryDestination(parent_fd, name, _make_draft(parent_fd, name, safe_text(destination, 200)), final)
        try:
            _disinherit(draft.fd)
            draft.names = _try_names(draft.fd)
            yield draft
        except BaseException as error:
            name_place(error, safe_text(destination, 200))
            with contextlib.suppress(OSError):  # the first error is the one to tell; its name says what is left of it
                draft.discard()
            raise
        finally:
            close_quietly(draft.fd)  # a folder: nothing was written through it
    finally:
        close_quietly(parent_fd)


def _make_draft(parent_fd: int, name: bytes, shown: str) -> int:
    try:
        os.mkdir(name, _DRAFT_MODE, dir_fd=parent_fd)
        return os.open(name, FOLDER_FLAGS, dir_fd=parent_fd)
    except OSError as error:
        raise place_error(error, f"make a folder beside {shown}") from error


def _try_names(draft_fd: int) -> KeptNames:
    try:
        return try_names(draft_fd)
    except (NoSpaceError, StorageError) as error:
        if isinstance(error.__cause__, OSError):
            raise place_error(error.__cause__, _PREPARE) from error.__cause__
        raise


def _open_parent(destination: bytes, vault: Path) -> tuple[int, bytes]:
    shown = safe_text(destination, 200)
    place = os.path.realpath(destination)
    if os.path.islink(destination.rstrip(b"/")) and not os.path.lexists(place):
        raise UsageError(f"{shown} is a link that leads nowhere", hint="Name a new folder, or a link to an empty one.")
    parent, name = os.path.split(place)
    try:
        parent_fd = os.open(parent, FOLDER_FLAGS)
    except OSError as error:
        raise refused_place(error, f"{shown} has no folder to lie in", "Make the folder above it first.") from error
    try:
        if not destination or not name:
            raise UsageError(f"not a place for a working copy: {shown}", hint="Name a new folder.")
        require_outside(parent_fd, shown, closed_vault(vault), "Name a folder outside: only evidence belongs into a vault.")
        _check_free(parent_fd, name, shown)
    except BaseException:
        os.close(parent_fd)
        raise
    return parent_fd, name


def _check_free(parent_fd: int, name: bytes, shown: str) -> None:
    found = look_at(parent_fd, name, shown)
    if found is None:
        return
    if not stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{shown} is there, and is no folder", hint="Name a new folder.")
    if found.st_dev != os.fstat(parent_fd).st_dev:
        raise UsageError(f"{shown} is where a file system is mounted", hint=f"Name a new folder in it, such as {shown}/copy")
    try:
        fd = os.open(name, FOLDER_FLAGS, dir_fd=parent_fd)
        try:
            with os.scandir(fd) as names:
                is_empty = next(names, None) is None
        finally:
            os.close(fd)
    except OSError as error:
        raise place_error(error, f"look into {shown}") from error
    if not is_empty:
        raise UsageError(
            f"{shown} is not empty", hint="Name a folder that is new or empty: what is there is neither replaced nor added to."
        )


def _disinherit(fd: int) -> None:
    """Removes the ACLs that the draft has inherited from the folder above, and would pass on to everything in it."""
    for name in _INHERITED:
        try:
            os.removexattr(fd, name)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS):
                raise place_error(error, _PREPARE) from error
    try:
        os.fchmod(fd, _DRAFT_MODE)  # which the ACL had a say in; it was made with this mode
    except OSError as error:
        if error.errno not in NOT_POSSIBLE:  # a file system without modes is no reason to restore nothing
            raise place_error(error, _PREPARE) from error


def _empty(stack: FolderStack) -> None:
    """Removes all below the stack's root, of any depth, following no link."""
    pending = [_unlink_files(stack.fd)]
    while pending:
        if pending[-1]:
            name = pending[-1][-1]
            _open_up(stack.fd, name)
            stack.enter(stack.path + b"/" + name if stack.path else name)
            pending.append(_unlink_files(stack.fd))
            continue
        pending.pop()
        if pending:
            stack.enter(stack.path.rpartition(b"/")[0])
            os.rmdir(pending[-1].pop(), dir_fd=stack.fd)


def _open_up(above: int, name: bytes) -> None:
    """Makes a folder accessible, whose mode may forbid that already. It lies in a draft that only this user can reach."""
    if stat.S_ISDIR(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
        with contextlib.suppress(OSError):
            os.chmod(name, _DRAFT_MODE, dir_fd=above)


def _unlink_files(fd: int) -> list[bytes]:
    """Removes everything in a folder except its subfolders, and returns their names."""
    folders = []
    clear_flags(fd)
    for raw in map(os.fsencode, names_in(fd)):
        kind = stat.S_IFMT(os.stat(raw, dir_fd=fd, follow_symlinks=False).st_mode)
        if kind == stat.S_IFDIR:
            folders.append(raw)
            continue
        try:
            os.unlink(raw, dir_fd=fd)
        except PermissionError:
            if kind != stat.S_IFREG:
                raise
            file = os.open(raw, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            try:
                clear_flags(file)
            finally:
                os.close(file)
            os.unlink(raw, dir_fd=fd)
    return folders
