"""Reads the documents in a folder of a vault; never opens what is not a regular file, and reports every problem."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final, Literal

from evidencesync.errors import LimitExceededError
from evidencesync.evidence.display import safe_text
from evidencesync.files.disk import FOLDER_FLAGS, READ_FLAGS, read_bounded, reading, reading_blocks
from evidencesync.files.holes import has_empty_run
from evidencesync.files.litter import is_litter
from evidencesync.files.unread import unread_error
from evidencesync.verify.checks import Check
from evidencesync.verify.findings import Findings, Reporter

Kind = Literal["file", "folder", "symbolic link", "FIFO", "socket", "device"]

Unread = tuple[Check, str]
"""The check and the slug of the finding where a folder cannot be read."""

_UNREAD: Final[Unread] = Check.STRUCTURE, "unreadable"
UNSAFE_FILE: Final = 0o7333  # set-id and sticky bits, write and execute for anybody
UNSAFE_SETTINGS: Final = 0o7133  # the vault's own files may be its owner's to write
_UNSAFE_FOLDER: Final = 0o022  # a folder may be its owner's to write; set-group-id is inherited from the folder above
_KINDS: Final[dict[int, Kind]] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "symbolic link",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
}


def list_kinds(folder_fd: int) -> dict[bytes, Kind]:
    """Lists every name in a folder with its kind, without opening it. Raises OSError."""
    with os.scandir(folder_fd) as entries:
        return {os.fsencode(entry.name): kind_of(entry) for entry in entries}


def kind_of(entry: os.DirEntry[str]) -> Kind:
    """Returns the kind of an entry. Raises OSError."""
    if entry.is_file(follow_symlinks=False):
        return "file"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    return _KINDS.get(stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode), "device")


def is_left(name: bytes, kind: Kind) -> bool:
    """Whether something is what systems leave where somebody looks into a folder: a warning, but among evidence."""
    return kind in ("file", "folder") and is_litter(name, is_folder=kind == "folder")


def left_text(shown: bytes, kind: Kind) -> str:
    """Returns what a finding says of that."""
    return f"a {kind} as systems leave it in a folder that somebody looks into, and no evidence: {safe_text(shown)}"


def reason(error: OSError) -> str:
    """Returns the system's reason for a refusal, for people."""
    return os.strerror(error.errno) if error.errno is not None else safe_text(str(error), 100)


def unsafe_folder_bits(mode: int) -> int:
    """Returns the mode bits that let others than the owner change a folder's contents."""
    return mode & _UNSAFE_FOLDER


