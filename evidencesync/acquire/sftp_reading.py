"""Reads a source over SFTP, from its first entry to its last, and emits pages and segments: see `acquire.reading`.

There is no agent on the server: all bytes are transferred, and digests are taken on arrival. Metadata is recorded as far as the
server sends it. A symbolic link is never opened. SFTP cannot open a file without following links, so a file's status is read
again afterwards: if another file took its place meanwhile, the entry is flagged `changed-while-read`.
"""

from __future__ import annotations

import dataclasses
import errno
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, NamedTuple

from evidencesync.acquire.reading import (
    RETRIES_CHANGED,
    PageBuilder,
    SourceEvent,
    SourceRead,
    SourceTally,
    StreamBegun,
    StreamEnded,
)
from evidencesync.acquire.sftp_connection import PendingAnswer, Question, RemoteFile, SftpConnection
from evidencesync.acquire.sftp_entries import make_entry, untold_times
from evidencesync.acquire.streaming import Digests
from evidencesync.connection.progress import Progress
from evidencesync.connection.writer import RateLimit
from evidencesync.custody.manifest import encode_footer
from evidencesync.delta.chunker import SegmentCutter
from evidencesync.errors import SourceReadError
from evidencesync.evidence.digest import blake3_of, sha256_of
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry, Flag
from evidencesync.evidence.utc_time import UtcTime
from evidencesync.limits import MAX_DEPTH, MAX_FILE_SIZE, MAX_LINK_TARGET, MAX_NAME, MAX_PATH, SMALL_FILE
from evidencesync.source.filters import FilterRules
from evidencesync.ssh.sftp import SftpSmall
from evidencesync.ssh.sftp_answers import SftpStatus

_AHEAD: Final = 32  # small files that are requested ahead of their turn
_PATH_AT_ONCE: Final = 4096  # PATH_MAX


@dataclass(frozen=True, slots=True)
class SftpRoot:
    """The named source: its path on the server, and its status."""

    path: bytes
    status: SftpStatus


@dataclass(slots=True)
class _Folder:
    """A folder that is being walked: its remaining names, and the requests that were sent ahead."""

    path: bytes
    status: SftpStatus
    left: deque[tuple[bytes, SftpStatus]]
    asked: dict[bytes, PendingAnswer[SftpSmall | None]]


class _Content(NamedTuple):
    """A larger file that was read: size, both digests, first bytes, and the status at its path then (None: it was longer)."""

    size: int
    digests: tuple[str, str]
    beginning: bytes
    now: SftpStatus | None


