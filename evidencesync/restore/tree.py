"""Makes the files, folders, links and special files of a working copy below one descriptor, without metadata."""

from __future__ import annotations

import os
import stat
from typing import Final, Literal

from evidencesync.custody.manifest import WholeEntry
from evidencesync.errors import DigestMismatchError, IncompleteError, MissingOrExtraError, NameClashError, StorageError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.path import from_json_fields
from evidencesync.files.disk import CREATE_FLAGS, remove_if_there
from evidencesync.files.folders import FolderStack, split_path
from evidencesync.files.kept_names import KeptNames
from evidencesync.restore.contents import ContentSource, ReportCopied
from evidencesync.restore.refusals import NOT_POSSIBLE, Refusals, place_error, reason_of

_Identity = tuple[str, str | None, str | None, str | None, str | None]
_NO_LINKS: Final = (None, 0, 1)


class HardLinkTargets:
    """Finds for each entry the path to which it is linked. Ask in the manifest's order; each pass needs a new object.

    Only entries with the same content are linked, so that no false manifest can make one file look like another. If the first
    name of a group is not wanted, the next one takes its place. Remembers one path for each inode that has several names.
    """

    def __init__(self) -> None:
        self._made: dict[bytes, tuple[bytes, _Identity]] = {}
        self.broken: set[bytes] = set()
        """Entries that could not be linked, and were made as files of their own."""

    def target_of(self, path: bytes, entry: Entry) -> bytes | None:
        """The path of an earlier entry that must be the same inode; None if this entry is made by itself."""
        if entry.hardlink_to is None and entry.hardlink_to_b64 is None:
            if entry.links not in _NO_LINKS and entry.type != "directory":
                self._made[path] = (path, _identity(entry))
            return None
        first = from_json_fields(entry.hardlink_to, entry.hardlink_to_b64)
        target, identity = self._made.setdefault(first, (path, _identity(entry)))
        if target == path or path in self.broken or identity != _identity(entry):
            return None
        return target

    def fail(self, path: bytes) -> None:
        """Notes that an entry could not be linked."""
        self.broken.add(path)


def _identity(entry: Entry) -> _Identity:
    return entry.type, entry.blake3, entry.target, entry.target_b64, entry.device_number


OnDamage = Literal["fail", "skip"]

_FILE_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700
_NO_CONTENT: Final = ("vanished", "unreadable")


