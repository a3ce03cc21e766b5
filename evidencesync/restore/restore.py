"""Restores an acquisition, or a part of it, as a working copy. The vault is only read.

1. The manifest, whose signatures somebody has checked, is read to its end: is everything there that was asked for?  2. Files,
folders, links and special files are made in a draft beside the destination, and every byte is hashed on its way.  3. The
draft is synced, read back from its disk, and compared with the manifest.  4. It is given its metadata.  5. It is renamed.
So there is a whole copy or none. What the system could not hold, or would not set, is counted and named.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from evidencesync.custody.hardlinks import is_hard_link
from evidencesync.custody.manifest import CheckedLine, WholeEntry
from evidencesync.errors import DigestMismatchError, NoSpaceError, NotThereError, StorageError, UsageError
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.files.disk import FOLDER_FLAGS, close_quietly, opened_folder, sync_file_system
from evidencesync.files.drafts import draft_name, make_draft, remove_left_drafts
from evidencesync.files.folders import FolderStack, names_in
from evidencesync.files.kept_names import KeptNames, try_names
from evidencesync.outside import closed_vault, look_at, refused_place, require_outside
from evidencesync.restore.contents import ContentSource, OpenContents, VaultContents
from evidencesync.restore.metadata import MetadataApplier, MetadataOptions, clear_flags
from evidencesync.restore.refusals import NOT_POSSIBLE, Refusals, name_place, place_error
from evidencesync.restore.tree import HardLinkTargets, OnDamage, TreeMaker
from evidencesync.restore.wanted import AcquiredManifest, PathSelection
from evidencesync.vault.readback import read_back
from evidencesync.vault.space import check_destination
from evidencesync.vault.writer import kind_of_file_system

DRAFT_PREFIX: Final = ".evidencesync-restore-"
_DRAFT_MODE: Final = 0o700  # nobody else looks in while it is made
_PREPARE: Final = "prepare the folder of the working copy"
_INHERITED: Final = ("system.posix_acl_default", "system.posix_acl_access")
_RawPath = bytes
_NO_ROOM = "Name a destination with more room, or only some paths; nothing was restored."


def _ignore(_: str) -> None:
    """Drops a sentence."""


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
def open_draft(destination: bytes, vault: Path, notify: Callable[[str], None] = _ignore) -> Iterator[TemporaryDestination]:
    """Yields a draft, and removes it at the end of the `with` if it was not published.

    First it removes those that killed commands have left beside the destination, and `notify` is told of each.

    Raises UsageError for a destination that exists and is not empty, that has no parent folder, or that lies in the vault.
    """
    parent_fd, final = _open_parent(destination, vault)
    try:
        _remove_left(parent_fd, os.path.dirname(os.path.realpath(destination)), notify)
        name = draft_name(DRAFT_PREFIX)
        draft = TemporaryDestination(parent_fd, name.encode(), _make_draft(parent_fd, name, safe_text(destination, 200)), final)
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


def _remove_left(parent_fd: int, parent: bytes, notify: Callable[[str], None]) -> None:
    def remove(name: str, fd: int) -> None:
        with FolderStack(os.dup(fd)) as stack:
            _empty(stack)
        os.rmdir(name, dir_fd=parent_fd)

    if kind_of_file_system(parent_fd).has_real_locks:
        for name in remove_left_drafts(parent_fd, DRAFT_PREFIX, remove):
            notify(f"removed what a restore that was killed had left: {safe_text(os.path.join(parent, name.encode()), 300)}")


def _make_draft(parent_fd: int, name: str, shown: str) -> int:
    try:
        return make_draft(parent_fd, name)
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
        made = f"Make it first: {shell_text('mkdir', '-p', parent)}"
        hint = made if isinstance(error, FileNotFoundError) else "Name a place in a folder that you can use."
        raise refused_place(error, f"{shown} has no folder to lie in", hint) from error
    try:
        if not destination or not name:
            raise UsageError(f"not a place for a working copy: {shown}", hint="Name a new folder.")
        require_outside(parent_fd, shown, closed_vault(vault), "Name a folder outside of it.")
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
        raise UsageError(f"{shown} is where a file system is mounted", hint=f"Name a new folder in it, such as: {shown}/copy")
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


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """What to restore, and how. `folder` is the acquisition's folder, `manifest_sha256` that of the manifest that was checked."""

    vault: Path
    folder: Path
    manifest_sha256: str
    destination: bytes
    paths: tuple[bytes, ...] = ()
    read_back: bool = True
    devices: bool = False
    on_damage: OnDamage = "fail"
    metadata: MetadataOptions = field(default_factory=MetadataOptions)


@dataclass(slots=True)
class RestoreProgress:
    """The progress of a restore: plain numbers that a display reads at any time."""

    stage: Literal["looking", "writing", "syncing", "read-back", "metadata", "done"] = "looking"
    files: int = 0
    bytes: int = 0
    total_files: int = 0
    total_bytes: int = 0
    hole_bytes: int = 0
    """Of `bytes`, while it is writing, those of holes."""
    total_data_bytes: int = 0
    """Of `total_bytes`, those that are to be written: all but holes, and what is written once for several names."""
    total_hole_bytes: int = 0
    path: _RawPath = b""
    notify: Callable[[str], None] = _ignore
    """Is told, in a sentence, what a person should know meanwhile."""