class CheckedFolder:
    """One open folder. Every problem with its contents is reported as a finding, never raised.

    `names` is what was there when it was opened, without litter (a warning); empty, with `listed` False, where it could not be
    listed: the finding `unread`.
    Files in it may have none of the mode bits `unsafe`.
    """

    def __init__(self, fd: int, report: Reporter, unsafe: int = UNSAFE_FILE, unread: Unread = _UNREAD) -> None:
        """Takes over the descriptor."""
        self.fd = fd
        self._unsafe = unsafe
        self.report = report
        self.names: dict[bytes, Kind] = {}
        self.listed = True
        try:
            found = list_kinds(fd)
            mode = os.fstat(fd).st_mode
        except OSError as error:
            self.listed = False
            report.report(*unread, f"the folder cannot be listed: {reason(error)}")
        else:
            self.names = {raw: kind for raw, kind in found.items() if not is_left(raw, kind)}
            for raw in sorted(found.keys() - self.names.keys()):
                report.report(Check.STRUCTURE, "foreign-entry", left_text(raw, found[raw]), raw)
            if unsafe_folder_bits(mode):
                report.report(Check.MODES, "unsafe-mode", f"others may change the folder (mode {stat.S_IMODE(mode):04o})")

    def close(self) -> None:
        """Closes the folder."""
        os.close(self.fd)

    def __enter__(self) -> CheckedFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def enter(self, name: str, report: Reporter, unread: Unread = _UNREAD) -> CheckedFolder | None:
        """Opens a folder in this one; None when it is missing (`missing-document`), is no folder, or cannot be read."""
        if not self.holds(name, "folder"):
            return None
        try:
            return CheckedFolder(os.open(name, FOLDER_FLAGS, dir_fd=self.fd), report, unread=unread)
        except OSError as error:
            report.report(*unread, f"the folder cannot be opened: {reason(error)}")
            return None

    def peek(self, name: str) -> CheckedFolder | None:
        """Opens a folder in this one to read it before its check: findings about it are discarded."""
        if self.names.get(name.encode()) != "folder":
            return None
        try:
            return CheckedFolder(os.open(name, FOLDER_FLAGS, dir_fd=self.fd), Reporter(Findings()))
        except OSError:
            return None  # reported when it is checked

    @contextlib.contextmanager
    def peeked(self, name: str) -> Iterator[CheckedFolder | None]:
        """Does the same for the length of a `with`."""
        folder = self.peek(name)
        try:
            yield folder
        finally:
            if folder is not None:
                folder.close()

    def open(self, name: str, *, buffered: bool = False) -> BinaryIO | None:
        """Opens a file in this folder for reading (unbuffered: in large blocks); the caller closes it. None after a finding."""
        if not self.holds(name, "file"):
            return None
        try:
            fd = os.open(name, READ_FLAGS, dir_fd=self.fd)
            mode = os.fstat(fd).st_mode
        except OSError as error:
            self.report.report(Check.STRUCTURE, "unreadable", f"{safe_text(name)}: {reason(error)}", name)
            return None
        if not stat.S_ISREG(mode):  # it was replaced since the folder was listed
            os.close(fd)
            self.report.report(Check.STRUCTURE, "wrong-type", f"{safe_text(name)} is not a regular file", name)
            return None
        if mode & self._unsafe:
            self.report.report(Check.MODES, "unsafe-mode", f"{safe_text(name)} has the mode {stat.S_IMODE(mode):04o}", name)
        return reading(fd) if buffered else reading_blocks(fd)

    def open_written(self, name: str, check: Check, slug: str, most: int | None = None) -> BinaryIO | None:
        """Opens a document that may be long, as `open` does. None, after a finding, also for one that is sparse or too large.

        A sparse file of many TiB costs nothing to make, and takes for ever to read. No writer makes documents with holes; and
        `most` is the largest possible size, where a signed document tells it.
        """
        file = self.open(name)
        if file is None:
            return None
        fd = file.fileno()
        if has_empty_run(fd):
            text = "has holes: nobody has written it like that"
        elif most is not None and os.fstat(fd).st_size > most:
            text = f"is larger than it can be, {most} bytes"
        else:
            return file
        file.close()
        self.report.report(check, slug, f"{safe_text(name)} {text}", name)
        return None

    def load(self, name: str, limit: int) -> bytes | None:
        """Reads a small file whole. None after a finding."""
        file = self.open(name)
        if file is None:
            return None
        with file:
            try:
                return read_document(file, limit)
            except OSError as error:
                self.report.report(Check.STRUCTURE, "unreadable", f"{safe_text(name)}: {reason(error)}", name)
            except LimitExceededError:
                self.report.report(Check.STRUCTURE, "malformed-document", f"{safe_text(name)} is longer than {limit} bytes", name)
        return None

    def load_quietly(self, name: str, limit: int) -> tuple[bytes | None, bool]:
        """Reads a small file whole, without a finding; also returns whether it is there and could not be read."""
        before, self.report = self.report, Reporter(Findings())
        try:
            data = self.load(name, limit)
            return data, self.report.is_unread(name)
        finally:
            self.report = before

    def has_file(self, path: str) -> bool:
        """Whether there is a regular file now, as far as is known. Reports nothing."""
        try:
            return stat.S_ISREG(os.stat(path, dir_fd=self.fd, follow_symlinks=False).st_mode)
        except OSError:
            return False

    def report_extras(self, known: Iterable[str], slug: str = "extra-entry") -> None:
        """A finding for everything in the folder that is not one of these names."""
        for name in sorted(self.names.keys() - {known_name.encode() for known_name in known}):
            self.report.report(Check.STRUCTURE, slug, f"a {self.names[name]} that does not belong here", name)

    def has_now(self, name: str) -> bool:
        """Whether a name is there now, not only when the folder was listed. True where that is unknown."""
        try:
            os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return True

    def names_now(self) -> list[str]:
        """Returns the names that are there now; the listed ones where that is unknown."""
        try:
            found = list_kinds(self.fd)
        except OSError:
            found = self.names
        return sorted(raw.decode("utf-8", "replace") for raw in found)

    def holds(self, name: str, wanted: Kind) -> bool:
        """Whether a name is there and has the right kind; else there is a finding."""
        found = self.names.get(name.encode())
        if found is None and self.listed:
            found = self.look_for(name)
        if found is None:
            if self.listed and not self.report.is_unread(name):
                self.report.report(Check.STRUCTURE, "missing-document", f"{safe_text(name)} is missing", name)
            return False
        if found == "symbolic link" and (unread := unread_error(name, self.fd)) is not None:
            self.report.report(Check.STRUCTURE, "unreadable", unread.message, name)
            return False
        if found != wanted:
            self.report.report(Check.STRUCTURE, "wrong-type", f"{safe_text(name)} is a {found}, not a {wanted}", name)
            if (found, wanted) == ("symbolic link", "folder"):
                self.do_not_miss(name)
            return False
        return True

    def do_not_miss(self, name: str) -> None:
        """Says that a folder was put elsewhere, and a link left in its place: nobody looked there, and nothing of it is gone."""
        self.report.findings.record_unread(self.report.path_of(name.encode()))

    def look_again(self) -> bool:
        """Lists the folder again, and adds new names; returns whether there were any.

        While others add to a large folder, a listing can have the newest name and miss one from just before. Where the folder
        cannot be listed again, its contents are unknown: then it counts as not listed.
        """
        try:
            now = list_kinds(self.fd)
        except OSError as error:
            self.listed = False
            self.report.report(Check.STRUCTURE, "unreadable", f"the folder cannot be listed again: {reason(error)}")
            return False
        new = {raw for raw in now.keys() - self.names.keys() if not is_left(raw, now[raw])}
        self.names.update({name: now[name] for name in new})
        return bool(new)

    def is_locked(self) -> bool:
        """Whether a process holds the lock of this folder, and so writes in it.

        It takes the lock for an instant, by a descriptor of its own: call it only where a name may be a writer's.
        """
        try:
            fd = os.open(".", FOLDER_FLAGS, dir_fd=self.fd)
            try:
                # Shared: two checks do not take each other for a writer.
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            finally:
                os.close(fd)
        except BlockingIOError:
            return True
        except OSError:
            return False  # a file system without locks: a writer cannot be detected
        return False

    def look_for(self, name: str) -> Kind | None:
        """Returns the kind of a name that was not listed: it may be new. Call this before anything is reported as missing."""
        try:
            mode = os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return None
        except OSError as error:
            self.report.report(Check.STRUCTURE, "unreadable", f"{safe_text(name)}: {reason(error)}", name)
            return None
        found = self.names[name.encode()] = _KINDS.get(stat.S_IFMT(mode), "device")
        return found


def read_document(file: BinaryIO, limit: int) -> bytes:
    """All of an unbuffered file. Raises OSError, and LimitExceededError above `limit` bytes."""
    data = read_bounded(file.fileno(), limit)
    if len(data) > limit:
        raise LimitExceededError(f"a document is longer than {limit} bytes")
    return data
