"""Walks a source over SFTP, folders before their entries, names sorted by their bytes. No file is opened."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from evidencesync.acquire.dry_run import DryRun, Surveyed
from evidencesync.acquire.sftp_connection import PendingAnswer, SftpConnection
from evidencesync.acquire.sftp_entries import make_entry
from evidencesync.custody.manifest import WholeEntry
from evidencesync.errors import SourceReadError
from evidencesync.evidence.entry import Flag
from evidencesync.limits import MAX_DEPTH, MAX_NAME, MAX_PATH
from evidencesync.source.filters import FilterRules
from evidencesync.ssh.sftp import SftpSmall
from evidencesync.ssh.sftp_answers import SftpStatus

_PATH_AT_ONCE: Final = 4096  # PATH_MAX


@dataclass(frozen=True, slots=True)
class SftpRoot:
    """The named source: its path on the server, and its status."""

    path: bytes
    status: SftpStatus

    def remote(self, path: bytes) -> bytes:
        """The server's name of an entry."""
        if self.status.kind != "directory" or not path:
            return self.path
        return self.path.rstrip(b"/") + b"/" + path


@dataclass(slots=True)
class SftpFolder:
    """A folder that is being walked: its remaining names, the present one first, and the requests that were sent ahead."""

    path: bytes
    status: SftpStatus
    left: deque[tuple[bytes, SftpStatus]]
    asked: dict[bytes, PendingAnswer[SftpSmall | None]]

    def at(self, name: bytes) -> bytes:
        """The path of one of its entries."""
        return self.path + b"/" + name if self.path else name


class SftpFound(NamedTuple):
    """An entry. One that is in no folder's listing, or is a folder itself, has no `folder`."""

    path: bytes
    status: SftpStatus
    flags: list[Flag]
    folder: SftpFolder | None = None


class SftpWalk:
    """The walk through one source. `changed` is called with each folder that has changed meanwhile; None: nobody looks."""

    def __init__(
        self, server: SftpConnection, root: SftpRoot, rules: FilterRules, changed: Callable[[bytes], None] | None = None
    ) -> None:
        self._server = server
        self._root = root
        self._rules = rules
        self._changed = changed

    def run(self) -> Iterator[SftpFound]:
        """Yields all entries. Without recursion: a server's tree may be deep. Raises the errors of a lost server."""
        if self._root.status.kind != "directory":
            name = self._root.path.rpartition(b"/")[2]
            yield SftpFound(name, self._root.status, ["skipped"] if self.skips(name, self._root.status) else [])
            return
        way: list[SftpFolder | None] = []
        yield self._enter(b"", self._root.status, way)
        while way:
            folder = way[-1]
            if folder is None or not folder.left:
                if folder is not None and self._changed is not None:
                    self._leave(folder, self._changed)
                way.pop()
                continue
            name, status = folder.left[0]
            path = folder.at(name)
            if self.skips(path, status):
                yield SftpFound(path, status, ["skipped"], folder)
            elif status.kind == "directory":
                yield self._enter(path, status, way)
            else:
                yield self._look_closer(SftpFound(path, status, [], folder))
            folder.left.popleft()

    def skips(self, path: bytes, status: SftpStatus) -> bool:
        """Whether the rules leave an entry out."""
        if self._rules.max_size is not None and status.kind == "file" and (status.size or 0) > self._rules.max_size:
            return True
        return self._rules.passes_over(path, is_folder=status.kind == "directory")

    def _look_closer(self, found: SftpFound) -> SftpFound:
        """Asks for what the listing did not say. A folder that it did not call one is not entered, and says so."""
        if found.status.kind is not None:
            return found
        remote = self._root.remote(found.path)
        try:
            told = self._server.ask(lambda server: server.status(remote))
        except SourceReadError as error:
            return found._replace(flags=["vanished" if error.vanished else "unreadable"])
        unclear = told.kind is None or told.kind == "directory"
        return found._replace(status=dataclasses.replace(told, year=found.status.year), flags=["unreadable"] if unclear else [])

    def _enter(self, path: bytes, status: SftpStatus, way: list[SftpFolder | None]) -> SftpFound:
        """Lists a folder, and puts it on the way with its names; one that cannot be listed has none."""
        flags: list[Flag] = []
        names: list[tuple[bytes, SftpStatus]] = []
        remote = self._root.remote(path)
        try:
            listing = self._server.ask(lambda server: server.names(remote))
            if not path:  # the root was in no listing
                status = dataclasses.replace(status, year=listing.year)
            room = 0 if len(way) >= MAX_DEPTH else min(MAX_NAME, MAX_PATH - len(path) - 1)
            names = [pair for pair in listing.names if len(pair[0]) <= room]
            if len(names) < len(listing.names) or not self._lists_all(remote):
                flags.append("unreadable")
        except SourceReadError as error:
            flags.append("vanished" if error.vanished else "unreadable")
        way.append(SftpFolder(path, status, deque(names), {}))
        return SftpFound(path, status, flags)

    def _lists_all(self, remote: bytes) -> bool:
        """Returns whether a server would list all names of a folder. OpenSSH's silently leaves out names that it cannot stat.

        These are names in a folder that may be read and not searched, and paths longer than the system accepts.
        """
        if len(remote) + 1 + MAX_NAME >= _PATH_AT_ONCE:
            return False
        try:
            self._server.ask(lambda server: server.status(remote.rstrip(b"/") + b"/."))
        except SourceReadError:
            return False
        return True

    def _leave(self, folder: SftpFolder, changed: Callable[[bytes], None]) -> None:
        """Tells whether the folder changed while it was read: names that came or went change its modification time."""
        try:
            remote = self._root.remote(folder.path)
            has_changed = self._server.ask(lambda server: server.status(remote)).mtime != folder.status.mtime
        except SourceReadError:
            has_changed = True
        if has_changed:
            changed(folder.path)


def survey_sftp(server: SftpConnection, root: SftpRoot, rules: FilterRules, seen: DryRun) -> Iterator[WholeEntry]:
    """Walks a source, counts in `seen`, and yields its entries, with the sizes and times that the server states."""
    for path, status, flags, _ in SftpWalk(server, root, rules).run():
        is_file, is_folder = status.kind == "file", status.kind == "directory"
        size = status.size if is_file else None
        rule = rules.why_left_out(path, size, is_folder=is_folder) if "skipped" in flags else None
        yield seen.add(Surveyed(path, make_entry(path, status, size, None, flags), rule))