@dataclass(frozen=True, slots=True)
class Restored:
    """The result: entries by type, bytes of contents, how many of these share blocks with the vault, and what the copy lacks."""

    counts: dict[str, int]
    bytes: int
    shared_bytes: int
    read_back: bool
    refusals: Refusals


def restore(request: RestoreRequest, progress: RestoreProgress, open_contents: OpenContents = VaultContents.open) -> Restored:
    """Restores. After an error nothing is left. `open_contents`: where the bytes of files come from.

    Raises NotThereError, NoSpaceError, StorageError, NameClashError, UsageError for the destination, and DigestMismatchError
    or MissingOrExtraError for damaged evidence.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(opened_folder(request.folder))
        acquired = AcquiredManifest(folder, request.manifest_sha256)
        draft = stack.enter_context(open_draft(request.destination, request.vault, progress.notify))
        contents = open_contents(_Acquired(folder, draft.fd, lambda: acquired.entries(PathSelection(request.paths))))
        stack.callback(contents.close)
        expected = _survey(acquired, contents, request, progress)
        needed = progress.total_data_bytes = contents.bytes_needed()
        progress.total_hole_bytes = max(expected - needed, 0)
        check_destination(draft.fd, needed, folder, _NO_ROOM)
        return _Restoring(request, progress, acquired, draft).run(contents)


@dataclass(frozen=True, slots=True)
class _Acquired:
    """See Acquired."""

    folder_fd: int
    draft_fd: int
    entries: Callable[[], Iterator[WholeEntry]]


def _survey(acquired: AcquiredManifest, contents: ContentSource, request: RestoreRequest, progress: RestoreProgress) -> int:
    """Step 1; returns the bytes of all files, holes too. Raises for a path that does not exist, before anything is copied."""
    selection = PathSelection(request.paths)
    seen, expected = False, 0
    for wanted in acquired.entries(selection):
        seen = True
        if wanted.entry.blake3 is not None:
            progress.total_files += 1
            progress.total_bytes += wanted.entry.size or 0
            if not is_hard_link(wanted.entry):
                contents.expect(wanted)
                expected += wanted.entry.size or 0
    selection.check_found()
    if not seen:
        raise NotThereError("the acquisition has no entries")
    return expected


class _Restoring:
    """One run."""

    def __init__(
        self, request: RestoreRequest, progress: RestoreProgress, acquired: AcquiredManifest, draft: TemporaryDestination
    ) -> None:
        self._request = request
        self._progress = progress
        self._acquired = acquired
        self._draft = draft
        self._refusals = Refusals()

    def run(self, contents: ContentSource) -> Restored:
        """Steps 2 to 5."""
        maker = self._make(contents)
        if self._request.read_back:
            self._read_back(maker)
        self._apply_metadata(maker)
        return Restored(maker.counts, maker.bytes, maker.shared, self._request.read_back, self._refusals)

    def _entries(self, absent: set[bytes]) -> Iterator[WholeEntry]:
        for wanted in self._acquired.entries(PathSelection(self._request.paths)):
            if wanted.path not in absent:
                yield wanted

    def _make(self, contents: ContentSource) -> TreeMaker:
        progress, request = self._progress, self._request
        progress.stage = "writing"

        def report_bytes(size: int, holes: int = 0, /) -> None:
            progress.bytes += size
            progress.hole_bytes += holes

        draft = self._draft.fd, self._draft.names
        maker = TreeMaker(draft, contents, self._refusals, devices=request.devices, on_damage=request.on_damage)
        try:
            for wanted in self._acquired.entries(PathSelection(request.paths)):
                progress.path = wanted.path
                maker.make(wanted, report_bytes)
                progress.files += wanted.entry.blake3 is not None
        finally:
            maker.close()
        progress.stage = "syncing"
        sync_file_system(self._draft.fd, "the working copy")
        return maker

    def _read_back(self, maker: TreeMaker) -> None:
        progress = self._progress
        progress.stage, progress.files, progress.bytes = "read-back", 0, 0

        def report_bytes(files: int, size: int) -> None:
            progress.files += files
            progress.bytes += size

        try:
            read_back(self._draft.fd, self._made(maker), report_bytes)
        except DigestMismatchError as error:
            raise DigestMismatchError(error.message, hint="The disk of the working copy is bad; nothing was restored.") from error

    def _made(self, maker: TreeMaker) -> Iterator[CheckedLine]:
        """Yields every file that was written; a file with several names once."""
        links = HardLinkTargets()
        links.broken = maker.links.broken
        for path, entry, _ in self._entries(maker.absent):
            target = links.target_of(path, entry)
            if target is None or target in maker.absent:
                yield path, entry

    def _apply_metadata(self, maker: TreeMaker) -> None:
        self._progress.stage = "metadata"
        applier = MetadataApplier(self._draft.fd, self._refusals, maker.links, self._request.metadata)
        try:
            for wanted in self._entries(maker.absent):
                self._progress.path = wanted.path
                applier.apply(wanted, maker.absent)
            applier.finish()
            sync_file_system(self._draft.fd, "the working copy")
            self._draft.publish()
            applier.finish_root()
        finally:
            applier.close()
        self._progress.stage = "done"