class SftpReading:
    """One reading of one source. `run` is called once, in a thread of its own; `emit` may wait."""

    def __init__(
        self,
        server: SftpConnection,
        root: SftpRoot,
        rules: FilterRules,
        emit: Callable[[SourceEvent, int], None],
        progress: Progress,
        now: Callable[[], UtcTime],
        rate_limit: RateLimit,
        *,
        fails: bool = False,
    ) -> None:
        """`fails`: an entry that cannot be read ends the reading."""
        self.tally = SourceTally()
        self._server = server
        self._root = root
        self._rules = rules
        self._emit = emit
        self._progress = progress
        self._now = now
        self._rate_limit = rate_limit
        self._pages = PageBuilder(emit, self.tally, fails=fails)
        self._untold = 0
        self._hashing = ThreadPoolExecutor(1, "sha256")

    def run(self) -> None:
        """Reads and emits everything except the manifest's header.

        Raises the errors of `SftpConnection.reconnect` where the server is lost, and PeerError.
        """
        try:
            if self._root.status.kind == "directory":
                self._walk()
            else:
                name = self._root.path.rpartition(b"/")[2]
                if self._is_skipped(name, self._root.status):
                    self._pages.add(name, self._entry(name, self._root.status, flags=["skipped"]), None)
                else:
                    self._take(name, self._root.status, None)
            self._pages.flush()
            self.tally.manifest.remark("metadata-unread", self._untold)
            self.tally.manifest.remark("folder-changed-while-read", self.tally.changed_folders)
            self._pages.emit_page(encode_footer(self.tally.manifest.footer(self._now())))
            self.tally.is_whole = True
            self._emit(SourceRead(), 0)
        finally:
            self._hashing.shutdown(wait=True)

    # Folders.

    def _walk(self) -> None:
        """Walks folders before their entries, names sorted by their bytes. Without recursion: a server's tree may be deep."""
        way = [self._enter(b"", self._root.status)]
        while way:
            folder = way[-1]
            if folder is None or not folder.left:
                if folder is not None:
                    self._leave(folder)
                way.pop()
                continue
            self._ask_ahead(folder)
            name, status = folder.left.popleft()
            path = folder.path + b"/" + name if folder.path else name
            if self._is_skipped(path, status):
                self._pages.add(path, self._entry(path, status, flags=["skipped"]), None)
            elif status.kind == "directory":
                way.append(self._enter(path, status, too_deep=len(way) >= MAX_DEPTH))
            else:
                self._take(path, status, folder.asked.pop(name, None))

    def _enter(self, path: bytes, status: SftpStatus, *, too_deep: bool = False) -> _Folder | None:
        """Adds a folder's line, and returns the folder with its names; None where it cannot be listed."""
        flags: list[Flag] = []
        names: list[tuple[bytes, SftpStatus]] = []
        remote = self._remote(path)
        try:
            listing = self._server.ask(lambda server: server.names(remote))
            if not path:  # the root was in no listing
                status = dataclasses.replace(status, year=listing.year)
            room = 0 if too_deep else min(MAX_NAME, MAX_PATH - len(path) - 1)
            names = [pair for pair in listing.names if len(pair[0]) <= room]
            if len(names) < len(listing.names) or not self._lists_all(remote):
                flags.append("unreadable")
        except SourceReadError as error:
            flags.append("vanished" if error.vanished else "unreadable")
        self._pages.add(path, self._entry(path, status, flags=flags), None)
        return _Folder(path, status, deque(names), {})

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

    def _leave(self, folder: _Folder) -> None:
        """Records whether the folder changed while it was read: names that came or went change its modification time."""
        try:
            remote = self._remote(folder.path)
            changed = self._server.ask(lambda server: server.status(remote)).mtime != folder.status.mtime
        except SourceReadError:
            changed = True
        if changed:
            self.tally.changed_folders += 1
            self.tally.add_flag(folder.path, "changed-while-read")

    def _ask_ahead(self, folder: _Folder) -> None:
        """Requests the next small files ahead, up to the next folder: so only requests of one folder are open."""
        for name, status in _first(folder.left, _AHEAD):
            if status.kind == "directory":
                return
            path = folder.path + b"/" + name if folder.path else name
            if name not in folder.asked and _is_small(status) and not self._is_skipped(path, status):
                folder.asked[name] = self._server.begin(_small(self._remote(path), status))

    def _is_skipped(self, path: bytes, status: SftpStatus) -> bool:
        is_folder = status.kind == "directory"
        if self._rules.max_size is not None and status.kind == "file" and (status.size or 0) > self._rules.max_size:
            return True
        return self._rules.passes_over(path, is_folder=is_folder)

    # Everything else.

    def _take(self, path: bytes, status: SftpStatus, asked: PendingAnswer[SftpSmall | None] | None) -> None:
        """Reads one entry that is not a folder."""
        self._progress.path = path
        remote = self._remote(path)
        try:
            if status.kind is None:
                told = self._server.ask(lambda server: server.status(remote))
                status = dataclasses.replace(told, year=status.year)
            if status.kind == "file":
                self._take_file(path, status, asked)
            elif status.kind == "symlink":
                self._add_link(path, status)
            else:  # never opened; a folder where the listing did not say so is not entered, and says so
                unclear = status.kind is None or status.kind == "directory"
                self._pages.add(path, self._entry(path, status, flags=["unreadable"] if unclear else []), None)
        except SourceReadError as error:
            flag: Flag = "vanished" if error.vanished else "unreadable"
            self._pages.add(path, self._entry(path, status, flags=[flag]), None)
        self._progress.files += status.kind == "file"

    def _add_link(self, path: bytes, status: SftpStatus) -> None:
        remote = self._remote(path)
        target = self._server.ask(lambda server: server.link_target(remote))
        if not target or b"\0" in target or len(target) > MAX_LINK_TARGET:
            self._pages.add(path, self._entry(path, status, flags=["unreadable"]), None)
        else:
            self._pages.add(path, self._entry(path, status, target=target), None)

    def _take_file(self, path: bytes, status: SftpStatus, asked: PendingAnswer[SftpSmall | None] | None) -> None:
        small: SftpSmall | None = None
        if asked is not None:
            small = asked.answer()
        elif _is_small(status):
            small = self._server.ask(_small(self._remote(path), status))
        if small is None:
            self._take_large(path, status)
            return
        self._rate_limit.wait(len(small.data))
        digests = blake3_of(small.data).hex(), sha256_of(small.data).hex()
        flags: list[Flag] = ["changed-while-read"] if small.changed else []
        self._pages.add(path, self._entry(path, status, len(small.data), digests, flags), small.data)

    def _take_large(self, path: bytes, status: SftpStatus, left: int = RETRIES_CHANGED) -> None:
        """Reads a larger file. `left`: how often it may still be read again from its start."""
        far = RemoteFile(self._server, self._remote(path), may_start_again=left > 0)
        if left < RETRIES_CHANGED and status.differs(far.opened):  # the line is of what is read now
            self.tally.read_again += 1
            status = dataclasses.replace(far.opened, kind=status.kind)
        try:
            content = self._stream(path, far)
        finally:
            far.close()
        if content is None:
            self._take_large(path, status, left - 1)
            return
        size, digests, beginning, now = content
        changed = far.is_mixed or now is None or status.differs(now) or status.differs(far.opened) or size != (far.size or size)
        flags: list[Flag] = ["changed-while-read"] if changed else []
        entry = self._entry(path, status, size, digests, flags)
        self._pages.add(path, entry, beginning if size <= SMALL_FILE else None)

    def _stream(self, path: bytes, far: RemoteFile) -> _Content | None:
        """Reads a file and emits its segments; None where it is to be read again from its start. Raises SourceReadError.

        In both cases the segments that were sent belong to no entry, and the vault discards them.
        """
        if far.size > MAX_FILE_SIZE:
            raise SourceReadError(f"cannot read {safe_text(path)}: it is larger than a manifest can state", errno=errno.EFBIG)
        self._emit(StreamBegun(far.size or MAX_FILE_SIZE, path), 0)
        digests, cutter = Digests(self._hashing), SegmentCutter()
        size, beginning, error, now = 0, b"", None, None
        try:
            for block in far.blocks():
                room = cutter.buffer(len(block))
                room[:] = block
                beginning += block[: max(SMALL_FILE - len(beginning), 0)]
                size += len(block)
                digests.update(room)
                self._emit_segments(cutter, len(block))
                self._rate_limit.wait(len(block))
            now = far.ends()
        except SourceReadError as met:
            error = met
        for segment in cutter.finish():
            self._emit(segment, segment.held_bytes)
        blake3, sha256 = digests.finish()
        self._emit(StreamEnded(size, blake3), 0)
        if error is not None:
            raise error
        return None if far.starts_again else _Content(size, (blake3.hex(), sha256.hex()), beginning, now)

    def _emit_segments(self, cutter: SegmentCutter, length: int) -> None:
        for segment in cutter.commit(length):
            self._emit(segment, segment.held_bytes)

    # Lines.

    def _entry(
        self,
        path: bytes,
        status: SftpStatus,
        size: int | None = None,
        digests: tuple[str, str] | None = None,
        flags: list[Flag] | None = None,
        target: bytes | None = None,
    ) -> Entry:
        self._untold += untold_times(status)
        return make_entry(path, status, size, digests, flags, target)

    def _remote(self, path: bytes) -> bytes:
        if self._root.status.kind != "directory" or not path:
            return self._root.path
        return self._root.path.rstrip(b"/") + b"/" + path


def _small(remote: bytes, status: SftpStatus) -> Question[SftpSmall | None]:
    return lambda server: server.small(remote, status, SMALL_FILE)


def _is_small(status: SftpStatus) -> bool:
    return status.kind == "file" and status.size is not None and status.size <= SMALL_FILE


def _first(pairs: deque[tuple[bytes, SftpStatus]], count: int) -> Iterator[tuple[bytes, SftpStatus]]:
    return (pairs[number] for number in range(min(count, len(pairs))))