class TreeMaker:
    """Makes wanted entries in the manifest's order. What the system cannot store is a refusal, and its path is in `absent`.

    Each entry is made by its name below an open folder, and must not exist yet: two names that the file system does not
    distinguish (upper and lower case, Unicode composition) raise NameClashError. Nothing is ever overwritten, and no link is
    followed.
    """

    def __init__(
        self, draft: tuple[int, KeptNames], contents: ContentSource, refusals: Refusals, *, devices: bool, on_damage: OnDamage
    ) -> None:
        """`draft`: its descriptor, and what its file system keeps of names. Neither it nor `contents` is taken over."""
        draft_fd, self._names = draft
        self.absent: set[bytes] = set()
        self.links = HardLinkTargets()
        self.counts: dict[str, int] = {}
        self.bytes = 0
        self.shared = 0
        self._stack = FolderStack(os.dup(draft_fd))
        self._others = FolderStack(os.dup(draft_fd))  # to find what is linked to
        self._contents = contents
        self._refusals = refusals
        self._devices = devices
        self._skip_damaged = on_damage == "skip"
        self._lost = b""

    def close(self) -> None:
        """Closes all descriptors."""
        self._stack.close()
        self._others.close()

    def make(self, wanted: WholeEntry, report_bytes: ReportCopied) -> None:
        """Makes the next entry. `tell` hears of the bytes of its content.

        Raises NameClashError, NoSpaceError, StorageError; DigestMismatchError and MissingOrExtraError for evidence that is
        damaged or gone, unless damage is to be skipped.
        """
        path, entry, _ = wanted
        if not path:
            self._count(entry)
            self._report_folder(path, entry)
            return
        if self._lost and path.startswith(self._lost):
            self._refuse("not-possible", path, "its folder is not there")
            return
        parent, name = split_path(path)
        if not self._names.holds(name):
            self._not_possible(path, entry, "the file system would change the name")
            return
        try:
            folder = self._stack.enter(parent)
            made = self._make(folder, name, wanted, report_bytes)
        except FileExistsError as error:
            raise NameClashError(
                f"the file system takes the name for another one's: {safe_text(path, 300)}",
                hint="Restore to a file system that tells upper and lower case apart and keeps names as they are.",
            ) from error
        except OSError as error:
            if error.errno not in NOT_POSSIBLE:
                raise place_error(error, f"make {safe_text(path, 300)}") from error
            self._not_possible(path, entry, reason_of(error))
            return
        if made:
            self._count(entry)

    def _not_possible(self, path: bytes, entry: Entry, why: str) -> None:
        self._refuse("not-possible", path, f"{entry.type}: {why}")
        if entry.type == "directory":
            self._lost = path + b"/"

    def _count(self, entry: Entry) -> None:
        self.counts[entry.type] = self.counts.get(entry.type, 0) + 1

    def _make(self, folder: int, name: bytes, wanted: WholeEntry, report_bytes: ReportCopied) -> bool:
        path, entry, _ = wanted
        target = self.links.target_of(path, entry)
        if target is not None and target not in self.absent and self._link(folder, name, path, target):
            return True
        if entry.type == "directory":
            os.mkdir(name, _FOLDER_MODE, dir_fd=folder)
            self._report_folder(path, entry)
        elif entry.blake3 is not None:
            return self._make_file(folder, name, wanted, report_bytes)
        elif entry.flags is not None and "skipped" in entry.flags:
            self._refuse("skipped", path, entry.type)
            return False
        elif entry.flags is not None and any(flag in entry.flags for flag in _NO_CONTENT) and entry.type in ("file", "symlink"):
            self._refuse("not-acquired", path, ", ".join(entry.flags))
            return False
        else:
            return self._make_special(folder, name, path, entry)
        return True

    def _report_folder(self, path: bytes, entry: Entry) -> None:
        """Records that a folder is empty only because its content was not acquired."""
        flags = entry.flags or ()
        if "skipped" in flags:
            self._refusals.add("skipped", path, "what is in the folder")
        elif any(flag in flags for flag in _NO_CONTENT):
            self._refusals.add("not-acquired", path, "what is in the folder")

    def _make_special(self, folder: int, name: bytes, path: bytes, entry: Entry) -> bool:
        match entry.type:
            case "symlink":
                target = from_json_fields(entry.target, entry.target_b64)
                if not target or b"\0" in target:
                    self._refuse("not-possible", path, "a symbolic link to nothing")
                    return False
                os.symlink(target, name, dir_fd=folder)
            case "fifo":
                os.mkfifo(name, _FILE_MODE, dir_fd=folder)
            case "socket":
                os.mknod(name, stat.S_IFSOCK | _FILE_MODE, dir_fd=folder)
            case "block-device" | "character-device" if entry.device_number is not None:
                if not self._devices:
                    self._refuse("device", path, f"{entry.type} {entry.device_number}")
                    return False
                kind = stat.S_IFBLK if entry.type == "block-device" else stat.S_IFCHR
                major, minor = map(int, entry.device_number.split(":"))
                try:
                    os.mknod(name, kind | _FILE_MODE, os.makedev(major, minor), dir_fd=folder)
                except OverflowError:
                    self._refuse("not-possible", path, f"this system has no device {entry.device_number}")
                    return False
            case _:
                self._refuse("not-acquired", path, entry.type)
                return False
        return True

    def _link(self, folder: int, name: bytes, path: bytes, target: bytes) -> bool:
        """Makes a hard link within the copy. False if this file system cannot: then the entry is made as a file of its own."""
        other, other_name = split_path(target)
        try:
            other_fd = self._others.enter(other)
            os.link(other_name, name, src_dir_fd=other_fd, dst_dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno not in NOT_POSSIBLE:
                raise
            self.links.fail(path)
            self._refusals.add("hard-link", path, f"to {safe_text(target, 200)}: {reason_of(error)}")
            return False
        return True

    def _make_file(self, folder: int, name: bytes, wanted: WholeEntry, report_bytes: ReportCopied) -> bool:
        path, entry, _ = wanted
        try:
            fd = os.open(name, CREATE_FLAGS, _FILE_MODE, dir_fd=folder)
            try:
                shared = self._contents.fill(fd, wanted, report_bytes)
            finally:
                os.close(fd)
        except (DigestMismatchError, MissingOrExtraError, StorageError) as error:
            remove_if_there(folder, name)
            self._damage(path, error)
            return False
        size = entry.size or 0
        if entry.read_errors:
            self._refusals.add("bad-bytes", path, "see the manifest for the ranges")
        self.bytes += size
        self.shared += size if shared else 0
        return True

    def _damage(self, path: bytes, error: DigestMismatchError | MissingOrExtraError | StorageError) -> None:
        if not self._skip_damaged:
            raise IncompleteError.of(error) if isinstance(error, StorageError) else error
        self._refuse("unreadable" if isinstance(error, StorageError) else "damaged", path, error.message)

    def _refuse(
        self, lack: Literal["damaged", "unreadable", "not-acquired", "not-possible", "skipped", "device"], path: bytes, why: str
    ) -> None:
        self.absent.add(path)
        self._refusals.add(lack, path, why)
